"""Prometheus metrics of one daemon, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

REQUEST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The metrics of one running daemon.

    Every name is given without the daemon's prefix, which is put before it: ``Metrics("gateway").counter("ticks", …)``
    is exported as ``gateway_ticks_total``. A prefix may be empty where a protocol dictates whole names.
    """

    def __init__(self, prefix: str) -> None:
        self.registry = CollectorRegistry()
        self._prefix = prefix
        ProcessCollector(registry=self.registry)
        self._request_seconds = self.histogram(
            "request_seconds", "Time from a request's arrival to the end of its handler", ("route", "status")
        )
        self._observers: dict[tuple[str, int], Callable[[float], None]] = {}

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows; exported with the suffix ``_total``."""
        return Counter(name, help_text, labels, namespace=self._prefix, registry=self.registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that goes up and down; `Gauge.set_function` reads it only when somebody asks."""
        return Gauge(name, help_text, labels, namespace=self._prefix, registry=self.registry)

    def histogram(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = REQUEST_SECONDS,
    ) -> Histogram:
        """A distribution, by upper bounds of its buckets (in the unit that the name ends with)."""
        return Histogram(name, help_text, labels, namespace=self._prefix, registry=self.registry, buckets=buckets)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request under its route's pattern (never its path, which clients choose)."""
        observer = self._observers.get((route, status))
        if observer is None:
            observer = self._request_seconds.labels(route, str(status)).observe
            self._observers[route, status] = observer
        observer(seconds)

    async def handler(self, _request: web.Request) -> web.Response:
        """``GET /metrics`` in the Prometheus text format."""
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
