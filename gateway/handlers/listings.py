"""The listings of every group, and the index of versions (§0.1)."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from gateway.handlers.context import Gateway
from gateway.handlers.responses import json_value, rights_of


class Listings:
    """What exists."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._mounts = gateway.mounts

    async def last(self, request: web.Request) -> web.Response:
        """``GET /last/``"""
        return _names(request, [spec.name for spec in self._mounts.last or ()])

    async def next(self, request: web.Request) -> web.Response:
        """``GET /next/``"""
        return _names(request, [spec.name for spec in self._mounts.next or ()])

    async def lookup(self, request: web.Request) -> web.Response:
        """``GET /lookup/``"""
        return _names(request, [spec.name for spec in self._mounts.lookup or ()])

    async def send(self, request: web.Request) -> web.Response:
        """``GET /send/``"""
        return _names(request, self._mounts.send_names)

    async def state(self, request: web.Request) -> web.Response:
        """``GET /state/``"""
        rights = rights_of(request)
        return json_value(
            sorted(state.alias for state, spec in self._mounts.states or () if rights.may_read(spec.name))
        )

    async def stage(self, request: web.Request) -> web.Response:
        """``GET /stage/``"""
        return _names(request, [spec.name for spec in self._mounts.stage])

    async def controls(self, _request: web.Request) -> web.Response:
        """``GET /controls/``"""
        return json_value(sorted(self._mounts.controls))

    async def stream(self, request: web.Request) -> web.Response:
        """``GET /stream``: in the order of declaration."""
        rights = rights_of(request)
        names = self._mounts.stream_names
        return json_value([name for name in names if rights.may_read(name.partition("/")[0])])

    async def versions(self, _request: web.Request) -> web.Response:
        """``GET /api``"""
        server = self._gateway.declared.options.server
        path = server.root_path + self._mounts.base
        version = server.api_version
        return json_value({"default": version, "versions": [{"version": version, "path": path}]})


def _names(request: web.Request, names: Iterable[str]) -> web.Response:
    rights = rights_of(request)
    return json_value(sorted(name for name in names if rights.may_read(name.partition("/")[0])))
