"""The subcommands about tables: create, drop, recall, rename, list, variables."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from metaserver.commands.command import Row, admin, cluster_command, table_named
from metaserver.commands.explanations import NOT_RECALLED, why_not_created
from shared.cli import option
from shared.pegasus.client import PegasusClient
from shared.pegasus.wire import calls
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.structures.layer2 import AppInfo, AppStatus
from shared.pegasus.wire.structures.meta_admin import (
    AppEnvOperation,
    CreateAppOptions,
    CreateAppRequest,
    DropAppOptions,
    DropAppRequest,
    ListAppsRequest,
    RecallAppRequest,
    RenameAppRequest,
    UpdateAppEnvRequest,
)

STATUSES = [status.name.lower() for status in AppStatus if status != AppStatus.INVALID]


def _pairs(_ctx: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"'{value}' is not of the form NAME=VALUE")
    return dict(value.split("=", 1) for value in values)


@cluster_command("create-table")
@click.argument("name")
@option("--partitions", type=click.IntRange(min=1), default=8, help="Number of partitions.")
@option("--replicas", type=click.IntRange(min=1), default=3, help="Replicas of each partition.")
@option("--env", "envs", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Table setting; repeatable.")
@option("--if-missing", is_flag=True, help="Accept an existing table that is just like this.")
async def create_table(
    client: PegasusClient, name: str, partitions: int, replicas: int, envs: dict[str, str], if_missing: bool
) -> list[Row]:
    """Create a table and wait until it is served."""
    options = CreateAppOptions(partitions, replicas, if_missing, "pegasus", True, envs)
    request = CreateAppRequest(name, options)
    try:
        response = await admin(client, calls.CREATE_APP, request)
    except RpcError as error:
        raise await why_not_created(client, request, error) from error
    await client.table(name)
    return [{"app_id": response.appid, "name": name, "partitions": partitions, "replicas": replicas}]


@cluster_command("drop-table")
@click.argument("name")
@option("--reserve-seconds", type=click.IntRange(min=1), help="How long it can be recalled; by default 7 days.")
async def drop_table(client: PegasusClient, name: str, reserve_seconds: int | None) -> list[Row]:
    """Drop a table. Its data is kept for a while, see recall-table."""
    table = await table_named(client, name)
    options = DropAppOptions(reserve_seconds=reserve_seconds)
    await admin(client, calls.DROP_APP, DropAppRequest(name, options))
    return [{"app_id": table.app_id, "name": name, "status": "dropped"}]


@cluster_command("recall-table")
@click.argument("app_id", type=int)
@option("--name", default="", help="New name; by default the old one.")
async def recall_table(client: PegasusClient, app_id: int, name: str) -> list[Row]:
    """Bring a dropped table back, by its id (list-tables --status dropped)."""
    try:
        response = await admin(client, calls.RECALL_APP, RecallAppRequest(app_id, name))
    except RpcError as error:
        raise RpcError(error.code, NOT_RECALLED.get(error.code, "").format(app_id=app_id)) from error
    return [_shown(response.info)]


@cluster_command("rename-table")
@click.argument("old_name")
@click.argument("new_name")
async def rename_table(client: PegasusClient, old_name: str, new_name: str) -> list[Row]:
    """Give a table another name."""
    await admin(client, calls.RENAME_APP, RenameAppRequest(old_name, new_name))
    return [_shown(await table_named(client, new_name))]


@cluster_command("list-tables")
@option("--status", type=click.Choice(["all", *STATUSES]), default="available", help="Which tables to list.")
async def list_tables(client: PegasusClient, status: str) -> list[Row]:
    """List tables."""
    wanted = AppStatus.INVALID if status == "all" else AppStatus[status.upper()]
    response = await admin(client, calls.LIST_APPS, ListAppsRequest(wanted))
    return [_shown(info) for info in response.infos]


@cluster_command("set-envs")
@click.argument("name")
@click.argument("envs", nargs=-1, callback=_pairs, metavar="[NAME=VALUE]…")
@option("--delete", "deleted", multiple=True, metavar="NAME", help="Delete this variable; repeatable.")
@option("--clear", "prefix", metavar="PREFIX", help="Delete the variables under a prefix, or all if it is empty.")
async def set_envs(
    client: PegasusClient, name: str, envs: dict[str, str], deleted: tuple[str, ...], prefix: str | None
) -> list[Row]:
    """Set, delete or clear environment variables of a table, and list those it then has."""
    requests = []
    if prefix is not None:
        requests.append(UpdateAppEnvRequest(name, AppEnvOperation.CLEAR, clear_prefix=prefix))
    if deleted:
        requests.append(UpdateAppEnvRequest(name, AppEnvOperation.DEL, keys=deleted))
    if envs:
        requests.append(UpdateAppEnvRequest(name, AppEnvOperation.SET, list(envs), list(envs.values())))
    for request in requests:
        response = await admin(client, calls.UPDATE_APP_ENV, request)
        if response.hint_message:
            click.echo(response.hint_message, err=True)
    table = await table_named(client, name)
    return [{"name": key, "value": value} for key, value in sorted(table.envs.items())]


def _shown(info: AppInfo) -> Row:
    return {
        "app_id": info.app_id,
        "name": info.app_name,
        "status": AppStatus(info.status).name.lower(),
        "partitions": info.partition_count,
        "replicas": info.max_replica_count,
        "created": _when(info.create_second),
        "dropped": _when(info.drop_second),
        "expires": _when(info.expire_second),
        "envs": len(info.envs),
    }


def _when(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)) if second > 0 else "-"
