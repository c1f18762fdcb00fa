"""Reads a warehouse back, the way an analyst does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as parquet

from iserver.fdl import Program
from iserver.warehouse.ddl import SEPARATOR, ddl


def analyst(location: Path, program: Program) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the tables and views of a program over a warehouse."""
    connection = duckdb.connect()
    for statement in ddl(program, "duckdb", str(location)).split(SEPARATOR):
        connection.execute(statement)
    return connection


def rows(location: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table, whatever its files are; a file that is not whole is an error."""
    files = sorted((location / "tables" / table).glob("ds=*/hh=*/*"))
    return [row for file in files for row in read(file).to_pylist()]


def read(file: Path) -> pa.Table:
    """One data file."""
    return orc.read_table(file) if file.suffix == ".orc" else parquet.read_table(file, partitioning=None)


def partitions(location: Path, table: str) -> dict[str, int]:
    """How many rows each partition of a table has."""
    counts: dict[str, int] = {}
    for file in (location / "tables" / table).glob("ds=*/hh=*/*"):
        folder = f"{file.parent.parent.name}/{file.parent.name}"
        counts[folder] = counts.get(folder, 0) + read(file).num_rows
    return counts
