"""Asking a Pegasus server over RPC.

`RpcConnection` is one TCP connection with many requests in flight; `RpcConnections` keeps one to each server
that is asked and opens it again after a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from shared.pegasus.wire.errors import ErrorCode, RpcError, UnreachableError
from shared.pegasus.wire.framing import FramingError, Reply, ReplyReader, encode_request
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.thrift import Codec, ThriftError, codec_of
from shared.tasks import start_task

__all__ = ["Call", "RpcConnection", "RpcConnections"]

Q = TypeVar("Q")
R = TypeVar("R")

CONNECT_TIMEOUT_S = 5.0
LARGE_BYTES = 256 * 1024
"""An answer with more bytes is decoded in a worker thread, so that the event loop serves on meanwhile."""
DEAD_HOST_S = 5
"""How long a host may fail to confirm that it received anything, until its connection is held for broken."""


class Call:
    """An RPC code with the types of its request and response, as `structures` declares them."""

    __slots__ = ("code", "request", "response")

    def __init__(self, code: str, request: Any, response: Any) -> None:
        self.code = code
        self.request: Codec[Any] = codec_of(request)
        self.response: Codec[Any] = codec_of(response)


class RpcConnection(asyncio.Protocol):
    """One connection to a server; `open` makes it.

    Raises from every call:
        RpcError: The server's error, `ERR_TIMEOUT` when it does not answer in time, `ERR_NETWORK_FAILURE`
            when it cannot be reached or the connection breaks.
    """

    def __init__(self, *, speaks_tls: bool = False) -> None:
        self._speaks_tls = speaks_tls
        self._was_answered = False
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._seqids = itertools.count(1)
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(
        cls, server: HostPort, timeout_s: float = CONNECT_TIMEOUT_S, tls: ssl.SSLContext | None = None
    ) -> RpcConnection:
        """Connect to a server, over TLS if there is a context for it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: cls(speaks_tls=tls is not None), server.host, server.port, ssl=tls
                )
        except (OSError, TimeoutError) as error:
            reason = _reason(error, timeout_s)
            if tls is not None and isinstance(error, ConnectionError | ssl.SSLError):
                reason = f"no TLS connection: {reason}"
            raise UnreachableError(f"cannot connect to {server}: {reason}") from error
        return connection

    @property
    def is_open(self) -> bool:
        """Whether requests can still be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def call(
        self,
        call: Call,
        value: Any,
        timeout_s: float,
        *,
        app_id: int = 0,
        partition_index: int = 0,
        partition_hash: int = 0,
        is_backup_request: bool = False,
    ) -> Any:
        """Send a request and return its result."""
        timeout_ms = max(1, int(timeout_s * 1000))
        seqid = next(self._seqids) & 0x7FFF_FFFF
        arguments = call.request.encode_field(value, 1)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._writable.wait()
                if self._transport is None or self._transport.is_closing():
                    raise UnreachableError("the connection is closed")
                self._waiting[seqid] = reply
                self._transport.write(
                    encode_request(
                        call.code,
                        seqid,
                        arguments,
                        app_id=app_id,
                        partition_index=partition_index,
                        timeout_ms=timeout_ms,
                        partition_hash=partition_hash,
                        is_backup_request=is_backup_request,
                    )
                )
                answered = await reply
        except TimeoutError as error:
            raise RpcError(ErrorCode.ERR_TIMEOUT, f"no answer to {call.code} within {timeout_s:g} s") from error
        finally:
            self._waiting.pop(seqid, None)
        if answered.error != ErrorCode.ERR_OK:
            raise RpcError(answered.error, f"{call.code} was refused")
        try:
            if len(answered.result) > LARGE_BYTES:
                return await asyncio.to_thread(call.response.decode_field, answered.result)
            return call.response.decode_field(answered.result)
        except ThriftError as error:
            raise RpcError(ErrorCode.ERR_INVALID_DATA, f"unreadable answer to {call.code}: {error}") from error

    def tell(self, call: Call, value: Any, *, app_id: int = 0, partition_index: int = 0) -> None:
        """Send a request whose answer, if there is any, does not matter."""
        if self._transport is None or self._transport.is_closing():
            raise UnreachableError("the connection is closed")
        seqid = next(self._seqids) & 0x7FFF_FFFF
        arguments = call.request.encode_field(value, 1)
        self._transport.write(
            encode_request(call.code, seqid, arguments, app_id=app_id, partition_index=partition_index)
        )

    def close(self) -> None:
        """Close the connection; requests in flight fail with ERR_NETWORK_FAILURE."""
        if self._transport is not None:
            self._transport.close()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        _give_up_dead_hosts(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        try:
            replies = self._reader.feed(data)
        except FramingError:
            if self._transport is not None:
                self._transport.abort()
            return
        self._was_answered = True
        for reply in replies:
            waiting = self._waiting.get(reply.seqid)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(RpcError(ErrorCode.ERR_NETWORK_FAILURE, f"the connection broke{self._why(exc)}"))

    def _why(self, error: Exception | None) -> str:
        if error is not None:
            return f": {error}"
        if self._was_answered or self._speaks_tls:
            return ""
        return " before the first answer; a server with a TLS certificate does that when it is asked without TLS"

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()


class RpcConnections:
    """One connection to each server that is asked, opened when needed and again after it broke.

    Args:
        open: How to connect; the default is `RpcConnection.open`.
        tls: How to speak TLS with every server; None does not.
    """

    def __init__(self, open: Callable[[HostPort], Any] | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self._open = open or functools.partial(RpcConnection.open, tls=tls)
        self._connections: dict[HostPort, asyncio.Task[RpcConnection]] = {}
        self.is_closed = False

    async def call(self, server: HostPort, call: Call, value: Any, timeout_s: float, **header: Any) -> Any:
        """Send a request to a server and return its result; see `RpcConnection.call`.

        Raises:
            UnreachableError: There is no connection when the time is up, so that nothing was sent.
        """
        end = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connection(server)
        except TimeoutError as error:
            raise UnreachableError(f"cannot connect to {server}: no answer within {timeout_s:g} s") from error
        return await connection.call(call, value, max(0.001, end - time.monotonic()), **header)

    async def tell(self, server: HostPort, call: Call, value: Any, **header: int) -> None:
        """Send a request to a server without waiting for an answer; see `RpcConnection.tell`."""
        (await self._connection(server)).tell(call, value, **header)

    async def _connection(self, server: HostPort) -> RpcConnection:
        if self.is_closed:
            raise UnreachableError("the connections are closed")
        opening = self._connections.get(server)
        if opening is not None and opening.done() and not _is_usable(opening):
            opening = None
        if opening is None:
            opening = start_task(self._open(server), name=f"connection to {server}")
            opening.add_done_callback(_is_usable)  # whoever wanted it may have gone: its failure is nobody's surprise
            self._connections[server] = opening
        return await asyncio.shield(opening)

    async def close(self) -> None:
        """Close all connections; requests in flight and later ones fail with ERR_NETWORK_FAILURE."""
        self.is_closed = True
        opened, self._connections = self._connections, {}
        for opening in opened.values():
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError, RpcError):
                (await opening).close()


def _give_up_dead_hosts(connection: Any) -> None:
    """Let the kernel break the connection to a host that is gone without a word, instead of waiting for every answer.

    A server that is only slow confirms what it receives, and keeps its connection.
    """
    if connection is None or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_HOST_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_HOST_S * 1000)


def _reason(error: OSError, timeout_s: float) -> str:
    """What kept from connecting, in words."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError | socket.gaierror) or error.errno is None:
        return str(error.strerror or error)
    return os.strerror(error.errno).lower()


def _is_usable(opening: asyncio.Task[RpcConnection]) -> bool:
    return not opening.cancelled() and opening.exception() is None and opening.result().is_open
