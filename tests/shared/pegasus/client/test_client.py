"""The client: routing that changes under it, servers that go away (protocol §10.9, §12.1)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

import pytest

from shared.pegasus.client import PegasusClient, StorageError
from shared.pegasus.serving.rpc import NO_REPLY, rpc
from shared.pegasus.serving.server import PegasusServer
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.framing import encode_reply
from shared.pegasus.wire.keys import decode_key, encode_key, partition_of
from shared.pegasus.wire.structures.base import NO_NODE, Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import PartitionConfiguration, QueryCfgRequest, QueryCfgResponse
from shared.pegasus.wire.structures.rrdb import (
    GetScannerRequest,
    IncrRequest,
    IncrResponse,
    KeyValue,
    ReadResponse,
    ScanRequest,
    ScanResponse,
    UpdateRequest,
    UpdateResponse,
)
from shared.pegasus.wire.thrift import I64, codec_of

PARTITIONS = 4


class World:
    """Metaservers and replica servers whose answers a test decides."""

    def __init__(self) -> None:
        self.servers: list[PegasusServer] = []
        self.primary = NO_NODE
        self.errors: list[str] = []
        self.silent = 0
        self.rows: dict[bytes, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.lost_scanner = False
        self.app_id, self.partitions = 2, PARTITIONS
        self.seen: list[tuple[int, int]] = []
        self.forgotten: list[int] = []
        self.kept_silent = asyncio.Event()

    async def serve(self, rpcs) -> HostPort:
        server = PegasusServer(None, rpcs)
        bound = socket.create_server(("127.0.0.1", 0))
        await server.start([bound], None)
        self.servers.append(server)
        return HostPort(*bound.getsockname()[:2])

    async def meta(self, *, leader=NO_NODE, error="ERR_OK") -> HostPort:
        def route(query, request):
            self.asked["routing"] += 1
            if leader or error != "ERR_OK":
                return QueryCfgResponse(error, partitions=[PartitionConfiguration(hp_primary=leader)] if leader else [])
            if self.errors and self.errors[0].startswith("meta:"):
                return QueryCfgResponse(self.errors.pop(0).removeprefix("meta:"))
            partitions = [
                PartitionConfiguration(Gpid(self.app_id, index), 1, 1, self.primary, hp_primary=self.primary)
                for index in range(self.partitions)
            ]
            return QueryCfgResponse("ERR_OK", self.app_id, self.partitions, True, partitions)

        return await self.serve(
            {"RPC_CM_QUERY_PARTITION_CONFIG_BY_INDEX": rpc(QueryCfgRequest, QueryCfgResponse, route)}
        )

    def _refuse(self, name):
        self.asked[name] += 1
        if self.errors and not self.errors[0].startswith("meta:"):
            raise RpcError(self.errors.pop(0))
        if self.silent:
            self.silent -= 1
            self.kept_silent.set()
            return True
        return False

    async def replica(self) -> HostPort:
        def get(key, request):
            if self._refuse("get"):
                return NO_REPLY
            return ReadResponse(0 if key in self.rows else 1, self.rows.get(key, b""))

        def put(update, request):
            self.seen.append((request.app_id, request.partition_index))
            if self._refuse("put"):
                return NO_REPLY
            self.rows[update.key] = update.value
            return UpdateResponse()

        def incr(request, _):
            return NO_REPLY if self._refuse("incr") else IncrResponse(new_value=request.increment)

        def first_page(request, _):
            rows = sorted((k, v) for k, v in self.rows.items() if request.start_key <= k < request.stop_key)
            if not request.start_inclusive:
                rows = [row for row in rows if row[0] != request.start_key]
            self.scanned = rows[2:]
            return ScanResponse(0, [KeyValue(*row) for row in rows[:2]], 7 if rows[2:] else -1)

        def next_page(request, _):
            if self.lost_scanner:
                self.lost_scanner = False
                return ScanResponse(1)
            rows, self.scanned = self.scanned[:2], self.scanned[2:]
            return ScanResponse(0, [KeyValue(*row) for row in rows], 8 if self.scanned else -1)

        def forget(context_id, request):
            self.forgotten.append(context_id)
            return NO_REPLY

        return await self.serve(
            {
                "RPC_RRDB_RRDB_GET": rpc(bytes, ReadResponse, get),
                "RPC_RRDB_RRDB_PUT": rpc(UpdateRequest, UpdateResponse, put),
                "RPC_RRDB_RRDB_INCR": rpc(IncrRequest, IncrResponse, incr),
                "RPC_RRDB_RRDB_GET_SCANNER": rpc(GetScannerRequest, ScanResponse, first_page),
                "RPC_RRDB_RRDB_SCAN": rpc(ScanRequest, ScanResponse, next_page),
                "RPC_RRDB_RRDB_CLEAR_SCANNER": rpc(I64, None, forget),
            }
        )


@pytest.fixture
async def world():
    world = World()
    yield world
    for server in world.servers:
        await server.drain()


@pytest.fixture
async def client(world):
    world.primary = await world.replica()
    async with PegasusClient([await world.meta()], timeout_s=5) as client:
        yield client


@pytest.fixture
async def table(client):
    return await client.table("temp")


async def unused_port() -> HostPort:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return HostPort(*bound.getsockname()[:2])


async def test_values_go_where_the_routing_says(world, table):
    await table.put(b"h", b"s", b"v")
    assert await table.get(b"h", b"s") == b"v"
    assert await table.get(b"h", b"t") is None
    assert world.asked == {"routing": 1, "put": 1, "get": 2}


@pytest.mark.parametrize("error", ["ERR_INVALID_STATE", "ERR_OBJECT_NOT_FOUND", "ERR_PARENT_PARTITION_MISUSED"])
async def test_a_server_that_is_not_the_one_to_ask_makes_the_client_look_again(world, table, error):
    world.errors = [error, error]
    await table.put(b"h", b"s", b"v")
    assert world.asked == {"routing": 3, "put": 3}


@pytest.mark.parametrize("error", ["ERR_NOT_ENOUGH_MEMBER", "ERR_CAPACITY_EXCEEDED"])
async def test_a_server_that_cannot_now_is_asked_later(world, table, error):
    world.errors = [error]
    await table.put(b"h", b"s", b"v")
    assert world.asked == {"routing": 1, "put": 2}


@pytest.mark.parametrize("error", ["ERR_BUSY", "ERR_SPLITTING", "ERR_DISK_INSUFFICIENT", "ERR_OPERATION_DISABLED"])
async def test_other_refusals_reach_the_caller(world, table, error):
    world.errors = [error]
    with pytest.raises(RpcError) as failed:
        await table.put(b"h", b"s", b"v")
    assert failed.value.code == error
    assert world.asked["put"] == 1


async def test_a_server_that_moved_is_found_again(world, table):
    old, world.primary = world.primary, await world.replica()
    for connection in tuple(world.servers[0].connections):
        connection.abort()
    await world.servers[0].drain()
    await table.put(b"h", b"s", b"v")
    assert old != world.primary
    assert world.asked["put"] == 1


async def test_a_request_without_answer_is_repeated_only_if_that_does_no_harm(world):
    world.primary, world.silent = await world.replica(), 1
    async with PegasusClient([await world.meta()], timeout_s=0.3) as client:
        table = await client.table("temp")
        with pytest.raises(RpcError) as failed:
            await table.incr(b"h", b"s", 1)
    assert failed.value.code == "ERR_TIMEOUT"
    assert world.asked["incr"] == 1


async def test_a_number_grows_even_if_its_server_had_to_be_found_first(world, table):
    elsewhere, world.primary = world.primary, await unused_port()
    table = await reopened(table)
    world.primary = elsewhere
    assert await table.incr(b"h", b"s", 5) == 5
    assert world.asked["incr"] == 1


async def reopened(table):
    await table.open()
    return table


async def test_a_partition_without_primary_is_waited_for(world, table):
    elsewhere, world.primary = world.primary, NO_NODE
    await table.open()
    waiting = asyncio.ensure_future(table.put(b"h", b"s", b"v"))
    await asyncio.sleep(0)
    world.primary = elsewhere
    await waiting
    assert world.asked["put"] == 1


async def test_a_table_in_creation_is_waited_for(world, client):
    world.errors = ["meta:ERR_BUSY_CREATING", "meta:ERR_BUSY_CREATING"]
    table = await client.table("temp")
    assert table.partition_count == PARTITIONS
    assert world.asked["routing"] == 3


async def test_a_table_that_is_dropped_meanwhile_is_said_to_be_gone(world, table):
    world.errors = ["ERR_OBJECT_NOT_FOUND", "meta:ERR_OBJECT_NOT_FOUND"]
    with pytest.raises(RpcError) as failed:
        await table.get(b"h")
    assert failed.value.code == "ERR_OBJECT_NOT_FOUND"


async def test_the_leader_is_found_through_any_metaserver(world):
    world.primary = await world.replica()
    leader = await world.meta()
    follower = await world.meta(leader=leader, error="ERR_FORWARD_TO_OTHERS")
    starting = await world.meta(error="ERR_SERVICE_NOT_ACTIVE")
    async with PegasusClient([await unused_port(), starting, follower], timeout_s=5) as client:
        table = await client.table("temp")
        await table.put(b"h", b"s", b"v")
        await table.open()
    assert world.asked["routing"] == 4  # starting, follower, leader; then the leader at once


async def test_the_address_of_another_server_is_named(world):
    replica = await world.replica()
    async with PegasusClient([replica], timeout_s=5) as client:
        with pytest.raises(RpcError, match=f"{replica} does not know RPC_CM_QUERY_.*: is it a metaserver?"):
            await client.table("temp")


async def test_no_metaserver_is_a_network_failure():
    async with PegasusClient([str(await unused_port())], timeout_s=0.1) as client:
        with pytest.raises(RpcError) as failed:
            await client.table("temp")
    assert failed.value.code == "ERR_NETWORK_FAILURE"


async def test_a_scan_goes_on_after_its_scanner_was_lost(world, table):
    for number in range(7):
        await table.put(b"h", b"%d" % number, b"v")
    world.lost_scanner = True
    assert [key async for key, _ in table.scan(b"h")] == [b"%d" % number for number in range(7)]
    assert {decode_key(key)[0] for key in world.rows} == {b"h"}


async def test_a_scan_that_is_left_early_is_forgotten_by_its_server(world, table):
    for number in range(7):
        await table.put(b"h", b"%d" % number, b"v")
    async with contextlib.aclosing(table.scan(b"h")) as rows:
        assert [(await anext(rows))[0] for _ in range(3)] == [b"0", b"1", b"2"]
    assert await table.get(b"h", b"0") == b"v"  # on the same connection, so the other request has arrived
    assert world.forgotten == [8]


async def test_a_key_goes_where_the_new_table_of_the_name_has_it(world, table):
    keys = [b"h%d" % number for number in range(8)]
    world.app_id, world.partitions = 5, 16
    world.errors = ["ERR_OBJECT_NOT_FOUND"]
    for key in keys:
        await table.put(key, b"s", b"v")
    assert world.seen[0][0] == 2
    assert world.seen[1:] == [(5, partition_of(encode_key(key, b"s"), 16)) for key in keys]


async def test_what_belongs_to_partitions_is_not_carried_over_to_another_table(world, table):
    for number in range(7):
        await table.put(b"h", b"%d" % number, b"v")
    rows = table.scan(b"h")
    assert [(await anext(rows))[0] for _ in range(2)] == [b"0", b"1"]
    world.app_id = 5
    await table.open()
    with pytest.raises(RpcError, match="'temp' is another table now"):
        await anext(rows)


@pytest.mark.parametrize("cut", [3, 4, 20, 40])
async def test_a_connection_that_breaks_in_the_middle_of_an_answer(world, cut):
    """An idempotent request is sent again; the other one may have been carried out."""
    good = await world.replica()
    reply = encode_reply("RPC_RRDB_RRDB_PUT", 1, codec_of(UpdateResponse).encode_field(UpdateResponse(), 0))

    async def half_an_answer(reader, writer):
        await reader.read(1)
        world.primary = good
        writer.write(reply[:cut])
        writer.close()

    async with await asyncio.start_server(half_an_answer, "127.0.0.1", 0) as breaking:
        bad = HostPort("127.0.0.1", breaking.sockets[0].getsockname()[1])
        world.primary = bad
        async with PegasusClient([await world.meta()], timeout_s=5) as client:
            table = await client.table("temp")
            await table.put(b"h", b"s", b"v")
            assert world.asked["put"] == 1
            world.primary = bad
            await table.open()
            with pytest.raises(RpcError) as failed:
                await table.incr(b"h", b"s", 1)
            assert failed.value.code == "ERR_NETWORK_FAILURE"
            assert world.asked["incr"] == 0


async def test_a_cancelled_request_disturbs_no_other(world, table):
    world.silent = 1
    waiting = asyncio.ensure_future(table.get(b"h"))
    await world.kept_silent.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await table.put(b"h", b"s", b"v")
    assert await table.get(b"h", b"s") == b"v"


async def test_a_client_that_is_closed_fails_at_once_what_waits_and_what_comes(world, client, table):
    world.silent = 1
    waiting = asyncio.ensure_future(table.get(b"h"))
    await world.kept_silent.wait()
    await client.close()
    for request in (waiting, table.get(b"h"), client.table("temp")):
        with pytest.raises(RpcError) as failed:
            await asyncio.wait_for(request, 1)
        assert failed.value.code == "ERR_NETWORK_FAILURE"


async def test_what_the_store_declines_is_a_storage_error():
    assert str(StorageError(4, "incr")) == "incr: INVALID_ARGUMENT"
    assert str(StorageError(77, "incr")) == "incr: 77"


@pytest.mark.parametrize("wrong", ["nowhere", "host:", ":1", "host:0", "host:65536", "host:x"])
def test_a_wrong_address_is_refused(wrong):
    with pytest.raises(ValueError, match="not an address"):
        PegasusClient([wrong])
