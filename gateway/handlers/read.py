"""``last``, ``next`` and ``lookup``: the routes that read ticks (protocol §2.2, §2.3, §2.6)."""

from __future__ import annotations

import asyncio
import math

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.engine.channels import Channel, Feed, Waiter
from gateway.handlers.context import Gateway
from gateway.handlers.requests import require_unlimited, rights_of
from gateway.handlers.responses import json_bytes, unauthorized, unprocessable
from gateway.schema.invalid import InvalidInput, error_item
from shared.errors import Problem


class ReadHandlers:
    """The routes that read ticks; those of one channel are made for that channel."""

    def __init__(self, gateway: Gateway) -> None:
        self._engine = gateway.engine
        self._lookup = frozenset(spec.name for spec in gateway.route_groups.lookup or ())

    # --- last ---

    def last(self, channel: Channel) -> Handler:
        """``GET /last/{channel}``"""

        async def last(request: web.Request) -> web.Response:
            _require_ticking(request, channel)
            return json_bytes(channel.encoded_last)

        return last

    def last_key(self, channel: Channel) -> Handler:
        """``GET /last/{channel}/{key}``"""

        async def last_key(request: web.Request) -> web.Response:
            _require_ticking(request, channel)
            return json_bytes(_feed(request, channel).encoded_last)

        return last_key

    # --- next ---

    def next(self, channel: Channel) -> Handler:
        """``GET /next/{channel}?timeout=&after=``"""
        waiters = channel.waiters if channel.is_basket else channel.feeds[0].waiters

        async def next(request: web.Request) -> web.Response:
            _require_ticking(request, channel)
            after = request.query.get("after")
            if after is not None:
                later = [ticks for feed in channel.feeds if (ticks := feed.after(after))]
                if later:
                    return json_bytes(channel.encoded_last if channel.is_basket else later[0][0].encoded)
            return await self._wait(request, waiters, channel.name)

        return next

    def next_key(self, channel: Channel) -> Handler:
        """``GET /next/{channel}/{key}?timeout=&after=``"""

        async def next_key(request: web.Request) -> web.Response:
            _require_ticking(request, channel)
            feed = _feed(request, channel)
            after = request.query.get("after")
            later = feed.after(after) if after is not None else None
            if later:
                return json_bytes(later[0].encoded)
            return await self._wait(request, feed.waiters, feed.path)

        return next_key

    async def _wait(self, request: web.Request, waiters: dict[Waiter, None], path: str) -> web.Response:
        timeout = _timeout(request)
        ticked: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def resolve(answer: bytes) -> None:
            if not ticked.done():
                ticked.set_result(answer)

        waiters[resolve] = None
        try:
            async with asyncio.timeout(timeout):
                return json_bytes(await ticked)
        except TimeoutError:
            raise Problem(408, f"Timeout: no tick on {path} within {timeout}s") from None
        finally:
            waiters.pop(resolve, None)

    # --- lookup ---

    async def lookup(self, request: web.Request) -> web.Response:
        """``GET /lookup/{channel}/{id}``: an unknown id is an empty list."""
        channel = self._engine.channels.at(request.match_info["channel"])
        if channel is None or channel.name not in self._lookup:
            raise Problem(404, "Not Found")
        rights = rights_of(request)
        if not rights.may_read(channel.name):
            raise unauthorized("unauthorized")
        found = self._engine.lookup(channel.spec.struct, request.match_info["id"], rights.channels)
        return json_bytes(b"[]" if found is None else b"[" + found + b"]")

    async def lookup_any(self, request: web.Request) -> web.Response:
        """``GET /lookup/id/{id}``: any type; an unknown id is a 404."""
        require_unlimited(request)
        record_id = request.match_info["id"]
        found = self._engine.lookup_any(record_id)
        if found is None:
            raise Problem(404, f"No GatewayStruct found with id: {record_id}")
        return json_bytes(b"[" + found + b"]")


def _require_ticking(request: web.Request, channel: Channel) -> None:
    """Reject callers that may not read a channel, and channels that nothing can tick."""
    if not rights_of(request).may_read(channel.name):
        raise unauthorized("unauthorized")
    if not channel.setters:
        raise Problem(404, f"Channel not found: {channel.name}")


def _feed(request: web.Request, channel: Channel) -> Feed:
    """The feed of the basket key in a path."""
    key = request.match_info["key"]
    feed = channel.feed(key) if channel.is_basket else None
    if feed is None:
        raise Problem(404, f"Channel not found: {channel.name}/{key}" if channel.is_basket else "Not Found")
    return feed


def _timeout(request: web.Request) -> float | None:
    given = request.query.get("timeout")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        message = "Input should be a valid number of seconds, zero or more"
        raise unprocessable(InvalidInput([error_item("float_parsing", ("query", "timeout"), message, given)]))
    return seconds
