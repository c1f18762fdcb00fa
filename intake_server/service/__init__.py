"""The running server: catalogs that stay fresh, sources that stay open, reads that are shared, and who may do what."""
