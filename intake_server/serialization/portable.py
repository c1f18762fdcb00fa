"""Schemas that every client understands (protocol §4.4).

Clients have the Arrow types of pyarrow 12. Their pandas reads the ``pandas`` key of a schema's metadata as names of its
own dtypes, and fails on a name that it does not know: what is written there is never the name of an Arrow type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.types as kinds

pa.array(pd.PeriodIndex([], freq="D"))  # now pandas has told pyarrow of its extension types: periods and intervals
_NEUTRAL = "object"
"""The dtype name that leaves it to pyarrow how a column is converted."""
_BUILT_IN = re.compile(r"u?int\d+|float\d+|bool|object|category|str|bytes|(datetime|timedelta)64(\[\w+])?")
_EXTENSIONS: tuple[tuple[re.Pattern[str], Callable[[pa.DataType], bool]], ...] = (
    (re.compile(r"U?Int\d+"), kinds.is_integer),
    (re.compile(r"Float\d+"), kinds.is_floating),
    (re.compile(r"boolean"), kinds.is_boolean),
    (re.compile(r"string(\[.*])?"), lambda kind: kinds.is_string(kind) or kinds.is_large_string(kind)),
    (re.compile(r"(period|interval)\[.*]"), lambda kind: isinstance(kind, pa.BaseExtensionType)),
)
_ARROW_BACKED = re.compile(r"(\w+|timestamp\[[^<>]*])\[pyarrow]")


def portable_type(kind: pa.DataType) -> pa.DataType:
    """The type itself if clients know it and pandas converts it, else the nearest one that holds the same values."""
    if isinstance(kind, pa.BaseExtensionType):
        storage = portable_type(kind.storage_type)
        return kind if storage == kind.storage_type else storage
    if kinds.is_string_view(kind):
        return pa.large_string()
    if kinds.is_binary_view(kind):
        return pa.large_binary()
    if kinds.is_decimal32(kind) or kinds.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if kinds.is_dictionary(kind):
        signed = pa.int64() if kinds.is_unsigned_integer(kind.index_type) else kind.index_type
        return pa.dictionary(signed, portable_type(kind.value_type), kind.ordered)
    return _portable_nested(kind)


def _portable_nested(kind: pa.DataType) -> pa.DataType:
    if kinds.is_list(kind) or kinds.is_list_view(kind):
        return pa.list_(_portable_field(kind.value_field))
    if kinds.is_large_list(kind) or kinds.is_large_list_view(kind):
        return pa.large_list(_portable_field(kind.value_field))
    if kinds.is_fixed_size_list(kind):
        return pa.list_(_portable_field(kind.value_field), kind.list_size)
    if kinds.is_map(kind):
        return pa.map_(_portable_field(kind.key_field), _portable_field(kind.item_field), kind.keys_sorted)
    if kinds.is_struct(kind):
        return pa.struct([_portable_field(field) for field in kind])
    return kind


def _portable_field(field: pa.Field) -> pa.Field:
    """A field or element of a nested type, where pandas converts fewer types than in columns."""
    if kinds.is_fixed_size_binary(field.type):
        return field.with_type(pa.binary())
    if kinds.is_float16(field.type):
        return field.with_type(pa.float32())
    return field.with_type(portable_type(field.type))


def with_pandas_names(schema: pa.Schema, nullable: AbstractSet[str]) -> pa.Schema:
    """Name the dtypes of columns with missing values that pandas would change, and none that pandas does not know.

    Integer and boolean columns with missing values become nullable dtypes: without a name pandas turns them into
    floats or objects, in some partitions only. What the writer said of index, labels and its own dtypes stays.

    Args:
        schema: The schema.
        nullable: Names of columns with missing values somewhere in the data set.
    """
    marks = {field.name: mark for field in schema if field.name in nullable and (mark := _nullable_name(field.type))}
    metadata = pandas_metadata(schema)
    if not metadata and not marks:
        return schema.with_metadata(_without_pandas(schema))
    metadata = metadata or {"index_columns": [], "column_indexes": [], "columns": [], "pandas_version": "2.2.0"}
    types = {field.name: field.type for field in schema}
    described = {str(column.get("field_name", column["name"])): column for column in metadata["columns"]}
    for name, mark in marks.items():
        written = {**_description(name, types[name]), **described.get(name, {})}
        keeps_missing = _is_known(written["numpy_type"], types[name])
        described[name] = written if keeps_missing else {**written, "numpy_type": mark}
    columns = [
        column
        if _BUILT_IN.fullmatch(column["numpy_type"]) or _is_known(column["numpy_type"], types.get(name, pa.null()))
        else {**column, "numpy_type": _NEUTRAL}
        for name, column in described.items()
    ]
    packed = json.dumps({**metadata, "columns": columns}).encode()
    return schema.with_metadata({**_without_pandas(schema), b"pandas": packed})


def pandas_metadata(schema: pa.Schema) -> dict[str, Any]:
    """What the writer told pandas of a schema; empty when that is nothing, or nothing that pandas can read."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        columns, has_index = metadata.get("columns"), isinstance(metadata.get("index_columns"), list)
        usable = has_index and all(isinstance(column["numpy_type"], str) and "name" in column for column in columns)
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    return metadata if usable else {}


def _description(name: str, kind: pa.DataType) -> dict[str, Any]:
    return {"name": name, "field_name": name, "pandas_type": str(kind), "numpy_type": _NEUTRAL, "metadata": None}


def _without_pandas(schema: pa.Schema) -> dict[bytes, bytes]:
    return {key: value for key, value in (schema.metadata or {}).items() if key != b"pandas"}


def _is_known(name: str, kind: pa.DataType) -> bool:
    """Whether a name is that of an extension dtype, and every client's pandas can make it of columns of a type."""
    if any(form.fullmatch(name) and fits(kind) for form, fits in _EXTENSIONS):
        return True
    return _ARROW_BACKED.fullmatch(name) is not None and name == f"{kind}[pyarrow]"


def _nullable_name(kind: pa.DataType) -> str | None:
    if kinds.is_boolean(kind):
        return "boolean"
    if kinds.is_unsigned_integer(kind):
        return f"UInt{kind.bit_width}"
    if kinds.is_integer(kind):
        return f"Int{kind.bit_width}"
    return None
