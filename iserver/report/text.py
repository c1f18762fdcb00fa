"""The report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, isnan

from iserver.report.model import Metric
from iserver.report.results import DayResult, Result
from iserver.report.statistics import MIN_VISITORS, Interval

DAYS_SHOWN = 14
"""Days of the course that are printed; the page has all of them."""


def report_text(result: Result) -> str:
    """One experiment as text, ending with a newline."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Result) -> Iterator[str]:
    experiment = result.experiment
    yield f"{experiment.name} ({experiment.id}), {experiment.state}"
    yield f"  features: {', '.join(experiment.features) or 'none'}"
    yield ""
    yield from _table(["variant", "weight", "visitors"], _exposure_rows(result))
    if result.exposure.mixed:
        yield f"  left out: {result.exposure.mixed} visitors who were exposed to more than one variant"
    yield f"  sample ratio: {ratio_text(result)}"
    if result.metric is None or not result.days:
        return
    yield ""
    yield metric_text(result.metric)
    yield from _table(["variant", "mean", "difference", "interval", ""], _result_rows(result, result.days[-1]))
    confidence = f"{100 * (1 - result.alpha):g} %"
    yield f"  intervals: {confidence} for all of them together, valid at every look"
    yield ""
    yield from _table(["day", "visitors", *(variant.name for variant in result.treatments)], _course_rows(result))


def metric_text(metric: Metric) -> str:
    """A metric, and what its mean is."""
    return f"{metric}, {'share of visitors with it' if metric.is_rate else 'mean of the sum per visitor'}"


def ratio_text(result: Result) -> str:
    """The check of the split, in words."""
    if result.ratio is None:
        return "nobody was exposed yet"
    verdict = "NOT AS CONFIGURED, do not trust the results" if result.ratio_is_wrong else "as configured"
    return f"{verdict} (always-valid p = {result.ratio.always_valid_p:.2g}, chi-square p = {result.ratio.p_value:.2g})"


def interval_text(interval: Interval, *, is_rate: bool) -> str:
    """Both ends of an interval, or why there is none."""
    if not isfinite(interval.low):
        return f"needs {MIN_VISITORS} visitors per variant, and values that differ"
    return (
        f"{number(interval.low, is_rate=is_rate, signed=True)} to {number(interval.high, is_rate=is_rate, signed=True)}"
    )


def number(value: float, *, is_rate: bool, signed: bool = False) -> str:
    """A mean, or a signed difference of means; rates in per cent, their differences in percentage points."""
    if isnan(value):
        return "-"
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.2f} {'pp' if signed else '%'}" if is_rate else f"{value:{sign}.4g}"


def _exposure_rows(result: Result) -> list[list[str]]:
    total = sum(variant.weight for variant in result.experiment.variants)
    return [
        [variant.name, f"{100 * variant.weight / total:.1f} %", str(result.exposure.counts[variant.id])]
        for variant in result.experiment.variants
    ]


def _result_rows(result: Result, day: DayResult) -> list[list[str]]:
    is_rate = result.metric is not None and result.metric.is_rate
    rows = []
    for variant in result.experiment.variants:
        mean = number(day.samples[variant.id].mean, is_rate=is_rate)
        interval = day.intervals.get(variant.id)
        if interval is None:
            rows.append([variant.name, mean, "", "", ""])
            continue
        shown = number(interval.estimate, is_rate=is_rate, signed=True)
        verdict = "established" if interval.excludes_zero else ""
        rows.append([variant.name, mean, shown, interval_text(interval, is_rate=is_rate), verdict])
    return rows


def _course_rows(result: Result) -> list[list[str]]:
    is_rate = result.metric is not None and result.metric.is_rate
    rows = []
    for day in result.days[-DAYS_SHOWN:]:
        visitors = sum(sample.count for sample in day.samples.values())
        cells = [_course_cell(day.intervals[variant.id], is_rate) for variant in result.treatments if day.intervals]
        rows.append([day.day.isoformat(), str(visitors), *cells])
    return rows


def _course_cell(interval: Interval, is_rate: bool) -> str:
    if not isfinite(interval.low):
        return "-"
    estimate = number(interval.estimate, is_rate=is_rate, signed=True)
    return f"{estimate} ({interval_text(interval, is_rate=is_rate)})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()
