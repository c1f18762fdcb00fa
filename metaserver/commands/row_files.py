"""CSV and Parquet files as rows of a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from shared.pegasus.files.bulk_load import LoadInfo, LoadWriter, Row

__all__ = ["FileError", "write"]


class FileError(Exception):
    """A file cannot be turned into rows; the text says which and why."""


class Written(NamedTuple):
    """What was written.

    Attributes:
        rows: Rows that were read.
        replaced: How many of them replaced an earlier one with the same keys, as far as they were sorted together.
        size_bytes: Of the files.
    """

    rows: int
    replaced: int
    size_bytes: int


def write(folder: Path, info: LoadInfo, files: Sequence[Path], columns: Sequence[str], expire: int) -> Written:
    """Write the files of a bulk load, telling on standard error how many rows are done.

    Args:
        columns: Hash key, sort key if there is one, value.
        expire: When the rows expire (§10.8), 0 for never.

    Raises:
        FileError: A file cannot be read, lacks a column, has a row without keys or value or one that cannot be stored;
            or the files of the load cannot be written.
    """
    try:
        return _write(LoadWriter(folder, info), files, columns, expire)
    except OSError as error:
        raise FileError(f"cannot write to {folder}: {error.strerror or error}") from error


def _write(writer: LoadWriter, files: Sequence[Path], columns: Sequence[str], expire: int) -> Written:
    count = 0
    for file in files:
        for batch in _batches(file, columns):
            try:
                count += writer.add(_rows(batch, columns, expire))
            except (pa.ArrowException, ValueError) as error:
                raise FileError(f"{file}: {error}") from error
            click.echo(f"{count:,} rows", err=True, nl=not sys.stderr.isatty())
            if sys.stderr.isatty():
                click.echo("\r", err=True, nl=False)
    size_bytes = sum(metadata.file_total_size for metadata in writer.finish())
    return Written(count, writer.replaced, size_bytes)


def _batches(file: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The columns of a file, a part at a time.

    Raises:
        FileError: The file cannot be read, or lacks a column.
    """
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            yield from pyarrow.parquet.ParquetFile(file).iter_batches(columns=list(dict.fromkeys(columns)))
        else:
            options = pyarrow.csv.ConvertOptions(
                include_columns=list(dict.fromkeys(columns)),
                column_types=dict.fromkeys(columns, pa.string()),  # as it stands there: 007 is not 7
            )
            with pyarrow.csv.open_csv(file, convert_options=options) as reader:
                yield from reader
    except (pa.ArrowException, KeyError, OSError) as error:
        raise FileError(f"{file}: {error}") from error


def _rows(batch: pa.RecordBatch, columns: Sequence[str], expire: int) -> Iterator[Row]:
    """Rows as they are stored: numbers and times of Parquet as text, bytes and the fields of CSV as they are."""
    missing = [column for column in columns if column not in batch.schema.names]
    if missing:
        raise FileError(f"there is no column '{missing[0]}', only {', '.join(batch.schema.names)}")
    values = [_bytes(batch.column(column)) for column in columns]
    hash_keys, *sort_keys, stored = values
    for index, (hash_key, value) in enumerate(zip(hash_keys, stored, strict=True)):
        if hash_key is None or value is None:
            raise FileError(f"row {index + 1} of a batch has no {columns[0] if hash_key is None else columns[-1]}")
        yield hash_key, (sort_keys[0][index] or b"") if sort_keys else b"", value, expire


def _bytes(column: pa.Array) -> list[bytes | None]:
    if not pa.types.is_binary(column.type):
        column = pc.cast(pc.cast(column, pa.string()), pa.binary())
    found: list[bytes | None] = column.to_pylist()
    return found
