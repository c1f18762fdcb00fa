"""Threads for work that blocks, with limits: on all work, on waiting, on one source and on time.

A source that hangs for ever can hold a few threads and no more: after its time the thread is abandoned and replaced,
and while it hangs its source gets no further ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog

from shared.errors import Problem

log = structlog.get_logger("intake_server.threads")
T = TypeVar("T")
MAX_ABANDONED = 64


class Busy(Exception):  # noqa: N818 - answered as 503
    """There is more work than may wait; the text says where."""


class TookTooLong(Exception):  # noqa: N818 - answered as 503
    """Work did not end in its time."""


def not_now(error: Exception) -> Problem | None:
    """What a client reads when there is no thread for it, or its work took too long; None for any other error."""
    if isinstance(error, (Busy, TookTooLong)):
        return Problem(503, f"not now: {error}", code="busy", headers={"Retry-After": "1"})
    return None


class ThreadPool:
    """A pool of daemon threads, used from one event loop.

    Args:
        name: For logs and messages.
        threads: How many jobs run at once.
        queue: How many jobs may wait.
        per_key: How many of them may belong to one key, running or hanging.
        niceness: How far its threads yield to others when all processors are busy, 0 to 19. Only Linux has a niceness
            of threads.
    """

    def __init__(self, name: str, threads: int, queue: int, per_key: int, *, niceness: int = 0) -> None:
        self.name = name
        self._threads = threads
        self._queue = queue
        self._per_key = per_key
        self._niceness = niceness
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._started = 0
        self._running = 0
        self._abandoned = 0
        self._by_key: Counter[Hashable] = Counter()
        self._waiting: deque[tuple[asyncio.Future[None], Hashable]] = deque()

    @property
    def running(self) -> int:
        """Jobs that run now, without those abandoned."""
        return self._running

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._waiting)

    @property
    def abandoned(self) -> int:
        """Threads that were abandoned and have not come back."""
        return self._abandoned

    async def run(self, function: Callable[[], T], *, key: Hashable = None, timeout_s: float = 60.0) -> T:
        """Run a function in a thread.

        Args:
            function: What to run; its exceptions are raised here.
            key: What the work is about: one key cannot take all threads.
            timeout_s: How long it may run, in seconds.

        Raises:
            Busy: Too many jobs wait already.
            TookTooLong: It did not end in time; its thread is abandoned.
        """
        await self._acquire(key)
        loop = asyncio.get_running_loop()
        job = _Job(function, key, timeout_s, loop, loop.create_future())
        job.alarm = loop.call_later(timeout_s, self._abandon, job)
        self._ensure_thread()
        self._jobs.put(job)
        result: T = await job.outcome
        return result

    def _abandon(self, job: _Job) -> None:
        """The time of a job is up: its thread is no longer counted, and its caller is notified."""
        job.is_abandoned = True
        self._abandoned += 1
        self._started -= 1
        self._running -= 1
        log.warning("thread abandoned", pool=self.name, key=str(job.key)[:200], timeout_s=job.timeout_s)
        if not job.outcome.done():
            job.outcome.set_exception(TookTooLong(f"it did not end within {job.timeout_s:g} s"))
        self._wake()

    def _ended(self, job: _Job, result: Any, error: BaseException | None) -> None:
        """A thread has finished a job, in time or long after its caller was notified that it would not."""
        if job.is_abandoned:
            self._abandoned -= 1
            self._started += 1
            self._forget(job.key)
            self._wake()
            return
        if job.alarm is not None:
            job.alarm.cancel()
        self._release(job.key)
        if job.outcome.done():
            return  # the caller went away
        if error is None:
            job.outcome.set_result(result)
        else:
            job.outcome.set_exception(error)

    async def _acquire(self, key: Hashable) -> None:
        if self._abandoned >= MAX_ABANDONED:
            raise Busy("too many sources hang")
        if self._running < self._threads and self._by_key[key] < self._limit(key) and not self._waiting:
            self._take(key)
            return
        if len(self._waiting) >= self._queue:
            raise Busy(f"more than {self._queue} requests wait already")
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((slot, key))
        self._wake()
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self._release(key)
            else:
                self._waiting = deque(item for item in self._waiting if item[0] is not slot)
            raise

    def _limit(self, key: Hashable) -> int:
        return self._threads if key is None else self._per_key

    def _take(self, key: Hashable) -> None:
        self._running += 1
        self._by_key[key] += 1

    def _release(self, key: Hashable) -> None:
        self._running -= 1
        self._forget(key)
        self._wake()

    def _forget(self, key: Hashable) -> None:
        self._by_key[key] -= 1
        if not self._by_key[key]:
            del self._by_key[key]

    def _wake(self) -> None:
        """Give free threads to the first jobs in line whose key has not its share already."""
        skipped: list[tuple[asyncio.Future[None], Hashable]] = []
        while self._waiting and self._running < self._threads:
            slot, key = self._waiting.popleft()
            if slot.done():
                continue
            if self._by_key[key] >= self._limit(key):
                skipped.append((slot, key))
                continue
            self._take(key)
            slot.set_result(None)
        self._waiting.extendleft(reversed(skipped))

    def _ensure_thread(self) -> None:
        if self._started < self._threads and self._started < self._running:
            self._started += 1
            threading.Thread(target=self._work, name=f"{self.name}-{self._started}", daemon=True).start()

    def _work(self) -> None:
        if self._niceness and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            try:
                if not job.outcome.done():
                    result = job.function()
            except BaseException as raised:  # noqa: BLE001 - handed to the caller that waits for it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                job.loop.call_soon_threadsafe(self._ended, job, result, error)
            del job, result, error

    def close(self) -> None:
        """Let the threads end; those that hang are daemons and end with the process."""
        for _ in range(self._started + self._abandoned):
            self._jobs.put(None)


@dataclass(slots=True, eq=False)
class _Job:
    """One function to run, and who waits for it."""

    function: Callable[[], Any]
    key: Hashable
    timeout_s: float
    loop: asyncio.AbstractEventLoop
    outcome: asyncio.Future[Any]
    alarm: asyncio.TimerHandle | None = None
    is_abandoned: bool = False
