"""Accepting connections, as many as there is room for: some file descriptors are always left for files.

A server that has none left can neither accept a connection nor open the file that its next write needs. So a part of
them is kept for files, and when a connection would take one of those, the connection that has been idle longest makes
room; when none is idle, the new one is closed.
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

__all__ = ["Acceptor", "Room"]

log = structlog.get_logger("shared.pegasus.serving.accepting")

MAX_CONNECTIONS = 10_000
MAX_RESERVE = 1024
BATCH = 64
"""How many connections are accepted before the event loop goes on with the others."""
HANDSHAKE_S = 15.0
PAUSE_S = 1.0
"""How long nothing is accepted after the system had no room for a connection."""
COMPLAIN_S = 10.0
"""How often the log says that there is no room."""
KEEPALIVE_S = 60
"""A client that says nothing for so long is probed three times; one that is gone is noticed soon after."""


class Room:
    """How many connections there may be.

    Args:
        descriptors: The limit of the process; by default it is raised as far as it may be.

    Attributes:
        most: The number of connections.
        highest: The highest descriptor that a connection may have; those above are for files.
    """

    def __init__(self, descriptors: int | None = None, most: int = MAX_CONNECTIONS) -> None:
        limit = _raise_limit() if descriptors is None else descriptors
        self.most = most
        self.highest = limit - min(MAX_RESERVE, limit // 4)

    def has(self, connections: int, descriptor: int) -> bool:
        """Whether a connection may stay that has a descriptor: the system always gives the lowest that is free."""
        return connections <= self.most and descriptor < self.highest


def _raise_limit() -> int:
    """Let the process have as many descriptors as it may, and return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


class Acceptor:
    """Accepts connections on listening sockets.

    Args:
        connect: Makes the protocol of a connection.
        tls: Speaks TLS on every connection if there is one.
        room: How many there may be.
        count: How many there are.
        make_room: Closes connections that are idle; whether there were any.
    """

    def __init__(
        self,
        connect: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        room: Room,
        count: Callable[[], int],
        make_room: Callable[[], bool],
    ) -> None:
        self._connect = connect
        self._tls = tls
        self._room = room
        self._count = count
        self._make_room = make_room
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._complained_s = float("-inf")

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections on bound sockets, which are closed with this."""
        for bound in sockets:
            bound.setblocking(False)
            bound.listen(1024)
            self._sockets.append(bound)
            self._loop.add_reader(bound, self._accept, bound)

    def close(self) -> None:
        """Accept nothing more, and give up connections that are still shaking hands."""
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
                self._complain(str(error.strerror))
                self._loop.remove_reader(bound)
                self._loop.call_later(PAUSE_S, self._go_on, bound)
                return
            self._take(accepted, peer)

    def _go_on(self, bound: socket.socket) -> None:
        if bound in self._sockets:
            self._loop.add_reader(bound, self._accept, bound)

    def _take(self, accepted: socket.socket, peer: Any) -> None:
        if not self._room.has(self._count() + len(self._opening) + 1, accepted.fileno()) and not self._make_room():
            accepted.close()
            self._complain(f"there are {self._count()} connections, none of them idle")
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

    def _complain(self, reason: str) -> None:
        now_s = time.monotonic()
        if now_s - self._complained_s >= COMPLAIN_S:
            self._complained_s = now_s
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
