"""``lookup`` (protocol §2.6)."""

from __future__ import annotations

from aiohttp import web

from gateway.handlers.context import Gateway
from gateway.handlers.responses import json_bytes, require_unlimited, rights_of, unauthorized
from shared.errors import Problem


class Lookups:
    """The lookup routes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._mounted = frozenset(spec.name for spec in gateway.mounts.lookup or ())

    async def lookup(self, request: web.Request) -> web.Response:
        """``GET`` or ``POST /lookup/{channel}/{id}``: an unknown id is an empty list."""
        channel = self._gateway.engine.channels.at(request.match_info["channel"])
        if channel is None or channel.name not in self._mounted:
            raise Problem(404, "Not Found")
        rights = rights_of(request)
        if not rights.may_read(channel.name):
            raise unauthorized("unauthorized")
        found = self._gateway.engine.lookup(channel.spec.struct, request.match_info["id"], rights.channels)
        return json_bytes(b"[]" if found is None else b"[" + found + b"]")

    async def lookup_any(self, request: web.Request) -> web.Response:
        """``GET /lookup/id/{id}``: any type; an unknown id is a 404."""
        require_unlimited(request)
        record_id = request.match_info["id"]
        found = self._gateway.engine.lookup_any(record_id)
        if found is None:
            raise Problem(404, f"No GatewayStruct found with id: {record_id}")
        return json_bytes(b"[" + found + b"]")
