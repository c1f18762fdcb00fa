"""Server-sent events: what registered QA devices receive while they are connected (protocol §8).

A connection is a queue of encoded events. However many there are, one task writes the heartbeat.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

from iserver.engine.engine import Engine

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}

OPENING = b"retry: 5000\n\n"
HEARTBEAT = b":\n\n"
HEARTBEAT_S = 15.0

MAX_WAITING = 64
"""A connection with so many unsent events is closed; the client reconnects and gets `hello`."""


def hello(last_flush_ms: int) -> bytes:
    """The first event: equal to `lastFlushTime` of `features`, so that a client keeps its cache."""
    return f"event: hello\ndata: {last_flush_ms}\n\n".encode()


class EventStream:
    """One connection of one device."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING)

    def send(self, event: bytes) -> None:
        """Queue an event; a connection that cannot keep up ends."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """Let the connection end after what still waits, or at once when too much does."""
        if self._waiting.full():
            while not self._waiting.empty():
                self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def next(self) -> bytes | None:
        """The next event, `None` at the end."""
        return await self._waiting.get()


class EventStreams:
    """Every open connection, by device."""

    def __init__(self) -> None:
        self._streams: defaultdict[str, set[EventStream]] = defaultdict(set)
        self._is_closed = False

    def __len__(self) -> int:
        return sum(map(len, self._streams.values()))

    def __iter__(self) -> Iterator[EventStream]:
        return (stream for streams in list(self._streams.values()) for stream in list(streams))

    @contextmanager
    def open(self, device: str) -> Iterator[EventStream]:
        """A connection of a device, for as long as the context lasts."""
        stream = EventStream()
        self._streams[device].add(stream)
        if self._is_closed:
            stream.end()
        try:
            yield stream
        finally:
            self._streams[device].discard(stream)
            if not self._streams[device]:
                del self._streams[device]

    def send(self, device: str, event: bytes) -> None:
        """Send an event to every connection of a device."""
        for stream in list(self._streams.get(device, ())):
            stream.send(event)

    def flush_cache(self, device: str, last_flush_ms: int) -> None:
        """Send a device the event to drop everything."""
        self.send(device, f"event: flushcache\ndata: {last_flush_ms}\n\n".encode())

    def flush_features(self, device: str, features: Sequence[str]) -> None:
        """Send a device the event to drop some features."""
        self.send(device, f"event: flushfeatures\ndata: {' '.join(features)}\n\n".encode())

    def send_heartbeat(self) -> None:
        """Send the heartbeat to everybody."""
        for stream in self:
            stream.send(HEARTBEAT)

    def disconnect(self, device: str) -> None:
        """End the connections of a device that is not registered any more."""
        for stream in list(self._streams.get(device, ())):
            stream.end()

    def disconnect_all(self) -> None:
        """End all connections; clients come back."""
        for stream in self:
            stream.end()

    def close(self) -> None:
        """End all connections, also those that are still to come."""
        self._is_closed = True
        self.disconnect_all()


class EventStreamHandlers:
    """Server-sent events."""

    def __init__(self, engine: Engine, streams: EventStreams) -> None:
        self._engine = engine
        self._streams = streams

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream to a registered device what to drop from its cache.

        An unregistered one is answered 204, upon which a browser does not reconnect.
        """
        given = request.query.get("id", "").split()
        devices = self._engine.configuration.devices
        device = next((item for item in given if item in devices), None)
        if device is None:
            return web.Response(status=204)
        response = web.StreamResponse(headers=HEADERS)
        with self._streams.open(device) as stream:
            await self._engine.refresh(device)
            await response.prepare(request)
            await response.write(OPENING + hello(self._engine.last_flush_ms(device)))
            while (event := await stream.next()) is not None:
                await response.write(event)
        return response
