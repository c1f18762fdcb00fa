"""Rows of a source, batch by batch, reading no more of it than the selection needs.

A source that can leave out columns, rows and whole partitions says so by being `Selective`; of any other, partitions
are read one after the other and cut down afterwards. Sources block: this runs in worker threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from intake_server.export.data import Data
from intake_server.export.filters import Bounds, ConditionError, Filter
from intake_server.export.selection import Selection, SelectionError
from intake_server.serialization import frames

BATCH_ROWS = 1 << 16


@runtime_checkable
class Selective(Protocol):
    """A source of frames that can read parts of its partitions."""

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of every partition."""

    def partition_rows(self, partition: int) -> int | None:
        """How many rows a partition has, without reading it; None when only reading tells."""

    def bounds(self, partition: int, column: str) -> Bounds | None:
        """What is known of a column of a partition, without reading it."""

    def batches(self, partition: int, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """A partition's rows in batches of at most `rows`, with some of its columns."""


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Rows to be read.

    Attributes:
        schema: Of every batch.
        batches: The rows; a partition that is not like the first raises `NotAFrame`.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def scan(source: Data, selection: Selection) -> Scan:
    """Begin to read the selected rows of a source of frames.

    Raises:
        SelectionError: A column does not exist, or a condition does not fit it.
        NotAFrame: The first partition, whose schema is needed, is not a frame that Arrow can carry.
    """
    if isinstance(source, Selective):
        parts: _Parts = _SelectiveParts(source)
    else:
        parts = _WholeParts(source)
    schema = parts.schema
    names = _columns(schema, selection.columns)
    try:
        filters = Filter.of(selection.where, schema)
    except ConditionError as error:
        raise SelectionError(str(error)) from error
    shown = schema if names is None else _selected(schema, names)
    return Scan(shown, _batches(parts, selection, filters, shown))


def _columns(schema: pa.Schema, columns: Sequence[str] | None) -> Sequence[str] | None:
    if columns is None:
        return None
    for name in columns:
        if len(schema.get_all_field_indices(name)) != 1:
            known = ", ".join(schema.names[:20])
            raise SelectionError(f"columns: there is no column {name!r}, only {known}")
    if len(set(columns)) < len(columns):
        raise SelectionError("columns: a column is named twice")
    return columns


def _selected(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names], metadata=schema.metadata)


class _Parts(Protocol):
    """The partitions of a source, each readable in part."""

    schema: pa.Schema

    def __len__(self) -> int: ...

    def rows(self, partition: int) -> int | None: ...

    def may_match(self, partition: int, filters: Filter) -> bool: ...

    def tables(self, partition: int, columns: Sequence[str]) -> Iterator[pa.Table]: ...


class _SelectiveParts:
    def __init__(self, source: Any) -> None:
        self._source = source
        self._count = source.schema.npartitions
        self.schema = source.arrow_schema

    def __len__(self) -> int:
        return int(self._count)

    def rows(self, partition: int) -> int | None:
        rows: int | None = self._source.partition_rows(partition)
        return rows

    def may_match(self, partition: int, filters: Filter) -> bool:
        return filters.may_match(lambda column: self._source.bounds(partition, column))

    def tables(self, partition: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        for batch in self._source.batches(partition, columns, BATCH_ROWS):
            yield pa.Table.from_batches([batch])


class _WholeParts:
    def __init__(self, source: Data) -> None:
        self._source = source
        self._first: pa.Table | None = self._read(0)
        self.schema = self._first.schema

    def __len__(self) -> int:
        return self._source.schema.npartitions

    def rows(self, partition: int) -> int | None:
        return self._first.num_rows if partition == 0 and self._first is not None else None

    def may_match(self, partition: int, filters: Filter) -> bool:  # noqa: ARG002 - nothing is known beforehand
        return True

    def tables(self, partition: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        table, self._first = self._first if partition == 0 else None, None
        if table is None:
            table = frames.conformed(self._read(partition), self.schema)
        table = table.select(columns)
        for start in range(0, table.num_rows, BATCH_ROWS):
            yield table.slice(start, BATCH_ROWS)

    def _read(self, partition: int) -> pa.Table:
        value = self._source.read(partition if len(self) > 1 else None)
        return value if isinstance(value, pa.Table) else frames.from_pandas(value)


def _batches(parts: _Parts, selection: Selection, filters: Filter, shown: pa.Schema) -> Iterator[pa.RecordBatch]:
    start, stop = selection.rows.start, selection.rows.stop
    needed = list(dict.fromkeys([*shown.names, *(condition.column for condition in selection.where)]))
    passed = 0
    for partition in range(len(parts)):
        if stop is not None and passed >= stop:
            return
        rows = parts.rows(partition) if filters.expression is None else None
        if rows is not None and passed + rows <= start:
            passed += rows
            continue
        if not parts.may_match(partition, filters):
            continue
        for table in parts.tables(partition, needed):
            kept = table if filters.expression is None else table.filter(filters.expression)
            begin = max(0, start - passed)
            end = kept.num_rows if stop is None else min(kept.num_rows, stop - passed)
            passed += kept.num_rows
            if begin < end:
                yield _as_batch(kept.slice(begin, end - begin).select(shown.names), shown)
            if stop is not None and passed >= stop:
                return


def _as_batch(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    combined = table.replace_schema_metadata(schema.metadata).combine_chunks()
    return pa.RecordBatch.from_arrays(
        [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in combined.columns],
        schema=combined.schema,
    )
