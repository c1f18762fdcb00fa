"""HTTP behind the four-byte sniff: aiohttp is the server, the middleware here answers as Pegasus does (§2).

An application is one route table of `call`s (`application`). `HttpServer` runs it without sockets of its own, and an
`HttpHandler` feeds it with the bytes of one connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from shared.errors import Problem
from shared.http.app import apply_conventions, reject_unknown_expectations, under_prefix
from shared.metrics import Metrics
from shared.pegasus.serving.call_help import HELP
from shared.pegasus.serving.deadlines import HTTP_IDLE_S
from shared.pegasus.serving.json_format import Table, tables
from shared.pegasus.serving.protocol import ClientConnection, Load, Partial
from shared.pegasus.serving.requests import InvalidParameters, Url, parse_url
from shared.pegasus.wire.errors import ErrorCode

__all__ = [
    "MAX_BODY_BYTES",
    "HttpHandler",
    "HttpServer",
    "answer",
    "application",
    "arguments",
    "call",
    "client_gone",
    "list_of_calls",
    "normalised_path",
]

log = structlog.get_logger("shared.pegasus.serving.http")

MAX_BODY_BYTES = 1024 * 1024
MAX_LINE_BYTES = 256 * 1024
"""The longest target, and the longest header field: a query may name hundreds of metrics."""
SETTLE_S = 0.05
"""How long after an answer, or after the end of what a client sends, a request that has arrived may still begin."""

_TARGET = web.RequestKey("shared.pegasus.target", Url)
_GONE = web.RequestKey("shared.pegasus.gone", asyncio.Event)


# -- for handlers -----------------------------------------------------------------------------------


def arguments(request: web.Request) -> Mapping[str, str]:
    """The decoded arguments of a request (§2.4); a flag without `=` has the value `""`."""
    return request[_TARGET].args


def normalised_path(request: web.Request) -> str:
    """The path of a request without outer slashes (§2.4)."""
    return request[_TARGET].path


def client_gone(request: web.Request) -> asyncio.Event:
    """Set when the client has closed the connection, or its side of it."""
    return request[_GONE]


def answer(body: bytes | str = b"", status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A response of plain text, as every call of Pegasus answers, those with JSON or binary data included (§2.2)."""
    raw = body.encode(errors="surrogateescape") if isinstance(body, str) else body
    return web.Response(body=raw, status=status, headers={"Content-Type": "text/plain", **(headers or {})})


# -- the application --------------------------------------------------------------------------------


def call(path: str, handler: Handler) -> web.RouteDef:
    """A call of Pegasus, to which GET and POST are the same (§2.3)."""
    return web.route("*", path, handler)


def list_of_calls(paths: Iterable[str], help_texts: Mapping[str, str] = HELP) -> bytes:
    """The answer of `/`: the calls that the original has too, by path, each with its help text (§4.1)."""
    listed = sorted(path for path in {"/", *paths} if path in help_texts)
    return tables(Table().add_all((path, help_texts[path]) for path in listed))


def application(calls: Sequence[web.RouteDef], *, prefix: str = "", metrics: Metrics | None = None) -> web.Application:
    """An aiohttp application of calls, and of `/`, which lists them.

    Args:
        calls: Every call but `/`.
        prefix: First part of every path, without slashes around it.
        metrics: Where to count requests by route and status.
    """
    index = list_of_calls(found.path for found in calls)

    async def root(_request: web.Request) -> web.Response:
        return answer(index)

    app = web.Application()
    apply_conventions(app, error_response=_text_error, metrics=metrics)
    table = under_prefix(prefix, [call("/", root), *calls])
    app.middlewares.append(_by_target(frozenset(found.path for found in table)))
    app.add_routes(table)
    return app


def _text_error(_request: web.Request, problem: Problem) -> web.Response:
    return answer(problem.message, problem.status, problem.headers)


def _by_target(paths: frozenset[str]) -> Middleware:
    """Understand targets by the rules of Pegasus, and find calls by the normalised path."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            target = request[_TARGET] = parse_url(request.raw_path)
        except InvalidParameters as error:
            message = f"failed to parse request: {ErrorCode.ERR_INVALID_PARAMETERS}: {error}"
            raise Problem(400, message) from error
        path = f"/{target.path}"
        if path not in paths:
            raise Problem(404, f'service not found for "{target.path}"')
        if request.method not in ("GET", "POST"):
            raise Problem(405, f"{request.method} is not a method of this server", headers={"Allow": "GET, POST"})
        if path != request.rel_url.raw_path:
            found = await request.app.router.resolve(request.clone(rel_url=URL.build(path=path)))
            handler = found.handler
        return await handler(request)

    return middleware


# -- connections ------------------------------------------------------------------------------------


class HttpServer:
    """Runs an application on connections that others accept.

    Args:
        app: The application.
    """

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, max_line_size=MAX_LINE_BYTES, max_field_size=MAX_LINE_BYTES
        )
        self._handlers: dict[asyncio.BaseProtocol, HttpHandler] = {}

    async def start(self) -> None:
        """Prepare the application."""
        await self._runner.setup()
        server = self._server()
        server.request_handler = self._followed(reject_unknown_expectations(server.request_handler))

    async def close(self) -> None:
        """Clean up after the last connection is closed."""
        await self._runner.cleanup()

    def open(self, handler: HttpHandler) -> web.RequestHandler:
        """The protocol of aiohttp for one connection; `handler` follows its requests."""
        protocol = self._server()()
        self._handlers[protocol] = handler
        return protocol

    def forget(self, protocol: web.RequestHandler) -> None:
        """A connection is closed."""
        del self._handlers[protocol]

    def _server(self) -> web.Server:
        server = self._runner.server
        assert server is not None
        return server

    def _followed(
        self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        async def followed(request: web.BaseRequest) -> web.StreamResponse:
            handler = self._handlers.get(request.protocol)
            if handler is None:  # the connection was lost before the request began
                return web.Response()
            request[_GONE] = handler.gone
            handler.begin()
            try:
                return await handle(request)
            finally:
                handler.end()

        return followed


class HttpHandler:
    """HTTP on one connection.

    Args:
        connection: The connection, as the server sees it.
        transport: The same, as aiohttp sees it.
        http: Runs the application.
        load: What all connections hold.

    Attributes:
        gone: Set when the client will send nothing more, or the server stops.
    """

    idle_s = HTTP_IDLE_S

    def __init__(
        self, connection: ClientConnection, transport: asyncio.Transport, http: HttpServer, load: Load
    ) -> None:
        self.gone = asyncio.Event()
        self._connection = connection
        self._http = http
        self._partial = Partial(load)
        self._received_bytes = 0
        self._is_answering = False
        self._requests = 0
        self._protocol = http.open(self)
        self._protocol.connection_made(transport)

    # what the connection reports

    def receive(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._partial.is_too_much(self._received_bytes):
            log.warning("connection closed", peer=self._connection.peer, reason="too many large requests at a time")
            self._connection.close()
            return
        self._protocol.data_received(data)

    def pause(self) -> None:
        self._protocol.pause_writing()

    def proceed(self) -> None:
        self._protocol.resume_writing()

    def is_idle(self) -> bool:
        return not self._is_answering

    def is_partial(self) -> bool:
        return self._received_bytes > 0 and not self._is_answering

    def requests(self) -> int:
        return self._requests

    def ended(self) -> bool:
        self.gone.set()
        self._check_end_soon()
        return self._is_answering or self._received_bytes > 0

    def close(self) -> None:
        self.gone.set()
        self._partial.is_too_much(0)
        self._http.forget(self._protocol)
        self._protocol.connection_lost(None)

    # what aiohttp reports

    def begin(self) -> None:
        """A request has arrived, at least its head, and its handler begins."""
        self._requests += 1
        self._is_answering = True
        self._taken()

    def end(self) -> None:
        """The answer to a request is there."""
        self._is_answering = False
        self._taken()
        if self._connection.is_ending:
            self._check_end_soon()

    def _taken(self) -> None:
        self._received_bytes = 0
        self._partial.is_too_much(0)

    def _check_end_soon(self) -> None:
        asyncio.get_running_loop().call_later(SETTLE_S, self._check_end)

    def _check_end(self) -> None:
        if not self._is_answering:
            self._connection.all_answered()
