"""Row keys of a state: the combination of some fields of a record, hashed, ordered and written as text."""

from __future__ import annotations

import json
import math
from typing import Any, Final, TypeAlias

from gateway.schema.record import encode
from gateway.state.columns import Column, comparable

Key: TypeAlias = Any


class _Null:
    """The key of a null or absent value: before every other key."""

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return other is not self

    def __gt__(self, _other: object) -> bool:
        return False

    def __repr__(self) -> str:
        return "NULL"


NULL: Final = _Null()


class _Mixed:
    """The key of a value whose type alone gives no order: booleans, numbers, texts, then anything else by its JSON.

    It depends only on the JSON, so that a value has the same key before and after it was written and read.
    """

    __slots__ = ("rank", "value")

    def __init__(self, rank: int, value: Any) -> None:
        self.rank = rank
        self.value = value

    @classmethod
    def of(cls, value: Any) -> _Mixed | _Null:
        """The key of any value."""
        if not isinstance(value, (bool, int, float, str, list, dict)):
            value = json.loads(encode(value))
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return NULL
        if isinstance(value, bool):
            return cls(0, value)
        if isinstance(value, (int, float)):
            return cls(1, value)
        return cls(2, value) if isinstance(value, str) else cls(3, encode(value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Mixed) and (self.rank, self.value) == (other.rank, other.value)

    def __hash__(self) -> int:
        return hash((self.rank, self.value))

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, _Mixed):
            return NotImplemented
        return (self.rank, self.value) < (other.rank, other.value)


def key_part(value: Any, column: Column | None) -> Key:
    if value is None:
        return NULL
    if column is None:
        return _Mixed.of(value)
    part = comparable(value, column.kind)
    return NULL if part is None else part


def row_text(key: Key) -> str:
    """A combination as a text: the same for the same combination, and another one for every other."""
    parts = key if isinstance(key, tuple) else (key,)
    return encode([_plain_part(part) for part in parts]).decode()


def _plain_part(part: Any) -> Any:
    if isinstance(part, _Null):
        return None
    if isinstance(part, _Mixed):
        value = part.value.decode() if isinstance(part.value, bytes) else _plain_part(part.value)
        return [part.rank, value]
    return int(part) if isinstance(part, float) and part.is_integer() else part
