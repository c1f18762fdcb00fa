"""Answers on their way: how much memory they hold, and which clients take too long.

Bytes that several clients are being sent at once count once. A large partition is only read when there is room for it:
at most `most_large` large answers exist at a time, read or sent, and all answers together stay under `limit` bytes.
When there is no room, answers whose clients take nothing make some.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import structlog

from intake_server.concurrency.thread_pool import Busy
from intake_server.serialization.parts import Parts

log = structlog.get_logger("intake_server.sending")
LARGE_BYTES = 8 * 2**20
STALL_S = 5.0
"""How long a client may take nothing while others wait for room, in seconds."""
WAIT_S = 30.0
_POLL_S = 0.05
ITERATION_BYTES = 4 * 2**20
"""What all answers together send in one iteration of the event loop; it takes a few milliseconds."""
_LEAST_STEP_BYTES, _MAX_STEP_BYTES = 2**17, 2**19


@dataclass(slots=True, eq=False)
class Sending:
    """One answer that is being sent to one client.

    Attributes:
        parts: What is sent.
        entry: Whose data they are, for the log.
        abort: Ends the client's connection.
        moved_at: When the client last took something, in seconds of the loop's clock.
        step: How many bytes may be sent in this iteration of the event loop.
    """

    parts: Parts
    entry: str
    abort: Callable[[], None]
    moved_at: float
    step: Callable[[], int]

    def moved(self) -> None:
        """Note that the client took something."""
        self.moved_at = asyncio.get_running_loop().time()


@dataclass(slots=True, eq=False)
class Holding:
    """What one answer that is made piece by piece holds of memory.

    Attributes:
        entry: Whose data they are, for the log.
        abort: Ends the client's connection.
        size: The bytes that are held.
        moved_at: When the client last took something, in seconds of the loop's clock; infinite while there is
            nothing to take.
    """

    entry: str
    abort: Callable[[], None]
    size: int = 0
    moved_at: float = math.inf

    def moved(self) -> None:
        """Note that the client took something, or can take something now."""
        self.moved_at = asyncio.get_running_loop().time()


class InFlight:
    """All answers that are being read or sent.

    Args:
        limit: The most bytes of all answers being sent together; a single one may be larger.
        most_large: The most large answers that exist at a time.
    """

    def __init__(self, limit: int, most_large: int) -> None:
        self._limit = limit
        self._most_large = most_large
        self._sending: set[Sending] = set()
        self._holding: set[Holding] = set()
        self._clients: dict[int, int] = {}
        self._large = 0
        self.size = 0

    @contextlib.asynccontextmanager
    async def reading(self, expected: int) -> AsyncIterator[None]:
        """Hold room for an answer while it is read.

        Args:
            expected: How large it will probably be, in bytes; 0 when nothing is known.

        Raises:
            Busy: There was no room for a long time.
        """
        is_large = expected >= LARGE_BYTES
        if is_large and not self._has_room(expected):
            await self._wait_for_room(expected)
        self._large += is_large
        try:
            yield
        finally:
            self._large -= is_large

    @contextlib.contextmanager
    def sending(self, parts: Parts, entry: str, abort: Callable[[], None]) -> Iterator[Sending]:
        """Count an answer while it is sent.

        Raises:
            Busy: There is no room for it.
        """
        is_new = id(parts) not in self._clients
        if is_new and self.size and self.size + parts.size > self._limit:
            self._reclaim()
            raise Busy("too many bytes are being sent already")
        entered = Sending(parts, entry, abort, asyncio.get_running_loop().time(), self._step)
        self._sending.add(entered)
        self._clients[id(parts)] = self._clients.get(id(parts), 0) + 1
        if is_new:
            self.size += parts.size
            self._large += parts.size >= LARGE_BYTES
        try:
            yield entered
        finally:
            self._leave(entered)

    @contextlib.contextmanager
    def holding(self, entry: str, abort: Callable[[], None] = lambda: None) -> Iterator[Holding]:
        """Count what an answer holds that is made piece by piece."""
        held = Holding(entry, abort)
        self._holding.add(held)
        try:
            yield held
        finally:
            self._holding.discard(held)
            self.size -= held.size

    async def reserve(self, held: Holding, size: int) -> None:
        """Hold so many bytes instead of those before, as soon as there is room.

        Raises:
            Busy: There was no room for a long time.
        """
        held.moved_at = math.inf
        self.size -= held.size
        held.size = 0
        clock = asyncio.get_running_loop().time
        until = clock() + WAIT_S
        while self.size and self.size + size > self._limit:
            self._reclaim()
            if clock() > until:
                raise Busy("too many bytes are being sent already")
            await asyncio.sleep(_POLL_S)
        held.size = size
        self.size += size

    def _step(self) -> int:
        return min(_MAX_STEP_BYTES, max(_LEAST_STEP_BYTES, ITERATION_BYTES // len(self._sending)))

    def _leave(self, entered: Sending) -> None:
        parts = entered.parts
        self._sending.discard(entered)
        self._clients[id(parts)] -= 1
        if not self._clients[id(parts)]:
            del self._clients[id(parts)]
            self.size -= parts.size
            if parts.size >= LARGE_BYTES:
                self._large -= 1

    def _has_room(self, expected: int) -> bool:
        if not self._large and not self.size:
            return True
        return self._large < self._most_large and self.size + expected <= self._limit

    async def _wait_for_room(self, expected: int) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + WAIT_S
        while not self._has_room(expected):
            self._reclaim()
            if clock() > until:
                raise Busy("too many bytes are being sent already")
            await asyncio.sleep(_POLL_S)

    def _reclaim(self) -> None:
        """Give up the clients that hold memory and take nothing."""
        oldest_allowed = asyncio.get_running_loop().time() - STALL_S
        answers: list[Sending | Holding] = [*self._sending, *self._holding]
        for entered in [answer for answer in answers if answer.moved_at < oldest_allowed]:
            log.warning("a client took no data while others waited, its answer is given up", entry=entered.entry)
            entered.abort()
