"""A load generator for HTTP/1.1 that costs little itself: prepared requests out, answers counted and dropped.

The load is closed: each client keeps one connection and sends its next request when its last answer is complete.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from typing import cast
from urllib.parse import urlsplit

NUMBER = "################"
"""Stands in a request for a number of as many digits, which no other request that is sent has."""

_NUMBER = NUMBER.encode()
_RECEIVE_BYTES = 1 << 20
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """One request; it may have `NUMBER` in it.

    Attributes:
        url: Where it goes.
        method: Its method.
        headers: Further headers.
        body: Its body.
    """

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or 80

    def encode(self) -> bytes:
        """The bytes to send."""
        parts = urlsplit(self.url)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        lines = [f"{self.method} {target} HTTP/1.1", f"Host: {parts.netloc}", "Accept: */*"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(slots=True)
class Measured:
    """What a load has shown.

    Attributes:
        seconds: From the first request to the last answer.
        latencies_ms: One for each answer with status 200, in milliseconds.
        body_bytes: Bytes of all these answers' bodies together.
        refused: Other answers, by status; 0 stands for broken connections and timeouts.
    """

    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    body_bytes: int = 0
    refused: Counter[int] = field(default_factory=Counter)

    @property
    def rps(self) -> float:
        """Good answers per second."""
        return len(self.latencies_ms) / self.seconds if self.seconds else 0.0

    @property
    def mb_per_s(self) -> float:
        """Megabytes (10⁶ bytes) of bodies per second."""
        return self.body_bytes / 1e6 / self.seconds if self.seconds else 0.0

    def add(self, other: Measured) -> None:
        """Count what another load of the same kind has shown too."""
        self.seconds += other.seconds
        self.latencies_ms += other.latencies_ms
        self.body_bytes += other.body_bytes
        self.refused += other.refused

    def percentile(self, share: float) -> float:
        """The latency that `share` (0 to 1) of the answers did not exceed, in milliseconds; NaN without answers."""
        if not self.latencies_ms:
            return float("nan")
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class AnswerReader:
    """Follows HTTP/1.1 answers through a stream of bytes without keeping their bodies."""

    def __init__(self) -> None:
        self.status = 0
        self.body_bytes = 0
        self._head = bytearray()
        self._remaining = 0
        self._is_chunked = False
        self._state = "head"

    def start(self) -> None:
        """Expect a new answer."""
        self.__init__()  # type: ignore[misc]

    def feed(self, data: memoryview) -> bool:
        """Take bytes as they arrive; true when the answer is complete."""
        while len(data):
            if self._state == "body":
                taken = min(self._remaining, len(data))
                self._remaining -= taken
                data = data[taken:]
                if not self._remaining:
                    if not self._is_chunked:
                        return True
                    self._state = "chunk"
                continue
            ends_with = b"\r\n\r\n" if self._state == "head" else b"\r\n"
            before = len(self._head)
            self._head += data
            end = self._head.find(ends_with)
            if end < 0:
                return False
            line = bytes(self._head[:end])
            data = data[end + len(ends_with) - before :]
            self._head.clear()
            if self._state == "head":
                if self._read_head(line):
                    return True
            elif self._read_chunk_size(line):
                return True
        return False

    def _read_head(self, head: bytes) -> bool:
        self.status = int(head.split(b" ", 2)[1][:3])
        length = _CONTENT_LENGTH.search(head)
        if length is None and _CHUNKED.search(head):
            self._is_chunked = True
            self._state = "chunk"
            return False
        self._remaining = self.body_bytes = 0 if length is None else int(length[1])
        self._state = "body"
        return self._remaining == 0

    def _read_chunk_size(self, line: bytes) -> bool:
        if self._state == "end":
            return True
        size = int(line.split(b";")[0], 16)
        if size == 0:
            self._state = "end"
            return False
        self.body_bytes += size
        self._remaining = size + 2
        self._state = "body"
        return False


class _Connection(asyncio.BufferedProtocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self) -> None:
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._answer: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self.reader = AnswerReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class does not derive from it

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio passes it
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.reader.feed(self._view[:nbytes]) and self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    async def ask(self, request: bytes, timeout_s: float) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self.reader.start()
        self._answer = loop.create_future()
        self._transport.write(request)
        alarm = loop.call_later(timeout_s, self._too_late, self._answer)
        try:
            await self._answer
        finally:
            alarm.cancel()

    def _too_late(self, answer: asyncio.Future[None]) -> None:
        if not answer.done():
            answer.set_exception(TimeoutError("the answer took too long"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def load(
    requests: Sequence[Request],
    *,
    clients: int,
    seconds: float,
    most: int = 1_000_000,
    timeout_s: float = 120.0,
    warm_up: bool = True,
) -> Measured:
    """Send requests from several clients at once.

    Args:
        requests: Each client goes round a part of its own, or round all of them when there are too few for that.
        clients: How many clients there are.
        seconds: For how long new requests are sent.
        most: How many requests are sent at most.
        timeout_s: How long one answer may take, in seconds.
        warm_up: Whether one request is sent first that is not counted.
    """
    prepared = [request.encode() for request in requests]
    measured = Measured()
    turns = iter(range(most))
    connected = [await _connect(requests[0].address) for _ in range(clients)]
    numbers = count(time.time_ns() // 1000)  # microseconds: a later load begins with a greater one
    if warm_up:
        await connected[0].ask(_numbered(prepared[0], numbers), timeout_s)
    started = time.perf_counter()
    await asyncio.gather(
        *(
            _one_client(one, requests[0].address, mine, turns, started + seconds, timeout_s, measured)
            for one, mine in zip(connected, _streams(prepared, clients, numbers), strict=True)
        )
    )
    measured.seconds = time.perf_counter() - started
    return measured


async def _connect(address: tuple[str, int]) -> _Connection:
    _, protocol = await asyncio.get_running_loop().create_connection(_Connection, *address)
    return protocol


def _streams(prepared: Sequence[bytes], clients: int, numbers: Iterator[int]) -> Iterator[Iterator[bytes]]:
    """What each client sends, without end."""
    for number in range(clients):
        first, last = (len(prepared) * which // clients for which in (number, number + 1))
        own = cycle(prepared[first:last]) if first < last else islice(cycle(prepared), number, None)
        yield (_numbered(request, numbers) for request in own)


def _numbered(request: bytes, numbers: Iterator[int]) -> bytes:
    return request.replace(_NUMBER, b"%0*d" % (len(_NUMBER), next(numbers)))


async def _one_client(
    connection: _Connection,
    address: tuple[str, int],
    requests: Iterator[bytes],
    turns: Iterator[int],
    until: float,
    timeout_s: float,
    measured: Measured,
) -> None:
    while time.perf_counter() < until and next(turns, None) is not None:
        sent = time.perf_counter()
        try:
            await connection.ask(next(requests), timeout_s)
        except (OSError, TimeoutError):
            measured.refused[0] += 1
            connection.close()
            connection = await _connect(address)
            continue
        if connection.reader.status == 200:
            measured.latencies_ms.append((time.perf_counter() - sent) * 1000)
            measured.body_bytes += connection.reader.body_bytes
        else:
            measured.refused[connection.reader.status] += 1
    connection.close()
