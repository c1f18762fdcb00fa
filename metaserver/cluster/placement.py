"""Who shall hold a partition that lacks members: the repair rules (protocol §13.4).

Pure: from what is known to what shall be asked of which replica server. An answer to that comes back as a
proposal of the server, which `configurations` decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from metaserver.cluster.metadata import Metadata, Partition, Table
from metaserver.cluster.nodes import Nodes
from shared.pegasus.wire.structures.base import NO_NODE, Gpid, HostPort
from shared.pegasus.wire.structures.meta_admin import ConfigType
from shared.pegasus.wire.structures.metadata import ReplicaInfo


@dataclass(frozen=True, slots=True)
class Action:
    """A request to a replica server.

    Attributes:
        target: The server that receives it.
        node: The member that it is about, often the same.
    """

    gpid: Gpid
    type: ConfigType
    target: HostPort
    node: HostPort


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a partition cannot be given a primary without an operator (DDD)."""

    gpid: Gpid
    reason: str


def repair(
    metadata: Metadata,
    nodes: Nodes,
    pending: Collection[Gpid],
    *,
    adds_secondaries: bool,
    may_add: Callable[[Gpid, Partition], bool],
    preferred: Mapping[Gpid, HostPort] = MappingProxyType({}),
) -> tuple[list[Action], list[Diagnosis]]:
    """What would repair the partitions that lack a primary or secondaries.

    Args:
        pending: Partitions about which a server has been asked already.
        adds_secondaries: Whether replica servers can make secondaries.
        may_add: Whether a missing secondary need not be waited for any longer.
        preferred: Servers that shall get new partitions if they are alive; the others get the rest.
    """
    alive = nodes.alive()
    actions: list[Action] = []
    diagnoses: list[Diagnosis] = []
    if not alive:
        return actions, diagnoses
    served = sorted(metadata.served(), key=lambda table: table.app_id)
    counted = [_counts(table) for table in served]
    overall = _Counts(
        sum((own.primaries for own in counted), Counter()), sum((own.total for own in counted), Counter())
    )
    for table, own in zip(served, counted, strict=True):
        for index, partition in enumerate(table.partitions):
            if partition.primary.host and not adds_secondaries:
                continue  # nearly all of them, nearly always
            gpid = Gpid(table.app_id, index)
            if gpid in pending:
                continue
            if partition.primary:
                action = _secondary(table, gpid, partition, nodes, overall, may_add)
            else:
                action, reason = _primary(gpid, partition, nodes, own, overall, preferred.get(gpid))
                if reason:
                    diagnoses.append(Diagnosis(gpid, reason))
            if action is None:
                continue
            actions.append(action)
            for counts in (own, overall):  # a proposal counts as if it had been carried out
                counts.total[action.node] += 1
                counts.primaries[action.node] += action.type != ConfigType.ADD_SECONDARY
    return actions, diagnoses


@dataclass(frozen=True, slots=True)
class _Counts:
    primaries: Counter[HostPort]
    total: Counter[HostPort]


def _counts(table: Table) -> _Counts:
    """How many partitions of a table each server holds."""
    primaries = Counter(partition.primary for partition in table.partitions)
    del primaries[NO_NODE]
    secondaries = Counter(node for partition in table.partitions for node in partition.secondaries)
    return _Counts(primaries, primaries + secondaries)


def _primary(
    gpid: Gpid, partition: Partition, nodes: Nodes, own: _Counts, overall: _Counts, preferred: HostPort | None
) -> tuple[Action | None, str]:
    """Who becomes primary, or why nobody can."""

    def fewest(candidates: Collection[HostPort]) -> HostPort:
        return min(candidates, key=lambda node: (own.primaries[node], overall.primaries[node], node))

    alive_secondaries = [node for node in partition.secondaries if nodes.is_alive(node)]
    if alive_secondaries:
        chosen = fewest(alive_secondaries)
        return Action(gpid, ConfigType.UPGRADE_TO_PRIMARY, chosen, chosen), ""
    if partition.secondaries:
        return None, ""  # they are about to be found dead
    if not partition.last_drops:
        chosen = preferred if preferred is not None and nodes.is_alive(preferred) else fewest(nodes.alive())
        return Action(gpid, ConfigType.ASSIGN_PRIMARY, chosen, chosen), ""
    returned, reason = _returned(gpid, partition, nodes)
    if returned is None:
        return None, reason
    return Action(gpid, ConfigType.ASSIGN_PRIMARY, returned, returned), ""


def _returned(gpid: Gpid, partition: Partition, nodes: Nodes) -> tuple[HostPort | None, str]:
    """Which of the dropped members may become primary, all members having been dropped.

    Stricter than the original with a sole member: it too must have reported that it still has the replica.
    """
    last_two = partition.last_drops[-2:]
    reports: dict[HostPort, ReplicaInfo | None] = {}
    for name in last_two:
        node = nodes.known.get(name)
        if node is None or not node.is_alive or node.stored is None:
            return None, f"waiting for {name}, {'the last member' if len(last_two) == 1 else 'one of the last two'}"
        reports[name] = node.stored.get(gpid)
    return _latest(partition, reports)


def _latest(partition: Partition, reports: Mapping[HostPort, ReplicaInfo | None]) -> tuple[HostPort | None, str]:
    """The member with the longest history, if the histories do not contradict each other."""
    known = {name: info for name, info in reports.items() if info is not None}
    if not known:
        return None, f"{' and '.join(map(str, reports))} came back without the replica"
    best = max(known, key=lambda name: _history(known[name]))
    chosen = known[best]
    for name, info in known.items():
        if info.last_committed_decree > chosen.last_prepared_decree:
            return None, f"{name} has committed more than {best} has prepared"
    if max(info.last_prepared_decree for info in known.values()) < partition.last_committed_decree:
        return None, f"decree {partition.last_committed_decree} was committed, and no member that came back has it"
    return best, ""


def _history(info: ReplicaInfo) -> tuple[int, int, int]:
    """How far a replica's history goes; of two with one committed decree, the one that has prepared more goes first."""
    return info.ballot, info.last_committed_decree, info.last_prepared_decree


def _secondary(
    table: Table,
    gpid: Gpid,
    partition: Partition,
    nodes: Nodes,
    overall: _Counts,
    may_add: Callable[[Gpid, Partition], bool],
) -> Action | None:
    """Who becomes a further secondary, or is one too many."""
    members = partition.members()
    if not nodes.is_alive(partition.primary):
        return None
    if len(members) > table.max_replica_count:
        surplus = max(partition.secondaries, key=lambda node: (overall.total[node], node))
        return Action(gpid, ConfigType.DOWNGRADE_TO_INACTIVE, partition.primary, surplus)
    if len(members) >= table.max_replica_count:
        return None
    returned = [node for node in reversed(partition.last_drops) if nodes.is_alive(node)]
    if returned:
        return Action(gpid, ConfigType.ADD_SECONDARY, partition.primary, returned[0])
    if partition.last_drops and not may_add(gpid, partition):
        return None
    others = [node for node in nodes.alive() if node not in members]
    if not others:
        return None
    chosen = min(others, key=lambda node: (overall.total[node], node))
    return Action(gpid, ConfigType.ADD_SECONDARY, partition.primary, chosen)
