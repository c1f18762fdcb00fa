"""`metaserver backup`: backups, policies and restoring, by command."""

from __future__ import annotations

import asyncio
import time

import click

from metaserver.commands.command import CommandError, Row, admin, cluster_command, table_named
from metaserver.commands.explanations import NOT_RESTORED
from shared.cli import option
from shared.pegasus.client import PegasusClient
from shared.pegasus.client.connection import Call
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.structures.backup import (
    AddBackupPolicyRequest,
    AddBackupPolicyResponse,
    BackupItem,
    ModifyBackupPolicyRequest,
    ModifyBackupPolicyResponse,
    QueryBackupPolicyRequest,
    QueryBackupPolicyResponse,
    QueryBackupStatusRequest,
    QueryBackupStatusResponse,
    RestoreRequest,
    StartBackupAppRequest,
    StartBackupAppResponse,
)
from shared.pegasus.wire.structures.meta_admin import CreateAppResponse

__all__ = ["backup"]

START = Call("RPC_CM_START_BACKUP_APP", StartBackupAppRequest, StartBackupAppResponse)
STATUS = Call("RPC_CM_QUERY_BACKUP_STATUS", QueryBackupStatusRequest, QueryBackupStatusResponse)
RESTORE = Call("RPC_CM_START_RESTORE", RestoreRequest, CreateAppResponse)
ADD = Call("RPC_CM_ADD_BACKUP_POLICY", AddBackupPolicyRequest, AddBackupPolicyResponse)
MODIFY = Call("RPC_CM_MODIFY_BACKUP_POLICY", ModifyBackupPolicyRequest, ModifyBackupPolicyResponse)
POLICIES = Call("RPC_CM_QUERY_BACKUP_POLICY", QueryBackupPolicyRequest, QueryBackupPolicyResponse)

backup = click.Group("backup", help="Back tables up to a folder or URL, once or by policy, and restore them.")


@cluster_command("start")
@click.argument("name")
@option("--provider", default="local_service", help="Name of the file provider, as the daemons know it.")
@option("--root", default="", help="Folder below it; by default the setting cold_backup_root.")
@option("--wait", "waits", is_flag=True, help="Return when the backup has ended.")
async def start(client: PegasusClient, name: str, provider: str, root: str, waits: bool) -> list[Row]:
    """Back up a table once."""
    table = await table_named(client, name)
    begun = await admin(client, START, StartBackupAppRequest(provider, table.app_id, root or None))
    wanted = QueryBackupStatusRequest(table.app_id, begun.backup_id)
    while True:
        (item,) = (await admin(client, STATUS, wanted)).backup_items
        if item.end_time_ms or not waits:
            break
        await asyncio.sleep(0.2)
    if item.is_backup_failed:
        raise CommandError(f"backup {item.backup_id} failed; the log of the replica servers says why")
    return [_shown(item)]


@cluster_command("status")
@click.argument("name")
async def status(client: PegasusClient, name: str) -> list[Row]:
    """List the backups of a table that were asked for, the latest first."""
    table = await table_named(client, name)
    response = await admin(client, STATUS, QueryBackupStatusRequest(table.app_id))
    return [_shown(item) for item in response.backup_items]


@cluster_command("restore")
@click.argument("name")
@click.argument("backup_id", type=int)
@click.argument("new_name")
@option("--app-id", type=int, help="Id of the table that was backed up; by default that of the table NAME.")
@option("--policy", default="", help="Policy that made the backup.")
@option("--provider", default="local_service", help="Name of the file provider, as the daemons know it.")
@option("--root", default="", help="Folder below it; by default the setting cold_backup_root.")
@option("--skip-bad-partitions", is_flag=True, help="Leave partitions empty whose backup is missing or damaged.")
async def restore(
    client: PegasusClient,
    name: str,
    backup_id: int,
    new_name: str,
    app_id: int | None,
    policy: str,
    provider: str,
    root: str,
    skip_bad_partitions: bool,
) -> list[Row]:
    """Make a new table from a backup of the table NAME, and wait until it is served."""
    origin = app_id if app_id is not None else (await table_named(client, name)).app_id
    request = RestoreRequest("", policy, backup_id, name, origin, new_name, provider, skip_bad_partitions, root or None)
    try:
        response = await admin(client, RESTORE, request)
    except RpcError as error:
        raise RpcError(error.code, NOT_RESTORED.get(error.code, "")) from error
    table = await client.table(new_name)
    return [{"app_id": response.appid, "name": new_name, "partitions": table.partition_count}]


@cluster_command("add-policy")
@click.argument("policy")
@click.argument("tables", nargs=-1, required=True)
@option("--provider", default="local_service", help="Name of the file provider, as the daemons know it.")
@option("--interval", "interval_s", type=click.IntRange(min=1), default=86400, help="Seconds between two backups.")
@option("--start-time", default="03:00", help="Time of day of the first backup, and of all if they are daily.")
@option("--keep", type=click.IntRange(min=1), default=7, help="Backups that are kept.")
async def add_policy(
    client: PegasusClient,
    policy: str,
    tables: tuple[str, ...],
    provider: str,
    interval_s: int,
    start_time: str,
    keep: int,
) -> list[Row]:
    """Back up tables regularly; needs the setting cold_backup_disabled=false."""
    ids = [(await table_named(client, name)).app_id for name in tables]
    await admin(client, ADD, AddBackupPolicyRequest(provider, policy, ids, interval_s, keep, start_time))
    return await _policies(client, [policy])


@cluster_command("set-policy")
@click.argument("policy")
@click.argument("state", type=click.Choice(["enabled", "disabled"]))
async def set_policy(client: PegasusClient, policy: str, state: str) -> list[Row]:
    """Enable or disable a policy."""
    await admin(client, MODIFY, ModifyBackupPolicyRequest(policy, is_disable=state == "disabled"))
    return await _policies(client, [policy])


@cluster_command("policies")
async def policies(client: PegasusClient) -> list[Row]:
    """List the policies, with their last backup."""
    return await _policies(client, [])


async def _policies(client: PegasusClient, names: list[str]) -> list[Row]:
    response = await admin(client, POLICIES, QueryBackupPolicyRequest(names, 1))
    return [
        {
            "policy": entry.policy_name,
            "provider": entry.backup_provider_type,
            "app_ids": sorted(entry.app_ids),
            "interval_s": int(entry.backup_interval_seconds),
            "start_time": entry.start_time,
            "keep": entry.backup_history_count_to_keep,
            "status": "disabled" if entry.is_disable else "enabled",
            "last_backup": made[0].backup_id if made else None,
        }
        for entry, made in zip(response.policys, response.backup_infos, strict=True)
    ]


def _shown(item: BackupItem) -> Row:
    status = "failed" if item.is_backup_failed else "complete" if item.end_time_ms else "running"
    return {
        "backup_id": item.backup_id,
        "table": item.app_name,
        "provider": item.backup_provider_type,
        "root": item.backup_path,
        "status": status,
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(item.start_time_ms / 1000)),
    }


for command in (start, status, restore, add_policy, set_policy, policies):
    backup.add_command(command)
