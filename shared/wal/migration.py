"""Takes over a commit log of the first format, which had no manifest and segments that said nothing of one another.

    header   magic, number of the segment, id of the run that wrote it, checksum
    block    checksum, length, then for each payload its length and its bytes
    end      checksum, END: nothing was lost between here and the next segment

Everything is read and checked before anything is written. Then the manifest is written, and every segment becomes one
of today's format with the same number and the same payloads, each in one step: whatever interrupts that, the next
start goes on with it. What the first format cannot show is not noticed here either: a block that was damaged in the
last segment of a run looks like the end of what was written.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import structlog

from shared.errors import StartupError
from shared.wal.manifest import Extent, Manifest, sync_folder
from shared.wal.segments import (
    BLOCK_BYTES,
    HEADER_BYTES,
    Place,
    SegmentHeader,
    SegmentName,
    SegmentReader,
    encode_block,
    encode_end,
    encode_header,
    read_header,
)

log = structlog.get_logger("shared.wal.log")

MAGIC = b"ENTLOG1\n"
_HEADER = struct.Struct("<8sQQI")
_BLOCK = struct.Struct("<II")
_NAME_AND_PLACE = struct.Struct("<QQQ")
_CHECKSUM = struct.Struct("<I")
_END = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Read:
    """What is needed of a segment for the one behind it.

    Attributes:
        name: Which one it is.
        is_complete: Whether its end mark was found.
        end: Where its blocks end in today's format.
    """

    name: SegmentName
    is_complete: bool
    end: int


def begins_as_first_format(path: Path) -> bool:
    """Whether a file is a segment of the first format, or was about to become one.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    return head.startswith(MAGIC) or head == bytes(_HEADER.size)


def has_first_format(paths: Sequence[Path], extent: Extent) -> bool:
    """Whether some segments of a log are still of the first format.

    Raises:
        OSError: One cannot be read.
    """
    for path in paths:
        with path.open("rb") as file:
            name = _name(file.read(_HEADER.size), path)
        if name is not None and extent.oldest <= name.number <= extent.newest:
            return True
    return False


def take_over(paths: Sequence[Path], manifest_path: Path, *, accepts_loss: bool) -> Manifest:
    """Make a log of the first format one of today's. Blocks.

    Args:
        paths: The files of its segments, oldest first.
        manifest_path: Where its manifest is to be.
        accepts_loss: Go on without what is missing or damaged; `LogReader` reports it.

    Raises:
        StartupError: Acknowledged payloads are lost, and that is not accepted; nothing was changed.
        OSError: A file cannot be read or written.
    """
    known = {name.number: path for path in paths if (name := _present(path)) is not None}
    before: _Read | None = None
    for path in known.values():
        read = _read(path.read_bytes(), path)
        if not accepts_loss and (what := _loss(before, read)):
            raise StartupError(
                f"{manifest_path.parent}: {what}, and acknowledged writes in it are lost: restore the file, "
                "or give --accept-loss to go on without them"
            )
        before = read
    manifest = Manifest.read(manifest_path) if manifest_path.exists() else None
    if manifest is None:
        manifest = Manifest.create(manifest_path, oldest=min(known, default=1), newest=max(known, default=0))
    before = None
    for path in known.values():
        before = _rewrite(path, before)
    sync_folder(manifest_path.parent)
    log.info("log of an earlier release taken over", folder=str(manifest_path.parent), segments=len(known))
    return manifest


def _loss(before: _Read | None, read: _Read) -> str:
    """What is lost between two segments that follow each other, if anything."""
    if before is None or before.name.run != read.name.run:
        return ""  # a run ends where it was killed, or where a write failed
    if before.name.number != read.name.number - 1:
        return f"{before.name.number + 1:08d}.log is missing or has a damaged header"
    return "" if before.is_complete else f"{before.name.number:08d}.log is damaged behind byte {before.end}"


def _rewrite(path: Path, before: _Read | None) -> _Read:
    data = path.read_bytes()
    read = _read(data, path)
    if not data.startswith(MAGIC):
        return read  # an earlier start came this far
    header = encode_header(SegmentHeader(read.name, _continues(before, read), read.end))
    temporary = path.with_suffix(".taken")
    with temporary.open("wb") as file:
        file.write(header)
        offset = HEADER_BYTES
        for content in _Blocks(read.name, data):
            offset += file.write(encode_block(read.name, offset, content))
        if read.is_complete:
            file.write(encode_end(read.name, offset))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return read


def _continues(before: _Read | None, read: _Read) -> Place:
    """Where the log ended when a segment was begun; a place behind what is there, when something is lost."""
    if before is None:
        return Place(read.name.number - 1, 0)
    if before.name.run == read.name.run and before.name.number != read.name.number - 1:
        return Place(read.name.number - 1, 0)
    return Place(before.name.number, before.end + (BLOCK_BYTES if _loss(before, read) else 0))


def _read(data: bytes, path: Path) -> _Read:
    name = _name(data, path)
    if name is not None:
        blocks = _Blocks(name, data)
        end = HEADER_BYTES + sum(BLOCK_BYTES + len(content) for content in blocks)
        return _Read(name, blocks.is_complete, end)
    header = read_header(data)
    assert header is not None, "it was seen to be one of the two"
    reader = SegmentReader(header.name, data)
    for _payload in reader:
        pass
    return _Read(header.name, reader.is_complete, reader.offset)


def _present(path: Path) -> SegmentName | None:
    """Which segment a file is, in either format; `None` for one that was about to be begun."""
    with path.open("rb") as file:
        head = file.read(max(HEADER_BYTES, _HEADER.size))
    header = read_header(head)
    if header is not None and path.stem == f"{header.name.number:08d}":
        return header.name
    return _name(head, path)


def _name(data: bytes, path: Path) -> SegmentName | None:
    """Which segment of the first format a file is, if it is one."""
    if len(data) < _HEADER.size:
        return None
    magic, number, run, checksum = _HEADER.unpack_from(data)
    if magic != MAGIC or crc32(data[: _HEADER.size - _CHECKSUM.size]) != checksum or path.stem != f"{number:08d}":
        return None
    return SegmentName(number, run)


class _Blocks:
    """The blocks of a segment of the first format; iterate over it once.

    Attributes:
        is_complete: Whether the end mark was found.
    """

    def __init__(self, name: SegmentName, data: bytes) -> None:
        self._name = name
        self._data = data
        self.is_complete = False

    def __iter__(self) -> Iterator[bytes]:
        offset, view = _HEADER.size, memoryview(self._data)
        while offset + _BLOCK.size <= len(view):
            checksum, length = _BLOCK.unpack_from(view, offset)
            seed = crc32(_NAME_AND_PLACE.pack(self._name.number, self._name.run, offset))
            if length == _END:
                self.is_complete = checksum == seed
                return
            content = view[offset + _BLOCK.size : offset + _BLOCK.size + length]
            if length == 0 or len(content) < length or crc32(content, seed) != checksum:
                return
            yield bytes(content)
            offset += _BLOCK.size + length
