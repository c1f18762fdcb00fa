"""A load of gets and puts on etcd over gRPC, which is how its own clients speak to it.

Requests are encoded by hand: two fields of one message each (`etcdserverpb.KV`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

import grpc

from benchmarks.frame_load import FrameRate, percentile

METHODS = {"put": "/etcdserverpb.KV/Put", "get": "/etcdserverpb.KV/Range"}


def put_request(key: bytes, value: bytes) -> bytes:
    """A `PutRequest`."""
    return _field(1, key) + _field(2, value)


def get_request(key: bytes) -> bytes:
    """A `RangeRequest` for one key."""
    return _field(1, key)


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


async def load(
    port: int, operation: str, requests: Sequence[bytes], *, clients: int, seconds: float | None
) -> FrameRate:
    """Send requests from several connections at once, each waiting for its reply before the next.

    Args:
        port: Where etcd listens on the loopback address.
        operation: ``put`` or ``get``.
        requests: The encoded messages; clients go round them.
        clients: How many connections there are.
        seconds: For how long; None sends every request once.
    """
    channels = [
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(clients)
    ]
    calls = [channel.unary_unary(METHODS[operation]) for channel in channels]
    received = 0
    latencies_s: list[float] = []
    for call in calls:
        await call(requests[0])  # connects
    until = math.inf if seconds is None else time.perf_counter() + seconds
    last = len(requests) if seconds is None else math.inf

    async def one(place: int) -> None:
        nonlocal received
        call, at = calls[place], place
        while (began := time.perf_counter()) < until and at < last:
            received += len(await call(requests[at % len(requests)]))
            latencies_s.append(time.perf_counter() - began)
            at += clients

    started = time.perf_counter()
    await asyncio.gather(*(one(place) for place in range(clients)))
    elapsed = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    return FrameRate(len(latencies_s) / elapsed, received / elapsed, percentile(latencies_s, 0.99) * 1000)
