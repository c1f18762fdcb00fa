"""The thread that writes and syncs the pieces of a log, one batch at a time."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import structlog

from shared.wal.files import SegmentFiles
from shared.wal.segments import Piece

log = structlog.get_logger("shared.wal.log")


class SyncThread:
    """Writes for one log: `start`, then `submit` a batch whenever the one before is finished, then `close`.

    Args:
        files: The files of the log. The thread alone writes them between `submit` and `finished`.
        name: Of the log, for the name of the thread.
    """

    def __init__(self, files: SegmentFiles, name: str) -> None:
        self._files = files
        self._name = name
        self._batches: SimpleQueue[Sequence[Piece] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"log-{name}", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._finished: Callable[[OSError | None], None]

    def start(self, finished: Callable[[OSError | None], None]) -> None:
        """Begin to take batches.

        Args:
            finished: Called on the running loop when a batch is on the disk, or with what went wrong.
        """
        self._loop, self._finished = asyncio.get_running_loop(), finished
        self._thread.start()

    def submit(self, pieces: Sequence[Piece]) -> None:
        """Write and sync a batch."""
        self._batches.put(pieces)

    def _write(self, pieces: Sequence[Piece]) -> OSError | None:
        """Write and sync a batch; what went wrong. Blocks."""
        try:
            self._files.write(pieces)
        except OSError as error:
            return error
        except Exception as error:
            log.error("writing the log failed unexpectedly", log=self._name, exc_info=error)
            return OSError(errno.EIO, f"{type(error).__name__}: {error}")
        return None

    async def close(self, last: Sequence[Piece]) -> None:
        """Wait for the thread to end, and write what comes last."""
        self._batches.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        if last:
            await self._loop.run_in_executor(None, self._write, last)

    def _work(self) -> None:
        while (pieces := self._batches.get()) is not None:
            self._loop.call_soon_threadsafe(self._finished, self._write(pieces))
