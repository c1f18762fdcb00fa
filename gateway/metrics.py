"""Prometheus metrics of a gateway."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.engine.engine import Engine
from gateway.streaming.connections import Connections
from shared.metrics import Metrics


class _GatewayCollector(Collector):
    """Reads the gateway's own counters at each scrape, so that counting adds nothing to a request."""

    def __init__(self, engine: Engine, connections: Connections) -> None:
        self._engine = engine
        self._connections = connections

    def collect(self) -> Iterable[Metric]:
        engine, stream = self._engine, self._connections.summary()
        ticks = CounterMetricFamily("gateway_ticks", "Ticks by channel", labels=("channel",))
        subscribers = GaugeMetricFamily("gateway_subscribers", "Subscribers by channel", labels=("channel",))
        for channel in engine.channels:
            ticks.add_metric((channel.name,), sum(feed.ticks for feed in channel.feeds))
            subscribers.add_metric((channel.name,), sum(len(feed.subscribers) for feed in channel.feeds))
        lookup = GaugeMetricFamily("gateway_lookup_items", "Records kept for lookup, by struct", labels=("struct",))
        for name, cache in engine.lookups.items():
            lookup.add_metric((name,), cache.items)
        rows = GaugeMetricFamily("gateway_state_rows", "Rows of each state", labels=("state",))
        for alias, states in engine.states.items():
            rows.add_metric((alias,), sum(len(state) for state in states.values()))
        yield from (ticks, subscribers, lookup, rows)
        yield GaugeMetricFamily("gateway_connections", "Open streams", stream["connections"])
        yield GaugeMetricFamily("gateway_queued_messages", "Messages that wait", stream["queued_messages"])
        yield GaugeMetricFamily("gateway_queued_bytes", "Bytes that wait", stream["queued_bytes"])
        yield CounterMetricFamily("gateway_dropped_messages", "Messages dropped for slow readers", stream["dropped"])
        yield CounterMetricFamily("gateway_slow_closes", "Connections ended as too slow", stream["slow_closes"])
        yield CounterMetricFamily("gateway_handler_errors", "Failures of modules", engine.counters.handler_errors)


def export_metrics(metrics: Metrics, engine: Engine, connections: Connections) -> None:
    """Export the gateway's counters."""
    metrics.registry.register(_GatewayCollector(engine, connections))
