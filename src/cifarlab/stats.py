"""Intervals: how far a measured figure can be trusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_ROUNDING = 1e-12  # relative; averages of equal figures differ by some 1e-16, accuracies by one image in a million


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion, such as an accuracy on a fixed set of images.

    Args:
        successes: Number of successes, 0..total.
        total: Number of trials, at least 1.
        confidence: Coverage in (0, 1).

    Returns:
        Lower and upper end, fractions in [0, 1].

    Raises:
        ValueError: If the counts cannot be those of a proportion.

    References:
        Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212.
    """
    _require_proportion(successes, total)
    _require_confidence(confidence)
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, total, alpha=1 - confidence, method="wilson")
    # where none or all succeed, rounding can carry an end a hair past the proportion itself
    value = successes / total
    return max(0.0, min(float(low), value)), min(1.0, max(float(high), value))


def clopper_pearson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a proportion, which covers at least as often as it says; wider than Wilson's.

    Its lower end at confidence 2c - 1 is the one-sided lower bound at confidence c.

    Args:
        successes: Number of successes, 0..total.
        total: Number of trials, at least 1.
        confidence: Coverage in (0, 1).

    Returns:
        Lower and upper end, fractions in [0, 1].

    Raises:
        ValueError: If the counts cannot be those of a proportion.

    References:
        Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the binomial",
        Biometrika 26, 404-413.
    """
    _require_proportion(successes, total)
    _require_confidence(confidence)
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, total, alpha=1 - confidence, method="beta")
    # where none or all succeed, one end is no quantile of a beta distribution but known
    return 0.0 if successes == 0 else float(low), 1.0 if successes == total else float(high)


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation (n - 1 in the denominator); of one value the latter is NaN.

    Of values without spread the standard deviation is 0, though rounding may have moved one of them.

    Raises:
        ValueError: If there is no value.
    """
    if not len(values):
        raise ValueError("no values, so no mean")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, math.nan
    return mean, 0.0 if without_spread(values) else statistics.stdev(values)


def without_spread(values: Sequence[float]) -> bool:
    """Return whether all values (one at least) are the same but for rounding."""
    return max(values) - min(values) <= _ROUNDING * max(map(abs, values))


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t-interval of the mean, such as that of a recipe's accuracy over several seeds.

    Args:
        values: Independent measurements, roughly normal.
        confidence: Coverage in (0, 1).

    Returns:
        Lower and upper end in the unit of the values; both NaN where no spread was seen, in a single value or in equal
        ones: these do not show that there is none.

    Raises:
        ValueError: If there is no value.

    References:
        Student (1908), "The probable error of a mean", Biometrika 6, 1-25.
    """
    _require_confidence(confidence)
    mean, sd = mean_and_sd(values)
    if not sd > 0:
        return math.nan, math.nan
    from scipy.stats import t

    half_width = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    return mean - half_width, mean + half_width


def accuracy_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t-interval of a mean accuracy, a fraction, cut off at 0 and 1; of few seeds it can go beyond."""
    low, high = t_interval(values, confidence)
    return (low, high) if math.isnan(low) else (max(0.0, low), min(1.0, high))


def _require_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), not {confidence}")


def _require_proportion(successes: int, total: int) -> None:
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f"{successes} successes of {total} trials are no proportion")
