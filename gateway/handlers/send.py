"""``send``: the routes that tick channels (protocol §2.5)."""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.engine.channels import Channel, Feed
from gateway.engine.engine import Change
from gateway.handlers.context import Gateway
from gateway.handlers.requests import read_json_text, rights_of
from gateway.handlers.responses import records_answer, unauthorized, unprocessable
from gateway.schema.invalid import InvalidInput, error_item, not_a_struct
from gateway.schema.memory_estimate import is_large
from gateway.schema.record import Record
from gateway.state.slices import collect
from shared.errors import Problem
from shared.tasks import start_task


class SendHandlers:
    """The routes that tick channels; those of one channel are made for that channel."""

    def __init__(self, gateway: Gateway) -> None:
        self._engine = gateway.engine
        self._channels = gateway.engine.channels
        self._types = gateway.engine.types
        self._max_body = gateway.declared.options.server.max_body
        self._names_excluded = gateway.declared.options.rest.force_mount_all

    def send(self, channel: Channel) -> Handler:
        """``POST /send/{channel}``"""
        deliver = (
            partial(self._send_basket, channel) if channel.is_basket else partial(self._send_feed, channel.feeds[0])
        )

        async def send(request: web.Request) -> web.Response:
            _require_sendable(request, channel)
            body = await read_json_text(request, self._max_body)
            try:
                return await deliver(body)
            except InvalidInput as invalid:
                raise unprocessable(invalid) from None

        return send

    def send_key(self, channel: Channel) -> Handler:
        """``POST /send/{channel}/{key}``"""

        async def send_key(request: web.Request) -> web.Response:
            _require_sendable(request, channel)
            key = request.match_info["key"]
            try:
                feed = channel.feed(key) if channel.is_basket else None
                if feed is None and channel.spec.key_enum is not None:
                    raise InvalidInput([_wrong_key(channel, key, ("path", "key"))])
                if feed is None:
                    raise Problem(404, f"Channel not found: {channel.name}/{key}" if channel.is_basket else "Not Found")
                return await self._send_feed(feed, await read_json_text(request, self._max_body))
            except InvalidInput as invalid:
                raise unprocessable(invalid) from None

        return send_key

    async def no_send(self, request: web.Request) -> web.Response:
        """``POST /send/{channel}`` of a channel that is not in the group."""
        channel = self._channels.at(request.match_info["channel"])
        if channel is None or not self._names_excluded:
            raise Problem(404, "Not Found")
        raise Problem(404, f"Channel not found: {channel.name}")

    async def _send_feed(self, feed: Feed, body: bytes) -> web.Response:
        struct = self._types[feed.channel.spec.struct]
        if is_large(body):
            records = await collect(struct.read_in_slices(body))
            ticking = start_task(self._engine.send_in_slices(feed, records), name="a large send")
            await asyncio.shield(ticking)  # a client that leaves now does not leave half of it behind
            return records_answer(records)
        records = struct.read(body)
        pending = self._engine.send(feed, records)
        if pending is not None:
            await pending
        return records_answer(records)

    async def _send_basket(self, channel: Channel, body: bytes) -> web.Response:
        value = self._types.parse(body)
        if not isinstance(value, dict):
            raise InvalidInput([error_item("dict_type", ("body",), "Input should be a valid dictionary", value)])
        changes: list[Change] = []
        answer: list[Record] = []
        struct = self._types[channel.spec.struct]
        for key, item in value.items():
            feed = channel.feed(key)
            if feed is None:
                if channel.spec.key_enum is not None:
                    raise InvalidInput([_wrong_key(channel, key, ("body", key, "[key]"))])
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
        pending = self._engine.submit_together(changes)
        if pending is not None:
            await pending
        return records_answer(answer)


def _require_sendable(request: web.Request, channel: Channel) -> None:
    if not rights_of(request).may_send(channel.name):
        raise unauthorized("unauthorized")


def _wrong_key(channel: Channel, key: str, loc: tuple[str | int, ...]) -> dict[str, object]:
    names = [repr(name) for name in channel.spec.keys or ()]
    expected = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return error_item("enum", loc, f"Input should be {expected}", key, {"expected": expected})
