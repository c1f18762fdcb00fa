"""Adapters that put the core's data into SQLite and Redis."""
