"""How many connections there may be (`shared.pegasus.serving.accepting`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from shared.pegasus.serving import accepting
from shared.pegasus.serving.accepting import ConnectionLimit
from shared.pegasus.serving.rpc import rpc
from shared.pegasus.serving.server import PegasusServer
from shared.pegasus.wire.framing import ReplyReader, encode_request
from shared.pegasus.wire.thrift import codec_of
from tests.descriptors import no_descriptors


@contextlib.asynccontextmanager
async def serving(limit: ConnectionLimit):
    gates = []

    def answer(key, _request):
        if key == b"later":
            gates.append(asyncio.get_running_loop().create_future())
            return gates[-1]
        return key

    server = PegasusServer(None, {"ECHO": rpc(bytes, bytes, answer)}, limit=limit)
    bound = socket.create_server(("127.0.0.1", 0))
    await server.start([bound], None)
    server.address, server.gates = bound.getsockname()[:2], gates
    yield server
    for gate in gates:
        gate.cancel()
    await server.drain()


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, server):
        return cls(*await asyncio.open_connection(*server.address))

    def ask(self, key=b"k"):
        self.writer.write(encode_request("ECHO", 1, codec_of(bytes).encode_field(key, 1)))

    async def answer(self):
        """The error of the next answer, None when the connection was closed instead."""
        replies = ReplyReader()
        while True:
            try:
                data = await self.reader.read(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            if found := replies.feed(data):
                return found[0].error


def test_a_quarter_of_few_descriptors_and_a_thousand_of_many_are_for_files():
    assert (ConnectionLimit(256).highest, ConnectionLimit(1 << 20).highest) == (192, (1 << 20) - 1024)


async def test_the_connection_that_was_idle_longest_makes_room_for_a_new_one():
    async with serving(ConnectionLimit(1 << 20, most=2)) as server:
        clients = [await Client.of(server) for _ in range(3)]
        for client in clients:
            client.ask()
        assert [await client.answer() for client in clients] == [None, "ERR_OK", "ERR_OK"]


async def test_a_connection_that_never_sent_anything_makes_room_first():
    async with serving(ConnectionLimit(1 << 20, most=2)) as server:
        asking, silent = await Client.of(server), await Client.of(server)
        asking.ask()
        assert await asking.answer() == "ERR_OK"
        (await Client.of(server)).ask()
        assert await silent.answer() is None
        asking.ask()
        assert await asking.answer() == "ERR_OK"


async def test_a_connection_is_closed_at_once_when_no_other_is_idle():
    async with serving(ConnectionLimit(1 << 20, most=2)) as server:
        busy = [await Client.of(server) for _ in range(2)]
        for client in busy:
            client.ask(b"later")
        while len(server.gates) < 2:  # noqa: ASYNC110 - yields to the server
            await asyncio.sleep(0)
        assert await (await Client.of(server)).answer() is None
        for gate in server.gates:
            gate.set_result(b"")
        assert [await client.answer() for client in busy] == ["ERR_OK", "ERR_OK"]


async def test_descriptors_are_left_for_files():
    free = [os.dup(0)]  # the process may have gaps below its highest descriptor: connections shall find none
    while free[-1] < free[0] + 200:
        free.append(os.dup(0))
    lowest_free = next(number for number in range(free[0], free[-1]) if set(range(number, free[-1])) <= set(free))
    gaps = [number for number in free if number < lowest_free]
    for number in free:
        if number >= lowest_free:
            os.close(number)
    limit = ConnectionLimit(descriptors=(lowest_free + 20) * 4 // 3, most=1 << 20)
    async with serving(limit) as server:
        clients = []
        for _ in range(40):
            clients.append(await Client.of(server))
            clients[-1].ask()
            await clients[-1].answer()
        assert 0 < len(server.connections) <= 20
        for client in clients:
            client.writer.close()
    for number in gaps:
        os.close(number)


async def test_a_server_goes_on_when_there_are_descriptors_again(monkeypatch):
    monkeypatch.setattr(accepting, "PAUSE_S", 0.01)
    async with serving(ConnectionLimit(1 << 20)) as server:
        connecting = socket.socket()
        with no_descriptors():
            connecting.connect(server.address)
            for _ in range(10):
                await asyncio.sleep(0)
        client = await Client.of(server)
        client.ask()
        assert await client.answer() == "ERR_OK"
        connecting.close()
