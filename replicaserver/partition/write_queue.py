"""The writes of one partition that wait to be decided, and how much room they take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from replicaserver.rows.store import Responder
from replicaserver.rows.writes import Cost, Draft
from shared.pegasus.serving.rpc import Pending, RpcCaller

MAX_BATCH_WRITES = 2000
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_WAITING = 50_000
MAX_BACKLOG_BYTES = 256 * 1024 * 1024
"""How much of the writes of all replicas of a node may wait; a write that comes then is rejected."""
WRITE_OVERHEAD = 256
"""What a write that waits costs besides its request, in bytes."""

WriteOperation = Callable[[Draft, Any, Responder, int, Cost], Any]
"""Decides what a write changes, and what it is answered with; see `replicaserver.rows.writes`."""

Account = Callable[["PendingWrite", Any], None]
"""Counts a write when it is answered."""

PlainPut = tuple[bytes, bytes, int, int, bytes, RpcCaller]
"""A put from the fast path: raw key, value, expiry asked for, when it came (`perf_counter_ns`), sequence number as it
stands on the wire, the caller. Nothing costs less than a tuple, and there are tens of thousands a second."""


@dataclass(slots=True)
class Backlog:
    """The writes of all replicas of a node that are not answered yet, in bytes."""

    size: int = 0

    @property
    def is_full(self) -> bool:
        """Whether no further write is taken."""
        return self.size >= MAX_BACKLOG_BYTES


class PendingWrite(Pending):
    """A write that is not answered yet.

    Attributes:
        operation: Decides what is written.
        request: What it is asked for.
        account: Counts the answer; None for an internal write, which has no decree.
        shares_decree: Whether it may have the same decree as its neighbours.
        size: Of the request, in bytes, and of what it costs to let it wait.
    """

    __slots__ = ("account", "cost", "operation", "request", "shares_decree", "size", "started_ns")

    def __init__(
        self, operation: WriteOperation, request: Any, account: Account | None, *, shares_decree: bool, size: int = 0
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
    def is_internal(self) -> bool:
        """Whether no client asked for it."""
        return self.account is None


class PutRun:
    """Plain puts that came one after the other, with nothing else between them.

    Attributes:
        puts: The puts, in order.
        size: Of their requests, in bytes.
    """

    __slots__ = ("puts", "size")
    is_internal: ClassVar = False
    shares_decree: ClassVar = True

    def __init__(self) -> None:
        self.puts: list[PlainPut] = []
        self.size = 0


class WriteQueue:
    """What waits, in order.

    Args:
        backlog: Counts what waits in all queues of the node.
    """

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._entries: deque[PendingWrite | PutRun] = deque()
        self._run: PutRun | None = None
        self._count = 0
        self._queued_bytes = self._counted_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def first(self) -> PendingWrite | PutRun:
        """What is decided next."""
        return self._entries[0]

    @property
    def is_full(self) -> bool:
        """Whether no further write of a client is taken."""
        return self._count >= MAX_WAITING or self._backlog.is_full

    def add(self, write: PendingWrite) -> None:
        """Add a write."""
        self._entries.append(write)
        self._run = None
        self._grow(1, write.size)

    def add_put(self, put: PlainPut, size: int) -> None:
        """Add a plain put to the run at the end, or begin one."""
        run = self._run
        if run is None or run.size >= MAX_BATCH_BYTES or len(run.puts) >= MAX_BATCH_WRITES:
            run = self._run = PutRun()
            self._entries.append(run)
        run.puts.append(put)
        run.size += size
        self._grow(1, size + WRITE_OVERHEAD)

    def end_run(self) -> None:
        """Let no further put join what waits: it is about to be decided."""
        self._run = None

    def _grow(self, count: int, size: int) -> None:
        self._count += count
        self._queued_bytes += size
        self._counted_bytes += size
        self._backlog.size += size

    def pop(self) -> PendingWrite | PutRun:
        """Take the first; the backlog counts it until `settle`."""
        first = self._entries.popleft()
        self._count -= _writes(first)
        self._queued_bytes -= _size(first)
        return first

    def put_back(self, entries: list[PendingWrite | PutRun]) -> None:
        """Let what was taken wait again, in the same order."""
        for entry in reversed(entries):
            if isinstance(entry, PendingWrite):
                entry.cost = Cost()
            self._entries.appendleft(entry)
            self._count += _writes(entry)
            self._queued_bytes += _size(entry)

    def settle(self) -> None:
        """Take what was popped and answered out of the backlog."""
        self._backlog.size += self._queued_bytes - self._counted_bytes
        self._counted_bytes = self._queued_bytes


def _writes(entry: PendingWrite | PutRun) -> int:
    return len(entry.puts) if isinstance(entry, PutRun) else 1


def _size(entry: PendingWrite | PutRun) -> int:
    return entry.size + WRITE_OVERHEAD * len(entry.puts) if isinstance(entry, PutRun) else entry.size
