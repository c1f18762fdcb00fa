"""The columns of a struct: what a query can filter and sort by, and how their values compare (specification §3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, TypeAlias

from gateway.fields import EnumOf, EnumSpec, FieldType, LiteralOf, Nullable, Scalar, StructOf
from gateway.records import Record, at_path
from gateway.structs import StructSpec

Path: TypeAlias = tuple[str, ...]
Kind = Literal["int", "float", "bool", "text", "moment", "time", "duration", "enum"]


@dataclass(frozen=True, slots=True)
class Column:
    """A field, or a leaf of a nested struct, that can be compared.

    Attributes:
        path: Where it is in a record.
        kind: How its values are compared.
        enum: The enumeration behind a column of kind ``enum``.
    """

    path: Path
    kind: Kind
    enum: EnumSpec | None = field(default=None, compare=False)

    def value(self, record: Record) -> Any:
        """The record's value in the form in which this kind is compared; None for null and absent."""
        found = record.values.get(self.path[0]) if len(self.path) == 1 else at_path(record.values, self.path)
        return None if found is None else comparable(found, self.kind)


_SCALAR_KINDS: Mapping[str, Kind] = {
    "int": "int",
    "float": "float",
    "bool": "bool",
    "str": "text",
    "bytes": "text",
    "datetime": "moment",
    "date": "moment",
    "time": "time",
    "timedelta": "duration",
}


class Columns:
    """The comparable columns of a struct, by dotted path."""

    def __init__(self, spec: StructSpec, specs: Mapping[str, StructSpec], enums: Mapping[str, EnumSpec]) -> None:
        self._spec = spec
        self._specs = specs
        self._enums = enums
        self._found: dict[str, Column | None] = {}

    def get(self, path: str) -> Column | None:
        """The column of a dotted path; None when there is none, or its values cannot be compared."""
        if path not in self._found:
            self._found[path] = self._find(tuple(path.split(".")))
        return self._found[path]

    def has(self, path: str) -> bool:
        """Whether a path leads to a declared field, comparable or not."""
        return self._type(tuple(path.split("."))) is not None

    def _find(self, path: Path) -> Column | None:
        declared = self._type(path)
        if isinstance(declared, EnumOf):
            return Column(path, "enum", self._enums[declared.enum])
        if isinstance(declared, LiteralOf):
            kinds = {type(value) for value in declared.values}
            simple: dict[type, Kind] = {str: "text", int: "int", bool: "bool"}
            return Column(path, simple[kinds.pop()]) if len(kinds) == 1 else None
        if isinstance(declared, Scalar) and declared.name in _SCALAR_KINDS:
            return Column(path, _SCALAR_KINDS[declared.name])
        return None

    def _type(self, path: Path) -> FieldType | None:
        spec: StructSpec | None = self._spec
        declared: FieldType | None = None
        for name in path:
            if spec is None:
                return None
            if spec.implicit and name in ("id", "timestamp"):
                declared = Scalar("str" if name == "id" else "datetime")
            else:
                found = spec.field(name)
                if found is None:
                    return None
                declared = found.type
            while isinstance(declared, Nullable):
                declared = declared.item
            spec = self._specs[declared.struct] if isinstance(declared, StructOf) else None
        return declared


def comparable(value: Any, kind: Kind) -> Any:
    """A stored value in the form in which its kind is compared; None for what counts as null."""
    match kind:
        case "float":
            return value if math.isfinite(value) else None
        case "moment":
            return naive_moment(value)
        case "time":
            return naive_time(value)
        case "duration":
            return value // timedelta(microseconds=1)
        case "enum":
            return as_text(value)
        case "text":
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        case _:
            return value


def naive_moment(value: date) -> datetime:
    """A date or a moment as naive UTC, which is how moments are compared."""
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def naive_time(value: time) -> time:
    """A time of day in UTC, without an offset."""
    offset = value.utcoffset()
    if offset is None:
        return value
    return (datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None) + _since_midnight(value) - offset).time()


def _since_midnight(value: time) -> timedelta:
    return timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)


def as_text(value: Any) -> str:
    """A value as it is compared with text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
