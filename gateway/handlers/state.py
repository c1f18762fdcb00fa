"""``state`` (§2.4, §3)."""

from __future__ import annotations

import asyncio

from aiohttp import hdrs, web
from multidict import CIMultiDict

from gateway.handlers.context import Gateway
from gateway.handlers.requests import rights_of
from gateway.handlers.responses import DetailedProblem, unauthorized, unprocessable
from gateway.schema.invalid import InvalidInput
from gateway.schema.record import Record
from gateway.state.query import NO_FILTER, BadQuery, Query, read_query
from gateway.state.selection import Selection, compile_query
from gateway.state.slices import run_in_slices
from gateway.state.store import State, encoded_chunks, encoded_size
from shared.errors import Problem
from shared.http.app import JSON

_AT_ONCE = 500
WARNING = "X-Gateway-Query-Warning"


class StateHandlers:
    """The state routes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._aliases = {state.alias for state, _ in gateway.route_groups.states or ()}
        self._by_path = {alias.replace("_", "-"): alias for alias in self._aliases}
        self._by_path |= {alias: alias for alias in self._aliases}

    async def state(self, request: web.Request) -> web.StreamResponse:
        """``GET /state/{alias}``"""
        rows = self._rows(request)
        return await self._answer(request, list(rows.values()))

    async def state_key(self, request: web.Request) -> web.StreamResponse:
        """``GET /state/{alias}/{key}``"""
        rows = self._rows(request)
        state = rows.get(request.match_info["key"])
        if state is None:
            alias = request.match_info["alias"]
            raise Problem(404, "Not Found" if None in rows else f"State not found: {alias}/{request.match_info['key']}")
        return await self._answer(request, [state])

    def _rows(self, request: web.Request) -> dict[str | None, State]:
        alias = self._by_path.get(request.match_info["alias"])
        if alias is None:
            raise Problem(404, "Not Found")
        channel = self._gateway.engine.state_channels[alias]
        if not rights_of(request).may_read(channel.name):
            raise unauthorized("unauthorized")
        if not channel.is_provided:
            raise Problem(404, f"State not found: {alias}")
        return self._gateway.engine.states[alias]

    async def _answer(self, request: web.Request, states: list[State]) -> web.StreamResponse:
        try:
            query = read_query(request.query.get("query"))
        except InvalidInput as invalid:
            raise unprocessable(invalid) from None
        except BadQuery as bad:
            raise DetailedProblem(400, bad.errors) from None
        selection = compile_query(query, states[0].columns)
        if selection.warnings and self._gateway.declared.options.state.strict:
            raise DetailedProblem(400, "; ".join(selection.warnings))
        headers = CIMultiDict({hdrs.CONTENT_TYPE: JSON})
        for warning in selection.warnings:
            headers.add(WARNING, warning.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " "))
        if query.is_plain and sum(map(len, states)) > _AT_ONCE:
            return await _dump(request, states, headers)
        records = await _select(states, selection)
        if len(records) <= _AT_ONCE:
            return web.Response(body=b"".join(encoded_chunks(records)), headers=headers)
        is_whole = len(states) == 1 and len(records) == len(states[0]) and selection.query.fields is None
        size = states[0].encoded_size if is_whole else encoded_size(records)
        return await _stream(request, records, size, headers)


async def _select(states: list[State], selection: Selection) -> list[Record]:
    if len(states) == 1:
        return await run_in_slices(states[0].select(selection))
    query = selection.query
    each = Query(filters=query.filters) if query.filters else NO_FILTER
    passing = compile_query(each, states[0].columns)
    records: list[Record] = []
    for state in states:
        records += await run_in_slices(state.select(passing))
    return await run_in_slices(selection.arrangement(records))


async def _stream(
    request: web.Request, records: list[Record], size: int, headers: CIMultiDict[str]
) -> web.StreamResponse:
    """Write a long response in pieces, so that other requests are served in between (§9)."""
    response = web.StreamResponse(headers=headers)
    response.content_length = size
    await response.prepare(request)
    for chunk in encoded_chunks(records):
        await response.write(chunk)
        await asyncio.sleep(0)
    await response.write_eof()
    return response


async def _dump(request: web.Request, states: list[State], headers: CIMultiDict[str]) -> web.StreamResponse:
    """Write whole states as they are now, without reading all rows before the first byte."""
    dumps = [state.dump() for state in states]
    response = web.StreamResponse(headers=headers)
    response.content_length = sum(size for size, _ in dumps) + sum(map(len, states)) + 1
    await response.prepare(request)
    lead = b"["
    for _, slices in dumps:
        for records in slices:
            await response.write(lead + b",".join([record.encoded for record in records]))
            lead = b","
            await asyncio.sleep(0)
    await response.write_eof(b"]")
    return response
