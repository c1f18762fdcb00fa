"""A load of requests and replies that are frames: Pegasus RPC and Redis' protocol, with the same client for both."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

Complete = Callable[[bytes], int]
"""The length of the first reply in what has arrived, 0 while it is incomplete; raises for a refusal."""


@dataclass(slots=True)
class FrameRate:
    """What a load has shown.

    Attributes:
        per_s: Replies a second.
        bytes_per_s: Bytes of replies a second.
        p99_ms: Time that 99 of 100 replies take at most, in milliseconds.
    """

    per_s: float
    bytes_per_s: float
    p99_ms: float = 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of all values does not exceed; 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Refused(Exception):  # noqa: N818 - what the server did
    """The server answered with an error."""


class _Client(asyncio.Protocol):
    def __init__(self, complete: Complete) -> None:
        self._complete = complete
        self._held = b""
        self._reply: asyncio.Future[int]
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._held = self._held + data if self._held else data
        try:
            length = self._complete(self._held)
        except Refused as error:
            self._reply.set_exception(error)
            return
        if length:
            self._held = self._held[length:]
            self._reply.set_result(length)

    def ask(self, frame: bytes) -> asyncio.Future[int]:
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(frame)
        return self._reply

    def close(self) -> None:
        self._transport.abort()


async def load(
    port: int, frames: Sequence[bytes], complete: Complete, *, clients: int, seconds: float | None
) -> FrameRate:
    """Send frames from several clients at once, each waiting for its reply before the next.

    Args:
        port: Where the server listens on the loopback address.
        frames: The requests; clients go round them.
        complete: Recognises a reply.
        clients: How many connections there are.
        seconds: For how long; None sends every frame once.
    """
    loop = asyncio.get_running_loop()
    connected = [
        (await loop.create_connection(lambda: _Client(complete), "127.0.0.1", port))[1] for _ in range(clients)
    ]
    received = 0
    latencies_s: list[float] = []
    until = math.inf if seconds is None else time.perf_counter() + seconds
    last = len(frames) if seconds is None else math.inf

    async def one(client: _Client, place: int) -> None:
        nonlocal received
        count = len(frames)
        while (began := time.perf_counter()) < until and place < last:
            received += await client.ask(frames[place % count])
            latencies_s.append(time.perf_counter() - began)
            place += clients

    started = time.perf_counter()
    await asyncio.gather(*(one(client, place) for place, client in enumerate(connected)))
    elapsed = time.perf_counter() - started
    for client in connected:
        client.close()
    return FrameRate(len(latencies_s) / elapsed, received / elapsed, percentile(latencies_s, 0.99) * 1000)


def pegasus_reply(data: bytes) -> int:
    """A reply of Pegasus RPC: its length comes first."""
    if len(data) < 18:
        return 0
    if data[8:14] != b"ERR_OK":
        raise Refused(data[8:40])
    length = int.from_bytes(data[:4], "big")
    return length if len(data) >= length else 0


def redis_reply(data: bytes) -> int:
    """A reply of Redis: a status line, or a value with its length."""
    end = data.find(b"\r\n")
    if end < 0:
        return 0
    if data[:1] == b"-":
        raise Refused(data[:end])
    length = end + 2 if data[:1] != b"$" or data[1:2] == b"-" else end + 2 + int(data[1:end]) + 2
    return length if len(data) >= length else 0
