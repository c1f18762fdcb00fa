"""Data over plain HTTP: which format, which part of the data, and how it is written.

The room decides what CSV, JSON, Arrow, Parquet, NPY and PNG answers contain. It knows no sockets, files or clock: it
reads whatever offers the protocols of `data`. Start reading at `formats` and `selection`.
"""
