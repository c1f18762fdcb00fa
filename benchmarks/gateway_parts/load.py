"""The load: one process that calls a gateway and measures, without knowing which one it is.

usage: python load.py SCENARIO JSON-OPTIONS, and prints one JSON object.

HTTP and WebSocket are spoken by hand over asyncio protocols, because any client library would cost more than the
servers that are measured. Each scenario is bounded by connections and by seconds or by a count.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, cast

new_event_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
with contextlib.suppress(ImportError):  # csp-gateway's environment may be without it
    from uvloop import new_event_loop

Options: TypeAlias = dict[str, Any]
Result: TypeAlias = dict[str, Any]
HOST = "127.0.0.1"


def percentiles(seconds: list[float]) -> Result:
    """The median, the 99th percentile and the greatest of some durations, in milliseconds."""
    if not seconds:
        return {"p50": None, "p99": None, "max": None}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        "p50": round(ordered[last // 2] * 1000, 3),
        "p99": round(ordered[min(last, int(len(ordered) * 0.99))] * 1000, 3),
        "max": round(ordered[-1] * 1000, 3),
    }


def tick_body(number: int, key: str | None = None) -> bytes:
    """One struct of about 115 bytes, as it will be printed."""
    return b'{"k":"%s","v":%.6f,"seq":%d,"t":%.6f}' % (
        (key or f"k{number % 100}").encode(),
        number * 0.5,
        number,
        time.time(),
    )


# --- HTTP ---


class HttpConnection(asyncio.Protocol):
    """A keep-alive connection with one request under way; the answer's head is read only as far as needed."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._missing = 0
        self._on_answer: Callable[[int, bytes], None] | None = None
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, on_answer: Callable[[int, bytes], None]) -> None:
        assert self.transport is not None
        self._on_answer = on_answer
        self.transport.write(request)

    async def call(self, request: bytes) -> tuple[int, bytes]:
        waiter: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiter = waiter
        self.send(request, lambda status, body: waiter.set_result((status, body)))
        return await waiter

    def data_received(self, data: bytes) -> None:
        if self._missing > len(data):  # the middle of a long body: kept in pieces, or joining them would cost more
            self._pieces.append(data)
            self._missing -= len(data)
            return
        if self._pieces:
            data = b"".join([*self._pieces, data])
            self._pieces.clear()
            self._missing = 0
        self._take(data)

    def _take(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return self._wait_for(data, 1)
        head = data[:end].lower()
        at = head.find(b"content-length:")
        if at < 0:  # chunks
            if not data.endswith(b"0\r\n\r\n"):
                return self._wait_for(data, 1)
            size = len(data)
        else:
            stop = head.find(b"\r\n", at)
            size = end + 4 + int(head[at + 15 : stop if stop > 0 else end])
        if len(data) < size:
            return self._wait_for(data, size - len(data))
        assert self._on_answer is not None
        self._on_answer(int(data[9:12]), data[end + 4 : size])
        return None

    def _wait_for(self, data: bytes, missing: int) -> None:
        self._pieces.append(data)
        self._missing = missing

    def connection_lost(self, _error: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("the server closed the connection"))


async def connect_http(port: int) -> HttpConnection:
    """A new connection."""
    _, protocol = await asyncio.get_running_loop().create_connection(HttpConnection, HOST, port)
    return protocol


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """A whole HTTP request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n"
    if body or method == "POST":
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def rest(options: Options) -> Result:
    """Call one route over several connections as fast as it answers, for some seconds."""
    seconds, count = options["seconds"], options["connections"]
    keys, items = options.get("keys", 0), options.get("items", 0)
    numbers = iter(range(10**9))

    def next_request() -> bytes:
        path: str = options["path"]
        if keys:
            chosen = (next(numbers) * 7919) % (keys - 100)
            path = path.replace("KEY", f"k{chosen}").replace("LOW", str(chosen)).replace("HIGH", str(chosen + 100))
        return request_bytes(options["method"], path, next_body() if options["method"] == "POST" else b"")

    def next_body() -> bytes:
        if not items:
            return tick_body(next(numbers))
        return b"[" + b",".join([tick_body(next(numbers)) for _ in range(items)]) + b"]"

    fixed = None if keys or options["method"] == "POST" else next_request()
    connections = [await connect_http(options["port"]) for _ in range(count)]
    status, body = await connections[0].call(fixed or next_request())
    if status not in options.get("statuses", [200]):
        raise SystemExit(f"{options['path']} answered {status}: {body[:200]!r}")
    durations: list[float] = []
    failures = 0
    started = time.perf_counter()
    stop_at = started + seconds
    finished: list[asyncio.Future[None]] = []

    def drive(connection: HttpConnection) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        sent_at = 0.0

        def send() -> None:
            nonlocal sent_at
            sent_at = time.perf_counter()
            connection.send(fixed or next_request(), answered)

        def answered(got: int, _body: bytes) -> None:
            nonlocal failures
            now = time.perf_counter()
            durations.append(now - sent_at)
            failures += got != status
            if now < stop_at:
                send()
            else:
                done.set_result(None)

        send()
        return done

    finished = [drive(connection) for connection in connections]
    await asyncio.gather(*finished)
    elapsed = time.perf_counter() - started
    return {"rate": len(durations) / elapsed, "count": len(durations), "failures": failures, **percentiles(durations)}


async def fill(options: Options) -> Result:
    """Send `count` structs in lists of a thousand, one key each."""
    connection = await connect_http(options["port"])
    count, first = options["count"], options.get("first", 0)
    keys = int(options.get("keys") or count)
    started = time.perf_counter()
    for start in range(first, first + count, 1000):
        items = [tick_body(n, f"k{n % keys}") for n in range(start, min(start + 1000, first + count))]
        body = b"[" + b",".join(items) + b"]"
        status, answer = await connection.call(request_bytes("POST", options["path"], body))
        if status != 200:
            raise SystemExit(f"{options['path']} answered {status}: {answer[:200]!r}")
    return {"rate": count / (time.perf_counter() - started)}


async def dump(options: Options) -> Result:
    """Read a whole state a few times, while another connection calls a small route all the time."""
    large, small = await connect_http(options["port"]), await connect_http(options["port"])
    whole, quick = request_bytes("GET", options["path"]), request_bytes("GET", options["beside"])
    durations: list[float] = []
    delays: list[float] = []
    is_over = False

    async def beside() -> None:
        while not is_over:
            started = time.perf_counter()
            await small.call(quick)
            delays.append(time.perf_counter() - started)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(beside())
    size = 0
    for _ in range(options["times"]):
        started = time.perf_counter()
        _, body = await large.call(whole)
        durations.append(time.perf_counter() - started)
        size = len(body)
    is_over = True
    await task
    return {"bytes": size, "delay_ms": round(max(delays) * 1000, 1), **percentiles(durations)}


# --- WebSocket ---


class StreamConnection(asyncio.Protocol):
    """One WebSocket connection that counts the frames it is sent, and reads the time out of some of them."""

    def __init__(self, on_frames: Callable[[StreamConnection, int], None], sample_every: int) -> None:
        self.transport: asyncio.Transport | None = None
        self.frames = 0
        self.delays: list[float] = []
        self.is_closed = False
        self.is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_frames = on_frames
        self._sample_every = sample_every
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self._upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = buffer
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                self.is_open.set_exception(ConnectionError(buffer[:end].decode()))
                return
            self._upgraded = True
            self.is_open.set_result(None)
            at = end + 4
        size, before = len(buffer), self.frames
        while size - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                if size - at < 4:
                    break
                length, start = (buffer[at + 2] << 8) | buffer[at + 3], at + 4
            elif length == 127:
                if size - at < 10:
                    break
                length, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if size - start < length:
                break
            kind = buffer[at] & 0x0F
            at = start + length
            if kind == 1:
                self.frames += 1
                if self._sample_every and self.frames % self._sample_every == 0:
                    self._sample(buffer[start:at])
            elif kind == 9:
                self.send(buffer[start:at], 0x8A)
        self._buffer = buffer[at:]
        if self.frames > before:
            self._on_frames(self, self.frames - before)

    def _sample(self, message: bytes) -> None:
        found = message.find(b'"t":')
        if found >= 0:
            self.delays.append(time.time() - float(message[found + 4 : message.find(b"}", found)]))

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_closed = True
        if not self.is_open.done():
            self.is_open.set_exception(ConnectionError("closed"))

    def send(self, payload: bytes, first: int = 0x81) -> None:
        """A masked frame; the mask is zero, which the protocol allows and which costs nothing."""
        assert self.transport is not None
        size = len(payload)
        head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2, "big")
        self.transport.write(head + b"\0\0\0\0" + payload)


async def connect_stream(
    port: int, on_frames: Callable[[StreamConnection, int], None], *, sample_every: int = 0
) -> StreamConnection:
    """A new connection to the stream."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: StreamConnection(on_frames, sample_every), HOST, port)
    key = base64.b64encode(os.urandom(16)).decode()
    assert protocol.transport is not None
    protocol.transport.write(
        f"GET /api/v1/stream HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await asyncio.wait_for(protocol.is_open, 30)
    return protocol


class FanOut:
    """One producer and its subscribers.

    Ticks are counted where they arrive: a tick is delivered when every subscriber that reads has it.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.channel: str = options["channel"]
        self.key = "x" * options["padding"] if options.get("padding") else None
        self.received = 0
        self.sent = 0
        self.subscribers: list[StreamConnection] = []
        self.stopped: StreamConnection | None = None
        self._changed = asyncio.Event()
        self._producer: StreamConnection | None = None

    def _arrived(self, _connection: StreamConnection, count: int) -> None:
        self.received += count
        self._changed.set()

    async def open(self) -> None:
        port, count = self.options["port"], self.options["subscribers"]
        sample_every = 1 if count <= 10 else 10
        message = json.dumps({"action": "subscribe", "channel": self.channel}).encode()
        for _ in range(count):
            connection = await connect_stream(port, self._arrived, sample_every=sample_every)
            connection.send(message)
            self.subscribers.append(connection)
        self._producer = await connect_stream(port, lambda _c, _n: None)
        await self._until_subscribed(count)
        if self.options.get("stalled"):
            self.stopped = await connect_stream(port, lambda _c, _n: None)
            self.stopped.send(message)
            assert self.stopped.transport is not None
            self.stopped.transport.pause_reading()

    async def _until_subscribed(self, count: int) -> None:
        """Tick until everyone gets them: subscriptions are not acknowledged."""
        for _ in range(200):
            before = [subscriber.frames for subscriber in self.subscribers]
            self._tick()
            await asyncio.sleep(0.05)
            if sum(s.frames > b for s, b in zip(self.subscribers, before, strict=True)) == count:
                await asyncio.sleep(0.3)
                break
        else:
            raise SystemExit("the subscribers are not sent anything")
        self.sent = self.received = 0
        for subscriber in self.subscribers:
            subscriber.delays.clear()

    def _tick(self) -> None:
        assert self._producer is not None
        self._producer.send(
            b'{"action":"send","channel":"%s","data":%s}' % (self.channel.encode(), tick_body(self.sent, self.key))
        )
        self.sent += 1

    async def saturate(self, seconds: float, window: int) -> float:
        """As many ticks as are delivered, with at most `window` under way; returns ticks a second."""
        readers = len(self.subscribers)
        started = time.perf_counter()
        while time.perf_counter() < started + seconds:
            room = window - (self.sent - self.received // readers)
            if room <= 0:
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 5)
                continue
            for _ in range(min(room, 64)):
                self._tick()
            await asyncio.sleep(0)
        rate = self.received / readers / (time.perf_counter() - started)
        await self.settle()
        return rate

    async def pace(self, rate: float, seconds: float) -> None:
        """`rate` ticks a second, evenly, whatever the server does."""
        started = time.perf_counter()
        first = self.sent
        while (elapsed := time.perf_counter() - started) < seconds:
            due = first + int(elapsed * rate)
            while self.sent < due:
                self._tick()
            await asyncio.sleep(0.0005)

    async def settle(self) -> None:
        """Wait until everything has arrived, or nothing arrives any more."""
        readers = len(self.subscribers)
        quiet_since = time.perf_counter()
        seen = self.received
        while self.received < self.sent * readers and time.perf_counter() - quiet_since < 5:
            await asyncio.sleep(0.01)
            if self.received != seen:
                seen, quiet_since = self.received, time.perf_counter()

    def take_delays(self) -> list[float]:
        delays = [delay for subscriber in self.subscribers for delay in subscriber.delays]
        for subscriber in self.subscribers:
            subscriber.delays.clear()
        return delays

    def close(self) -> None:
        for connection in [*self.subscribers, self._producer, self.stopped]:
            if connection is not None and connection.transport is not None:
                connection.transport.abort()


async def fan_out(options: Options) -> Result:
    """The most ticks a second that reach every subscriber."""
    run = FanOut(options)
    await run.open()
    try:
        rate = await run.saturate(options["seconds"], options["window"])
        missing = run.sent * len(run.subscribers) - run.received
    finally:
        run.close()
    return {"rate": rate, "deliveries": rate * options["subscribers"], "missing": missing}


async def paced(options: Options) -> Result:
    """The delay of every delivery at a fixed rate."""
    run = FanOut(options)
    await run.open()
    try:
        await run.pace(options["rate"], options["seconds"])
        await run.settle()
        missing = run.sent * len(run.subscribers) - run.received
        result = {"sent": run.sent, "missing": missing, **percentiles(run.take_delays())}
    finally:
        run.close()
    return result


async def bare_fan_out(options: Options) -> Result:
    """Count what a server that only writes ready-made frames gets through."""
    counts = [0]
    begun = asyncio.Event()

    def arrived(_connection: StreamConnection, count: int) -> None:
        counts[0] += count
        begun.set()

    connections = [await connect_stream(options["port"], arrived) for _ in range(options["subscribers"])]
    connections[0].send(b"go")
    await begun.wait()
    counts[0] = 0
    started = time.perf_counter()
    await asyncio.sleep(options["seconds"])
    rate = counts[0] / (time.perf_counter() - started)
    for connection in connections:
        assert connection.transport is not None
        connection.transport.abort()
    return {"rate": rate / options["subscribers"], "deliveries": rate}


SCENARIOS: dict[str, Callable[[Options], Coroutine[Any, Any, Result] | Awaitable[Result]]] = {
    "rest": rest,
    "fill": fill,
    "dump": dump,
    "fan_out": fan_out,
    "paced": paced,
    "bare_fan_out": bare_fan_out,
}


def main() -> None:
    async def run() -> Result:
        return await SCENARIOS[sys.argv[1]](json.loads(sys.argv[2]))

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(json.dumps(runner.run(run())))


if __name__ == "__main__":
    main()
