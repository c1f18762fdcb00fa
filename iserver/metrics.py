"""What an iserver counts: the vendor's names with underscores for dots, and some of our own (specification §15)."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Summary

from iserver.plugins import HOOKS
from iserver.server import ImpressionServer
from iserver.storage.etl import Etl
from iserver.storage.journal import Journal
from iserver.streams import Streams
from iserver.synchronising import Synchroniser
from shared.metrics import Metrics


def measure(
    metrics: Metrics, server: ImpressionServer, journal: Journal, etl: Etl, streams: Streams, synchroniser: Synchroniser
) -> None:
    """Add the gauges of one iserver; they are read when somebody asks."""
    gauges = {
        "causal_iserver_sessions_active": ("Active sessions in memory", lambda: len(server.sessions)),
        "causal_iserver_sessions_retired": (
            "Retired sessions, not yet uploaded",
            lambda: server.retired_count + journal.waiting,
        ),
        "causal_iserver_sessions_by_user": (
            "Sessions found by a session key",
            lambda: server.sessions.indexed_keys,
        ),
        "iserver_sse_connections": ("Open event streams", lambda: len(streams)),
        "iserver_sync_age_seconds": (
            "Time since the configuration was last known to be current",
            lambda: time.monotonic() - synchroniser.checked_at_s,
        ),
        "iserver_etl_rows": ("Rows written to the warehouse since the start", lambda: etl.rows),
        "iserver_etl_seconds": ("Duration of the last ETL that had something to do", lambda: etl.seconds),
    }
    for name, (text, read) in gauges.items():
        Gauge(name, text, registry=metrics.registry).set_function(read)


def measure_plugins(metrics: Metrics) -> Callable[[str, float, bool], None]:
    """Add a timer and a counter of errors for every hook.

    Returns:
        What to tell of every call: the hook, its seconds, and whether it failed.
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
