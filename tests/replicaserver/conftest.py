"""A replica server in process, with a clock in the test's hand and without a metaserver."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from rocksdict import Cache

from replicaserver.app import ReplicaServer, Settings
from replicaserver.partition.partition import Partition
from replicaserver.replication.replica import Configuration, Granted
from replicaserver.storage.engine import StoreSettings
from replicaserver.storage.rocks import RocksStore
from shared.pegasus.client.connection import Call, RpcConnection
from shared.pegasus.files.providers import FileProviders
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.keys import EPOCH
from shared.pegasus.wire.structures import rrdb
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppInfo
from shared.pegasus.wire.thrift import I64

T = TypeVar("T")

CALLS = {
    name: Call(f"RPC_RRDB_RRDB_{name.upper()}", request, response)
    for name, request, response in (
        ("put", rrdb.UpdateRequest, rrdb.UpdateResponse),
        ("remove", bytes, rrdb.UpdateResponse),
        ("multi_put", rrdb.MultiPutRequest, rrdb.UpdateResponse),
        ("multi_remove", rrdb.MultiRemoveRequest, rrdb.MultiRemoveResponse),
        ("incr", rrdb.IncrRequest, rrdb.IncrResponse),
        ("check_and_set", rrdb.CheckAndSetRequest, rrdb.CheckAndSetResponse),
        ("check_and_mutate", rrdb.CheckAndMutateRequest, rrdb.CheckAndMutateResponse),
        ("get", bytes, rrdb.ReadResponse),
        ("multi_get", rrdb.MultiGetRequest, rrdb.MultiGetResponse),
        ("batch_get", rrdb.BatchGetRequest, rrdb.BatchGetResponse),
        ("sortkey_count", bytes, rrdb.CountResponse),
        ("ttl", bytes, rrdb.TtlResponse),
        ("get_scanner", rrdb.GetScannerRequest, rrdb.ScanResponse),
        ("scan", rrdb.ScanRequest, rrdb.ScanResponse),
        ("clear_scanner", I64, None),
    )
    if response is not None
}
CLEAR_SCANNER = Call("RPC_RRDB_RRDB_CLEAR_SCANNER", I64, bytes)


async def eventually(ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool], timeout_s: float = 20.0) -> T:
    """Ask again and again, as a metaserver or a tool does, until the answer is as expected."""
    async with asyncio.timeout(timeout_s):
        while not holds(answer := await ask()):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.005)
        return answer


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.unix_s = EPOCH + 1000.0

    def __call__(self) -> float:
        return self.unix_s

    def advance(self, seconds: float) -> None:
        self.unix_s += seconds

    @property
    def now(self) -> int:
        """Seconds since the epoch of the rows."""
        return int(self.unix_s) - EPOCH


class Served:
    """A running replica server, and a client of it."""

    def __init__(self, server: ReplicaServer, port: int) -> None:
        self.server = server
        self.address = HostPort("127.0.0.1", port)
        self.connection: RpcConnection

    async def table(self, app_id: int = 2, partitions: int = 1, envs: dict[str, str] | None = None) -> None:
        """Make a table whose partitions are all here, with this server as their primary."""
        for index in range(partitions):
            partition = await self.server.node.create(Gpid(app_id, index), self.app(app_id, partitions, envs))
            partition.step(Granted(Configuration(partition.core.ballot + 1, self.address)))
            await partition.batches.drained()

    def app(self, app_id: int = 2, partitions: int = 1, envs: dict[str, str] | None = None) -> AppInfo:
        return AppInfo(1, "pegasus", f"table{app_id}", app_id, partitions, envs or {}, True, 1)

    def partition(self, app_id: int = 2, index: int = 0) -> Partition:
        return self.server.node.partitions[app_id, index]

    async def set_envs(self, envs: dict[str, str], app_id: int = 2) -> None:
        """What the metaserver would push: all environment variables of a table."""
        for partition in self.server.node.of_table(app_id):
            app = self.app(app_id, partition.app.partition_count, envs)
            await self.server.node.describe(partition, app)
            self.server.compactor.consider(partition)

    async def ask(self, code: str, request: Any, response: Any, value: Any, timeout_s: float = 5.0) -> Any:
        """Call any RPC."""
        return await self.connection.call(Call(code, request, response), value, timeout_s)

    async def call(self, name: str, value: Any, app_id: int = 2, index: int = 0, timeout_s: float = 5.0, **header: Any):
        """Call an rrdb operation."""
        return await self.connection.call(CALLS[name], value, timeout_s, app_id=app_id, partition_index=index, **header)

    async def error(self, name: str, value: Any, **arguments: Any) -> str:
        """The error name with which a call is refused."""
        with pytest.raises(RpcError) as caught:
            await self.call(name, value, **arguments)
        return str(caught.value.code)

    async def http(self, target: str, method: str = "GET", body: bytes = b"") -> tuple[int, str]:
        """Status and body of an HTTP call, over a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.address.port)
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split()[0])
        answer = (await reader.readexactly(length)).decode("latin-1")
        writer.close()
        return int(head.split()[1]), answer

    async def metric(self, name: str, entity: str = "replica@2.0") -> int:
        """The present value of a counter or gauge."""
        self.server.registry.measure(lambda _entity: True)
        found = {one.id: one for one in self.server.registry.entities()}[entity].metrics[name]
        return int(found.values()["value"])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def flags() -> dict[str, str]:
    """Settings of the server; a test parametrises or overrides them.

    A test's disk may be nearly full, and its lease lasts without a metaserver on the slowest of machines.
    """
    return {
        "disk_min_available_space_ratio": "0",
        "log_private_file_size_mb": "1",
        "fd_lease_seconds": "3000",
        "fd_grace_seconds": "3600",
    }


@pytest.fixture
async def served(tmp_path: Path, clock: Clock, flags: dict[str, str]) -> AsyncIterator[Served]:
    running = await start(tmp_path, clock, flags)
    yield running
    running.connection.close()
    await running.server.drain()


async def start(
    folder: Path, clock: Clock, flags: dict[str, str], port: int = 0, metas: list[HostPort] | None = None
) -> Served:
    """Start a replica server in this process, and connect to it."""
    listening = socket.create_server(("127.0.0.1", port))
    providers = FileProviders({"local_service": str(folder / "files")})
    settings = Settings(folder, metas or [], None, flags, 16, 64, providers)
    running = Served(ReplicaServer(settings, clock), listening.getsockname()[1])
    await running.server.start([listening], None)
    running.connection = await RpcConnection.open(running.address)
    return running


@pytest.fixture(scope="session")
def store_settings() -> StoreSettings:
    return StoreSettings(
        levels=6,
        write_buffer_bytes=1 << 20,
        max_write_buffers=3,
        compression="lz4",
        bloom_bits_per_key=10.0,
        level_base_bytes=64 << 20,
        target_file_bytes=8 << 20,
        level0_trigger=4,
        max_open_files=-1,
        block_cache=Cache(16 << 20),
    )


@pytest.fixture
def store(tmp_path: Path, store_settings: StoreSettings) -> Iterator[RocksStore]:
    opened = RocksStore(tmp_path / "rdb", store_settings)
    yield opened
    opened.close()
