"""Two models on the same images. Shape suffix: N images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CONFIDENCE = 0.95
_RESAMPLES = 10_000
_SEED = 20_261_121  # equal input gives equal figures


@dataclass(frozen=True)
class PairedDifference:
    """Two models on the same images.

    Attributes:
        num_images: N.
        only_a: Images that a has right and b wrong.
        only_b: Images that b has right and a wrong.
        difference: Accuracy of a minus that of b.
        interval: 95 % paired bootstrap interval of it (percentiles); [0, 0] where no image tells the two apart.
        p_exact: Exact McNemar test, two-sided.
        p_mid: Its mid-p version, less conservative with few images.
    """

    num_images: int
    only_a: int
    only_b: int
    difference: float
    interval: tuple[float, float]
    p_exact: float
    p_mid: float


def compare_paired(correct_a_N: ArrayLike, correct_b_N: ArrayLike) -> PairedDifference:
    """Compare two models on the same images.

    Args:
        correct_a_N: Whether a is right, bool (or 0 and 1), N.
        correct_b_N: Whether b is right, of the same images in the same order.

    Raises:
        ValueError: If the arrays are not of one length, are empty, or hold something else.

    References:
        McNemar (1947), Psychometrika 12, 153-157; Fagerland, Lydersen and Laake (2013), "The McNemar test for binary
        matched-pairs data: mid-p and asymptotic are better than exact conditional", BMC Med. Res. Methodol. 13, 91.
    """
    a_N, b_N = binary(correct_a_N), binary(correct_b_N)
    if a_N.ndim != 1 or a_N.shape != b_N.shape or not len(a_N):
        raise ValueError(f"two answers to the same images are needed, not shapes {a_N.shape} and {b_N.shape}")
    only_a, only_b = int((a_N & ~b_N).sum()), int((~a_N & b_N).sum())
    interval = _bootstrap_interval(only_a, only_b, len(a_N))
    return PairedDifference(len(a_N), only_a, only_b, (only_a - only_b) / len(a_N), interval, *_mcnemar(only_a, only_b))


def _mcnemar(only_a: int, only_b: int) -> tuple[float, float]:
    """Return the exact p-value and the mid-p; both 1 where no image is discordant."""
    from scipy.stats import binom

    discordant, fewer = only_a + only_b, min(only_a, only_b)
    if not discordant:
        return 1.0, 1.0
    point = float(binom.pmf(fewer, discordant, 0.5))
    exact = min(1.0, 2 * float(binom.cdf(fewer, discordant, 0.5)))
    return exact, 1 - point / 2 if only_a == only_b else exact - point


def _bootstrap_interval(only_a: int, only_b: int, total: int) -> tuple[float, float]:
    """Return percentiles of the difference when images are drawn anew with replacement.

    The counts of a resample are multinomial, so they are drawn at once. Half of the draws are made with the models
    exchanged, which makes the interval of b - a exactly the mirror image of that of a - b.
    """
    if only_a == only_b == 0:
        return 0.0, 0.0  # and not -0.0
    halves = []
    for first, second, sign in ((only_a, only_b, 1), (only_b, only_a, -1)):
        shares = [first / total, second / total, (total - first - second) / total]
        counts = np.random.default_rng(_SEED).multinomial(total, shares, size=_RESAMPLES // 2)
        halves.append(sign * (counts[:, 0] - counts[:, 1]))
    low, high = np.quantile(np.concatenate(halves), [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return float(low) / total, float(high) / total


def smallest_significant_difference(num_images: int, num_discordant: int, alpha: float = 0.05) -> float:
    """Return the smallest difference in accuracy that the exact McNemar test calls significant.

    Args:
        num_images: N.
        num_discordant: Images that exactly one of the two models has right, 0..N.
        alpha: Level of the test.

    Returns:
        A fraction; NaN where no division of the discordant images would do.
    """
    fewer = _critical_count(num_discordant, alpha)
    return math.nan if fewer < 0 else (num_discordant - 2 * fewer) / num_images


def detectable_paired_difference(
    num_images: int, num_discordant: int, power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the true difference in accuracy that the exact McNemar test would find with the given probability.

    Args:
        num_images: N.
        num_discordant: Images that exactly one of the two models has right, taken as given.
        power: Probability of a significant result, in (alpha, 1).
        alpha: Level of the test.

    Returns:
        A fraction; NaN where not even a model that wins every discordant image would be found.
    """
    from scipy.optimize import brentq
    from scipy.stats import binom

    fewer = _critical_count(num_discordant, alpha)
    if fewer < 0:
        return math.nan

    def shortfall(share: float) -> float:
        """Of power, where b wins this share of the discordant images."""
        tails = binom.cdf(fewer, num_discordant, share) + binom.sf(num_discordant - fewer - 1, num_discordant, share)
        return float(tails) - power

    return num_discordant * (1 - 2 * float(brentq(shortfall, 0.0, 0.5))) / num_images


def _critical_count(num_discordant: int, alpha: float) -> int:
    """Return the largest count of the weaker model's wins that is still significant; -1 if none is."""
    from scipy.stats import binom

    fewer = int(binom.ppf(alpha / 2, num_discordant, 0.5))  # the first count whose tail reaches alpha / 2
    return fewer if 2 * binom.cdf(fewer, num_discordant, 0.5) <= alpha else fewer - 1


def binary(values: ArrayLike) -> NDArray[np.bool_]:
    """Return right and wrong as bool, whatever numbers they came in; ValueError if they are something else."""
    array = np.asarray(values)
    if not np.isin(array, (0, 1)).all():
        raise ValueError("right or wrong is needed for every image, as True and False or 1 and 0")
    return array.astype(bool)
