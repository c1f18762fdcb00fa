"""Writes of one partition, taken together in rounds: decide all that wait, log them as one record, answer.

While one round is on its way to the disk, the next gathers. Within a round every operation sees what those before it
will have written; between rounds everything that was answered is on disk and visible, and nothing else is. A round that
cannot be stored fails all its writes, and the replica with them: none of them was acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import structlog

from replicaserver.replica import Log, Logged, Refuse, Replica, Write
from replicaserver.rows import Identity
from replicaserver.storage.journal import ReplicaLog
from replicaserver.storage.rocks import StoreError
from replicaserver.writes import Cost, Draft
from shared.pegasus.errors import ErrorCode, RpcError
from shared.pegasus.rpc import Pending

log = structlog.get_logger("replicaserver.rounds")

MAX_ROUND_WRITES = 2000
MAX_ROUND_BYTES = 8 * 1024 * 1024
MAX_WAITING = 50_000

T = TypeVar("T")
Operation = Callable[[Draft, Any, Identity, int, Cost], Any]
Account = Callable[["Waiting", Any], None]


class Waiting(Pending):
    """A write that is not answered yet.

    Attributes:
        operation: Decides what is written; see `replicaserver.writes`.
        shares_decree: Whether it may have the same decree as its neighbours.
        account: Told about the answer, for metrics; None for work of our own, which has no decree.
    """

    __slots__ = ("account", "cost", "operation", "request", "shares_decree", "started_ns")

    def __init__(self, operation: Operation, request: Any, account: Account | None, *, shares_decree: bool) -> None:
        super().__init__()
        self.operation = operation
        self.request = request
        self.account = account
        self.shares_decree = shares_decree
        self.started_ns = time.perf_counter_ns()
        self.cost = Cost()


class Rounds:
    """The writes of one partition.

    Args:
        core: Gives out decrees.
        log: Puts rounds on disk.
        who: What responses repeat.
        draft: Makes the draft of a round, with the time as it is then.
        failed: Called when a round could not be stored.
    """

    def __init__(
        self,
        core: Replica,
        log: ReplicaLog,
        who: Identity,
        draft: Callable[[], Draft],
        failed: Callable[[], None],
    ) -> None:
        self._core = core
        self._log = log
        self._who = who
        self._shown = f"{who.app_id}.{who.partition_index}"
        self._draft = draft
        self._failed = failed
        self._queue: deque[Waiting] = deque()
        self._is_writing = False
        self._is_held = False
        self._is_closed = False
        self._idle: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()

    def submit(self, operation: Operation, request: Any, account: Account, *, shares_decree: bool) -> Waiting:
        """Take a write of a client; the response comes once it is on disk.

        Raises:
            RpcError: ERR_CAPACITY_EXCEEDED when too many wait already, ERR_INVALID_STATE when the replica is closed.
        """
        if len(self._queue) >= MAX_WAITING:
            raise RpcError(ErrorCode.ERR_CAPACITY_EXCEEDED, "too many writes are waiting")
        waiting = Waiting(operation, request, account, shares_decree=shares_decree)
        self._add(waiting)
        return waiting

    def own(self, work: Callable[[Draft], T]) -> asyncio.Future[T]:
        """Take work of our own, which has no decree; when the future is done it is on disk.

        Raises:
            RpcError: ERR_INVALID_STATE when the replica is closed.
        """
        waiting = Waiting(cast(Operation, work), None, None, shares_decree=True)
        self._add(waiting)
        return waiting.future()

    async def close(self) -> None:
        """Take nothing more, and wait until everything that was taken is on disk."""
        self._is_closed = True
        await self.drained()

    async def drained(self) -> None:
        """Wait until nothing is queued and nothing is on its way to the disk."""
        while self._queue or self._is_writing:
            await self._idleness()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Let nothing be written inside; what was taken waits until then. One at a time."""
        self._is_held = True
        try:
            while self._is_writing:
                await self._idleness()
            yield
        finally:
            self._is_held = False
            if self._queue and not self._is_writing:
                self._start()

    def _idleness(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._idle.append(waiter)
        return waiter

    def _start(self) -> None:
        self._is_writing = True
        self._loop.call_soon(self._begin)

    def _add(self, waiting: Waiting) -> None:
        if self._is_closed:
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "the replica is closed")
        self._queue.append(waiting)
        if not self._is_writing and not self._is_held:
            self._start()

    def _begin(self) -> None:
        draft = self._draft()
        answers: list[tuple[Waiting, Any]] = []
        decree = shared = 0
        size = 0
        while self._queue and len(answers) < MAX_ROUND_WRITES and size < MAX_ROUND_BYTES:
            waiting = self._queue[0]
            if waiting.account is None:
                self._queue.popleft()
                self._do_own(waiting, draft, answers)
                continue
            if not (shared and waiting.shares_decree):
                if not self._core.has_room:
                    break
                given = self._give_decree(waiting)
                if not given:
                    continue
                decree = given
                shared = decree if waiting.shares_decree else 0
            self._queue.popleft()
            try:
                response = waiting.operation(draft, waiting.request, self._who, decree, waiting.cost)
            except ValueError as error:  # a key that cannot be; nothing of the write is in the draft yet
                waiting.listener(None, RpcError(ErrorCode.ERR_INVALID_PARAMETERS, str(error)))
                continue
            except StoreError as error:
                log.error("a write cannot read what it depends on", partition=self._shown, reason=str(error))
                waiting.listener(None, RpcError(ErrorCode.ERR_RDB_CORRUPTION, str(error)))
                continue
            size += waiting.cost.written
            answers.append((waiting, response))
        if not (answers or decree):
            self._finish()
            return
        if decree:
            draft.notes["decree"] = decree
        self._log.submit(draft.changes, draft.notes, lambda error: self._stored(answers, decree, error))

    def _do_own(self, waiting: Waiting, draft: Draft, answers: list[tuple[Waiting, Any]]) -> None:
        try:
            answers.append((waiting, cast(Any, waiting.operation)(draft)))
        except StoreError as error:
            waiting.listener(None, error)

    def _give_decree(self, waiting: Waiting) -> int:
        """The decree of the write at the head of the queue; 0 when it was refused, and is off the queue."""
        match self._core.step(Write()):
            case [Log(decree)]:
                return decree
            case [Refuse(error)]:
                self._queue.popleft()
                waiting.listener(None, RpcError(error))
        return 0

    def _stored(self, answers: list[tuple[Waiting, Any]], decree: int, error: StoreError | None) -> None:
        if error is not None:
            log.error("a write failed, the replica takes no more", partition=self._shown, reason=str(error))
            self._failed()
            for waiting, _ in answers:
                waiting.listener(None, RpcError(ErrorCode.ERR_DISK_IO_ERROR, str(error)))
        else:
            if decree:
                self._core.step(Logged(decree))
            for waiting, response in answers:
                if waiting.account is not None:
                    waiting.account(waiting, response)
                waiting.listener(response, None)
        if self._queue and not self._is_held:
            self._begin()
        else:
            self._finish()

    def _finish(self) -> None:
        self._is_writing = False
        waiters, self._idle = self._idle, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
