"""The end of every request, on the fast path or through aiohttp: errors, request log, request metrics.

The middleware of `shared.http.app` and the connections of `shared.http.fast_path` both use it, so a client cannot tell
one from the other.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from shared.errors import Problem
from shared.http.text import without_lone_surrogates
from shared.metrics import Metrics

log = structlog.get_logger("shared.http.app")

DEBUG = 10

Explain = Callable[[Exception], Problem | None]
"""Makes a problem of a daemon's own exception; None when the exception is a bug."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of either way, before it is encoded.

    Attributes:
        body: The body.
        headers: Headers in the order in which they are sent, with Content-Type and without Content-Length.
        status: HTTP status code.
        reason: The reason phrase; None is the usual one of the status.
    """

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """An answer that is sent when something else is done.

    Attributes:
        answer: The answer.
        after: What must be done first; when it fails, its error is the answer.
    """

    answer: Answer
    after: Awaitable[object]


class RequestLifecycle:
    """How the requests of one daemon end.

    Args:
        metrics: Where to count requests by route and status.
        explain: Makes problems of the daemon's own exceptions.
    """

    def __init__(self, metrics: Metrics | None = None, explain: Explain | None = None) -> None:
        self._metrics = metrics
        self._explain = explain
        self._logs_requests = log.is_enabled_for(DEBUG)

    def problem(self, error: Exception, path: str, request_id: str) -> Problem:
        """The problem that an error is to the client; a bug is logged under the request id that the client gets."""
        if isinstance(error, Problem):
            return error
        explained = None if self._explain is None else self._explain(error)
        if explained is not None:
            return explained
        log.error("unexpected error", request_id=request_id, path=path, exc_info=error)
        return Problem(500, f"internal error, request id {request_id}", code="internal")

    def ended(
        self, route: str, method: str, path: str, status: int, started_s: float, request_id: Callable[[], str]
    ) -> None:
        """Count a request that has its answer, and log it at level DEBUG.

        Args:
            route: The route's pattern.
            method: HTTP method.
            path: The path as the client sent it.
            status: Of the answer.
            started_s: When the request was received, by `time.perf_counter`.
            request_id: Gives the id of the request; called only for the log.
        """
        elapsed_s = time.perf_counter() - started_s
        if self._metrics is not None:
            self._metrics.observe_request(route, status, elapsed_s)
        if self._logs_requests:
            ms = round(elapsed_s * 1000, 3)
            log.debug("request", method=method, path=path, status=status, ms=ms, request_id=request_id())


def sane_request_id(given: str | None) -> str:
    """The id under which a request is logged: the client's ``X-Request-Id`` if it is sane, else a fresh one."""
    if given and len(given) <= 128 and given.isascii() and given.isprintable():
        return given
    return secrets.token_hex(8)


def json_object(body: bytes) -> dict[str, Any]:
    """A body as a JSON object, whatever its Content-Type says.

    Raises:
        Problem: 400 when it is something else.
    """
    value = json_value(body)
    if type(value) is dict:
        return value
    raise Problem(400, f"malformed JSON: expected an object, found {json_kind(value)}", code="malformed_json")


def json_value(body: bytes) -> Any:
    """A body as JSON, whatever its Content-Type says; half of a surrogate pair is read as U+FFFD.

    Raises:
        Problem: 400 when it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "surrogate" in str(error):
            with suppress(ValueError, RecursionError):
                return orjson.loads(without_lone_surrogates(body))
        raise Problem(400, f"malformed JSON: {error}", code="malformed_json") from error


def json_kind(value: object) -> str:
    """What a JSON value is called in an error message: ``a string``, ``null``, …"""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array"}
    return kinds.get(type(value), "an object")
