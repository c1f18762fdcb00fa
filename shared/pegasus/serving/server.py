"""One port for HTTP and RPC, told apart by the first four bytes of a connection (protocol §2.1).

Buffers are bounded on every side: an incomplete request is limited by its reader, and a client that sends
faster than it reads its answers, or faster than they can be made, is not read from until it catches up.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import structlog

from shared.pegasus.serving.accepting import Acceptor, ConnectionLimit
from shared.pegasus.serving.deadlines import RPC_IDLE_S, Deadlines, Progress
from shared.pegasus.serving.http import HttpHandler, HttpServer
from shared.pegasus.serving.protocol import ProtocolHandler
from shared.pegasus.serving.rpc import FastPath, Rpc
from shared.pegasus.serving.rpc_protocol import Observer, RpcHandler, RpcService
from shared.pegasus.wire.framing import MAGIC

__all__ = ["PegasusServer"]

log = structlog.get_logger("shared.pegasus.serving.server")

MAX_UNSENT_BYTES = 4 * 1024 * 1024
MAX_ALL_UNSENT_BYTES = 512 * 1024 * 1024
"""The most unsent bytes of all clients together."""
DRAIN_TIMEOUT_S = 10.0
CHECK_S = 5.0
"""How often the timeouts of connections are checked."""
WORKERS = 2
"""Threads for requests and answers that are large: more would take more of the interpreter from the event loop."""
SWITCH_INTERVAL_S = 0.001
"""The event loop waits at most this long for a worker that has the interpreter, and a worker for the event loop."""


class PegasusServer:
    """Serves an HTTP application and a table of RPC codes on the same sockets.

    Args:
        http: Runs the application; None when HTTP is disabled.
        rpcs: What each RPC code does.
        observe: Called for every answered RPC, for metrics.
        failed: Called with the code and the error name of every RPC that is answered with an error.
        fast_path: Tried for every request before the table; not used while RPCs are observed.
        limit: The most connections; by default the limit of the process, less a reserve for files.
    """

    def __init__(
        self,
        http: HttpServer | None,
        rpcs: Mapping[str, Rpc[Any, Any]],
        *,
        observe: Observer | None = None,
        failed: Callable[[str, str], None] = lambda _code, _error: None,
        fast_path: FastPath | None = None,
        limit: ConnectionLimit | None = None,
    ) -> None:
        self.http = http
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="rpc")
        self.service = RpcService(rpcs, observe, failed, fast_path if observe is None else None, self._workers)
        self.connections: set[Connection] = set()
        self._paused: set[Connection] = set()
        self._limit = limit
        self._acceptor: Acceptor | None = None
        self._checking: asyncio.TimerHandle | None = None
        self._unflushed: list[RpcHandler] = []

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Accept connections on bound sockets."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        if self.http is not None:
            await self.http.start()
        self._acceptor = Acceptor(
            lambda: Connection(self),
            tls,
            self._limit or ConnectionLimit(),
            lambda: len(self.connections),
            self._close_idle,
        )
        self._acceptor.start(sockets)
        self._check_later()

    def _check_later(self) -> None:
        self._checking = asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def _check(self) -> None:
        """Close connections that have exceeded a timeout."""
        self._check_later()
        now_s = time.monotonic()
        for connection in tuple(self.connections):
            connection.check(now_s)

    def _close_idle(self) -> bool:
        """Close some idle connections, those that have been idle longest.

        Connections that have never sent anything come first, however old they are.
        """
        idle = [connection for connection in self.connections if connection.is_idle()]
        idle.sort(key=lambda connection: (connection.received_anything, connection.deadlines.idle_since_s))
        for connection in idle[: max(1, len(idle) // 100)]:
            log.info("connection closed", peer=connection.peer, reason="idle, and others need the room")
            connection.abort()
        return bool(idle)

    def paused(self, connection: Connection) -> None:
        """A client reads too slowly; those with most unsent bytes are closed when all together exceed the limit."""
        self._paused.add(connection)
        while sum(paused.unsent_bytes for paused in self._paused) > MAX_ALL_UNSENT_BYTES:
            slowest = max(self._paused, key=lambda paused: paused.unsent_bytes)
            log.warning("connection closed", peer=slowest.peer, reason="too much waits to be sent to clients")
            self._paused.discard(slowest)
            slowest.abort()

    def resumed(self, connection: Connection) -> None:
        """A client has caught up, or is gone."""
        self._paused.discard(connection)

    async def drain(self) -> None:
        """Stop accepting, answer requests in flight (at most 10 s), close every connection."""
        if self._acceptor is not None:
            self._acceptor.close()
        if self._checking is not None:
            self._checking.cancel()
        closed = [connection.drain() for connection in tuple(self.connections)]
        if closed:
            _, late = await asyncio.wait(closed, timeout=DRAIN_TIMEOUT_S)
            if late:
                log.warning("requests were still unanswered", connections=len(late))
        for connection in tuple(self.connections):
            connection.abort()
        if self.http is not None:
            await self.http.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def flush_soon(self, handler: RpcHandler) -> None:
        """Flush a handler at the end of this iteration of the event loop, after those of all other connections.

        Sends in a row find the clients awake; single sends would wake them one by one.
        """
        if not self._unflushed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unflushed.append(handler)

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for handler in unflushed:
            handler.flush()


class Connection(asyncio.Protocol):
    """One client connection: detects its protocol and carries bytes for the protocol handler."""

    def __init__(self, server: PegasusServer) -> None:
        self.server = server
        self.peer = ""
        self.can_write = True
        self._transport: asyncio.Transport | None = None
        self._handler: ProtocolHandler | None = None
        self._first = b""
        self._reads = True
        self._ended = False
        self._received = 0
        self.deadlines = Deadlines(time.monotonic())
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
        self.server.resumed(self)
        if self._handler is not None:
            self._handler.close()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._received += 1
        if self._handler is None:
            self._first += data
            if len(self._first) < 4:
                return
            self._handler = self._choose(self._first[:4], self._transport)
            if self._handler is None:
                log.debug("connection closed", peer=self.peer, reason="no known protocol")
                self.close()
                return
            data, self._first = self._first, b""
        self._handler.receive(data)

    def eof_received(self) -> bool:
        self._ended = True
        return self._handler is not None and self._handler.ended()  # keep open to send what is owed

    def pause_writing(self) -> None:
        self.can_write = False
        self.server.paused(self)
        if self._handler is not None:
            self._handler.pause()

    def resume_writing(self) -> None:
        self.can_write = True
        self.server.resumed(self)
        if self._handler is not None:
            self._handler.proceed()

    # protocol handlers call these

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def set_reading(self, reads: bool) -> None:
        """Pause or resume reading."""
        if self._transport is None or reads == self._reads or self._transport.is_closing():
            return
        self._reads = reads
        if reads:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    @property
    def is_ending(self) -> bool:
        """Whether the client has ended its input, or the server stops."""
        return self._ended or self._drained is not None

    def all_answered(self) -> None:
        """Everything received has been answered."""
        if self.is_ending:
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    @property
    def received_anything(self) -> bool:
        """Whether its client has sent anything."""
        return self._received > 0

    def is_idle(self) -> bool:
        """Whether no request is under way and nothing is unsent."""
        return (self._handler is None or self._handler.is_idle()) and not self.unsent_bytes

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def check(self, now_s: float) -> None:
        """Close the connection if it has exceeded a timeout."""
        handler, unsent = self._handler, self.unsent_bytes
        if handler is None:
            progress, idle_s = Progress(received=self._received, is_partial=self.received_anything), RPC_IDLE_S
        else:
            is_owed = not (self._reads and handler.is_idle())
            progress = Progress(handler.requests(), self._received, handler.is_partial(), is_owed, unsent)
            idle_s = handler.idle_s
        reason = self.deadlines.check(now_s, progress, idle_s)
        if reason is not None:
            log.info("connection closed", peer=self.peer, reason=reason)
            self.abort()

    def drain(self) -> asyncio.Future[None]:
        """Accept no more requests; the future is done when the connection is closed."""
        self._drained = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._drained.set_result(None)
        elif self._handler is None or self._handler.is_idle():
            self.close()
        else:
            self.set_reading(False)
        return self._drained

    def _choose(self, first: bytes, transport: asyncio.Transport | None) -> ProtocolHandler | None:
        if first == MAGIC:
            return RpcHandler(self, self.server.service, self.server.flush_soon)
        http = self.server.http
        if first in (b"GET ", b"POST") and http is not None and transport is not None:
            return HttpHandler(self, transport, http, self.server.service.load)
        return None
