"""The fast path: plain POST requests to a few routes are answered without aiohttp's cost per request.

Every connection begins here. `httptools` parses its requests; one that is plain and goes to a fast route is answered
at once. The first request that is anything else hands the connection over to aiohttp, with every byte that is not
answered yet and in the pieces in which they came. aiohttp keeps it until it closes, so aiohttp is the only
implementation of everything unusual: other routes, pipelining, chunked and compressed bodies, upgrades, malformed
requests, slow clients, large bodies. Fast routes exist there too, with the same handlers (`FastRoute.full`).

A connection holds at most one head, one body and one read. It is not read from while its client does not read the
responses, or sends the next request before the last is answered.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast

import httptools
import structlog
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict, CIMultiDictProxy

from shared.errors import Problem
from shared.http.app import read_body, response
from shared.http.lifecycle import Answer, Deferred, RequestLifecycle, sane_request_id
from shared.tasks import start_task

log = structlog.get_logger("shared.http.fast_path")

MAX_HEAD_BYTES = 8192
MAX_BODY_BYTES = 64 * 1024
MAX_PIECES = 64
"""Reads that one request may come in; a request in more pieces goes to aiohttp."""

REQUEST_TIMEOUT_S = 2.0
KEEP_ALIVE_S = 3630.0
"""As long as aiohttp keeps an idle connection: longer than the proxies before it do."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_END = b"\r\n\r\n"
_NOT_PLAIN = frozenset(
    [
        *("transfer-encoding", "content-encoding", "expect", "te", "trailer"),  # other bodies
        *("upgrade", "http2-settings", "sec-websocket-key", "sec-websocket-key1", "proxy-connection"),
    ]
)
"""Headers that change what follows them."""

FastHandler = Callable[[bytes, Mapping[str, str]], Answer | Deferred | Awaitable[Answer]]
"""Answers a body and headers, at once or later; raises what `RequestLifecycle` can make a problem of."""


@dataclass(frozen=True, slots=True)
class FastRoute:
    """A path whose POST requests the fast path answers.

    Attributes:
        path: The path, exactly; metrics name the route by it.
        handler: Answers a request.
    """

    path: str
    handler: FastHandler

    def full(self, max_body_bytes: int) -> web.RouteDef:
        """The same route for the aiohttp application.

        Args:
            max_body_bytes: The most bytes of a body, after decompression.
        """

        async def handle(request: web.Request) -> web.Response:
            answer = self.handler(await read_body(request, max_body_bytes), request.headers)
            if isinstance(answer, Deferred):
                await answer.after
                answer = answer.answer
            elif not isinstance(answer, Answer):
                answer = await answer
            return response(answer)

        return web.post(self.path, handle)


class FastPath:
    """Answers plain requests to fast routes, and hands all other connections over to aiohttp.

    Args:
        routes: The fast routes.
        lifecycle: Errors, log and metrics, as in the application.
        error_answer: Encodes problems in the protocol's error shape.
        cors_headers: Further headers for an ``Origin``, or for its absence.
        max_body_bytes: Requests with a larger body go to aiohttp.
        request_timeout_s: How long a request may be incomplete before aiohttp gets it. While the server stops, its
            connection is closed instead.
        keep_alive_s: How long a connection may be idle.
    """

    def __init__(
        self,
        routes: Sequence[FastRoute],
        lifecycle: RequestLifecycle,
        *,
        error_answer: Callable[[Problem], Answer],
        cors_headers: Callable[[str | None], Mapping[str, str]] = lambda _origin: {},
        max_body_bytes: int = MAX_BODY_BYTES,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self.routes = {route.path.encode(): route for route in routes}
        self.lifecycle = lifecycle
        self.error_answer = error_answer
        self.cors_headers = cors_headers
        self.max_body_bytes = max_body_bytes
        self.request_timeout_s = request_timeout_s
        self.keep_alive_s = keep_alive_s
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._drained = asyncio.Event()

    def before(self, server: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Makes protocols for new connections; `server` makes those for connections that are handed over."""
        return lambda: Connection(self, server)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed or handed over."""
        self.connections.discard(connection)
        if not self.connections:
            self._drained.set()

    async def drain(self, timeout_s: float) -> None:
        """Close connections when their requests are answered; those that take too long are cut."""
        self.is_draining = True
        for connection in tuple(self.connections):
            connection.close_when_idle()
        if self.connections:
            self._drained.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._drained.wait()
        if self.connections:
            log.warning("requests not answered in time", connections=len(self.connections))
        for connection in tuple(self.connections):
            connection.abort()


class _NotPlainError(Exception):
    """A request is for aiohttp."""


class Connection(asyncio.Protocol):
    """One connection on the fast path, until it closes or is handed over; at most one request is under way."""

    __slots__ = (
        *("_fast", "_server", "_loop", "_transport", "_parser", "_pieces", "_size", "_can_write"),
        *("_url", "_pairs", "_body", "_route", "_headers", "_is_complete", "_is_running"),
        *("_answer", "_task", "_started_s", "_timeout", "_keep_alive"),
    )

    def __init__(self, fast_path: FastPath, server: Callable[[], asyncio.Protocol]) -> None:
        self._fast = fast_path
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._pieces: list[bytes] = []  # what is not answered yet
        self._size = 0
        self._can_write = True
        self._url = b""
        self._pairs: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._route: FastRoute | None = None  # once the head is complete
        self._headers: Mapping[str, str] = {}
        self._is_complete = self._is_running = False
        self._answer: Answer | None = None  # goes out when the task is done
        self._task: asyncio.Future[Any] | None = None
        self._started_s = time.perf_counter()
        self._timeout: asyncio.TimerHandle | None = None  # of an incomplete request
        self._keep_alive: asyncio.TimerHandle | None = None

    # --- asyncio calls these ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        accepted = transport.get_extra_info("socket")
        if accepted is not None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._fast.is_draining:  # accepted at the last moment
            transport.close()
            return
        self._fast.connections.add(self)
        self._keep_alive = self._loop.call_later(self._fast.keep_alive_s, self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._leave()

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._pieces.append(data)
        if self._is_running:  # the client sends ahead
            transport.pause_reading()
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._hand_over()
            return
        if self._is_complete:
            self._begin()
        elif len(self._pieces) > MAX_PIECES or (self._route is None and self._size > MAX_HEAD_BYTES):
            self._hand_over()
        elif self._timeout is None:
            self._timeout = self._loop.call_later(self._fast.request_timeout_s, self._hand_over)

    def pause_writing(self) -> None:
        self._can_write = False
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._can_write = True
        has_sent_ahead = self._is_running and self._pieces
        if self._transport is not None and not has_sent_ahead and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- the parser calls these; what they raise comes out of it as an HttpParserError -------------

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise _NotPlainError  # pipelining
        self._url, self._pairs, self._body = b"", [], []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        text = value.decode("ascii").rstrip(" \t")
        if not text.isprintable():
            raise _NotPlainError
        self._pairs.append((name.decode("ascii"), text))

    def on_headers_complete(self) -> None:
        fast, parser = self._fast, self._parser
        route = fast.routes.get(self._url)
        if route is None or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            raise _NotPlainError
        names = {name.lower() for name, _ in self._pairs}
        if len(names) != len(self._pairs) or "host" not in names or not names.isdisjoint(_NOT_PLAIN):
            raise _NotPlainError
        headers = CIMultiDictProxy(CIMultiDict(self._pairs))
        if int(headers.get("Content-Length", "0")) > fast.max_body_bytes or not parser.should_keep_alive():
            raise _NotPlainError
        self._route, self._headers = route, headers

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._is_complete = True

    # --- requests ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Answer a complete request, if it is exactly what was received."""
        body = b"".join(self._body)
        received = b"".join(self._pieces)
        head_bytes = received.find(_END) + len(_END)
        if head_bytes > MAX_HEAD_BYTES or len(received) != head_bytes + len(body):
            self._hand_over()
            return
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        self._pieces, self._size, self._is_running = [], 0, True
        self._started_s = time.perf_counter()
        assert self._route is not None
        try:
            answer = self._route.handler(body, self._headers)
        except Exception as error:  # noqa: BLE001 - the error boundary: a bug becomes an answer
            self._fail(error)
            return
        if type(answer) is Answer:
            self._send(answer)
        elif type(answer) is Deferred:
            self._answer = answer.answer
            self._wait_for(answer.after)
        else:
            self._wait_for(cast(Awaitable[Answer], answer))

    def _wait_for(self, awaited: Awaitable[object]) -> None:
        self._task = awaited if isinstance(awaited, asyncio.Future) else start_task(awaited, name="request")
        self._task.add_done_callback(self._end)

    def _end(self, done: asyncio.Future[Any]) -> None:
        """The answer that was awaited is there, or what had to be done before it."""
        self._task = None
        answer, self._answer = self._answer, None
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            self._send(answer or done.result())
        elif isinstance(error, Exception):
            self._fail(error)
        else:  # the process ends
            self.abort()

    def _fail(self, error: Exception) -> None:
        assert self._route is not None
        request_id = sane_request_id(self._headers.get("X-Request-Id"))
        problem = self._fast.lifecycle.problem(error, self._route.path, request_id)
        answer = self._fast.error_answer(problem)
        headers = {**answer.headers, "X-Request-Id": request_id}
        self._send(Answer(answer.body, headers, answer.status, answer.reason), request_id)

    def _send(self, answer: Answer, request_id: str | None = None) -> None:
        route, headers, self._route = self._route, self._headers, None
        assert route is not None
        self._is_running = self._is_complete = False
        self._fast.lifecycle.ended(
            route.path,
            "POST",
            route.path,
            answer.status,
            self._started_s,
            lambda: request_id or sane_request_id(headers.get("X-Request-Id")),
        )
        transport = self._transport
        if transport is None or transport.is_closing():  # the client went away
            return
        transport.write(_encode(answer, self._fast.cors_headers(headers.get("Origin"))))
        if self._fast.is_draining:
            transport.close()
        elif self._pieces:  # it has sent ahead
            self._hand_over()

    # --- leaving ----------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Give the connection to aiohttp, with what is not answered yet in the pieces in which it came."""
        transport, pieces = self._transport, self._pieces
        if transport is None or transport.is_closing():
            return
        if self._fast.is_draining:  # aiohttp takes no more connections
            transport.close()
            return
        self._leave()
        transport.resume_reading()
        protocol = self._server()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not self._can_write:
            protocol.pause_writing()
        for piece in pieces:
            protocol.data_received(piece)

    def _leave(self) -> None:
        self._transport, self._pieces = None, []
        for timer in (self._timeout, self._keep_alive):
            if timer is not None:
                timer.cancel()
        self._fast.remove(self)

    def _close_idle(self) -> None:
        remaining_s = self._fast.keep_alive_s - (time.perf_counter() - self._started_s)
        if remaining_s <= 0 and not self._is_running and not self._pieces:
            self.close_when_idle()
        else:
            self._keep_alive = self._loop.call_later(max(remaining_s, 1.0), self._close_idle)

    def close_when_idle(self) -> None:
        """Close the connection, unless a request is under way or incomplete."""
        if self._transport is not None and not self._is_running and not self._pieces:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        if self._transport is not None:
            self._transport.abort()


def _encode(answer: Answer, cors_headers: Mapping[str, str]) -> bytes:
    """A response as bytes, exactly as aiohttp sends it."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    more = "".join(f"{name}: {value}\r\n" for name, value in cors_headers.items())
    common = _common_headers(int(time.time()))
    line = f"HTTP/1.1 {answer.status} {answer.reason or _PHRASES[answer.status]}\r\n"
    head = f"{line}{headers}Content-Length: {len(answer.body)}\r\n{common}{more}\r\n"
    return head.encode() + answer.body


@lru_cache(maxsize=1)
def _common_headers(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}\r\nServer: {SERVER_SOFTWARE}\r\n"
