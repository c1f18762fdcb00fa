"""The express lane: plain requests to a few hot routes are answered without the cost of a whole HTTP framework.

A connection begins here. As long as its requests are plain (`shared.http.request_head`) and go to a fast route, they
are answered here, one after the other. The first request that is anything else hands the connection, with all bytes
that are not answered yet, to aiohttp for the rest of its life. So aiohttp stays the only implementation of
everything unusual, and the fast routes must exist there too, with the same answers.

Buffers are bounded: a connection holds at most one large head and body and what one read brings; a client that sends
faster than it is answered, or than it reads, is not read from until it catches up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from shared.errors import Problem
from shared.http.app import BODY_TIMEOUT_S
from shared.http.fast_connection import Connection
from shared.http.fast_routes import HotQuery, HotRoute
from shared.http.lifecycle import Answer, Manners
from shared.http.request_head import MAX_HEAD_BYTES, HotHeads
from shared.http.response_encoder import Encoder

log = structlog.get_logger("shared.http.fast_path")

MAX_BODY_BYTES = 64 * 1024
PATIENCE_S = 2.0
KEEP_ALIVE_S = 3630.0
"""As long as aiohttp keeps an idle connection: longer than the proxies before it do."""


class ExpressLane:
    """Answers plain requests to hot routes, and gives away all other connections.

    Args:
        routes: The hot routes.
        manners: What the lane has in common with the application beside it.
        error_answer: Encodes problems in the protocol's error shape, for a request with these headers.
        cors_headers: Further headers for an ``Origin``, or for its absence.
        max_body_bytes: Requests with a larger body go to aiohttp.
        patience_s: How long an incomplete head may wait here before aiohttp gets it, and an incomplete request
            while the server stops.
        body_timeout_s: How long a body may take after its head; as long as aiohttp's handlers wait for one.
        keep_alive_s: How long a connection may be idle.
        handler_cancellation: Whether a client that goes away ends its handler.
    """

    def __init__(
        self,
        routes: Sequence[HotRoute | HotQuery],
        manners: Manners,
        *,
        error_answer: Callable[[Problem, Mapping[str, str]], Answer],
        cors_headers: Callable[[str | None], Mapping[str, str]] = lambda _origin: {},
        max_body_bytes: int = MAX_BODY_BYTES,
        patience_s: float = PATIENCE_S,
        body_timeout_s: float = BODY_TIMEOUT_S,
        keep_alive_s: float = KEEP_ALIVE_S,
        handler_cancellation: bool = False,
    ) -> None:
        self.heads: HotHeads[HotRoute | HotQuery] = HotHeads(
            {route.path: route for route in routes if isinstance(route, HotRoute)},
            max_body_bytes=max_body_bytes,
            gets={route.path: route for route in routes if isinstance(route, HotQuery)},
        )
        self.manners = manners
        self.error_answer = error_answer
        self.encoder = Encoder(cors_headers)
        self.max_waiting_bytes = max_body_bytes + MAX_HEAD_BYTES
        self.patience_s = patience_s
        self.body_timeout_s = body_timeout_s
        self.keep_alive_s = keep_alive_s
        self.handler_cancellation = handler_cancellation
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._server: Callable[[], asyncio.Protocol] | None = None

    def before(self, server: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Makes protocols for new connections; `server` makes those for connections that leave the lane."""
        self._server = server
        return lambda: Connection(self)

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
