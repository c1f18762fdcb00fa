"""Delta Lake tables as data frames: one partition a row group, of the version that was opened.

Needs the extra ``[delta]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from intake_server.drivers.base import Partition, Schema, Unopenable, Unreadable, single_index, take
from intake_server.export.filters import Bounds
from intake_server.serialization import frames
from intake_server.serialization.portable import with_pandas_names

NAME = "delta"
_ERRORS = (DeltaError, TableNotFoundError, OSError, ValueError, pa.ArrowException)


class DeltaSource:
    """One version of a table."""

    def __init__(self, table: DeltaTable, is_latest: bool, columns: Any, reopen: Any) -> None:
        self.pin = table.version()
        self.version = str(self.pin)
        self._is_latest = is_latest
        self._reopen = reopen
        dataset = table.to_pyarrow_dataset()
        self._dataset_schema = dataset.schema
        self._pieces = [
            piece
            for fragment in sorted(dataset.get_fragments(), key=lambda fragment: fragment.path)
            for piece in fragment.split_by_row_group()
        ]
        names = list(dataset.schema.names) if columns is None else list(columns)
        unknown = [name for name in names if dataset.schema.get_field_index(name) < 0]
        if unknown:
            raise Unopenable(f"delta: there is no column {unknown[0]!r}")
        self._names = names
        fields = pa.schema([dataset.schema.field(name) for name in names])
        nullable = {field.name for field in fields if _may_miss(table, field)}
        self._schema = with_pandas_names(frames.unified(iter([fields])), nullable)
        dtype = frames.dtypes(self._schema)
        rows = sum(piece.count_rows() for piece in self._pieces)
        self.schema = Schema("dataframe", dtype, (rows, len(dtype)), max(1, len(self._pieces)))

    def is_current(self) -> bool:
        return not self._is_latest or self._reopen().version() == self.pin

    def stamp(self, partition: Partition | None) -> Any:
        return single_index(partition, self.schema.npartitions)

    def read(self, partition: Partition | None) -> pa.Table:
        position = single_index(partition, self.schema.npartitions)
        if not self._pieces:
            return self._schema.empty_table()
        piece = self._pieces[position]
        try:
            table = piece.to_table(schema=self._dataset_schema, columns=self._names)
            return frames.conformed(table, self._schema)
        except (*_ERRORS, frames.NotAFrame) as error:
            raise Unreadable(f"{piece.path}: {error}") from error

    # Parts of partitions (`exports.scan.Selective`)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of every partition."""
        return self._schema

    def partition_rows(self, partition: int) -> int | None:
        return int(self._pieces[partition].count_rows()) if self._pieces else 0

    def bounds(self, partition: int, column: str) -> Bounds | None:
        if not self._pieces:
            return None
        (group,) = self._pieces[partition].row_groups
        known = (group.statistics or {}).get(column)
        return None if known is None else Bounds(known["min"], known["max"], None, group.num_rows)

    def batches(self, partition: int, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        if not self._pieces:
            return
        piece = self._pieces[partition]
        wanted = pa.schema([self._schema.field(name) for name in columns])
        try:
            for batch in piece.to_batches(schema=self._dataset_schema, columns=list(columns), batch_size=rows):
                table = frames.conformed(pa.Table.from_batches([batch]), wanted, batch.num_rows)
                yield from table.combine_chunks().to_batches()
        except (*_ERRORS, frames.NotAFrame) as error:
            raise Unreadable(f"{piece.path}: {error}") from error

    def close(self) -> None:
        """Files are open only while they are read."""


class DeltaDriver:
    """Opens Delta Lake tables."""

    container = "dataframe"

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> DeltaSource:
        urlpath, storage_options, version, columns = take(
            arguments, NAME, urlpath=..., storage_options=None, version=None, columns=None
        )
        options = {str(key): str(value) for key, value in (storage_options or {}).items()} or None

        def reopen() -> DeltaTable:
            return DeltaTable(str(urlpath), storage_options=options)

        try:
            wanted = pin if pin is not None else None if version is None else int(version)
            table = DeltaTable(str(urlpath), version=wanted, storage_options=options)
            return DeltaSource(table, version is None, columns, reopen)
        except _ERRORS as error:
            raise Unopenable(f"{urlpath}: {error}") from error


def _may_miss(table: DeltaTable, field: pa.Field) -> bool:
    """Whether an integer or boolean column has a missing value, as far as the table's log tells."""
    if not field.nullable or not (pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)):
        return False
    actions = pa.table(table.get_add_actions(flatten=True))
    if field.name in (table.metadata().partition_columns or ()):
        counted = (
            actions.column(f"partition.{field.name}") if f"partition.{field.name}" in actions.column_names else None
        )
        return counted is None or counted.null_count > 0
    name = f"null_count.{field.name}"
    if name not in actions.column_names:
        return True
    counts = actions.column(name)
    return counts.null_count > 0 or any(counts.to_pylist())
