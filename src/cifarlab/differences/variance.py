"""Where the variance of a recipe's accuracy comes from. Shape suffixes: S seeds, N images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from cifarlab.differences.paired import binary

_FEWEST_SEEDS = 5


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
