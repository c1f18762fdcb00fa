"""Thrift's strict binary protocol, compiled from declarations (protocol §10.3, §10.5).

A message is declared once, as a class whose annotations say how each member travels::

    @struct(ids=(1, 2, 3, 4, 6))
    class TtlResponse:
        error: I32 = 0
        ttl_seconds: I32 = 0
        app_id: I32 = 0
        partition_index: I32 = 0
        server: str = ""

and becomes a slotted dataclass with a `Codec` generated from the same table when the module is
imported, as `dataclasses` generates `__init__`. The decoder is tolerant where the protocol is (members
in any order, unknown members skipped, absent ones at their type's zero value) and strict where memory
and time are at stake: a length or count that exceeds what was received, or a count beyond what the member is for, is
refused before anything is allocated for it.

This module knows bytes and declarations; no sockets, no Pegasus commands.
"""

from __future__ import annotations

import struct as binary
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Generic, TypeVar, dataclass_transform, overload

from shared.pegasus.wire import thrift_codegen
from shared.pegasus.wire.thrift_kinds import (
    TAG_BOOL,
    TAG_BYTE,
    TAG_DOUBLE,
    TAG_I16,
    TAG_I32,
    TAG_I64,
    TAG_LIST,
    TAG_SET,
    TAG_STOP,
    TAG_STRING,
    TAG_STRUCT,
    Append,
    AtMost,
    Fixed,
    Items,
    Kind,
    Member,
    Nested,
    Opaque,
    Pairs,
    Text,
    ThriftError,
)

__all__ = ["I8", "I16", "I32", "I64", "AtMost", "Codec", "Double", "ErrorName", "ThriftError", "codec_of", "struct"]

T = TypeVar("T")

I8 = Annotated[int, Fixed(TAG_BYTE, "b")]
I16 = Annotated[int, Fixed(TAG_I16, "h")]
I32 = Annotated[int, Fixed(TAG_I32, "i")]
I64 = Annotated[int, Fixed(TAG_I64, "q")]
Double = Annotated[float, Fixed(TAG_DOUBLE, "d")]
ErrorName = Annotated[str, Text(TAG_STRUCT, is_binary=False)]
"""The IDL's error_code: the name of an error, such as `ERR_OK` (§10.5)."""

_PLAIN: dict[Any, Kind] = {
    bool: Fixed(TAG_BOOL, "?"),
    str: Text(TAG_STRING, is_binary=False),
    bytes: Text(TAG_STRUCT, is_binary=True),  # all binary data of Pegasus travels as its blob
}


class Codec(Generic[T]):
    """Turns values of one declared type into bytes and back.

    Attributes:
        tag: Thrift's type number of the value.
        compat: The same codec for clients of the generation before host_port members existed (§10.5):
            it leaves those members out and reads the same messages.
    """

    __slots__ = ("compat", "default", "encode_into", "read", "tag")

    def __init__(
        self,
        tag: int,
        encode_into: Callable[[T, Append], None],
        read: Callable[[bytes, int], tuple[T, int]],
        default: Callable[[], T],
    ) -> None:
        self.tag = tag
        self.encode_into = encode_into
        self.read = read
        self.default = default
        self.compat: Codec[T] = self

    def encode(self, value: T) -> bytes:
        """The bare value."""
        parts: list[bytes] = []
        self.encode_into(value, parts.append)
        return b"".join(parts)

    def encode_field(self, value: T, field_id: int = 0) -> bytes:
        """The value as the only member of a struct: an argument (id 1) or a result (id 0) (§10.3, §10.4)."""
        parts = [binary.pack(">Bh", self.tag, field_id)]
        self.encode_into(value, parts.append)
        parts.append(b"\x00")
        return b"".join(parts)

    def decode(self, data: bytes) -> T:
        """The bare value at the start of `data`.

        Raises:
            ThriftError: The bytes are malformed or too few.
        """
        try:
            return self.read(data, 0)[0]
        except (IndexError, binary.error, UnicodeDecodeError) as error:
            raise ThriftError(f"malformed value: {error}") from error

    def decode_field(self, data: bytes, position: int = 0) -> T:
        """The first member of the struct at `position`, whatever its id; the default if it has none (§10.3).

        Raises:
            ThriftError: The bytes are malformed, too few, or of another type.
        """
        try:
            tag = data[position]
            if tag == self.tag:
                return self.read(data, position + 3)[0]
        except (IndexError, binary.error, UnicodeDecodeError) as error:
            raise ThriftError(f"malformed message: {error}") from error
        if tag == TAG_STOP:
            return self.default()
        raise ThriftError(f"expected a value of thrift type {self.tag}, found type {tag}")


def _kind_of(hint: Any) -> Kind:
    """How a member with this annotation travels."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    codec = getattr(hint, "__codec__", None)
    if codec is not None:
        return Nested(codec)
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Fixed | Opaque | Text):
            return mark
        if isinstance(mark, AtMost):
            kind = _kind_of(typing.get_args(hint)[0])
            assert isinstance(kind, Items | Pairs)
            return replace(kind, most=mark.count)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, Sequence):
        return Items(_kind_of(arguments[0]), TAG_LIST)
    if origin in (set, frozenset, AbstractSet):
        return Items(_kind_of(arguments[0]), TAG_SET)
    if origin in (dict, Mapping):
        return Pairs(_kind_of(arguments[0]), _kind_of(arguments[1]))
    raise TypeError(f"no wire form for a member annotated {hint!r}")


def _split_optional(hint: Any) -> tuple[Any, bool]:
    """The annotation without `| None`, and whether that was there."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [argument for argument in typing.get_args(hint) if argument is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return hint, False


def codec_of(hint: type[T] | Any) -> Codec[T]:
    """The codec of a declared struct, or of a bare type such as `bytes`, `str` or `I64`."""
    declared: Codec[T] | None = getattr(hint, "__codec__", None)
    if declared is not None:
        return declared
    kind = _kind_of(hint)
    return Codec(
        kind.tag,
        thrift_codegen.bare_encoder(kind),
        thrift_codegen.bare_decoder(kind),
        lambda: typing.cast(T, thrift_codegen.zero(kind)),
    )


def _declare(cls: type[T], ids: Sequence[int] | None) -> type[T]:
    made = dataclass(slots=True)(cls)
    hints = typing.get_type_hints(made, include_extras=True)
    names = [field.name for field in fields(made)]  # type: ignore[arg-type]
    members = []
    for number, name in zip(range(1, len(names) + 1) if ids is None else ids, names, strict=True):
        hint, is_optional = _split_optional(hints[name])
        members.append(Member(number, name, _kind_of(hint), is_optional))
    read = thrift_codegen.struct_decoder(made.__name__, made, members)
    codec: Codec[T] = Codec(TAG_STRUCT, thrift_codegen.struct_encoder(made.__name__, members), read, made)
    codec.compat = _compat(made.__name__, codec, members)
    made.__codec__ = codec  # type: ignore[attr-defined]
    return made


def _compat(name: str, codec: Codec[T], members: Sequence[Member]) -> Codec[T]:
    """The codec without host_port members, here and in every struct inside; `codec` itself if there are none."""
    kept = [
        Member(member.id, member.name, thrift_codegen.compat_kind(member.kind), member.is_optional)
        for member in thrift_codegen.without_host_ports(members)
    ]
    if kept == list(members):
        return codec
    return Codec(TAG_STRUCT, thrift_codegen.struct_encoder(name, kept), codec.read, codec.default)


@overload
def struct(cls: type[T], /) -> type[T]: ...
@overload
def struct(*, ids: Sequence[int]) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform()
def struct(cls: type[T] | None = None, /, *, ids: Sequence[int] | None = None) -> Any:
    """Make a class a thrift struct: a slotted dataclass whose codec is found by `codec_of`.

    Args:
        ids: The members' field ids in order of declaration; 1, 2, 3, … if left out.
    """
    if cls is None:
        return lambda declared: _declare(declared, ids)
    return _declare(cls, ids)
