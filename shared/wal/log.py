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
told, and the segments that were released last may come back, so replaying must not mind either.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import structlog

from shared.errors import StartupError
from shared.wal.files import Piece, SegmentFiles
from shared.wal.kernel_writes import KernelWrites
from shared.wal.manifest import Manifest
from shared.wal.recovery import LogReader, OnLoss, has_log, open_manifest, segment_numbers, segment_path
from shared.wal.segments import (
    BLOCK_BYTES,
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    PREFIX_BYTES,
    Place,
    SegmentHeader,
    SegmentName,
    encode_block,
    encode_end,
    encode_header,
    length_prefix,
)

log = structlog.get_logger("shared.wal.log")

SEGMENT_BYTES = 16 * 1024 * 1024
QUICK_S = 0.0003
"""A disk that syncs within this time, in seconds, may be waited for in place when only one caller waits."""

CROWD = 4
TURNS = 3
"""When so many were told at once, the next sync waits for so many turns of the loop: they come back with more, and one
sync for all of them costs less than two for halves of them."""

IN_PLACE_BYTES = 128 * 1024
"""The most that is copied to the system in place; more goes through the thread."""

Done = Callable[[OSError | None], None]
Bring = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Job:
    """What is written and synced together, who waits for it, and where the log ends then."""

    pieces: Sequence[Piece]
    waiting: Sequence[Done]
    end: Place

    @property
    def is_plain(self) -> bool:
        """Whether it is a little more for the segment that is being written, and nothing else."""
        return len(self.pieces) == 1 and len(self.pieces[0].data) <= IN_PLACE_BYTES


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
        self._segments = {number: segment_path(folder, number).stat().st_size for number in numbers}
        self._segment_bytes = segment_bytes
        self._files = SegmentFiles(folder, segment_bytes, manifest)
        self._run = 0
        self._name = SegmentName(max(extent.newest, extent.oldest - 1, *numbers), 0)
        self._acknowledged = Place(0, 0)
        self._is_replayed = is_new
        self._offset = 0
        self._content: list[bytes] = []
        self._content_bytes = 0
        self._pieces: list[Piece] = []
        self._waiting: list[Done] = []
        self._bringing: list[Bring] = []
        self._is_scheduled = False
        self._in_flight: _Job | None = None
        self._was_alone = True
        self._sync_s = QUICK_S
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kernel: KernelWrites | None = None
        self._began_s = 0.0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._outcomes: deque[OSError | None] = deque()
        self._thread = threading.Thread(target=self._work, name=f"log-{folder.name}", daemon=True)
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
        return self._name.number

    @property
    def folder(self) -> Path:
        """Where the segments are."""
        return self._folder

    @property
    def oldest(self) -> int:
        """The lowest number of a segment that is not released."""
        return min(self._segments, default=self._name.number)

    @property
    def size_bytes(self) -> int:
        """What the segments in use take on the disk."""
        return sum(self._segments.values())

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
        self._segments = {number: self._segments.get(number, 0) for number in reader.numbers}
        self._acknowledged = reader.end
        self._is_replayed = True

    def start(self) -> None:
        """Begin to take payloads, in a new segment, after `replay`; to be called on the running loop."""
        assert self._is_replayed, "what is in the log is replayed before more is appended"
        self._loop = asyncio.get_running_loop()
        self._kernel = KernelWrites.open()
        if self._kernel is not None:
            self._kernel.start(self._loop, self._finish)
        self._begin_run()
        self._files.prepare()
        self._thread.start()

    def append(self, payload: bytes, done: Done) -> int:
        """Append a payload.

        What is appended in one turn of the loop is written and synced together, and so is what is appended while
        that goes on.

        Args:
            payload: At most `MAX_PAYLOAD_BYTES`.
            done: Called on the loop, in the order of the calls, when the payload is on the disk, or with what went
                wrong: then it may be there all the same after a crash.

        Returns:
            The number of the segment that has it.

        Raises:
            ValueError: The payload is too large.
        """
        size = PREFIX_BYTES + len(payload)
        if size > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a payload of {len(payload)} bytes is larger than a log takes")
        end = self._offset + BLOCK_BYTES + self._content_bytes + size + BLOCK_BYTES
        if end > self._segment_bytes and self._offset + self._content_bytes > HEADER_BYTES:
            self._roll()
        self._content += (length_prefix(len(payload)), payload)
        self._content_bytes += size
        self._waiting.append(done)
        if self._in_flight is None:
            self._flush_soon()
        return self._name.number

    def gather(self, bring: Bring) -> None:
        """Have somebody called, once, who appends what has come until the next sync begins.

        Whoever appends something every time it comes has it synced in many small pieces while the disk is busy; whoever
        is asked for it when the disk is free has one large piece.

        Args:
            bring: Called on the loop; what it appends is part of that sync.
        """
        self._bringing.append(bring)
        if self._in_flight is None:
            self._flush_soon()

    def release(self, before: int) -> None:
        """Let go of all segments with lower numbers, soon: their payloads are not needed any more."""
        before = min(before, self._name.number)
        released = [number for number in self._segments if number < before]
        for number in released:
            del self._segments[number]
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
            if self._offset > HEADER_BYTES:
                self._jobs.put(_Job([self._end_mark()], [], self._acknowledged))
            self._jobs.put(None)
            await self._loop.run_in_executor(None, self._thread.join)
        if self._kernel is not None:
            self._kernel.close()
        self._files.close()
        os.close(self._lock)

    # -- on the loop ----------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return segment_path(self._folder, number)

    def _begin_run(self) -> None:
        self._run = secrets.randbits(63)
        self._begin_segment(self._acknowledged)

    def _begin_segment(self, continues: Place) -> None:
        self._name = SegmentName(self._name.number + 1, self._run)
        self._segments[self._name.number] = self._segment_bytes
        self._offset = HEADER_BYTES
        header = SegmentHeader(self._name, continues, self._segment_bytes)
        self._pieces.append(Piece(self._name, 0, encode_header(header)))

    def _roll(self) -> None:
        self._end_block()
        self._pieces.append(self._end_mark())
        self._begin_segment(self._end)

    @property
    def _end(self) -> Place:
        """Where the log ends when everything that was appended is written."""
        return Place(self._name.number, self._offset)

    def _end_mark(self) -> Piece:
        return Piece(self._name, self._offset, encode_end(self._name, self._offset))

    def _end_block(self) -> None:
        if not self._content:
            return
        block = encode_block(self._name, self._offset, b"".join(self._content))
        self._pieces.append(Piece(self._name, self._offset, block))
        self._offset += len(block)
        self._segments[self._name.number] = max(self._segment_bytes, self._offset + BLOCK_BYTES)
        self._content.clear()
        self._content_bytes = 0

    def _flush_soon(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            assert self._loop is not None, "the log is not started"
            self._loop.call_soon(self._flush)

    def _ask(self) -> None:
        """Have those who gather append; when one fails, the others are asked in the next turn of the loop."""
        bringing, self._bringing = deque(self._bringing), []
        is_done = False
        try:
            while bringing:
                bringing.popleft()()
            is_done = True
        finally:
            self._is_scheduled = False
            if not is_done:
                self._bringing.extend(bringing)
                self._flush_soon()

    def _flush(self) -> None:
        self._ask()
        if not self._waiting:
            self._be_idle()
            return
        self._end_block()
        job = _Job(self._pieces, self._waiting, self._end)
        self._pieces, self._waiting = [], []
        self._in_flight = job
        self._began_s = time.perf_counter()
        is_alone, was_alone = len(job.waiting) == 1, self._was_alone
        self._was_alone = is_alone
        if job.is_plain and is_alone and was_alone and self._sync_s < QUICK_S:
            self._settle(self._write(job))
            if self._waiting or self._bringing:
                self._flush_soon()
        elif not (job.is_plain and self._write_by_kernel(job.pieces[0])):
            self._jobs.put(job)

    def _write_by_kernel(self, piece: Piece) -> bool:
        """Whether the kernel will tell when a piece is on the disk; else the thread must see to it."""
        if self._kernel is None or not self._files.is_direct:
            return False
        try:
            self._kernel.write(self._files.descriptor, self._files.stage(piece))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # this system cannot
                self._kernel.close()
                self._kernel = None
            return False
        return True

    def _tell(self) -> None:
        self._finish(self._outcomes.popleft())

    def _finish(self, error: OSError | None) -> None:
        """Tell who waited, and begin again: when many were told, after they had a chance to come back with more."""
        assert self._in_flight is not None
        turns = TURNS if len(self._in_flight.waiting) >= CROWD else 0
        self._is_scheduled = True
        self._settle(error)
        self._flush_after(turns)

    def _flush_after(self, turns: int) -> None:
        if turns:
            assert self._loop is not None
            self._loop.call_soon(self._flush_after, turns - 1)
        else:
            self._flush()

    def _settle(self, error: OSError | None) -> None:
        took_s = time.perf_counter() - self._began_s
        job, self._in_flight = self._in_flight, None
        assert job is not None
        self.syncs += 1
        self._sync_s += (took_s - self._sync_s) / 8
        waiting = job.waiting
        self._note(error)
        if error is None:
            self._acknowledged = job.end
        else:
            waiting = [*waiting, *self._waiting]
            self._begin_again()
        for done in waiting:
            try:
                done(error)
            except Exception as failure:
                log.error("who waited for the log failed when told", folder=str(self._folder), exc_info=failure)
        if not (self._waiting or self._bringing):
            self._be_idle()

    def _note(self, error: OSError | None) -> None:
        """Log when writes begin to fail, and when they succeed again."""
        if error is not None and not self.has_failed:
            log.error("the log cannot be written", folder=str(self._folder), reason=error.strerror)
        elif error is None and self.has_failed:
            log.info("the log is written again", folder=str(self._folder))
        self.has_failed = error is not None

    def _be_idle(self) -> None:
        idle, self._idle = self._idle, []
        for future in idle:
            if not future.done():
                future.set_result(None)

    def _begin_again(self) -> None:
        """What a failed sync has left in a file is unknown: go on in another, which continues before that place."""
        known = self._acknowledged.segment
        self._segments = {number: size for number, size in self._segments.items() if number <= known}
        self._pieces, self._waiting = [], []
        self._content.clear()
        self._content_bytes = 0
        self._begin_run()

    # -- in the thread, or in place -----------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = self._write(job)
            if job.waiting:
                assert self._loop is not None
                self._outcomes.append(outcome)
                self._loop.call_soon_threadsafe(self._tell)

    def _write(self, job: _Job) -> OSError | None:
        try:
            self._files.write(job.pieces, self._path)
        except OSError as error:
            return error
        except Exception as error:
            log.error("writing the log failed unexpectedly", folder=str(self._folder), exc_info=error)
            return OSError(errno.EIO, f"{type(error).__name__}: {error}")
        return None
