"""Accepts connections up to a limit that reserves some file descriptors for files.

A server without a free descriptor can neither accept a connection nor open the file that its next write needs. When a
new connection would use a reserved descriptor, the connection that has been idle longest is closed; when none is idle,
the new one is.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from shared.tasks import start_task

__all__ = ["Acceptor", "ConnectionLimit"]

log = structlog.get_logger("shared.pegasus.serving.accepting")

MAX_CONNECTIONS = 10_000
MAX_RESERVE = 1024
BATCH = 64
"""The most connections that are accepted before control returns to the event loop."""
HANDSHAKE_S = 15.0
PAUSE_S = 1.0
"""How long accepting pauses after the system has refused a connection."""
WARN_S = 10.0
"""The shortest time between two warnings about the limit."""
KEEPALIVE_S = 60
"""TCP keep-alive: a client that has sent nothing for this long is probed three times."""


class ConnectionLimit:
    """The number of connections that may be open.

    Args:
        descriptors: The limit of the process; by default the soft limit is raised to the hard one.

    Attributes:
        most: The most connections.
        highest: Connections use descriptors below this one; those above are for files.
    """

    def __init__(self, descriptors: int | None = None, most: int = MAX_CONNECTIONS) -> None:
        limit = _raise_limit() if descriptors is None else descriptors
        self.most = most
        self.highest = limit - min(MAX_RESERVE, limit // 4)

    def allows(self, connections: int, descriptor: int) -> bool:
        """Whether a connection with this descriptor may stay; the system always assigns the lowest free one."""
        return connections <= self.most and descriptor < self.highest


def _raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


class Acceptor:
    """Accepts connections on listening sockets.

    Args:
        connect: Makes the protocol of a connection.
        tls: The TLS context; None for plain connections.
        limit: How many connections may be open.
        count: How many are open.
        close_idle: Closes idle connections; returns whether there were any.
    """

    def __init__(
        self,
        connect: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        limit: ConnectionLimit,
        count: Callable[[], int],
        close_idle: Callable[[], bool],
    ) -> None:
        self._connect = connect
        self._tls = tls
        self._limit = limit
        self._count = count
        self._close_idle = close_idle
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._warned_s = float("-inf")

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections on bound sockets, which are closed with this."""
        for bound in sockets:
            bound.setblocking(False)
            bound.listen(1024)
            self._sockets.append(bound)
            self._loop.add_reader(bound, self._accept, bound)

    def close(self) -> None:
        """Stop accepting, and cancel TLS handshakes under way."""
        for bound in self._sockets:
            self._loop.remove_reader(bound)
            bound.close()
        self._sockets.clear()
        for opening in self._opening:
            opening.cancel()

    def _accept(self, bound: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                accepted, peer = bound.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._warn(str(error.strerror))
                self._loop.remove_reader(bound)
                self._loop.call_later(PAUSE_S, self._resume, bound)
                return
            self._take(accepted, peer)

    def _resume(self, bound: socket.socket) -> None:
        if bound in self._sockets:
            self._loop.add_reader(bound, self._accept, bound)

    def _take(self, accepted: socket.socket, peer: Any) -> None:
        if not self._limit.allows(self._count() + len(self._opening) + 1, accepted.fileno()) and not self._close_idle():
            accepted.close()
            self._warn(f"there are {self._count()} connections, none of them idle")
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _notice_dead_clients(accepted)
        opening = start_task(self._open(accepted, peer), name="open connection")
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket, peer: Any) -> None:
        timeout_s = HANDSHAKE_S if self._tls is not None else None
        try:
            await self._loop.connect_accepted_socket(
                self._connect, accepted, ssl=self._tls, ssl_handshake_timeout=timeout_s
            )
        except OSError as error:  # those of TLS are some of them
            log.info("connection closed", peer=_shown(peer), reason=_reason(error))
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _warn(self, reason: str) -> None:
        now_s = time.monotonic()
        if now_s - self._warned_s >= WARN_S:
            self._warned_s = now_s
            log.warning("no room for a connection", reason=reason)


def _notice_dead_clients(accepted: socket.socket) -> None:
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 3)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _shown(peer: Any) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason in ("HTTP_REQUEST", "WRONG_VERSION_NUMBER"):
        return "the client does not speak TLS, which this server asks for since it has --tls-cert"
    return f"TLS: {error}"
