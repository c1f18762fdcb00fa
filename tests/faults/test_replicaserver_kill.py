"""kill -9 of a replica server under load: nothing acknowledged is lost, nothing is applied by halves.

The log's files are of the smallest size, and some of the writes are large, so that kills come while the log goes on
in another file, while stores' files catch up, and while files of the log are let go of. After some of the kills the
log ends in nonsense, as it may after a loss of power.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from replicaserver.storage.node_log import KEPT_SEGMENTS
from shared.pegasus.client.connection import Call, RpcConnection
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.keys import encode_key, partition_of
from shared.pegasus.wire.structures import rrdb
from shared.pegasus.wire.structures.base import HostPort
from shared.wal.segments import SegmentReader, read_header
from tests.processes import DaemonProcess, start_daemon

KILLS = 8
WRITERS = 16
FILLERS = 3
FILLING = b"x" * 700_000
TEMP, PARTITIONS = 2, 8
"""The table that a metaserver creates on its first start."""

GET = Call("RPC_RRDB_RRDB_GET", bytes, rrdb.ReadResponse)
MULTI_GET = Call("RPC_RRDB_RRDB_MULTI_GET", rrdb.MultiGetRequest, rrdb.MultiGetResponse)
MULTI_PUT = Call("RPC_RRDB_RRDB_MULTI_PUT", rrdb.MultiPutRequest, rrdb.UpdateResponse)
PUT = Call("RPC_RRDB_RRDB_PUT", rrdb.UpdateRequest, rrdb.UpdateResponse)
INCR = Call("RPC_RRDB_RRDB_INCR", rrdb.IncrRequest, rrdb.IncrResponse)
MUTATE = Call("RPC_RRDB_RRDB_CHECK_AND_MUTATE", rrdb.CheckAndMutateRequest, rrdb.CheckAndMutateResponse)


class Writer:
    """Writes two rows together, counts, and takes a step from what is there, again and again.

    It knows what was sent and what was acknowledged.
    """

    def __init__(self, number: int) -> None:
        self.hash_key = b"writer %d" % number
        self.counter = encode_key(self.hash_key, b"counter")
        self.index = partition_of(self.counter, PARTITIONS)
        self.sent = self.acknowledged = 0
        self.added = self.acknowledged_added = 0
        self.steps = self.acknowledged_steps = 0

    async def call(self, connection: RpcConnection, call: Call, value: object):
        return await connection.call(call, value, 5.0, app_id=TEMP, partition_index=self.index)

    async def write(self, connection: RpcConnection, acknowledged: Callable[[], None]) -> None:
        while True:
            self.sent += 1
            number = b"%d" % self.sent
            rows = [rrdb.KeyValue(b"a", number), rrdb.KeyValue(b"b", number)]
            await self.call(connection, MULTI_PUT, rrdb.MultiPutRequest(self.hash_key, rows))
            self.acknowledged = self.sent
            self.added += 1
            await self.call(connection, INCR, rrdb.IncrRequest(self.counter, 1))
            self.acknowledged_added += 1
            await self.step(connection)
            acknowledged()

    async def step(self, connection: RpcConnection) -> None:
        """Go from a number to the next in two rows, if the first has that number."""
        before = b"%d" % self.steps if self.steps else b""
        self.steps += 1
        check = rrdb.CheckType.VALUE_BYTES_EQUAL if before else rrdb.CheckType.VALUE_NOT_EXIST
        mutations = [rrdb.Mutate(rrdb.MutateOperation.PUT, name, b"%d" % self.steps) for name in (b"step", b"steps")]
        request = rrdb.CheckAndMutateRequest(self.hash_key, b"step", check, before, mutations)
        assert (await self.call(connection, MUTATE, request)).error == 0, (
            f"{self.hash_key!r}: a step is lost or too many"
        )
        self.acknowledged_steps = self.steps

    async def fill(self, connection: RpcConnection) -> None:
        """Make the log go on in another file, and again."""
        while True:
            await self.call(connection, PUT, rrdb.UpdateRequest(encode_key(self.hash_key, b"filler"), FILLING))

    async def check(self, connection: RpcConnection) -> None:
        names = (b"a", b"b", b"counter", b"step", b"steps")
        answer = await self.call(connection, MULTI_GET, rrdb.MultiGetRequest(self.hash_key, names))
        found = {kv.key: int(kv.value) for kv in answer.kvs}
        a, b, counted, step, steps = (found.get(name, 0) for name in names)
        assert (a, step) == (b, steps), f"{self.hash_key!r}: half of a write is there"
        assert self.acknowledged_steps <= step <= self.steps, f"{self.hash_key!r}: a step is lost or too many"
        assert self.acknowledged <= a <= self.sent, f"{self.hash_key!r}: an acknowledged write is lost"
        assert self.acknowledged_added <= counted <= self.added, (
            f"{self.hash_key!r}: an addition is lost, or is there twice"
        )
        self.added = self.acknowledged_added = counted
        self.steps = self.acknowledged_steps = step


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


async def serving(port: int) -> RpcConnection:
    """A connection, once every partition of the table is served."""
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = await RpcConnection.open(HostPort("127.0.0.1", port))
            for index in range(PARTITIONS):
                await connection.call(GET, encode_key(b"any", b""), 1.0, app_id=TEMP, partition_index=index)
            return connection
        except RpcError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"the table is not served: {error}") from error
            await asyncio.sleep(0.05)


async def load_until_killed(server: DaemonProcess, port: int, writers: list[Writer], writes: int) -> None:
    """Write until some writes are acknowledged, then kill the server in the middle of the next ones."""
    connection = await serving(port)
    for writer in writers:
        await writer.check(connection)
    left, enough = writes, asyncio.Event()

    def acknowledged() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            enough.set()

    tasks = [asyncio.create_task(writer.write(connection, acknowledged)) for writer in writers]
    tasks += [asyncio.create_task(writer.fill(connection)) for writer in writers[:FILLERS]]
    await enough.wait()
    server.process.kill()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, RpcError) for error in ended)
    server.wait()


def garble_the_end(log: Path, chance: random.Random) -> None:
    """Put nonsense behind the last record, where a write was under way when the power went."""
    newest = max(log.glob("*.log"), key=lambda file: int(file.stem))
    data = newest.read_bytes()
    header = read_header(data)
    if header is not None:
        reader = SegmentReader(header.name, data)
        for _ in reader:
            pass
        with newest.open("r+b") as file:
            file.seek(reader.offset)
            file.write(chance.randbytes(chance.randrange(1, 5000)))


@pytest.mark.timeout(300)
async def test_whatever_was_acknowledged_is_there_after_any_kill(tmp_path: Path):
    chance = random.Random(20160101)
    writers = [Writer(number) for number in range(WRITERS)]
    port = free_port()
    settings = ("--set", "disk_min_available_space_ratio=0", "--set", "log_private_file_size_mb=1")
    log, segments = tmp_path / "replica" / "replica" / "slog", set()
    with start_daemon("metaserver", "--data-dir", tmp_path / "meta") as meta:
        arguments = ("--port", str(port), "--meta", f"127.0.0.1:{meta.port}", "--data-dir", tmp_path / "replica")
        for _ in range(KILLS):
            with start_daemon("replicaserver", *arguments, *settings) as server:
                await load_until_killed(server, port, writers, chance.randrange(1, 400))
            segments.update(int(file.stem) for file in log.glob("*.log"))
            if chance.random() < 0.5:
                garble_the_end(log, chance)
        with start_daemon("replicaserver", *arguments, *settings) as server:
            connection = await serving(port)
            for writer in writers:
                await writer.check(connection)
            connection.close()
            assert server.terminate() == 0
    assert sum(writer.acknowledged for writer in writers) > KILLS * 5
    assert max(segments) > 3 * KEPT_SEGMENTS, "the log was never trimmed"
    assert len(list(log.glob("*.log"))) <= 1, "the log keeps what all files have"
