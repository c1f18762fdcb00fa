"""What an iserver counts: the vendor's names with underscores for dots, and some of our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager

from prometheus_client import Counter, Gauge, Metric, Summary
from prometheus_client.core import CounterMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from iserver.configuration.sync import Synchroniser
from iserver.engine.engine import Engine
from iserver.etl.etl import Etl
from iserver.plugins.runner import HOOKS
from iserver.storage.journal import Journal
from iserver.storage.redis.sessions import RedisSessions
from shared.metrics import Metrics


def register_metrics(
    metrics: Metrics,
    engine: Engine,
    store: Journal | RedisSessions,
    etl: Etl,
    connections: Sized,
    synchroniser: Synchroniser,
) -> None:
    """Add the gauges of one iserver; they are read when metrics are collected."""
    gauges = {
        "causal_iserver_sessions_active": ("Active sessions in memory", lambda: len(engine.sessions)),
        "causal_iserver_sessions_retired": (
            "Retired sessions, not yet uploaded",
            lambda: engine.retired_count + store.waiting,
        ),
        "iserver_sessions_set_aside": (
            "Sessions that are over and cannot be written to the warehouse; the log says why",
            lambda: engine.set_aside_count,
        ),
        "causal_iserver_sessions_by_user": (
            "Sessions found by a session key",
            lambda: engine.sessions.indexed_keys,
        ),
        "iserver_sse_connections": ("Open event streams", lambda: len(connections)),
        "iserver_sync_age_seconds": (
            "Time since the configuration was last known to be current",
            lambda: time.monotonic() - synchroniser.checked_at_s,
        ),
        "iserver_etl_rows": ("Rows written to the warehouse since the start", lambda: etl.rows),
        "iserver_etl_seconds": ("Duration of the last ETL that had something to do", lambda: etl.seconds),
    }
    for name, (text, read) in gauges.items():
        Gauge(name, text, registry=metrics.registry).set_function(read)
    metrics.registry.register(_EngineCounters(engine))


class _EngineCounters(Collector):
    """Counters of the engine, read when metrics are collected."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """The counters, and the configuration in force as a label."""
        features = CounterMetricFamily("iserver_features", "Features answered, by result", labels=["result"])
        for result, count in self._engine.features_by_result.items():
            features.add_metric([result], count)
        signals = CounterMetricFamily("iserver_signals", "Signals carried out, by kind", labels=["kind"])
        for kind, count in self._engine.signals_by_kind.items():
            signals.add_metric([kind], count)
        configuration = InfoMetricFamily("iserver_configuration", "The configuration in force")
        configuration.add_metric([], {"revision": self._engine.configuration.revision})
        yield from (features, signals, configuration)


def register_plugin_metrics(metrics: Metrics) -> Callable[[str, float, bool], None]:
    """Add a timer and a counter of errors for every hook.

    Returns:
        A function to call after every hook: with the hook, its seconds, and whether it failed.
    """
    timers = {
        hook: Summary(f"causal_plugin_{name}_time", f"Seconds in {hook}", registry=metrics.registry)
        for hook, name in HOOKS.items()
    }
    errors = {
        hook: Counter(f"causal_plugin_{name}_errors", f"Failures of {hook}", registry=metrics.registry)
        for hook, name in HOOKS.items()
    }

    def observe(hook: str, seconds: float, has_failed: bool) -> None:
        timers[hook].observe(seconds)
        if has_failed:
            errors[hook].inc()

    return observe


Timer = Callable[[], AbstractContextManager[None]]
"""What is done inside is timed, and counted when it fails."""


def time_control_plane(metrics: Metrics) -> Timer:
    """Add the timer and the counter of calls to the configuration server, which are repeated when they fail."""
    return _timed(metrics, "causal_http_post", "retries", "calls to the configuration server")


def time_uploads(metrics: Metrics) -> Timer:
    """Add the timer and the counter of writes to the warehouse, wherever it is."""
    return _timed(metrics, "causal_aws_s3_uploads", "fails", "writes to the warehouse")


def _timed(metrics: Metrics, name: str, failures_name: str, text: str) -> Timer:
    timer = Summary(f"{name}_time", f"Seconds of {text}", registry=metrics.registry)
    failures = Counter(f"{name}_{failures_name}", f"Failed {text}", registry=metrics.registry)

    @contextmanager
    def timed() -> Iterator[None]:
        started_s = time.perf_counter()
        has_failed = True
        try:
            yield
            has_failed = False
        finally:
            timer.observe(time.perf_counter() - started_s)
            if has_failed:
                failures.inc()

    return timed
