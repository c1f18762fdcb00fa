"""Threads for work that blocks, with limits: on all work, on waiting, on one source and on time.

A source that hangs for ever can hold a few threads and no more: after its time the thread is given up and replaced,
and while it hangs its source gets no further ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog

log = structlog.get_logger("intake_server.workers")
T = TypeVar("T")
MOST_LOST = 64


class Busy(Exception):  # noqa: N818 - answered as 503
    """There is more work than may wait; the text says where."""


class TookTooLong(Exception):  # noqa: N818 - answered as 503
    """Work did not end in its time."""


class Workers:
    """A pool of daemon threads, used from one event loop.

    Args:
        name: For logs and messages.
        threads: How many jobs run at once.
        queue: How many jobs may wait.
        per_key: How many of them may belong to one key, running or hanging.
    """

    def __init__(self, name: str, threads: int, queue: int, per_key: int) -> None:
        self.name = name
        self._threads = threads
        self._queue = queue
        self._per_key = per_key
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._started = 0
        self._running = 0
        self._lost = 0
        self._by_key: Counter[Hashable] = Counter()
        self._waiting: deque[tuple[asyncio.Future[None], Hashable]] = deque()

    @property
    def running(self) -> int:
        """Jobs that run now, without those given up."""
        return self._running

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._waiting)

    @property
    def lost(self) -> int:
        """Threads that were given up and have not come back."""
        return self._lost

    async def run(self, function: Callable[[], T], *, key: Hashable = None, timeout_s: float = 60.0) -> T:
        """Run a function in a thread.

        Args:
            function: What to run; its exceptions are raised here.
            key: What the work is about: one key cannot take all threads.
            timeout_s: How long it may run, in seconds.

        Raises:
            Busy: Too many jobs wait already.
            TookTooLong: It did not end in time; its thread is given up.
        """
        await self._acquire(key)
        outcome: Future[T] = Future()
        self._ensure_thread()
        self._jobs.put((outcome, function))
        waiter = asyncio.wrap_future(outcome)
        released = _Once(lambda: self._release_slot())
        loop = asyncio.get_running_loop()

        def ended(_future: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                loop.call_soon_threadsafe(self._ended, key, released)

        outcome.add_done_callback(ended)
        try:
            return await asyncio.wait_for(asyncio.shield(waiter), timeout_s)
        except TimeoutError:
            if outcome.done():
                return outcome.result()
            if not released.done:
                self._lost += 1
                self._started -= 1
                released.call()
                released.was_lost = True
            log.warning("given up", pool=self.name, key=str(key)[:200], timeout_s=timeout_s)
            raise TookTooLong(f"it did not end within {timeout_s:g} s") from None
        finally:
            waiter.add_done_callback(_consume)

    async def _acquire(self, key: Hashable) -> None:
        if self._lost >= MOST_LOST:
            raise Busy("too many sources hang")
        if self._running < self._threads and self._by_key[key] < self._limit(key) and not self._waiting:
            self._take(key)
            return
        if len(self._waiting) >= self._queue:
            raise Busy(f"more than {self._queue} requests wait already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, key))
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release(key)
            else:
                self._waiting = deque(item for item in self._waiting if item[0] is not turn)
            raise

    def _limit(self, key: Hashable) -> int:
        return self._threads if key is None else self._per_key

    def _take(self, key: Hashable) -> None:
        self._running += 1
        self._by_key[key] += 1

    def _release_slot(self) -> None:
        self._running -= 1
        self._wake()

    def _release(self, key: Hashable) -> None:
        self._by_key[key] -= 1
        if not self._by_key[key]:
            del self._by_key[key]
        self._release_slot()

    def _ended(self, key: Hashable, released: _Once) -> None:
        self._by_key[key] -= 1
        if not self._by_key[key]:
            del self._by_key[key]
        if released.was_lost:
            self._lost -= 1
            self._started += 1
        released.call()
        self._wake()

    def _wake(self) -> None:
        """Give free threads to the first jobs in line whose key has not its share already."""
        skipped: list[tuple[asyncio.Future[None], Hashable]] = []
        while self._waiting and self._running < self._threads:
            turn, key = self._waiting.popleft()
            if turn.done():
                continue
            if self._by_key[key] >= self._limit(key):
                skipped.append((turn, key))
                continue
            self._take(key)
            turn.set_result(None)
        self._waiting.extendleft(reversed(skipped))

    def _ensure_thread(self) -> None:
        if self._started < self._threads and self._started < self._running:
            self._started += 1
            threading.Thread(target=self._work, name=f"{self.name}-{self._started}", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome, function = job
            if not outcome.set_running_or_notify_cancel():
                continue
            try:
                outcome.set_result(function())
            except BaseException as error:  # noqa: BLE001 - handed to the caller that waits for it
                outcome.set_exception(error)
            del job, outcome, function

    def close(self) -> None:
        """Let the threads end; those that hang are daemons and end with the process."""
        for _ in range(self._started + self._lost):
            self._jobs.put(None)


class _Once:
    """Calls a function the first time only."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self.done = False
        self.was_lost = False

    def call(self) -> None:
        if not self.done:
            self.done = True
            self._function()


def _consume(future: asyncio.Future[Any]) -> None:
    """Mark the exception of a job that nobody waits for any more as seen."""
    if not future.cancelled():
        future.exception()
