"""Frames as CSV, JSON, JSON lines, Arrow streams and Parquet files, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from intake_server.export.scan import Scan
from intake_server.serialization.parts import Sink

_GROUP_ROWS = 1 << 17
_JSON_ROWS = 4096
# Dates and times go through `_as_text`: orjson 3.11 to 3.13 print 12:00:00.05 as a time of day without its first zero.
_JSON_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME


def csv(scan: Scan) -> Iterator[bytes]:
    """Comma-separated values, with a header."""
    schema = pa.schema([pa.field(field.name, _flat_type(field.type)) for field in scan.schema])
    yield _csv(schema.empty_table().to_batches() or [_empty(schema)], header=True)
    for batch in scan.batches:
        flat = [_flat(column) for column in batch.columns]
        yield _csv([pa.RecordBatch.from_arrays(flat, schema=schema)], header=False)


def _csv(batches: list[pa.RecordBatch], *, header: bool) -> bytes:
    sink = pa.BufferOutputStream()
    options = pyarrow.csv.WriteOptions(include_header=header)
    for batch in batches:
        pyarrow.csv.write_csv(batch, sink, options)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _flat_type(kind: pa.DataType) -> pa.DataType:
    """What a column of this type becomes in CSV: nested values and bytes become text."""
    if pa.types.is_dictionary(kind):
        return _flat_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _flat_type(kind.storage_type)
    if pa.types.is_nested(kind) or pa.types.is_duration(kind) or _is_bytes(kind):
        return pa.string()
    return kind


def _flat(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _flat(column.cast(kind.value_type))
    if isinstance(kind, pa.BaseExtensionType):
        return _flat(column.storage)
    if pa.types.is_duration(kind):
        return pc.cast(pc.cast(column, pa.int64()), pa.string())
    if pa.types.is_nested(kind) or _is_bytes(kind):
        return pa.array([None if v is None else json_value(v).decode() for v in column.to_pylist()], pa.string())
    return column


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def json_lines(scan: Scan) -> Iterator[bytes]:
    """One JSON object a line, a line a row."""
    for rows in _json_rows(scan):
        yield b"".join(row + b"\n" for row in rows)


def json(scan: Scan) -> Iterator[bytes]:
    """One JSON array of objects."""
    separator = b"["
    for rows in _json_rows(scan):
        yield separator + b",".join(rows)
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


def _json_rows(scan: Scan) -> Iterator[list[bytes]]:
    for batch in scan.batches:
        for start in range(0, batch.num_rows, _JSON_ROWS):
            yield [json_value(row) for row in batch.slice(start, _JSON_ROWS).to_pylist()]


def json_value(value: Any) -> bytes:
    """One value as JSON; what JSON has no form for becomes text."""
    return orjson.dumps(value, default=_as_text, option=_JSON_OPTIONS)


def _as_text(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "backslashreplace")
    isoformat = getattr(value, "isoformat", None)
    return isoformat() if callable(isoformat) else str(value)


class _Collector(Sink):
    """A file that hands over what was written to it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: Any, /) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def taken(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data


def arrow(scan: Scan) -> Iterator[bytes]:
    """One Arrow IPC stream."""
    collector = _Collector()
    with pa.ipc.new_stream(pa.PythonFile(collector, mode="w"), scan.schema) as writer:
        yield collector.taken()
        for batch in scan.batches:
            writer.write_batch(batch)
            yield collector.taken()
    yield collector.taken()


def write_parquet(scan: Scan, sink: Sink) -> None:
    """One Parquet file, with row groups of some 100,000 rows."""
    collected: list[pa.RecordBatch] = []
    rows = 0
    with pq.ParquetWriter(sink, scan.schema) as writer:
        for batch in scan.batches:
            collected.append(batch)
            rows += batch.num_rows
            if rows >= _GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(collected), row_group_size=rows)
                collected, rows = [], 0
        if collected:
            writer.write_table(pa.Table.from_batches(collected), row_group_size=rows)


STREAMED: dict[str, Callable[[Scan], Iterator[bytes]]] = {
    "csv": csv,
    "jsonl": json_lines,
    "json": json,
    "arrow": arrow,
}
"""The formats that are written while they are sent."""
