"""Asking a server over RPC (protocol §10)."""

from __future__ import annotations

import asyncio
import socket

import pytest

from shared.pegasus.client.connection import Call, RpcConnection, RpcConnections
from shared.pegasus.serving.rpc import NO_REPLY, rpc
from shared.pegasus.serving.server import PegasusServer
from shared.pegasus.wire.errors import RpcError, UnreachableError
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.rrdb import ReadResponse
from shared.pegasus.wire.thrift import I64

GET = Call("GET", bytes, ReadResponse)
WRONG_TYPE = Call("GET", bytes, I64)


def answer(key, request):
    if key == b"silence":
        return NO_REPLY
    if key == b"busy":
        raise RpcError("ERR_BUSY")
    return ReadResponse(0, key, request.app_id, request.partition_index, f"{request.is_backup_request}")


@pytest.fixture
async def server():
    server = PegasusServer(None, {"GET": rpc(bytes, ReadResponse, answer)})
    bound = socket.create_server(("127.0.0.1", 0))
    await server.start([bound], None)
    server.node = HostPort(*bound.getsockname()[:2])
    yield server
    await server.drain()


@pytest.fixture
async def connections():
    connections = RpcConnections()
    yield connections
    await connections.close()


async def test_many_requests_share_one_connection(server, connections):
    calls = [connections.call(server.node, GET, b"%d" % n, 5.0, app_id=2, partition_index=n) for n in range(200)]
    answers = await asyncio.gather(*calls)
    assert [(a.value, a.app_id, a.partition_index) for a in answers] == [(b"%d" % n, 2, n) for n in range(200)]
    assert len(server.connections) == 1


async def test_a_backup_request_says_so(server, connections):
    answered = await connections.call(server.node, GET, b"k", 5.0, app_id=2, is_backup_request=True)
    assert answered.server == "True"


async def test_errors_of_the_server_are_raised(server, connections):
    with pytest.raises(RpcError) as refused:
        await connections.call(server.node, GET, b"busy", 5.0)
    assert refused.value.code == "ERR_BUSY"


async def test_no_answer_is_a_timeout(server, connections):
    with pytest.raises(RpcError) as failed:
        await connections.call(server.node, GET, b"silence", 0.01)
    assert failed.value.code == "ERR_TIMEOUT"
    assert (await connections.call(server.node, GET, b"k", 5.0)).value == b"k"


async def test_an_answer_of_another_type_is_invalid_data(server, connections):
    with pytest.raises(RpcError) as failed:
        await connections.call(server.node, WRONG_TYPE, b"k", 5.0)
    assert failed.value.code == "ERR_INVALID_DATA"


async def test_nobody_there_is_a_network_failure(connections):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(RpcError) as failed:
        await connections.call(HostPort("127.0.0.1", port), GET, b"k", 5.0)
    assert failed.value.code == "ERR_NETWORK_FAILURE"


async def test_a_broken_connection_fails_what_is_in_flight_and_is_opened_again(server, connections):
    silent = asyncio.ensure_future(connections.call(server.node, GET, b"silence", 30.0))
    assert (await connections.call(server.node, GET, b"k", 5.0)).value == b"k"
    for connection in tuple(server.connections):
        connection.abort()
    with pytest.raises(RpcError) as failed:
        await silent
    assert failed.value.code == "ERR_NETWORK_FAILURE"
    assert (await connections.call(server.node, GET, b"again", 5.0)).value == b"again"


async def test_a_peer_that_speaks_something_else_is_left():
    async def gibberish(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    other = await asyncio.start_server(gibberish, "127.0.0.1", 0)
    connection = await RpcConnection.open(HostPort(*other.sockets[0].getsockname()[:2]))
    with pytest.raises(RpcError) as failed:
        await connection.call(GET, b"k", 5.0)
    assert failed.value.code == "ERR_NETWORK_FAILURE"
    assert not connection.is_open
    other.close()


async def test_connecting_takes_no_longer_than_the_request_may():
    async def never(_server: HostPort) -> RpcConnection:
        return await asyncio.get_running_loop().create_future()

    connections = RpcConnections(never)
    with pytest.raises(UnreachableError, match=r"cannot connect to host:1: no answer within 0.01 s"):
        await connections.call(HostPort("host", 1), GET, b"", 0.01)
    await connections.close()


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (HostPort("127.0.0.1", 1), "cannot connect to 127.0.0.1:1: connection refused"),
        (HostPort("no.such.host.invalid", 1), "cannot connect to no.such.host.invalid:1: "),
    ],
)
async def test_why_there_is_no_connection_is_said_in_words(server: HostPort, reason: str):
    with pytest.raises(UnreachableError, match=reason) as failed:
        await RpcConnection.open(server)
    assert "Errno" not in str(failed.value)
