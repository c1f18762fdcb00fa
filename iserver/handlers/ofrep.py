"""The endpoints of the OpenFeature Remote Evaluation Protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from aiohttp import web

from iserver.engine.engine import Engine
from iserver.errors import RequestError
from iserver.handlers.client import JSON
from iserver.handlers.middleware import explain
from iserver.protocol.feature_requests import NewId, Origin
from iserver.protocol.ofrep import (
    TARGETING_KEY,
    Caller,
    EvaluationError,
    Flag,
    all_flags,
    context_of,
    etag,
    evaluations,
    features_request,
    one_flag,
)
from shared.errors import Problem
from shared.http.app import json_response, read_json_object

CODES = {400: "INVALID_CONTEXT", 404: "FLAG_NOT_FOUND"}


class OfrepHandlers:
    """Flags for OpenFeature clients."""

    def __init__(self, engine: Engine, *, new_id: NewId, clock_ms: Callable[[], int], max_body_bytes: int) -> None:
        self._engine = engine
        self._new_id = new_id
        self._clock_ms = clock_ms
        self._max_body_bytes = max_body_bytes

    async def flag(self, request: web.Request) -> web.Response:
        """Evaluate one flag."""
        key = request.match_info["key"]
        try:
            context = await self._context(request)
            flag = one_flag(self._engine.configuration, key)
            (evaluated,) = await self._evaluate(request, [flag], context, self._new_id())
        except EvaluationError as error:
            return _failed(error, key)
        return json_response(evaluated, 400 if "errorCode" in evaluated else 200, content_type=JSON)

    async def flags(self, request: web.Request) -> web.Response:
        """Evaluate all flags; a client that sends the `ETag` is answered 304 when nothing has changed.

        However often a client polls, a session sees each feature once.
        """
        try:
            context = await self._context(request)
            evaluated = await self._evaluate(request, all_flags(self._engine.configuration), context, "ofrep")
        except EvaluationError as error:
            return _failed(error)
        tag = etag(evaluated)
        headers = {"ETag": f'"{tag}"', "Access-Control-Expose-Headers": "ETag"}
        if any(known.value == tag for known in request.if_none_match or ()):  # a proxy may have made it weak
            return web.Response(status=304, headers=headers)
        return json_response({"flags": evaluated, "metadata": {}}, headers=headers, content_type=JSON)

    async def _context(self, request: web.Request) -> dict[str, Any]:
        try:
            return context_of(await read_json_object(request, self._max_body_bytes))
        except Problem as unread:
            raise EvaluationError(unread.status, "PARSE_ERROR", unread.message, unread.headers) from unread

    async def _evaluate(
        self, request: web.Request, flags: Sequence[Flag], context: dict[str, Any], impression_id: str
    ) -> list[dict[str, Any]]:
        configuration = self._engine.configuration
        features = list(dict.fromkeys(flag.feature for flag in flags))
        body = features_request(configuration, context, features, impression_id)
        try:
            answer = orjson.loads(await self._engine.features(body, Origin(request.headers)))
        except RequestError as error:
            problem = explain(error)
            assert problem is not None
            code = CODES.get(problem.status, "GENERAL")
            raise EvaluationError(problem.status, code, problem.message, problem.headers) from error
        caller = Caller(configuration.devices.get(context[TARGETING_KEY]), self._clock_ms())
        return evaluations(configuration, flags, answer, features, caller)


def _failed(error: EvaluationError, key: str | None = None) -> web.Response:
    answer = {"errorCode": error.code, "errorDetails": str(error)}
    return json_response(
        answer if key is None else {"key": key, **answer}, error.status, error.headers, content_type=JSON
    )
