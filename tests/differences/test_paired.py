"""Two models on the same images, against hand-made binomial sums, a plain bootstrap and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cifarlab.differences import compare_paired, detectable_paired_difference, smallest_significant_difference


def answers(only_a: int, only_b: int, both: int = 0, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


def binomial_tail(count: int, total: int) -> float:
    return sum(math.comb(total, k) for k in range(count + 1)) / 2**total


def test_the_published_example() -> None:
    """Fagerland, Lydersen and Laake (2013), BMC Med. Res. Methodol. 13, 91, table 1: Bentur et al. (2009)."""
    result = compare_paired(*answers(1, 7, both=1, neither=12))
    assert (result.num_images, result.only_a, result.only_b) == (21, 1, 7)
    assert result.p_exact == pytest.approx(0.0703, abs=5e-5)
    assert result.p_mid == pytest.approx(0.0391, abs=5e-5)
    assert result.difference == pytest.approx(-6 / 21)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (3, 5), (5, 3), (40, 12), (250, 310), (0, 9)])
def test_p_values_are_the_binomial_sums(only_a: int, only_b: int) -> None:
    result = compare_paired(*answers(only_a, only_b, 100, 20))
    total, fewer = only_a + only_b, min(only_a, only_b)
    point = math.comb(total, fewer) / 2**total
    assert result.p_exact == pytest.approx(min(1, 2 * binomial_tail(fewer, total)), rel=1e-9)
    assert result.p_mid == pytest.approx(2 * (binomial_tail(fewer, total) - point / 2), rel=1e-9)


def test_equal_counts_by_the_published_rule() -> None:
    """In their supplement: where both counts are equal, the mid-p-value is 1 - 0.5 P(count)."""
    result = compare_paired(*answers(4, 4, 50))
    assert (result.p_exact, result.difference) == (1, 0)
    assert result.p_mid == pytest.approx(1 - math.comb(8, 4) / 2**9)


def test_equal_answers_show_nothing() -> None:
    result = compare_paired(*answers(0, 0, 30, 10))
    assert (result.difference, result.interval, result.p_exact, result.p_mid) == (0, (0, 0), 1, 1)


@pytest.mark.parametrize(("only_a", "only_b"), [(30, 12), (7, 7), (0, 5), (600, 450)])
def test_exchanging_the_models_changes_signs_only(only_a: int, only_b: int) -> None:
    a, b = answers(only_a, only_b, 2000, 300)
    there, back = compare_paired(a, b), compare_paired(b, a)
    assert (there.only_a, there.only_b) == (back.only_b, back.only_a)
    assert there.difference == -back.difference
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), abs=1e-15)
    assert (there.p_exact, there.p_mid) == (back.p_exact, back.p_mid)


def test_the_order_of_the_images_and_the_type_of_the_answers_do_not_matter() -> None:
    a, b = answers(30, 12, 200, 30)
    order = np.random.default_rng(0).permutation(len(a))
    assert compare_paired(a, b) == compare_paired(a[order].astype(int), b[order].tolist())


def test_the_interval_is_that_of_a_plain_paired_bootstrap() -> None:
    a, b = answers(120, 70, 700, 110)
    reference = stats.bootstrap(
        (a.astype(float), b.astype(float)),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=9_999,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert compare_paired(a, b).interval == pytest.approx((reference.low, reference.high), abs=0.0025)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    shares = [0.08, 0.05, 0.8, 0.07]
    hits = 0
    for _ in range(300):
        low, high = compare_paired(*answers(*generator.multinomial(1000, shares))).interval
        hits += low <= 0.03 <= high
    assert hits / 300 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("discordant", [6, 17, 40])
def test_the_exact_test_errs_at_most_as_often_as_it_says(discordant: int) -> None:
    results = [compare_paired(*answers(wins, discordant - wins, 10)) for wins in range(discordant + 1)]
    chance = [math.comb(discordant, wins) / 2**discordant for wins in range(discordant + 1)]
    errors = sum(p for p, result in zip(chance, results, strict=True) if result.p_exact <= 0.05)
    assert 0 < errors <= 0.05
    assert all(result.p_mid <= result.p_exact for result in results)


@pytest.mark.parametrize(
    ("a", "b"), [([1, 0], [1]), ([], []), ([[1, 0]], [[1, 0]]), ([2, 0], [1, 0]), ([math.nan, 0], [1, 0])]
)
def test_what_is_no_pair_of_answers_is_refused(a: list, b: list) -> None:
    with pytest.raises(ValueError, match=r"right or wrong|the same images"):
        compare_paired(a, b)


@pytest.mark.parametrize("discordant", [*range(15), 51, 500])
def test_the_smallest_significant_difference_is_the_first_that_the_test_accepts(discordant: int) -> None:
    significant = [
        (wins - (discordant - wins)) / 1000
        for wins in range((discordant + 1) // 2, discordant + 1)
        if compare_paired(*answers(wins, discordant - wins, 1000 - discordant)).p_exact <= 0.05
    ]
    expected = min(significant) if significant else math.nan
    assert smallest_significant_difference(1000, discordant) == pytest.approx(expected, nan_ok=True)


def test_ten_thousand_images_with_five_per_cent_discordant() -> None:
    """By the normal approximation 1.96 sqrt(500) and (1.96 + 0.84) sqrt(500) images, or one or two more."""
    assert smallest_significant_difference(10_000, 500) == pytest.approx(0.0044, abs=2e-4)
    assert detectable_paired_difference(10_000, 500) == pytest.approx(0.0063, abs=1e-4)


@pytest.mark.parametrize(("discordant", "power"), [(6, 0.3), (40, 0.8), (500, 0.8), (500, 0.95)])
def test_the_detectable_difference_is_found_as_often_as_it_says(discordant: int, power: float) -> None:
    difference = detectable_paired_difference(2000, discordant, power)
    share = (1 + difference * 2000 / discordant) / 2
    wins = np.random.default_rng(4).binomial(discordant, share, size=20_000)
    p_value = {int(k): stats.binomtest(int(k), discordant).pvalue for k in set(wins.tolist())}
    assert np.mean([p_value[int(k)] <= 0.05 for k in wins]) == pytest.approx(power, abs=0.012)


def test_five_discordant_images_can_show_nothing() -> None:
    assert math.isnan(smallest_significant_difference(100, 5))
    assert math.isnan(detectable_paired_difference(100, 5))
    assert smallest_significant_difference(100, 6) == 0.06
