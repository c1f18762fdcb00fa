"""``stage`` (§2.8)."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.engine.channels import Channel
from gateway.engine.staging import Areas, Stage
from gateway.handlers.context import Gateway
from gateway.handlers.requests import read_json_text, rights_of
from gateway.handlers.responses import DetailedProblem, json_bytes, json_value, unauthorized, unprocessable
from gateway.schema.invalid import InvalidInput
from gateway.schema.record import Record, encode, encode_list
from shared.errors import Problem
from shared.tasks import start_task


class StageHandlers:
    """The staging routes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._mounted = frozenset(spec.name for spec in gateway.route_groups.stage)
        self._max_body = gateway.declared.options.server.max_body

    async def add(self, request: web.Request) -> web.Response:
        """``POST /stage/{channel}``: open an area, or put a struct into areas."""
        channel, stage = self._stage(request, changes=True)
        record = await self._record(request, channel)
        try:
            affected = stage.add(record, _ids(request))
        except ValueError as error:
            raise DetailedProblem(400, str(error)) from None
        if record is not None:
            self._gateway.engine.add_to_lookup(channel, [record], self._gateway.now())
        return _areas_answer(affected)

    async def remove(self, request: web.Request) -> web.Response:
        """``DELETE /stage/{channel}``: drop or empty areas, or take a struct out of them."""
        channel, stage = self._stage(request, changes=True)
        return _areas_answer(stage.remove(await self._record(request, channel), _ids(request)))

    async def release(self, request: web.Request) -> web.Response:
        """``PATCH /stage/{channel}``: tick what was staged."""
        channel, stage = self._stage(request, changes=True)
        ids, engine = _ids(request), self._gateway.engine
        engine.require_room()
        released = {} if ids == [] else stage.release(ids)
        feed = channel.feeds[0]
        records = [record for area in released.values() for record in area]
        await asyncio.shield(start_task(engine.submit_in_slices(feed, records), name="a release"))
        return _areas_answer(released)

    async def pending(self, request: web.Request) -> web.Response:
        """``GET /stage/{channel}``: ids of the pending areas."""
        _, stage = self._stage(request, changes=False)
        return json_value(stage.pending(_ids(request)))

    async def contents(self, request: web.Request) -> web.Response:
        """``PUT /stage/{channel}``: what the areas hold."""
        _, stage = self._stage(request, changes=False)
        return _areas_answer(stage.contents(_ids(request)))

    def _stage(self, request: web.Request, *, changes: bool) -> tuple[Channel, Stage]:
        channel = self._gateway.engine.channels.at(request.match_info["channel"])
        if channel is None or channel.name not in self._mounted:
            raise Problem(404, "Not Found")
        rights = rights_of(request)
        if not (rights.may_send(channel.name) if changes else rights.may_read(channel.name)):
            raise unauthorized("unauthorized")
        return channel, self._gateway.engine.stages[channel.name]

    async def _record(self, request: web.Request, channel: Channel) -> Record | None:
        body = await read_json_text(request, self._max_body)
        if not body.strip():
            return None
        try:
            value = self._gateway.engine.types.parse(body)
            return None if value is None else self._gateway.engine.types[channel.spec.struct].take_one(value)
        except InvalidInput as invalid:
            raise unprocessable(invalid) from None


def _ids(request: web.Request) -> list[str] | None:
    given = request.query.get("id")
    return None if given is None else [part for part in given.split(",") if part]


def _areas_answer(areas: Areas) -> web.Response:
    printed = [encode(area) + b":" + encode_list(records) for area, records in areas.items()]
    return json_bytes(b"{" + b",".join(printed) + b"}")
