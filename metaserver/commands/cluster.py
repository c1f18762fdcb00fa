"""The subcommands about the cluster: servers, function level, lost partitions."""

from __future__ import annotations

import asyncio
import re

import click

from metaserver.commands.command import CommandError, Row, admin, cluster_command, table_named
from metaserver.commands.explanations import NOT_ASSIGNED, level_in_force
from shared.cli import option
from shared.pegasus.client import PegasusClient
from shared.pegasus.wire import calls
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.meta_admin import (
    BalancerRequest,
    ConfigType,
    DddDiagnoseRequest,
    ListAppsRequest,
    ListNodesRequest,
    MetaControlRequest,
    MetaFunctionLevel,
    NodeStatus,
    ProposalAction,
)

LEVELS = [level.name.lower() for level in MetaFunctionLevel if level != MetaFunctionLevel.INVALID]


def _server(_ctx: click.Context, _parameter: click.Parameter, value: str) -> HostPort:
    try:
        return HostPort.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _partition(_ctx: click.Context, _parameter: click.Parameter, value: str) -> Gpid:
    if not re.fullmatch(r"\d{1,9}\.\d{1,9}", value):
        raise click.BadParameter(f"'{value}' is not a partition, such as 2.0")
    app_id, _, index = value.partition(".")
    return Gpid(int(app_id), int(index))


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
