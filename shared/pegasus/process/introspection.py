"""The calls that look into the process: `/metrics`, `/pprof/*`, health."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.pegasus.metrics import query
from shared.pegasus.metrics.entities import Registry
from shared.pegasus.metrics.query import Identity
from shared.pegasus.process.pprof import Pprof
from shared.pegasus.serving.http import HttpRequest, Response

__all__ = ["Introspection"]

_READY = Response.text("ready\n")


@dataclass(frozen=True)
class Introspection:
    """Handlers of the calls that look into this process.

    Attributes:
        identity: Who answers; asked every time, as the port is known only after the start.
        not_ready: The reasons why the daemon cannot do its work now; empty when it can.
    """

    registry: Registry
    pprof: Pprof
    identity: Callable[[], Identity]
    not_ready: Callable[[], Sequence[str]]

    def metrics(self, request: HttpRequest) -> Response:
        """The metrics of this process (§7)."""
        now_ns = time.time_ns()
        status, body = query.answer(self.registry, request.method, request.args, self.identity(), now_ns)
        return Response(body, status)

    def prometheus(self, _request: HttpRequest) -> Response:
        """The same metrics as Prometheus reads them: an addition."""
        text = query.prometheus(self.registry, self.identity())
        return Response(text.encode(), content_type="text/plain; version=0.0.4; charset=utf-8")

    def symbol(self, request: HttpRequest) -> Response:
        """Names of addresses (§8.1)."""
        status, body = self.pprof.symbol(request.method, request.body)
        return Response(body, status)

    def cmdline(self, _request: HttpRequest) -> Response:
        """The command line (§8.2)."""
        status, body = self.pprof.cmdline()
        return Response(body, status)

    async def heap(self, request: HttpRequest) -> Response:
        """Live objects (§8.3)."""
        status, body = await self.pprof.heap(request.args, request.gone)
        return Response(body, status)

    async def growth(self, _request: HttpRequest) -> Response:
        """Growth of the address space (§8.4)."""
        status, body = await self.pprof.growth()
        return Response(body, status)

    async def profile(self, request: HttpRequest) -> Response:
        """A CPU profile (§8.5)."""
        status, body = await self.pprof.profile(request.target, request.gone)
        return Response(body, status)

    def healthz(self, _request: HttpRequest) -> Response:
        """Whether the process lives: an addition."""
        return Response.text("ok\n")

    def readyz(self, _request: HttpRequest) -> Response:
        """Whether the daemon can do its work, and why not: an addition."""
        reasons = self.not_ready()
        return Response.text("".join(f"not ready: {reason}\n" for reason in reasons), 503) if reasons else _READY
