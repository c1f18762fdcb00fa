"""The kinds of value that thrift's strict binary protocol carries (specification §10.3, §10.5).

Data only: `thrift` derives a kind from each annotation, `thrift_codegen` turns kinds into code.
"""

from __future__ import annotations

import struct as binary
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Append = Callable[[bytes], None]

TAG_STOP, TAG_BOOL, TAG_BYTE, TAG_DOUBLE, TAG_I16, TAG_I32, TAG_I64 = 0, 2, 3, 4, 6, 8, 10
TAG_STRING, TAG_STRUCT, TAG_MAP, TAG_SET, TAG_LIST = 11, 12, 13, 14, 15

_FIXED_SIZES = {TAG_BOOL: 1, TAG_BYTE: 1, TAG_DOUBLE: 8, TAG_I16: 2, TAG_I32: 4, TAG_I64: 8}
_MAX_DEPTH = 32
_read_i32 = binary.Struct(">i").unpack_from


class ThriftError(ValueError):
    """The bytes are not a well-formed message of the expected type."""


@dataclass(frozen=True)
class Fixed:
    """A value of fixed size: a struct-module format, with conversions where the value is no plain number."""

    tag: int
    format: str
    to_wire: Callable[[Any], int] | None = None
    from_wire: Callable[[int], Any] | None = None


@dataclass(frozen=True)
class Text:
    """A length and bytes; `tag` 11 for strings, 12 for the opaque blob and error_code."""

    tag: int
    is_binary: bool


@dataclass(frozen=True)
class Opaque:
    """A type whose content is written and read by functions of its own, without a field list (§10.5).

    Attributes:
        encode: Receives the value and a function that appends bytes to the message.
        decode: Receives the message and a position; returns the value and the position after it.
        is_host_port: Left out of messages for clients that cannot read it.
    """

    encode: Callable[[Any, Append], None]
    decode: Callable[[bytes, int], tuple[Any, int]]
    tag: int = TAG_STRUCT
    is_host_port: bool = False


@dataclass(frozen=True)
class Nested:
    """Another declared struct; `codec` is its `thrift.Codec`."""

    codec: Any
    tag: int = TAG_STRUCT


@dataclass(frozen=True)
class Items:
    """A list (tag 15) or a set (tag 14)."""

    item: Kind
    tag: int


@dataclass(frozen=True)
class Pairs:
    """A map."""

    key: Kind
    value: Kind
    tag: int = TAG_MAP


Kind = Fixed | Text | Opaque | Nested | Items | Pairs


@dataclass(frozen=True)
class Member:
    """One member of a declared struct.

    Attributes:
        id: Field id on the wire.
        is_optional: Left out when the value is None.
    """

    id: int
    name: str
    kind: Kind
    is_optional: bool


def has_host_port(kind: Kind) -> bool:
    """Whether the value holds a host_port, which clients of the older generation cannot read (§10.5)."""
    match kind:
        case Opaque():
            return kind.is_host_port
        case Items():
            return has_host_port(kind.item)
        case Pairs():
            return has_host_port(kind.key) or has_host_port(kind.value)
        case _:
            return False


def checked_count(data: bytes, position: int, count: int) -> int:
    """A container's announced number of items, refused if the rest of the message cannot hold it."""
    if not 0 <= count <= len(data) - position:
        raise ThriftError(f"a container announces {count} items in {max(0, len(data) - position)} bytes")
    return count


def skip(data: bytes, position: int, tag: int, depth: int = 0) -> int:
    """The position after a value of thrift type `tag` that nobody here knows.

    Raises:
        ThriftError: The type does not exist, the value is cut short, or the nesting is deeper than 32.
    """
    if depth > _MAX_DEPTH:
        raise ThriftError(f"the message is nested deeper than {_MAX_DEPTH} levels")
    size = _FIXED_SIZES.get(tag)
    if size is not None:
        position += size
    elif tag == TAG_STRING:
        length = _read_i32(data, position)[0]
        position += 4 + checked_count(data, position + 4, length)
    elif tag == TAG_STRUCT:
        while (member := data[position]) != TAG_STOP:
            position = skip(data, position + 3, member, depth + 1)
        position += 1
    elif tag in (TAG_LIST, TAG_SET):
        item, count = data[position], _read_i32(data, position + 1)[0]
        position += 5
        for _ in range(checked_count(data, position, count)):
            position = skip(data, position, item, depth + 1)
    elif tag == TAG_MAP:
        key, value, count = data[position], data[position + 1], _read_i32(data, position + 2)[0]
        position += 6
        for _ in range(checked_count(data, position, count)):
            position = skip(data, skip(data, position, key, depth + 1), value, depth + 1)
    else:
        raise ThriftError(f"thrift has no type {tag}")
    if position > len(data):
        raise ThriftError("the message ends within a value")
    return position
