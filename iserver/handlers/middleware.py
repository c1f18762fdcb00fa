"""What holds for every route: the status and text of errors, and paths with too many slashes (§2, appendix A)."""

from __future__ import annotations

import re

from aiohttp import web
from aiohttp.typedefs import Handler

from iserver.errors import MalformedError, NotStoredError, RequestError, SessionGoneError, UnknownError
from shared.errors import Problem
from shared.http.app import json_response, response
from shared.http.lifecycle import Answer

STATUSES: dict[type[RequestError], int] = {
    MalformedError: 400,
    UnknownError: 404,
    SessionGoneError: 410,
    NotStoredError: 503,
}


def explain(error: Exception) -> Problem | None:
    """The answer to an error of a request; `None` for other errors."""
    if not isinstance(error, RequestError):
        return None
    status = STATUSES[type(error)]
    return Problem(status, str(error), headers={"Retry-After": "1"} if status == 503 else None)


def error_answer(problem: Problem) -> Answer:
    """Errors are short plain text, which clients show verbatim."""
    headers = {**problem.headers, "Content-Type": "text/plain; charset=utf-8"}
    return Answer(problem.message.encode(), headers, problem.status)


def error_response(request: web.Request, problem: Problem) -> web.Response:
    """The same in the form of aiohttp; OpenFeature clients expect JSON."""
    if request.path.startswith("/ofrep/"):
        answer = {"errorCode": "GENERAL", "errorDetails": problem.message}
        return json_response(answer, problem.status, problem.headers)
    return response(error_answer(problem))


_SLASHES = re.compile("//+")


@web.middleware
async def normalise_paths(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Serve a path with duplicate or trailing slashes like the one that is meant."""
    if request.match_info.http_exception is None:
        return await handler(request)
    path = request.rel_url.raw_path
    meant = _SLASHES.sub("/", path).rstrip("/") or "/"
    if meant == path:
        return await handler(request)
    match = await request.app.router.resolve(request.clone(rel_url=request.rel_url.with_path(meant, encoded=True)))
    request.match_info.update(match)  # what the path of the route has in braces
    return await match.handler(request)
