"""Replica servers join while a table is being filled, and are killed: it is spread, and nothing is lost (§13.4)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from shared.pegasus.client import PegasusClient, TableClient
from tests.faults.test_pegasus_failover import SOON
from tests.faults.test_replicaserver_kill import free_port
from tests.processes import DaemonProcess, command, start_daemon

PARTITIONS = 32
KEYS = 4000
WRITERS = 4
SERVERS = 3


class Cluster:
    """One metaserver and replica servers that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = contextlib.ExitStack()
        self.meta = self.stack.enter_context(
            start_daemon("metaserver", "--data-dir", folder / "meta", "--no-first-tables", *SOON)
        )
        self.address = f"127.0.0.1:{self.meta.port}"
        self.ports = [free_port() for _ in range(SERVERS)]
        self.running: dict[int, DaemonProcess] = {}

    def start(self, number: int) -> None:
        self.running[number] = self.stack.enter_context(
            start_daemon(
                "replicaserver",
                *("--port", str(self.ports[number]), "--data-dir", self.folder / f"replica{number}"),
                *("--meta", self.address, "--set", "config_sync_interval_ms=500", *SOON),
            )
        )

    def kill(self, number: int) -> None:
        self.running.pop(number).kill()


@pytest.fixture
def cluster(tmp_path: Path):
    cluster = Cluster(tmp_path)
    with cluster.stack:
        yield cluster


async def new_table(client: PegasusClient, cluster: Cluster) -> TableClient:
    arguments = ("create-table", "wide", "--partitions", str(PARTITIONS), "--replicas", "1", "--meta", cluster.address)
    await asyncio.to_thread(subprocess.run, [command("metaserver"), *arguments], check=True, capture_output=True)
    return await client.table("wide")


async def shares(client: PegasusClient) -> Counter[str]:
    return Counter(str(partition.hp_primary) for partition in (await client.meta.routing("wide")).partitions)


async def until_even(client: PegasusClient) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        held = await shares(client)
        if len(held) == SERVERS and max(held.values()) - min(held.values()) <= 1:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not even after a minute: {held}")


class Writers:
    """Write keys one after the other, and know what was acknowledged."""

    def __init__(self, table: TableClient) -> None:
        self._table = table
        self.acknowledged: dict[bytes, bytes] = {}
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(WRITERS)]

    async def _write(self, writer: int) -> None:
        for number in range(writer, KEYS, WRITERS):
            key = b"key %d" % number
            await self._table.put(key, b"", key)
            self.acknowledged[key] = key

    async def done(self) -> None:
        await asyncio.gather(*self._tasks)

    async def check(self) -> None:
        assert len(self.acknowledged) == KEYS
        for key, value in self.acknowledged.items():
            assert await self._table.get(key) == value, key


async def test_a_table_nobody_has_written_to_is_spread_over_the_servers_that_join(cluster: Cluster):
    await asyncio.to_thread(cluster.start, 0)
    async with PegasusClient([cluster.address], timeout_s=60) as client:
        await new_table(client, cluster)
        for number in range(1, SERVERS):
            await asyncio.to_thread(cluster.start, number)
        await until_even(client)


async def test_nothing_is_lost_when_servers_join_while_a_table_is_filled(cluster: Cluster):
    await asyncio.to_thread(cluster.start, 0)
    async with PegasusClient([cluster.address], timeout_s=60) as client:
        table = await new_table(client, cluster)
        writers = Writers(table)
        for number in range(1, SERVERS):
            await asyncio.to_thread(cluster.start, number)
        await writers.done()
        await writers.check()


async def test_nothing_is_lost_when_they_are_killed_meanwhile(cluster: Cluster):
    rng = random.Random(6)
    await asyncio.to_thread(cluster.start, 0)
    async with PegasusClient([cluster.address], timeout_s=120) as client:
        table = await new_table(client, cluster)
        for number in range(1, SERVERS):
            await asyncio.to_thread(cluster.start, number)
        writers = Writers(table)
        for _ in range(6):
            number = rng.randrange(SERVERS)
            await asyncio.to_thread(cluster.kill, number)
            await asyncio.to_thread(cluster.start, number)
        await writers.done()
        await writers.check()
        await until_answered(client)


async def until_answered(client: PegasusClient) -> None:
    """Every partition has a primary, also those that nobody wrote to while their server was killed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if sum((await shares(client)).values()) == PARTITIONS and ":0" not in await shares(client):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(await shares(client))
