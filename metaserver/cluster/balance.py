"""How primaries would be spread evenly over the replica servers that are alive (protocol §13.4, §5.1).

The greedy rule of the original: table by table, the server with the most primaries gives one to the server with the
fewest, until they differ by one at most. Pure, and only a plan: nothing has moved yet.

A partition that was never written can be given to another server at once: there is nothing to carry. One that has
rows can only move once another server has a copy of them, which is what secondaries are for; its move is planned and
counted, and not made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metaserver.cluster.metadata import Metadata, Partition, Table
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus


@dataclass(frozen=True, slots=True)
class Move:
    """A primary that should be on another server.

    Attributes:
        giver: Who has it.
        taker: Who should.
        is_free: Whether there is nothing to carry.
    """

    gpid: Gpid
    giver: HostPort
    taker: HostPort
    is_free: bool


def plan(
    metadata: Metadata,
    alive: Sequence[HostPort],
    is_empty: Callable[[Gpid, Partition], bool],
    *,
    spreads_cluster: bool = False,
) -> list[Move]:
    """The moves that would spread the primaries evenly, in the order in which they would be made.

    Args:
        alive: The servers that may hold partitions.
        is_empty: Whether a partition is known to have never been written.
        spreads_cluster: Whether rows shall move only to even out the cluster, its tables being even (the setting
            `balance_cluster`); partitions without rows always do.
    """
    moves: list[Move] = []
    if len(alive) < 2:
        return moves
    overall = Counter(p.primary for table in metadata.served() for p in table.partitions if p.primary)
    for table in metadata.available():
        if _is_settled(table, alive) and not metadata.is_loading(table.app_id):
            moves += _spread(table, alive, overall, is_empty, spreads_cluster=spreads_cluster)
    return moves


def _is_settled(table: Table, alive: Sequence[HostPort]) -> bool:
    """Whether every partition has one member, which is alive: what is not well is repaired first."""
    servers = set(alive)
    return table.status == AppStatus.AVAILABLE and all(
        partition.primary in servers and not partition.secondaries for partition in table.partitions
    )


def _is_even(own: Counter[HostPort], overall: Counter[HostPort], alive: Sequence[HostPort]) -> bool:
    """Whether nothing of a table needs to move, whichever of its partitions have rows."""
    giver = max(alive, key=lambda server: (own[server], overall[server], server))
    taker = min(alive, key=lambda server: (own[server], overall[server], server))
    gap = own[giver] - own[taker]
    return gap < 1 or (gap == 1 and overall[giver] - overall[taker] <= 1)


def _spread(
    table: Table,
    alive: Sequence[HostPort],
    overall: Counter[HostPort],
    is_empty: Callable[[Gpid, Partition], bool],
    *,
    spreads_cluster: bool,
) -> list[Move]:
    """The moves within one table; `overall` counts them as made."""
    if _is_even(Counter(partition.primary for partition in table.partitions), overall, alive):
        return []
    held: dict[HostPort, list[tuple[bool, Gpid]]] = {server: [] for server in alive}
    for gpid, partition in table:
        held[partition.primary].append((not is_empty(gpid, partition), gpid))
    for partitions in held.values():
        partitions.sort(reverse=True)  # the last one is given away first: an empty one, the lowest index
    moves: list[Move] = []
    while True:
        giver = max(alive, key=lambda server: (len(held[server]), overall[server], server))
        taker = min(alive, key=lambda server: (len(held[server]), overall[server], server))
        gap = len(held[giver]) - len(held[taker])
        if gap < 1:
            return moves
        has_rows, gpid = held[giver][-1]
        evens_out_cluster = overall[giver] - overall[taker] > 1 and (spreads_cluster or not has_rows)
        if gap == 1 and not evens_out_cluster:
            return moves
        held[taker].insert(0, held[giver].pop())
        overall[giver] -= 1
        overall[taker] += 1
        moves.append(Move(gpid, giver, taker, not has_rows))
