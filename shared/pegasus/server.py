"""One port for HTTP and RPC, told apart by the first four bytes of a connection (specification §2.1).

Buffers are bounded on every side: an incomplete request is limited by its reader, and a client that sends
faster than it reads its answers, or faster than they can be made, is not read from until it catches up.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import structlog

from shared.pegasus.framing import MAGIC
from shared.pegasus.http_speaker import HttpSpeaker
from shared.pegasus.routes import Router
from shared.pegasus.rpc import Rpc, Shortcut
from shared.pegasus.rpc_speaker import Observer, RpcService, RpcSpeaker
from shared.pegasus.speaker import Speaker

__all__ = ["PegasusServer"]

log = structlog.get_logger("shared.pegasus.server")

MAX_UNSENT_BYTES = 4 * 1024 * 1024
DRAIN_TIMEOUT_S = 10.0


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
        self.service = RpcService(rpcs, observe, failed, shortcut if observe is None else None)
        self.connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._unflushed: list[RpcSpeaker] = []

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

    def flush_soon(self, speaker: RpcSpeaker) -> None:
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


class Connection(asyncio.Protocol):
    """One client: finds out what it speaks, and carries bytes for that speaker."""

    def __init__(self, server: PegasusServer) -> None:
        self.server = server
        self.peer = ""
        self.can_write = True
        self._transport: asyncio.Transport | None = None
        self._speaker: Speaker | None = None
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

    def _choose(self, first: bytes) -> Speaker | None:
        if first == MAGIC:
            return RpcSpeaker(self, self.server.service, self.server.flush_soon)
        if first in (b"GET ", b"POST") and self.server.router is not None:
            return HttpSpeaker(self, self.server.router)
        return None
