"""How many seeds a wanted resolution takes."""

from __future__ import annotations

import math


def seeds_needed(sd: float, difference: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return how many seeds each of two recipes needs for a two-sided t-test to find a true difference.

    Args:
        sd: Standard deviation over seeds, the same in both, above 0.
        difference: True difference of the means, in the same unit, not 0.
        power: Wanted probability of finding it, in (alpha, 1).
        alpha: Level of the test.

    Raises:
        ValueError: If sd or difference has no such value.

    References:
        Cohen (1988), "Statistical power analysis for the behavioral sciences", 2nd edition, chapter 2.
    """
    effect = abs(difference) / _positive(sd)
    if not effect > 0:
        raise ValueError("no number of seeds shows a difference of nothing")
    too_few, enough = 1, 2
    while _power(effect, enough, alpha) < power:
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (middle, enough) if _power(effect, middle, alpha) < power else (too_few, middle)
    return enough


def detectable_difference(sd: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the true difference of the means that n seeds of each recipe find with the given probability.

    Args:
        sd: Standard deviation over seeds, the same in both, above 0.
        n: Seeds of each recipe, at least 2.
        power: Probability of finding it, in (alpha, 1).
        alpha: Level of the test.

    Raises:
        ValueError: If sd or n has no such value.
    """
    if n < 2:
        raise ValueError("one seed of each recipe shows no difference, however large")
    from scipy.optimize import brentq

    largest = 1.0
    while _power(largest, n, alpha) < power:
        largest *= 2
    return _positive(sd) * float(brentq(lambda effect: _power(effect, n, alpha) - power, 0.0, largest))


def _positive(sd: float) -> float:
    if not sd > 0:
        raise ValueError(f"a standard deviation above 0 is needed, not {sd}")
    return sd


def _power(effect: float, n: int, alpha: float) -> float:
    from statsmodels.stats.power import TTestIndPower

    power = float(TTestIndPower().power(effect, n, alpha))
    return 1.0 if math.isnan(power) else power  # the noncentral t fails for some effects beyond a power of 0.9999
