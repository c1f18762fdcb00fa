"""The bytes of a commit log's segment: a header, then blocks of payloads, then an end mark.

    header   magic, number of the segment, id of the run that wrote it, checksum
    block    checksum, length, then for each payload its length and its bytes
    end      checksum, END: nothing was lost between here and the next segment

Segments are written into files that were used before, so whatever stands behind the last block is old. A checksum
therefore covers the number, the run and the place too: a block is only what it claims to be where it was written, by
whom it was written. The first block that is not whole ends the segment.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

MAGIC = b"ENTLOG1\n"
_HEADER = struct.Struct("<8sQQI")
_BLOCK = struct.Struct("<II")
_PLACE = struct.Struct("<QQQ")
_LENGTH = struct.Struct("<I")
_END = 0xFFFFFFFF

HEADER_BYTES = _HEADER.size
BLOCK_BYTES = _BLOCK.size
"""What stands before the payloads of a block; an end mark is as long."""

MAX_PAYLOAD_BYTES = 1 << 30

length_prefix = _LENGTH.pack
"""The four bytes that stand before a payload in its block."""

PREFIX_BYTES = _LENGTH.size


@dataclass(frozen=True, slots=True)
class SegmentName:
    """Which segment a file holds.

    Attributes:
        number: Segments of a log are numbered upwards.
        run: Random id of the time between a start and a stop, or a failure, in which it was written.
    """

    number: int
    run: int


def encode_header(name: SegmentName) -> bytes:
    """The first bytes of a segment."""
    checked = _HEADER.pack(MAGIC, name.number, name.run, 0)[:-4]
    return checked + _LENGTH.pack(crc32(checked))


def encode_block(name: SegmentName, offset: int, content: bytes) -> bytes:
    """A block for a place in a segment.

    Args:
        name: The segment.
        offset: Where the block will begin, in bytes from the start of the file.
        content: Payloads, each behind its `length_prefix`.
    """
    return _BLOCK.pack(crc32(content, _seed(name, offset)), len(content)) + content


def encode_end(name: SegmentName, offset: int) -> bytes:
    """The mark behind the last block of a segment that was filled or closed in good order."""
    return _BLOCK.pack(_seed(name, offset), _END)


def read_header(data: bytes | memoryview) -> SegmentName | None:
    """Which segment the bytes of a file are; `None` for a file that was never begun."""
    if len(data) < HEADER_BYTES:
        return None
    magic, number, run, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC or crc32(data[: HEADER_BYTES - 4]) != checksum:
        return None
    return SegmentName(number, run)


class SegmentReader:
    """The payloads of one segment, in the order in which they were appended; iterate over it once.

    Attributes:
        offset: Where reading has come to.
        is_complete: Whether the end mark was found.
    """

    def __init__(self, name: SegmentName, data: bytes | memoryview) -> None:
        self._name = name
        self._data = memoryview(data)
        self.offset = HEADER_BYTES
        self.is_complete = False

    def __iter__(self) -> Iterator[bytes]:
        while (block := self._next_block()) is not None:
            start = 0
            while start < len(block):
                (length,) = _LENGTH.unpack_from(block, start)
                start += PREFIX_BYTES
                yield bytes(block[start : start + length])
                start += length

    def _next_block(self) -> memoryview | None:
        data, offset = self._data, self.offset
        if offset + BLOCK_BYTES > len(data):
            return None
        checksum, length = _BLOCK.unpack_from(data, offset)
        if length == _END:
            self.is_complete = checksum == _seed(self._name, offset)
            return None
        block = data[offset + BLOCK_BYTES : offset + BLOCK_BYTES + length]
        if length == 0 or len(block) < length or crc32(block, _seed(self._name, offset)) != checksum:
            return None
        self.offset = offset + BLOCK_BYTES + length
        return block


def _seed(name: SegmentName, offset: int) -> int:
    return crc32(_PLACE.pack(name.number, name.run, offset))
