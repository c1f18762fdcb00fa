"""The columns of a struct: what a query can filter and sort by, and how their values compare."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Final, Literal, TypeAlias

from gateway.schema.field_types import EnumOf, EnumSpec, FieldType, LiteralOf, Nullable, Scalar, StructOf
from gateway.schema.record import Record, at_path
from gateway.schema.structs import StructSpec

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
    """A stored value in the form in which its kind is compared; None for what counts as null.

    It depends only on what the value prints as, and fails for no value: what an imported model holds in a field that
    was taken for another type counts as null.
    """
    match kind:
        case "text":
            return value if isinstance(value, str) else _bytes_text(value)
        case "int" | "bool":
            return value if isinstance(value, int) else None
        case "float":
            return value if isinstance(value, float) and math.isfinite(value) else None
        case "moment":
            return microseconds_of(value) if isinstance(value, date) else None
        case "time":
            return microseconds_of_day(value) if isinstance(value, time) else None
        case "duration":
            return value.total_seconds() if isinstance(value, timedelta) else None
        case "enum":
            return as_text(value)


def _bytes_text(value: Any) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


_EPOCH: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY: Final = 86_400_000_000


def microseconds_of(value: date) -> int:
    """A date or a moment as microseconds since the epoch; without an offset it is in UTC.

    A number, because a moment with an offset may be in no year that a datetime in UTC has.
    """
    if not isinstance(value, datetime):
        return (datetime(value.year, value.month, value.day) - _EPOCH) // _MICROSECOND
    offset = value.utcoffset()
    if offset is None:
        return (value - _EPOCH) // _MICROSECOND
    return (value.replace(tzinfo=None) - _EPOCH - offset) // _MICROSECOND


def microseconds_of_day(value: time) -> int:
    """A time of day in UTC, as microseconds since midnight."""
    since = timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond) - (
        value.utcoffset() or timedelta(0)
    )
    return since // _MICROSECOND % _DAY


def as_text(value: Any) -> str:
    """A value as it is compared with text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
