"""The end of a log: where the next payload goes, and what is not written yet.

Decides which payloads share a block, and when a segment is full. Pure: somebody else writes the pieces.
"""

from __future__ import annotations

import secrets

from shared.wal.segments import (
    BLOCK_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    PREFIX_BYTES,
    Piece,
    Place,
    SegmentHeader,
    SegmentName,
    encode_block,
    encode_end,
    encode_header,
    length_prefix,
)


class LogTail:
    """The end of one log: `begin_run`, then `add` payloads and `take` what they have become.

    Args:
        segment_bytes: Size of a segment, unless one payload needs more.
        sizes: The segments in use before, by number, with the sizes of their files in bytes.
        newest: The highest number that a segment ever had.

    Attributes:
        sizes: The segments in use. Whoever releases one takes it out.
    """

    def __init__(self, segment_bytes: int, sizes: dict[int, int], newest: int) -> None:
        self.sizes = sizes
        self._segment_bytes = segment_bytes
        self._run = 0
        self._name = SegmentName(newest, 0)
        self._offset = 0
        self._content: list[bytes] = []
        self._content_bytes = 0
        self._pieces: list[Piece] = []

    @property
    def segment(self) -> int:
        """Number of the segment that the next payload goes to, unless that is full."""
        return self._name.number

    @property
    def first_pending(self) -> int:
        """Number of the first segment that has something to be taken, or that the next payload goes to."""
        return self._pieces[0].name.number if self._pieces else self._name.number

    @property
    def is_empty(self) -> bool:
        """Whether the present segment has no payload."""
        return self._offset <= HEADER_BYTES

    @property
    def end(self) -> Place:
        """Where the log ends when all that was taken is written."""
        return Place(self._name.number, self._offset)

    def begin_run(self, continues: Place) -> None:
        """Go on in a new segment, under a new random id; what was added and not taken is dropped.

        Args:
            continues: Where the log ends for certain.
        """
        self._pieces.clear()
        self._content.clear()
        self._content_bytes = 0
        self._run = secrets.randbits(63)
        self._begin_segment(continues)

    def add(self, payload: bytes) -> int:
        """Add a payload; the number of its segment.

        Raises:
            ValueError: The payload is too large.
        """
        size = PREFIX_BYTES + len(payload)
        if size > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a payload of {len(payload)} bytes is larger than a log takes")
        end = self._offset + BLOCK_BYTES + self._content_bytes + size + BLOCK_BYTES
        if end > self._segment_bytes and self._offset + self._content_bytes > HEADER_BYTES:
            self._end_block()
            self._pieces.append(self.end_mark())
            self._begin_segment(self.end)
        self._content += (length_prefix(len(payload)), payload)
        self._content_bytes += size
        return self._name.number

    def take(self) -> tuple[list[Piece], Place]:
        """What is to be written, and where the log ends then."""
        self._end_block()
        pieces, self._pieces = self._pieces, []
        return pieces, self.end

    def end_mark(self) -> Piece:
        """The mark that says that the segment was closed in good order."""
        return Piece(self._name, self._offset, encode_end(self._name, self._offset))

    def _begin_segment(self, continues: Place) -> None:
        self._name = SegmentName(self._name.number + 1, self._run)
        self.sizes[self._name.number] = self._segment_bytes
        self._offset = HEADER_BYTES
        header = SegmentHeader(self._name, continues, self._segment_bytes)
        self._pieces.append(Piece(self._name, 0, encode_header(header)))

    def _end_block(self) -> None:
        if not self._content:
            return
        block = encode_block(self._name, self._offset, b"".join(self._content))
        self._pieces.append(Piece(self._name, self._offset, block))
        self._offset += len(block)
        self.sizes[self._name.number] = max(self._segment_bytes, self._offset + BLOCK_BYTES)
        self._content.clear()
        self._content_bytes = 0
