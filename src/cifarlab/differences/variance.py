"""Where the variance of a recipe's accuracy comes from. Shape suffixes: S seeds, N images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cifarlab.differences.paired import binary

_FEWEST_SEEDS = 5
_CONFIDENCE = 0.95
_ROUNDING = 1e-24  # of a variance; one image of a million that differs in one of a thousand seeds gives more


@dataclass(frozen=True)
class VarianceParts:
    """Where the variance of a recipe's accuracy comes from; all are standard deviations.

    With C = 1 where the network of seed s is right on image i, the model is C = mean + seed + image + rest, all effects
    random and independent, so that one training on N new images has the variance
    ``total^2 = distribution_seed^2 + sampling^2``. On fixed images seeds differ by more than distribution_seed, because
    chance decides the difficult images differently: ``seed^2 = distribution_seed^2 + rest / N``; that share is part of
    sampling as well, so seed and sampling do not add up to total.

    Attributes:
        num_seeds: S.
        num_images: N.
        total_sd: Of the accuracy of a new seed on N new images; NaN with one seed.
        sampling_sd: Of one trained network's accuracy over sets of N images.
        seed_sd: Between seeds on these very images, the plain standard deviation; NaN with one seed.
        distribution_seed_sd: Between seeds on endlessly many images; 0 where the estimate of its square is negative;
            NaN with one seed.
    """

    num_seeds: int
    num_images: int
    total_sd: float
    sampling_sd: float
    seed_sd: float
    distribution_seed_sd: float

    @property
    def few_seeds(self) -> bool:
        """Whether distribution_seed_sd is anybody's guess, which is not to be shown."""
        return self.num_seeds < _FEWEST_SEEDS


def variance_parts(correct_SN: ArrayLike) -> VarianceParts:
    """Tell the variance between seeds from that of sampling images.

    The estimates are those of a two-way random-effects analysis of variance. That of distribution_seed is Jordan's
    unbiased estimator: the variance between seeds less what independent chance on each image would give.

    Args:
        correct_SN: Whether the network of each seed is right on each image, bool (or 0 and 1), S x N, N at least 2.

    Raises:
        ValueError: If the array is not of that form.

    References:
        Jordan (2023), "Calibrated chaos: Variance between runs of neural network training is harmless and inevitable",
        arXiv 2304.01910.
    """
    correct = binary(correct_SN)
    if correct.ndim != 2 or len(correct) < 1 or correct.shape[1] < 2:
        raise ValueError(f"seeds x images are needed, with two images or more, not the shape {correct.shape}")
    num_seeds, num_images = correct.shape
    accuracy_S = correct.mean(1)
    sampling = float((accuracy_S * (1 - accuracy_S)).mean()) / (num_images - 1)
    if num_seeds == 1:
        return VarianceParts(1, num_images, math.nan, math.sqrt(sampling), math.nan, math.nan)
    seed = float(accuracy_S.var(ddof=1))
    by_chance = float(correct.var(axis=0, ddof=1).mean()) / num_images
    distribution = max(0.0, (seed - by_chance) * num_images / (num_images - 1))
    parts = (distribution + sampling, sampling, seed, distribution)
    return VarianceParts(num_seeds, num_images, *(math.sqrt(part) for part in parts))


def new_images_interval(
    first_SN: ArrayLike, second_SN: ArrayLike, over_seeds: tuple[float, float] = (math.nan, math.nan)
) -> tuple[float, float]:
    """Return a 95 % interval of the difference in accuracy for new seeds and new images of the same kind.

    The intervals over seeds take the images as they are. Here images are a sample too, the same for both recipes: in
    the model of :func:`variance_parts`, the variance of the difference is that between seeds, plus that of the images'
    mean differences, less the rest that is contained in both. It is at least each of the first two.

    Args:
        first_SN: Whether each seed of the first recipe is right on each image, S x N, two seeds or more.
        second_SN: Of the second; S may differ, the images are the same.
        over_seeds: The interval over seeds on these images, which is held whole, since one more source of chance never
            makes an interval narrower; NaN where there is none.

    Returns:
        Both ends; NaN where neither seeds nor images show any spread.
    """
    from scipy.stats import t

    first, second = binary(first_SN), binary(second_SN)
    seeds, rests = [], []
    for correct in (first, second):
        accuracy_S = correct.mean(1)
        residual = correct - accuracy_S[:, None] - correct.mean(0)[None, :] + correct.mean()
        num_seeds, num_images = correct.shape
        rest = float((residual**2).sum()) / ((num_seeds - 1) * (num_images - 1))
        seeds.append(float(accuracy_S.var(ddof=1)) / num_seeds)
        rests.append(rest / (num_seeds * num_images))
    difference_N = first.mean(0) - second.mean(0)
    images = float(difference_N.var(ddof=1)) / len(difference_N)
    variance = max(sum(seeds) + images - sum(rests), sum(seeds), images)
    if variance < _ROUNDING:
        return math.nan, math.nan
    # Satterthwaite's degrees of freedom of the parts that are added
    parts = [part**2 / (len(c) - 1) for part, c in zip(seeds, (first, second), strict=True)]
    parts.append(images**2 / (len(difference_N) - 1))
    freedom = variance**2 / sum(parts)
    half = float(t.ppf((1 + _CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    middle = float(difference_N.mean())
    ends = np.array([(middle - half, middle + half), over_seeds])
    return float(np.nanmin(ends[:, 0])), float(np.nanmax(ends[:, 1]))
