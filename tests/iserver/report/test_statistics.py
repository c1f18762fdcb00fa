"""The report's statistics against simulated experiments with a known effect."""

from __future__ import annotations

from math import inf, isinf

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize_scalar

from iserver.report.statistics import MIN_VISITORS, Sample, difference, mixture_variance, ratio_check, width

ALPHA = 0.05
EXPERIMENTS = 1_000
VISITORS = 10_000
"""Per experiment, both variants together."""

LOOKS = list(range(4 * MIN_VISITORS, VISITORS + 1, 200))


def looks(outcome: str, effect: float, seed: int) -> NDArray[np.float64]:
    """Intervals of many experiments at many looks: an array [experiment, look, (low, high)].

    Args:
        outcome: `rate`, a conversion of 10 per cent, or `revenue`, mostly zero with a long tail.
        effect: True difference between treatment and control.
    """
    random = np.random.default_rng(seed)
    intervals = np.empty((EXPERIMENTS, len(LOOKS), 2))
    for number in range(EXPERIMENTS):
        treated = random.random(VISITORS) < 0.5
        if outcome == "rate":
            values = (random.random(VISITORS) < 0.1 + effect * treated).astype(float)
        else:
            buys = random.random(VISITORS) < 0.2
            values = buys * random.lognormal(2, 0.8, VISITORS) + effect * treated
        sums = {
            arm: (np.cumsum(chosen), np.cumsum(values * chosen), np.cumsum(values**2 * chosen))
            for arm, chosen in ((True, treated), (False, ~treated))
        }
        for position, look in enumerate(LOOKS):
            treatment, control = (
                Sample(int(count[look - 1]), float(total[look - 1]), float(squares[look - 1]))
                for count, total, squares in (sums[True], sums[False])
            )
            interval = difference(treatment, control, alpha=ALPHA, tightest_at=5_000)
            intervals[number, position] = interval.low, interval.high
    return intervals


def ever_excludes(intervals: NDArray[np.float64], value: float) -> float:
    """The share of experiments in which some look excluded a value."""
    return float(((intervals[:, :, 0] > value) | (intervals[:, :, 1] < value)).any(axis=1).mean())


@pytest.mark.parametrize("outcome", ["rate", "revenue"])
def test_peeking_at_every_look_finds_a_difference_that_is_not_there_rarely_enough(outcome: str):
    assert ever_excludes(looks(outcome, 0.0, seed=1), 0.0) <= ALPHA


def test_peeking_with_an_ordinary_interval_finds_it_far_too_often():
    intervals = looks("rate", 0.0, seed=1)
    middle = intervals.mean(axis=2)
    ordinary = 1.96 / np.array([width(look, alpha=ALPHA, tightest_at=5_000) for look in LOOKS])
    half = (intervals[:, :, 1] - middle) * ordinary
    assert ever_excludes(np.stack([middle - half, middle + half], axis=2), 0.0) > 3 * ALPHA


@pytest.mark.parametrize(("outcome", "effect"), [("rate", 0.03), ("revenue", 1.0)])
def test_all_looks_contain_the_true_difference_and_the_last_one_finds_it(outcome: str, effect: float):
    intervals = looks(outcome, effect, seed=2)
    assert ever_excludes(intervals, effect) <= ALPHA
    found = (intervals[:, -1, 0] > 0).mean()
    assert found > 0.8


# --- the interval ---------------------------------------------------------------------------------


def sample(count: int, mean: float, deviation: float = 1.0) -> Sample:
    return Sample(count, count * mean, (count - 1) * deviation**2 + count * mean**2)


def test_a_sample_knows_its_mean_and_variance():
    values = [1.0, 4.0, 7.5]
    known = Sample(3, sum(values), sum(value**2 for value in values))
    assert known.mean == pytest.approx(np.mean(values))
    assert known.variance == pytest.approx(np.var(values, ddof=1))


def test_the_interval_is_around_the_estimate_and_shrinks():
    few = difference(sample(1_000, 1.2), sample(1_000, 1.0), alpha=ALPHA, tightest_at=10_000)
    many = difference(sample(100_000, 1.2), sample(100_000, 1.0), alpha=ALPHA, tightest_at=10_000)
    assert few.estimate == pytest.approx(0.2)
    assert (few.low + few.high) / 2 == pytest.approx(0.2)
    assert many.high - many.low < (few.high - few.low) / 5
    assert many.excludes_zero


@pytest.mark.parametrize(
    ("treatment", "control"),
    [(Sample(0, 0, 0), sample(1_000, 1)), (sample(99, 1), sample(1_000, 1)), (Sample(500, 0, 0), Sample(500, 0, 0))],
)
def test_too_little_gives_no_interval(treatment: Sample, control: Sample):
    interval = difference(treatment, control, alpha=ALPHA, tightest_at=10_000)
    assert (interval.low, interval.high) == (-inf, inf)
    assert not interval.excludes_zero


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
@pytest.mark.parametrize("visitors", [300, 10_000, 5_000_000])
def test_the_interval_is_tightest_where_it_was_asked_to_be(alpha: float, visitors: int):
    def boundary(log_variance: float) -> float:
        scale = visitors * np.exp(log_variance)
        return float(np.sqrt((scale + 1) / scale * (np.log(scale + 1) - 2 * np.log(alpha))))

    best = minimize_scalar(boundary, bounds=(-30, 5), method="bounded", options={"xatol": 1e-9})
    assert np.log(mixture_variance(alpha, visitors)) == pytest.approx(best.x, abs=1e-3)
    assert width(visitors, alpha=alpha, tightest_at=visitors) == pytest.approx(best.fun)


def test_it_costs_little_compared_with_a_single_look():
    single = float(stats.norm.ppf(1 - ALPHA / 2))
    assert single < width(10_000, alpha=ALPHA, tightest_at=10_000) < 1.6 * single


# --- the split ------------------------------------------------------------------------------------


def test_a_split_as_configured_is_no_alarm_however_often_it_is_checked():
    random = np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        first = np.cumsum(random.random(8_000) < 0.3)
        alarms += any(
            ratio_check([int(first[n]), n + 1 - int(first[n])], [30, 70]).always_valid_p < 0.05
            for n in range(99, 8_000, 200)
        )
    assert alarms / 200 <= 0.05


def test_a_wrong_split_is_found():
    check = ratio_check([52_000, 48_000], [1, 1])
    assert check.always_valid_p < 1e-6
    assert check.p_value < 1e-6
    assert ratio_check([5_200, 4_800], [1, 1]).always_valid_p < 0.01


def test_an_exact_split_is_certainly_right():
    check = ratio_check([3_000, 6_000, 1_000], [3, 6, 1])
    assert (check.p_value, check.always_valid_p) == (pytest.approx(1.0), 1.0)


@pytest.mark.parametrize("counts", [[0, 0], [7]])
def test_nothing_to_compare_is_no_alarm(counts: list[int]):
    assert ratio_check(counts, [1.0] * len(counts)).always_valid_p == 1.0


def test_an_overwhelmingly_wrong_split_does_not_overflow():
    check = ratio_check([10_000_000, 0], [1, 1])
    assert check.always_valid_p < 1e-200
    assert not isinf(check.p_value)
