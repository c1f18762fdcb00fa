"""What an operator does with a cluster, by command.

Everything goes over the admin RPCs, so the commands work with an Apache Pegasus cluster as well.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import click
import orjson

from metaserver.commands.explanations import NOT_ASSIGNED, NOT_RECALLED, level_in_force, why_not_created
from shared.cli import EXISTING_FILE, option
from shared.pegasus.client import PegasusClient
from shared.pegasus.client.connection import Call
from shared.pegasus.serving.tls import client_context
from shared.pegasus.wire import calls
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppInfo, AppStatus
from shared.pegasus.wire.structures.meta_admin import (
    AppEnvOperation,
    BalancerRequest,
    ConfigType,
    CreateAppOptions,
    CreateAppRequest,
    DddDiagnoseRequest,
    DropAppOptions,
    DropAppRequest,
    ListAppsRequest,
    ListNodesRequest,
    MetaControlRequest,
    MetaFunctionLevel,
    NodeStatus,
    ProposalAction,
    RecallAppRequest,
    RenameAppRequest,
    UpdateAppEnvRequest,
)

__all__ = ["COMMANDS", "CommandError", "Row", "admin", "cluster_command", "table_named"]

LEVELS = [level.name.lower() for level in MetaFunctionLevel if level != MetaFunctionLevel.INVALID]
STATUSES = [status.name.lower() for status in AppStatus if status != AppStatus.INVALID]
Row = dict[str, Any]


class CommandError(Exception):
    """A command cannot be carried out; the text is what the operator reads."""


# -- how commands ask and answer ------------------------------------------------------------------


def _servers(_ctx: click.Context, _parameter: click.Parameter, value: str) -> list[HostPort]:
    try:
        return [HostPort.parse(server) for server in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _server(_ctx: click.Context, _parameter: click.Parameter, value: str) -> HostPort:
    try:
        return HostPort.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _tls(_ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> ssl.SSLContext | None:
    try:
        return None if value is None else client_context(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _partition(_ctx: click.Context, _parameter: click.Parameter, value: str) -> Gpid:
    if not re.fullmatch(r"\d{1,9}\.\d{1,9}", value):
        raise click.BadParameter(f"'{value}' is not a partition, such as 2.0")
    app_id, _, index = value.partition(".")
    return Gpid(int(app_id), int(index))


def _pairs(_ctx: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"'{value}' is not of the form NAME=VALUE")
    return dict(value.split("=", 1) for value in values)


def cluster_command(name: str) -> Callable[[Callable[..., Coroutine[Any, Any, list[Row]]]], click.Command]:
    """Make a function that asks a cluster a command: it returns rows, which are printed as a table or as JSON."""

    def decorate(function: Callable[..., Coroutine[Any, Any, list[Row]]]) -> click.Command:
        def run(
            meta: list[HostPort], timeout_s: float, as_json: bool, tls: ssl.SSLContext | None, **arguments: Any
        ) -> None:
            rows = asyncio.run(_asked(function, PegasusClient(meta, timeout_s=timeout_s, tls=tls), arguments))
            click.echo(orjson.dumps(rows).decode() if as_json else _table(rows))

        run.__doc__ = function.__doc__
        run.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        for add in (
            option("--json", "as_json", is_flag=True, help="Print JSON."),
            option("--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=30.0, help="Seconds to wait."),
            option(
                "--tls-ca",
                "tls",
                type=EXISTING_FILE,
                callback=_tls,
                help="Certificates (PEM) by which the servers are known, when they speak TLS.",
            ),
            option("--meta", default="127.0.0.1:34601", callback=_servers, help="Metaservers, HOST:PORT[,…]."),
        ):
            run = add(run)
        return click.command(name)(run)

    return decorate


async def _asked(
    function: Callable[..., Awaitable[list[Row]]], client: PegasusClient, arguments: dict[str, Any]
) -> list[Row]:
    async with client:
        try:
            return await function(client, **arguments)
        except (RpcError, CommandError) as error:
            raise click.ClickException(str(error)) from error


async def admin(client: PegasusClient, call: Call, request: Any) -> Any:
    """The response to an admin request.

    Raises:
        RpcError: The cluster declined it.
    """
    response = await client.meta.call(call, request)
    if response.err != ErrorCode.ERR_OK:
        hint = getattr(response, "hint_message", None) or getattr(response, "hint_msg", None)
        raise RpcError(response.err, hint or "")
    return response


def _table(rows: list[Row]) -> str:
    """Rows in columns, with a head."""
    if not rows:
        return "nothing"
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


# -- tables ---------------------------------------------------------------------------------------


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


async def table_named(client: PegasusClient, name: str) -> AppInfo:
    response = await admin(client, calls.LIST_APPS, ListAppsRequest(AppStatus.INVALID))
    for info in response.infos:
        if info.app_name == name and info.status != AppStatus.DROPPED:
            found: AppInfo = info
            return found
    raise RpcError(ErrorCode.ERR_APP_NOT_EXIST, f"there is no table '{name}'")


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


# -- the cluster ----------------------------------------------------------------------------------


@cluster_command("nodes")
async def nodes(client: PegasusClient) -> list[Row]:
    """List the replica servers, with the replicas they hold."""
    listed = await admin(client, calls.LIST_NODES, ListNodesRequest(NodeStatus.INVALID))
    infos = (await admin(client, calls.LIST_APPS, ListAppsRequest(AppStatus.AVAILABLE))).infos
    counts: dict[HostPort, list[int]] = {}
    for info in infos:
        for partition in (await client.meta.routing(info.app_name)).partitions:
            if primary := partition.primary_node():
                counts.setdefault(primary, [0, 0])[0] += 1
            for secondary in partition.secondary_nodes():
                counts.setdefault(secondary, [0, 0])[1] += 1
    rows = []
    for node in listed.infos:
        name = node.hp_node or node.node
        primaries, secondaries = counts.get(name, [0, 0])
        status = NodeStatus(node.status).name.lower()
        rows.append({"node": str(name), "status": status, "primaries": primaries, "secondaries": secondaries})
    return rows


@cluster_command("level")
@click.argument("level", type=click.Choice(LEVELS), required=False)
async def level(client: PegasusClient, level: str | None) -> list[Row]:
    """Show the function level, or set it. A cluster that lacks servers is frozen, whatever was set."""
    wanted = MetaFunctionLevel.INVALID if level is None else MetaFunctionLevel[level.upper()]
    response = await admin(client, calls.CONTROL_META, MetaControlRequest(wanted))
    before = MetaFunctionLevel(response.old_level).name.lower()
    return [{"level": level or before, "before": before, "in_force": await level_in_force(client) or level or before}]


@cluster_command("diagnose")
@click.argument("name", required=False)
async def diagnose(client: PegasusClient, name: str | None) -> list[Row]:
    """List the partitions that have no primary and get none by themselves, of one table or of all, and why."""
    app_id = (await table_named(client, name)).app_id if name else -1
    response = await admin(client, calls.DDD_DIAGNOSE, DddDiagnoseRequest(Gpid(app_id, -1)))
    return [
        {
            "partition": str(found.config.pid),
            "ballot": found.config.ballot,
            "last_members": ",".join(str(dropped.hp_node or dropped.node) for dropped in found.dropped) or "-",
            "reason": found.reason,
        }
        for found in response.partitions
    ]


@cluster_command("assign")
@click.argument("partition", callback=_partition)
@click.argument("node", callback=_server, metavar="HOST:PORT")
@option("--accept-loss", is_flag=True, help="Confirm that all rows of the partition are given up.")
async def assign(client: PegasusClient, partition: Gpid, node: HostPort, accept_loss: bool) -> list[Row]:
    """Give a partition that diagnose lists to a server that begins it anew, without rows."""
    waiting = (await admin(client, calls.DDD_DIAGNOSE, DddDiagnoseRequest(partition))).partitions
    if not waiting:
        raise CommandError(f"partition {partition} is not one that waits for an operator (diagnose lists them)")
    if not accept_loss:
        raise CommandError(f"partition {partition}: {waiting[0].reason}; what it has would be given up (--accept-loss)")
    action = ProposalAction(node, node, ConfigType.ASSIGN_PRIMARY, node, node)
    try:
        await admin(client, calls.PROPOSE_BALANCER, BalancerRequest(partition, [action], force=True))
    except RpcError as error:
        raise RpcError(error.code, NOT_ASSIGNED.get(error.code, "").format(node=node)) from error
    infos = (await admin(client, calls.LIST_APPS, ListAppsRequest(AppStatus.AVAILABLE))).infos
    (name,) = (info.app_name for info in infos if info.app_id == partition.app_id)
    try:
        async with asyncio.timeout(client.timeout_s):
            while True:
                held = (await client.meta.routing(name)).partitions[partition.partition_index]
                if held.primary_node():
                    break
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise CommandError(f"{node} has not become the primary of partition {partition}; its log says why") from error
    return [{"partition": str(partition), "primary": str(held.primary_node()), "ballot": held.ballot}]


COMMANDS = [create_table, drop_table, recall_table, rename_table, list_tables, set_envs, nodes, level, diagnose, assign]
