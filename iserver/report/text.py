"""The report for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, isnan

from iserver.report.model import Metric
from iserver.report.results import DayResult, Result
from iserver.report.statistics import MIN_VISITORS, Interval

DAYS_SHOWN = 14
"""Days of the course that are printed; the page has all of them."""


def report_text(first: Result, *others: Result) -> str:
    """One experiment as text, ending with a newline; a result for each metric."""
    lines = [*_exposure_lines(first), *(line for result in (first, *others) for line in _metric_lines(result))]
    return "\n".join(lines) + "\n"


def _exposure_lines(result: Result) -> Iterator[str]:
    experiment = result.experiment
    yield f"{experiment.name} ({experiment.id}), {experiment.state}"
    yield f"  features: {', '.join(experiment.features) or 'none'}"
    yield ""
    yield from _table(["variant", "weight", "visitors"], _exposure_rows(result))
    if result.exposure.mixed:
        yield f"  left out: {result.exposure.mixed} visitors who were exposed to more than one variant"
    yield f"  sample ratio: {ratio_text(result)}"


def _metric_lines(result: Result) -> Iterator[str]:
    if result.metric is None or not result.days:
        return
    yield ""
    yield metric_text(result.metric)
    yield from _table(["variant", "mean", "difference", "interval", ""], _result_rows(result, result.days[-1]))
    confidence = f"{100 * (1 - result.alpha):g} %"
    yield f"  intervals: {confidence} for all of them together, valid at every look"
    yield from (f"  {verdict}" for verdict in verdicts(result))
    yield ""
    yield from _table(["day", "visitors", *(variant.name for variant in result.treatments)], _course_rows(result))


def metric_text(metric: Metric) -> str:
    """A metric, and what its mean is."""
    return f"{metric}, {'share of visitors with it' if metric.is_rate else 'mean of the sum per visitor'}"


def verdicts(result: Result) -> list[str]:
    """What can be concluded of each variant by now, in a sentence."""
    if result.metric is None or not result.days:
        return []
    if result.ratio_is_wrong:
        return ["Do not conclude anything: the traffic was not split as configured. Find out why first."]
    intervals = result.days[-1].intervals
    return [_verdict(result, variant.name, intervals[variant.id]) for variant in result.treatments if intervals]


def _verdict(result: Result, name: str, interval: Interval) -> str:
    is_rate = result.metric is not None and result.metric.is_rate
    if not isfinite(interval.low):
        return f"{name}: too early to conclude anything ({interval_text(interval, is_rate=is_rate)})."
    low, high = (number(end, is_rate=is_rate, signed=True) for end in (interval.low, interval.high))
    ends = f"{low} and {high}"
    if not interval.excludes_zero:
        return f"{name}: no difference from control is established; if there is one, it is between {ends}."
    direction = "higher" if interval.low > 0 else "lower"
    estimate = number(interval.estimate, is_rate=is_rate, signed=True)
    return f"{name}: {direction} than control, by about {estimate}; the true difference is between {ends}."


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
