"""How the members of a partition change (protocol §13.2, §13.3).

A change is proposed with a ballot one above the stored one; a later proposal with the same ballot is rejected.
The next members are computed here from what the change is meant to do, never copied from the proposal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from metaserver.cluster.metadata import Change, Metadata, Partition, Rejected, Table
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.meta_admin import ConfigType
from shared.pegasus.wire.structures.metadata import ReplicaInfo


@dataclass(frozen=True, slots=True)
class Proposed:
    """A change of members that a replica server asks to be made.

    Attributes:
        node: The member that the change is about.
        ballot: The ballot of the new configuration.
        last_committed_decree: What the sender has committed.
    """

    gpid: Gpid
    type: ConfigType
    node: HostPort
    ballot: int
    last_committed_decree: int


def decide(metadata: Metadata, proposed: Proposed) -> Change:
    """The change that a proposal makes.

    Raises:
        Rejected: ERR_APP_NOT_EXIST, ERR_APP_DROPPED, ERR_INVALID_VERSION when the ballot is not the next one,
            ERR_INVALID_PARAMETERS when the members do not allow it.
    """
    found = metadata.partition(proposed.gpid)
    if found is None:
        raise Rejected(ErrorCode.ERR_APP_NOT_EXIST)
    table, partition = found
    if not table.is_served():
        raise Rejected(ErrorCode.ERR_APP_DROPPED)
    if proposed.ballot != partition.ballot + 1:
        raise Rejected(ErrorCode.ERR_INVALID_VERSION)
    if proposed.type == ConfigType.REMOVE and metadata.is_loading(table.app_id):
        raise Rejected(ErrorCode.ERR_INVALID_STATE, "files of a bulk load are on their way to its primary")
    changed = _next(partition, proposed)
    decree = max(partition.last_committed_decree, proposed.last_committed_decree)
    changed = replace(changed, last_committed_decree=decree)
    return Change(_completed(table, proposed.gpid, changed), {proposed.gpid: changed})


def _next(partition: Partition, proposed: Proposed) -> Partition:
    node = proposed.node
    match proposed.type:
        case ConfigType.ASSIGN_PRIMARY if node and not partition.members():
            if partition.last_drops and node not in partition.last_drops:
                raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"{node} never held the partition")
            return partition.with_primary(node)
        case ConfigType.UPGRADE_TO_PRIMARY if not partition.primary and node in partition.secondaries:
            return partition.with_primary(node)
        case ConfigType.PRIMARY_FORCE_UPDATE_BALLOT if node and node == partition.primary:
            return replace(partition, ballot=partition.ballot + 1)
        case ConfigType.UPGRADE_TO_SECONDARY if partition.primary and node and node not in partition.members():
            return partition.with_secondary(node)
        case ConfigType.DOWNGRADE_TO_SECONDARY if node and node == partition.primary:
            return partition.with_secondary(node)
        case ConfigType.REMOVE if _leaves_nothing(partition, proposed):
            return partition.vacated()
        case ConfigType.DOWNGRADE_TO_INACTIVE | ConfigType.REMOVE if node in partition.members():
            return partition.without(node)
        case _:
            name = proposed.type.name
            raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"{name} {node} does not fit the configuration")


def _leaves_nothing(partition: Partition, proposed: Proposed) -> bool:
    """Whether a sole member removes itself that has seen no write.

    A replica server sends that only after it has stopped to take writes and has found no row. Whoever lost its
    replica, or leaves with rows, says DOWNGRADE_TO_INACTIVE, and is remembered.
    """
    is_untouched = proposed.last_committed_decree == 0 and partition.last_committed_decree == 0
    return partition.members() == (proposed.node,) and not partition.last_drops and is_untouched


def give_up(metadata: Metadata, gpid: Gpid) -> Change:
    """The change that forgets who held a partition and what was committed, so that any server can begin it anew.

    Raises:
        Rejected: ERR_INVALID_STATE while the partition has members, or may get one by itself.
    """
    _, partition = metadata.partition(gpid) or (None, None)
    if partition is None or partition.members() or not partition.last_drops:
        raise Rejected(ErrorCode.ERR_INVALID_STATE, f"partition {gpid} is not lost")
    return Change(partitions={gpid: replace(partition.vacated(), last_drops=(), last_committed_decree=0)})


def _completed(table: Table, gpid: Gpid, changed: Partition) -> dict[int, Table]:
    """The table in service, if this was the last partition that had no primary (§1)."""
    if table.status == AppStatus.AVAILABLE or not changed.primary:
        return {}
    if all(other.primary for index, other in enumerate(table.partitions) if index != gpid.partition_index):
        return {table.app_id: replace(table, status=AppStatus.AVAILABLE)}
    return {}


def remove_dead(metadata: Metadata, dead: Iterable[HostPort]) -> Change:
    """The change that takes dead servers out of every configuration that nobody else will change.

    A dead primary is taken out here. A dead secondary is taken out by its primary, which knows what it has
    acknowledged; only where there is no primary is it taken out here.
    """
    gone = frozenset(dead)
    changed: dict[Gpid, Partition] = {}
    if not gone:
        return Change()
    for table in metadata.served():
        for index, partition in enumerate(table.partitions):
            after = partition.without(partition.primary) if partition.primary in gone else partition
            if not after.primary:
                for node in partition.secondaries:
                    after = after.without(node) if node in gone else after
            if after is not partition:
                changed[Gpid(table.app_id, index)] = after
    return Change(partitions=changed)


def lost_secondaries(metadata: Metadata, dead: Iterable[HostPort]) -> list[tuple[Gpid, HostPort]]:
    """The dead secondaries that a living primary shall take out of its configuration."""
    gone = frozenset(dead)
    if not gone:
        return []
    return [
        (Gpid(table.app_id, index), node)
        for table in metadata.served()
        for index, partition in enumerate(table.partitions)
        if partition.secondaries and partition.primary and partition.primary not in gone
        for node in partition.secondaries
        if node in gone
    ]


def assigned(metadata: Metadata, node: HostPort) -> list[Gpid]:
    """The partitions that a server shall serve."""
    return [
        Gpid(table.app_id, index)
        for table in metadata.served()
        for index, partition in enumerate(table.partitions)
        if node == partition.primary or node in partition.secondaries
    ]


def garbage(metadata: Metadata, node: HostPort, stored: Iterable[ReplicaInfo], now_s: float) -> list[ReplicaInfo]:
    """The replicas that a server may delete: their table is unknown, or dropped and past recall.

    Or they were never written, and the server has left the partition (`balance`).
    """
    found = []
    for info in stored:
        table = metadata.tables.get(info.pid.app_id)
        if table is not None and _was_left(metadata, node, info):
            found.append(info)
        if (table is None and info.pid.app_id <= metadata.last_app_id) or (
            table is not None and table.status == AppStatus.DROPPED and table.expire_second <= now_s
        ):
            found.append(info)
    return found


def _was_left(metadata: Metadata, node: HostPort, info: ReplicaInfo) -> bool:
    """Whether a replica without a write is of a configuration that is over, and another server has the partition.

    While nobody has it, the replica may be one that its server has just made because it was asked to.
    """
    found = metadata.partition(info.pid)
    if found is None or not found[0].is_served():
        return False
    _, partition = found
    is_untouched = info.last_committed_decree == 0 and info.last_prepared_decree == 0
    is_over = info.ballot < partition.ballot and partition.primary
    return bool(is_untouched and is_over and node not in (*partition.members(), *partition.last_drops))
