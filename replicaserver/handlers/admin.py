"""What the metaserver and tools ask of a replica server over RPC."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
import structlog

from replicaserver.node.meta_link import MetaLink
from replicaserver.node.replicas import Node, replica_info
from replicaserver.partition.partition import Partition
from shared.pegasus.process.common_routes import PEGASUS_VERSION
from shared.pegasus.serving.rpc import NO_REPLY, NoReply, Rpc, rpc
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.framing import Request
from shared.pegasus.wire.structures import replica_admin
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.command import Command
from shared.pegasus.wire.structures.meta_admin import (
    QueryAppInfoRequest,
    QueryAppInfoResponse,
    UpdateConfigurationRequest,
)

log = structlog.get_logger("replicaserver.admin")


class AdminHandlers:
    """Answers the codes of the metaserver and of tools.

    Args:
        node: The replicas.
        link: Carries out what the metaserver proposes.
        started: When the process started, local time, for ``server-info``.
    """

    def __init__(self, node: Node, link: MetaLink, started: str) -> None:
        self._node = node
        self._link = link
        self._started = started
        self._commands: Mapping[str, tuple[str, Callable[[Sequence[str]], str | Awaitable[str]]]] = {
            "help": ("help - list the commands", self._help),
            "server-info": ("server-info - version and start time", self._server_info),
            "replica.info": ("replica.info [gpid...] - state of the open replicas", self._replica_info),
            "replica.query-compact": (
                "replica.query-compact [gpid...] - state of manual compactions",
                self._compactions,
            ),
            "replica.sync": ("replica.sync - ask the metaserver what to serve", self._sync),
            "replica.flush": ("replica.flush [gpid...] - write memtables to files", self._flush),
        }

    def rpcs(self, *, is_compat: bool) -> dict[str, Rpc[Any, Any]]:
        """Every code that is no reading or writing of rows."""
        return {
            "RPC_CONFIG_PROPOSAL": rpc(UpdateConfigurationRequest, None, self.proposal),
            "RPC_QUERY_DISK_INFO": rpc(
                replica_admin.QueryDiskInfoRequest, replica_admin.QueryDiskInfoResponse, self.disk_info
            ),
            "RPC_QUERY_REPLICA_INFO": rpc(
                replica_admin.QueryReplicaInfoRequest, replica_admin.QueryReplicaInfoResponse, self.replica_info
            ),
            "RPC_QUERY_APP_INFO": rpc(QueryAppInfoRequest, QueryAppInfoResponse, self.app_info, compat=is_compat),
            "RPC_QUERY_PN_DECREE": rpc(
                replica_admin.QueryReplicaDecreeRequest, replica_admin.QueryReplicaDecreeResponse, self.decree
            ),
            "RPC_CLI_CLI_CALL": rpc(Command, str, self.command),
        }

    def proposal(self, value: UpdateConfigurationRequest, _request: Request) -> NoReply:
        """CONFIG_PROPOSAL: taken, and carried out meanwhile; the metaserver learns of it by the change it leads to."""
        self._node.context.tasks.once(f"proposal for {value.config.pid}", partial(self._carry_out, value))
        return NO_REPLY

    async def _carry_out(self, value: UpdateConfigurationRequest) -> None:
        try:
            await self._link.proposed(value)
        except RpcError as error:
            log.info("a proposal is not carried out", gpid=str(value.config.pid), reason=str(error))

    async def disk_info(
        self, value: replica_admin.QueryDiskInfoRequest, _request: Request
    ) -> replica_admin.QueryDiskInfoResponse:
        """QUERY_DISK_INFO: the data folders, and which replicas lie on them."""
        shown = [
            partition for partition in self._node.partitions.values() if value.app_name in ("", partition.app.app_name)
        ]
        if value.app_name and not shown:
            return replica_admin.QueryDiskInfoResponse(ErrorCode.ERR_OBJECT_NOT_FOUND)
        disks: list[replica_admin.DiskInfo] = []
        for disk in self._node.disks:
            total, free = await asyncio.to_thread(disk.measure)
            info = replica_admin.DiskInfo(disk.tag, str(disk.path.resolve()), total >> 20, free >> 20, {}, {})
            primaries: dict[int, set[Gpid]] = {}
            others: dict[int, set[Gpid]] = {}
            for partition in shown:
                if partition.disk_tag == disk.tag:
                    held = primaries if partition.core.is_primary else others
                    held.setdefault(partition.gpid.app_id, set()).add(partition.gpid)
            info.holding_primary_replicas, info.holding_secondary_replicas = primaries, others
            disks.append(info)
        total_mb, free_mb = (
            sum(disk.disk_capacity_mb for disk in disks),
            sum(disk.disk_available_mb for disk in disks),
        )
        return replica_admin.QueryDiskInfoResponse(ErrorCode.ERR_OK, total_mb, free_mb, disks)

    def replica_info(
        self, _value: replica_admin.QueryReplicaInfoRequest, _request: Request
    ) -> replica_admin.QueryReplicaInfoResponse:
        """QUERY_REPLICA_INFO: every open replica."""
        return replica_admin.QueryReplicaInfoResponse(ErrorCode.ERR_OK, self._node.report())

    def app_info(self, _value: QueryAppInfoRequest, _request: Request) -> QueryAppInfoResponse:
        """QUERY_APP_INFO: every table that has a replica here."""
        tables = {partition.gpid.app_id: partition.app for partition in self._node.partitions.values()}
        return QueryAppInfoResponse(ErrorCode.ERR_OK, [tables[app_id] for app_id in sorted(tables)])

    def decree(
        self, value: replica_admin.QueryReplicaDecreeRequest, _request: Request
    ) -> replica_admin.QueryReplicaDecreeResponse:
        """QUERY_PN_DECREE: the last committed decree of a replica."""
        partition = self._node.partitions.get(value.pid)
        if partition is None:
            return replica_admin.QueryReplicaDecreeResponse(ErrorCode.ERR_OBJECT_NOT_FOUND)
        return replica_admin.QueryReplicaDecreeResponse(ErrorCode.ERR_OK, partition.core.last_committed)

    # -- remote commands ------------------------------------------------------------------------------

    async def command(self, value: Command, _request: Request) -> str:
        """CLI_CALL: a command as text."""
        found = self._commands.get(value.cmd)
        if found is None:
            return f"unknown command '{value.cmd}'"
        answer = found[1](value.arguments)
        return await answer if inspect.isawaitable(answer) else answer

    def _help(self, _arguments: Sequence[str]) -> str:
        return "\n".join(text for text, _ in self._commands.values())

    def _server_info(self, _arguments: Sequence[str]) -> str:
        return f"Pegasus Server {PEGASUS_VERSION}, Started at {self._started}"

    def _chosen(self, arguments: Sequence[str]) -> list[Partition]:
        partitions = sorted(self._node.partitions.values(), key=lambda partition: partition.gpid)
        return [partition for partition in partitions if not arguments or str(partition.gpid) in arguments]

    def _replica_info(self, arguments: Sequence[str]) -> str:
        shown = {}
        for partition in self._chosen(arguments):
            info = replica_info(partition)
            shown[str(partition.gpid)] = {
                "app_name": partition.app.app_name,
                "ballot": info.ballot,
                "status": partition.core.status.name,
                "last_committed_decree": info.last_committed_decree,
                "disk_tag": info.disk_tag,
            }
        return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()

    def _compactions(self, arguments: Sequence[str]) -> str:
        lines = [
            f"{partition.gpid}: {partition.compaction.status.name.lower()}, "
            f"last finished at {partition.compaction.last_finish_s}"
            for partition in self._chosen(arguments)
        ]
        return "\n".join(lines)

    def _sync(self, _arguments: Sequence[str]) -> str:
        self._link.sync_soon()
        return "OK"

    async def _flush(self, arguments: Sequence[str]) -> str:
        chosen = self._chosen(arguments)
        workers = self._node.context.workers
        run = asyncio.get_running_loop().run_in_executor
        done = [(partition.gpid, await run(workers, partition.flush)) for partition in chosen]
        failures = [f"{gpid}: {failure}" for gpid, failure in done if failure]
        return "\n".join(failures) or f"{len(chosen)} replicas flushed"
