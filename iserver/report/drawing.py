"""Lines over days, with bands around them, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from html import escape
from math import floor, log10

WIDTH, HEIGHT = 840, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 32, 24, 32
TICKS = 5
DAY_LABELS = 8
BESIDE = 12


@dataclass(frozen=True, slots=True)
class Series:
    """One line.

    Attributes:
        color: Any CSS color.
        points: Days in order, with a value each.
        band: Lower and upper ends for the same days; may be empty.
    """

    name: str
    color: str
    points: Sequence[tuple[date, float]]
    band: Sequence[tuple[date, float, float]] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """Some lines with one axis.

    Attributes:
        unit: What the axis shows.
        marks_zero: Whether zero is part of the axis and has a line of its own.
    """

    series: Sequence[Series]
    unit: str
    marks_zero: bool = False


def draw(chart: Chart) -> str:
    """The chart as an `<svg>` element that inherits its colors from the page."""
    return "".join(_Drawing(chart).parts())


@dataclass(slots=True)
class _Drawing:
    chart: Chart
    days: list[date] = field(init=False)
    low: float = field(init=False)
    high: float = field(init=False)

    def __post_init__(self) -> None:
        self.days = sorted({day for series in self.chart.series for day, _ in series.points})
        values = [value for series in self.chart.series for _, value in series.points]
        values += [end for series in self.chart.series for _, low, high in series.band for end in (low, high)]
        values += [0.0] if self.chart.marks_zero or not values else []
        self.low, self.high = min(values), max(values)
        if self.low == self.high:
            self.low, self.high = self.low - 1, self.high + 1

    def x(self, day: date) -> float:
        span = (self.days[-1] - self.days[0]).days
        share = (day - self.days[0]).days / span if span else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def parts(self) -> Iterator[str]:
        label = f"{self.chart.unit} by day: {', '.join(series.name for series in self.chart.series)}"
        yield f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        yield f'aria-label="{escape(label)}">'
        yield f'<text x="{LEFT}" y="12">{escape(self.chart.unit)}</text>'
        yield from self.axis()
        for number, series in enumerate(self.chart.series):
            yield from self.series(series, BESIDE * (number - (len(self.chart.series) - 1) / 2))
        yield from self.legend()
        yield "</svg>"

    def axis(self) -> Iterator[str]:
        for value in ticks(self.low, self.high):
            kind = "zero" if value == 0 else "grid"
            y = self.y(value)
            yield f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,.6g}</text>'
        step = max(1, -(-len(self.days) // DAY_LABELS))
        for day in self.days[::step]:
            x = self.x(day)
            yield f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{day:%b} {day.day}</text>'

    def series(self, series: Series, beside: float) -> Iterator[str]:
        """A line and its band; of a single day a point and its interval, beside those of the other series."""
        if len(series.points) == 1:
            ((day, value),) = series.points
            x = self.x(day) + beside
            for _, low, high in series.band:
                yield f'<line class="interval" stroke="{series.color}" x1="{x:.1f}" x2="{x:.1f}" '
                yield f'y1="{self.y(low):.1f}" y2="{self.y(high):.1f}"/>'
            yield f'<circle cx="{x:.1f}" cy="{self.y(value):.1f}" r="3" fill="{series.color}"/>'
            return
        if not series.points:
            return
        if series.band:
            upper = [(self.x(day), self.y(high)) for day, _, high in series.band]
            lower = [(self.x(day), self.y(low)) for day, low, _ in reversed(series.band)]
            yield f'<polygon class="band" fill="{series.color}" points="{_points([*upper, *lower])}"/>'
        points = [(self.x(day), self.y(value)) for day, value in series.points]
        yield f'<polyline class="line" stroke="{series.color}" points="{_points(points)}"/>'
        x, y = points[-1]
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{series.color}"/>'

    def legend(self) -> Iterator[str]:
        x = WIDTH - RIGHT
        for series in reversed(self.chart.series):
            mark = f'<tspan fill="{series.color}">●</tspan>'
            yield f'<text x="{x}" y="12" text-anchor="end">{mark} {escape(series.name)}</text>'
            x -= 8 * len(series.name) + 32


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two values, about five of them."""
    rough = (high - low) / TICKS
    magnitude = 10.0 ** floor(log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    first = -(-low // step)
    return [round((first + number) * step, 12) for number in range(int((high - first * step) // step) + 1)]


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
