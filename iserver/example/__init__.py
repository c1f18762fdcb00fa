"""The running example: a small shop, as FDL and as a configuration document."""
