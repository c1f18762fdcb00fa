"""The report as one HTML page: no script, no file beside it, drawings as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from itertools import cycle
from math import isfinite
from string import Template

from iserver.report.drawing import Chart, Series, draw
from iserver.report.model import Variant
from iserver.report.results import DayResult, Result
from iserver.report.text import interval_text, metric_text, number, ratio_text, verdicts

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Experiments</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #d5d9de; --soft: #656d76; --bad: #b3261e;
        --a: #2563eb; --b: #c2410c; --c: #15803d; --d: #7e22ce; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #14171b; --faint: #343a41; --soft: #9aa3ad; --bad: #ff8a80;
          --a: #7aa2ff; --b: #ff9d66; --c: #6fcf8e; --d: #cf9bff; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; margin-top: 3rem; } h3 { font-size: 1rem; margin-top: 2rem; }
p, figcaption { color: var(--soft); } .verdict { color: var(--ink); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem 0 .25rem 1.5rem; border-bottom: 1px solid var(--faint); text-align: right; }
td { white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; text-align: left; } th { font-weight: 600; color: var(--soft); }
figure { margin: 1rem 0; }
svg { min-width: 36rem; max-width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); }
svg .grid { stroke: var(--faint); } svg .zero { stroke: var(--soft); }
svg .line, svg .interval { fill: none; stroke-width: 2; } svg .band { stroke: none; opacity: .18; }
</style>
</head>
<body>
<h1>Experiments</h1>
<p>$made, from $location. Times are UTC.</p>
$experiments
</body>
</html>
""")

COLORS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)")


def report_page(results: Sequence[Sequence[Result]], location: str, now: datetime) -> str:
    """All experiments on one page.

    Args:
        results: For each experiment a result for each metric.
        location: Where the warehouse is.
        now: When the page is made.
    """
    experiments = "\n".join("\n".join(_experiment(of_one)) for of_one in results)
    return PAGE.substitute(
        made=f"Made on {now:%Y-%m-%d at %H:%M}", location=escape(location), experiments=experiments or "<p>None.</p>"
    )


def _experiment(results: Sequence[Result]) -> Iterator[str]:
    result = results[0]
    experiment = result.experiment
    yield f"<h2>{escape(experiment.name)}</h2>"
    features = ", ".join(experiment.features)
    yield f"<p>{escape(experiment.id)}, {escape(experiment.state)}; features: {escape(features)}</p>"
    yield _table(["variant", "weight", "visitors"], _exposures(result))
    if result.exposure.mixed:
        yield f"<p>{result.exposure.mixed} visitors were exposed to more than one variant and are left out.</p>"
    mark = ' class="bad"' if result.ratio_is_wrong else ""
    yield f"<p{mark}>Sample ratio: {escape(ratio_text(result))}</p>"
    for of_metric in results:
        yield from _metric(of_metric)
    if result.days:
        yield _figure(_visitors(result), "Visitors exposed by the end of each day.")


def _metric(result: Result) -> Iterator[str]:
    if result.metric is not None and result.days:
        yield f"<h3>{escape(metric_text(result.metric))}</h3>"
        for verdict in verdicts(result):
            yield f"<p class=verdict>{escape(verdict)}</p>"
        yield _table(["variant", "mean", "difference", "interval"], _means(result, result.days[-1]))
        confidence = f"{100 * (1 - result.alpha):g} %"
        yield _figure(
            _differences(result),
            f"Difference from control at the end of each day; {confidence} for all "
            "intervals together, valid at every look.",
        )


def _exposures(result: Result) -> list[list[str]]:
    total = sum(variant.weight for variant in result.experiment.variants)
    return [
        [variant.name, f"{100 * variant.weight / total:.1f} %", f"{result.exposure.counts[variant.id]:,}"]
        for variant in result.experiment.variants
    ]


def _means(result: Result, day: DayResult) -> list[list[str]]:
    is_rate = _is_rate(result)
    rows = []
    for variant in result.experiment.variants:
        mean = number(day.samples[variant.id].mean, is_rate=is_rate)
        interval = day.intervals.get(variant.id)
        if interval is None:
            rows.append([variant.name, mean, "", ""])
        else:
            estimate = number(interval.estimate, is_rate=is_rate, signed=True)
            verdict = " — established" if interval.excludes_zero else ""
            rows.append([variant.name, mean, estimate, interval_text(interval, is_rate=is_rate) + verdict])
    return rows


def _differences(result: Result) -> Chart:
    scale = 100.0 if _is_rate(result) else 1.0
    series = []
    for variant, color in _colored(result):
        if variant.is_control:
            continue
        points = [(day.day, day.intervals[variant.id]) for day in result.days if variant.id in day.intervals]
        known = [(day, interval) for day, interval in points if isfinite(interval.low)]
        series.append(
            Series(
                variant.name,
                color,
                [(day, scale * interval.estimate) for day, interval in known],
                [(day, scale * interval.low, scale * interval.high) for day, interval in known],
            )
        )
    return Chart(series, "percentage points" if _is_rate(result) else "difference of means", marks_zero=True)


def _visitors(result: Result) -> Chart:
    series = [
        Series(variant.name, color, [(day.day, float(day.samples[variant.id].count)) for day in result.days])
        for variant, color in _colored(result)
    ]
    return Chart(series, "visitors", marks_zero=True)


def _colored(result: Result) -> Iterator[tuple[Variant, str]]:
    """Each variant with its color, the same in every drawing."""
    return zip(result.experiment.variants, cycle(COLORS), strict=False)


def _is_rate(result: Result) -> bool:
    return result.metric is not None and result.metric.is_rate


def _figure(chart: Chart, caption: str) -> str:
    return f"<figure><div class=wide>{draw(chart)}</div><figcaption>{escape(caption)}</figcaption></figure>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<div class=wide><table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table></div>"
