"""How many seeds: Cohen's table, simulation, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cifarlab.differences import detectable_difference, seeds_needed


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 64), (0.8, 26), (1.0, 17)])
def test_cohens_table(effect: float, seeds: int) -> None:
    """Cohen (1988), table 2.4.1: two-sided 0.05, power 0.80."""
    assert seeds_needed(1.0, effect) == seeds
    assert seeds_needed(0.0015, -0.0015 * effect) == seeds


@pytest.mark.parametrize("effect", [1.1, 2.0, 4.0])
def test_the_number_is_the_first_with_that_power(effect: float) -> None:
    n = seeds_needed(1.0, effect)
    generator = np.random.default_rng(0)

    def found(seeds: int) -> float:
        a, b = generator.normal(effect, 1, (20_000, seeds)), generator.normal(0, 1, (20_000, seeds))
        return float((stats.ttest_ind(a, b, axis=1).pvalue < 0.05).mean())

    assert found(n) > 0.79
    assert n == 2 or found(n - 1) < 0.81


@pytest.mark.parametrize("n", [2, 3, 5, 10, 31])
def test_what_is_detectable_needs_that_many_seeds(n: int) -> None:
    difference = detectable_difference(0.0014, n)
    assert seeds_needed(0.0014, difference * 1.0001) == n
    assert seeds_needed(0.0014, difference * 0.999) == n + 1


@pytest.mark.parametrize("effect", [10.0, 30.0, 50.0, 1e6])
def test_a_huge_difference_takes_two_seeds(effect: float) -> None:
    assert seeds_needed(1.0, effect) == 2


def test_more_power_and_a_stricter_level_take_more_seeds() -> None:
    assert seeds_needed(1, 0.7) < seeds_needed(1, 0.7, power=0.95) < seeds_needed(1, 0.7, power=0.95, alpha=0.001)


@pytest.mark.parametrize(("sd", "difference"), [(0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.0)])
def test_what_has_no_answer_is_refused(sd: float, difference: float) -> None:
    with pytest.raises(ValueError, match=r"above 0|difference of nothing"):
        seeds_needed(sd, difference)


def test_one_seed_detects_nothing() -> None:
    with pytest.raises(ValueError, match="one seed"):
        detectable_difference(0.1, 1)
