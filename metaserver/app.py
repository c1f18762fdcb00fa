"""The metaserver, put together: every HTTP call and every RPC in one table each, and the daemon's life."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from metaserver.backup.driver import Backups
from metaserver.bulk_load.driver import BulkLoads
from metaserver.cluster.leadership import Leadership
from metaserver.cluster.tables import NewTable
from metaserver.handlers.backup import BackupRpcs
from metaserver.handlers.bulk_load import BulkLoadRpcs
from metaserver.handlers.http import MetaRoutes
from metaserver.handlers.metrics import Measurements
from metaserver.handlers.replica_servers import ReplicaServerRpcs
from metaserver.handlers.rpc import MetaRpcs
from metaserver.handlers.unsupported import UnsupportedRpcs
from metaserver.service import MetaService
from metaserver.settings import EFFECTIVE, Settings
from metaserver.storage.sqlite import SqliteStore
from shared.http.app import NotReady, health_routes
from shared.metrics import Metrics
from shared.pegasus.client.connection import RpcConnections
from shared.pegasus.metrics import maintenance
from shared.pegasus.metrics.entities import Registry
from shared.pegasus.metrics.query import Identity
from shared.pegasus.process.common_routes import CommonRoutes
from shared.pegasus.process.introspection import Introspection
from shared.pegasus.process.pprof import Pprof
from shared.pegasus.serving.http import HttpServer, application, call
from shared.pegasus.serving.rpc import Rpc
from shared.pegasus.serving.server import PegasusServer
from shared.pegasus.settings.flags import Flags
from shared.pegasus.wire import calls
from shared.pegasus.wire.structures import backup as saved
from shared.pegasus.wire.structures import bulk_load as bulk
from shared.pegasus.wire.structures import duplication as dup
from shared.pegasus.wire.structures import meta_admin as admin
from shared.pegasus.wire.structures import partition_split as split
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.meta_admin import UpdateConfigurationRequest

__all__ = ["Metaserver", "http_routes", "rpc_table"]

ASK_TIMEOUT_S = 10.0


def http_routes(
    common: CommonRoutes, process: Introspection, meta: MetaRoutes, not_ready: NotReady
) -> list[web.RouteDef]:
    """Every HTTP call of the metaserver, in the order of the API page; `/` lists them (§4, §5)."""
    return [
        call("/config", common.config),  # §4.5
        call("/configs", common.configs),  # §4.4
        call("/envs/list", meta.list_envs),  # §5.12
        call("/meta/app", meta.app),  # §5.4
        call("/meta/app/duplication", meta.duplication),  # §5.7
        call("/meta/app/query_bulk_load", meta.query_bulk_load),  # §5.9
        call("/meta/app/start_bulk_load", meta.start_bulk_load),  # §5.8
        call("/meta/app/start_compaction", meta.start_compaction),  # §5.10
        call("/meta/app/usage_scenario", meta.usage_scenario),  # §5.11
        call("/meta/app_envs", meta.app_envs),  # §5.5
        call("/meta/apps", meta.apps),  # §5.3
        call("/meta/backup_policy", meta.backup_policy),  # §5.6
        call("/meta/cluster", meta.cluster),  # §5.1
        call("/meta/nodes", meta.nodes),  # §5.2
        call("/metrics", process.metrics),  # §7
        call("/pprof/cmdline", process.cmdline),  # §8.2
        call("/pprof/growth", process.growth),  # §8.4
        call("/pprof/heap", process.heap),  # §8.3
        call("/pprof/profile", process.profile),  # §8.5
        call("/pprof/symbol", process.symbol),  # §8.1
        call("/recentStartTime", common.recent_start_time),  # §4.3
        call("/updateConfig", common.update_config),  # §4.6
        call("/version", common.version),  # §4.2
        # additions
        web.get("/metrics/prometheus", process.prometheus),
        *health_routes(not_ready),
    ]


def rpc_table(service: MetaService, loads: BulkLoads, backups: Backups, *, is_compat: bool) -> dict[str, Rpc[Any, Any]]:
    """Every RPC of the metaserver (§12); any other code is answered with ERR_HANDLER_NOT_FOUND."""
    meta = MetaRpcs(service, is_compat)
    loading = BulkLoadRpcs(service, loads)
    saving = BackupRpcs(service, backups)
    replicas = ReplicaServerRpcs(service)
    missing = UnsupportedRpcs(service)
    public: dict[str, tuple[Any, Any, Callable[[Any], Any]]] = {
        "LIST_APPS": (admin.ListAppsRequest, admin.ListAppsResponse, meta.list_apps),
        "CREATE_APP": (admin.CreateAppRequest, admin.CreateAppResponse, meta.create_app),
        "DROP_APP": (admin.DropAppRequest, admin.DropAppResponse, meta.drop_app),
        "RECALL_APP": (admin.RecallAppRequest, admin.RecallAppResponse, meta.recall_app),
        "RENAME_APP": (admin.RenameAppRequest, admin.RenameAppResponse, meta.rename_app),
        "UPDATE_APP_ENV": (admin.UpdateAppEnvRequest, admin.UpdateAppEnvResponse, meta.update_app_env),
        "GET_MAX_REPLICA_COUNT": (
            admin.GetMaxReplicaCountRequest,
            admin.GetMaxReplicaCountResponse,
            meta.get_max_replica_count,
        ),
        "SET_MAX_REPLICA_COUNT": (
            admin.SetMaxReplicaCountRequest,
            admin.SetMaxReplicaCountResponse,
            meta.set_max_replica_count,
        ),
        "GET_ATOMIC_IDEMPOTENT": (
            admin.GetAtomicIdempotentRequest,
            admin.GetAtomicIdempotentResponse,
            meta.get_atomic_idempotent,
        ),
        "SET_ATOMIC_IDEMPOTENT": (
            admin.SetAtomicIdempotentRequest,
            admin.SetAtomicIdempotentResponse,
            meta.set_atomic_idempotent,
        ),
        "LIST_NODES": (admin.ListNodesRequest, admin.ListNodesResponse, meta.list_nodes),
        "CLUSTER_INFO": (admin.ClusterInfoRequest, admin.ClusterInfoResponse, meta.cluster_info),
        "PROPOSE_BALANCER": (admin.BalancerRequest, admin.BalancerResponse, meta.propose_balancer),
        "DDD_DIAGNOSE": (admin.DddDiagnoseRequest, admin.DddDiagnoseResponse, meta.ddd_diagnose),
        "START_MANUAL_COMPACT": (
            admin.StartManualCompactRequest,
            admin.StartManualCompactResponse,
            meta.start_manual_compact,
        ),
        "QUERY_MANUAL_COMPACT_STATUS": (
            admin.QueryManualCompactRequest,
            admin.QueryManualCompactResponse,
            meta.query_manual_compact,
        ),
        "START_BULK_LOAD": (bulk.StartBulkLoadRequest, bulk.StartBulkLoadResponse, loading.start),
        "CONTROL_BULK_LOAD": (bulk.ControlBulkLoadRequest, bulk.ControlBulkLoadResponse, loading.control),
        "QUERY_BULK_LOAD_STATUS": (bulk.QueryBulkLoadRequest, bulk.QueryBulkLoadResponse, loading.query),
        "ADD_BACKUP_POLICY": (saved.AddBackupPolicyRequest, saved.AddBackupPolicyResponse, saving.add_policy),
        "MODIFY_BACKUP_POLICY": (
            saved.ModifyBackupPolicyRequest,
            saved.ModifyBackupPolicyResponse,
            saving.modify_policy,
        ),
        "QUERY_BACKUP_POLICY": (
            saved.QueryBackupPolicyRequest,
            saved.QueryBackupPolicyResponse,
            saving.query_policies,
        ),
        "START_BACKUP_APP": (saved.StartBackupAppRequest, saved.StartBackupAppResponse, saving.start_backup),
        "QUERY_BACKUP_STATUS": (saved.QueryBackupStatusRequest, saved.QueryBackupStatusResponse, saving.query_backup),
        "START_RESTORE": (saved.RestoreRequest, admin.CreateAppResponse, saving.start_restore),
        "QUERY_RESTORE_STATUS": (saved.QueryRestoreRequest, saved.QueryRestoreResponse, saving.query_restore),
        "CLEAR_BULK_LOAD": (bulk.ClearBulkLoadStateRequest, bulk.ClearBulkLoadStateResponse, loading.clear),
        "ADD_DUPLICATION": (dup.DuplicationAddRequest, dup.DuplicationAddResponse, missing.add_duplication),
        "MODIFY_DUPLICATION": (
            dup.DuplicationModifyRequest,
            dup.DuplicationModifyResponse,
            missing.modify_duplication,
        ),
        "QUERY_DUPLICATION": (dup.DuplicationQueryRequest, dup.DuplicationQueryResponse, missing.query_duplication),
        "LIST_DUPLICATION": (dup.DuplicationListRequest, dup.DuplicationListResponse, missing.list_duplication),
        "START_PARTITION_SPLIT": (
            split.StartPartitionSplitRequest,
            split.StartPartitionSplitResponse,
            missing.start_split,
        ),
        "CONTROL_PARTITION_SPLIT": (split.ControlSplitRequest, split.ControlSplitResponse, missing.control_split),
        "QUERY_PARTITION_SPLIT": (split.QuerySplitRequest, split.QuerySplitResponse, missing.query_split),
    }
    return {
        **{f"RPC_CM_{name}": meta.leading(*signature) for name, signature in public.items()},
        "RPC_CM_QUERY_PARTITION_CONFIG_BY_INDEX": meta.query_config(),
        "RPC_CM_CONTROL_META": meta.control_meta(),
        "RPC_CLI_CLI_CALL": meta.command(),
        # from replica servers
        "RPC_FD_FAILURE_DETECTOR_PING": replicas.beacon(),
        "RPC_CM_CONFIG_SYNC": replicas.config_sync(),
        "RPC_CM_UPDATE_PARTITION_CONFIGURATION": replicas.update_configuration(),
    }


class Metaserver:
    """The daemon: opens the store, serves, watches, drains."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.flags = Flags(settings.flags, EFFECTIVE)
        self._resources = contextlib.AsyncExitStack()
        self._pprof = Pprof(os.environ)
        self._registry = Registry("meta")
        self._metrics = Metrics("metaserver")
        self._tasks = maintenance.supervisor(self._registry, self._metrics)

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        self.flags.warn_of_idle()
        leadership = Leadership.alone(self.settings.advertise or HostPort(*sockets[0].getsockname()[:2]))
        connections = RpcConnections(tls=self.settings.tls)
        self._resources.push_async_callback(connections.close)

        async def send(node: HostPort, request: UpdateConfigurationRequest) -> None:
            await connections.tell(node, calls.CONFIG_PROPOSAL, request)

        store = await SqliteStore.open(self.settings.data_dir / "metaserver.db")
        service = MetaService(store, self.flags, leadership, send, tasks=self._tasks)
        self._resources.push_async_callback(service.close)
        replicas = self.settings.first_replicas
        await service.start(NewTable(name, count, replicas) for name, count in self.settings.first_tables.items())

        async def ask(node: HostPort, request: bulk.BulkLoadRequest) -> bulk.BulkLoadResponse:
            answer: bulk.BulkLoadResponse = await connections.call(node, calls.BULK_LOAD, request, ASK_TIMEOUT_S)
            return answer

        async def ask_backup(node: HostPort, request: saved.BackupRequest) -> saved.BackupResponse:
            answer: saved.BackupResponse = await connections.call(node, calls.COLD_BACKUP, request, ASK_TIMEOUT_S)
            return answer

        backups = Backups(service, self.settings.providers, ask_backup)
        self._tasks.loop("backups", backups.run)
        loads = BulkLoads(service, self.settings.providers, ask)
        self._tasks.loop("bulk loads", loads.run)
        is_compat = self.flags.boolean("compat_omit_host_port")
        rpcs = rpc_table(service, loads, backups, is_compat=is_compat)
        server = PegasusServer(self._http(service, leadership, loads), rpcs)
        self._resources.push_async_callback(server.drain)
        self._resources.callback(self._pprof.close)
        await server.start(sockets, tls)
        self._server = server

    def _http(self, service: MetaService, leadership: Leadership, loads: BulkLoads) -> HttpServer | None:
        if not self.flags.boolean("enable_http_server"):
            return None
        registry = self._registry
        maintenance.start(self._tasks, registry, self.flags)
        Measurements(registry, service, lambda: len(self._server.connections), time.monotonic)
        identity = Identity(self.flags.text("cluster_name"), "meta", socket.gethostname(), leadership.this.port)
        process = Introspection(registry, self._metrics, self._pprof, lambda: identity)
        routes = http_routes(
            CommonRoutes(self.flags, time.time()),
            process,
            MetaRoutes(service, loads),
            lambda: self._not_ready(leadership),
        )
        return HttpServer(application(routes, prefix=self.settings.prefix, metrics=self._metrics))

    def _not_ready(self, leadership: Leadership) -> list[str]:
        return [*([] if leadership.is_leader else ["another metaserver leads"]), *self._tasks.not_ready()]

    async def drain(self) -> None:
        await self._resources.aclose()

    async def reload(self) -> None:
        """Nothing of a metaserver is read again while it runs; its settings change over `/updateConfig`."""
