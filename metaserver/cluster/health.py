"""How well partitions are, and how evenly they are spread, now and over time (§1, §5.1, appendix A)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from metaserver.cluster.metadata import Partition, Table
from shared.pegasus.wire.structures.base import Gpid, HostPort


@dataclass(frozen=True, slots=True)
class Health:
    """How many partitions of a table are in which state, as `/meta/app` counts them."""

    fully_healthy: int
    unhealthy: int
    write_unhealthy: int
    read_unhealthy: int


def health(table: Table) -> Health:
    """Count the partitions of a table by health."""
    full = write_ill = read_ill = 0
    for partition in table.partitions:
        members = len(partition.members())
        if not partition.primary:
            write_ill += 1
            read_ill += 1
        elif members >= table.max_replica_count:
            full += 1
        elif members < 2:
            write_ill += 1
    return Health(full, table.partition_count - full, write_ill, read_ill)


def required_members(configured: int) -> int:
    """How many members a partition needs to take writes.

    The original's formula for 0 asks for a majority of the table's replica count (§11.1). As long as nothing makes
    secondaries, replica servers take writes with the one member that there is, and this says the same.

    Args:
        configured: The setting `mutation_2pc_min_replica_count`.
    """
    return max(1, configured)


def gauge(table: Table, partition: Partition, required: int) -> str:
    """The table gauge that counts this partition: each counts in exactly one (appendix A)."""
    members = len(partition.members())
    if not partition.primary:
        return "unreadable_partitions" if partition.secondaries else "dead_partitions"
    if members < required:
        return "unwritable_partitions"
    return "writable_ill_partitions" if members < table.max_replica_count else "healthy_partitions"


def is_writable(partition: Partition, required: int) -> bool:
    """Whether a partition takes writes."""
    return bool(partition.primary) and len(partition.members()) >= required


@dataclass(frozen=True, slots=True)
class Load:
    """How many replicas a node carries."""

    primaries: int = 0
    secondaries: int = 0

    @property
    def total(self) -> int:
        """Replicas of either role."""
        return self.primaries + self.secondaries


def loads(tables: Iterable[Table]) -> dict[HostPort, Load]:
    """The load of every node that carries a partition of these tables."""
    primaries: Counter[HostPort] = Counter()
    secondaries: Counter[HostPort] = Counter()
    for table in tables:
        for partition in table.partitions:
            if partition.primary:
                primaries[partition.primary] += 1
            secondaries.update(partition.secondaries)
    return {node: Load(primaries[node], secondaries[node]) for node in primaries.keys() | secondaries.keys()}


def deviation(counts: Collection[int], *, is_sample: bool) -> float:
    """The spread of loads, as `/meta/cluster` rounds it (§5.1).

    Args:
        counts: One for every node.
        is_sample: Whether a node is missing, so that the divisor is one less.
    """
    if len(counts) < 2:
        return 0.0
    mean = sum(counts) / len(counts)
    divisor = len(counts) - 1 if is_sample else len(counts)
    spread = math.sqrt(sum((count - mean) ** 2 for count in counts) / divisor)
    return int((spread + 0.005) * 100) / 100


@dataclass
class Counts:
    """How often something has happened to each partition in this process's life.

    Attributes:
        changes: Its configuration has changed.
        became_writable: It came to take writes.
        became_unwritable: It ceased to.
        moved: It was given to another server.
        undecided: It had no primary, and no server was fit to be one.
    """

    changes: Counter[Gpid] = field(default_factory=Counter)
    became_writable: Counter[Gpid] = field(default_factory=Counter)
    became_unwritable: Counter[Gpid] = field(default_factory=Counter)
    moved: Counter[Gpid] = field(default_factory=Counter)
    undecided: Counter[Gpid] = field(default_factory=Counter)

    def changed(self, gpid: Gpid, before: Partition, after: Partition, required: int) -> None:
        """Count a change of a configuration.

        Args:
            required: The members that a partition needs to take writes.
        """
        self.changes[gpid] += 1
        was_writable = is_writable(before, required)
        if was_writable != is_writable(after, required):
            (self.became_unwritable if was_writable else self.became_writable)[gpid] += 1
