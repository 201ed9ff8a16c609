"""Two or more recipes, each trained with several seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cifarlab.stats import without_spread

_CONFIDENCE = 0.95
_MOST_ARRANGEMENTS = 20_000
_SEED = 20_261_121  # equal input gives equal figures
_TIE = 1e-9  # arrangements whose difference agrees to this share of the values' range are ties; rounding is far below


@dataclass(frozen=True)
class SeedDifference:
    """Two recipes over independent seeds.

    Attributes:
        difference: Mean of a minus mean of b.
        interval: Welch's 95 % interval of it; NaN where p_welch is.
        p_welch: Welch's t-test, two-sided; NaN where a recipe has one seed, or neither recipe varies at all.
        p_permutation: Permutation test of the difference in means, two-sided (twice the smaller tail, at most 1).
        permutation_exact: True if all arrangements were counted; False if 20,000 were drawn at random.
        smallest_p: The smallest p_permutation that numbers of seeds such as these can give.
        hedges_g: Standardised difference, corrected for small n; NaN with one seed or without any spread.
        probability_superior: P(A > B) of one seed of each, ties counted half.
        probability_interval: Its 95 % interval; wide with few seeds, also where every seed of a beats every one of b.
    """

    difference: float
    interval: tuple[float, float]
    p_welch: float
    p_permutation: float
    permutation_exact: bool
    smallest_p: float
    hedges_g: float
    probability_superior: float
    probability_interval: tuple[float, float]

    def p_value(self, test: Literal["welch", "permutation"] = "welch") -> float:
        """Return the p-value of one test; the permutation test stands in where Welch's is undefined."""
        return self.p_permutation if test == "permutation" or math.isnan(self.p_welch) else self.p_welch


def compare_seeds(values_a: Sequence[float], values_b: Sequence[float]) -> SeedDifference:
    """Compare a figure of two recipes, such as accuracy, over independent seeds.

    Args:
        values_a: One figure a seed of recipe a, at least one.
        values_b: Likewise of recipe b; the numbers of seeds may differ.

    Raises:
        ValueError: If a recipe has no figure, or one is not finite.

    References:
        Welch (1947), Biometrika 34, 28-35; Hedges (1981), J. Educ. Stat. 6, 107-128; Newcombe (2006), "Confidence
        intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", method 5, Statistics in
        Medicine 25, 559-573; Bouthillier et al. (2021), "Accounting for variance in machine learning benchmarks",
        arXiv 2103.03098, for P(A > B).
    """
    a, b = np.asarray(values_a, dtype=np.float64), np.asarray(values_b, dtype=np.float64)
    if not len(a) or not len(b) or not np.isfinite([*a, *b]).all():
        raise ValueError("every recipe needs at least one figure, and finite ones")
    interval, p_welch = _welch(a, b)
    p_permutation, exact, smallest = _permutation(a, b)
    superior = float(np.mean(0.5 + 0.5 * np.sign(a[:, None] - b[None, :])))
    return SeedDifference(
        difference=float(a.mean() - b.mean()),
        interval=interval,
        p_welch=p_welch,
        p_permutation=p_permutation,
        permutation_exact=exact,
        smallest_p=smallest,
        hedges_g=_hedges_g(a, b),
        probability_superior=superior,
        probability_interval=superiority_interval(superior, len(a), len(b)),
    )


def _welch(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[tuple[float, float], float]:
    if _no_spread_known(a, b):
        return (math.nan, math.nan), math.nan
    from statsmodels.stats.weightstats import CompareMeans

    means = CompareMeans.from_data(a, b)
    low, high = means.tconfint_diff(alpha=1 - _CONFIDENCE, usevar="unequal")
    return (float(low), float(high)), float(means.ttest_ind(usevar="unequal")[1])


def _no_spread_known(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Return whether nothing is known of the spread: one seed has none, and equal figures show none."""
    return min(len(a), len(b)) == 1 or (without_spread(a.tolist()) and without_spread(b.tolist()))


def _permutation(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, bool, float]:
    """Return the p-value, whether all arrangements were counted, and the smallest p-value possible."""
    pooled, size = np.concatenate([a, b]), len(a)
    arrangements = math.comb(len(pooled), size)
    exact = arrangements <= _MOST_ARRANGEMENTS
    if exact:
        chosen = np.array(list(combinations(range(len(pooled)), size)))
    else:
        order = np.tile(np.arange(len(pooled)), (_MOST_ARRANGEMENTS, 1))
        chosen = np.random.default_rng(_SEED).permuted(order, axis=1)[:, :size]
    span = float(np.ptp(pooled)) or 1.0
    pooled = (pooled - pooled.mean()) / span  # with the total fixed, the sum of a's share orders as the difference does
    sums, observed = pooled[chosen].sum(1), pooled[:size].sum()
    tails = [int((sums <= observed + _TIE).sum()), int((sums >= observed - _TIE).sum())]
    extra = 0 if exact else 1  # a random draw counts the observed arrangement in, so that p is never 0
    count = len(sums) + extra
    return min(1.0, 2 * (min(tails) + extra) / count), exact, min(1.0, 2 / count)


def _hedges_g(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    freedom = len(a) + len(b) - 2
    if _no_spread_known(a, b):
        return math.nan
    pooled_sd = math.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom)
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    return float(correction * (a.mean() - b.mean()) / pooled_sd)


def superiority_interval(share: float, num_a: int, num_b: int) -> tuple[float, float]:
    """Return Newcombe's 95 % interval (method 5) of P(A > B): shares 1.96 standard errors from the observed one.

    P(A > B) is the area under the ROC curve where a are the figures of one kind of images and b those of another.

    Args:
        share: Share of the pairs in which a is higher, ties half; in [0, 1].
        num_a: Number of figures of a.
        num_b: Number of figures of b.

    References:
        See :func:`compare_seeds`.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + _CONFIDENCE) / 2))
    more = (num_a + num_b) / 2 - 1

    def excess(truth: float) -> float:
        spread = truth * (1 - truth) * (1 + more * ((1 - truth) / (2 - truth) + truth / (1 + truth)))
        return (share - truth) ** 2 - z**2 * spread / (num_a * num_b)

    # the brackets end just beside the observed share: where it is 0 or 1, it solves the equation without being an end
    low = 0.0 if share == 0 else float(brentq(excess, 0.0, share * (1 - 1e-9)))
    high = 1.0 if share == 1 else float(brentq(excess, 1 - (1 - share) * (1 - 1e-9), 1.0))
    return low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's method, in the order given.

    Args:
        p_values: In [0, 1]; NaN marks a comparison that could not be made: it stays NaN and does not count.

    References:
        Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 65-70.
    """
    p_N = np.array(p_values, dtype=np.float64)  # a copy, which is overwritten
    order = np.argsort(p_N, kind="stable")[: len(p_N) - np.isnan(p_N).sum()]  # NaN sorts last
    # by hand: statsmodels collects garbage at every call, which takes a hundred times as long as the correction
    steps = np.maximum.accumulate(p_N[order] * np.arange(len(order), 0, -1))
    p_N[order] = np.minimum(steps, 1.0)
    return [float(p) for p in p_N]


def groups(
    names: Sequence[str],
    values_by_name: Mapping[str, Sequence[float]],
    alpha: float = 0.05,
    test: Literal["welch", "permutation"] = "welch",
) -> list[list[str]]:
    """Rank recipes as groups: two recipes share a group unless they were told apart.

    All pairs are compared by :func:`compare_seeds` and corrected by Holm's method. The groups are a compact letter
    display: a recipe may be in several, as where a and c differ but b is apart from neither: [[a, b], [b, c]].

    Welch's test decides by default, since accuracies over seeds are close to normal; the exact test needs no such
    assumption but cannot reach significance with few seeds (``smallest_p``), least of all after correction.

    Args:
        names: The recipes.
        values_by_name: One figure a seed of each, higher is better.
        alpha: Level of the tests after correction.
        test: Which test decides.

    Returns:
        Groups, the one with the best mean first; within each the best first.

    References:
        Piepho (2004), "An algorithm for a letter-based representation of all-pairwise comparisons", J. Comput. Graph.
        Stat. 13, 456-466 (insert and absorb).
    """
    pairs = list(combinations(range(len(names)), 2))
    values = [values_by_name[name] for name in names]
    p_values = [compare_seeds(values[i], values[j]).p_value(test) for i, j in pairs]
    apart = [(names[i], names[j]) for (i, j), p in zip(pairs, holm(p_values), strict=True) if p < alpha]
    return letter_groups(sorted(names, key=lambda name: -float(np.mean(values_by_name[name]))), apart)


def letter_groups(ranked: Sequence[str], apart: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the compact letter display of a ranking: the largest sets in which nobody is told apart.

    Args:
        ranked: Distinct names, best first.
        apart: The pairs that were told apart.

    Returns:
        Groups in the order of their best members; within each the best first.
    """
    place = {name: rank for rank, name in enumerate(ranked)}
    columns = [frozenset(ranked)] if ranked else []
    for pair in apart:
        parts = {
            part
            for column in columns
            for part in ((column - {pair[0]}, column - {pair[1]}) if column.issuperset(pair) else (column,))
        }
        columns = [part for part in parts if not any(part < other for other in parts)]
    ordered = [sorted(column, key=place.__getitem__) for column in columns]
    return sorted(ordered, key=lambda column: [place[name] for name in column])


def letters_of(name: str, groups: Sequence[Sequence[str]]) -> str:
    """Return the letters of the groups that a name is in, a for the best: "a", "ab"; empty where it is in none."""
    letters = [chr(ord("a") + i) if i < 26 else f"({i + 1})" for i in range(len(groups))]
    return "".join(letter for letter, group in zip(letters, groups, strict=True) if name in group)
