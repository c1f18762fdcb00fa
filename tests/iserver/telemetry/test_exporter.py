"""Metrics over OTLP (`--otel`, protocol §14, §15): to a receiver that decodes what it gets."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from structlog.testing import capture_logs

from iserver.settings import ServerSettings
from iserver.telemetry.exporter import Telemetry, endpoint
from iserver.telemetry.otlp_data import dotted
from shared.errors import StartupError
from tests.iserver.conftest import EXAMPLE, running
from tests.processes import run_command, start_daemon


class Receiver:
    """A collector: keeps the exports it is sent, and can be told to fail or to be slow."""

    def __init__(self) -> None:
        self.exports: list[ExportMetricsServiceRequest] = []
        self.headers: list[Any] = []
        self.status = 200
        self.arrived = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        app = web.Application()
        app.router.add_post("/v1/metrics", self._take)
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        self.arrived.set()
        await self.may_answer.wait()
        if self.status == 200:
            self.headers.append(request.headers)
            self.exports.append(ExportMetricsServiceRequest.FromString(body))
        return web.Response(status=self.status)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def metrics(self, number: int = -1) -> dict[str, Any]:
        """The metrics of one export, by name."""
        (resource,) = self.exports[number].resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}


@pytest.fixture
async def receiver():
    receiver = Receiver()
    async with receiver.server:
        yield receiver


@pytest.fixture
async def export(receiver):
    """Exports a registry once, and gives what arrived as JSON."""

    async def once(registry: CollectorRegistry) -> dict[str, Any]:
        telemetry = Telemetry(receiver.url, registry)
        await telemetry.close()
        return {name: MessageToDict(metric) for name, metric in receiver.metrics().items()}

    return once


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("causal_iserver_sessions_by_user", "causal.iserver.sessions.by.user"),
        ("causal_plugin_invokeFill_time", "causal.plugin.invokeFill.time"),
        ("iserver_sync_age_seconds", "iserver.sync_age_seconds"),
        ("process_open_fds", "process.open_fds"),
    ],
)
def test_names_have_the_dots_of_the_vendor(name, expected):
    assert dotted(name) == expected


async def test_counters_gauges_and_infos_are_numbers(export):
    registry = CollectorRegistry()
    Counter("iserver_signals", "Signals", ["kind"], registry=registry).labels("event").inc(3)
    Gauge("causal_iserver_sessions_active", "Active", registry=registry).set(5)
    Info("iserver_configuration", "Configuration", registry=registry).info({"revision": "r1"})
    sent = await export(registry)
    signals, active, configuration = sent.values()
    assert list(sent) == [
        "iserver.signals",
        "causal.iserver.sessions.active",
        "iserver.configuration",
    ]
    assert (signals["sum"]["aggregationTemporality"], signals["sum"]["isMonotonic"]) == (
        "AGGREGATION_TEMPORALITY_CUMULATIVE",
        True,
    )
    (point,) = signals["sum"]["dataPoints"]
    assert (point["asDouble"], point["attributes"]) == (3.0, [{"key": "kind", "value": {"stringValue": "event"}}])
    assert 0 < int(point["startTimeUnixNano"]) <= int(point["timeUnixNano"])
    assert active["gauge"]["dataPoints"][0]["asDouble"] == 5.0
    assert configuration["gauge"]["dataPoints"][0]["attributes"][0]["value"] == {"stringValue": "r1"}


async def test_histograms_have_counts_of_each_bucket_alone(export):
    registry = CollectorRegistry()
    times = Histogram("iserver_request_seconds", "Time", ["route"], registry=registry, buckets=(0.1, 1))
    for route, seconds in (("/a", 0.05), ("/a", 0.5), ("/a", 0.6), ("/a", 7), ("/b", 0.5)):
        times.labels(route).observe(seconds)
    metric = (await export(registry))["iserver.request_seconds"]
    first, second = metric["histogram"]["dataPoints"]
    assert metric["unit"] == "s"
    assert (first["explicitBounds"], first["bucketCounts"], first["count"]) == ([0.1, 1.0], ["1", "2", "1"], "4")
    assert first["sum"] == pytest.approx(8.15)
    assert "min" not in first
    assert second["bucketCounts"] == ["0", "1", "0"]


async def test_a_timer_is_a_histogram_without_bounds(export):
    registry = CollectorRegistry()
    timer = Summary("causal_aws_s3_uploads_time", "Seconds of writes", registry=registry)
    timer.observe(0.25)
    timer.observe(0.5)
    (metric,) = (await export(registry)).values()
    (point,) = metric["histogram"]["dataPoints"]
    assert (metric["name"], metric["unit"]) == ("causal.aws.s3.uploads.time", "s")
    assert (point["sum"], point["count"], point["bucketCounts"]) == (0.75, "2", ["2"])


async def test_an_iserver_exports_what_its_metrics_show(receiver, open_iserver):
    iserver = await open_iserver(otel=receiver.url)
    await iserver.features([{"name": "RatingBox", "args": {"product": "iPhone"}}])
    await iserver.components.telemetry.export()
    shown = (await (await iserver.client.get("/metrics")).text()).splitlines()
    kinds = {line.split()[2] for line in shown if line.startswith("# TYPE") and "_created" not in line}
    sent = receiver.metrics()
    assert {dotted(kind.removesuffix("_total").removesuffix("_info")) for kind in kinds} == sent.keys()
    assert sent["causal.iserver.sessions.active"].gauge.data_points[0].as_double == 1
    (resource,) = receiver.exports[0].resource_metrics
    attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert attributes["service.name"] == "iserver"
    assert attributes["service.instance.id"]


async def test_the_environment_names_the_service_and_gives_headers(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "flags")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
    await Telemetry(receiver.url, CollectorRegistry()).close()
    (resource,) = receiver.exports[0].resource_metrics
    assert {item.key: item.value.string_value for item in resource.resource.attributes}["service.name"] == "flags"
    assert receiver.headers[0]["api-key"] == "secret"


async def test_the_last_export_is_made_when_all_is_written(tmp_path, clock, ids, receiver):
    settings = ServerSettings(data_dir=tmp_path, config_file=EXAMPLE / "shop.json", otel=receiver.url)
    async with running(settings, clock, ids) as iserver:
        await iserver.features([{"name": "RatingBox", "args": {"product": "iPhone"}}])
        assert receiver.exports == []
    sent = receiver.metrics()
    assert sent["causal.iserver.sessions.active"].gauge.data_points[0].as_double == 0
    assert sent["causal.aws.s3.uploads.time"].histogram.data_points[0].count == 1
    assert sent["iserver.etl_rows"].gauge.data_points[0].as_double == 2


async def test_a_receiver_that_is_away_costs_one_warning(receiver):
    receiver.status = 404
    telemetry = Telemetry(receiver.url, CollectorRegistry())
    with capture_logs() as logs:
        await telemetry.export()
        await telemetry.export()
        receiver.status = 200
        await telemetry.export()
        await telemetry.close()
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("warning", "metrics cannot be exported"),
        ("info", "metrics are exported again"),
    ]
    assert "404" in logs[0]["reason"]


async def test_nobody_at_the_address_is_a_warning_too(caplog, unused_tcp_port):
    telemetry = Telemetry(f"http://127.0.0.1:{unused_tcp_port}", CollectorRegistry())
    with capture_logs() as logs:
        await telemetry.close()
    assert [entry["event"] for entry in logs] == ["metrics cannot be exported"]
    assert "refused" in logs[0]["reason"].lower()
    assert caplog.records == []


async def test_requests_are_answered_while_a_receiver_is_slow(receiver, open_iserver):
    iserver = await open_iserver(otel=receiver.url)
    receiver.may_answer.clear()
    exporting = asyncio.create_task(iserver.components.telemetry.export())
    await receiver.arrived.wait()
    await iserver.features([{"name": "RatingBox", "args": {"product": "iPhone"}}])
    assert not exporting.done()
    receiver.may_answer.set()
    await exporting
    assert len(receiver.exports) == 1


async def test_the_daemon_exports_periodically_and_once_more_when_it_stops(tmp_path, receiver):
    flags = ("--fdl", EXAMPLE / "shop.fdl", "--data-dir", tmp_path, "--otel-interval", "0.1")
    daemon = await asyncio.to_thread(start_daemon, "iserver", *flags, env={"ISERVER_OTEL": receiver.url})
    with daemon:
        while len(receiver.exports) < 3:
            receiver.arrived.clear()
            await receiver.arrived.wait()
        receiver.may_answer.clear()
        receiver.arrived.clear()
        await receiver.arrived.wait()
        stopping = asyncio.create_task(asyncio.to_thread(daemon.terminate))
        await asyncio.to_thread(daemon.wait_for_log, '"draining"')
        draining_ns = time.time_ns()
        receiver.may_answer.set()
        assert await stopping == 0
    last = receiver.metrics()["causal.iserver.sessions.active"].gauge.data_points[0]
    assert last.time_unix_nano >= draining_ns


def test_a_url_that_is_none_is_one_line(tmp_path):
    flags = ("--fdl", EXAMPLE / "shop.fdl", "--data-dir", tmp_path, "--port", "0", "--otel", "collector:4318")
    ended = run_command("iserver", "start", *flags)
    (line,) = ended.stderr.strip().splitlines()
    assert ended.returncode == 1
    assert "expected a URL such as http://127.0.0.1:4318, found 'collector:4318'" in line


async def test_without_the_packages_the_extra_is_named(open_iserver, monkeypatch):
    monkeypatch.setitem(sys.modules, "iserver.telemetry.exporter", None)
    with pytest.raises(StartupError, match=r"--otel needs the extra 'otel': pip install 'entrepot\[otel\]'"):
        await open_iserver(otel="http://127.0.0.1:4318")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://collector:4318", "http://collector:4318/v1/metrics"),
        ("https://collector/", "https://collector/v1/metrics"),
        ("http://prometheus:9090/api/v1/otlp", "http://prometheus:9090/api/v1/otlp/v1/metrics"),
        ("http://collector:4318/v1/metrics", "http://collector:4318/v1/metrics"),
    ],
)
def test_metrics_go_below_the_base_url(url, expected):
    assert endpoint(url) == expected


@pytest.mark.parametrize(
    "url", ["collector:4318", "grpc://collector:4317", "http://", "http://[x", "http://h:x", "http://h?a=b"]
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(StartupError, match="expected a URL such as"):
        endpoint(url)


def test_a_password_in_the_url_is_refused():
    with pytest.raises(StartupError, match="OTEL_EXPORTER_OTLP_HEADERS"):
        endpoint("http://user:secret@collector:4318")
