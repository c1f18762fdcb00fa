"""The bytes of a commit log's segment: a header, then blocks of payloads, then an end mark.

    header   magic, number, id of the run, the segment before and where that ends, size of the file, checksum
    block    mark, checksum, length, then for each payload its length and its bytes
    end      mark, checksum, END: the segment was filled, or the log closed

Segments are written into files that were used before, so whatever stands behind the last block is old. A checksum
therefore covers the number, the run and the place too: a block is only what it claims to be where it was written, by
whom it was written. The mark is the same for all blocks of a segment and differs from segment to segment, so that the
next whole block behind a damaged one is found without looking at every byte.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

MAGIC = b"ENTLOG2\n"
_HEADER = struct.Struct("<8sQQQQQI")
_BLOCK = struct.Struct("<III")
_NAME = struct.Struct("<QQ")
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


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a log.

    Attributes:
        segment: Number of the segment; 0 for the place before the first one.
        offset: In bytes from the start of its file.
    """

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What the first bytes of a segment say.

    Attributes:
        name: Which segment it is.
        continues: Where the log ended when the segment was begun: everything acknowledged stands before this place.
        size_bytes: Size of the file when it was begun; it is never shorter.
    """

    name: SegmentName
    continues: Place
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes for one place in one segment; the first of a segment begins with its header."""

    name: SegmentName
    offset: int
    data: bytes

    @property
    def begins_segment(self) -> bool:
        """Whether a file must be begun for it."""
        return self.offset == 0


def encode_header(header: SegmentHeader) -> bytes:
    """The first bytes of a segment."""
    name, continues = header.name, header.continues
    checked = _HEADER.pack(MAGIC, name.number, name.run, continues.segment, continues.offset, header.size_bytes, 0)[:-4]
    return checked + _LENGTH.pack(crc32(checked))


def encode_block(name: SegmentName, offset: int, content: bytes) -> bytes:
    """A block for a place in a segment.

    Args:
        name: The segment.
        offset: Where the block will begin, in bytes from the start of the file.
        content: Payloads, each behind its `length_prefix`.
    """
    return _BLOCK.pack(_mark(name), crc32(content, _seed(name, offset)), len(content)) + content


def encode_end(name: SegmentName, offset: int) -> bytes:
    """The mark behind the last block of a segment that was filled or closed in good order."""
    return _BLOCK.pack(_mark(name), _seed(name, offset), _END)


def read_header(data: bytes | memoryview) -> SegmentHeader | None:
    """What the bytes of a file say that they are; `None` for a file that was never begun, or is damaged."""
    if len(data) < HEADER_BYTES:
        return None
    magic, number, run, segment, offset, size_bytes, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC or crc32(data[: HEADER_BYTES - 4]) != checksum:
        return None
    return SegmentHeader(SegmentName(number, run), Place(segment, offset), size_bytes)


class SegmentReader:
    """The payloads of one segment, in the order in which they were appended.

    Iterating ends at the first block that is not whole; after `skip_damage` it goes on behind it.

    Attributes:
        offset: Where reading has come to.
        is_complete: Whether the end mark was found.
    """

    def __init__(self, name: SegmentName, data: bytes, end: int | None = None) -> None:
        """
        Args:
            name: The segment.
            data: Its file.
            end: Where it ends, when that is known.
        """
        self._name = name
        self._data = data if end is None else data[:end]
        self._view = memoryview(self._data)
        self._mark = _LENGTH.pack(_mark(name))
        self.offset = HEADER_BYTES
        self.is_complete = False

    def __iter__(self) -> Iterator[bytes]:
        while (block := self._block(self.offset)) is not None:
            self.offset += BLOCK_BYTES + len(block)
            start = 0
            while start < len(block):
                (length,) = _LENGTH.unpack_from(block, start)
                start += PREFIX_BYTES
                yield bytes(block[start : start + length])
                start += length
        self.is_complete = self._is_end(self.offset)

    @property
    def is_torn(self) -> bool:
        """Whether a block was begun where reading has come to."""
        return not self.is_complete and self._data.startswith(self._mark, self.offset)

    def skip_damage(self) -> int | None:
        """Go on at the next whole block, or at the end mark, behind what is not whole.

        Each write is durable before the next one begins, so what is followed by something whole was damaged later.

        Returns:
            How many bytes were left out; `None` when nothing whole follows.
        """
        place = self.offset
        while (place := self._data.find(self._mark, place + 1)) >= 0:
            if self._is_end(place) or self._block(place) is not None:
                skipped, self.offset = place - self.offset, place
                return skipped
        return None

    def _block(self, offset: int) -> memoryview | None:
        if offset + BLOCK_BYTES > len(self._data) or not self._data.startswith(self._mark, offset):
            return None
        _, checksum, length = _BLOCK.unpack_from(self._data, offset)
        block = self._view[offset + BLOCK_BYTES : offset + BLOCK_BYTES + length]
        if length in (0, _END) or len(block) < length or crc32(block, _seed(self._name, offset)) != checksum:
            return None
        return block

    def _is_end(self, offset: int) -> bool:
        return self._data.startswith(encode_end(self._name, offset), offset)


def _mark(name: SegmentName) -> int:
    return crc32(_NAME.pack(name.number, name.run))


def _seed(name: SegmentName, offset: int) -> int:
    return crc32(_PLACE.pack(name.number, name.run, offset))
