"""The files behind a commit log: the one that is written, those that wait for their turn, those that had it.

Everything here blocks. Files are made in a thread of their own before they are needed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shared.log_segments import SegmentName


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


class SegmentFiles:
    """The files of one log.

    Attributes:
        descriptor: The file that is being written; -1 before the first.
    """

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self.descriptor = -1
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"log-files-{folder.name}")
        self._next: Future[None] | None = None
        for left in (folder / "next", folder / "spare"):
            if left.exists() and left.stat().st_size != segment_bytes:
                left.unlink()

    def write(self, pieces: Sequence[Piece], path_of: Callable[[int], Path]) -> None:
        """Write and sync pieces, one segment after the other.

        Raises:
            OSError: Nothing is known to be on the disk.
        """
        joined: list[bytes] = []
        offset = 0
        for piece in pieces:
            if piece.begins_segment:
                self._write_synced(joined, offset)
                self._begin(path_of(piece.name.number))
                joined = []
            if not joined:
                offset = piece.offset
            joined.append(piece.data)
        self._write_synced(joined, offset)

    def write_unsynced(self, piece: Piece) -> None:
        """Write a piece into the file that is being written, for somebody else to sync.

        Raises:
            OSError: It is not written.
        """
        _write_all(self.descriptor, piece.data, piece.offset)

    def _write_synced(self, parts: Sequence[bytes], offset: int) -> None:
        if not parts:
            return
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._write_at_once(data, offset):
            return
        _write_all(self.descriptor, data, offset)
        os.fsync(self.descriptor)

    def _write_at_once(self, data: bytes, offset: int) -> bool:
        """Write and sync with one system call, where the system has it: the thread must ask for its turn only once."""
        if not hasattr(os, "RWF_DSYNC"):
            return False
        try:
            return os.pwritev(self.descriptor, [data], offset, os.RWF_DSYNC) == len(data)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                return False
            raise

    def prepare(self) -> None:
        """Have the next file ready soon, so that whoever writes first need not wait for it."""
        if self._next is None:
            self._next = self._pool.submit(self._prepare)

    def _begin(self, path: Path) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self.prepare()
        assert self._next is not None
        prepared, self._next = self._next, None
        try:
            prepared.result()
        except OSError:  # that may have been long ago: the disk may have room again
            self._pool.submit(self._prepare).result()
        (self._folder / "next").rename(path)
        _sync_folder(self._folder)
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._next = self._pool.submit(self._prepare)

    def _prepare(self) -> None:
        """Have a file of the full size ready whose blocks are written, so that syncing writes nothing but data."""
        ready, spare = self._folder / "next", self._folder / "spare"
        if ready.exists() and ready.stat().st_size == self._segment_bytes:
            return
        if spare.exists():
            spare.rename(ready)
            return
        with ready.open("wb", buffering=0) as file:
            zeros = bytes(min(self._segment_bytes, 1 << 20))
            left = self._segment_bytes
            while left:
                count = file.write(zeros[:left])
                if not count:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                left -= count
            os.fsync(file.fileno())

    def release(self, path: Path) -> None:
        """Use a file again, or delete it; one after the other, so that after a crash only the younger come back."""
        self._pool.submit(self._let_go, path)

    def _let_go(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            spare = self._folder / "spare"
            if spare.exists() or path.stat().st_size != self._segment_bytes:
                path.unlink()
            else:
                path.rename(spare)
            _sync_folder(self._folder)

    def close(self) -> None:
        """Close the file that is being written."""
        self._pool.shutdown()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
