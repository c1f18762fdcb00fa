"""How much memory the JSON of a request becomes as records, estimated before any of it is read.

Two characters, ``{}``, are a whole struct with an id, a time and every default, so the size of a text is no measure of
its memory. The estimate multiplies the number of each JSON mark by the most that it can allocate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.schema.field_types import DictOf, FieldType, ListOf, Nullable, SetOf, StructOf, UnionOf
from gateway.schema.invalid import InvalidInput, Location, error_item
from gateway.schema.record import encode
from gateway.schema.structs import StructSpec

TIMES: Final = 8
"""How many times the size of the largest body its records may take, but never less than `LEAST_BYTES`."""
LEAST_BYTES: Final = 2**20

LARGE: Final = 256
"""A text with more objects than this is read and ticked in slices of this size."""
_MANY_VALUES: Final = 64 * LARGE
_MANY_STRINGS: Final = 500_000

_OBJECT: Final = 1024
_ARRAY: Final = 88
_VALUE: Final = 64
_MEMBER: Final = 200
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_MARKS: Final = (b"{", b"[", b",", b":")


def is_large(text: bytes | str) -> bool:
    """Whether a text may hold so many structs that the event loop should run in between."""
    if len(text) < 3 * LARGE:
        return False
    marks = (b"{", b",") if isinstance(text, bytes) else ("{", ",")
    return text.count(marks[0]) > LARGE or text.count(marks[1]) > _MANY_VALUES  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The bound of one gateway.

    Attributes:
        most_bytes: What the records of one request may take.
        object_bytes: What one JSON object takes at most before its members are counted: a struct with all its defaults.
    """

    most_bytes: int
    object_bytes: int = _OBJECT

    @classmethod
    def of(cls, max_body: int, specs: Mapping[str, StructSpec]) -> MemoryLimit:
        """The bound for structs and the largest body."""
        defaults = max((_default_bytes(spec, specs, frozenset()) for spec in specs.values()), default=0)
        return cls(max(TIMES * max_body, LEAST_BYTES), _OBJECT + 2 * defaults)

    def check(self, text: bytes | str, loc: Location = ("body",)) -> None:
        """Reject a text whose records would take too much memory.

        Raises:
            InvalidInput: It would; the message gives the estimate and the limit.
        """
        if len(text) * self.object_bytes <= 2 * self.most_bytes:  # objects need two characters each
            return
        body = text.encode("utf-8", "replace") if isinstance(text, str) else text
        counts = [body.count(mark) for mark in _MARKS]
        if self._bytes(len(body), counts) > self.most_bytes and body.count(b'"') < 2 * _MANY_STRINGS:
            _take_out_strings(body, counts)
        size = self._bytes(len(body), counts)
        if size > self.most_bytes:
            message = (
                f"The structs of this request would take about {size} bytes of memory, and {self.most_bytes} are "
                "allowed: send fewer at a time"
            )
            raise InvalidInput([error_item("too_large", loc, message, None, {"max_bytes": self.most_bytes})])

    def _bytes(self, length: int, counts: list[int]) -> int:
        objects, arrays, values, members = counts
        return length + objects * self.object_bytes + arrays * _ARRAY + values * _VALUE + members * _MEMBER


def _take_out_strings(body: bytes, counts: list[int]) -> None:
    """Do not count marks inside of strings."""
    for found in _STRING.finditer(body):
        start, end = found.span()
        if end - start > 16:
            for at, mark in enumerate(_MARKS):
                counts[at] -= body.count(mark, start, end)


def _default_bytes(spec: StructSpec, specs: Mapping[str, StructSpec], inside: frozenset[str]) -> int:
    """How long a struct prints of which nothing was sent, at most."""
    size = 0
    for field in spec.fields:
        if field.has_default:
            default = encode(field.default)
            size += len(field.name) + len(default)
            nested = _struct_in(field.type)
            if nested is not None and nested not in inside:
                each = _default_bytes(specs[nested], specs, inside | {spec.name, nested})
                size += default.count(b"{") * each
    return size


def _struct_in(declared: FieldType) -> str | None:
    match declared:
        case StructOf(name):
            return name
        case Nullable(item) | ListOf(item) | SetOf(item) | DictOf(item):
            return _struct_in(item)
        case UnionOf(options):
            return next((found for option in options if (found := _struct_in(option))), None)
    return None
