"""The statistics of a running experiment: valid at every look, however often someone looks.

Two questions are answered, and both answers may be read every day, with the experiment stopped whenever one likes:

    Is the traffic split as configured?     a sequential multinomial test (Lindon and Malek 2022)
    How large is the difference of means?   an asymptotic confidence sequence (Waudby-Smith et al. 2021)

A confidence sequence is a series of intervals, one after each visitor, that *all* contain the true difference with
the given probability. No maintained Python package has this one, so its closed form stands here on SciPy's functions;
`tests/iserver/report/test_statistics.py` measures coverage and false positives under peeking.

Nothing here knows tables, files or days: counts, sums and sums of squares come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt

from scipy import special, stats

MIN_VISITORS = 100
"""Visitors that each variant must have before an interval is given: the theory is about large numbers."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of one variant's visitors.

    Attributes:
        count: How many were exposed.
        total: Sum of the metric over them.
        squares: Sum of its squares.
    """

    count: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """The metric per visitor; NaN without visitors."""
        return self.total / self.count if self.count else float("nan")

    @property
    def variance(self) -> float:
        """The unbiased variance; zero for fewer than two visitors."""
        if self.count < 2:
            return 0.0
        return max((self.squares - self.total**2 / self.count) / (self.count - 1), 0.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of means with its confidence interval.

    Attributes:
        estimate: Treatment minus control.
        low, high: The ends; infinite while there is too little to say.
    """

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the difference is established."""
        return self.low > 0 or self.high < 0


def difference(treatment: Sample, control: Sample, *, alpha: float, tightest_at: int) -> Interval:
    """The difference of two means, in an interval that is valid at every look.

    Args:
        alpha: Probability that the interval ever excludes the true difference.
        tightest_at: Number of visitors (both variants) at which the interval is to be as tight as possible.
            It must be chosen before the data are seen; any choice is valid.
    """
    estimate = treatment.mean - control.mean
    if min(treatment.count, control.count) < MIN_VISITORS or treatment.variance + control.variance == 0:
        return Interval(estimate, -inf, inf)
    margin = sqrt(treatment.variance / treatment.count + control.variance / control.count)
    margin *= width(treatment.count + control.count, alpha=alpha, tightest_at=tightest_at)
    return Interval(estimate, estimate - margin, estimate + margin)


def width(count: int, *, alpha: float, tightest_at: int) -> float:
    """Half the width of the interval in standard errors, where a single fixed look at 95 % would have 1.96.

    This is the boundary of Robbins' normal mixture after `count` visitors.
    """
    scale = count * mixture_variance(alpha, tightest_at)
    return sqrt((scale + 1) / scale * (log(scale + 1) - 2 * log(alpha)))


def mixture_variance(alpha: float, tightest_at: int) -> float:
    """The mixture's variance that makes the interval tightest at a given number of visitors."""
    # The minimum of the boundary over the variance is where (scale + 1) exp(-(scale + 1)) = alpha**2 / e.
    scale = -float(special.lambertw(-(alpha**2) / exp(1), -1).real) - 1
    return scale / tightest_at


@dataclass(frozen=True, slots=True)
class RatioCheck:
    """Whether visitors were split as configured.

    Attributes:
        p_value: Of Pearson's chi-square test; right for one look at a time that was fixed before.
        always_valid_p: Right at every look; the one to act on.
    """

    p_value: float
    always_valid_p: float


def ratio_check(counts: Sequence[int], weights: Sequence[float]) -> RatioCheck:
    """Compare how many visitors each variant got with the configured weights.

    Args:
        counts: Exposed visitors by variant.
        weights: Configured weights in the same order, greater than zero.
    """
    total = sum(counts)
    if total == 0 or len(counts) < 2:
        return RatioCheck(1.0, 1.0)
    shares = [weight / sum(weights) for weight in weights]
    p_value = float(stats.chisquare(counts, [share * total for share in shares]).pvalue)
    return RatioCheck(p_value, min(1.0, exp(-_log_bayes_factor(counts, shares))))


def _log_bayes_factor(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Evidence against the shares: a Dirichlet mixture of alternatives, concentrated around them."""
    # The larger the concentration, the smaller the deviations it is made to find; 100 suits a few per cent.
    prior = [100 * share * len(shares) for share in shares]
    posterior = [alpha + count for alpha, count in zip(prior, counts, strict=True)]
    expected = sum(count * log(share) for count, share in zip(counts, shares, strict=True))
    evidence = _log_beta(posterior) - _log_beta(prior) - expected
    return min(evidence, 700.0)


def _log_beta(alphas: Sequence[float]) -> float:
    return float(sum(special.gammaln(alpha) for alpha in alphas) - special.gammaln(sum(alphas)))
