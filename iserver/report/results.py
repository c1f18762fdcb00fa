"""An experiment's result: exposures, the check of their ratio, and each variant against control, by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from iserver.report.model import Day, Exposure, Metric, ReportedExperiment, ReportTables, Variant
from iserver.report.statistics import Interval, RatioCheck, Sample, difference, ratio_check

RATIO_ALARM = 0.01
"""Below this always-valid p-value the split of the traffic is called wrong."""


@dataclass(frozen=True, slots=True)
class DayResult:
    """What was known at the end of a day.

    Attributes:
        samples: By variant id.
        intervals: Difference from control by id of every other variant.
    """

    day: date
    samples: Mapping[str, Sample]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Result:
    """All that the report says about one experiment.

    Attributes:
        ratio: `None` when nobody was exposed.
        metric: `None` when only exposures were asked for.
        alpha: Probability that any interval of this experiment ever excludes the true difference.
        days: Oldest first; the last one is the current state.
    """

    experiment: ReportedExperiment
    exposure: Exposure
    ratio: RatioCheck | None
    metric: Metric | None
    alpha: float
    days: Sequence[DayResult]

    @property
    def control(self) -> Variant | None:
        """The variant that the others are compared with."""
        return next((variant for variant in self.experiment.variants if variant.is_control), None)

    @property
    def treatments(self) -> tuple[Variant, ...]:
        """The other variants."""
        return tuple(variant for variant in self.experiment.variants if not variant.is_control)

    @property
    def ratio_is_wrong(self) -> bool:
        """Whether the traffic was not split as configured, so that nothing below can be trusted."""
        return self.ratio is not None and self.ratio.always_valid_p < RATIO_ALARM


def examine(
    tables: ReportTables, experiment: ReportedExperiment, metric: Metric | None, *, alpha: float, tightest_at: int
) -> Result:
    """Read one experiment's exposures and metric.

    Args:
        alpha: Shared evenly by the variants that are compared with control.
        tightest_at: Visitors of a comparison at which its interval is to be tightest.

    Raises:
        ReportError: No table has the metric's event or field.
    """
    exposure = tables.expose(experiment)
    variants = experiment.variants
    counts = [exposure.counts[variant.id] for variant in variants]
    ratio = ratio_check(counts, [variant.weight for variant in variants]) if sum(counts) else None
    share = alpha / max(len(variants) - 1, 1)
    days = [_day(day, experiment, share, tightest_at) for day in tables.days(experiment, metric)]
    return Result(experiment, exposure, ratio, metric, alpha, days)


def _day(day: Day, experiment: ReportedExperiment, alpha: float, tightest_at: int) -> DayResult:
    control = next((variant for variant in experiment.variants if variant.is_control), None)
    intervals = {
        variant.id: difference(day.samples[variant.id], day.samples[control.id], alpha=alpha, tightest_at=tightest_at)
        for variant in experiment.variants
        if control is not None and variant is not control
    }
    return DayResult(day.day, day.samples, intervals)
