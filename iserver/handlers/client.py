"""What clients in applications and browsers call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from iserver.engine.engine import Durable, Engine
from iserver.protocol.feature_requests import Origin
from shared.errors import Problem
from shared.http.app import json_response
from shared.http.lifecycle import Answer, Deferred, json_object

JSON = "application/json; charset=utf-8"  # without the charset the Java client misreads what is not ASCII
JSON_HEADERS = {"Content-Type": JSON}
DONE = Answer(b"", {"Content-Type": "text/plain; charset=utf-8"})
"""Success, without a body."""

Answered = Answer | Deferred | Awaitable[Answer]


class ClientHandlers:
    """The endpoints that need no authentication; the first three are fast routes (`shared.http.fast_path`)."""

    def __init__(self, engine: Engine, *, is_draining: Callable[[], bool]) -> None:
        self._engine = engine
        self._is_draining = is_draining

    def features(self, body: bytes, headers: Mapping[str, str]) -> Answered:
        """Evaluate features and record their impressions (§3)."""
        answer = self._engine.features(json_object(body), Origin(headers))
        if type(answer) is Durable:
            return Deferred(Answer(answer.value, JSON_HEADERS), answer.stored)
        return _features(answer)

    def signal(self, body: bytes, _headers: Mapping[str, str]) -> Answered:
        """Record what happened downstream (§4)."""
        return _done(self._engine.signal(json_object(body)))

    def external(self, body: bytes, _headers: Mapping[str, str]) -> Answered:
        """Store the value of an output that the application computes itself (§5)."""
        return _done(self._engine.external(json_object(body)))

    async def session(self, request: web.Request) -> web.Response:
        """All fields of a device's active session (§6)."""
        persistent_id = request.query.get("id")
        if not persistent_id:
            raise Problem(400, "missing query parameter 'id': the persistent key of a session")
        await self._engine.refresh(persistent_id)
        answer = self._engine.session(persistent_id, with_details=request.query.get("detail") == "1")
        return json_response(answer, content_type=JSON)

    async def session_count(self, _request: web.Request) -> web.Response:
        """The number of active sessions, for health checks and draining (§6)."""
        if self._is_draining():
            raise Problem(503, "draining", headers={"Retry-After": "1"})
        return web.Response(text=str(len(self._engine.sessions)))


async def _features(answer: Awaitable[bytes]) -> Answer:
    return Answer(await answer, JSON_HEADERS)


def _done(work: Awaitable[None]) -> Deferred:
    return Deferred(DONE, work.stored if type(work) is Durable else work)
