"""What an operator may do with tables.

Each function takes the metadata and a request, and returns the change that carries it out, or raises `Rejected`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metaserver.cluster import env_rules
from metaserver.cluster.metadata import APP_TYPE, Change, Metadata, Partition, Rejected, Table
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.meta_admin import PatternMatchType

_NAME = re.compile(r"[0-9A-Za-z_.:]+")
_CREATING = (AppStatus.CREATING, AppStatus.RECALLING)
MAX_PARTITIONS = 65536


@dataclass(frozen=True, slots=True)
class Limits:
    """What the cluster allows at this moment.

    Attributes:
        is_frozen: Tables may not be created or changed: by the function level, or since servers are missing.
        alive_nodes: Replica servers that are alive.
    """

    is_frozen: bool
    alive_nodes: int
    min_replica_count: int
    max_replica_count: int

    def allows(self, replica_count: int) -> bool:
        """Whether a table may have so many replicas."""
        return self.min_replica_count <= replica_count <= min(self.max_replica_count, self.alive_nodes)


@dataclass(frozen=True, slots=True)
class NewTable:
    """A table to be created."""

    name: str
    partition_count: int
    replica_count: int
    envs: Mapping[str, str] = field(default_factory=dict)
    success_if_exist: bool = False
    app_type: str = APP_TYPE
    is_stateful: bool = True
    atomic_idempotent: bool = False


def create(metadata: Metadata, wanted: NewTable, limits: Limits, now_s: int) -> tuple[Change, int]:
    """Create a table, or find it if it exists and that is welcome.

    Returns:
        The change, empty when the table exists, and the table's id.

    Raises:
        Rejected: ERR_STATE_FREEZED, ERR_INVALID_PARAMETERS, ERR_APP_EXIST, ERR_BUSY_CREATING, ERR_BUSY_DROPPING.
    """
    if limits.is_frozen:
        raise Rejected(ErrorCode.ERR_STATE_FREEZED)
    if not 0 < wanted.partition_count <= MAX_PARTITIONS or not limits.allows(wanted.replica_count):
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS)
    check_name(wanted.name)
    env_rules.validate(wanted.envs)
    existing = metadata.named(wanted.name)
    if existing is None:
        table = _new(metadata, wanted, now_s)
        return Change.of_table(table), table.app_id
    _reject_busy(existing)
    if not wanted.success_if_exist:
        raise Rejected(ErrorCode.ERR_APP_EXIST)
    if not _matches(existing, wanted):
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS)
    return Change(), existing.app_id


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a table.

    Raises:
        Rejected: ERR_INVALID_PARAMETERS.
    """
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"'{name}' is not a name of letters, digits, '_', '.', ':'")


def first_tables(wanted: Sequence[NewTable], now_s: int) -> Change:
    """The tables of an empty cluster's first start, created before any replica server is known (§1)."""
    metadata = Metadata()
    for new in wanted:
        metadata.apply(Change.of_table(_new(metadata, new, now_s)))
    return Change(tables=dict(metadata.tables))


def _new(metadata: Metadata, wanted: NewTable, now_s: int) -> Table:
    return Table(
        app_id=metadata.last_app_id + 1,
        name=wanted.name,
        status=AppStatus.CREATING,
        max_replica_count=wanted.replica_count,
        partitions=(Partition(),) * wanted.partition_count,
        envs=dict(wanted.envs),
        create_second=now_s,
        atomic_idempotent=wanted.atomic_idempotent,
    )


def _matches(table: Table, wanted: NewTable) -> bool:
    return (
        table.partition_count == wanted.partition_count
        and table.max_replica_count == wanted.replica_count
        and wanted.app_type == APP_TYPE
        and wanted.is_stateful
        and dict(table.envs) == dict(wanted.envs)
        and table.atomic_idempotent == wanted.atomic_idempotent
    )


def _reject_busy(table: Table) -> None:
    if table.status in _CREATING:
        raise Rejected(ErrorCode.ERR_BUSY_CREATING)
    if table.status == AppStatus.DROPPING:
        raise Rejected(ErrorCode.ERR_BUSY_DROPPING)


def drop(metadata: Metadata, name: str, hold_s: int, now_s: int, *, success_if_not_exist: bool = False) -> Change:
    """Take a table out of service; it can be recalled until `hold_s` seconds from now.

    Raises:
        Rejected: ERR_APP_NOT_EXIST, ERR_BUSY_CREATING, ERR_BUSY_DROPPING.
    """
    table = metadata.named(name)
    if table is None:
        if success_if_not_exist:
            return Change()
        raise Rejected(ErrorCode.ERR_APP_NOT_EXIST)
    _reject_busy(table)
    dropped = replace(table, status=AppStatus.DROPPED, drop_second=now_s, expire_second=now_s + hold_s)
    return Change.of_table(dropped, {gpid: _closed(partition) for gpid, partition in table})


def _closed(partition: Partition) -> Partition:
    """The configuration without members; whoever was primary last is remembered as the latest drop."""
    primary = partition.primary
    for node in (*partition.secondaries, *([primary] if primary else [])):
        partition = partition.without(node)
    return partition


def recall(metadata: Metadata, app_id: int, new_name: str, now_s: int) -> tuple[Change, Table]:
    """Bring a dropped table back, under its old name or a new one.

    Raises:
        Rejected: ERR_APP_NOT_EXIST when it is unknown or expired, ERR_APP_EXIST when it is not dropped,
            ERR_BUSY_CREATING, ERR_BUSY_DROPPING, ERR_INVALID_PARAMETERS when the name is in use.
    """
    table = metadata.tables.get(app_id)
    if table is None or (table.status == AppStatus.DROPPED and table.expire_second <= now_s):
        raise Rejected(ErrorCode.ERR_APP_NOT_EXIST)
    _reject_busy(table)
    if table.status != AppStatus.DROPPED:
        raise Rejected(ErrorCode.ERR_APP_EXIST)
    name = new_name or table.name
    check_name(name)
    if metadata.named(name) is not None:
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"there is a table '{name}' already")
    recalled = replace(table, name=name, status=AppStatus.RECALLING, drop_second=0, expire_second=0)
    return Change.of_table(recalled), recalled


def rename(metadata: Metadata, old_name: str, new_name: str) -> Change:
    """Give a table another name.

    Raises:
        Rejected: ERR_APP_NOT_EXIST, ERR_INVALID_PARAMETERS when the new name is invalid or in use.
    """
    table = metadata.named(old_name)
    if table is None or table.status != AppStatus.AVAILABLE:
        raise Rejected(ErrorCode.ERR_APP_NOT_EXIST, f"there is no table '{old_name}' in service")
    check_name(new_name)
    if metadata.named(new_name) is not None:
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"there is a table '{new_name}' already")
    return Change.of_table(replace(table, name=new_name))


def expired(metadata: Metadata, now_s: float) -> Change:
    """The change that forgets dropped tables which can no longer be recalled."""
    gone = (
        table.app_id
        for table in metadata.tables.values()
        if table.status == AppStatus.DROPPED and table.expire_second <= now_s
    )
    return Change(forgotten=frozenset(gone))


# -- environment variables (§12.4) ----------------------------------------------------------------


def set_envs(metadata: Metadata, name: str, keys: Sequence[str], values: Sequence[str]) -> Change:
    """Set variables, all or none.

    Raises:
        Rejected: ERR_APP_NOT_EXIST, ERR_BUSY_DROPPING, ERR_INVALID_PARAMETERS with a hint.
    """
    if not keys or len(keys) != len(values):
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, "keys and values should be as many, and at least one")
    wanted = dict(zip(keys, values, strict=True))
    env_rules.validate(wanted)
    table = _settable(metadata, name)
    _reject_late(table, wanted)
    return Change.of_table(replace(table, envs={**table.envs, **wanted}))


def _reject_late(table: Table, wanted: Mapping[str, str]) -> None:
    """Refuse a variable that acts only from a table's creation on: RocksDB keeps room for such files, or does not."""
    asked = wanted.get(env_rules.INGEST_BEHIND)
    if asked is not None and asked.lower() != table.envs.get(env_rules.INGEST_BEHIND, "false").lower():
        hint = f"{env_rules.INGEST_BEHIND} can only be set when a table is created"
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, hint)


def delete_envs(metadata: Metadata, name: str, keys: Sequence[str]) -> tuple[Change, str]:
    """Delete variables by name.

    Returns:
        The change, and the hint that says what was deleted.
    """
    if not keys:
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, "there should be at least one key")
    table = _settable(metadata, name)
    return _without(table, [key for key in keys if key in table.envs])


def clear_envs(metadata: Metadata, name: str, prefix: str | None) -> tuple[Change, str]:
    """Delete the variables under a prefix, or all if it is empty.

    Returns:
        The change, and the hint that says what was deleted.
    """
    if prefix is None:
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, "the prefix to clear is missing")
    table = _settable(metadata, name)
    return _without(table, [key for key in table.envs if not prefix or key.startswith(f"{prefix}.")])


def _without(table: Table, keys: Sequence[str]) -> tuple[Change, str]:
    gone = sorted(set(keys))
    if env_rules.INGEST_BEHIND in gone:
        _reject_late(table, {env_rules.INGEST_BEHIND: "false"})
    if not gone:
        return Change(), "no key needs to be deleted"
    kept = {key: value for key, value in table.envs.items() if key not in gone}
    return Change.of_table(replace(table, envs=kept)), "deleted keys:" + "".join(f"\n    {key}" for key in gone)


def _settable(metadata: Metadata, name: str) -> Table:
    table = metadata.named(name)
    if table is None:
        raise Rejected(ErrorCode.ERR_APP_NOT_EXIST, "app cannot be found")
    if table.status == AppStatus.DROPPING:
        raise Rejected(ErrorCode.ERR_BUSY_DROPPING, "app is being dropped")
    return table


# -- other properties -----------------------------------------------------------------------------


def in_service(metadata: Metadata, name: str) -> Table:
    """The table of a name.

    Raises:
        Rejected: ERR_APP_NOT_EXIST, ERR_INCONSISTENT_STATE when it is not in service.
    """
    table = metadata.named(name)
    if table is None:
        raise Rejected(ErrorCode.ERR_APP_NOT_EXIST, f"there is no table '{name}'")
    if table.status != AppStatus.AVAILABLE:
        raise Rejected(ErrorCode.ERR_INCONSISTENT_STATE, f"table '{name}' is {table.status.name.lower()}")
    return table


def set_max_replica_count(metadata: Metadata, name: str, count: int, limits: Limits) -> Change:
    """Change how many replicas a table shall have.

    Raises:
        Rejected: as `in_service`; ERR_STATE_FREEZED, ERR_INVALID_PARAMETERS.
    """
    table = in_service(metadata, name)
    if limits.is_frozen:
        raise Rejected(ErrorCode.ERR_STATE_FREEZED, "the cluster is frozen")
    if not limits.allows(count):
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"{count} replicas are not allowed now")
    return Change.of_table(replace(table, max_replica_count=count))


def set_atomic_idempotent(metadata: Metadata, name: str, value: bool) -> Change:
    """Change whether atomic writes are made idempotent."""
    return Change.of_table(replace(in_service(metadata, name), atomic_idempotent=value))


def matching(metadata: Metadata, status: int, pattern: str | None, match_type: int | None) -> list[Table]:
    """The tables of a status whose names match, by id.

    Raises:
        Rejected: ERR_NOT_IMPLEMENTED for regular expressions, ERR_INVALID_PARAMETERS for an unknown match type.
    """
    wanted = PatternMatchType.MATCH_ALL if match_type is None else match_type
    if wanted == PatternMatchType.MATCH_REGEX:
        raise Rejected(ErrorCode.ERR_NOT_IMPLEMENTED, "regular expressions are not supported")
    if wanted not in list(PatternMatchType):
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"there is no match type {wanted}")
    return [
        table
        for _, table in sorted(metadata.tables.items())
        if status in (AppStatus.INVALID, table.status) and _name_matches(table.name, pattern or "", wanted)
    ]


def _name_matches(name: str, pattern: str, match_type: int) -> bool:
    match match_type:
        case PatternMatchType.MATCH_EXACT:
            return name == pattern
        case PatternMatchType.MATCH_ANYWHERE:
            return pattern in name
        case PatternMatchType.MATCH_PREFIX:
            return name.startswith(pattern)
        case PatternMatchType.MATCH_POSTFIX:
            return name.endswith(pattern)
        case _:
            return True


def partitions_of(table: Table, indices: Sequence[int]) -> list[tuple[Gpid, Partition]]:
    """Partitions by index, each once, all of them if none is named; indices that do not exist are left out (§12.2)."""
    every = range(table.partition_count)
    named = dict.fromkeys(index for index in indices if index in every) if indices else every
    return [(Gpid(table.app_id, index), table.partitions[index]) for index in named]
