"""The stream as server-sent events, for clients that cannot use WebSockets (§4.3's messages)."""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import hdrs, web

from gateway.engine.channels import HEARTBEAT, Feed
from gateway.handlers.context import Gateway
from gateway.handlers.requests import rights_of
from gateway.handlers.responses import DetailedProblem, unauthorized
from gateway.handlers.websocket import WRITE_BYTES
from gateway.streaming.outbox import MessageFormat, Outbox
from gateway.streaming.resume import resume
from shared.errors import Problem

log = structlog.get_logger("gateway.stream")
_KEEP_ALIVE_S = 15.0


class SseHandler:
    """``GET /sse?channel=…``: every parameter ``channel`` is a channel, or ``basket/key``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._open: set[asyncio.Event] = set()

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Send the ticks of the named feeds until the client goes away."""
        feeds, wants_heartbeat = self._feeds(request)
        wake = asyncio.Event()

        def overflow() -> None:
            self._gateway.connections.slow_closes += 1
            log.warning("slow consumer disconnected", peer=request.remote)
            if request.transport is not None:
                request.transport.abort()

        outbox = Outbox(self._gateway.queue_limits, wake.set, overflow, MessageFormat.EVENT)
        self._open.add(wake)
        self._gateway.connections.add(outbox)
        try:
            after = request.headers.get("Last-Event-ID") or request.query.get("after")
            for tick in resume(feeds, after) or () if after else ():
                outbox.deliver(tick)
            for feed in feeds:
                feed.subscribers[outbox] = None
            if wants_heartbeat:
                self._gateway.connections.heartbeats[outbox] = None
            return await self._write(request, outbox, wake)
        finally:
            for feed in feeds:
                feed.subscribers.pop(outbox, None)
            self._gateway.connections.remove(outbox)
            self._open.discard(wake)

    async def close(self) -> None:
        """End every answer."""
        for outbox in list(self._gateway.connections.outboxes):
            if outbox.form is MessageFormat.EVENT:
                outbox.close()
        for wake in list(self._open):
            wake.set()

    async def _write(self, request: web.Request, outbox: Outbox, wake: asyncio.Event) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: "text/event-stream",
                hdrs.CACHE_CONTROL: "no-cache",
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n")
        while not outbox.is_closed:
            try:
                async with asyncio.timeout(_KEEP_ALIVE_S):
                    await wake.wait()
            except TimeoutError:
                await response.write(b": keep-alive\n\n")
                continue
            wake.clear()
            outbox.is_stalled = True
            while len(outbox):
                await response.write(outbox.take(WRITE_BYTES))
            outbox.is_stalled = False
            outbox.is_scheduled = False
        if len(self._open) and not outbox.bytes:
            log.debug("event stream ended", peer=request.remote)
        return response

    def _feeds(self, request: web.Request) -> tuple[list[Feed], bool]:
        names = request.query.getall("channel", [])
        if not names:
            missing = {"type": "missing", "loc": ["query", "channel"], "msg": "Field required", "input": None}
            raise DetailedProblem(422, [missing])
        rules, rights = self._gateway.stream_rules, rights_of(request)
        feeds: dict[Feed, None] = {}
        wants_heartbeat = False
        for name in names:
            if name == HEARTBEAT:
                wants_heartbeat = True
                continue
            channel_name, slash, key = name.partition("/")
            channel = self._gateway.engine.channels.at(channel_name)
            if channel is None or not rules.takes(channel.name):
                raise Problem(404, f"Channel not found: {name}")
            if not rights.may_read(channel.name):
                raise unauthorized("unauthorized")
            found = [channel.feed(key)] if slash else list(channel.feeds)
            for feed in found:
                if feed is None:
                    raise Problem(404, f"Channel not found: {name}")
                feeds[feed] = None
        return list(feeds), wants_heartbeat
