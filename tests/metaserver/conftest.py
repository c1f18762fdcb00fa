"""A metaserver in process: its clocks in the test's hand, its replica servers played by the test."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import aiohttp
import pytest

from metaserver import app
from metaserver.backup.driver import Backups
from metaserver.bulk_load.driver import BulkLoads
from metaserver.cluster.leadership import Leadership
from metaserver.cluster.tables import NewTable
from metaserver.handlers.http import MetaRoutes
from metaserver.handlers.metrics import Measurements
from metaserver.service import MetaService
from metaserver.storage.sqlite import SqliteStore
from shared.metrics import Metrics
from shared.pegasus.client.connection import RpcConnections
from shared.pegasus.files.providers import FileProviders
from shared.pegasus.metrics.entities import Registry
from shared.pegasus.metrics.query import Identity
from shared.pegasus.process.common_routes import CommonRoutes
from shared.pegasus.process.introspection import Introspection
from shared.pegasus.process.pprof import Pprof
from shared.pegasus.serving.http import HttpServer, application
from shared.pegasus.serving.server import PegasusServer
from shared.pegasus.settings.flags import Flags
from shared.pegasus.wire import calls
from shared.pegasus.wire.errors import UnreachableError
from shared.pegasus.wire.structures.backup import BackupRequest, BackupResponse
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.bulk_load import BulkLoadRequest, BulkLoadResponse
from shared.pegasus.wire.structures.failure_detector import BeaconMessage
from shared.pegasus.wire.structures.meta_admin import ConfigSyncRequest, UpdateConfigurationRequest
from shared.pegasus.wire.structures.metadata import PartitionStatus, ReplicaInfo
from shared.tasks import Supervisor

NOW_S = 1_700_000_000
FIRST_TABLES = [NewTable("stat", 4, 1), NewTable("temp", 8, 1)]


def node(number: int) -> HostPort:
    """The name of the n-th replica server."""
    return HostPort("127.0.0.1", 34800 + number)


class Clock:
    def __init__(self) -> None:
        self.elapsed = 0.0

    def monotonic(self) -> float:
        return self.elapsed

    def wall(self) -> float:
        return NOW_S + self.elapsed

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds


class Cluster:
    """One metaserver, and replica servers that accept every proposal as soon as the test lets them."""

    def __init__(self, path: Path, settings: dict[str, str], providers: str | None = "local_service") -> None:
        self.path = path
        self.providers = FileProviders({providers: str(path.parent)}) if providers else None
        self.clock = Clock()
        self.open_timeout_s = 0.0
        self.delivers = True
        self.flags = Flags(settings)
        self.load_commands: list[BulkLoadRequest] = []
        self.loader = lambda request: BulkLoadResponse("ERR_OBJECT_NOT_FOUND", request.pid)
        self.backup_commands: list[BackupRequest] = []
        self.saver = lambda request: BackupResponse("ERR_OK", request.pid, 1000)
        self.proposals: list[tuple[HostPort, UpdateConfigurationRequest]] = []
        self._proposed = asyncio.Event()
        self.service: MetaService
        self.server: PegasusServer
        self.address: HostPort
        self.connections = RpcConnections()
        self.tasks = Supervisor()
        self._http: aiohttp.ClientSession | None = None

    async def start(self, first_tables=(), leadership=None) -> None:
        bound = socket.create_server(("127.0.0.1", 0))
        self.address = HostPort(*bound.getsockname()[:2])
        self.store = await SqliteStore.open(self.path)
        self.service = MetaService(
            self.store,
            self.flags,
            leadership or Leadership.alone(self.address),
            self._receive_proposal,
            tasks=self.tasks,
            repair_delay_s=0,
            open_timeout_s=self.open_timeout_s,
            clock=self.clock.monotonic,
            wall_clock=self.clock.wall,
        )
        await self.service.start(first_tables)
        self.registry = Registry("meta")
        Measurements(self.registry, self.service, lambda: len(self.server.connections), self.clock.monotonic)
        process = Introspection(
            self.registry, Metrics("metaserver"), Pprof({}), lambda: Identity("onebox", "meta", "h", self.address.port)
        )
        self.loads = BulkLoads(self.service, self.providers, self._answer_load)
        self.backups = Backups(self.service, self.providers, self._answer_backup)
        routes = app.http_routes(CommonRoutes(self.flags, NOW_S), process, MetaRoutes(self.service, self.loads), list)
        rpcs = app.rpc_table(
            self.service, self.loads, self.backups, is_compat=self.flags.boolean("compat_omit_host_port")
        )
        self.server = PegasusServer(HttpServer(application(routes)), rpcs)
        await self.server.start([bound], None)
        self._http = aiohttp.ClientSession()

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.close()
        await self.connections.close()
        await self.server.drain()
        await self.service.close()

    async def _receive_proposal(self, target: HostPort, request: UpdateConfigurationRequest) -> None:
        if not self.delivers:
            raise UnreachableError(f"{target} does not listen")
        self.proposals.append((target, request))
        self._proposed.set()

    async def _answer_load(self, target: HostPort, request: BulkLoadRequest) -> BulkLoadResponse:
        self.load_commands.append(request)
        return self.loader(request)

    async def _answer_backup(self, target: HostPort, request: BackupRequest) -> BackupResponse:
        self.backup_commands.append(request)
        return self.saver(request)

    # what replica servers do

    async def beat(self, *numbers: int, start_time: int = 1) -> None:
        """Replica servers give a sign of life and report what they hold."""
        for number in numbers:
            name = node(number)
            beacon = BeaconMessage(1, name, self.address, start_time, name, self.address)
            acknowledged = await self.call(calls.BEACON, beacon)
            assert acknowledged.allowed
            if self.service.nodes.known[name].stored is None:
                await self.report(number)

    async def report(self, number: int, *stored: ReplicaInfo):
        """A replica server reports; by default what the metaserver would have it hold."""
        return await self.call(
            calls.CONFIG_SYNC, ConfigSyncRequest(node(number), stored or self.held(number), None, node(number))
        )

    def held(self, number: int) -> list[ReplicaInfo]:
        """Replicas of every partition that the server is, or was, a member of."""
        return [
            ReplicaInfo(gpid, partition.ballot, PartitionStatus.INACTIVE, 5, 5, 5, "pegasus", "d1")
            for table in self.service.metadata.tables.values()
            for gpid, partition in table
            if node(number) in (*partition.members(), *partition.last_drops)
        ]

    async def accept(self) -> None:
        """Replica servers carry out everything that has been proposed to them."""
        for _ in range(50):
            await self.settle()
            proposals, self.proposals = self.proposals, []
            if not proposals:
                return
            for _, request in proposals:
                if not self.service.metadata.tables[request.config.pid.app_id].is_served():
                    continue  # only told to stop
                wanted = UpdateConfigurationRequest(request.info, request.config, request.type, hp_node=request.hp_node)
                wanted.config.ballot += 1
                if request.config.hp_last_drops:  # who comes back has the rows that it had, see `held`
                    wanted.config.last_committed_decree = 5
                assert (await self.call(calls.UPDATE_CONFIGURATION, wanted)).err == "ERR_OK"
        raise AssertionError("proposals without end")

    async def proposed(self) -> None:
        """Wait until there is a proposal, and every other that was decided with it has been sent."""
        while not self.proposals:
            self._proposed.clear()
            await self._proposed.wait()
        await self.settle()

    async def settle(self) -> None:
        """Wait until every proposal that was decided has been sent."""
        await self.tasks.settled()
        await asyncio.sleep(0)

    # what clients do

    async def call(self, call, value):
        return await self.connections.call(self.address, call, value, 5.0)

    async def get(self, target: str, *, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of an HTTP call; with a body, of a POST."""
        assert self._http is not None
        url = f"http://{self.address}{target}"
        method = "GET" if body is None else "POST"
        async with self._http.request(method, url, data=body, allow_redirects=False) as response:
            self.location = response.headers.get("Location")
            return response.status, await response.read()


@pytest.fixture
def settings():
    """Settings that differ from the defaults; a module may override this."""
    return {"cluster_name": "onebox", "cluster_root": "/pegasus/onebox"}


@pytest.fixture
async def cluster(tmp_path, settings):
    """A metaserver with its first tables and no replica server."""
    cluster = Cluster(tmp_path / "meta.db", settings)
    await cluster.start(FIRST_TABLES)
    yield cluster
    await cluster.stop()


@pytest.fixture
async def served(cluster):
    """The same with one replica server, which serves all partitions."""
    await cluster.beat(1)
    await cluster.accept()
    return cluster
