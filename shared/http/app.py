"""Conventions of an aiohttp application: JSON, bodies with limits, errors, CORS, request log and health.

`apply_conventions` is the only place that turns an exception into an answer. A `Problem` becomes the protocol's own
error shape; anything unexpected becomes a 500 that carries a request id, and a log entry that carries the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from aiohttp import StreamReader, hdrs, web
from aiohttp.typedefs import Handler, Middleware

from shared.errors import Problem
from shared.http.lifecycle import Answer, Explain, RequestLifecycle, json_object, sane_request_id
from shared.http.text import header_text
from shared.metrics import Metrics

JSON = "application/json"
BODY_TIMEOUT_S = 30.0
RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""What aiohttp calls for every request of a server."""
NotReady = Callable[[], Sequence[str]]
"""The reasons why a daemon cannot do its work now; empty when it can."""
_REQUEST_ID = web.RequestKey("shared.request_id", str)


class ErrorResponse(Protocol):
    """Encodes a `Problem` in the error shape of one protocol."""

    def __call__(self, request: web.Request, problem: Problem, /) -> web.StreamResponse: ...


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = JSON
) -> web.Response:
    """A response whose body is `value` as compact JSON; `headers` and `content_type` go out as given."""
    return web.Response(
        body=orjson.dumps(value), status=status, headers={**(headers or {}), hdrs.CONTENT_TYPE: content_type}
    )


def json_error(_request: web.Request, problem: Problem) -> web.Response:
    """The house's own error shape, for routes that no protocol dictates: ``{"error": {"code", "message"}}``."""
    error = {"code": problem.code or str(problem.status), "message": problem.message}
    return json_response({"error": error}, problem.status, problem.headers)


def response(answer: Answer) -> web.Response:
    """An answer in the form of aiohttp."""
    return web.Response(body=answer.body, status=answer.status, reason=answer.reason, headers=answer.headers)


async def read_body(request: web.Request, limit: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """The whole body of a request.

    Args:
        request: The request.
        limit: The most bytes that are accepted, after decompression.
        timeout_s: How long the client may take to send it, in seconds.

    Raises:
        Problem: 413 when the body is larger than the limit, 408 when it does not arrive in time, 400 when it is not
            compressed as its Content-Encoding says.
    """
    try:
        return await _read_body(request.content, request.content_length, limit, timeout_s)
    except web.RequestPayloadError as error:
        coding = request.headers.get(hdrs.CONTENT_ENCODING, "")
        raise Problem(400, f"the request body cannot be decoded as {coding[:40]!r}", code="malformed_body") from error


async def _read_body(content: StreamReader, length: int | None, limit: int, timeout_s: float) -> bytes:
    if content.is_eof():  # the body came with the head: the usual case
        body = content.read_nowait()
        if len(body) > limit:
            raise _too_large(limit)
        return body
    if length is not None and length > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            while chunk := await content.readany():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError as error:
        raise too_slow(timeout_s) from error
    return b"".join(chunks)


def too_slow(timeout_s: float) -> Problem:
    """The answer to a request whose body has not arrived `timeout_s` seconds after its head."""
    return Problem(408, f"the request body did not arrive within {timeout_s:g} s", code="timeout")


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the request body is larger than {limit} bytes", code="too_large")


async def read_json_object(request: web.Request, limit: int) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        Problem: 400 when it is something else, and as `read_body`.
    """
    return json_object(await read_body(request, limit))


def request_id(request: web.Request) -> str:
    """The id under which a request is logged: the client's ``X-Request-Id`` if it is sane, else a fresh one."""
    known = request.get(_REQUEST_ID)
    if known is None:
        known = request[_REQUEST_ID] = sane_request_id(request.headers.get("X-Request-Id"))
    return known


@dataclass(frozen=True, slots=True)
class Cors:
    """Which browser pages of other origins may read our answers.

    Attributes:
        origins: The origins allowed, as browsers send them; None allows every origin.
        methods: Methods named in the answer to a preflight request.
        default_headers: Request headers allowed when the preflight names none.
        credentials: Whether pages may send cookies and authorization.
        max_age_s: How long a browser may remember a preflight, in seconds.
    """

    origins: frozenset[str] | None = None
    methods: tuple[str, ...] = ("GET", "POST", "OPTIONS")
    default_headers: tuple[str, ...] = ("content-type",)
    credentials: bool = False
    max_age_s: int = 86400

    def headers(self, origin: str | None) -> dict[str, str]:
        """The response headers for a request from `origin` (None: no ``Origin`` was sent)."""
        if self.origins is None and not self.credentials:
            return {} if origin is None else {"Access-Control-Allow-Origin": "*"}
        if origin is None or not origin.isascii() or (self.origins is not None and origin not in self.origins):
            return {"Vary": "Origin"}
        allowed = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        return allowed | ({"Access-Control-Allow-Credentials": "true"} if self.credentials else {})

    def preflight(self, request: web.Request) -> web.Response:
        """The answer to an ``OPTIONS`` request; the origin's own headers are added as to any answer."""
        wanted = header_text(request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, ""))
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": ", ".join(self.methods),
                "Access-Control-Allow-Headers": wanted or ", ".join(self.default_headers),
                "Access-Control-Max-Age": str(self.max_age_s),
            },
        )


def apply_conventions(
    app: web.Application,
    *,
    error_response: ErrorResponse = json_error,
    cors: Cors | None = None,
    metrics: Metrics | None = None,
    explain: Explain | None = None,
) -> RequestLifecycle:
    """Give an application its error middleware, request ids, CORS, request log and request metrics.

    Args:
        app: The application, before it is started.
        error_response: Encodes problems in the protocol's error shape.
        cors: Answers preflight requests on every path, also on unknown ones; None answers no cross-origin page.
        metrics: Where to count requests by route and status.
        explain: Makes problems of exceptions of the daemon's own.

    Returns:
        The part that a fast path before the application shares with it.
    """
    lifecycle = RequestLifecycle(metrics, explain)
    app.middlewares.append(_middleware(lifecycle, error_response, cors))
    if cors is not None:

        async def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
            response.headers.update(cors.headers(request.headers.get(hdrs.ORIGIN)))

        app.on_response_prepare.append(add_cors_headers)
    return lifecycle


def _middleware(lifecycle: RequestLifecycle, error_response: ErrorResponse, cors: Cors | None) -> Middleware:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started_s = time.perf_counter()
        try:
            if cors is not None and request.method == hdrs.METH_OPTIONS:
                response: web.StreamResponse = cors.preflight(request)
            else:
                response = await handler(request)
        except web.HTTPException as answer:
            if answer.status < 400:
                raise
            kept = {"Allow": answer.headers["Allow"]} if "Allow" in answer.headers else {}
            response = _encode(error_response, request, Problem(answer.status, answer.reason, headers=kept))
        except Exception as error:  # the one place where a bug becomes an answer
            if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
                raise  # the client went away: nobody is left to answer
            response = _answer_error(lifecycle, error_response, request, error)
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "unknown"
        lifecycle.ended(route, request.method, request.path, response.status, started_s, lambda: request_id(request))
        return response

    return middleware


def _answer_error(
    lifecycle: RequestLifecycle, error_response: ErrorResponse, request: web.Request, error: Exception
) -> web.StreamResponse:
    """The response for an exception.

    No frame that the traceback holds may hold the exception in turn: everything the handler had in its hands, such as
    a large body, would otherwise live on until the next full garbage collection.
    """
    problem = lifecycle.problem(error, request.path, request_id(request))
    if request.writer.output_size > 0:
        raise ConnectionError("the answer had begun when the error happened") from error
    return _encode(error_response, request, problem)


def _encode(error_response: ErrorResponse, request: web.Request, problem: Problem) -> web.StreamResponse:
    response = error_response(request, problem)
    response.headers["X-Request-Id"] = request_id(request)
    return response


def under_prefix(prefix: str, routes: Sequence[web.RouteDef]) -> list[web.RouteDef]:
    """Routes under a prefix, which has no slashes around it and may be empty."""
    if not prefix:
        return list(routes)
    return [web.RouteDef(r.method, f"/{prefix}{r.path}".rstrip("/"), r.handler, r.kwargs) for r in routes]


def reject_unknown_expectations(handle: RequestHandler) -> RequestHandler:
    """Answer 417 to an expectation that is not ``100-continue``; aiohttp's own answer fails when it is not text."""

    async def reject(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=417, text="417: Expectation Failed")

    def checked(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        expected = request.headers.get(hdrs.EXPECT)
        return handle(request) if expected is None or expected.lower() == "100-continue" else reject(request)

    return checked


def health_routes(not_ready: NotReady) -> list[web.RouteDef]:
    """``GET /healthz``: the process answers; ``GET /readyz``: it can do its work (else 503 with the reasons).

    Args:
        not_ready: Asked at every `GET /readyz`.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        reasons = not_ready()
        if not reasons:
            return json_response({"status": "ready"})
        return json_response({"status": "not ready", "reasons": list(reasons)}, 503, {"Retry-After": "1"})

    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]
