"""Exports that were made as a whole, in files without a name: nothing is left behind, however the process ends."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from intake_server.concurrency.cache import LruCache
from intake_server.serialization.parts import Sink


class ExportFile:
    """A byte string in a file.

    Args:
        opened: The file, opened for reading.
        size: Its length in bytes.
    """

    def __init__(self, opened: IO[bytes], size: int) -> None:
        self._opened = opened
        self.size = size

    @classmethod
    def of(cls, path: str) -> ExportFile:
        """An existing file, as it is now.

        Raises:
            OSError: It cannot be opened.
        """
        opened = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed when nobody needs it any more
        return cls(opened, os.fstat(opened.fileno()).st_size)

    def read(self, start: int, length: int) -> bytes:
        """A part of the bytes; blocks. Fewer than `length` when the file was cut short meanwhile."""
        return os.pread(self._opened.fileno(), length, start)


class FullError(Exception):
    """An export is larger than all exports may be together."""


class UnwantedError(Exception):
    """Whoever waited for an export has gone away."""


class LimitedFile(Sink):
    """A file that refuses to grow beyond a limit, or when nobody wants it."""

    def __init__(self, file: IO[bytes], limit: int, is_wanted: Callable[[], bool]) -> None:
        self._file = file
        self._is_wanted = is_wanted
        self._limit = limit
        self.size = 0

    def write(self, data: Any, /) -> int:
        length = memoryview(data).nbytes
        self.size += length
        if self.size > self._limit:
            raise FullError
        self.check()
        self._file.write(data)
        return length

    def check(self) -> None:
        """Raise `UnwantedError` when nobody waits for the file any more."""
        if not self._is_wanted():
            raise UnwantedError

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()


class ExportFiles:
    """Makes exports, and caches those used last.

    Args:
        limit: The most bytes on disk, of one export and of all together.
        idle_s: How long an export is cached unused, in seconds.
        clock: Seconds, for idleness.
    """

    def __init__(self, limit: int, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self.cache = LruCache[ExportFile](most_bytes=limit, largest=limit, idle_s=idle_s, clock=clock)

    def make(self, write: Callable[[LimitedFile], None], is_wanted: Callable[[], bool] = lambda: True) -> ExportFile:
        """Write an export into a new file; blocks.

        Args:
            write: Writes it.
            is_wanted: Whether anybody still waits for it; asked at every write.

        Raises:
            FullError: It is too large.
            UnwantedError: Nobody waits for it any more.
            OSError: The disk is full or broken.
        """
        opened = tempfile.TemporaryFile(prefix="intake_server-export-")  # noqa: SIM115 - it outlives this call
        limited = LimitedFile(opened, self._limit, is_wanted)
        try:
            write(limited)
            opened.flush()
        except BaseException:
            opened.close()
            raise
        return ExportFile(opened, limited.size)
