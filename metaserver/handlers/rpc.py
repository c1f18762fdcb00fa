"""The RPCs of clients and operators: routing, tables, nodes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from metaserver.cluster import messages, tables
from metaserver.cluster.metadata import Change, Metadata, Rejected, Table
from metaserver.cluster.placement import Action
from metaserver.handlers.cluster_info import balance_text, cluster_info
from metaserver.service import MetaService
from shared.pegasus.process.common_routes import PEGASUS_VERSION
from shared.pegasus.serving.rpc import Offloaded, Rpc, rpc
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.framing import Request
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.command import Command
from shared.pegasus.wire.structures.layer2 import AppStatus, PartitionConfiguration, QueryCfgRequest, QueryCfgResponse
from shared.pegasus.wire.structures.meta_admin import (
    AppEnvOperation,
    BalancerRequest,
    BalancerResponse,
    ClusterInfoRequest,
    ClusterInfoResponse,
    ConfigType,
    CreateAppRequest,
    CreateAppResponse,
    DddDiagnoseRequest,
    DddDiagnoseResponse,
    DddNodeInfo,
    DddPartitionInfo,
    DropAppRequest,
    DropAppResponse,
    GetAtomicIdempotentRequest,
    GetAtomicIdempotentResponse,
    GetMaxReplicaCountRequest,
    GetMaxReplicaCountResponse,
    ListAppsRequest,
    ListAppsResponse,
    ListNodesRequest,
    ListNodesResponse,
    MetaControlRequest,
    MetaControlResponse,
    MetaFunctionLevel,
    NodeInfo,
    NodeStatus,
    QueryManualCompactRequest,
    QueryManualCompactResponse,
    RecallAppRequest,
    RecallAppResponse,
    RenameAppRequest,
    RenameAppResponse,
    SetAtomicIdempotentRequest,
    SetAtomicIdempotentResponse,
    SetMaxReplicaCountRequest,
    SetMaxReplicaCountResponse,
    StartManualCompactRequest,
    StartManualCompactResponse,
    UpdateAppEnvRequest,
    UpdateAppEnvResponse,
)
from shared.pegasus.wire.structures.metadata import ManualCompactionStatus

__all__ = ["MANY", "MetaRpcs", "unavailable"]

MANY = 256
"""An answer about more partitions or tables is made in a worker thread."""

_MAKES_SECONDARY = (ConfigType.ADD_SECONDARY, ConfigType.ADD_SECONDARY_FOR_LB, ConfigType.UPGRADE_TO_SECONDARY)
LONGEST_HOLD_S = 100 * 365 * 86400


def unavailable(service: MetaService) -> str | None:
    """Why this metaserver does not answer for the cluster; None when it does (§12.1)."""
    if not service.leadership.is_leader:
        return ErrorCode.ERR_FORWARD_TO_OTHERS
    return ErrorCode.ERR_SERVICE_NOT_ACTIVE if service.level == MetaFunctionLevel.STOPPED else None


@dataclass(frozen=True)
class MetaRpcs:
    """Functions behind the RPC codes.

    Attributes:
        is_compat: Leave host_port members out of answers to clients (§10.5).
    """

    service: MetaService
    is_compat: bool = False

    def leading(self, request: Any, response: Any, function: Callable[[Any], Any | Awaitable[Any]]) -> Rpc[Any, Any]:
        """An RPC that only the leader answers; errors are members of its response (§12.1)."""
        words = {field.name for field in fields(response)} & {"hint_message", "hint_msg"}

        def declined(rejected: Rejected) -> Any:
            return response(err=rejected.code, **dict.fromkeys(words, rejected.hint))

        async def later(answered: Awaitable[Any]) -> Any:
            try:
                return await answered
            except Rejected as rejected:
                return declined(rejected)

        def answer(value: Any, _request: Request) -> Any:
            reason = unavailable(self.service)
            if reason is not None:
                return response(err=reason)
            try:
                answered = function(value)
            except Rejected as rejected:
                return declined(rejected)
            return later(answered) if inspect.isawaitable(answered) else answered

        return rpc(request, response, answer, compat=self.is_compat)

    # routing (§12.2)

    def query_config(self) -> Rpc[QueryCfgRequest, QueryCfgResponse]:
        """The members of a table's partitions; on a follower, the leader's address."""
        return rpc(QueryCfgRequest, QueryCfgResponse, self._query_config, compat=self.is_compat)

    def _query_config(self, query: QueryCfgRequest, _request: Request) -> QueryCfgResponse | Offloaded:
        reason = unavailable(self.service)
        if reason == ErrorCode.ERR_FORWARD_TO_OTHERS:
            leader = self.service.leadership.leader
            return QueryCfgResponse(err=reason, partitions=[PartitionConfiguration(primary=leader, hp_primary=leader)])
        if reason is not None:
            return QueryCfgResponse(err=reason)
        table = self.service.metadata.named(query.app_name)
        if table is None:
            return QueryCfgResponse(err=ErrorCode.ERR_OBJECT_NOT_FOUND)
        if table.status in (AppStatus.CREATING, AppStatus.RECALLING):
            return QueryCfgResponse(err=ErrorCode.ERR_BUSY_CREATING)
        if table.status == AppStatus.DROPPING:
            return QueryCfgResponse(err=ErrorCode.ERR_BUSY_DROPPING)
        indices, nodes = query.partition_indices, self.service.nodes
        if (len(indices) or table.partition_count) <= MANY:
            return messages.routing(nodes, table, tables.partitions_of(table, indices))
        nodes = nodes.copy()
        return Offloaded(lambda: messages.routing(nodes, table, tables.partitions_of(table, indices)))

    # tables (§12.3)

    async def create_app(self, request: CreateAppRequest) -> CreateAppResponse:
        options, service = request.options, self.service
        wanted = tables.NewTable(
            name=request.app_name,
            partition_count=options.partition_count,
            replica_count=options.replica_count,
            envs=options.envs,
            success_if_exist=options.success_if_exist,
            app_type=options.app_type,
            is_stateful=options.is_stateful,
            atomic_idempotent=bool(options.atomic_idempotent),
        )
        app_id = await service.change(
            lambda metadata: tables.create(metadata, wanted, service.limits(), int(service.wall_clock()))
        )
        await service.opened(app_id)
        return CreateAppResponse(appid=app_id)

    async def drop_app(self, request: DropAppRequest) -> DropAppResponse:
        options, service = request.options, self.service
        hold_s = options.reserve_seconds or 0
        if hold_s <= 0:
            hold_s = service.flags.integer("hold_seconds_for_dropped_app")
        hold_s = min(hold_s, LONGEST_HOLD_S)
        await service.drop_table(request.app_name, hold_s, success_if_not_exist=options.success_if_not_exist)
        return DropAppResponse()

    async def recall_app(self, request: RecallAppRequest) -> RecallAppResponse:
        service = self.service
        await service.change(
            lambda metadata: tables.recall(metadata, request.app_id, request.new_app_name, int(service.wall_clock()))
        )
        table = await service.opened(request.app_id)
        return RecallAppResponse(info=messages.app_info(service.metadata, table))

    async def rename_app(self, request: RenameAppRequest) -> RenameAppResponse:
        await self._change(lambda metadata: tables.rename(metadata, request.old_app_name, request.new_app_name))
        return RenameAppResponse()

    def list_apps(self, request: ListAppsRequest) -> ListAppsResponse | Offloaded:
        metadata = self.service.metadata
        if len(metadata.tables) > MANY:
            metadata = metadata.copy()
            return Offloaded(lambda: _listed(metadata, request))
        return _listed(metadata, request)

    def get_max_replica_count(self, request: GetMaxReplicaCountRequest) -> GetMaxReplicaCountResponse:
        table = tables.in_service(self.service.metadata, request.app_name)
        return GetMaxReplicaCountResponse(max_replica_count=table.max_replica_count)

    async def set_max_replica_count(self, request: SetMaxReplicaCountRequest) -> SetMaxReplicaCountResponse:
        service = self.service

        def decide(metadata: Metadata) -> tuple[Change, int]:
            old = tables.in_service(metadata, request.app_name).max_replica_count
            limits, count = service.limits(), request.max_replica_count
            return tables.set_max_replica_count(metadata, request.app_name, count, limits), old

        return SetMaxReplicaCountResponse(old_max_replica_count=await service.change(decide))

    def get_atomic_idempotent(self, request: GetAtomicIdempotentRequest) -> GetAtomicIdempotentResponse:
        table = tables.in_service(self.service.metadata, request.app_name)
        return GetAtomicIdempotentResponse(atomic_idempotent=table.atomic_idempotent)

    async def set_atomic_idempotent(self, request: SetAtomicIdempotentRequest) -> SetAtomicIdempotentResponse:
        service = self.service

        def decide(metadata: Metadata) -> tuple[Change, bool]:
            old = tables.in_service(metadata, request.app_name).atomic_idempotent
            return tables.set_atomic_idempotent(metadata, request.app_name, request.atomic_idempotent), old

        return SetAtomicIdempotentResponse(old_atomic_idempotent=await service.change(decide))

    async def _change(self, decide: Callable[[Metadata], Change]) -> None:
        await self.service.change(lambda metadata: (decide(metadata), None))

    # environment variables (§12.4)

    async def update_app_env(self, request: UpdateAppEnvRequest) -> UpdateAppEnvResponse:
        name, prefix = request.app_name, request.clear_prefix
        keys, values = request.keys or (), request.values or ()
        match request.op:
            case AppEnvOperation.SET:
                await self._change(lambda metadata: tables.set_envs(metadata, name, keys, values))
                return UpdateAppEnvResponse()
            case AppEnvOperation.DEL:
                hint = await self.service.change(lambda metadata: tables.delete_envs(metadata, name, keys))
            case AppEnvOperation.CLEAR:
                hint = await self.service.change(lambda metadata: tables.clear_envs(metadata, name, prefix))
            case _:
                raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS, f"there is no operation {request.op}")
        return UpdateAppEnvResponse(hint_message=hint)

    # the cluster (§12.5)

    def list_nodes(self, request: ListNodesRequest) -> ListNodesResponse:
        nodes = self.service.nodes
        infos = []
        for name in sorted(nodes.known):
            status = NodeStatus.ALIVE if nodes.is_alive(name) else NodeStatus.UNALIVE
            if request.status in (NodeStatus.INVALID, status):
                infos.append(NodeInfo(status, nodes.address(name), name))
        return ListNodesResponse(infos=infos)

    def cluster_info(self, _request: ClusterInfoRequest) -> ClusterInfoResponse:
        info = cluster_info(self.service)
        info["balance_operation_count"] = balance_text(self.service)
        info["cluster_name"] = self.service.flags.text("cluster_name")
        return ClusterInfoResponse(keys=list(info), values=list(info.values()))

    def control_meta(self) -> Rpc[MetaControlRequest, MetaControlResponse]:
        """Query or set the function level; answered at every level."""

        def control(request: MetaControlRequest, _request: Request) -> MetaControlResponse:
            service = self.service
            if not service.leadership.is_leader:
                return MetaControlResponse(err=ErrorCode.ERR_FORWARD_TO_OTHERS)
            old = service.level
            if request.level != MetaFunctionLevel.INVALID:
                if request.level not in list(MetaFunctionLevel):
                    return MetaControlResponse(ErrorCode.ERR_INVALID_PARAMETERS, old)
                service.set_level(MetaFunctionLevel(request.level))
            return MetaControlResponse(old_level=old)

        return rpc(MetaControlRequest, MetaControlResponse, control)

    async def propose_balancer(self, request: BalancerRequest) -> BalancerResponse:
        service = self.service
        found = service.metadata.partition(request.gpid)
        if found is None or not found[0].is_served():
            raise Rejected(ErrorCode.ERR_APP_NOT_EXIST)
        if service.level < MetaFunctionLevel.STEADY and not request.force:
            raise Rejected(ErrorCode.ERR_INVALID_STATE)
        if not request.action_list or any(action.type not in list(ConfigType) for action in request.action_list):
            raise Rejected(ErrorCode.ERR_INVALID_PARAMETERS)
        copies = [action for action in request.action_list if action.type in _MAKES_SECONDARY]
        if copies and not service.adds_secondaries:
            if not service.hand_over(request.gpid, copies[0].hp_node or copies[0].node):
                raise Rejected(ErrorCode.ERR_NOT_IMPLEMENTED)
            return BalancerResponse()
        first = request.action_list[0]
        if request.force and first.type == ConfigType.ASSIGN_PRIMARY and request.gpid in service.diagnoses:
            await service.restart_empty(request.gpid, first.hp_node or first.node)
            return BalancerResponse()
        for action in request.action_list:
            target, node = action.hp_target or action.target, action.hp_node or action.node
            service.propose(Action(request.gpid, ConfigType(action.type), target, node))
        return BalancerResponse()

    def ddd_diagnose(self, request: DddDiagnoseRequest) -> DddDiagnoseResponse:
        listed = []
        for gpid, reason in sorted(self.service.diagnoses.items()):
            app_id, index = request.pid
            is_wanted = app_id <= 0 or (app_id == gpid.app_id and index in (-1, gpid.partition_index))
            found = self.service.metadata.partition(gpid)
            if found is not None and is_wanted:
                table, partition = found
                dropped = [self._dropped(gpid, node) for node in partition.last_drops]
                configuration = messages.configuration(self.service.nodes, table, gpid, partition)
                listed.append(DddPartitionInfo(configuration, dropped, reason))
        return DddDiagnoseResponse(partitions=listed)

    def _dropped(self, gpid: Gpid, name: Any) -> DddNodeInfo:
        node = self.service.nodes.known.get(name)
        info = DddNodeInfo(node=self.service.nodes.address(name), hp_node=name)
        if node is not None:
            info.is_alive = node.is_alive
            info.is_collected = node.stored is not None
            stored = (node.stored or {}).get(gpid)
            if stored is not None:
                info.ballot = stored.ballot
                info.last_committed_decree = stored.last_committed_decree
                info.last_prepared_decree = stored.last_prepared_decree
        return info

    def command(self) -> Rpc[Command, str]:
        """Remote commands of the shell, as text (§12.5)."""
        commands = _commands(self.service)

        def run(command: Command, _request: Request) -> str:
            function = commands.get(command.cmd)
            return f"unknown command '{command.cmd}'" if function is None else function(list(command.arguments))

        return rpc(Command, str, run)

    # manual compaction (§12.6)

    async def start_manual_compact(self, request: StartManualCompactRequest) -> StartManualCompactResponse:
        trigger = request.trigger_time or 0
        envs = {"manual_compact.once.trigger_time": str(trigger if trigger > 0 else int(self.service.wall_clock()))}
        if request.target_level is not None:
            envs["manual_compact.once.target_level"] = str(request.target_level)
        if request.bottommost is not None:
            envs["manual_compact.once.bottommost_level_compaction"] = "force" if request.bottommost else "skip"
        if request.max_running_count is not None and request.max_running_count > 0:
            envs["manual_compact.max_concurrent_running_count"] = str(request.max_running_count)
        table = tables.in_service(self.service.metadata, request.app_name)
        if table.envs.get("manual_compact.disabled") == "true":
            raise Rejected(ErrorCode.ERR_OPERATION_DISABLED, "manual compaction is disabled for this table")
        await self._change(
            lambda metadata: tables.set_envs(metadata, request.app_name, list(envs), list(envs.values()))
        )
        return StartManualCompactResponse()

    def query_manual_compact(self, request: QueryManualCompactRequest) -> QueryManualCompactResponse:
        table = tables.in_service(self.service.metadata, request.app_name)
        states = list(self._compaction_states(table))
        busy = (ManualCompactionStatus.QUEUING, ManualCompactionStatus.RUNNING)
        if not any(state in busy or state == ManualCompactionStatus.FINISHED for state in states):
            raise Rejected(
                ErrorCode.ERR_INVALID_STATE, f"table '{table.name}' has not been compacted since the last report"
            )
        finished = sum(state not in busy for state in states)
        return QueryManualCompactResponse(progress=finished * 100 // len(states))

    def _compaction_states(self, table: Table) -> Iterable[int]:
        """The last reported state of every member; IDLE without a report."""
        for gpid, partition in table:
            for member in partition.members():
                node = self.service.nodes.known.get(member)
                stored = None if node is None else (node.stored or {}).get(gpid)
                yield (stored.manual_compact_status or 0) if stored is not None else 0


def _listed(metadata: Metadata, request: ListAppsRequest) -> ListAppsResponse:
    listed = tables.matching(metadata, request.status, request.app_name_pattern, request.match_type)
    return ListAppsResponse(infos=[messages.app_info(metadata, table) for table in listed])


def _commands(service: MetaService) -> dict[str, Callable[[list[str]], str]]:
    """The remote commands of a metaserver (§12.5)."""

    def assign_delay(arguments: list[str]) -> str:
        return (
            f"{service.flags.integer('replica_assign_delay_ms_for_dropouts')}" if not arguments else "ERR: not mutable"
        )

    known: dict[str, Callable[[list[str]], str]] = {
        "server-info": lambda _arguments: f"Pegasus Meta Server {PEGASUS_VERSION}",
        "meta.lb.get_balance_operation_count": lambda _arguments: balance_text(service),
        "meta.lb.assign_delay_ms": assign_delay,
    }
    known["help"] = lambda _arguments: "\n".join(sorted(known))
    return known
