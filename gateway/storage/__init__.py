"""Adapters that put the core's data into DuckDB columns, SQLite and Redis."""
