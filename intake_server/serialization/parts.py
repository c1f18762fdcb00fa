"""Encoded data as a list of buffers: nothing is joined, so nothing is ever in memory twice (protocol §4.3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgpack

LARGEST_BIN = 2**32 - 1


class TooLarge(Exception):  # noqa: N818 - answered as 413
    """A partition is larger than one answer can be."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the partition has {size} bytes encoded, the limit is {limit}")


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Bytes in pieces.

    Attributes:
        buffers: The pieces in order; each keeps what it views alive.
        size: Their length together, in bytes.
    """

    buffers: tuple[memoryview, ...]
    size: int

    @classmethod
    def of(cls, pieces: Iterable[Any]) -> Parts:
        """Collect pieces that offer the buffer protocol, as bytes; empty ones are dropped."""
        buffers = tuple(view for piece in pieces if (view := _bytes_view(piece)).nbytes)
        return cls(buffers, sum(view.nbytes for view in buffers))

    def joined(self) -> bytes:
        """All pieces as one; a copy."""
        return b"".join(self.buffers)


def _bytes_view(piece: Any) -> memoryview:
    view = memoryview(piece)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def bin_header(size: int) -> bytes:
    """The MessagePack header of a ``bin`` of `size` bytes."""
    if size < 2**8:
        return b"\xc4" + size.to_bytes(1, "big")
    if size < 2**16:
        return b"\xc5" + size.to_bytes(2, "big")
    return b"\xc6" + size.to_bytes(4, "big")


def envelope(data: Parts, *, format_name: str, compression: str, container: str, limit: int = LARGEST_BIN) -> Parts:
    """The answer to a read (§3.4): a map of ``format, compression, container, data`` around encoded data.

    Raises:
        TooLarge: The data do not fit one answer.
    """
    limit = min(limit, LARGEST_BIN)
    if data.size > limit:
        raise TooLarge(data.size, limit)
    head = msgpack.packb({"format": format_name, "compression": compression, "container": container})
    header = b"\x84" + head[1:] + b"\xa4data" + bin_header(data.size)
    return Parts((memoryview(header), *data.buffers), len(header) + data.size)


class Sink:
    """A binary file that is written from its beginning to its end, and cannot be read."""

    closed = False

    def write(self, piece: Any, /) -> int:
        """Take the next bytes; how many they were."""
        raise NotImplementedError

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Whoever made it ends it."""

    def writable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is not."""
        return False

    def seekable(self) -> bool:
        """It is not."""
        return False
