"""Backup policies, backups, and tables made from them.

Pure, like all decisions of the metaserver. Files of a backup are made and read by replica servers; where
they lie, and that a table is made from them, travels in the table's environment variables.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from metaserver.cluster.metadata import (
    Backup,
    BackupPolicy,
    Change,
    Metadata,
    Partition,
    Rejected,
    Table,
    rejected_paths,
)
from metaserver.cluster.tables import MAX_PARTITIONS, check_name
from shared.pegasus.files import paths
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.backup import ModifyBackupPolicyRequest
from shared.pegasus.wire.structures.layer2 import AppStatus

RESTORE = "restore."
_START_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


def add_policy(metadata: Metadata, policy: BackupPolicy, shortest_interval_s: int) -> Change:
    """Add a policy.

    Raises:
        Rejected: ERR_INVALID_PARAMETERS with a hint.
    """
    if not policy.name or policy.name in metadata.policies:
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"policy name '{policy.name}' is empty or in use")
    with rejected_paths():
        paths.name("policy_name", policy.name)
    _check(metadata, policy, shortest_interval_s)
    return Change(policies={policy.name: policy})


def modify_policy(metadata: Metadata, request: ModifyBackupPolicyRequest, shortest_interval_s: int) -> Change:
    """Change the members of a policy that the request names.

    Raises:
        Rejected: ERR_INVALID_PARAMETERS with a hint, ERR_BUSY when a policy is disabled while it makes a backup.
    """
    policy = metadata.policies.get(request.policy_name)
    if policy is None:
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"there is no policy '{request.policy_name}'")
    app_ids = (policy.app_ids | set(request.add_appids or ())) - set(request.removal_appids or ())
    changed = replace(policy, app_ids=frozenset(app_ids))
    if request.new_backup_interval_sec is not None:
        changed = replace(changed, interval_s=request.new_backup_interval_sec)
    if request.backup_history_count_to_keep is not None:
        changed = replace(changed, history_count=request.backup_history_count_to_keep)
    if request.start_time is not None:
        changed = replace(changed, start_time=request.start_time)
    if request.is_disable is not None:
        is_running = any(backup.end_ms == 0 for backup in backups_of(metadata, policy.name))
        if request.is_disable and is_running and not request.force_disable:
            raise Rejected(ErrorCode.ERR_BUSY, "a backup is under way")
        changed = replace(changed, is_disabled=request.is_disable)
    _check(metadata, changed, shortest_interval_s)
    return Change(policies={policy.name: changed})


def _check(metadata: Metadata, policy: BackupPolicy, shortest_interval_s: int) -> None:
    unknown = [app_id for app_id in sorted(policy.app_ids) if not _is_available(metadata, app_id)]
    hint = ""
    if not policy.app_ids or unknown:
        hint = f"there is no table {unknown[0]}" if unknown else "a policy needs a table"
    elif policy.interval_s <= shortest_interval_s:
        hint = f"the interval must exceed {shortest_interval_s} s"
    elif policy.history_count <= 0:
        hint = "at least one backup must be kept"
    elif not _START_TIME.fullmatch(policy.start_time):
        hint = f"start time '{policy.start_time}' is not of the form hh:mm"
    if hint:
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, hint)


def _is_available(metadata: Metadata, app_id: int) -> bool:
    table = metadata.tables.get(app_id)
    return table is not None and table.status == AppStatus.AVAILABLE


def backups_of(metadata: Metadata, policy_name: str) -> list[Backup]:
    """The backups of a policy, the latest first."""
    found = (backup for backup in metadata.backups.values() if backup.policy_name == policy_name)
    return sorted(found, key=lambda backup: -backup.id)


def due(metadata: Metadata, now: datetime.datetime) -> list[BackupPolicy]:
    """The policies whose next backup is to begin.

    The first begins at the policy's time of day; each later one an interval after the one before, and, where
    the interval is a day or more, not before that time of day.

    Args:
        now: Local time.
    """
    found = []
    for policy in metadata.policies.values():
        made = backups_of(metadata, policy.name)
        if policy.is_disabled or any(backup.end_ms == 0 for backup in made):
            continue
        hour, minute = map(int, policy.start_time.split(":"))
        begins_today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        if not made:
            is_due = begins_today <= now < begins_today + datetime.timedelta(minutes=1)
        else:
            last = datetime.datetime.fromtimestamp(made[0].start_ms / 1000, tz=now.tzinfo)
            is_due = now >= last + datetime.timedelta(seconds=policy.interval_s - 60)
            if policy.interval_s >= 86400:
                is_due = is_due and now >= begins_today
        if is_due:
            found.append(policy)
    return found


def begin(metadata: Metadata, policy_name: str, provider: str, root: str, ids: Collection[int], now_ms: int) -> Backup:
    """A backup that begins now, under an id that no other has."""
    tables = {app_id: metadata.tables[app_id].name for app_id in sorted(ids) if _is_available(metadata, app_id)}
    backup_id = max([now_ms - 1, *metadata.backups]) + 1
    return Backup(backup_id, policy_name, provider, root, tables, now_ms)


def surplus(metadata: Metadata, policy: BackupPolicy) -> list[Backup]:
    """The backups of a policy beyond those it keeps."""
    complete = [b for b in backups_of(metadata, policy.name) if b.end_ms and not b.is_failed]
    failed = [b for b in backups_of(metadata, policy.name) if b.is_failed]
    return [*complete[policy.history_count :], *failed[policy.history_count :]]


def restored(
    metadata: Metadata, name: str, described: Mapping[str, object], origin: Mapping[str, str], now_s: int
) -> tuple[Change, Table]:
    """The table that is made from a backup.

    Args:
        described: `backup_metadata` of its first partition.
        origin: What replica servers need to find the backup, without the prefix `restore.`.

    Raises:
        Rejected: ERR_INVALID_PARAMETERS when the name is in use, ERR_CORRUPTION when the description is damaged.
    """
    check_name(name)
    if metadata.named(name) is not None:
        raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"table name '{name}' is in use")
    count = described.get("partition_count")
    if not isinstance(count, int) or not 0 < count <= MAX_PARTITIONS:
        raise Rejected(ErrorCode.ERR_CORRUPTION, "the backup does not say how many partitions it has")
    table = Table(
        app_id=metadata.last_app_id + 1,
        name=name,
        status=AppStatus.CREATING,
        max_replica_count=1,
        partitions=(Partition(),) * count,
        envs={f"{RESTORE}{key}": value for key, value in origin.items()},
        create_second=now_s,
    )
    return Change.of_table(table), table


def settled(metadata: Metadata) -> Change:
    """The change after which tables in service no longer say that they are made from a backup."""
    changed = {
        table.app_id: replace(table, envs=_without_restore(table.envs))
        for table in metadata.available()
        if any(key.startswith(RESTORE) for key in table.envs)
    }
    return Change(tables=changed)


def _without_restore(envs: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in envs.items() if not key.startswith(RESTORE)}
