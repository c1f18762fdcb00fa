"""Metrics in the Prometheus text format."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shared.metrics import Metrics


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The values of one name by the values of its labels, in the order of their names."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in found}


def test_a_counter_carries_the_daemons_name():
    metrics = Metrics("gateway")
    metrics.counter("ticks", "Ticks applied", ("channel",)).labels("quotes").inc(3)
    assert samples(metrics, "gateway_ticks_total") == {("quotes",): 3}


def test_a_prefix_may_be_empty_where_a_protocol_dictates_whole_names():
    metrics = Metrics("")
    metrics.gauge("causal_iserver_sessions_active", "Active sessions").set(42)
    metrics.observe_request("/x", 200, 0.1)
    assert samples(metrics, "causal_iserver_sessions_active") == {(): 42}
    assert samples(metrics, "request_seconds_count") == {("/x", "200"): 1}


def test_request_times_are_a_histogram_by_route_and_status():
    metrics = Metrics("iserver")
    for seconds in (0.0004, 0.0005, 0.003, 20):
        metrics.observe_request("/features", 200, seconds)
    metrics.observe_request("/features", 404, 0.001)
    buckets = samples(metrics, "iserver_request_seconds_bucket")
    assert buckets["0.0005", "/features", "200"] == 2  # an upper bound belongs to its bucket
    assert buckets["0.005", "/features", "200"] == 3
    assert buckets["10.0", "/features", "200"] == 3
    assert buckets["+Inf", "/features", "200"] == 4
    assert samples(metrics, "iserver_request_seconds_count") == {("/features", "200"): 4, ("/features", "404"): 1}
    assert samples(metrics, "iserver_request_seconds_sum")["/features", "200"] == 20.0039


def test_the_process_tells_of_itself():
    assert samples(Metrics("x"), "process_resident_memory_bytes")[()] > 0
