"""The calls that look into the process: `/metrics` and `/pprof/*` (§7, §8)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import generate_latest

from shared.http.app import read_body
from shared.metrics import Metrics
from shared.pegasus.metrics import query
from shared.pegasus.metrics.entities import Registry
from shared.pegasus.metrics.query import Identity
from shared.pegasus.process.pprof import Pprof
from shared.pegasus.serving.http import MAX_BODY_BYTES, answer, arguments, client_gone

__all__ = ["Introspection"]


@dataclass(frozen=True)
class Introspection:
    """Handlers of the calls that look into this process.

    Attributes:
        registry: The metrics of Pegasus.
        requests: The metrics of HTTP requests, which `/metrics/prometheus` adds to them.
        identity: The server that answers; a function, as the port is known only after the start.
    """

    registry: Registry
    requests: Metrics
    pprof: Pprof
    identity: Callable[[], Identity]

    async def metrics(self, request: web.Request) -> web.Response:
        """The metrics of this process (§7)."""
        now_ns = time.time_ns()
        status, body = query.answer(self.registry, request.method, arguments(request), self.identity(), now_ns)
        return answer(body, status)

    async def prometheus(self, _request: web.Request) -> web.Response:
        """The same metrics and those of HTTP requests, as Prometheus reads them: an addition."""
        text = query.prometheus(self.registry, self.identity()).encode() + generate_latest(self.requests.registry)
        return answer(text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def symbol(self, request: web.Request) -> web.Response:
        """Names of addresses (§8.1)."""
        status, body = self.pprof.symbol(request.method, await read_body(request, MAX_BODY_BYTES))
        return answer(body, status)

    async def cmdline(self, _request: web.Request) -> web.Response:
        """The command line (§8.2)."""
        status, body = self.pprof.cmdline()
        return answer(body, status)

    async def heap(self, request: web.Request) -> web.Response:
        """Live objects (§8.3)."""
        status, body = await self.pprof.heap(arguments(request), client_gone(request))
        return answer(body, status)

    async def growth(self, _request: web.Request) -> web.Response:
        """Growth of the address space (§8.4)."""
        status, body = await self.pprof.growth()
        return answer(body, status)

    async def profile(self, request: web.Request) -> web.Response:
        """A CPU profile (§8.5)."""
        status, body = await self.pprof.profile(request.raw_path, client_gone(request))
        return answer(body, status)
