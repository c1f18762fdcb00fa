"""Parts of a stable byte string: the ``Range`` header, and when a client's copy is still good (RFC 9110 §13, §14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BYTES = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)
_MAX_DIGITS = 18


class Unsatisfiable(Exception):  # noqa: N818 - answered as 416
    """The range begins behind the end."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a byte string.

    Attributes:
        start: The first byte.
        stop: The first byte that is not part of it any more.
    """

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def wanted(header: str | None, size: int) -> ByteRange | None:
    """The part that a ``Range`` header asks for; None for the whole.

    A header that cannot be understood, or asks for several parts, is ignored, as the standard allows.

    Raises:
        Unsatisfiable: There is no such part.
    """
    found = _BYTES.fullmatch(header.strip()) if header else None
    if found is None or not (found[1] or found[2]) or max(len(found[1]), len(found[2])) > _MAX_DIGITS:
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        if length == 0:
            raise Unsatisfiable
        return ByteRange(size - length, size)
    start, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if last < start and found[2]:
        return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, min(last + 1, size))


def names_tag(header: str | None, etag: str) -> bool:
    """Whether an ``If-None-Match`` header names an entity tag."""
    if header is None:
        return False
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(","))


def range_applies(if_range: str | None, etag: str) -> bool:
    """Whether a range may be sent to a client that says which version it has a part of."""
    return if_range is None or if_range.strip() == etag
