"""Which status a refusal has, and what an error looks like on the wire (specification §2, appendix A)."""

from __future__ import annotations

from aiohttp import web

from iserver.refusals import MalformedError, NotStoredError, RefusalError, SessionGoneError, UnknownError
from shared.errors import Problem

STATUSES: dict[type[RefusalError], int] = {
    MalformedError: 400,
    UnknownError: 404,
    SessionGoneError: 410,
    NotStoredError: 503,
}


def problem(refusal: RefusalError) -> Problem:
    """The answer to a refused request."""
    status = STATUSES[type(refusal)]
    return Problem(status, str(refusal), headers={"Retry-After": "1"} if status == 503 else None)


def error_response(_request: web.Request, problem: Problem) -> web.Response:
    """Errors are short plain text, which clients show verbatim."""
    return web.Response(text=problem.message, status=problem.status, headers=problem.headers)
