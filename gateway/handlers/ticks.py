"""``last``, ``next`` and ``send`` (protocol §2.2, §2.3, §2.5)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.engine.channels import Channel, ChannelSpec, Feed, Waiter
from gateway.engine.engine import Change
from gateway.handlers.context import Gateway
from gateway.handlers.requests import read_json_text
from gateway.handlers.responses import (
    feed_at,
    json_bytes,
    records_answer,
    require_provided,
    rights_of,
    unauthorized,
    unprocessable,
)
from gateway.schema.invalid import Invalid, error_item, not_a_struct
from gateway.schema.memory_estimate import is_large
from gateway.schema.record import Record
from gateway.state.slices import collect
from gateway.streaming.session import changes_of
from shared.errors import Problem
from shared.tasks import start_task


class Ticks:
    """The routes that read and write ticks."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._channels = gateway.engine.channels
        self._types = gateway.engine.types
        self._is_open = gateway.access.is_open
        self._max_body = gateway.declared.options.server.max_body
        self._last = _names(gateway.mounts.last)
        self._next = _names(gateway.mounts.next)
        self._send = _names(gateway.mounts.send)

    # --- last ---

    async def last(self, request: web.Request) -> web.Response:
        """``GET /last/{channel}``"""
        return json_bytes(self._readable(request, self._last).encoded_last)

    async def last_key(self, request: web.Request) -> web.Response:
        """``GET /last/{channel}/{key}``"""
        channel = self._readable(request, self._last)
        return json_bytes(feed_at(channel, request.match_info["key"]).encoded_last)

    def last_of(self, channel: Channel) -> Handler:
        """`last` of one provided channel, for a route of its own: no pattern to match, no name to look up."""

        async def last(_request: web.Request) -> web.StreamResponse:
            return json_bytes(channel.encoded_last)

        return last

    # --- next ---

    async def next(self, request: web.Request) -> web.Response:
        """``GET /next/{channel}?timeout=&after=``"""
        channel = self._readable(request, self._next)
        after = request.query.get("after")
        if after is not None:
            later = [ticks for feed in channel.feeds if (ticks := feed.after(after))]
            if later:
                return json_bytes(channel.encoded_last if channel.is_basket else later[0][0].encoded)
        if channel.is_basket:
            return await self._wait(request, channel.waiters, channel.name)
        return await self._wait(request, channel.feeds[0].waiters, channel.name)

    async def next_key(self, request: web.Request) -> web.Response:
        """``GET /next/{channel}/{key}?timeout=&after=``"""
        feed = feed_at(self._readable(request, self._next), request.match_info["key"])
        after = request.query.get("after")
        later = feed.after(after) if after is not None else None
        if later:
            return json_bytes(later[0].encoded)
        return await self._wait(request, feed.waiters, feed.path)

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

    # --- send ---

    async def send(self, request: web.Request) -> web.Response:
        """``POST /send/{channel}``"""
        channel = self._sendable(request)
        body = await read_json_text(request, self._max_body)
        try:
            if channel.is_basket:
                return await self._send_basket(channel, body)
            return await self._send_feed(channel.feeds[0], body)
        except Invalid as invalid:
            raise unprocessable(invalid) from None

    def send_of(self, channel: Channel) -> Handler:
        """`send` of one sendable channel that is no basket, for a route of its own."""
        feed, struct, pipeline = channel.feeds[0], self._types[channel.spec.struct], self._gateway.pipeline
        is_list, most = channel.spec.is_list, self._max_body

        async def send(request: web.Request) -> web.StreamResponse:
            body = await read_json_text(request, most)
            try:
                if is_large(body):
                    return await self._send_feed(feed, body)
                records = struct.read(body)
            except Invalid as invalid:
                raise unprocessable(invalid) from None
            if is_list or len(records) != 1:
                pending = pipeline.submit(changes_of(feed, records))
            else:
                pending = pipeline.submit_together(((feed, records),))
            if pending is not None:
                await pending
            return records_answer(records)

        return send

    async def send_key(self, request: web.Request) -> web.Response:
        """``POST /send/{channel}/{key}``"""
        channel = self._sendable(request)
        key = request.match_info["key"]
        try:
            feed = channel.feed(key) if channel.is_basket else None
            if feed is None and channel.spec.key_enum is not None:
                raise Invalid([_wrong_key(channel, key, ("path", "key"))])
            if feed is None:
                raise Problem(404, f"Channel not found: {channel.name}/{key}" if channel.is_basket else "Not Found")
            return await self._send_feed(feed, await read_json_text(request, self._max_body))
        except Invalid as invalid:
            raise unprocessable(invalid) from None

    async def _send_feed(self, feed: Feed, body: bytes) -> web.Response:
        struct, pipeline = self._types[feed.channel.spec.struct], self._gateway.pipeline
        if is_large(body):
            records = await collect(struct.read_in_slices(body))
            ticking = start_task(pipeline.submit_in_slices(changes_of(feed, records)), name="a large send")
            await asyncio.shield(ticking)  # a client that leaves now does not leave half of it behind
            return records_answer(records)
        records = struct.read(body)
        pending = pipeline.submit(changes_of(feed, records))
        if pending is not None:
            await pending
        return records_answer(records)

    async def _send_basket(self, channel: Channel, body: bytes) -> web.Response:
        value = self._types.parse(body)
        if not isinstance(value, dict):
            raise Invalid([error_item("dict_type", ("body",), "Input should be a valid dictionary", value)])
        changes: list[Change] = []
        answer: list[Record] = []
        struct = self._types[channel.spec.struct]
        for key, item in value.items():
            feed = channel.feed(key)
            if feed is None:
                if channel.spec.key_enum is not None:
                    raise Invalid([_wrong_key(channel, key, ("body", key, "[key]"))])
                raise Problem(404, f"Channel not found: {channel.name}/{key}")
            if isinstance(item, list) and not channel.spec.is_list:
                raise not_a_struct(item, ("body", key))
            if isinstance(item, list):
                records = await collect(struct.take_in_slices(item, ("body", key)))
            else:
                records = struct.take(item, ("body", key))
            if records:
                changes.append((feed, records))
            answer += records
        pending = self._gateway.pipeline.submit_together(changes)
        if pending is not None:
            await pending
        return records_answer(answer)

    # --- which channel ---

    def _readable(self, request: web.Request, mounted: frozenset[str]) -> Channel:
        channel = self._channels.at(request.match_info["channel"])
        if channel is None or channel.name not in mounted:
            raise Problem(404, "Not Found")
        if not self._is_open and not rights_of(request).may_read(channel.name):
            raise unauthorized("unauthorized")
        if not channel.setters:
            require_provided(channel, channel.name)
        return channel

    def _sendable(self, request: web.Request) -> Channel:
        channel = self._channels.at(request.match_info["channel"])
        if channel is None:
            raise Problem(404, "Not Found")
        if channel.name not in self._send:
            if self._gateway.declared.options.rest.force_mount_all and self._gateway.mounts.send is not None:
                raise Problem(404, f"Channel not found: {channel.name}")
            raise Problem(404, "Not Found")
        if not self._is_open and not rights_of(request).may_send(channel.name):
            raise unauthorized("unauthorized")
        return channel


def _names(specs: Sequence[ChannelSpec] | None) -> frozenset[str]:
    return frozenset(spec.name for spec in specs or ())


def _wrong_key(channel: Channel, key: str, loc: tuple[str | int, ...]) -> dict[str, object]:
    names = [repr(name) for name in channel.spec.keys or ()]
    expected = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return error_item("enum", loc, f"Input should be {expected}", key, {"expected": expected})


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
        raise unprocessable(Invalid([error_item("float_parsing", ("query", "timeout"), message, given)]))
    return seconds
