"""The kinds of value that thrift's strict binary protocol carries (protocol §10.3, §10.5).

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
MAX_ITEMS = 65_536
"""How many items a container may have that says nothing else: as many as a table may have partitions."""
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
        least_bytes: The size of its shortest value.
    """

    encode: Callable[[Any, Append], None]
    decode: Callable[[bytes, int], tuple[Any, int]]
    tag: int = TAG_STRUCT
    is_host_port: bool = False
    least_bytes: int = 1


@dataclass(frozen=True)
class Nested:
    """Another declared struct; `codec` is its `thrift.Codec`."""

    codec: Any
    tag: int = TAG_STRUCT


@dataclass(frozen=True)
class Items:
    """A list (tag 15) or a set (tag 14) of at most `most` items."""

    item: Kind
    tag: int
    most: int = MAX_ITEMS


@dataclass(frozen=True)
class Pairs:
    """A map of at most `most` pairs."""

    key: Kind
    value: Kind
    tag: int = TAG_MAP
    most: int = MAX_ITEMS


@dataclass(frozen=True)
class AtMost:
    """Annotates a container that may have another number of items than `MAX_ITEMS`."""

    count: int


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


def least_bytes(kind: Kind) -> int:
    """The size of the shortest value of a kind: a struct in a container has a member, an empty one says nothing."""
    match kind:
        case Fixed():
            return binary.calcsize(">" + kind.format)
        case Text():
            return 4
        case Opaque():
            return kind.least_bytes
        case Nested():
            return 5
        case Items():
            return 5
        case Pairs():
            return 6


def checked_count(data: bytes, position: int, count: int, least: int = 1, most: int = MAX_ITEMS) -> int:
    """A container's announced number of items, refused before anything is made for them.

    Args:
        position: Where the first item begins.
        least: How many bytes an item has at least.
        most: How many items there may be.
    """
    if not 0 <= count * least <= len(data) - position:
        raise ThriftError(f"a container announces {count} items in {max(0, len(data) - position)} bytes")
    if count > most:
        raise ThriftError(f"a container announces {count} items, at most {most} are taken")
    return count


def skip(data: bytes, position: int, tag: int, depth: int = 0) -> int:
    """The position after a value of thrift type `tag` that nobody here knows.

    Items of fixed size are passed in one step, all others one by one, at most `MAX_ITEMS` in a container.

    Raises:
        ThriftError: The type does not exist, the value is cut short, there are too many items, or the nesting is deeper
            than 32.
    """
    if depth > _MAX_DEPTH:
        raise ThriftError(f"the message is nested deeper than {_MAX_DEPTH} levels")
    size = _FIXED_SIZES.get(tag)
    if size is not None:
        position += size
    elif tag == TAG_STRING:
        position = _skip_strings(data, position, 1)
    elif tag == TAG_STRUCT:
        while (member := data[position]) != TAG_STOP:
            position = skip(data, position + 3, member, depth + 1)
        position += 1
    elif tag in (TAG_LIST, TAG_SET):
        item, count = data[position], _read_i32(data, position + 1)[0]
        position = _skip_items(data, position + 5, (item,), count, depth)
    elif tag == TAG_MAP:
        key, value, count = data[position], data[position + 1], _read_i32(data, position + 2)[0]
        position = _skip_items(data, position + 6, (key, value), count, depth)
    else:
        raise ThriftError(f"thrift has no type {tag}")
    if position > len(data):
        raise ThriftError("the message ends within a value")
    return position


def _skip_items(data: bytes, position: int, tags: tuple[int, ...], count: int, depth: int) -> int:
    """The position after `count` items, each of values of the types `tags`."""
    sizes = [_FIXED_SIZES.get(tag) for tag in tags]
    fixed = sum(size for size in sizes if size is not None)
    if None not in sizes:
        return position + fixed * checked_count(data, position, count, fixed, len(data))
    checked_count(data, position, count)
    if tags == (TAG_STRING,):
        return _skip_strings(data, position, count)
    for _ in range(count):
        for tag in tags:
            position = skip(data, position, tag, depth + 1)
    return position


def _skip_strings(data: bytes, position: int, count: int) -> int:
    size = len(data)
    for _ in range(count):
        length = _read_i32(data, position)[0]
        position += 4
        if not 0 <= length <= size - position:
            raise ThriftError(f"a string announces {length} bytes of {size - position}")
        position += length
    return position
