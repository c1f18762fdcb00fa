"""Parquet files as data frames: one partition a row group.

Files are listed when the entry is opened. Their schemas are unified by name, so files written before a column existed
and after are one table; folders named ``key=value`` become columns.
"""

from __future__ import annotations

import functools
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from intake_server.drivers.base import Partition, Schema, Unopenable, Unreadable, single_index, take
from intake_server.drivers.files import File, FileList, listing, pinned
from intake_server.export.filters import Bounds
from intake_server.serialization import frames
from intake_server.serialization.frames import NotAFrame
from intake_server.serialization.portable import with_pandas_names

NAME = "parquet"
_HIVE = re.compile(r"^([A-Za-z_][\w.-]*)=(.*)$")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
FOOTER_CACHE_BYTES = 64 * 2**20


class _Footers:
    """Parsed footers of files that have not changed since, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._known: OrderedDict[tuple[str, str, str], pq.FileMetaData] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, at: FileList, file: File) -> pq.FileMetaData:
        key = (type(at.filesystem).__name__, file.path, file.stamp)
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        with _open(at, file) as opened:
            footer = pq.ParquetFile(opened).metadata
        with self._lock:
            if key not in self._known:
                self._known[key] = footer
                self._size += footer.serialized_size
            while self._size > self._limit and len(self._known) > 1:
                _, oldest = self._known.popitem(last=False)
                self._size -= oldest.serialized_size
        return footer


_footers = _Footers(FOOTER_CACHE_BYTES)


def _open(at: FileList, file: File) -> Any:
    return pa.OSFile(file.path) if at.is_local else at.filesystem.open(file.path, "rb")


@dataclass(frozen=True, slots=True)
class _Piece:
    """One row group.

    Attributes:
        file: The position of its file in the listing; -1 for the one empty piece of a table without rows.
        group: Its position in the file.
        rows: How many rows it has.
    """

    file: int
    group: int
    rows: int


class ParquetSource:
    """An opened set of Parquet files."""

    def __init__(
        self,
        at: FileList,
        schema: pa.Schema,
        pieces: Sequence[_Piece],
        hive: Sequence[Mapping[str, str | None]],
        relist: Any,
        needed: pa.Schema,
        filters: Any,
    ) -> None:
        self._at = at
        self._arrow = schema
        self._needed = needed
        self._pieces = pieces
        self._hive = hive
        self._relist = relist
        self._filters = filters
        self.version = at.version
        self.pin = at.pin()
        dtype = frames.dtypes(schema)
        rows = None if filters is not None else sum(piece.rows for piece in pieces)
        self.schema = Schema("dataframe", dtype, (rows, len(dtype)), len(pieces))

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of every partition."""
        return self._arrow

    def is_current(self) -> bool:
        return self._at.is_current(self._relist)

    def stamp(self, partition: Partition | None) -> Any:
        piece = self._pieces[single_index(partition, len(self._pieces))]
        return None if piece.file < 0 else self._at.stamp(self._at.files[piece.file])

    def read(self, partition: Partition | None) -> pa.Table:
        piece = self._pieces[single_index(partition, len(self._pieces))]
        if piece.file < 0:
            return self._arrow.empty_table()
        file = self._at.files[piece.file]
        try:
            with self._at.unchanged(file):
                return self._read(file, piece)
        except (OSError, pa.ArrowException, NotAFrame, IndexError) as error:
            raise Unreadable(f"{file.path}: {error}") from error

    def _read(self, file: File, piece: _Piece) -> pa.Table:
        with _open(self._at, file) as opened:
            parquet = pq.ParquetFile(opened, pre_buffer=not self._at.is_local)
            present = set(parquet.schema_arrow.names)
            table = parquet.read_row_group(piece.group, columns=[n for n in self._needed.names if n in present])
        table = self._completed(table, piece, self._needed, piece.rows)
        return table if self._needed is self._arrow else frames.conformed(table, self._arrow)

    def _completed(self, table: pa.Table, piece: _Piece, needed: pa.Schema, rows: int) -> pa.Table:
        """Rows as they are in a file, with the columns that its folders name, in the source's types and filtered."""
        for name, value in self._hive[piece.file].items():
            if name not in table.schema.names and needed.get_field_index(name) >= 0:
                table = table.append_column(name, _constant(value, rows, needed.field(name).type))
        table = frames.conformed(table, needed, rows)
        return table if self._filters is None else table.filter(self._filters)

    # Parts of partitions (`exports.scan.Selective`)

    def partition_rows(self, partition: int) -> int | None:
        return None if self._filters is not None else self._pieces[partition].rows

    def bounds(self, partition: int, column: str) -> Bounds | None:
        piece = self._pieces[partition]
        if piece.file < 0:
            return None
        group = _footer(self._at, self._at.files[piece.file]).row_group(piece.group)
        for position in range(group.num_columns):
            stored = group.column(position)
            if stored.path_in_schema != column:
                continue
            known = stored.statistics
            if known is None:
                return None
            smallest, largest = (known.min, known.max) if known.has_min_max else (None, None)
            return Bounds(smallest, largest, known.null_count if known.has_null_count else None, piece.rows)
        return None

    def batches(self, partition: int, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        piece = self._pieces[partition]
        if piece.file < 0:
            return
        file = self._at.files[piece.file]
        wanted = pa.schema([self._arrow.field(name) for name in columns])
        needed = wanted if self._filters is None else self._needed
        try:
            for table in self._steps(file, piece, needed, rows):
                yield from table.select(list(columns)).combine_chunks().to_batches()
        except (OSError, pa.ArrowException, NotAFrame, IndexError) as error:
            raise Unreadable(f"{file.path}: {error}") from error

    def _steps(self, file: File, piece: _Piece, needed: pa.Schema, rows: int) -> Iterator[pa.Table]:
        with self._at.unchanged(file), _open(self._at, file) as opened:
            parquet = pq.ParquetFile(opened, pre_buffer=not self._at.is_local)
            present = set(parquet.schema_arrow.names)
            names = [name for name in needed.names if name in present]
            if not names:
                without_columns = parquet.read_row_group(piece.group, columns=[])
                yield self._completed(without_columns, piece, needed, piece.rows)
                return
            for batch in parquet.iter_batches(batch_size=rows, row_groups=[piece.group], columns=names):
                yield self._completed(pa.Table.from_batches([batch]), piece, needed, batch.num_rows)

    def original(self) -> str | None:
        """The path of the local file that is all of the data, as they are; None when there is no such file."""
        is_whole = (
            len(self._at.files) == 1
            and self._at.is_local
            and self._filters is None
            and pq.read_schema(self._at.files[0].path).names == self._arrow.names
        )
        return self._at.files[0].path if is_whole else None

    def close(self) -> None:
        """Files are open only while they are read."""


def _constant(value: str | None, rows: int, kind: pa.DataType) -> Any:
    return pa.nulls(rows, kind) if value is None else pa.repeat(pa.scalar(value, pa.string()).cast(kind), rows)


class ParquetDriver:
    """Opens Parquet files, folders and globs."""

    container = "dataframe"

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> ParquetSource:
        urlpath, storage_options, columns, filters, _engine, declared, _ = take(
            arguments,
            NAME,
            urlpath=...,
            storage_options=None,
            columns=None,
            filters=None,
            engine=None,
            schema=None,
            gather_statistics=None,
        )
        relist = functools.partial(listing, urlpath, storage_options, ".parquet")
        at = relist() if pin is None else pinned(urlpath, storage_options, pin)
        if not at.files and not _is_pattern(urlpath) and pin is None:
            raise Unopenable(f"{urlpath}: there are no Parquet files")
        footers = [_footer(at, file) for file in at.files]
        hive = _hive_values([file.path for file in at.files])
        schema = _schema(footers, hive, declared)
        selected = schema if columns is None else _selected(schema, columns)
        needed = selected if columns is None else _selected(schema, _filtered(filters, selected.names))
        pieces = [
            _Piece(position, group, footer.row_group(group).num_rows)
            for position, footer in enumerate(footers)
            for group in range(footer.num_row_groups)
            if footer.row_group(group).num_rows
        ]
        return ParquetSource(at, selected, pieces or [_Piece(-1, 0, 0)], hive, relist, needed, _expression(filters))


def _is_pattern(urlpath: Any) -> bool:
    return isinstance(urlpath, str) and any(sign in urlpath for sign in "*?[")


def _footer(at: FileList, file: File) -> pq.FileMetaData:
    try:
        return _footers.get(at, file)
    except (OSError, pa.ArrowException) as error:
        raise Unopenable(f"{file.path}: {error}") from error


def _hive_values(paths: Sequence[str]) -> list[dict[str, str | None]]:
    """What the folders of each path say: always text, so that the type does not depend on which folders there are."""
    return [
        {
            match.group(1): None if match.group(2) == _NO_VALUE else unquote(match.group(2))
            for segment in path.split("/")[:-1]
            if (match := _HIVE.match(segment))
        }
        for path in paths
    ]


def _schema(footers: Sequence[pq.FileMetaData], hive: Sequence[Mapping[str, str | None]], declared: Any) -> pa.Schema:
    schemas = [footer.schema.to_arrow_schema() for footer in footers]
    if not schemas and declared:
        schemas = [_declared(declared)]
    try:
        schema = frames.unified(iter(schemas)) if schemas else pa.schema([])
    except NotAFrame as error:
        raise Unopenable(f"parquet: {error}") from error
    for name in dict.fromkeys(key for values in hive for key in values):
        if schema.get_field_index(name) < 0:
            schema = schema.append(pa.field(name, _folder_type(name, hive, declared)))
    return with_pandas_names(schema, _with_missing(schema, footers, schemas, hive))


def _folder_type(name: str, hive: Sequence[Mapping[str, str | None]], declared: Any) -> pa.DataType:
    """The type of what folders are named after: as the entry declares it, else text, whichever folders there are."""
    wanted = _declared(declared) if declared else pa.schema([])
    if wanted.get_field_index(name) < 0:
        return pa.string()
    kind = wanted.field(name).type
    for values in hive:
        try:
            _constant(values.get(name), 1, kind)
        except (pa.ArrowException, ValueError) as error:
            raise Unopenable(f"parquet: schema: {name}={values.get(name)} is not {kind}: {error}") from error
    return kind


def _declared(columns: Any) -> pa.Schema:
    if not isinstance(columns, Mapping):
        raise Unopenable("parquet: 'schema' must be a map from columns to Arrow type names")
    try:
        return pa.schema([(str(name), pa.type_for_alias(str(kind))) for name, kind in columns.items()])
    except ValueError as error:
        raise Unopenable(f"parquet: schema: {error}") from error


def _with_missing(
    schema: pa.Schema,
    footers: Sequence[pq.FileMetaData],
    schemas: Sequence[pa.Schema],
    hive: Sequence[Mapping[str, str | None]],
) -> set[str]:
    """The integer and boolean columns that have a missing value anywhere, by the statistics in the footers."""
    candidates = {field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)}
    missing = {
        name
        for name in candidates
        for file, values in zip(schemas, hive, strict=False)
        if file.get_field_index(name) < 0 and values.get(name) is None
    }
    for footer in footers:
        columns = ((n, footer.schema.column(n)) for n in range(footer.num_columns))
        names = {column.path: n for n, column in columns if column.max_definition_level > 0}
        for name in (candidates - missing) & names.keys():
            if any(_may_miss(footer.row_group(group).column(names[name])) for group in range(footer.num_row_groups)):
                missing.add(name)
    return missing


def _may_miss(column: Any) -> bool:
    statistics = column.statistics
    if statistics is None or not statistics.has_null_count:
        return True
    return bool(statistics.null_count)


def _selected(schema: pa.Schema, columns: Any) -> pa.Schema:
    names = [columns] if isinstance(columns, str) else list(columns)
    unknown = [name for name in names if schema.get_field_index(name) < 0]
    if unknown:
        raise Unopenable(f"parquet: there is no column {unknown[0]!r}")
    return pa.schema([schema.field(name) for name in names], metadata=schema.metadata)


def _filtered(filters: Any, names: Sequence[str]) -> list[str]:
    """Column names, with those that filters look at."""
    terms = [term for group in filters or () for term in ([group] if _is_term(group) else group)]
    return list(dict.fromkeys([*names, *(term[0] for term in terms if _is_term(term))]))


def _is_term(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and isinstance(value[0], str)


def _expression(filters: Any) -> Any:
    if not filters:
        return None
    try:
        return pq.filters_to_expression(filters)
    except (ValueError, TypeError) as error:
        raise Unopenable(f"parquet: filters: {error}") from error
