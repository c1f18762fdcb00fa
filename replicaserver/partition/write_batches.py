"""Writes of one partition in batches: decide all that wait, log them as one record, answer.

While the disk is busy writes gather; they are decided when the log is about to sync. Within a batch every operation
sees what those before it will have written. Between batches everything that was answered is on disk and visible, and
nothing else is. A batch that cannot be stored fails all its writes, and the replica with them: none was acknowledged.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import structlog

from replicaserver.partition.lease import Lease
from replicaserver.partition.write_queue import (
    MAX_BATCH_BYTES,
    MAX_BATCH_WRITES,
    Account,
    Backlog,
    PendingWrite,
    PlainPut,
    PutRun,
    WriteOperation,
    WriteQueue,
)
from replicaserver.replication.replica import Replica
from replicaserver.rows.store import Responder
from replicaserver.rows.writes import Draft, updated
from replicaserver.storage.engine import StoreError
from replicaserver.storage.node_log import ReplicaLog
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.rrdb import UpdateResponse

log = structlog.get_logger("replicaserver.write_batches")

T = TypeVar("T")

AnswerPuts = Callable[[Sequence[PlainPut], UpdateResponse | None, RpcError | None], None]
"""Notified what the puts of a decree are answered with, or why they fail."""


class _Batch:
    """What one batch has taken.

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
        self.order: list[PendingWrite | PutRun] = []
        self.puts: list[tuple[int, list[PlainPut]]] = []
        self.answers: list[tuple[PendingWrite, Any]] = []
        self.decree = self.writes = self.size = 0

    @property
    def has_room(self) -> bool:
        """Whether it takes another write."""
        return self.writes < MAX_BATCH_WRITES and self.size < MAX_BATCH_BYTES


class WriteBatches:
    """The writes of one partition.

    Args:
        core: Gives out decrees.
        log: Puts batches on disk.
        who: What responses repeat.
        lease: Until when this node may serve.
        draft: Makes the draft of a batch, with the time as it is then.
        failed: Called when a batch could not be stored.
        answer_puts: Answers plain puts.
        backlog: Counts what waits.
    """

    def __init__(
        self,
        core: Replica,
        log: ReplicaLog,
        who: Responder,
        lease: Lease,
        draft: Callable[[], Draft],
        failed: Callable[[], None],
        answer_puts: AnswerPuts,
        backlog: Backlog,
    ) -> None:
        self._core = core
        self._log = log
        self._who = who
        self._name = f"{who.app_id}.{who.partition_index}"
        self._lease = lease
        self._draft = draft
        self._failed = failed
        self._answer_puts = answer_puts
        self._queue = WriteQueue(backlog)
        self._is_writing = False
        self._is_held = False
        self._is_closed = False
        self._idle: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()

    def submit(
        self, operation: WriteOperation, request: Any, account: Account, *, shares_decree: bool, size: int = 0
    ) -> PendingWrite:
        """Take a write of a client; the response comes once it is on disk.

        Args:
            operation: Decides what is written; see `replicaserver.rows.writes`.
            request: What it is asked for.
            account: Counts the answer.
            shares_decree: Whether it may have the same decree as its neighbours.
            size: Of the request, in bytes.

        Raises:
            RpcError: ERR_CAPACITY_EXCEEDED when too many wait already, ERR_INVALID_STATE when the replica is closed.
        """
        if self._queue.is_full:
            raise RpcError(ErrorCode.ERR_CAPACITY_EXCEEDED, "too many writes are waiting")
        write = PendingWrite(operation, request, account, shares_decree=shares_decree, size=size)
        self._add(write)
        return write

    def submit_put(self, put: PlainPut, size: int) -> bool:
        """Take a plain put, whose key is valid; whether there is room for it.

        Args:
            put: The put.
            size: Of its request, in bytes.
        """
        if self._is_closed or self._queue.is_full:
            return False
        self._queue.add_put(put, size)
        self._start()
        return True

    def submit_internal(self, work: Callable[[Draft], T]) -> asyncio.Future[T]:
        """Take a write that no client asked for, which has no decree; when the future is done it is on disk.

        Raises:
            RpcError: ERR_INVALID_STATE when the replica is closed.
        """
        write = PendingWrite(cast(WriteOperation, work), None, None, shares_decree=True)
        self._add(write)
        return write.future()

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

    def _add(self, write: PendingWrite) -> None:
        if self._is_closed:
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "the replica is closed")
        self._queue.add(write)
        self._start()

    def _start(self) -> None:
        if not (self._is_writing or self._is_held):
            self._is_writing = True
            self._log.before_sync(self._begin)

    # -- deciding -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        before = self._core.last_prepared
        while (decided := self._decide_all(before)) is None:
            pass  # an operation raised: what it may have left in the draft is gone, and so is the operation
        draft, batch = decided
        if not (batch.answers or batch.decree):
            self._finish()
            return
        if batch.decree:
            draft.notes["decree"] = batch.decree
        try:
            self._log.submit(draft.changes, draft.notes, functools.partial(self._stored, batch))
        except Exception as error:
            log.error("a write cannot be logged", partition=self._name, exc_info=error)
            self._core.give_back(before)
            self._fail_all(batch, RpcError(ErrorCode.ERR_UNKNOWN, repr(error)))
            self._continue()

    def _decide_all(self, before: int) -> tuple[Draft, _Batch] | None:
        """Decide what waits, as much as one batch takes; None when an operation has raised, and all others wait again.

        Args:
            before: The last decree that earlier batches were given.
        """
        draft, queue, batch = self._draft(), self._queue, _Batch(self._lease.losses)
        queue.end_run()
        shared = 0
        while queue and batch.has_room:
            first = queue.first
            if not first.is_internal and not (shared and first.shares_decree):
                if not self._core.has_room:
                    break
                given = self._core.give_decree()
                if not isinstance(given, int):
                    self._fail(queue.pop(), RpcError(given))
                    continue
                batch.decree = given
                shared = given if first.shares_decree else 0
            queue.pop()
            try:
                self._decide(first, draft, batch)
            except Exception as error:
                log.error("a write raised an error", partition=self._name, exc_info=error)
                self._core.give_back(before)
                queue.put_back(batch.order)
                self._fail(first, RpcError(ErrorCode.ERR_UNKNOWN, repr(error)))
                return None
        return draft, batch

    def _decide(self, first: PendingWrite | PutRun, draft: Draft, batch: _Batch) -> None:
        if isinstance(first, PutRun):
            self._decide_puts(first, draft, batch)
        elif first.is_internal:
            self._decide_internal(first, draft, batch)
        else:
            self._decide_write(first, draft, batch)

    def _decide_puts(self, run: PutRun, draft: Draft, batch: _Batch) -> None:
        """Put the rows of plain puts into a batch."""
        changes, headers = draft.changes, dict[int, bytes]()
        for key, value, asked, _, _, _ in run.puts:
            header = headers.get(asked)
            if header is None:
                header = headers[asked] = draft.header(asked)
            changes[key] = header + value
        batch.writes += len(run.puts)
        batch.size += run.size
        batch.puts.append((batch.decree, run.puts))
        batch.order.append(run)

    def _decide_write(self, write: PendingWrite, draft: Draft, batch: _Batch) -> None:
        """Let a write of a client decide what it writes."""
        try:
            response = write.operation(draft, write.request, self._who, batch.decree, write.cost)
        except ValueError as error:  # a key that cannot be; nothing of the write is in the draft yet
            write.listener(None, RpcError(ErrorCode.ERR_INVALID_PARAMETERS, str(error)))
            return
        except StoreError as error:
            log.error("a write cannot read what it depends on", partition=self._name, reason=str(error))
            write.listener(None, RpcError(ErrorCode.ERR_RDB_CORRUPTION, str(error)))
            return
        batch.size += write.cost.written
        batch.writes += 1
        batch.answers.append((write, response))
        batch.order.append(write)

    def _decide_internal(self, write: PendingWrite, draft: Draft, batch: _Batch) -> None:
        try:
            batch.answers.append((write, cast(Any, write.operation)(draft)))
        except StoreError as error:
            write.listener(None, error)
        else:
            batch.writes += 1
            batch.order.append(write)

    # -- answering ------------------------------------------------------------------------------------

    def _stored(self, batch: _Batch, error: StoreError | None) -> None:
        if error is None:
            self._answer(batch)
        else:
            log.error("a write failed, the replica takes no more", partition=self._name, reason=str(error))
            self._failed()
            self._fail_all(batch, RpcError(ErrorCode.ERR_DISK_IO_ERROR, str(error)))
        self._continue()

    def _answer(self, batch: _Batch) -> None:
        if batch.decree:
            self._core.logged(batch.decree)
        late = None
        if batch.losses != self._lease.losses or not self._lease.is_held():
            # they are here, and another primary may have been made that does not have them
            late = RpcError(ErrorCode.ERR_TIMEOUT, "the lease of this node ended before the answer")
        for decree, puts in batch.puts:
            self._notify(self._answer_puts, puts, None if late else updated(self._who, decree), late)
        for write, response in batch.answers:
            if write.account is not None and late is not None:
                self._notify(write.listener, None, late)
                continue
            if write.account is not None:
                self._notify(write.account, write, response)
            self._notify(write.listener, response, None)

    def _fail(self, failed: PendingWrite | PutRun, error: RpcError) -> None:
        if isinstance(failed, PutRun):
            self._notify(self._answer_puts, failed.puts, None, error)
        else:
            self._notify(failed.listener, None, error)

    def _fail_all(self, batch: _Batch, error: RpcError) -> None:
        for entry in batch.order:
            self._fail(entry, error)

    def _notify(self, listener: Callable[..., object], *answer: object) -> None:
        """Answer one write; if that fails, the others are answered all the same."""
        try:
            listener(*answer)
        except Exception as error:
            log.error("a write cannot be answered", partition=self._name, exc_info=error)

    def _continue(self) -> None:
        self._queue.settle()
        if self._queue and not self._is_held:
            self._log.before_sync(self._begin)
        else:
            self._finish()

    def _finish(self) -> None:
        self._queue.settle()
        self._is_writing = False
        waiters, self._idle = self._idle, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
