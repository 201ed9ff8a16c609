"""Parts of the variance, against the analysis of variance by hand, Jordan's formula and simulated trainings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cifarlab.differences import new_images_interval, variance_parts


def trainings(num_seeds: int, num_images: int, spread: float, generator: np.random.Generator) -> np.ndarray:
    """Draw trainings whose images have their own difficulty, and whose seeds differ on all images by ``spread``."""
    difficulty_N = np.clip(generator.beta(4, 0.6, num_images), 0.05, 0.95)
    shift_S = generator.normal(0, spread, num_seeds)
    return generator.random((num_seeds, num_images)) < np.clip(difficulty_N + shift_S[:, None], 0, 1)


def test_the_analysis_of_variance_by_hand() -> None:
    correct = trainings(6, 50, 0.1, np.random.default_rng(0)).astype(float)
    s, n = correct.shape
    rows, columns, mean = correct.mean(1), correct.mean(0), correct.mean()
    ms_seeds = n * ((rows - mean) ** 2).sum() / (s - 1)
    ms_images = s * ((columns - mean) ** 2).sum() / (n - 1)
    ms_rest = ((correct - rows[:, None] - columns + mean) ** 2).sum() / ((s - 1) * (n - 1))
    seed, image = (ms_seeds - ms_rest) / n, (ms_images - ms_rest) / s
    assert seed > 0
    parts = variance_parts(correct)
    assert parts.distribution_seed_sd**2 == pytest.approx(seed)
    assert parts.sampling_sd**2 == pytest.approx((image + ms_rest) / n)
    assert parts.seed_sd**2 == pytest.approx(seed + ms_rest / n)
    assert parts.total_sd**2 == pytest.approx(seed + (image + ms_rest) / n)


def test_jordans_formula() -> None:
    """N / (N - 1) (variance on the test set - sum of the images' own variances / N^2), arXiv 2304.01910."""
    correct = trainings(8, 40, 0.15, np.random.default_rng(1)).astype(float)
    n = correct.shape[1]
    variance = n / (n - 1) * (correct.mean(1).var(ddof=1) - correct.var(0, ddof=1).sum() / n**2)
    assert variance > 0
    assert variance_parts(correct).distribution_seed_sd ** 2 == pytest.approx(variance)


def test_simulated_trainings_show_their_own_parts() -> None:
    """The truth is the spread of many trainings, each on images of its own, and of many on the same images."""
    generator = np.random.default_rng(2)
    spread, n = 0.02, 400
    fresh = [trainings(1, n, spread, generator).mean() for _ in range(4000)]
    parts = [variance_parts(trainings(10, n, spread, generator)) for _ in range(400)]
    mean_square = {
        name: np.mean([getattr(part, name) ** 2 for part in parts]) ** 0.5
        for name in ("total_sd", "sampling_sd", "seed_sd", "distribution_seed_sd")
    }
    assert mean_square["total_sd"] == pytest.approx(np.std(fresh), rel=0.05)
    assert mean_square["distribution_seed_sd"] == pytest.approx(0.0185, rel=0.12)  # the shift is cut where it meets 1
    accuracy = np.mean(fresh)
    assert mean_square["sampling_sd"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / n), rel=0.03)


def test_seeds_that_differ_by_chance_alone_have_no_spread_beyond_the_images() -> None:
    """Jordan's finding: independent errors make a spread on the test set that is not one of quality."""
    generator = np.random.default_rng(3)
    parts = [variance_parts(trainings(20, 2000, 0.0, generator)) for _ in range(50)]
    on_the_images = np.mean([part.seed_sd for part in parts])
    beyond = np.mean([part.distribution_seed_sd for part in parts])
    assert beyond < on_the_images / 2


def test_total_adds_up_and_order_does_not_matter() -> None:
    correct = trainings(5, 60, 0.1, np.random.default_rng(4))
    parts = variance_parts(correct)
    assert parts.total_sd**2 == pytest.approx(parts.sampling_sd**2 + parts.distribution_seed_sd**2)
    assert parts.seed_sd == pytest.approx(correct.mean(1).std(ddof=1))
    generator = np.random.default_rng(5)
    shuffled = correct[generator.permutation(5)][:, generator.permutation(60)]
    for name, value in vars(variance_parts(shuffled)).items():
        assert value == pytest.approx(getattr(parts, name))


def test_one_seed_and_equal_seeds() -> None:
    one = variance_parts([[True, True, False, True]])
    assert one.sampling_sd == pytest.approx(math.sqrt(0.75 * 0.25 / 3))
    assert all(math.isnan(x) for x in (one.total_sd, one.seed_sd, one.distribution_seed_sd))
    equal = variance_parts([[1, 1, 0, 1]] * 3)
    assert (equal.seed_sd, equal.distribution_seed_sd, equal.total_sd) == (0, 0, equal.sampling_sd)


@pytest.mark.parametrize("correct", [[True, False], [[True], [False]], [[0.5, 1.0]]])
def test_what_is_not_seeds_by_images_is_refused(correct: list) -> None:
    with pytest.raises(ValueError, match=r"seeds x images|right or wrong"):
        variance_parts(correct)


def test_the_interval_for_new_images_holds_that_over_seeds_whole() -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.random((4, 100)) < share for share in (0.8, 0.7))
    low, high = new_images_interval(first, second)
    assert new_images_interval(first, second, (low + 0.01, high - 0.01)) == (low, high)
    assert new_images_interval(first, second, (low - 0.01, high - 0.01)) == (low - 0.01, high)
    assert new_images_interval(first, second, (math.nan, math.nan)) == (low, high)
    assert new_images_interval(first.astype(int), second.tolist()) == (low, high)
