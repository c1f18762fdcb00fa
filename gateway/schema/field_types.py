"""What a field of a struct may hold: the type language of channel files (§8.2, encodings of §1).

A type is written as ``int``, ``str?``, ``float[]``, ``dict[str, list[int]]`` or ``a | b``. This module parses that text
into a small tree. Validation and storage of values are elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

ScalarName = Literal["int", "float", "str", "bool", "datetime", "date", "time", "timedelta", "bytes", "any", "object"]
SCALARS: tuple[ScalarName, ...] = (
    "int", "float", "str", "bool", "datetime", "date", "time", "timedelta", "bytes", "any", "object",
)  # fmt: skip
EnumValue: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Scalar:
    """A plain value; ``any`` is any JSON and ``object`` any JSON object."""

    name: ScalarName


@dataclass(frozen=True, slots=True)
class Array:
    """A numeric array: a vector for rank 1, rows of equal meaning for rank 2."""

    item: Literal["int", "float"]
    rank: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of values of one type."""

    item: FieldType


@dataclass(frozen=True, slots=True)
class SetOf:
    """Distinct values of one type, in the order in which they were first given."""

    item: FieldType


@dataclass(frozen=True, slots=True)
class DictOf:
    """Values of one type under string keys."""

    value: FieldType


@dataclass(frozen=True, slots=True)
class Nullable:
    """A value of one type, or null."""

    item: FieldType


@dataclass(frozen=True, slots=True)
class UnionOf:
    """A value of the first type that fits best."""

    options: tuple[FieldType, ...]


@dataclass(frozen=True, slots=True)
class LiteralOf:
    """One of a few written-out values."""

    values: tuple[str | int | bool, ...]


@dataclass(frozen=True, slots=True)
class EnumOf:
    """A member of a declared enumeration."""

    enum: str


@dataclass(frozen=True, slots=True)
class StructOf:
    """A nested struct."""

    struct: str


FieldType: TypeAlias = Scalar | Array | ListOf | SetOf | DictOf | Nullable | UnionOf | LiteralOf | EnumOf | StructOf


@dataclass(frozen=True, slots=True)
class EnumSpec:
    """A declared enumeration.

    Attributes:
        name: Its name in the channel file.
        members: Values by member name, in the order of declaration.
        wire: Whether a field prints the value or the name of its member; basket keys are always names.
    """

    name: str
    members: Mapping[str, EnumValue]
    wire: Literal["value", "name"] = "value"


_OTHER_NAMES: Mapping[str, str] = {
    "Optional": "write T? for Optional[T]",
    "Union": "write A | B for Union[A, B]",
    "None": "write T? for T | None",
    "null": "write T? for T | null",
    "Literal": "write {literal: [a, b]}",
    "List": "write list[T]",
    "Set": "write set[T]",
    "Dict": "write dict[str, T]",
    "Any": "write any",
    "string": "write str",
    "integer": "write int",
    "number": "write float",
    "double": "write float",
    "boolean": "write bool",
}
"""How other languages call what is known here."""

_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>\[\]|[\[\],?|]))")


def parse_type(text: str, enums: Sequence[str], structs: Sequence[str]) -> FieldType:
    """Read a type expression.

    Args:
        text: For example ``dict[str, float[]]?``.
        enums: Names that stand for enumerations.
        structs: Names that stand for structs.

    Raises:
        ValueError: The text is no type; the message names what was found.
    """
    parser = _TypeParser(text, frozenset(enums), frozenset(structs))
    parsed = parser.union()
    parser.end()
    return parsed


class _TypeParser:
    """Recursive descent over ``union = type ("|" type)*``, ``type = name ["[" … "]"] ("[]" | "?")*``."""

    def __init__(self, text: str, enums: frozenset[str], structs: frozenset[str]) -> None:
        self._text = text
        self._enums = enums
        self._structs = structs
        self._tokens = self._split(text)
        self._at = 0

    def union(self) -> FieldType:
        options = [self._suffixed()]
        while self._take("|"):
            options.append(self._suffixed())
        return options[0] if len(options) == 1 else UnionOf(tuple(options))

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise ValueError(f"{self._text!r} is not a type: unexpected {self._tokens[self._at]!r}")

    def _suffixed(self) -> FieldType:
        parsed = self._named()
        while True:
            if self._take("[]"):
                parsed = self._array(parsed)
            elif self._take("?"):
                parsed = Nullable(parsed)
            else:
                return parsed

    def _array(self, item: FieldType) -> FieldType:
        match item:
            case Scalar("int" | "float" as name):
                return Array(name, 1)
            case Array(name, rank):
                return Array(name, rank + 1)
        raise ValueError(f"{self._text!r} is not a type: only int[] and float[] are arrays, use list[...]")

    def _named(self) -> FieldType:
        name = self._next("a type name")
        if name in self._structs:
            return StructOf(name)
        if name in self._enums:
            return EnumOf(name)
        if name in SCALARS:
            return Scalar(name)
        if name in ("list", "set"):
            self._expect("[")
            item = self.union()
            self._expect("]")
            return ListOf(item) if name == "list" else SetOf(item)
        if name == "dict":
            return self._dict()
        if name in _OTHER_NAMES:
            raise ValueError(f"unknown type {name!r}; {_OTHER_NAMES[name]}")
        known = ", ".join([*SCALARS, "list", "set", "dict", *sorted(self._enums), *sorted(self._structs)])
        raise ValueError(f"unknown type {name!r}; known are {known}")

    def _dict(self) -> FieldType:
        self._expect("[")
        key = self._next("'str'")
        if key != "str":
            raise ValueError(f"{self._text!r} is not a type: keys of a dict are str, not {key}")
        self._expect(",")
        value = self.union()
        self._expect("]")
        return DictOf(value)

    def _next(self, wanted: str) -> str:
        if self._at == len(self._tokens):
            raise ValueError(f"{self._text!r} is not a type: expected {wanted} at its end")
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _take(self, token: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == token:
            self._at += 1
            return True
        return False

    def _expect(self, token: str) -> None:
        found = self._next(repr(token))
        if found != token:
            raise ValueError(f"{self._text!r} is not a type: expected {token!r}, found {found!r}")

    @staticmethod
    def _split(text: str) -> list[str]:
        tokens: list[str] = []
        rest = text.rstrip()
        at = 0
        while at < len(rest):
            found = _TOKEN.match(rest, at)
            if found is None:
                raise ValueError(f"{text!r} is not a type: unexpected {rest[at:].strip()[0]!r}")
            tokens.append(found.group("name") or found.group("mark"))
            at = found.end()
        return tokens


def spell_type(declared: FieldType) -> str:
    """The text of a type, as in a channel file."""
    match declared:
        case Scalar(name):
            return name
        case Array(item, rank):
            return item + "[]" * rank
        case ListOf(item_type):
            return f"list[{spell_type(item_type)}]"
        case SetOf(item_type):
            return f"set[{spell_type(item_type)}]"
        case DictOf(value):
            return f"dict[str, {spell_type(value)}]"
        case Nullable(item_type):
            return spell_type(item_type) + "?"
        case UnionOf(options):
            return " | ".join(spell_type(option) for option in options)
        case LiteralOf(values):
            return f"literal {list(values)}"
        case EnumOf(name):
            return name
        case StructOf(name):
            return name


def nullable(declared: FieldType) -> FieldType:
    """The same type, with null."""
    return declared if isinstance(declared, Nullable) else Nullable(declared)


def names_in(declared: FieldType) -> list[str]:
    """The structs and enumerations that a type names."""
    match declared:
        case StructOf(name) | EnumOf(name):
            return [name]
        case ListOf(item) | SetOf(item) | DictOf(item) | Nullable(item):
            return names_in(item)
        case UnionOf(options):
            return [name for option in options for name in names_in(option)]
        case _:
            return []
