"""Intervals against published values and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from cifarlab.stats import accuracy_interval, mean_and_sd, t_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(9500, 10_000, 0.94555, 0.95410), (9400, 10_000, 0.93517, 0.94449), (7000, 10_000, 0.69094, 0.70890)],
)
def test_wilson_gives_published_values(successes: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=6e-6)


def test_wilson_of_seventy_per_cent_of_a_hundred() -> None:
    assert wilson_interval(70, 100) == pytest.approx((0.604, 0.781), abs=5e-4)


@pytest.mark.parametrize(("successes", "total"), [(0, 1), (1, 1), (3, 7), (0, 50), (50, 50), (123, 456)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_agrees_with_scipy_and_stays_a_fraction(successes: int, total: int, confidence: float) -> None:
    low, high = wilson_interval(successes, total, confidence)
    reference = scipy_stats.binomtest(successes, total).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert 0 <= low <= successes / total <= high <= 1


def test_wilson_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).binomial(200, 0.9, size=4000)
    intervals = {int(k): wilson_interval(int(k), 200) for k in set(draws.tolist())}
    covered = np.mean([intervals[int(k)][0] <= 0.9 <= intervals[int(k)][1] for k in draws])
    assert covered == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_proportion(successes: int, total: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson_interval(successes, total)


def test_t_interval_agrees_with_scipy() -> None:
    values = [0.9401, 0.9387, 0.9412, 0.9395, 0.9400]
    mean, sd = mean_and_sd(values)
    reference = scipy_stats.t.interval(0.95, 4, loc=np.mean(values), scale=scipy_stats.sem(values))
    assert t_interval(values) == pytest.approx(reference, abs=1e-12)
    assert mean == pytest.approx(np.mean(values))
    assert sd == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("values", [[0.5] * 3, [0.3, 0.1 + 0.2, 0.3], [1000.0, 1000.0 + 1e-12], [0.0, 0.0]])
def test_equal_values_show_no_spread_and_that_is_no_interval_of_no_width(values: list[float]) -> None:
    """Three equal accuracies do not prove that the next one is the same; rounding makes no spread either."""
    assert mean_and_sd(values) == (pytest.approx(values[0]), 0)
    assert all(math.isnan(end) for end in t_interval(values))


def test_the_smallest_difference_of_accuracies_is_a_spread() -> None:
    """One image of a million, averaged over a hundred arms."""
    values = [0.5, 0.5 + 1e-8, 0.5]
    assert mean_and_sd(values)[1] == pytest.approx(np.std(values, ddof=1))
    assert t_interval(values)[0] < 0.5 < t_interval(values)[1]


def test_an_interval_of_accuracies_stays_a_share() -> None:
    assert accuracy_interval([0.9, 1.0]) == (pytest.approx(t_interval([0.9, 1.0])[0]), 1.0)
    assert accuracy_interval([0.0, 0.1]) == (0.0, pytest.approx(t_interval([0.0, 0.1])[1]))
    assert accuracy_interval([0.70, 0.71, 0.72]) == t_interval([0.70, 0.71, 0.72])
    assert all(math.isnan(end) for end in accuracy_interval([0.7, 0.7]))


def test_one_value_has_a_mean_but_no_spread() -> None:
    mean, sd = mean_and_sd([0.94])
    assert mean == 0.94
    assert math.isnan(sd)
    assert all(math.isnan(end) for end in t_interval([0.94]))


def test_no_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_and_sd([])
    with pytest.raises(ValueError, match="no values"):
        t_interval([])


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_must_be_a_fraction(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence)
    with pytest.raises(ValueError, match="confidence"):
        t_interval([1.0, 2.0], confidence)
