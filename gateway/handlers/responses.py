"""The form of answers: JSON that is always JSON, errors that always have a ``detail`` (§0, §2.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import hdrs, web

from gateway.schema.invalid import UNREADABLE, InvalidInput, UnreadableInput
from gateway.schema.record import Record, encode, encode_list
from shared.errors import Problem
from shared.http.app import JSON

_JSON_HEADERS: dict[str, str] = {hdrs.CONTENT_TYPE: JSON}


class DetailedProblem(Problem):
    """An answer whose ``detail`` is more than a text, or that has further members."""

    def __init__(self, status: int, detail: Any, more: Mapping[str, Any] | None = None) -> None:
        super().__init__(status, str(detail))
        self.detail = detail
        self.more = dict(more or {})


def json_bytes(body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """A successful answer from JSON that is already text."""
    return web.Response(body=body, headers=_JSON_HEADERS if headers is None else {**headers, **_JSON_HEADERS})


def json_value(value: Any) -> web.Response:
    """A successful answer from a value."""
    return web.Response(body=encode(value), headers=_JSON_HEADERS)


def records_answer(records: Sequence[Record]) -> web.Response:
    """A successful answer with records."""
    return web.Response(body=encode_list(records), headers=_JSON_HEADERS)


def error_answer(request: web.Request, problem: Problem) -> web.Response:
    """Any answer other than success: an object with ``detail``; a WebSocket on a wrong path is a bare 403 (§4.1)."""
    if problem.status == 404 and request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
        return web.Response(status=403)
    body: dict[str, Any] = {"detail": problem.message}
    if isinstance(problem, DetailedProblem):
        body = {"detail": problem.detail, **problem.more}
    return web.Response(body=encode(body), status=problem.status, headers={**problem.headers, hdrs.CONTENT_TYPE: JSON})


def unprocessable(invalid: InvalidInput) -> DetailedProblem:
    """What is wrong with an input, as a 422; a 400 when it could not be read at all."""
    if isinstance(invalid, UnreadableInput):
        return DetailedProblem(400, UNREADABLE)
    return DetailedProblem(422, invalid.errors)


def unauthorized(message: str) -> DetailedProblem:
    """No valid credential, or one without the right."""
    return DetailedProblem(403, message, {"status_code": 403})


async def not_found(_request: web.Request) -> web.StreamResponse:
    """The answer of a path that names nothing."""
    raise Problem(404, "Not Found")
