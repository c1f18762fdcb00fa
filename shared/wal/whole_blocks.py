"""Bytes for any place of a file as the whole, aligned blocks that direct writes are made of.

A file that grows at its end begins each write with the bytes that its last block has already, and fills the new last
block with zeros. Bytes that were on the disk before are written again as they are, so a write that is torn by a loss of
power leaves them whole: disks write sectors, and these are not longer than a block.
"""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass

ALIGNMENT = 4096
"""What direct writes are multiples of, in memory and on the disk, whatever the file system; in bytes."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """What is to be written.

    Attributes:
        memory: The bytes, as they are until the next ones are staged.
        address: Where these are in memory, as the kernel counts.
        length: How many, a multiple of `ALIGNMENT`.
        offset: Where they go in the file, a multiple of `ALIGNMENT`.
    """

    memory: memoryview
    address: int
    length: int
    offset: int


class BlockStage:
    """Where what is appended to a file is made into blocks, one write after the other.

    Args:
        capacity: The most that is appended at once, in bytes.
    """

    def __init__(self, capacity: int) -> None:
        self._map = mmap.mmap(-1, -(-capacity // ALIGNMENT) * ALIGNMENT + ALIGNMENT)
        self._memory = memoryview(self._map)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._begin = self._end = self._held = 0

    def stage(self, data: bytes, offset: int) -> Blocks:
        """The blocks with which a file gets bytes; what was staged before is on the disk, or given up.

        Args:
            data: At most `capacity` bytes.
            offset: Where they go: at the start of a file, behind what was staged last, or where that went.
        """
        assert offset in (0, self._begin, self._end), "a file is written from its start to its end"
        memory, kept = self._map, offset % ALIGNMENT
        if offset == self._end:
            memory[:kept] = memory[self._held : self._held + kept]
        filled = kept + len(data)
        length = -(-filled // ALIGNMENT) * ALIGNMENT
        memory[kept:length] = data.ljust(length - kept, b"\0")
        self._begin, self._end = offset, offset + len(data)
        self._held = filled - filled % ALIGNMENT
        return Blocks(self._memory[:length], self._address, length, offset - kept)
