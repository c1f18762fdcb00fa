"""The limits beside which the gateways are measured: a bare aiohttp handler, and a loop that writes ready-made frames.

usage: python bare.py PORT
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from typing import cast

import uvloop
from aiohttp import web

RECORD = (
    b'{"id":"1795233321154754275","timestamp":"2026-11-21T03:56:00.381782","k":"k1","v":0.5,"seq":1,"t":1795233321.0}'
)
MESSAGE = b'{"channel":"bench_free","data":[' + RECORD + b"]}"
BURST = 16  # frames for one socket are joined, as a writer does that is behind
FRAME = b"\x81\x7e" + len(MESSAGE).to_bytes(2, "big") + MESSAGE
HEADERS = {"Content-Type": "application/json"}


async def last(_request: web.Request) -> web.Response:
    return web.Response(body=b"[" + RECORD + b"]", headers=HEADERS)


async def send(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=b"[" + RECORD + b"]", headers=HEADERS)


class Socket(asyncio.Protocol):
    """A WebSocket connection to which nothing is ever written but the one frame."""

    everyone: "list[Socket]" = []  # noqa: UP037, RUF012 - there is one server
    can_write: asyncio.Event

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_full = False
        self._upgraded = False
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        if not self._upgraded:
            self._upgraded = True
            self.everyone.append(self)
            key = next(line[19:] for line in data.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
            digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            accept = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + base64.b64encode(digest)
            self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n" + accept + b"\r\n\r\n")
        else:
            self._task = asyncio.create_task(write_for_ever(list(self.everyone)))

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self.can_write.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self.everyone.remove(self)
        self.can_write.set()


async def write_for_ever(sockets: list[Socket]) -> None:
    """Hand the same frames to every socket, round after round."""
    frames = FRAME * BURST
    while all(not socket.transport.is_closing() for socket in sockets if socket.transport):
        for socket in sockets:
            assert socket.transport is not None
            socket.transport.write(frames)
        if any(socket.is_full for socket in sockets):
            Socket.can_write.clear()
            await Socket.can_write.wait()
        else:
            await asyncio.sleep(0)


async def serve(port: int) -> None:
    app = web.Application()
    app.add_routes([web.get("/api/v1/last/bench", last), web.post("/api/v1/send/bench", send)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    Socket.can_write = asyncio.Event()
    await asyncio.get_running_loop().create_server(Socket, "127.0.0.1", port + 1)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
