"""Prometheus metrics of one daemon, in a registry of its own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

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
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

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
        failures = "Failures of background tasks, which are tried again; the log has the reasons"
        self._task_failures = self.counter("background_task_failures", failures, ["task"])
        self._request_times = RequestTimes(f"{prefix}_request_seconds" if prefix else "request_seconds")
        self.registry.register(self._request_times)

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
        self._request_times.observe(route, status, seconds)

    def count_task_failure(self, task: str) -> None:
        """Count a failure of a background task, as `shared.tasks.Supervisor` reports it."""
        self._task_failures.labels(task).inc()

    async def handler(self, _request: web.Request) -> web.Response:
        """``GET /metrics`` in the Prometheus text format."""
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class RequestTimes(Collector):
    """A histogram of requests by route and status that costs next to nothing until somebody asks for it.

    It is observed for every request on the event loop's thread, where the general histogram's lock and
    its walk over the buckets would be a noticeable part of a fast answer.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._counts: dict[tuple[str, int], list[int]] = {}
        self._sums: dict[tuple[str, int], float] = {}

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        key = (route, status)
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = [0] * (len(REQUEST_SECONDS) + 1)
            self._sums[key] = 0.0
        counts[bisect_left(REQUEST_SECONDS, seconds)] += 1
        self._sums[key] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The histogram as Prometheus wants it: cumulative counts by upper bound."""
        help_text = "Time from a request's arrival to the end of its handler"
        family = HistogramMetricFamily(self._name, help_text, labels=("route", "status"))
        bounds = [*(repr(float(bound)) for bound in REQUEST_SECONDS), "+Inf"]
        for (route, status), counts in self._counts.items():
            cumulative = accumulate(counts)
            buckets = list(zip(bounds, cumulative, strict=True))
            family.add_metric([route, str(status)], buckets, self._sums[route, status])
        yield family
