"""One struct value as it travels through a gateway: its members, and the bytes they print as."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any, TypeAlias

import orjson
from pydantic_core import to_jsonable_python

Members: TypeAlias = dict[str, Any]


class TimeOfDay(time):
    """A time of day that orjson hands to `encode`: orjson 3.11 to 3.13 print 12:00:00.05 without its first zero."""

    __slots__ = ()


def printable_time(value: time) -> TimeOfDay:
    """A time of day as records hold it."""
    return TimeOfDay(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)


class Record:
    """A validated struct.

    Members read as attributes (``tick.x``); one that was absent from the input raises `AttributeError`. A record is
    never changed once it exists, so that its encoded bytes, made once, can be shared by everyone who is sent it.

    Attributes:
        struct: Name of the struct type.
        values: The members that are present, in the order in which they are printed.
    """

    __slots__ = ("_encoded", "struct", "values")

    def __init__(self, struct: str, values: Members, encoded: bytes | None = None) -> None:
        self.struct = struct
        self.values = values
        self._encoded = encoded

    @property
    def encoded(self) -> bytes:
        """The record as compact JSON."""
        encoded = self._encoded
        if encoded is None:
            encoded = self._encoded = encode(self.values)
        return encoded

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"{self.struct} record has no member {name!r}") from None

    def get(self, name: str, default: Any = None) -> Any:
        """A member, or something else when it is absent."""
        return self.values.get(name, default)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.struct == other.struct and self.values == other.values

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __repr__(self) -> str:
        return f"{self.struct}({self.encoded.decode()})"


def at_path(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value under a dotted path, or None where the path does not lead anywhere."""
    found: Any = values
    for name in path:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def encode_list(records: Iterable[Record]) -> bytes:
    """Records as a compact JSON array."""
    return b"[" + b",".join([record.encoded for record in records]) + b"]"


def encode(value: Any) -> bytes:
    """Any value that a struct may hold, or an answer may contain, as compact JSON.

    Datetimes print as given, durations as seconds, NaN and infinities as null, integers of any size as they are.
    """
    try:  # copied, because what orjson returns keeps its whole working buffer: 4 KiB for the shortest text
        return b"%b" % orjson.dumps(value, default=_encode_other, option=orjson.OPT_UTC_Z)
    except TypeError:  # an integer beyond 64 bits: rare, and printed the slow way
        return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _encode_other(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, Record):
        return value.values
    if isinstance(value, time):
        return value.isoformat().replace("+00:00", "Z")
    return to_jsonable_python(value, serialize_unknown=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, (datetime, date)):
        return json.loads(orjson.dumps(value, option=orjson.OPT_UTC_Z))
    return _plain(_encode_other(value))
