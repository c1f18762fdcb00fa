"""What exists: the listing of every group, versions, static fields, the channel graph (§0.1)."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from gateway.handlers.context import Gateway
from gateway.handlers.requests import rights_of
from gateway.handlers.responses import json_value
from shared.errors import Problem


class ListingHandlers:
    """What exists."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._groups = gateway.route_groups

    async def last(self, request: web.Request) -> web.Response:
        """``GET /last/``"""
        return _names(request, [spec.name for spec in self._groups.last or ()])

    async def next(self, request: web.Request) -> web.Response:
        """``GET /next/``"""
        return _names(request, [spec.name for spec in self._groups.next or ()])

    async def lookup(self, request: web.Request) -> web.Response:
        """``GET /lookup/``"""
        return _names(request, [spec.name for spec in self._groups.lookup or ()])

    async def send(self, request: web.Request) -> web.Response:
        """``GET /send/``"""
        return _names(request, self._groups.send_names)

    async def state(self, request: web.Request) -> web.Response:
        """``GET /state/``"""
        rights = rights_of(request)
        return json_value(
            sorted(state.alias for state, spec in self._groups.states or () if rights.may_read(spec.name))
        )

    async def stage(self, request: web.Request) -> web.Response:
        """``GET /stage/``"""
        return _names(request, [spec.name for spec in self._groups.stage])

    async def controls(self, _request: web.Request) -> web.Response:
        """``GET /controls/``"""
        return json_value(sorted(self._groups.controls))

    async def stream(self, request: web.Request) -> web.Response:
        """``GET /stream``: in the order of declaration."""
        rights = rights_of(request)
        names = self._groups.stream_names
        return json_value([name for name in names if rights.may_read(name.partition("/")[0])])

    async def versions(self, _request: web.Request) -> web.Response:
        """``GET /api``"""
        server = self._gateway.declared.options.server
        path = server.root_path + self._groups.base
        version = server.api_version
        return json_value({"default": version, "versions": [{"version": version, "path": path}]})

    async def fields(self, _request: web.Request) -> web.Response:
        """``GET /field``"""
        return json_value(sorted(self._gateway.declared.options.fields))

    async def field(self, request: web.Request) -> web.Response:
        """``GET /field/{name}``"""
        name = request.match_info["name"]
        fields = self._gateway.declared.options.fields
        if name not in fields:
            raise Problem(404, "Not Found")
        return json_value(fields[name])

    async def graph(self, request: web.Request) -> web.Response:
        """``GET /channels_graph``: who reads and who provides each channel."""
        rights = rights_of(request)
        return json_value(
            {
                channel.name: {"getters": sorted(channel.getters), "setters": list(channel.setters)}
                for channel in self._gateway.engine.channels
                if rights.may_read(channel.name)
            }
        )


def _names(request: web.Request, names: Iterable[str]) -> web.Response:
    rights = rights_of(request)
    return json_value(sorted(name for name in names if rights.may_read(name.partition("/")[0])))
