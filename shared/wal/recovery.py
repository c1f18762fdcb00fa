"""Reads a commit log at start: every acknowledged payload, and what is missing or damaged.

Every segment says where the log ended when it was begun (`SegmentHeader.continues`), and the manifest says which
segments are the oldest and the newest. So each segment leads to the one before it, and is read to where it ended: a
file that is missing, a header that cannot be read, or a block before that place that is not whole, is a loss. Only
behind the last whole block of the newest segment something may be torn: a crash interrupted what was not acknowledged
yet. A segment that no other one continues was begun in vain, when a write had failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from shared.errors import StartupError
from shared.wal.manifest import Extent, Manifest
from shared.wal.migration import begins_as_first_format, has_first_format, take_over
from shared.wal.segments import HEADER_BYTES, Place, SegmentHeader, SegmentReader, read_header

log = structlog.get_logger("shared.wal.log")

OnLoss = Callable[[], None]
MANIFEST = "manifest"


class Segment(NamedTuple):
    """One segment that must be there.

    Attributes:
        number: Its number.
        header: What its file says; `None` when it is not there, or cannot be read.
        end: Where its last acknowledged block ends; `None` when nobody has written that down.
    """

    number: int
    header: SegmentHeader | None
    end: int | None


class LogReader:
    """Reads the payloads of a log, in the order in which they were appended; iterate over it once. Blocks.

    Attributes:
        end: Where the log ends; known when everything was read.
    """

    def __init__(self, folder: Path, extent: Extent, on_loss: OnLoss | None) -> None:
        """
        Args:
            folder: The folder of the log.
            extent: What its manifest says.
            on_loss: Accepts that something is lost, and is called between what was before and what comes behind;
                `None` accepts no loss.
        """
        self._folder = folder
        self._on_loss = on_loss
        self._segments = list(_chain(_headers(folder, extent), extent))
        self.end = Place(extent.newest, 0)

    @property
    def numbers(self) -> list[int]:
        """The numbers of the segments, in order."""
        return [segment.number for segment in self._segments]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """
        Raises:
            StartupError: A segment cannot be read, or something acknowledged is lost.
        """
        for segment in self._segments:
            path = segment_path(self._folder, segment.number)
            if segment.header is None:
                self._lose(path, "has a damaged header" if path.exists() else "is missing")
                self.end = Place(segment.number, 0)
                continue
            for payload in self._read(path, segment.header, segment.end):
                yield segment.number, payload

    def _read(self, path: Path, header: SegmentHeader, end: int | None) -> Iterator[bytes]:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StartupError(f"cannot read {path}: {error.strerror}") from error
        reader = SegmentReader(header.name, data, end)
        yield from reader
        while not reader.is_complete and reader.offset != end:
            start = reader.offset
            if reader.skip_damage() is None:
                break
            self._lose(path, f"is damaged between bytes {start} and {reader.offset}")
            yield from reader
        if end is not None and reader.offset < end:
            self._lose(path, f"is damaged between bytes {reader.offset} and {end}")
        elif end is None and not reader.is_complete:
            if len(data) < header.size_bytes:
                self._lose(path, f"is cut off at byte {len(data)} of {header.size_bytes}")
            elif reader.is_torn:
                log.warning("unacknowledged end of the log dropped", file=str(path), from_byte=reader.offset)
            else:
                log.info("the log was not closed in good order", file=str(path), ends_at_byte=reader.offset)
        self.end = Place(header.name.number, reader.offset if end is None else end)

    def _lose(self, path: Path, what: str) -> None:
        if self._on_loss is None:
            raise StartupError(
                f"{path} {what}, and acknowledged writes in it are lost: restore the file, "
                "or give --accept-loss to go on without them"
            )
        log.error("acknowledged writes are lost, and that was accepted", file=str(path), reason=what)
        self._on_loss()


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}.log"


def segment_numbers(folder: Path) -> list[int]:
    """The numbers of all segments that have a file, in order."""
    return sorted(int(path.stem) for path in folder.glob("*.log") if path.stem.isdigit())


def header_of(path: Path) -> SegmentHeader | None:
    """What the file of a segment says that it is; `None` when it is another one, or cannot be read."""
    try:
        with path.open("rb") as file:
            header = read_header(file.read(HEADER_BYTES))
    except OSError:
        return None
    return header if header is not None and path.stem == f"{header.name.number:08d}" else None


def has_log(folder: Path) -> bool:
    """Whether there is a log in a folder, or what is left of one."""
    return (folder / MANIFEST).exists() or bool(segment_numbers(folder))


def open_manifest(folder: Path, *, is_new: bool, accepts_loss: bool) -> Manifest:
    """The manifest of a log; a new one for a new log, and for one that has lost it when that is accepted.

    A log of an earlier release is taken over.

    Raises:
        StartupError: It is missing or damaged, or an earlier release has lost something, and that is not accepted.
        OSError: A file cannot be read or written.
    """
    path = folder / MANIFEST
    if is_new:
        return Manifest.create(path)
    segments = [segment_path(folder, number) for number in segment_numbers(folder)]
    manifest = Manifest.read(path) if path.exists() else None
    if manifest is not None and not has_first_format(segments, manifest.extent):
        return manifest
    if manifest is not None or (not path.exists() and all(map(begins_as_first_format, segments))):
        return take_over(segments, path, accepts_loss=accepts_loss)
    what = "is damaged" if path.exists() else "is missing"
    if not accepts_loss:
        raise StartupError(
            f"{path} {what}, so that nobody can tell whether acknowledged writes are lost: restore the file, "
            "or give --accept-loss to go on with the segments that are there"
        )
    log.error("the manifest of a log is lost, and that was accepted", file=str(path), reason=what)
    numbers = [int(segment.stem) for segment in segments if header_of(segment) is not None]
    return Manifest.create(path, oldest=min(numbers, default=1), newest=max(numbers, default=0))


def _headers(folder: Path, extent: Extent) -> dict[int, SegmentHeader]:
    found = {number: header_of(segment_path(folder, number)) for number in segment_numbers(folder)}
    return {number: header for number, header in found.items() if header is not None and number >= extent.oldest}


def _chain(headers: dict[int, SegmentHeader], extent: Extent) -> Iterator[Segment]:
    """The segments that make up the log, oldest first."""
    newest = extent.newest
    while further := [number for number, header in headers.items() if header.continues.segment == newest < number]:
        newest = max(further)  # begun, and killed before the manifest had it
    number, end = newest, None
    segments = []
    while number >= extent.oldest:
        header = headers.get(number)
        segments.append(Segment(number, header, end))
        if header is not None:
            number, end = header.continues.segment, header.continues.offset
        else:  # go on with what is there before it
            number, end = max((other for other in headers if other < number), default=0), None
    return reversed(segments)
