"""Prometheus' metric families as OpenTelemetry's data.

The vendor's names get their dots back, and our own are `iserver.` and `process.` with the rest as it is. What only
counts and adds up (a timer) is a histogram without bounds, since OTLP has summaries only for old formats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import Metric as Family

SCOPE = "iserver"
UNITS = {"seconds": "s", "time": "s", "bytes": "By"}


class Period(NamedTuple):
    """From when to when was counted, in nanoseconds of the epoch."""

    start_ns: int
    end_ns: int


def metrics_data(families: Iterable[Family], resource: Resource, period: Period) -> MetricsData:
    """Everything a registry has collected, as one export.

    Args:
        families: What the registry collected.
        resource: Who counted.
        period: When the counters began, and when they were read.
    """
    metrics = [_metric(family, period) for family in families]
    scope = ScopeMetrics(InstrumentationScope(SCOPE), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def dotted(name: str) -> str:
    """The name in OpenTelemetry: `causal.iserver.sessions.active`, `iserver.sync_age_seconds`."""
    return name.replace("_", ".", -1 if name.startswith("causal_") else 1)


def _metric(family: Family, period: Period) -> Metric:
    data: Sum | Gauge | Histogram
    match family.type:
        case "counter":
            points = _numbers(family, "_total", period)
            data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
        case "histogram" | "summary":
            data = Histogram(_distributions(family, period), AggregationTemporality.CUMULATIVE)
        case _:
            data = Gauge(_numbers(family, "_info" if family.type == "info" else "", period))
    unit = UNITS.get(family.name.rpartition("_")[2], "")
    return Metric(dotted(family.name), family.documentation, unit, data)


def _numbers(family: Family, suffix: str, period: Period) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(sample.labels, period.start_ns, period.end_ns, sample.value)
        for sample in family.samples
        if sample.name == family.name + suffix
    ]


@dataclass(slots=True)
class _Distribution:
    labels: Mapping[str, str]
    sum: float = 0.0
    count: int = 0
    upper: list[float] = field(default_factory=list)
    cumulative: list[int] = field(default_factory=list)

    def buckets(self) -> tuple[Sequence[int], Sequence[float]]:
        """Counts of each bucket alone, and the bounds between them."""
        bounds = [bound for bound in self.upper if bound != math.inf]
        upto = [0, *self.cumulative[: len(bounds)], self.count]
        return [after - before for before, after in pairwise(upto)], bounds


def _distributions(family: Family, period: Period) -> list[HistogramDataPoint]:
    found: dict[tuple[tuple[str, str], ...], _Distribution] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        one = found.setdefault(tuple(labels.items()), _Distribution(labels))
        match sample.name.removeprefix(family.name):
            case "_sum":
                one.sum = sample.value
            case "_count":
                one.count = int(sample.value)
            case "_bucket":
                one.upper.append(float(sample.labels["le"]))
                one.cumulative.append(int(sample.value))
    return [_point(one, period) for one in found.values()]


def _point(one: _Distribution, period: Period) -> HistogramDataPoint:
    counts, bounds = one.buckets()
    return HistogramDataPoint(
        attributes=one.labels,
        start_time_unix_nano=period.start_ns,
        time_unix_nano=period.end_ns,
        count=one.count,
        sum=one.sum,
        bucket_counts=counts,
        explicit_bounds=bounds,
        min=None,  # type: ignore[arg-type]  # not known, which the message can say
        max=None,  # type: ignore[arg-type]
    )
