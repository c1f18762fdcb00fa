"""Data frames as Arrow IPC streams (protocol §4.4), and what pandas will make of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from intake_server.serialization.parts import Parts, Sink
from intake_server.serialization.portable import pandas_metadata, portable_type

_NUMPY_NAMES = {
    pa.float16(): "float16",
    pa.float32(): "float32",
    pa.float64(): "float64",
    pa.date32(): "object",
    pa.date64(): "object",
}


class NotAFrame(Exception):  # noqa: N818 - a property of the data, reported to the caller
    """A frame cannot travel as Arrow; the text says why."""


class _Collector(Sink):
    """A file that keeps the buffers written to it instead of copying them."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []

    def write(self, piece: Any, /) -> int:
        self.pieces.append(piece)
        return len(piece)


def encode(table: pa.Table) -> Parts:
    """One Arrow IPC stream. The table's own buffers are part of it: no column is copied."""
    collector = _Collector()
    with pa.ipc.new_stream(pa.PythonFile(collector, mode="w"), table.schema) as writer:
        writer.write_table(table)
    return Parts.of(collector.pieces)


def decode(data: Any) -> pa.Table:
    """Read one Arrow IPC stream back."""
    return pa.ipc.open_stream(data).read_all()


def from_pandas(frame: Any) -> pa.Table:
    """A pandas frame as a table that keeps its index, names, categories and time zones.

    Raises:
        NotAFrame: Column labels repeat, or a column mixes Python types.
    """
    _check_unique(frame.columns)
    try:
        return pa.Table.from_pandas(frame, preserve_index=None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise NotAFrame(f"a column mixes types that Arrow cannot carry together: {error}") from error


def _check_unique(names: Iterable[Any]) -> None:
    repeated = sorted(str(name) for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise NotAFrame(f"column names repeat: {', '.join(repeated)}")


def stringified(frame: Any) -> Any:
    """A copy in which columns that Arrow cannot carry are text."""
    fixed = frame.copy(deep=False)
    for label in frame.columns:
        try:
            pa.array(frame[label], from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            fixed[label] = frame[label].map(str, na_action="ignore")
    return fixed


def dtypes(schema: pa.Schema) -> dict[str, str]:
    """The pandas dtype texts of a schema's columns (§3.3): in column order, without columns that become the index."""
    metadata = pandas_metadata(schema)
    index = {name for name in metadata.get("index_columns", ()) if isinstance(name, str)}
    declared = {column.get("field_name", column["name"]): column for column in metadata.get("columns", ())}
    return {
        _label(declared.get(field.name), field.name): _dtype(field.type, declared.get(field.name))
        for field in schema
        if field.name not in index
    }


def _label(declared: dict[str, Any] | None, name: str) -> str:
    given = None if declared is None else declared.get("name")
    return name if given is None else str(given)


def _dtype(kind: pa.DataType, declared: dict[str, Any] | None) -> str:
    numpy_name = (declared or {}).get("numpy_type", "")
    if numpy_name and (numpy_name[0].isupper() or numpy_name in ("boolean",)):
        return str(numpy_name)
    if pa.types.is_dictionary(kind):
        return "category"
    if pa.types.is_boolean(kind):
        return "object" if numpy_name == "object" else "bool"  # pandas keeps missing booleans among objects
    if pa.types.is_integer(kind):
        return str(kind)
    if pa.types.is_timestamp(kind):
        return f"datetime64[{kind.unit}, {kind.tz}]" if kind.tz else f"datetime64[{kind.unit}]"
    if pa.types.is_duration(kind):
        return f"timedelta64[{kind.unit}]"
    return _NUMPY_NAMES.get(kind, "object")


def unified(schemas: Iterator[pa.Schema]) -> pa.Schema:
    """One schema for several files: columns by name in order of first appearance, types widened where they differ.

    Numbers widen to numbers; anything else that differs becomes text. Types are such as every client has.

    Raises:
        NotAFrame: Columns of one file have the same name.
    """
    fields: dict[str, pa.Field] = {}
    metadata = None
    for schema in schemas:
        if metadata is None:
            metadata = schema.metadata
        _check_unique(schema.names)
        for field in schema:
            kind = portable_type(field.type)
            known = fields.get(field.name)
            fields[field.name] = field.with_type(kind if known is None else widened(known.type, kind))
    return pa.schema([field.with_nullable(True).remove_metadata() for field in fields.values()], metadata=metadata)


def widened(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The smallest type that holds the values of both."""
    if left == right:
        return left
    try:
        pair = [pa.schema([pa.field("x", kind)]) for kind in (left, right)]
        return pa.unify_schemas(pair, promote_options="permissive").field("x").type
    except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.string()


def conformed(table: pa.Table, schema: pa.Schema, rows: int | None = None) -> pa.Table:
    """A table with exactly the columns of a schema: missing ones are null, others are cast, further ones dropped.

    Args:
        table: The table.
        schema: The columns wanted.
        rows: How many rows there are, for a table without columns; None: as many as the table has.

    Raises:
        NotAFrame: A column's values do not fit the schema's type.
    """
    if table.schema.equals(schema, check_metadata=False):
        return table.replace_schema_metadata(schema.metadata)
    count = table.num_rows if rows is None else rows
    columns = [_conformed_column(table, field, count) for field in schema]
    return pa.table(columns, schema=schema)


def _conformed_column(table: pa.Table, field: pa.Field, rows: int) -> Any:
    position = table.schema.get_field_index(field.name)
    if position < 0:
        return pa.nulls(rows, field.type)
    column = table.column(position)
    if column.type == field.type:
        return column
    try:
        if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(field.type):
            column = column.cast(column.type.value_type)
        if "list_view<" in str(column.type):  # cast makes arrays of them whose offsets are one too few
            return pa.chunked_array([column.to_pylist()], field.type)
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise NotAFrame(f"column {field.name!r}: {error}") from error
