"""Figures with their intervals, in the one form in which all sections give them; fractions, not per cent.

Shape suffixes: N images, M kinds of images, B resamples, F figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.phrases import number, per_cent
from cifarlab.seeding import derive_seed
from cifarlab.stats import clopper_pearson_interval, t_interval, wilson_interval

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000
_MOST_DIGITS = 8  # of a share in per cent
_ROUNDING = 1e-12  # relative, of figures above 1
_MOST_CELLS = 2**22  # numbers of resamples held at once, 32 MiB

Statistics = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def proportion(count: int, images: int) -> dict[str, Any]:
    """Return a share with Wilson's interval and that of Clopper and Pearson.

    Args:
        count: Images that have the property.
        images: Images it is asked of; 0 where nothing can be measured.

    Returns:
        value, interval (Wilson's), method, clopper_pearson, confidence, count and images; value and intervals are None
        where there are no images.
    """
    known = images > 0
    return {
        "value": count / images if known else None,
        "interval": list(wilson_interval(count, images, CONFIDENCE)) if known else None,
        "method": "wilson",
        "clopper_pearson": list(clopper_pearson_interval(count, images, CONFIDENCE)) if known else None,
        "confidence": CONFIDENCE,
        "count": count,
        "images": images,
    }


def difference(first: dict[str, Any], second: dict[str, Any], factor: float = 1.0) -> dict[str, Any]:
    """Return the difference of two proportions of different images, the first less the second, with its interval.

    Args:
        first: As :func:`proportion` gives it, of one image at least.
        second: Likewise; none of its images is among those of the first.
        factor: Positive; by it the difference and both ends are multiplied.

    References:
        Newcombe (1998), "Interval estimation for the difference between independent proportions: comparison of eleven
        methods", Statistics in Medicine 17, 873-890, method 10.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep

    ends = confint_proportions_2indep(
        *(first["count"], first["images"]),
        *(second["count"], second["images"]),
        method="newcomb",
        compare="diff",
        alpha=1 - CONFIDENCE,
    )
    return {
        "value": factor * (first["value"] - second["value"]),
        "interval": [factor * float(end) for end in ends],
        "method": "newcombe",
        "confidence": CONFIDENCE,
    }


def mean_figure(values_N: NDArray[np.float64], lowest: float = -math.inf, highest: float = math.inf) -> dict[str, Any]:
    """Return the mean of a figure of every image with Student's interval.

    Args:
        values_N: One value an image.
        lowest: What no mean can be below; the interval ends there.
        highest: What no mean can be above, likewise.

    Returns:
        value, interval, method and confidence; interval is None of one image, and where all values are equal.
    """
    low, high = t_interval(values_N.tolist(), CONFIDENCE)
    ends = None if math.isnan(low) else [max(low, lowest), min(high, highest)]
    return {"value": float(values_N.mean()), "interval": ends, "method": "student", "confidence": CONFIDENCE}


def bootstrap(counts_M: NDArray[np.int64], statistics: Statistics, seed: int, purpose: str) -> list[list[float] | None]:
    """Return percentile intervals of figures that depend only on how many images of each kind there are.

    Drawing N images anew with replacement is drawing their numbers of each kind from a multinomial distribution, which
    takes no image into the hand.

    Args:
        counts_M: How many images of each kind there are; their sum is N.
        statistics: From resamples of the counts, float64, B x M, to the figures, B x F; NaN where one is not defined.
        seed: Of the draws.
        purpose: What is drawn, so that two draws of one seed are not the same.

    Returns:
        F intervals; None where resamples do not differ, which shows no spread and does not show that there is none.

    References:
        Efron (1979), "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1-26.
    """
    generator = np.random.default_rng(derive_seed(seed, purpose))
    total = int(counts_M.sum())
    at_once = max(1, _MOST_CELLS // len(counts_M))
    drawn = []
    for start in range(0, NUM_RESAMPLES, at_once):
        size = min(at_once, NUM_RESAMPLES - start)
        drawn.append(statistics(generator.multinomial(total, counts_M / total, size=size).astype(np.float64)))
    return [percentile_ends(column) for column in np.concatenate(drawn).T]


def percentile_ends(values_B: NDArray[np.float64]) -> list[float] | None:
    """Return the ends of a bootstrap's percentile interval; None where the resamples do not differ but for rounding."""
    defined = values_B[np.isfinite(values_B)]
    if not len(defined) or float(np.ptp(defined)) <= _ROUNDING * max(1.0, float(np.abs(defined).max())):
        return None
    tail = 50 * (1 - CONFIDENCE)
    return [float(end) for end in np.percentile(defined, [tail, 100 - tail])]


def bootstrap_figure(value: float, ends: Sequence[float] | None) -> dict[str, Any]:
    """Return a figure with its interval from :func:`bootstrap`; None for what is not defined."""
    return {
        "value": float(value) if math.isfinite(value) else None,
        "interval": None if ends is None else list(ends),
        "method": "bootstrap",
        "confidence": CONFIDENCE,
        "num_resamples": NUM_RESAMPLES,
    }


def share_text(figure: Mapping[str, Any]) -> str:
    """Return a share in words: "94.12 % (95 % interval 93.64 to 94.57 %)"; a dash where it is not known."""
    if figure["value"] is None:
        return per_cent(math.nan)
    digits = _digits_of(figure["value"])
    return f"{per_cent(figure['value'], digits)}{_interval_text(figure['interval'], 100, ' %', digits)}"


def share_alone(share: float, digits: int = 2) -> str:
    """Return a share in per cent, without interval: "94.12 %"; "99.9998 %", for nearly all is not all.

    Args:
        share: A fraction.
        digits: Decimals, and more where they would say none or all of what is some.
    """
    return per_cent(share, _digits_of(share, digits))


def _digits_of(share: float, digits: int = 2) -> int:
    while digits < _MOST_DIGITS and round(100 * share, digits) in (0, 100) and 0 < share < 1:
        digits += 1
    return digits


def number_text(figure: Mapping[str, Any], digits: int = 3) -> str:
    """Return a figure in words: "0.183 (95 % interval 0.171 to 0.195)"; a dash where it is not known."""
    if figure["value"] is None:
        return number(math.nan)
    return f"{number(figure['value'], digits)}{_interval_text(figure['interval'], 1, '', digits)}"


def _interval_text(ends: Sequence[float] | None, scale: float, unit: str, digits: int) -> str:
    if ends is None:
        return ""
    low, high = (number(scale * end, digits) for end in ends)
    return f" (95 % interval {low} to {high}{unit})"


def ends_of(figure: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return the two ends of a figure's interval for a table; None twice where there is none."""
    ends = figure["interval"]
    return (None, None) if ends is None else (ends[0], ends[1])
