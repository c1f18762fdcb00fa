"""The express lane: plain requests to a few hot routes are answered without the cost of a whole HTTP framework.

A connection begins in the lane. As long as its requests are plain (`shared.hot_heads`) and go to a hot route, they
are answered here, one after the other. The first request that is anything else takes the connection, with all bytes
that are not answered yet, over to aiohttp for the rest of its life. So aiohttp stays the only implementation of
everything unusual, and the hot routes must exist there too, with the same answers.

Buffers are bounded: a connection holds at most one large head and body and what one read brings; a client that sends
faster than it is answered, or than it reads, is not read from until it catches up.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE

from shared.errors import Problem
from shared.hot_heads import MAX_HEAD_BYTES, HotHead, HotHeads
from shared.manners import Answer, Manners, sane_request_id
from shared.web import read_body, response

log = structlog.get_logger("shared.express")

MAX_BODY_BYTES = 64 * 1024
PATIENCE_S = 2.0
KEEP_ALIVE_S = 3630.0
"""As long as aiohttp keeps an idle connection: longer than the proxies before it do."""

_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Later:
    """An answer that goes out when something else is done.

    Attributes:
        answer: The answer.
        after: What must be done before; when it fails, its error is the answer.
    """

    answer: Answer
    after: Awaitable[object]


Handler = Callable[[bytes, Mapping[str, str]], "Answer | Later | Awaitable[Answer]"]
"""Answers a body and headers, at once or later; raises what `Manners` can make a problem of."""


@dataclass(frozen=True, slots=True)
class HotRoute:
    """A path whose POST requests the lane answers.

    Attributes:
        path: The path, exactly; metrics name the route by it.
        handler: Answers a request.
    """

    path: str
    handler: Handler

    def full(self, max_body_bytes: int) -> web.RouteDef:
        """The same route for the aiohttp application beside the lane.

        Args:
            max_body_bytes: The most bytes of a body, after decompression.
        """

        async def handle(request: web.Request) -> web.Response:
            answer = self.handler(await read_body(request, max_body_bytes), request.headers)
            if isinstance(answer, Later):
                await answer.after
                answer = answer.answer
            elif not isinstance(answer, Answer):
                answer = await answer
            return response(answer)

        return web.post(self.path, handle)


class ExpressLane:
    """Answers plain requests to hot routes, and gives away all other connections.

    Args:
        routes: The hot routes.
        manners: What the lane has in common with the application beside it.
        error_answer: Encodes problems in the protocol's error shape.
        cors_headers: Further headers for an ``Origin``, or for its absence.
        max_body_bytes: Requests with a larger body go to aiohttp.
        patience_s: How long an incomplete request may wait here, before aiohttp's own time limit for it begins.
        keep_alive_s: How long a connection may be idle.
    """

    def __init__(
        self,
        routes: Sequence[HotRoute],
        manners: Manners,
        *,
        error_answer: Callable[[Problem], Answer],
        cors_headers: Callable[[str | None], Mapping[str, str]] = lambda _origin: {},
        max_body_bytes: int = MAX_BODY_BYTES,
        patience_s: float = PATIENCE_S,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self.heads = HotHeads({route.path: route for route in routes}, max_body_bytes=max_body_bytes)
        self.manners = manners
        self.error_answer = error_answer
        self.encoder = _Encoder(cors_headers)
        self.max_waiting_bytes = max_body_bytes + MAX_HEAD_BYTES
        self.patience_s = patience_s
        self.keep_alive_s = keep_alive_s
        self.connections: set[_Connection] = set()
        self.is_draining = False
        self._server: Callable[[], asyncio.Protocol] | None = None

    def before(self, server: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Makes protocols for new connections; `server` makes those for connections that leave the lane."""
        self._server = server
        return lambda: _Connection(self)

    def full_protocol(self) -> asyncio.Protocol:
        """A protocol for a connection that leaves the lane."""
        assert self._server is not None
        return self._server()

    async def drain(self, timeout_s: float) -> None:
        """Close connections when their requests are answered; those that take too long are cut."""
        self.is_draining = True
        closed = [connection.drain() for connection in tuple(self.connections)]
        if closed:
            _, late = await asyncio.wait(closed, timeout=timeout_s)
            if late:
                log.warning("requests were still unanswered", connections=len(late))
        for connection in tuple(self.connections):
            connection.abort()


class _Encoder:
    """Answers as bytes, as aiohttp would send them; what is the same for many is made once."""

    def __init__(self, cors_headers: Callable[[str | None], Mapping[str, str]]) -> None:
        self._cors_headers = cors_headers
        self._starts: dict[int, tuple[Mapping[str, str], bytes]] = {}
        self._ends: dict[str | None, bytes] = {}
        self._second = 0
        self._date = b""

    def encode(self, answer: Answer, origin: str | None) -> bytes:
        """The whole answer to a request with this ``Origin``."""
        body = answer.body
        return b"%b%d%b%b%b" % (self._start(answer), len(body), self._date_line(), self._end(origin), body)

    def _start(self, answer: Answer) -> bytes:
        if answer.status != 200:
            return _start(answer)
        known = self._starts.get(id(answer.headers))
        if known is None:
            if len(self._starts) >= 16:
                self._starts.clear()
            known = self._starts[id(answer.headers)] = (answer.headers, _start(answer))
        return known[1]

    def _date_line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            date = formatdate(second, usegmt=True)
            self._date = f"\r\nDate: {date}\r\nServer: {SERVER_SOFTWARE}\r\n".encode()
        return self._date

    def _end(self, origin: str | None) -> bytes:
        end = self._ends.get(origin)
        if end is None:
            if len(self._ends) >= 256:
                self._ends.clear()
            end = self._ends[origin] = _lines(self._cors_headers(origin)) + b"\r\n"
        return end


def _start(answer: Answer) -> bytes:
    line = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n".encode()
    return line + _lines(answer.headers) + b"Content-Length: "


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


class _Connection(asyncio.Protocol):
    """One client in the lane; at most one of its requests is under way."""

    __slots__ = (
        *("_lane", "_loop", "_transport", "_waiting", "_head", "_answer", "_started_s", "_can_write"),
        *("_reads", "_patience", "_keep_alive", "_drained"),
    )

    def __init__(self, lane: ExpressLane) -> None:
        self._lane = lane
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting = b""
        self._head: HotHead[HotRoute] | None = None  # of the request under way
        self._answer: Answer | None = None
        self._started_s = time.perf_counter()
        self._can_write = True
        self._reads = True
        self._patience: asyncio.TimerHandle | None = None
        self._keep_alive: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None

    # --- asyncio calls these ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        accepted = transport.get_extra_info("socket")
        if accepted is not None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self._lane.is_draining:  # it was accepted in the last moment
            self.close()
            return
        self._lane.connections.add(self)
        self._keep_alive = self._loop.call_later(self._lane.keep_alive_s, self._close_when_idle)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._leave()
        self._transport = None
        self._waiting = b""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._waiting = self._waiting + data if self._waiting else data
        if self._head is None and self._can_write:
            self._proceed()
        elif len(self._waiting) > self._lane.max_waiting_bytes:
            self._read_on(False)

    def pause_writing(self) -> None:
        self._can_write = False

    def resume_writing(self) -> None:
        self._can_write = True
        if self._head is None:
            self._proceed()

    # --- requests ---------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Answer what is complete, as long as the client reads the answers."""
        heads = self._lane.heads
        while self._waiting and self._head is None and self._can_write and self._transport is not None:
            waiting = self._waiting
            head_end = waiting.find(_END, 0, MAX_HEAD_BYTES)
            if head_end < 0:
                if heads.may_become_plain(waiting):
                    self._wait()
                else:
                    self._hand_over()
                return
            head = heads.read(waiting[:head_end])
            if head is None:
                self._hand_over()
                return
            begin = head_end + len(_END)
            end = begin + head.body_bytes
            if len(waiting) < end:
                self._wait()
                return
            self._waiting = waiting[end:]
            self._begin(head, waiting[begin:end])
        if not self._reads:
            self._read_on(True)

    def _begin(self, head: HotHead[HotRoute], body: bytes) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._head = head
        self._started_s = time.perf_counter()
        try:
            answer = head.route.handler(body, head.headers)
        except Exception as error:  # noqa: BLE001 - the error boundary: a bug becomes an answer
            self._fail(error)
            return
        if type(answer) is Answer:
            self._send(answer)
        elif type(answer) is Later:
            self._answer = answer.answer
            asyncio.ensure_future(answer.after).add_done_callback(self._end)
        else:
            asyncio.ensure_future(cast(Awaitable[Answer], answer)).add_done_callback(self._end)

    def _end(self, done: asyncio.Future[Any]) -> None:
        """The answer that was awaited is there, or what must be done before it."""
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            answer, self._answer = self._answer, None
            self._send(answer or done.result())
        elif isinstance(error, Exception):
            self._answer = None
            self._fail(error)
        else:  # the process ends
            self.abort()
            return
        if self._waiting:
            self._proceed()

    def _fail(self, error: Exception) -> None:
        assert self._head is not None
        request_id = sane_request_id(self._head.headers.get("X-Request-Id"))
        problem = self._lane.manners.problem(error, self._head.route.path, request_id)
        answer = self._lane.error_answer(problem)
        self._send(Answer(answer.body, {**answer.headers, "X-Request-Id": request_id}, answer.status), request_id)

    def _send(self, answer: Answer, request_id: str | None = None) -> None:
        head, self._head = self._head, None
        assert head is not None
        path, headers = head.route.path, head.headers
        self._lane.manners.ended(
            path,
            "POST",
            path,
            answer.status,
            self._started_s,
            lambda: request_id or sane_request_id(headers.get("X-Request-Id")),
        )
        if self._transport is None:  # the client went away
            return
        self._transport.write(self._lane.encoder.encode(answer, headers.get("Origin")))
        if self._drained is not None:
            self._waiting = b""
            self.close()

    # --- waiting, and leaving ---------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for the rest of a request, but not for long."""
        if self._patience is None:
            self._patience = self._loop.call_later(self._lane.patience_s, self._hand_over)
        if not self._reads:
            self._read_on(True)

    def _hand_over(self) -> None:
        """Give the connection to aiohttp with all that is not answered yet."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._drained is not None:  # aiohttp takes no more connections
            transport.close()
            return
        self._leave()
        self._read_on(True)
        waiting, self._waiting, self._transport = self._waiting, b"", None
        protocol = self._lane.full_protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not self._can_write:
            protocol.pause_writing()
        protocol.data_received(waiting)

    def _leave(self) -> None:
        self._lane.connections.discard(self)
        for timer in (self._patience, self._keep_alive):
            if timer is not None:
                timer.cancel()

    def _close_when_idle(self) -> None:
        idle_s = time.perf_counter() - self._started_s
        left_s = self._lane.keep_alive_s - idle_s
        if self._head is None and not self._waiting and left_s <= 0:
            self.close()
        else:
            self._keep_alive = self._loop.call_later(max(left_s, 1.0), self._close_when_idle)

    def _read_on(self, reads: bool) -> None:
        if self._transport is not None and reads != self._reads and not self._transport.is_closing():
            self._reads = reads
            if reads:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def drain(self) -> asyncio.Future[None]:
        """Take no more requests than the one that has begun to come; done when the connection is closed."""
        self._drained = self._loop.create_future()
        if self._transport is None:
            self._drained.set_result(None)
        elif self._head is None and not self._waiting:
            self.close()
        return self._drained

    def close(self) -> None:
        """End the connection when everything written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()
