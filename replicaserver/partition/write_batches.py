"""Writes of one partition, taken together in rounds: decide all that wait, log them as one record, answer.

While the disk is busy the next round gathers; it is decided when the log is about to sync. Within a round every
operation sees what those before it will have written; between rounds everything that was answered is on disk and
visible, and nothing else is. A round that cannot be stored fails all its writes, and the replica with them: none of
them was acknowledged.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import structlog

from replicaserver.partition.lease import Lease
from replicaserver.replication.replica import Replica
from replicaserver.rows.store import Identity
from replicaserver.rows.writes import Cost, Draft, updated
from replicaserver.storage.node_log import ReplicaLog
from replicaserver.storage.rocks import StoreError
from shared.pegasus.serving.rpc import Asker, Pending
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.rrdb import UpdateResponse

log = structlog.get_logger("replicaserver.rounds")

MAX_ROUND_WRITES = 2000
MAX_ROUND_BYTES = 8 * 1024 * 1024
MAX_WAITING = 50_000
MAX_BACKLOG_BYTES = 256 * 1024 * 1024
"""How much of the writes of all replicas of a node may wait; a write that comes then is declined."""
WRITE_OVERHEAD = 256
"""What a write that waits costs besides its request, in bytes."""

T = TypeVar("T")
Operation = Callable[[Draft, Any, Identity, int, Cost], Any]
Account = Callable[["Waiting", Any], None]

PlainPut = tuple[bytes, bytes, int, int, bytes, Asker]
"""A `put` that a shortcut took: raw key, value, expiry asked for, when it came (`perf_counter_ns`), sequence number as
it stands on the wire, who asks. Nothing costs less than a tuple, and there are tens of thousands a second."""

AnswerPuts = Callable[[Sequence[PlainPut], UpdateResponse | None, RpcError | None], None]
"""Told what the puts of a decree are answered with, or why they are refused."""


@dataclass(slots=True)
class Backlog:
    """The writes of all replicas of a node that are not answered yet, in bytes."""

    size: int = 0

    @property
    def is_full(self) -> bool:
        """Whether no further write is taken."""
        return self.size >= MAX_BACKLOG_BYTES


class Waiting(Pending):
    """A write that is not answered yet.

    Attributes:
        operation: Decides what is written; see `replicaserver.rows.writes`.
        shares_decree: Whether it may have the same decree as its neighbours.
        account: Told about the answer, for metrics; None for work of our own, which has no decree.
        size: Of the request, in bytes, and of what it costs to let it wait.
    """

    __slots__ = ("account", "cost", "operation", "request", "shares_decree", "size", "started_ns")

    def __init__(
        self, operation: Operation, request: Any, account: Account | None, *, shares_decree: bool, size: int = 0
    ) -> None:
        super().__init__()
        self.size = size + WRITE_OVERHEAD
        self.operation = operation
        self.request = request
        self.account = account
        self.shares_decree = shares_decree
        self.started_ns = time.perf_counter_ns()
        self.cost = Cost()

    @property
    def is_own(self) -> bool:
        """Whether it is work of our own."""
        return self.account is None


class _Run:
    """Plain puts that came one after the other, with nothing else between them.

    Attributes:
        size: Of their requests, in bytes.
    """

    __slots__ = ("puts", "size")
    is_own: ClassVar = False
    shares_decree: ClassVar = True

    def __init__(self) -> None:
        self.puts: list[PlainPut] = []
        self.size = 0


class _Round:
    """What one round has taken.

    Attributes:
        puts: Plain puts, with the decree that they share.
        answers: The other writes, with their responses.
        decree: The last that was given out; 0 for none.
        writes: How many there are.
        size: Keys and values that they write, in bytes.
        losses: How often the lease had been lost when they were decided.
        order: What was taken from the queue.
    """

    __slots__ = ("answers", "decree", "losses", "order", "puts", "size", "writes")

    def __init__(self, losses: int) -> None:
        self.losses = losses
        self.order: list[Waiting | _Run] = []
        self.puts: list[tuple[int, list[PlainPut]]] = []
        self.answers: list[tuple[Waiting, Any]] = []
        self.decree = self.writes = self.size = 0


class Rounds:
    """The writes of one partition.

    Args:
        core: Gives out decrees.
        log: Puts rounds on disk.
        who: What responses repeat.
        lease: Until when this node may serve.
        draft: Makes the draft of a round, with the time as it is then.
        failed: Called when a round could not be stored.
        answer_puts: Answers plain puts.
        backlog: Counts what waits.
    """

    def __init__(
        self,
        core: Replica,
        log: ReplicaLog,
        who: Identity,
        lease: Lease,
        draft: Callable[[], Draft],
        failed: Callable[[], None],
        answer_puts: AnswerPuts,
        backlog: Backlog,
    ) -> None:
        self._core = core
        self._log = log
        self._who = who
        self._shown = f"{who.app_id}.{who.partition_index}"
        self._lease = lease
        self._draft = draft
        self._failed = failed
        self._answer_puts = answer_puts
        self._queue: deque[Waiting | _Run] = deque()
        self._run: _Run | None = None
        self._waiting = 0
        self._backlog = backlog
        self._queued_bytes = self._counted_bytes = 0
        self._is_writing = False
        self._is_held = False
        self._is_closed = False
        self._idle: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()

    def submit(
        self, operation: Operation, request: Any, account: Account, *, shares_decree: bool, size: int = 0
    ) -> Waiting:
        """Take a write of a client; the response comes once it is on disk.

        Args:
            operation: Decides what is written; see `replicaserver.rows.writes`.
            request: What it is asked for.
            account: Told about the answer.
            shares_decree: Whether it may have the same decree as its neighbours.
            size: Of the request, in bytes.

        Raises:
            RpcError: ERR_CAPACITY_EXCEEDED when too many wait already, ERR_INVALID_STATE when the replica is closed.
        """
        if self._waiting >= MAX_WAITING or self._backlog.is_full:
            raise RpcError(ErrorCode.ERR_CAPACITY_EXCEEDED, "too many writes are waiting")
        waiting = Waiting(operation, request, account, shares_decree=shares_decree, size=size)
        self._add(waiting)
        return waiting

    def take_put(self, put: PlainPut, size: int) -> bool:
        """Take a plain put, whose key is one; whether there is room for it.

        Args:
            put: The put.
            size: Of its request, in bytes.
        """
        run = self._run
        if self._is_closed or self._waiting >= MAX_WAITING or self._backlog.is_full:
            return False
        if run is None or run.size >= MAX_ROUND_BYTES or len(run.puts) >= MAX_ROUND_WRITES:
            run = self._run = _Run()
            self._queue.append(run)
            self._start()
        run.puts.append(put)
        run.size += size
        self._waiting += 1
        self._count(size + WRITE_OVERHEAD)
        return True

    def _count(self, size: int) -> None:
        self._queued_bytes += size
        self._counted_bytes += size
        self._backlog.size += size

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
            if self._queue:
                self._start()

    def _idleness(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._idle.append(waiter)
        return waiter

    def _start(self) -> None:
        if not (self._is_writing or self._is_held):
            self._is_writing = True
            self._log.gather(self._begin)

    def _add(self, waiting: Waiting) -> None:
        if self._is_closed:
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "the replica is closed")
        self._queue.append(waiting)
        self._run = None
        self._waiting += 1
        self._count(waiting.size)
        self._start()

    def _begin(self) -> None:
        before = self._core.last_prepared
        while (decided := self._decide_all(before)) is None:
            pass  # an operation raised: what it may have left in the draft is gone, and so is the operation
        draft, taken = decided
        if not (taken.answers or taken.decree):
            self._finish()
            return
        if taken.decree:
            draft.notes["decree"] = taken.decree
        try:
            self._log.submit(draft.changes, draft.notes, functools.partial(self._stored, taken))
        except Exception as error:
            log.error("a write cannot be logged", partition=self._shown, exc_info=error)
            self._core.give_back(before)
            self._refuse_all(taken, RpcError(ErrorCode.ERR_UNKNOWN, repr(error)))
            self._go_on()

    def _decide_all(self, before: int) -> tuple[Draft, _Round] | None:
        """Decide what waits, as much as one round takes; None when an operation has raised, and all others wait again.

        Args:
            before: The last decree that earlier rounds were given.
        """
        draft, queue, taken = self._draft(), self._queue, _Round(self._lease.losses)
        self._run = None
        shared = 0
        while queue and taken.writes < MAX_ROUND_WRITES and taken.size < MAX_ROUND_BYTES:
            first = queue[0]
            if not first.is_own and not (shared and first.shares_decree):
                if not self._core.has_room:
                    break
                given = self._core.give_decree()
                if not isinstance(given, int):
                    self._refuse(self._pop(), RpcError(given))
                    continue
                taken.decree = given
                shared = given if first.shares_decree else 0
            self._pop()
            try:
                self._take(first, draft, taken)
            except Exception as error:
                log.error("a write raised an error", partition=self._shown, exc_info=error)
                self._core.give_back(before)
                self._put_back(taken)
                self._refuse(first, RpcError(ErrorCode.ERR_UNKNOWN, repr(error)))
                return None
        return draft, taken

    def _take(self, first: Waiting | _Run, draft: Draft, taken: _Round) -> None:
        if isinstance(first, _Run):
            self._take_run(first, draft, taken)
        elif first.is_own:
            self._do_own(first, draft, taken)
        else:
            self._decide(first, draft, taken)

    def _put_back(self, taken: _Round) -> None:
        """Let what a round has taken wait again, in the same order."""
        for one in reversed(taken.order):
            if isinstance(one, Waiting):
                one.cost = Cost()
            self._queue.appendleft(one)
            self._waiting += len(one.puts) if isinstance(one, _Run) else 1
            self._queued_bytes += _backlog_of(one)

    def _pop(self) -> Any:
        first = self._queue.popleft()
        self._waiting -= len(first.puts) if isinstance(first, _Run) else 1
        self._queued_bytes -= _backlog_of(first)
        return first

    def _take_run(self, run: _Run, draft: Draft, taken: _Round) -> None:
        """Put the rows of plain puts into a round."""
        changes, headers = draft.changes, dict[int, bytes]()
        for key, value, asked, _, _, _ in run.puts:
            header = headers.get(asked)
            if header is None:
                header = headers[asked] = draft.header(asked)
            changes[key] = header + value
        taken.writes += len(run.puts)
        taken.size += run.size
        taken.puts.append((taken.decree, run.puts))
        taken.order.append(run)

    def _decide(self, waiting: Waiting, draft: Draft, taken: _Round) -> None:
        """Let a write of a client decide what it writes."""
        try:
            response = waiting.operation(draft, waiting.request, self._who, taken.decree, waiting.cost)
        except ValueError as error:  # a key that cannot be; nothing of the write is in the draft yet
            waiting.listener(None, RpcError(ErrorCode.ERR_INVALID_PARAMETERS, str(error)))
            return
        except StoreError as error:
            log.error("a write cannot read what it depends on", partition=self._shown, reason=str(error))
            waiting.listener(None, RpcError(ErrorCode.ERR_RDB_CORRUPTION, str(error)))
            return
        taken.size += waiting.cost.written
        taken.writes += 1
        taken.answers.append((waiting, response))
        taken.order.append(waiting)

    def _do_own(self, waiting: Waiting, draft: Draft, taken: _Round) -> None:
        try:
            taken.answers.append((waiting, cast(Any, waiting.operation)(draft)))
        except StoreError as error:
            waiting.listener(None, error)
        else:
            taken.writes += 1
            taken.order.append(waiting)

    def _refuse(self, refused: Waiting | _Run, error: RpcError) -> None:
        if isinstance(refused, _Run):
            self._tell(self._answer_puts, refused.puts, None, error)
        else:
            self._tell(refused.listener, None, error)

    def _refuse_all(self, taken: _Round, error: RpcError) -> None:
        for one in taken.order:
            self._refuse(one, error)

    def _tell(self, listen: Callable[..., object], *answer: object) -> None:
        """Answer somebody; if that fails, the others are answered all the same."""
        try:
            listen(*answer)
        except Exception as error:
            log.error("a write cannot be answered", partition=self._shown, exc_info=error)

    def _stored(self, taken: _Round, error: StoreError | None) -> None:
        if error is None:
            self._answer(taken)
        else:
            log.error("a write failed, the replica takes no more", partition=self._shown, reason=str(error))
            self._failed()
            self._refuse_all(taken, RpcError(ErrorCode.ERR_DISK_IO_ERROR, str(error)))
        self._go_on()

    def _answered(self) -> None:
        """Nothing is under way: only what is queued waits."""
        self._backlog.size += self._queued_bytes - self._counted_bytes
        self._counted_bytes = self._queued_bytes

    def _go_on(self) -> None:
        self._answered()
        if self._queue and not self._is_held:
            self._log.gather(self._begin)
        else:
            self._finish()

    def _answer(self, taken: _Round) -> None:
        if taken.decree:
            self._core.logged(taken.decree)
        late = None
        if taken.losses != self._lease.losses or not self._lease.is_held():
            # they are here, and another primary may have been made that does not have them
            late = RpcError(ErrorCode.ERR_TIMEOUT, "the lease of this node ended before the answer")
        for decree, puts in taken.puts:
            self._tell(self._answer_puts, puts, None if late else updated(self._who, decree), late)
        for waiting, response in taken.answers:
            if waiting.account is not None and late is not None:
                self._tell(waiting.listener, None, late)
                continue
            if waiting.account is not None:
                self._tell(waiting.account, waiting, response)
            self._tell(waiting.listener, response, None)

    def _finish(self) -> None:
        self._answered()
        self._is_writing = False
        waiters, self._idle = self._idle, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _backlog_of(one: Waiting | _Run) -> int:
    return one.size + WRITE_OVERHEAD * len(one.puts) if isinstance(one, _Run) else one.size
