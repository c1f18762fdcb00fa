"""What clients in applications and browsers call (specification §3 to §6)."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from iserver.handlers.refusals import problem
from iserver.refusals import RefusalError
from iserver.server import ImpressionServer
from iserver.visits import Origin
from shared.errors import Problem
from shared.web import json_response, read_json_object

JSON = "application/json; charset=utf-8"  # without the charset the Java client misreads what is not ASCII


class VisitorHandlers:
    """The endpoints that need no authentication."""

    def __init__(self, server: ImpressionServer, *, max_body_bytes: int, is_draining: Callable[[], bool]) -> None:
        self._server = server
        self._max_body_bytes = max_body_bytes
        self._is_draining = is_draining

    async def features(self, request: web.Request) -> web.Response:
        """Evaluate features and record their impressions (§3)."""
        body = await read_json_object(request, self._max_body_bytes)
        try:
            answer = await self._server.features(body, Origin(request.headers))
        except RefusalError as refusal:
            raise problem(refusal) from refusal
        return web.Response(body=answer, headers={"Content-Type": JSON})

    async def signal(self, request: web.Request) -> web.Response:
        """Record what happened downstream (§4)."""
        body = await read_json_object(request, self._max_body_bytes)
        try:
            await self._server.signal(body)
        except RefusalError as refusal:
            raise problem(refusal) from refusal
        return empty()

    async def external(self, request: web.Request) -> web.Response:
        """Store the value of an output that the application computes itself (§5)."""
        body = await read_json_object(request, self._max_body_bytes)
        try:
            await self._server.external(body)
        except RefusalError as refusal:
            raise problem(refusal) from refusal
        return empty()

    async def session(self, request: web.Request) -> web.Response:
        """All fields of a device's active session (§6)."""
        persistent_id = request.query.get("id")
        if not persistent_id:
            raise Problem(400, "missing query parameter 'id': the persistent key of a session")
        try:
            answer = self._server.session(persistent_id, with_details=request.query.get("detail") == "1")
        except RefusalError as refusal:
            raise problem(refusal) from refusal
        return json_response(answer, content_type=JSON)

    async def session_count(self, _request: web.Request) -> web.Response:
        """The number of active sessions, for health checks and draining (§6)."""
        if self._is_draining():
            raise Problem(503, "draining", headers={"Retry-After": "1"})
        return web.Response(text=str(len(self._server.sessions)))


def empty() -> web.Response:
    """Success with nothing to say."""
    return web.Response(headers={"Content-Type": "text/plain; charset=utf-8"})
