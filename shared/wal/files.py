"""The files behind a commit log: the one that is written, those that wait for their turn, those that had it.

Everything here blocks. Files are made in a thread of their own before they are needed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import structlog

from shared.wal.manifest import Manifest, sync_folder
from shared.wal.recovery import segment_numbers, segment_path
from shared.wal.segments import Piece

log = structlog.get_logger("shared.wal.log")


class SegmentFiles:
    """The files of one log."""

    def __init__(self, folder: Path, segment_bytes: int, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._segment_bytes = segment_bytes
        self._descriptor = -1
        self._path = folder
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"log-files-{folder.name}")
        self._next: Future[None] | None = None
        for left in (folder / "next", folder / "spare"):
            if left.exists() and left.stat().st_size != segment_bytes:
                left.unlink()

    def write(self, pieces: Sequence[Piece]) -> None:
        """Write and sync pieces, one segment after the other.

        Raises:
            OSError: Nothing is known to be on the disk.
        """
        joined: list[bytes] = []
        offset = begun = 0
        for piece in pieces:
            if piece.begins_segment:
                self._write_synced(joined, offset)
                begun = piece.name.number
                self.begin(segment_path(self._folder, begun))
                joined = []
            if not joined:
                offset = piece.offset
            joined.append(piece.data)
        self._write_synced(joined, offset)
        if begun:
            self._manifest.record(newest=begun)

    def _write_synced(self, parts: Sequence[bytes], offset: int) -> None:
        if not parts:
            return
        if self.is_deleted:
            raise FileNotFoundError(errno.ENOENT, "a file of the log was deleted", str(self._path))
        _write_durably(self._descriptor, parts[0] if len(parts) == 1 else b"".join(parts), offset)

    @property
    def is_deleted(self) -> bool:
        """Whether the file that is being written was deleted: then nothing that is written there lasts."""
        return self._descriptor >= 0 and not os.fstat(self._descriptor).st_nlink

    def prepare(self) -> None:
        """Have the next file ready soon, so that whoever writes first need not wait for it."""
        if self._next is None:
            self._next = self._pool.submit(self.make_next)

    def begin(self, path: Path) -> None:
        """Go on in the file of another segment."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.prepare()
        assert self._next is not None
        prepared, self._next = self._next, None
        try:
            prepared.result()
        except OSError:  # that may have been long ago: the disk may have room again
            self._pool.submit(self.make_next).result()
        (self._folder / "next").rename(path)
        sync_folder(self._folder)
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._next = self._pool.submit(self.make_next)

    def make_next(self) -> None:
        """Make a file of the full size whose blocks are written, so that syncing writes nothing but data."""
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

    def release(self, before: int) -> None:
        """Use the files of all segments with lower numbers again, or delete them, soon."""
        self._pool.submit(self._let_go, before)

    def idle(self) -> Future[None]:
        """Done when the files of all segments that were released are let go of."""
        return self._pool.submit(lambda: None)

    def _let_go(self, before: int) -> None:
        try:
            self._manifest.record(oldest=before)  # from now on nobody misses them
            for number in segment_numbers(self._folder):
                if number < before:
                    self._reuse(segment_path(self._folder, number))
            sync_folder(self._folder)
        except OSError as error:  # they go with those that are released next
            log.error("released segments stay", folder=str(self._folder), reason=error.strerror)

    def _reuse(self, path: Path) -> None:
        spare = self._folder / "spare"
        if spare.exists() or path.stat().st_size != self._segment_bytes:
            path.unlink()
        else:
            path.rename(spare)

    def close(self) -> None:
        """Close the file that is being written."""
        self._pool.shutdown()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _write_durably(descriptor: int, data: bytes, offset: int) -> None:
    """Write bytes, and have them on the disk: with one system call, where the system has it.

    Raises:
        OSError: They may be there or not.
    """
    durably = getattr(os, "RWF_DSYNC", 0)
    if durably:
        try:
            _write_all(descriptor, data, offset, durably)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
        else:
            return
    _write_all(descriptor, data, offset, 0)
    os.fsync(descriptor)


def _write_all(descriptor: int, data: bytes, offset: int, flags: int) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwritev(descriptor, [rest], offset, flags)
        rest, offset = rest[count:], offset + count
