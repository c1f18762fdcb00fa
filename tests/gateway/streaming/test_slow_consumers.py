"""A subscriber that stops reading costs the others nothing and is ended in the end (§4.5)."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import socket
from typing import Any, cast

from gateway.handlers.websocket import FrameWriter
from gateway.streaming.outbox import Outbox, QueueLimits
from tests.gateway.conftest import Client, Serve, until
from tests.gateway.examples import DEMO_TYPES
from tests.gateway.handlers.test_websocket import act, received, settled


async def silent_subscriber(gateway: Client, channel: str) -> socket.socket:
    """A raw connection that subscribes and then reads no more."""
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await loop.sock_connect(raw, (gateway.http.host, gateway.http.port))
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    await loop.sock_sendall(raw, head.encode())
    while b"\r\n\r\n" not in await loop.sock_recv(raw, 4096):
        pass
    action = b'{"action":"subscribe","channel":"%s"}' % channel.encode()
    await loop.sock_sendall(raw, bytes((0x81, 0x80 | len(action), 0, 0, 0, 0)) + action)
    feed = gateway.gateway.engine.channels[channel].feeds[0]
    await until(lambda: bool(feed.subscribers))
    return raw


async def test_a_silent_subscriber_is_closed_and_the_others_miss_nothing(serve: Serve):
    limits = "stream: {queue: {max_messages: 100000, max_bytes: 1MiB, policy: disconnect}}\n"
    gateway = await serve(limits + DEMO_TYPES)
    raw = await silent_subscriber(gateway, "example")
    reader = await gateway.stream()
    await act(reader, action="subscribe", channel="example")
    await settled(gateway, reader)
    stats = gateway.gateway.connections
    seen: list[int] = []
    sent = 0
    while not stats.slow_closes:
        await gateway.send("example", [{"x": number, "y": "y" * 10_000} for number in range(sent, sent + 20)])
        sent += 20
        seen += [message["data"][0]["x"] for message in await received(reader, 20)]
    assert seen == list(range(sent))
    await gateway.send("example", {"x": sent})
    assert (await received(reader))[0]["data"][0]["x"] == sent
    raw.close()
    await until(lambda: len(stats.outboxes) == 1)


async def test_what_a_silent_subscriber_does_not_read_is_bounded_when_the_oldest_is_dropped(serve: Serve):
    limits = "stream: {queue: {max_messages: 50, policy: drop_oldest}}\n"
    gateway = await serve(limits + DEMO_TYPES)
    raw = await silent_subscriber(gateway, "example")
    stats = gateway.gateway.connections
    while stats.summary()["dropped"] < 100:
        await gateway.send("example", [{"y": "y" * 10_000} for _ in range(20)])
    assert stats.summary()["queued_messages"] <= 50
    assert stats.slow_closes == 0
    raw.close()
    await until(lambda: not stats.outboxes)


async def test_a_silent_reader_of_events_is_cut_off(serve: Serve):
    limits = "stream: {queue: {max_messages: 100000, max_bytes: 1MiB, policy: disconnect}}\n"
    gateway = await serve(limits + DEMO_TYPES)
    loop = asyncio.get_running_loop()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await loop.sock_connect(raw, (gateway.http.host, gateway.http.port))
    await loop.sock_sendall(raw, b"GET /api/v1/sse?channel=example HTTP/1.1\r\nHost: localhost\r\n\r\n")
    feed = gateway.gateway.engine.channels["example"].feeds[0]
    await until(lambda: bool(feed.subscribers))
    stats = gateway.gateway.connections
    while not stats.slow_closes:
        await gateway.send("example", [{"y": "y" * 10_000} for _ in range(20)])
    await until(lambda: not stats.outboxes and not feed.subscribers)
    raw.close()


async def frames(raw: socket.socket) -> list[tuple[int, bytes]]:
    """All frames until the gateway ends the connection: opcode and payload; fails when it ends inside a frame."""
    loop = asyncio.get_running_loop()
    rest = b""
    found: list[tuple[int, bytes]] = []
    async with asyncio.timeout(60):
        while data := await loop.sock_recv(raw, 65536):
            rest += data
            while (cut := cut_frame(rest)) is not None:
                opcode, payload, rest = cut
                found.append((opcode, payload))
                if opcode == 8:
                    await loop.sock_sendall(raw, b"\x88\x82\0\0\0\0" + payload[:2])
    assert rest == b""
    return found


def cut_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Opcode and payload of the first frame, and what follows it."""
    if len(data) < 2:
        return None
    wide = {126: 2, 127: 8}.get(data[1], 0)
    size = int.from_bytes(data[2 : 2 + wide], "big") if wide else data[1]
    end = 2 + wide + size
    return None if len(data) < end else (data[0] & 15, data[2 + wide : end], data[end:])


async def test_a_slow_subscriber_that_reads_on_learns_why_it_was_disconnected(serve: Serve):
    limits = "stream: {queue: {max_messages: 100000, max_bytes: 1MiB, policy: disconnect}}\n"
    gateway = await serve(limits + DEMO_TYPES)
    raw = await silent_subscriber(gateway, "example")
    stats = gateway.gateway.connections
    while not stats.slow_closes:
        await gateway.send("example", [{"x": number, "y": "y" * 10_000} for number in range(20)])
    *ticks, (opcode, payload) = [frame for frame in await frames(raw) if frame[0] != 9]
    assert {opcode for opcode, _ in ticks} == {1}
    assert all(json.loads(message)["channel"] == "example" for _, message in ticks)
    assert (opcode, payload) == (8, (1013).to_bytes(2, "big") + b"slow consumer")
    raw.close()
    await until(lambda: not stats.outboxes)


class EndingTransport:
    """A transport that is closed while somebody waits for room in it, and then takes nothing, as uvloop's."""

    def __init__(self) -> None:
        self.is_closed = False
        self.waited = asyncio.Event()

    def is_closing(self) -> bool:
        return self.is_closed

    def write(self, _data: bytes) -> None:
        if self.is_closed:
            raise RuntimeError("the handler is closed")

    async def drain(self) -> None:
        self.is_closed = True
        self.waited.set()


async def test_a_connection_that_ends_while_its_reader_is_slow_is_no_failure():
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    transport = EndingTransport()
    outbox = Outbox(QueueLimits(), lambda: None, lambda: None)
    writer = FrameWriter(cast(asyncio.Transport, transport), transport.drain, outbox, lambda: True)
    outbox.push(b"frame")
    writer.flush()
    await transport.waited.wait()
    await until(lambda: not outbox.is_stalled)
    del writer
    gc.collect()
    assert complaints == []
