"""Writes the encoder and decoder of a declared struct as Python source (protocol §10.3).

The generated functions are straight-line: members of fixed size that follow one another, with their
headers and the lengths of strings between them, become one `struct.pack`; the decoder expects the
members in declared order, which is how everyone sends them, and falls back to any order.
For `TtlResponse` the encoder reads::

    def encode(v, append):
        b0 = v.server.encode()
        append(pack0(head0, v.error, head1, v.ttl_seconds, head2, …, len(b0)))
        append(b0)
        append(stop)
"""

from __future__ import annotations

import itertools
import struct as binary
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from shared.pegasus.wire.thrift_kinds import (
    TAG_LIST,
    TAG_STOP,
    Append,
    Fixed,
    Items,
    Kind,
    Member,
    Nested,
    Opaque,
    Pairs,
    Text,
    ThriftError,
    checked_count,
    has_host_port,
    least_bytes,
    skip,
)

Encoder = Callable[[Any, Append], None]
Decoder = Callable[[bytes, int], tuple[Any, int]]


def short(position: int) -> ThriftError:
    """A length that reaches beyond the message, or a negative one."""
    return ThriftError(f"a value at byte {position} announces more bytes than the message has")


class _Source:
    """Lines of a function under construction, and the objects that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "ThriftError": ThriftError,
            "count_of": checked_count,
            "read_i32": binary.Struct(">i").unpack_from,
            "short": short,
            "skip": skip,
        }
        self.numbers = itertools.count()

    def name(self, prefix: str, value: Any = None) -> str:
        """A fresh name, bound to `value` if there is one."""
        name = f"{prefix}{next(self.numbers)}"
        if value is not None:
            self.names[name] = value
        return name

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def function(self, name: str) -> Any:
        """Compile the lines and return the function they define."""
        code = compile("\n".join(self.lines), f"<thrift codec of {name}>", "exec")
        exec(code, self.names)  # noqa: S102 - our own text, made from declarations only, as dataclasses does
        return self.names["generated"]


# -- encoding -------------------------------------------------------------------------------------


class _Packer:
    """Collects neighbouring fixed-size pieces into one `struct.pack`."""

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.format = ""
        self.arguments: list[str] = []
        self.constant = b""

    def bytes(self, constant: bytes) -> None:
        self.constant += constant

    def number(self, format: str, expression: str) -> None:
        self._settle()
        self.format += format
        self.arguments.append(expression)

    def flush(self, depth: int) -> None:
        if not self.arguments:
            if self.constant:
                self.source.line(depth, f"append({self.source.name('bytes', self.constant)})")
                self.constant = b""
            return
        self._settle()
        pack = self.source.name("pack", binary.Struct(">" + self.format).pack)
        self.source.line(depth, f"append({pack}({', '.join(self.arguments)}))")
        self.format, self.arguments = "", []

    def _settle(self) -> None:
        """Turn the constant bytes so far into an argument of the pack."""
        if self.constant:
            self.format += f"{len(self.constant)}s"
            self.arguments.append(self.source.name("bytes", self.constant))
            self.constant = b""


def _encode_value(source: _Source, packer: _Packer, kind: Kind, value: str, depth: int) -> None:
    """Lines that write the value of the expression `value`, without a field header."""
    match kind:
        case Fixed():
            if kind.to_wire is not None:
                value = f"{source.name('convert', kind.to_wire)}({value})"
            packer.number(kind.format, value)
        case Text():
            text = source.name("text")
            source.line(depth, f"{text} = {value}" + ("" if kind.is_binary else ".encode()"))
            packer.number("i", f"len({text})")
            packer.flush(depth)
            source.line(depth, f"append({text})")
        case Opaque():
            packer.flush(depth)
            source.line(depth, f"{source.name('encode', kind.encode)}({value}, append)")
        case Nested():
            packer.flush(depth)
            source.line(depth, f"{source.name('encode', kind.codec.encode_into)}({value}, append)")
        case Items():
            items, item = source.name("items"), source.name("item")
            source.line(depth, f"{items} = {value}")
            packer.bytes(bytes([kind.item.tag]))
            packer.number("i", f"len({items})")
            packer.flush(depth)
            source.line(depth, f"for {item} in {items}:")
            _encode_value(source, packer, kind.item, item, depth + 1)
            packer.flush(depth + 1)
        case Pairs():
            pairs, key, item = source.name("pairs"), source.name("key"), source.name("item")
            source.line(depth, f"{pairs} = {value}")
            packer.bytes(bytes([kind.key.tag, kind.value.tag]))
            packer.number("i", f"len({pairs})")
            packer.flush(depth)
            source.line(depth, f"for {key}, {item} in {pairs}.items():")
            _encode_value(source, packer, kind.key, key, depth + 1)
            _encode_value(source, packer, kind.value, item, depth + 1)
            packer.flush(depth + 1)


def struct_encoder(name: str, members: Sequence[Member]) -> Encoder:
    """The function that writes a struct: its members in declared order, then STOP."""
    source = _Source()
    packer = _Packer(source)
    source.line(0, "def generated(v, append):")
    for member in members:
        header = binary.pack(">Bh", member.kind.tag, member.id)
        value = f"v.{member.name}"
        if member.is_optional:
            packer.flush(1)
            optional = source.name("optional")
            source.line(1, f"{optional} = {value}")
            source.line(1, f"if {optional} is not None:")
            packer.bytes(header)
            _encode_value(source, packer, member.kind, optional, 2)
            packer.flush(2)
        else:
            packer.bytes(header)
            _encode_value(source, packer, member.kind, value, 1)
    packer.bytes(bytes([TAG_STOP]))
    packer.flush(1)
    encoder: Encoder = source.function(name)
    return encoder


def bare_encoder(kind: Kind) -> Encoder:
    """The function that writes a bare value."""
    source = _Source()
    packer = _Packer(source)
    source.line(0, "def generated(v, append):")
    _encode_value(source, packer, kind, "v", 1)
    packer.flush(1)
    encoder: Encoder = source.function("a bare value")
    return encoder


# -- decoding -------------------------------------------------------------------------------------


def _decode_value(source: _Source, kind: Kind, target: str, depth: int) -> None:
    """Lines that read a value at `pos` into `target` and advance `pos`."""
    match kind:
        case Fixed():
            read = source.name("read", binary.Struct(">" + kind.format).unpack_from)
            value = f"{read}(data, pos)[0]"
            if kind.from_wire is not None:
                value = f"{source.name('convert', kind.from_wire)}({value})"
            source.line(depth, f"{target} = {value}")
            source.line(depth, f"pos += {binary.calcsize('>' + kind.format)}")
        case Text():
            source.line(depth, "stop = pos + 4 + read_i32(data, pos)[0]")
            source.line(depth, "pos += 4")
            source.line(depth, "if stop < pos or stop > size: raise short(pos)")
            source.line(depth, f"{target} = data[pos:stop]" + ("" if kind.is_binary else ".decode()"))
            source.line(depth, "pos = stop")
        case Opaque():
            source.line(depth, f"{target}, pos = {source.name('read', kind.decode)}(data, pos)")
        case Nested():
            source.line(depth, f"{target}, pos = {source.name('read', kind.codec.read)}(data, pos)")
        case Items():
            _decode_items(source, kind, target, depth)
        case Pairs():
            _decode_pairs(source, kind, target, depth)


def _count_of(source: _Source, kind: Items | Pairs, start: int, least: int, depth: int) -> str:
    """A line that reads a container's number of items, and refuses one that cannot be; the name that it has then."""
    count = source.name("count")
    where = f"data, pos + {start}, read_i32(data, pos + {start - 4})[0]"
    source.line(depth, f"{count} = count_of({where}, {least}, {kind.most})")
    return count


def _decode_items(source: _Source, kind: Items, target: str, depth: int) -> None:
    items, item = source.name("items"), source.name("item")
    count = _count_of(source, kind, 5, least_bytes(kind.item), depth)
    _expect_tags(source, f"{count} and data[pos] != {kind.item.tag}", depth)
    source.line(depth, "pos += 5")
    if isinstance(kind.item, Fixed):
        _decode_fixed(source, kind.item, items, count, depth)
    else:
        source.line(depth, f"{items} = []")
        source.line(depth, f"for _ in range({count}):")
        _decode_value(source, kind.item, item, depth + 1)
        source.line(depth + 1, f"{items}.append({item})")
    source.line(depth, f"{target} = {items}" if kind.tag == TAG_LIST else f"{target} = frozenset({items})")


def _decode_fixed(source: _Source, item: Fixed, items: str, count: str, depth: int) -> None:
    """Lines that read `count` values of fixed size at once."""
    unpack = source.name("unpack", binary.unpack_from)
    source.line(depth, f"{items} = list({unpack}(f'>{{{count}}}{item.format}', data, pos))")
    if item.from_wire is not None:
        source.line(depth, f"{items} = list(map({source.name('convert', item.from_wire)}, {items}))")
    source.line(depth, f"pos += {count} * {binary.calcsize('>' + item.format)}")


def _decode_pairs(source: _Source, kind: Pairs, target: str, depth: int) -> None:
    pairs, key, item = source.name("pairs"), source.name("key"), source.name("item")
    count = _count_of(source, kind, 6, least_bytes(kind.key) + least_bytes(kind.value), depth)
    wrong_tags = f"data[pos] != {kind.key.tag} or data[pos + 1] != {kind.value.tag}"
    _expect_tags(source, f"{count} and ({wrong_tags})", depth)
    source.line(depth, "pos += 6")
    source.line(depth, f"{pairs} = {{}}")
    source.line(depth, f"for _ in range({count}):")
    _decode_value(source, kind.key, key, depth + 1)
    _decode_value(source, kind.value, item, depth + 1)
    source.line(depth + 1, f"{pairs}[{key}] = {item}")
    source.line(depth, f"{target} = {pairs}")


def _expect_tags(source: _Source, wrong: str, depth: int) -> None:
    source.line(depth, f"if {wrong}: raise ThriftError('a container holds items of another type')")


def struct_decoder(name: str, make: Callable[..., Any], members: Sequence[Member]) -> Decoder:
    """The function that reads a struct at a position and returns it with the position after it."""
    source = _Source()
    make_name = source.name("make", make)
    headers = {binary.pack(">Bh", member.kind.tag, member.id) for member in members}
    known = source.name("known", frozenset(headers))
    values = [f"m{index}" for index in range(len(members))]
    source.line(0, "def generated(data, pos):")
    source.line(1, "size = len(data)")
    for value, member in zip(values, members, strict=True):
        default = "None" if member.is_optional else _default_expression(source, member.kind)
        source.line(1, f"{value} = {default}")
    source.line(1, "while True:")
    for value, member in zip(values, members, strict=True):
        header = source.name("header", binary.pack(">Bh", member.kind.tag, member.id))
        source.line(2, f"if data[pos:pos + 3] == {header}:")
        source.line(3, "pos += 3")
        _decode_value(source, member.kind, value, 3)
    source.line(2, "tag = data[pos]")
    source.line(2, f"if tag == {TAG_STOP}:")
    source.line(3, f"return {make_name}({', '.join(values)}), pos + 1")
    source.line(2, f"if data[pos:pos + 3] not in {known}:")
    source.line(3, "pos = skip(data, pos + 3, tag)")
    decoder: Decoder = source.function(name)
    return decoder


def bare_decoder(kind: Kind) -> Decoder:
    """The function that reads a bare value at a position."""
    source = _Source()
    source.line(0, "def generated(data, pos):")
    source.line(1, "size = len(data)")
    _decode_value(source, kind, "value", 1)
    source.line(1, "return value, pos")
    decoder: Decoder = source.function("a bare value")
    return decoder


def zero(kind: Kind) -> Any:
    """The value of a member that is absent from the message: its type's zero value (§10.5)."""
    match kind:
        case Fixed():
            return 0 if kind.from_wire is None else kind.from_wire(0)
        case Text():
            return b"" if kind.is_binary else ""
        case Opaque():
            return kind.decode(bytes(16), 0)[0]
        case Nested():
            return kind.codec.default()
        case Items():
            return []
        case Pairs():
            return {}


def _default_expression(source: _Source, kind: Kind) -> str:
    if isinstance(kind, Fixed) and kind.from_wire is None:
        return "False" if kind.format == "?" else "0"
    if isinstance(kind, Items):
        return "()"
    if isinstance(kind, Pairs):
        return "{}"
    if isinstance(kind, Nested):
        return f"{source.name('default', kind.codec.default)}()"
    return source.name("zero", zero(kind))


def without_host_ports(members: Sequence[Member]) -> list[Member]:
    """The members that clients of the older generation can read (§10.5)."""
    return [member for member in members if not has_host_port(member.kind)]


def compat_kind(kind: Kind) -> Kind:
    """The kind as those clients read it: structs inside it lose their host_port members too."""
    match kind:
        case Nested():
            return kind if kind.codec.compat is kind.codec else Nested(kind.codec.compat)
        case Items():
            return replace(kind, item=compat_kind(kind.item))
        case Pairs():
            return replace(kind, key=compat_kind(kind.key), value=compat_kind(kind.value))
        case _:
            return kind
