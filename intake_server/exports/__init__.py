"""Data over plain HTTP: which format, which part of the data, and how it is written. No sockets, no files, no clock."""
