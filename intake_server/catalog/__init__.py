"""Catalogs as plain data: entries and their parameters, read from YAML, described, listed, searched.

Everything here is pure: text and values in, immutable values or encoded bytes out. It knows no files, no clock, no
callers, and nothing of how an entry is opened. Start reading at `model`; `parser` makes it from the text of a file.
"""
