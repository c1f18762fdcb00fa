"""The WebSocket (§4): one queue and one writer for each connection, ready-made frames for all.

aiohttp implements the protocol (handshake, pings, closing, incoming frames). Outgoing frames are encoded once for all
subscribers and written to the transport as they are, joined once per iteration of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from gateway.handlers.context import Gateway
from gateway.handlers.listings import ListingHandlers
from gateway.handlers.requests import rights_of
from gateway.schema.memory_estimate import is_large
from gateway.streaming.outbox import MessageFormat, Outbox
from gateway.streaming.session import PING_FRAME, Session
from shared.tasks import cancel_and_wait, start_task

log = structlog.get_logger("gateway.stream")
PING_S: Final = 20.0
WRITE_BYTES: Final = 256 * 1024
PENDING_BYTES: Final = 1024 * 1024
ABORT_AFTER_S: Final = 30.0
"""How long a peer that was too slow may take to read what is on its way to it, and why it is disconnected."""
_SLOW: Final = b"\x88\x0f" + (1013).to_bytes(2, "big") + b"slow consumer"


class FrameWriter:
    """Moves frames from an outbox to a transport, as fast as the client reads.

    Args:
        transport: Where the bytes go.
        drain: Waits until the transport takes more.
        outbox: Where they come from.
        is_paused: Whether the transport takes no more.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        drain: Callable[[], Awaitable[None]],
        outbox: Outbox,
        is_paused: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._drain = drain
        self._outbox = outbox
        self._is_paused = is_paused
        self._task: asyncio.Task[None] | None = None

    def flush(self) -> None:
        """Write the queued frames, in a task of its own while the client is slow."""
        if self._task is not None:
            return
        outbox = self._outbox
        while len(outbox) and not self._is_paused():
            self._transport.write(outbox.take(WRITE_BYTES))
        if len(outbox):
            outbox.is_stalled = True
            self._task = start_task(self._write_slowly(), name="stream writer")
        else:
            outbox.is_scheduled = False

    async def _write_slowly(self) -> None:
        outbox = self._outbox
        try:
            while len(outbox):
                await self._drain()
                if self._transport.is_closing():
                    break
                self._transport.write(outbox.take(WRITE_BYTES))
        except ConnectionError:
            outbox.close()
        finally:
            self._task = None
            outbox.is_stalled = False
            outbox.is_scheduled = False

    async def close(self) -> None:
        """End the task."""
        if self._task is not None:
            await cancel_and_wait(self._task)


class FlushScheduler:
    """Writes to every connection with queued frames, once per iteration of the event loop."""

    def __init__(self) -> None:
        self._scheduled: list[FrameWriter] = []

    def schedule(self, writer: FrameWriter) -> None:
        """Flush a writer at the end of this iteration."""
        if not self._scheduled:
            asyncio.get_running_loop().call_soon(self._flush)
        self._scheduled.append(writer)

    def _flush(self) -> None:
        scheduled, self._scheduled = self._scheduled, []
        for writer in scheduled:
            writer.flush()


class WebSocketHandler:
    """The stream route: the WebSocket, and the listing for plain requests."""

    def __init__(self, gateway: Gateway, listings: ListingHandlers) -> None:
        self._gateway = gateway
        self._listings = listings
        self._scheduler = FlushScheduler()
        self._sockets: set[web.WebSocketResponse] = set()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """``GET /stream``"""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return await self._listings.stream(request)
        socket = web.WebSocketResponse(
            autoclose=False,
            heartbeat=PING_S,
            max_msg_size=self._gateway.declared.options.server.max_body,
            writer_limit=2**20,
        )
        head = await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await self._serve(request, socket, head)
        finally:
            self._sockets.discard(socket)
        return socket

    async def _serve(self, request: web.Request, socket: web.WebSocketResponse, head: AbstractStreamWriter) -> None:
        transport = request.transport
        if transport is None:
            return
        gateway, scheduler = self._gateway, self._scheduler
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        protocol = request.protocol

        is_slow = False

        def overflow() -> None:
            nonlocal is_slow
            is_slow = True
            gateway.connections.slow_closes += 1
            log.warning("slow consumer disconnected", peer=request.remote, subscriptions=session.subscriptions)
            asyncio.get_running_loop().call_soon(_end_slow, transport)

        outbox = Outbox(gateway.queue_limits, lambda: scheduler.schedule(writer), overflow, MessageFormat.FRAME)
        writer = FrameWriter(transport, head.drain, outbox, lambda: protocol.writing_paused)
        session = Session(
            gateway.engine,
            outbox,
            rights_of(request),
            gateway.stream_rules,
            gateway.connections.heartbeats,
        )
        gateway.connections.add(outbox)
        try:
            await _receive(socket, session)
        finally:
            session.close()
            await writer.close()
            gateway.connections.remove(outbox)
        if is_slow:
            transport.close()  # its close frame is on its way: aiohttp would send another one
        else:
            await socket.close(drain=False)

    async def close(self) -> None:
        """Close every connection with 1001 (§4.7)."""
        closing = [socket.close(code=WSCloseCode.GOING_AWAY, message=b"server shutdown") for socket in self._sockets]
        await asyncio.gather(*closing, return_exceptions=True)


async def _receive(socket: web.WebSocketResponse, session: Session) -> None:
    """Carry out what a client sends; it is read no further while much of what it sent waits to be durable."""
    pending: set[asyncio.Future[None]] = set()
    pending_bytes = 0
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            later = session.receive(message.data)
            if later is not None:
                task = start_task(later, name="stream request")
                pending.add(task)
                task.add_done_callback(pending.discard)
                pending_bytes = pending_bytes + len(message.data) if len(pending) > 1 else len(message.data)
                if pending_bytes > PENDING_BYTES or is_large(message.data):
                    await asyncio.wait(pending)
        elif message.type is WSMsgType.BINARY:
            session.ignore("a binary frame")
    if pending:
        await asyncio.gather(*pending, return_exceptions=True)


def _end_slow(transport: asyncio.Transport) -> None:
    """Close a connection whose peer does not read: a close frame behind what is on its way, and no endless wait."""
    if transport.is_closing():
        return
    transport.write(_SLOW)
    asyncio.get_running_loop().call_later(ABORT_AFTER_S, transport.abort)


async def send_heartbeats(gateway: Gateway) -> None:
    """Send every subscriber of the heartbeat its regular ``PING`` (§4.6)."""
    interval = gateway.declared.options.stream.ping_time_s
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due = max(due + interval, loop.time())
        await asyncio.sleep(due - loop.time())
        for outbox in list(gateway.connections.heartbeats):
            outbox.push(
                PING_FRAME if outbox.form is MessageFormat.FRAME else b'data: {"channel":"heartbeat","data":"PING"}\n\n'
            )
