"""A replica server dies, is found dead, and comes back; the metaserver dies and comes back (protocol §13)."""

from __future__ import annotations

import asyncio

import pytest

from shared.pegasus.client import PegasusClient
from tests.processes import start_daemon

SOON = ("--set", "fd_beacon_interval_seconds=1", "--set", "fd_lease_seconds=3", "--set", "fd_grace_seconds=4")


class Cluster:
    """One metaserver and one replica server that keep their ports and data over restarts."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.ports = {"metaserver": "0", "replicaserver": "0"}
        self.running = {}

    def start(self, name, *arguments) -> None:
        daemon = start_daemon(name, "--port", self.ports[name], "--data-dir", self.folder / name, *SOON, *arguments)
        self.ports[name] = str(daemon.port)
        self.running[name] = daemon

    def start_replica(self) -> None:
        self.start("replicaserver", "--meta", self.meta)

    def kill(self, name) -> None:
        with self.running.pop(name) as daemon:
            daemon.kill()

    @property
    def meta(self) -> str:
        return f"127.0.0.1:{self.ports['metaserver']}"


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path)
    cluster.start("metaserver")
    cluster.start_replica()
    yield cluster
    for name in tuple(cluster.running):
        cluster.kill(name)


async def primaries(client):
    return {partition.hp_primary for partition in (await client.meta.routing("temp")).partitions}


async def test_values_are_there_again_when_their_server_is(cluster):
    async with PegasusClient([cluster.meta], timeout_s=60) as client:
        table = await client.table("temp")
        await asyncio.gather(*(table.put(b"h%d" % n, b"s", b"%d" % n) for n in range(50)))
        ballots = {p.ballot for p in (await client.meta.routing("temp")).partitions}

        await asyncio.to_thread(cluster.kill, "replicaserver")
        await asyncio.to_thread(cluster.running["metaserver"].wait_for_log, "replica server is dead")
        while any(await primaries(client)):
            pass

        await asyncio.to_thread(cluster.start_replica)
        found = await asyncio.gather(*(table.get(b"h%d" % n, b"s") for n in range(50)))
        assert found == [b"%d" % n for n in range(50)]
        after = {p.ballot for p in (await client.meta.routing("temp")).partitions}
        assert min(after) >= max(ballots) + 2  # out of the configuration, and in again


async def test_a_server_that_restarts_at_once_is_not_missed(cluster):
    async with PegasusClient([cluster.meta], timeout_s=60) as client:
        table = await client.table("temp")
        await table.put(b"h", b"s", b"v")
        await asyncio.to_thread(cluster.kill, "replicaserver")
        await asyncio.to_thread(cluster.start_replica)
        assert await table.get(b"h", b"s") == b"v"
        await table.put(b"h", b"s", b"again")
        assert await table.get(b"h", b"s") == b"again"


async def test_a_metaserver_that_restarts_finds_its_cluster_as_it_was(cluster):
    async with PegasusClient([cluster.meta], timeout_s=60) as client:
        table = await client.table("temp")
        await table.put(b"h", b"s", b"v")
        before = await primaries(client)
        await asyncio.to_thread(cluster.kill, "metaserver")
        await asyncio.to_thread(cluster.start, "metaserver")
        await table.open()
        assert await primaries(client) == before
        await table.put(b"h", b"s", b"again")
        assert await table.get(b"h", b"s") == b"again"
