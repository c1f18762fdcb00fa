"""Judges of a run: the order of commits against what clients were told, and PacificA's invariants at every step."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from metaserver.cluster.metadata import Partition
    from replicaserver.replication.prepare_list import Entry
    from tests.simulation.cluster import Cluster, ReplicaNode


class HistoryError(AssertionError):
    """The cluster did what it must never do."""


class Data(NamedTuple):
    """What the bytes of an entry say: an operation's outcome."""

    id: int
    key: str
    changes: bool
    value: str | None

    def encoded(self) -> bytes:
        """The bytes."""
        return f"{self.id} {self.key} {int(self.changes)} {'' if self.value is None else '=' + self.value}".encode()


@lru_cache(maxsize=4096)
def decoded(data: bytes) -> Data:
    """The outcome that bytes say."""
    number, key, changes, value = data.decode().split(" ", 3)
    return Data(int(number), key, changes == "1", value[1:] if value else None)


@dataclass(slots=True)
class Operation:
    """What a client wants, and what became of it.

    Attributes:
        kind: put, remove, incr, cas or read.
        value: What is put, or what `cas` replaces `expected` by.
        answer: ("ok", result), ("error", code), or None while nothing is known.
    """

    id: int
    client: int
    kind: str
    key: str
    value: str | None = None
    expected: str | None = None
    started_at: float = 0.0
    ended_at: float | None = None
    answer: tuple[str, Any] | None = None
    floor: int = 0
    ceiling: int = 0

    def effect(self, found: str | None) -> tuple[bool, str | None, Any]:
        """What it does to a row: whether it changes it, the new value, and the result."""
        match self.kind:
            case "put":
                return True, self.value, None
            case "remove":
                return True, None, None
            case "incr":
                number = (int(found) if found is not None and found.lstrip("-").isdigit() else 0) + 1
                return True, str(number), number
            case "cas":
                return (True, self.value, True) if found == self.expected else (False, None, False)
        raise ValueError(self.kind)


@dataclass
class Audit:
    """Everything that was committed and answered.

    Attributes:
        order: The data of every committed decree.
        operations: All that clients asked for, by id.
    """

    cluster: Cluster
    order: dict[int, bytes] = field(default_factory=dict)
    operations: dict[int, Operation] = field(default_factory=dict)
    decrees: dict[int, int] = field(default_factory=dict)
    known_to_clients: int = 0
    last: int = 0
    recent: deque[Operation] = field(default_factory=lambda: deque(maxlen=20))

    def committed(self, server: ReplicaNode, entry: Entry) -> None:
        """A member applies an entry."""
        before = self.order.setdefault(entry.decree, entry.data)
        if before != entry.data:
            raise HistoryError(f"decree {entry.decree} is {entry.data!r} at {server.name}, and was {before!r} before")
        self.last = max(self.last, entry.decree)
        operation = decoded(entry.data).id
        known = self.decrees.setdefault(operation, entry.decree)
        if known != entry.decree:
            raise HistoryError(f"operation {operation} is committed as {known} and as {entry.decree}")
        member = server.member
        if member.configuration.primary == member.node:
            self._on_all_disks(server, entry)

    def _on_all_disks(self, server: ReplicaNode, entry: Entry) -> None:
        in_force = self.cluster.meta.partition
        members = {server.node, *server.member.configuration.secondaries}
        if in_force.primary == server.node:  # what the metaserver has made durable counts before it is heard of
            members = {server.node, *in_force.secondaries} | (members & set(in_force.secondaries))
        for node in sorted(members):
            content = self.cluster.servers[node.host].content
            found = content.entries.get(entry.decree)
            if entry.decree <= content.base:
                continue
            if found is None or found.data != entry.data:
                raise HistoryError(
                    f"decree {entry.decree} is committed by {server.name}, and not on the disk of {node}"
                )

    def decided(self, partition: Partition) -> None:
        """The metaserver makes a configuration durable: each of its members has on its disk whatever is committed."""
        for node in partition.members():
            content = self.cluster.servers[node.host].content
            for decree in range(max(content.base, self.last - 30) + 1, self.last + 1):
                entry = content.entries.get(decree)
                if entry is None or entry.data != self.order.get(decree):
                    raise HistoryError(f"{node} becomes a member and has not decree {decree}, which is committed")

    def started(self, operation: Operation) -> None:
        """A client asks."""
        operation.started_at = self.cluster.world.now
        operation.floor = self.known_to_clients
        self.operations[operation.id] = operation
        self.recent.append(operation)

    def answered(self, operation: Operation, answer: tuple[str, Any]) -> None:
        """An answer has reached its client."""
        if operation.answer is not None or operation.ended_at is not None:
            return
        operation.answer, operation.ended_at = answer, self.cluster.world.now
        operation.ceiling = self.last
        if answer[0] == "ok" and operation.kind != "read":
            decree = self.decrees.get(operation.id)
            if decree is None:
                raise HistoryError(f"{operation} was acknowledged and is not committed")
            self.known_to_clients = max(self.known_to_clients, decree)

    def check(self) -> None:
        """Judge the whole run against the order of commits.

        Raises:
            HistoryError: With the first thing that cannot be.
        """
        last = self.last
        if missing := [decree for decree in range(1, last + 1) if decree not in self.order]:
            raise HistoryError(f"decrees {missing} were passed over")
        rows: dict[str, str | None] = {}
        versions: dict[str, list[tuple[int, str | None]]] = {}
        for decree in range(1, last + 1):
            data = decoded(self.order[decree])
            operation = self.operations[data.id]
            changes, value, result = operation.effect(rows.get(operation.key))
            if (changes, value) != (data.changes, data.value):
                raise HistoryError(f"decree {decree}: {operation} should write {value!r}, and wrote {data.value!r}")
            if changes:
                rows[operation.key] = value
                versions.setdefault(operation.key, []).append((decree, value))
            if operation.answer is not None and operation.answer[0] == "ok" and operation.answer[1] != result:
                raise HistoryError(f"decree {decree}: {operation} should answer {result!r}")
            if operation.answer is not None and operation.answer[0] == "error":
                raise HistoryError(f"decree {decree}: {operation} was rejected, and is committed all the same")
        for operation in self.operations.values():
            self._check_answer(operation, versions.get(operation.key, []))

    def _check_answer(self, operation: Operation, versions: list[tuple[int, str | None]]) -> None:
        if operation.answer is None or operation.answer[0] != "ok":
            return
        if operation.kind != "read":
            if operation.id not in self.decrees:
                raise HistoryError(f"{operation} was acknowledged and is lost")
            return
        first = bisect_right(versions, operation.floor, key=lambda version: version[0])
        end = bisect_right(versions, operation.ceiling, key=lambda version: version[0])
        possible = [value for _, value in versions[max(first - 1, 0) : end]] + ([None] if first == 0 else [])
        if operation.answer[1] not in possible:
            raise HistoryError(f"{operation} read {operation.answer[1]!r}, expected one of {possible}")
