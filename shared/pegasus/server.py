"""One port for HTTP and RPC, told apart by the first four bytes of a connection (specification §2.1).

Buffers are bounded on every side: an incomplete request is limited by its reader, and a client that sends
faster than it reads its answers, or faster than they can be made, is not read from until it catches up.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import secrets
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import structlog

from shared.errors import Problem
from shared.pegasus.errors import ErrorCode, RpcError
from shared.pegasus.framing import MAGIC, Request, RequestReader, encode_error, encode_reply
from shared.pegasus.http import HttpReader, HttpRequest, Response
from shared.pegasus.routes import Router
from shared.pegasus.rpc import NO_REPLY, Pending, Rpc, Shortcut
from shared.pegasus.thrift import ThriftError

__all__ = ["Observer", "PegasusServer"]

log = structlog.get_logger("shared.pegasus.server")

MAX_IN_FLIGHT = 4096
MAX_WAITING_HTTP = 256
MAX_UNSENT_BYTES = 4 * 1024 * 1024
FLUSH_BYTES = 256 * 1024
DRAIN_TIMEOUT_S = 10.0

Observer = Callable[[str, int, int, int], None]
"""Told about every answered RPC: code, request bytes, reply bytes, nanoseconds from arrival to answer."""


class PegasusServer:
    """Serves a table of HTTP routes and a table of RPC codes on the same sockets.

    Args:
        router: The HTTP routes; None when HTTP is disabled.
        rpcs: What each RPC code does.
        observe: Told about every answered RPC, for metrics.
        failed: Told the code of every RPC that is answered with an error, and the error.
        shortcut: Is offered every request before the table is; not used while everything is observed.
    """

    def __init__(
        self,
        router: Router | None,
        rpcs: Mapping[str, Rpc[Any, Any]],
        *,
        observe: Observer | None = None,
        failed: Callable[[str, str], None] = lambda _code, _error: None,
        shortcut: Shortcut | None = None,
    ) -> None:
        self.router = router
        self.rpcs = rpcs
        self.observe = observe
        self.failed = failed
        self.shortcut = shortcut if observe is None else None
        self.connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._unflushed: list[_RpcSpeaker] = []

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Accept connections on bound sockets."""
        loop = asyncio.get_running_loop()
        for bound in sockets:
            self._servers.append(await loop.create_server(lambda: Connection(self), sock=bound, ssl=tls))

    async def drain(self) -> None:
        """Stop accepting, answer what is in flight (at most 10 s), close every connection."""
        for server in self._servers:
            server.close()
        closed = [connection.drain() for connection in tuple(self.connections)]
        if closed:
            _, late = await asyncio.wait(closed, timeout=DRAIN_TIMEOUT_S)
            if late:
                log.warning("requests were still unanswered", connections=len(late))
        for connection in tuple(self.connections):
            connection.abort()

    def flush_soon(self, speaker: _RpcSpeaker) -> None:
        """Let a speaker send at the end of this turn of the loop, after all others have said what they have to say.

        One send after the other finds the clients awake; one now and then wakes them one by one.
        """
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.append(speaker)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for speaker in unflushed:
            speaker.flush()


class _Speaker(Protocol):
    """The protocol that a connection turned out to speak."""

    def receive(self, data: bytes) -> None: ...

    def proceed(self) -> None: ...

    def is_idle(self) -> bool: ...

    def close(self) -> None: ...


class Connection(asyncio.Protocol):
    """One client: finds out what it speaks, and carries bytes for that speaker."""

    def __init__(self, server: PegasusServer) -> None:
        self.server = server
        self.peer = ""
        self.can_write = True
        self._transport: asyncio.Transport | None = None
        self._speaker: _Speaker | None = None
        self._first = b""
        self._reads = True
        self._ended = False
        self._drained: asyncio.Future[None] | None = None

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._transport.set_write_buffer_limits(MAX_UNSENT_BYTES)
        name = transport.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else ""
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self.server.connections.discard(self)
        if self._speaker is not None:
            self._speaker.close()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._speaker is None:
            self._first += data
            if len(self._first) < 4:
                return
            self._speaker = self._choose(self._first[:4])
            if self._speaker is None:
                log.debug("connection closed", peer=self.peer, reason="no known protocol")
                self.close()
                return
            data, self._first = self._first, b""
        self._speaker.receive(data)

    def eof_received(self) -> bool:
        self._ended = True
        return self._speaker is not None and not self._speaker.is_idle()  # keep open to send what is owed

    def pause_writing(self) -> None:
        self.can_write = False

    def resume_writing(self) -> None:
        self.can_write = True
        if self._speaker is not None:
            self._speaker.proceed()

    # speakers call these

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def read_on(self, reads: bool) -> None:
        """Take more from the client, or let it wait."""
        if self._transport is None or reads == self._reads or self._transport.is_closing():
            return
        self._reads = reads
        if reads:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def settled(self) -> None:
        """Everything received has been answered."""
        if self._ended or self._drained is not None:
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def drain(self) -> asyncio.Future[None]:
        """Take no more requests; the future is done when the connection is closed."""
        self._drained = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._drained.set_result(None)
        elif self._speaker is None or self._speaker.is_idle():
            self.close()
        else:
            self.read_on(False)
        return self._drained

    def _choose(self, first: bytes) -> _Speaker | None:
        if first == MAGIC:
            return _RpcSpeaker(self)
        if first in (b"GET ", b"POST") and self.server.router is not None:
            return _HttpSpeaker(self, self.server.router)
        return None


class _RpcSpeaker:
    """Answers RPC requests, each as soon as its answer is there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reader = RequestReader()
        self._rpcs = connection.server.rpcs
        self._observe = connection.server.observe
        self._shortcut = connection.server.shortcut
        self._waiting: deque[Request] = deque()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._pending = 0
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._flushes = False

    def receive(self, data: bytes) -> None:
        if self._shortcut is not None and not (self._waiting or self._reader.is_busy):
            data = self._take(self._shortcut, data)
            if not data:
                return
        self._waiting.extend(self._reader.feed(data))
        self.proceed()

    def _take(self, shortcut: Shortcut, data: bytes) -> bytes:
        """Let the shortcut have the first requests, as many as it takes; what is left for the table."""
        position, size = 0, len(data)
        self._flushes = True
        while position < size and self._connection.can_write and len(self._tasks) + self._pending < MAX_IN_FLIGHT:
            self._pending += 1
            try:
                stop = shortcut(data, position, self)
            except Exception:  # noqa: BLE001 - the table fails too, and says so
                stop = 0
            if not stop:
                self._pending -= 1
                break
            position = stop
            if self._unsent_bytes >= FLUSH_BYTES:
                self._flush()
        self._flushes = False
        if self._unsent:
            self._flush()
        return data[position:] if position < size else b""

    def answer(self, reply: bytes) -> None:
        """Reply to what a shortcut took."""
        self._pending -= 1
        self._unsent.append(reply)
        self._unsent_bytes += len(reply)
        if not self._flushes:
            self._flushes = True
            self._connection.server.flush_soon(self)
        if self._waiting:
            self.proceed()

    def refuse(self, code: str, seqid: int, error: Exception) -> None:
        """Reply with an error to what a shortcut took."""
        self._pending -= 1
        self._fail(Request(code, seqid, 0, 0, 0, 0, False, b"", self._connection.peer), error, 0)
        self._go_on()

    def proceed(self) -> None:
        waiting, connection = self._waiting, self._connection
        self._flushes = True
        while waiting and connection.can_write and len(self._tasks) + self._pending < MAX_IN_FLIGHT:
            self._answer(waiting.popleft())
            if self._unsent_bytes >= FLUSH_BYTES:
                self._flush()
        self._flushes = False
        self._flush()
        connection.read_on(not waiting and self._reader.error is None)
        if self.is_idle():
            self._settle()

    def _settle(self) -> None:
        if self._reader.error is not None:
            log.debug("connection closed", peer=self._connection.peer, reason=self._reader.error)
            self._connection.close()
        else:
            self._connection.settled()

    def is_idle(self) -> bool:
        return not (self._waiting or self._tasks or self._pending)

    def close(self) -> None:
        """The client is gone: what it asked for is still done, its answers go nowhere."""
        self._waiting.clear()

    def _flush(self) -> None:
        unsent = self._unsent
        if unsent:
            self._connection.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))
            unsent.clear()
            self._unsent_bytes = 0

    def _answer(self, request: Request) -> None:
        started = time.perf_counter_ns() if self._observe is not None else 0
        rpc = self._rpcs.get(request.code)
        if rpc is None:
            self._send(request, encode_error(request.code, request.seqid, ErrorCode.ERR_HANDLER_NOT_FOUND), started)
            return
        request.peer = self._connection.peer
        try:
            answer = rpc.function(rpc.decode(request.arguments), request)
            if isinstance(answer, Pending):
                self._pending += 1
                answer.listener = functools.partial(self._answered, request, rpc, started)
            elif isinstance(answer, asyncio.Future):
                self._await(answer, request, rpc, started)
            elif inspect.isawaitable(answer):
                self._await(asyncio.ensure_future(answer), request, rpc, started)
            else:
                self._finish(request, rpc, answer, started)
        except Exception as error:  # noqa: BLE001 - the error boundary: a bug in one answer must not end the daemon
            self._fail(request, error, started)

    def _answered(
        self, request: Request, rpc: Rpc[Any, Any], started: int, answer: Any, error: Exception | None
    ) -> None:
        self._pending -= 1
        try:
            if error is not None:
                self._fail(request, error, started)
            else:
                self._finish(request, rpc, answer, started)
        except Exception as bug:  # noqa: BLE001 - the error boundary, as above
            self._fail(request, bug, started)
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting:
            self.proceed()
        elif not (self._flushes or self._tasks or self._pending):
            self._settle()

    def _await(self, answer: asyncio.Future[Any], request: Request, rpc: Rpc[Any, Any], started: int) -> None:
        self._tasks.add(answer)

        def done(answer: asyncio.Future[Any]) -> None:
            self._tasks.discard(answer)
            try:
                self._finish(request, rpc, answer.result(), started)
            except asyncio.CancelledError:
                self._fail(request, RpcError(ErrorCode.ERR_SERVICE_NOT_ACTIVE), started)
            except Exception as error:  # noqa: BLE001 - the error boundary, as above
                self._fail(request, error, started)
            self._go_on()

        answer.add_done_callback(done)

    def _finish(self, request: Request, rpc: Rpc[Any, Any], answer: Any, started: int) -> None:
        if rpc.encode is None or answer is NO_REPLY:
            return
        self._send(request, encode_reply(request.code, request.seqid, rpc.encode(answer)), started)

    def _fail(self, request: Request, error: Exception, started: int) -> None:
        if isinstance(error, RpcError):
            name = error.code
        elif isinstance(error, ThriftError):
            log.info("unreadable request", peer=request.peer, code=request.code, reason=str(error))
            name = ErrorCode.ERR_INVALID_DATA
        else:
            log.error("an RPC failed", peer=request.peer, code=request.code, exc_info=error)
            name = ErrorCode.ERR_UNKNOWN
        self._connection.server.failed(request.code, name)
        rpc = self._rpcs[request.code]
        if rpc.encode is not None:
            self._send(request, encode_error(request.code, request.seqid, name), started)

    def _send(self, request: Request, reply: bytes, started: int) -> None:
        if self._observe is not None:
            self._observe(request.code, len(request.arguments), len(reply), time.perf_counter_ns() - started)
        self._add(reply)

    def _add(self, reply: bytes) -> None:
        self._unsent.append(reply)
        self._unsent_bytes += len(reply)
        if not self._flushes:
            self._flushes = True
            self._connection.server.flush_soon(self)

    def flush(self) -> None:
        """Send together what was answered in one turn of the loop."""
        self._flushes = False
        self._flush()
        if not (self._pending or self._waiting or self._tasks):
            self._settle()


class _HttpSpeaker:
    """Answers HTTP requests one after the other, in the order in which they came (§2.1)."""

    def __init__(self, connection: Connection, router: Router) -> None:
        self._connection = connection
        self._router = router
        self._reader = HttpReader()
        self._waiting: deque[HttpRequest] = deque()
        self._task: asyncio.Task[None] | None = None

    def receive(self, data: bytes) -> None:
        self._waiting.extend(self._reader.feed(data))
        if self._reader.wants_continue and not self._waiting and self._task is None:
            self._reader.wants_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.proceed()

    def proceed(self) -> None:
        connection = self._connection
        if self._task is None and self._waiting and connection.can_write:
            self._task = asyncio.ensure_future(self._answer_waiting())
        elif self._task is None and self._reader.error is not None:
            log.debug("connection closed", peer=connection.peer, reason=self._reader.error)
            connection.close()
        connection.read_on(connection.can_write and len(self._waiting) < MAX_WAITING_HTTP and not self._reader.error)

    def is_idle(self) -> bool:
        return self._task is None

    def close(self) -> None:
        """The client is gone: the answer under way is finished, the rest is dropped."""
        self._waiting.clear()

    async def _answer_waiting(self) -> None:
        while self._waiting and self._connection.can_write:
            request = self._waiting.popleft()
            response = await self._answer(request)
            self._connection.write(response.encode())
        self._task = None
        if self._waiting or self._reader.error:
            self.proceed()
        else:
            self._connection.settled()

    async def _answer(self, request: HttpRequest) -> Response:
        started = time.perf_counter()
        try:
            response = self._router.find(request)(request)
            if not isinstance(response, Response):
                response = await response
        except Problem as problem:
            response = Response.text(problem.message, problem.status)
        except Exception as error:
            request_id = secrets.token_hex(8)
            log.error("an HTTP call failed", path=request.path, request_id=request_id, exc_info=error)
            response = Response.text(f"internal error, request id {request_id}", 500)
        log.debug(
            "request",
            method=request.method,
            target=request.target,
            status=response.status,
            bytes=len(response.body),
            ms=round((time.perf_counter() - started) * 1000, 3),
            peer=self._connection.peer,
        )
        return response
