"""The replica server, put together: every HTTP call and every RPC in one table each, and the daemon's life."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from replicaserver.handlers.admin import AdminHandlers
from replicaserver.handlers.fast_path import FastPath, answer_puts
from replicaserver.handlers.files import FileHandlers
from replicaserver.handlers.http import ReplicaRoutes
from replicaserver.handlers.rrdb import RrdbHandlers
from replicaserver.jobs.backups import Backups
from replicaserver.jobs.bulk_loader import BulkLoader
from replicaserver.jobs.compactor import Compactor
from replicaserver.node.maintenance import Maintenance
from replicaserver.node.meta_link import MetaLink
from replicaserver.node.metrics import Measurements, failures
from replicaserver.node.replicas import Node
from replicaserver.partition.context import NodeContext
from replicaserver.partition.lease import Lease
from replicaserver.settings import EFFECTIVE
from replicaserver.storage.engine import store_settings
from replicaserver.storage.folders import DataFolder, FolderError, belong_together, parse_data_folders, take_hold
from replicaserver.storage.node_log import NodeLog
from replicaserver.storage.recovery import OrphanedRecords
from shared.errors import StartupError
from shared.http.app import NotReady, health_routes
from shared.metrics import Metrics
from shared.pegasus.files.providers import FileProviders
from shared.pegasus.metrics import maintenance
from shared.pegasus.metrics.entities import Registry
from shared.pegasus.metrics.query import Identity
from shared.pegasus.metrics.rpc_metrics import profiler
from shared.pegasus.process.common_routes import CommonRoutes
from shared.pegasus.process.introspection import Introspection
from shared.pegasus.process.pprof import Pprof
from shared.pegasus.serving.http import HttpServer, application, call
from shared.pegasus.serving.rpc import Rpc
from shared.pegasus.serving.server import PegasusServer
from shared.pegasus.settings.flags import Flags
from shared.pegasus.wire.framing import MAX_BODY_BYTES
from shared.pegasus.wire.structures.base import HostPort
from shared.wal.log import CommitLog

WORKER_THREADS = 4


def http_routes(
    common: CommonRoutes, process: Introspection, replica: ReplicaRoutes, not_ready: NotReady
) -> list[web.RouteDef]:
    """Every HTTP call of the replica server, in the order of the API page (§4, §6)."""
    return [
        call("/config", common.config),
        call("/configs", common.configs),
        call("/metrics", process.metrics),
        call("/pprof/cmdline", process.cmdline),
        call("/pprof/growth", process.growth),
        call("/pprof/heap", process.heap),
        call("/pprof/profile", process.profile),
        call("/pprof/symbol", process.symbol),
        call("/recentStartTime", common.recent_start_time),
        call("/replica/data_version", replica.data_version),
        call("/replica/duplication", replica.duplication),
        call("/replica/manual_compaction", replica.manual_compaction),
        call("/updateConfig", common.update_config),
        call("/version", common.version),
        web.get("/metrics/prometheus", process.prometheus),
        *health_routes(not_ready),
    ]


def rpc_table(
    data: RrdbHandlers, files: FileHandlers, admin: AdminHandlers, *, is_compat: bool
) -> dict[str, Rpc[Any, Any]]:
    """Every RPC of the replica server (§11, §12.7); any other code is answered with ERR_HANDLER_NOT_FOUND."""
    return {**data.rpcs(), **files.rpcs(), **admin.rpcs(is_compat=is_compat)}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says.

    Attributes:
        data_dir: Where replicas lie, unless the setting ``data_dirs`` says otherwise.
        metas: Where metaservers are.
        advertise: Address under which others reach this node, when it is not the one it listens on.
        flags: Settings of the original, by name, that differ from their defaults.
        block_cache_mb: Memory for blocks of all stores together.
        write_buffers_mb: Memory for memtables of all stores together.
        providers: Where files of bulk loads and backups are, by the names that tools use.
        accept_loss: Start although files of the log of writes are missing or damaged.
        tls: How metaservers are called over TLS; None calls them without.
        prefix: First part of the path of every HTTP call, without slashes around it; may be empty.
    """

    data_dir: Path
    metas: Sequence[HostPort]
    advertise: HostPort | None
    flags: Mapping[str, str]
    block_cache_mb: int
    write_buffers_mb: int
    providers: FileProviders = field(default_factory=lambda: FileProviders({}))
    accept_loss: bool = False
    tls: ssl.SSLContext | None = None
    prefix: str = ""


class ReplicaServer:
    """The daemon: opens its replicas, serves, follows the metaserver, drains.

    Args:
        settings: What the command line says.
        unix_s: The clock of rows and limits.
    """

    def __init__(self, settings: Settings, unix_s: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._unix_s = unix_s
        self.flags = Flags(settings.flags, EFFECTIVE)
        self.registry = Registry("replica")
        self.resources = contextlib.AsyncExitStack()
        self._metrics = Metrics("replicaserver")
        self.tasks = maintenance.supervisor(self.registry, self._metrics)
        self.node: Node
        self.link: MetaLink
        self.compactor: Compactor
        self._pprof = Pprof(os.environ)
        self._server: PegasusServer

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        self.flags.warn_of_idle()
        started_s = time.time()
        address = self.settings.advertise or HostPort(*sockets[0].getsockname()[:2])
        self._open_parts(address)
        self.resources.push_async_callback(self.node.close_all)
        self.resources.push_async_callback(self.tasks.stop)
        loader = BulkLoader(self.node, self.settings.providers)
        self.resources.push_async_callback(loader.close)
        backups = Backups(self.node, self.settings.providers)
        self.resources.push_async_callback(backups.close)
        self.node.before_open, self.node.on_open = backups.restore, loader.opened
        await self.node.open_all()
        await self.node.check_disks()
        self.resources.push_async_callback(self.compactor.close)

        self.link = MetaLink(
            self.node, self.settings.metas, int(started_s * 1000), self.compactor.consider, self.settings.tls
        )
        data = RrdbHandlers(self.node.partitions, self.flags.integer("max_allowed_write_size") or MAX_BODY_BYTES)
        files = FileHandlers(self.node, loader, backups)
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started_s))
        admin = AdminHandlers(self.node, self.link, started)
        is_compat = self.flags.boolean("compat_omit_host_port")
        self._server = PegasusServer(
            self._http(started_s, address, loader),
            rpc_table(data, files, admin, is_compat=is_compat),
            observe=profiler(self.registry) if self.flags.boolean("is_profile") else None,
            failed=failures(self.registry),
            fast_path=FastPath(self.node.partitions).take,
        )
        self.resources.push_async_callback(self._server.drain)
        self.resources.callback(self._pprof.close)
        await self._server.start(sockets, tls)

        Maintenance(self.node).start()
        self.link.start()
        self.resources.push_async_callback(self.link.close)

    def _open_parts(self, address: HostPort) -> None:
        workers = ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="worker")
        self.resources.callback(workers.shutdown)
        try:
            disks = parse_data_folders(self.flags.text("data_dirs"), self.settings.data_dir / "replica" / "reps")
            for disk in disks:
                disk.path.mkdir(parents=True, exist_ok=True)
                if not os.access(disk.path, os.W_OK | os.X_OK):
                    raise PermissionError(13, "no permission to write", str(disk.path))
                self.resources.callback(take_hold(disk.path).close)
        except (ValueError, FolderError) as error:
            raise StartupError(str(error)) from error
        except OSError as error:
            raise StartupError(f"cannot use the data directory {error.filename}: {error.strerror}") from error
        node_log = self._open_log(workers, disks)
        self.resources.push_async_callback(node_log.close)
        lease = Lease(self.flags.integer("fd_lease_seconds"))
        context = NodeContext(
            address, self.flags, self.registry, node_log, workers, self._unix_s, answer_puts, self.tasks, lease
        )
        self.compactor = Compactor()
        self.node = Node(
            context, disks, store_settings(self.flags, self.settings.block_cache_mb, self.settings.write_buffers_mb)
        )

    def _open_log(self, workers: Executor, disks: Sequence[DataFolder]) -> NodeLog:
        accepts_loss = self.settings.accept_loss
        default = self.settings.data_dir / "replica" / "slog"
        folder = Path(self.flags.text("slog_dir") or default)
        segment_bytes = max(1, self.flags.integer("log_private_file_size_mb")) << 20
        commit_log = CommitLog.open(folder, segment_bytes=segment_bytes, accepts_loss=accepts_loss)
        belong_together(folder, commit_log.id, disks, accepts_loss=accepts_loss)
        return NodeLog(commit_log, OrphanedRecords(folder / "left", accepts_loss=accepts_loss), workers)

    def _http(self, started_s: float, address: HostPort, loader: BulkLoader) -> HttpServer | None:
        if not self.flags.boolean("enable_http_server"):
            return None
        maintenance.start(self.tasks, self.registry, self.flags)
        Measurements(self.node, lambda: len(self._server.connections), loader.summary)
        identity = Identity(self.flags.text("cluster_name"), "replica", socket.gethostname(), address.port)
        process = Introspection(self.registry, self._metrics, self._pprof, lambda: identity)
        routes = http_routes(CommonRoutes(self.flags, started_s), process, ReplicaRoutes(self.node), self._not_ready)
        return HttpServer(application(routes, prefix=self.settings.prefix, metrics=self._metrics))

    def _not_ready(self) -> list[str]:
        away = [] if self.link.is_synced else ["no metaserver has said what to serve"]
        failed = sum(partition.core.has_failed for partition in self.node.partitions.values())
        refusing = [f"the disk takes no writes of {failed} replicas"] if failed else []
        return [*away, *refusing, *self.tasks.not_ready()]

    async def drain(self) -> None:
        await self.resources.aclose()

    async def reload(self) -> None:
        """Nothing of a replica server is read again while it runs; its settings change over `/updateConfig`."""
