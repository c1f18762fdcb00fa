"""Text that a caller sent, recognisable inside whatever a template makes of it (protocol §9.5).

Every character of a caller's text is moved into a private plane of Unicode before a template sees it, and moved back
once it is known where it landed. An operation that this module does not know leaves the characters where they are, so
that text of a caller is never taken for text of the catalog's author.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_PLANE = 0xF0000
_PRIVATE = re.compile("[\U000f0000-\U0010ffff]")
_FOREIGN = re.compile("[\U00010000-\U0010ffff]")


class _Moved(dict[int, int]):
    """A translation table of all characters of a plane, filled as they are met."""

    def __init__(self, first: int, to: int) -> None:
        super().__init__()
        self._first, self._offset = first, to - first

    def __missing__(self, code: int) -> int:
        moved = code + self._offset if self._first <= code < self._first + 0x10000 else code
        self[code] = moved
        return moved


_INTO_PRIVATE, _BACK = _Moved(0, _PLANE), _Moved(_PLANE, 0)


def _in_private(text: str) -> str:
    return str.__str__(text).translate(_INTO_PRIVATE)


def has_private(text: str) -> bool:
    """Whether a text already has characters of the planes that are used for marking."""
    return _PRIVATE.search(text) is not None


def is_marked(text: str) -> bool:
    """Whether any character of a rendered text is a caller's; those beyond the first plane always count as theirs."""
    return _FOREIGN.search(text) is not None


def holds_marked(value: Any) -> bool:
    """Whether any text in a value, at any depth, has a caller's characters."""
    if isinstance(value, str):
        return is_marked(value)
    if isinstance(value, Mapping):
        return any(holds_marked(item) for pair in value.items() for item in pair)
    return isinstance(value, (list, tuple, set)) and any(map(holds_marked, value))


def marks(text: str) -> list[bool]:
    """For each character of a rendered text whether it is a caller's."""
    return [character >= "\U00010000" for character in str.__str__(text)]


def marked(value: Any) -> Any:
    """A caller's value with every text in it marked, at any depth."""
    return _with_texts(value, lambda text: CallerText(_in_private(text)))


def unmarked(value: Any) -> Any:
    """A value with every text in it as it was sent, at any depth."""
    return _with_texts(value, _as_sent)


def _as_sent(marked_text: str) -> str:
    text = str.__str__(marked_text)
    return text if text.isascii() else text.translate(_BACK)


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A value with every text in it changed, at any depth."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_with_texts(key, change): _with_texts(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(_with_texts(item, change) for item in value)
    return value


def as_caller_text(text: str) -> str:
    """A text that an operation made, as a caller's if any of it is."""
    return CallerText(text) if is_marked(text) and not isinstance(text, CallerText) else text


class CallerText(str):
    """Marked text. Templates compare, search and change what the caller sent; what they make of it stays marked."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return unmarked(self) == unmarked(other) if isinstance(other, str) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return unmarked(self) != unmarked(other) if isinstance(other, str) else NotImplemented

    def __lt__(self, other: str) -> bool:
        return bool(unmarked(self) < unmarked(other))

    def __le__(self, other: str) -> bool:
        return bool(unmarked(self) <= unmarked(other))

    def __gt__(self, other: str) -> bool:
        return bool(unmarked(self) > unmarked(other))

    def __ge__(self, other: str) -> bool:
        return bool(unmarked(self) >= unmarked(other))

    def __hash__(self) -> int:
        return hash(unmarked(self))

    def __contains__(self, part: object) -> bool:
        return unmarked(part) in unmarked(self)

    def __getitem__(self, where: Any) -> str:
        return as_caller_text(super().__getitem__(where))

    def __iter__(self) -> Iterator[str]:
        return (as_caller_text(character) for character in super().__iter__())

    def __add__(self, other: str) -> str:
        return as_caller_text(super().__add__(other))

    def __radd__(self, other: str) -> str:
        return as_caller_text(str.__str__(other) + str.__str__(self))

    def __int__(self) -> int:
        return int(unmarked(self))

    def __float__(self) -> float:
        return float(unmarked(self))

    def __repr__(self) -> str:
        shown = repr(unmarked(self))
        return shown[0] + _in_private(shown[1:-1]) + shown[-1]


def _on_what_was_sent(name: str) -> Any:
    method = getattr(str, name)

    def on_what_was_sent(self: CallerText, *arguments: Any, **named: Any) -> Any:
        return marked(method(unmarked(self), *map(unmarked, arguments), **named))

    on_what_was_sent.__name__ = name
    return on_what_was_sent


for _name in (
    *("capitalize", "casefold", "lower", "swapcase", "title", "upper", "zfill", "lstrip", "rstrip", "strip"),
    *("partition", "removeprefix", "removesuffix", "replace", "rpartition", "rsplit", "split", "splitlines"),
    *("count", "endswith", "find", "index", "rfind", "rindex", "startswith"),
    *("isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric", "isprintable"),
    *("isspace", "istitle", "isupper"),
):
    setattr(CallerText, _name, _on_what_was_sent(_name))
