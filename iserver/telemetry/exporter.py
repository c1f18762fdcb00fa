"""Metrics on their way to an OpenTelemetry collector (`--otel`).

They are read on the event loop, where they are counted, and sent by a thread of their own: a receiver that is slow
or away costs no request anything. Nothing is buffered, since every export has all counts since the start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family

from iserver.telemetry.otlp_data import Period, metrics_data
from shared.errors import StartupError

log = structlog.get_logger("iserver.telemetry")

SEND_S = 3.0
"""How long one export may take with all its repetitions; the end of the server may have to wait for it."""

PATH = "/v1/metrics"


class Telemetry:
    """Exports a registry to one receiver, over OTLP with HTTP and protobuf.

    Headers, compression and certificates are the exporter's: `OTEL_EXPORTER_OTLP_HEADERS` and so on. So are
    `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.

    Args:
        url: Base URL of the receiver, or the whole URL of its metrics.
        registry: What is exported.

    Raises:
        StartupError: The URL is none.
    """

    def __init__(self, url: str, registry: CollectorRegistry) -> None:
        self._endpoint = endpoint(url)
        self._registry = registry
        self._exporter = OTLPMetricExporter(self._endpoint, timeout=SEND_S)
        self._errors = _ExporterErrors()
        logging.getLogger(OTLPMetricExporter.__module__).addFilter(self._errors)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="otel")
        self._resource = _resource()
        self._started_ns = time.time_ns()
        self._is_away = False

    async def export(self) -> None:
        """Send all metrics as they are now; the first of several failures is logged."""
        families = list(self._registry.collect())
        period = Period(self._started_ns, time.time_ns())
        loop = asyncio.get_running_loop()
        self._errors.messages.clear()
        has_arrived = await loop.run_in_executor(self._thread, self._send, families, period)
        if not has_arrived and not self._is_away:
            reason = next(iter(self._errors.messages), "unknown")
            log.warning("metrics cannot be exported", receiver=self._endpoint, reason=reason)
        elif has_arrived and self._is_away:
            log.info("metrics are exported again", receiver=self._endpoint)
        self._is_away = not has_arrived

    async def close(self) -> None:
        """Send the last metrics, and end."""
        await self.export()
        self._exporter.shutdown()
        self._thread.shutdown()
        logging.getLogger(OTLPMetricExporter.__module__).removeFilter(self._errors)

    def _send(self, families: list[Family], period: Period) -> bool:
        data: MetricsData = metrics_data(families, self._resource, period)
        return self._exporter.export(data) is MetricExportResult.SUCCESS


class _ExporterErrors(logging.Filter):
    """Collects what the exporter would log at every attempt, instead of logging it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.messages.append(record.getMessage())
        return False


def endpoint(url: str) -> str:
    """Where metrics are posted: under the base URL, unless it is named as a whole.

    Raises:
        StartupError: It is no HTTP URL, or it has a password, which would be in every log.
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.query or parts.fragment:
        raise StartupError(f"--otel: expected a URL such as http://127.0.0.1:4318, found {url!r}")
    if parts.username is not None or parts.password is not None:
        raise StartupError("--otel: give credentials in OTEL_EXPORTER_OTLP_HEADERS, not in the URL")
    base = url.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


def _resource() -> Resource:
    """Who exports: this server, unless the environment has other names for it."""
    instance = f"{socket.gethostname()}:{os.getpid()}"
    own = Resource({"service.name": "iserver", "service.instance.id": instance})
    return own.merge(OTELResourceDetector().detect())
