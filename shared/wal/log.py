"""A log on disk that many append to and few wait long for: one write and one sync for all who come together.

What was appended is on the disk, also after a loss of power, when `done` is called. The file is written before it is
needed and used again afterwards, so that a sync has no metadata to write: on most disks that halves its time.

    00000007.log   segments in use, the last one being written
    manifest       which segments there are (`shared.wal.manifest`)
    next, spare    a file for the next segment, and one for the one after it
    lock           held by the process that has the log open

A log says nothing about its payloads. Whoever appends remembers the number of the segment that a payload went to, and
releases segments from the oldest on. After a crash everything that was ever acknowledged and not released is replayed,
or the start fails and says what is missing (`shared.wal.recovery`). The last payloads may be there although nobody was
notified, and the segments that were released last may come back, so replaying must not mind either.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from shared.errors import StartupError
from shared.wal.files import SegmentFiles
from shared.wal.manifest import Manifest
from shared.wal.recovery import LogReader, OnLoss, has_log, open_manifest, segment_numbers, segment_path
from shared.wal.segments import Place
from shared.wal.sync_thread import SyncThread
from shared.wal.tail import LogTail

log = structlog.get_logger("shared.wal.log")

SEGMENT_BYTES = 16 * 1024 * 1024

LARGE_BATCH = 4
ITERATIONS = 3
"""After a sync for so many callers, the next begins so many iterations of the event loop later: they come back with
more, and one sync for all of them costs less than two for halves of them. Without it, puts of 32 connections take a
fifth more of the processor, and there are a third fewer of them."""

Done = Callable[[OSError | None], None]


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is written and synced together: who waits for it, where it begins, and where the log ends then."""

    waiting: Sequence[Done]
    segment: int
    end: Place


class CommitLog:
    """A log in a folder of its own: `open`, `replay`, `start`, then `append` and `release`, then `close`.

    Attributes:
        is_new: Whether there was no log in the folder before.
        syncs: How often something was synced.
        has_failed: Whether the last write failed.
    """

    def __init__(
        self, folder: Path, lock: int, manifest: Manifest, *, segment_bytes: int, is_new: bool, accepts_loss: bool
    ) -> None:
        """For `open` alone."""
        extent, numbers = manifest.extent, segment_numbers(folder)
        self.is_new = is_new
        self._folder = folder
        self._lock = lock
        self._manifest = manifest
        self._accepts_loss = accepts_loss
        sizes = {number: segment_path(folder, number).stat().st_size for number in numbers}
        self._tail = LogTail(segment_bytes, sizes, max(extent.newest, extent.oldest - 1, *numbers))
        self._files = SegmentFiles(folder, segment_bytes, manifest)
        self._thread = SyncThread(self._files, folder.name)
        self._acknowledged = Place(0, 0)
        self._is_replayed = is_new
        self._waiting: list[Done] = []
        self._before_sync: list[Callable[[], None]] = []
        self._is_scheduled = False
        self._in_flight: _Batch | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[asyncio.Future[None]] = []
        self.syncs = 0
        self.has_failed = False

    @classmethod
    def open(cls, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, accepts_loss: bool = False) -> CommitLog:
        """Open a log, or make one where there is none. Blocks.

        Args:
            folder: A folder for the log alone.
            segment_bytes: Size of the files.
            accepts_loss: Go on without what is missing or damaged.

        Raises:
            StartupError: The folder cannot be used, another process has the log open, or its manifest is lost.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_new = not has_log(folder)
                manifest = open_manifest(folder, is_new=is_new, accepts_loss=accepts_loss)
                return cls(
                    folder, lock, manifest, segment_bytes=segment_bytes, is_new=is_new, accepts_loss=accepts_loss
                )
            except (OSError, StartupError):
                os.close(lock)
                raise
        except BlockingIOError as error:
            raise StartupError(f"{folder} is in use by another process") from error
        except OSError as error:
            raise StartupError(f"cannot open the log {folder}: {error.strerror}") from error

    @property
    def id(self) -> int:
        """Random id of the log; another log in the same folder has another one."""
        return self._manifest.extent.log_id

    @property
    def segment(self) -> int:
        """Number of the segment that the next payload goes to, unless that is full."""
        return self._tail.segment

    @property
    def end(self) -> Place:
        """Where the log ends when all that is under way is written."""
        return self._tail.end

    @property
    def folder(self) -> Path:
        """Where the segments are."""
        return self._folder

    @property
    def oldest(self) -> int:
        """The lowest number of a segment that is not released."""
        return min(self._tail.sizes, default=self._tail.segment)

    @property
    def size_bytes(self) -> int:
        """What the segments in use take on the disk."""
        return sum(self._tail.sizes.values())

    @property
    def is_writable(self) -> bool:
        """Whether the last write succeeded, and its file is still there."""
        return not (self.has_failed or self._files.is_deleted)

    def replay(self, on_loss: OnLoss = lambda: None) -> Iterator[tuple[int, bytes]]:
        """Everything that was appended before and is not released, with the number of its segment. Blocks.

        Args:
            on_loss: Called between what was before and what comes behind something that is lost, when the log was
                opened to accept that.

        Raises:
            StartupError: A segment cannot be read, or something acknowledged is lost.
        """
        reader = LogReader(self._folder, self._manifest.extent, on_loss if self._accepts_loss else None)
        yield from reader
        sizes = self._tail.sizes
        self._tail.sizes = {number: sizes.get(number, 0) for number in reader.numbers}
        self._acknowledged = reader.end
        self._is_replayed = True

    def start(self) -> None:
        """Begin to take payloads, in a new segment, after `replay`; to be called on the running loop."""
        assert self._is_replayed, "what is in the log is replayed before more is appended"
        self._loop = asyncio.get_running_loop()
        self._tail.begin_run(self._acknowledged)
        self._files.prepare()
        self._thread.start(self._finished)

    def append(self, payload: bytes, done: Done) -> int:
        """Append a payload.

        What is appended in one iteration of the event loop is written and synced together, and so is what is appended
        while a sync is under way.

        Args:
            payload: At most `MAX_PAYLOAD_BYTES`.
            done: Called on the loop, in the order of the calls, when the payload is on the disk, or with what went
                wrong: then it may be there all the same after a crash.

        Returns:
            The number of the segment that has it.

        Raises:
            ValueError: The payload is too large.
        """
        segment = self._tail.add(payload)
        self._waiting.append(done)
        if self._in_flight is None:
            self._flush_soon()
        return segment

    def before_sync(self, callback: Callable[[], None]) -> None:
        """Have a callback called on the loop, once, when the next sync begins; what it appends is part of that sync.

        While the disk is busy a caller can so let its writes gather, and append them as one payload.
        """
        self._before_sync.append(callback)
        if self._in_flight is None:
            self._flush_soon()

    def release(self, before: int) -> None:
        """Let go of all segments with lower numbers, soon: their payloads are not needed any more.

        A segment that something is still written to stays; the next call lets go of it.
        """
        unwritten = self._tail.first_pending if self._in_flight is None else self._in_flight.segment
        before = min(before, unwritten)
        released = [number for number in self._tail.sizes if number < before]
        for number in released:
            del self._tail.sizes[number]
        if released:
            self._files.release(before)

    async def released(self) -> None:
        """Wait until the next start will not look for the segments that were released."""
        await asyncio.wrap_future(self._files.idle())

    async def drained(self) -> None:
        """Wait until everything that was appended is on the disk, or failed."""
        while self._is_scheduled or self._in_flight is not None:
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    async def close(self) -> None:
        """Write what is waiting, then close."""
        if self._loop is not None:
            await self.drained()
            await self._thread.close([] if self._tail.is_empty else [self._tail.end_mark()])
        self._files.close()
        os.close(self._lock)

    # -- group commit ---------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._flush_in(1)

    def _flush_in(self, iterations: int) -> None:
        """Begin the next sync so many iterations of the event loop later."""
        assert self._loop is not None, "the log is not started"
        if iterations > 1:
            self._loop.call_soon(self._flush_in, iterations - 1)
        else:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._call_before_sync()
        if not self._waiting:
            self._notify_idle()
            return
        pieces, end = self._tail.take()
        self._in_flight = _Batch(self._waiting, pieces[0].name.number, end)
        self._waiting = []
        self._thread.submit(pieces)

    def _call_before_sync(self) -> None:
        """Call who appends now; when one fails, the others are called in the next iteration of the loop."""
        callbacks, self._before_sync = deque(self._before_sync), []
        is_done = False
        try:
            while callbacks:
                callbacks.popleft()()
            is_done = True
        finally:
            self._is_scheduled = False
            if not is_done:
                self._before_sync.extend(callbacks)
                self._flush_soon()

    def _finished(self, error: OSError | None) -> None:
        """Notify who waited, and begin again when they had a chance to come back with more."""
        batch, self._in_flight = self._in_flight, None
        assert batch is not None
        self._is_scheduled = True
        self.syncs += 1
        waiting = batch.waiting
        self._log_change(error)
        if error is None:
            self._acknowledged = batch.end
        else:
            waiting = [*waiting, *self._waiting]
            self._restart()
        for done in waiting:
            try:
                done(error)
            except Exception as failure:
                log.error("a listener of the log failed", folder=str(self._folder), exc_info=failure)
        self._flush_in(ITERATIONS if len(batch.waiting) >= LARGE_BATCH else 1)

    def _log_change(self, error: OSError | None) -> None:
        """Log when writes begin to fail, and when they succeed again."""
        if error is not None and not self.has_failed:
            log.error("the log cannot be written", folder=str(self._folder), reason=error.strerror)
        elif error is None and self.has_failed:
            log.info("the log is written again", folder=str(self._folder))
        self.has_failed = error is not None

    def _notify_idle(self) -> None:
        idle, self._idle = self._idle, []
        for future in idle:
            if not future.done():
                future.set_result(None)

    def _restart(self) -> None:
        """What a failed sync has left in a file is unknown: go on in another, which continues before that place."""
        known = self._acknowledged.segment
        self._tail.sizes = {number: size for number, size in self._tail.sizes.items() if number <= known}
        self._waiting = []
        self._tail.begin_run(self._acknowledged)
