"""Factors: what the arms of a study vary, and whether they cross it completely.

A factor is a config field in which arms differ; a grid is a set of arms that holds every combination of the values of
two factors or more, each once. Only there can the effect of one factor be averaged over the others.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cifarlab.stats import mean_and_sd, without_spread


@dataclass(frozen=True)
class Grid:
    """Arms as the cells of a complete crossing.

    Attributes:
        factors: Dotted field names, at least two.
        values: For every factor its values as text, in the order of the arms.
        cells: Label of the arm at every combination of values, in the order of ``itertools.product``.
    """

    factors: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    cells: dict[tuple[str, ...], str]

    def labels_with(self, factor: int, value: str) -> list[str]:
        """Return the arms whose factor of that number has that value."""
        return [label for cell, label in self.cells.items() if cell[factor] == value]


def value_text(value: Any) -> str:
    """Return a field's value as it would be written in a command."""
    return value if isinstance(value, str) else json.dumps(value)


def find_grid(overrides_by_label: Mapping[str, Mapping[str, Any]]) -> Grid | None:
    """Return the grid that the arms form; None where they form none.

    Args:
        overrides_by_label: For every arm the plain value of each field it sets, by dotted name.
    """
    arms = list(overrides_by_label.values())
    fields = list(arms[0]) if arms else []
    if any(set(arm) != set(fields) for arm in arms):
        return None
    values = {field: tuple(dict.fromkeys(value_text(arm[field]) for arm in arms)) for field in fields}
    factors = tuple(field for field in fields if len(values[field]) > 1)
    if len(factors) < 2:
        return None
    labels = {tuple(value_text(arm[f]) for f in factors): label for label, arm in overrides_by_label.items()}
    product = list(itertools.product(*(values[factor] for factor in factors)))
    if len(arms) != len(product) or set(labels) != set(product):
        return None
    return Grid(factors, tuple(values[factor] for factor in factors), {cell: labels[cell] for cell in product})


def averaged(grid: Grid, factor: int, value: str, by_seed: Mapping[str, Mapping[int, float]]) -> list[float]:
    """Return, for every seed that all arms of the grid finished, the mean over the arms that have the value.

    Args:
        grid: The crossing.
        factor: Number of the factor.
        value: One of its values.
        by_seed: For every arm the accuracy of each finished seed.
    """
    complete = sorted(set.intersection(*(set(by_seed[label]) for label in grid.cells.values())))
    labels = grid.labels_with(factor, value)
    return [math.fsum(by_seed[label][seed] for label in labels) / len(labels) for seed in complete]


def interaction_p(grid: Grid, values_by_label: Mapping[str, Sequence[float]]) -> float:
    """Return the p-value of the test of "every effect is the same whatever the other factors are".

    What the additive model leaves of the cells' means is compared with what their spreads lead one to expect, for more
    factors all interactions at once. Accuracies are compared as they are, in points. The spreads may differ, as those
    of arms that sometimes fail do: the analysis of variance would find an interaction in every seventh study without
    one. With two values of two factors it is Welch's test; where all cells have one spread, the analysis of variance.

    Returns:
        NaN where a cell has less than two seeds, or nothing varies within cells.

    References:
        Brunner, Dette and Munk (1997), "Box-type approximations in nonparametric factorial designs", JASA 92,
        1494-1502.
    """
    from scipy.stats import f

    samples = [values_by_label[label] for label in grid.cells.values()]
    if min(map(len, samples)) < 2 or all(map(without_spread, samples)):
        return math.nan
    dummies = [(number, value) for number, values in enumerate(grid.values) for value in values[1:]]
    additive = np.array([[1.0, *(float(cell[number] == value) for number, value in dummies)] for cell in grid.cells])
    rest = np.eye(len(samples)) - additive @ np.linalg.pinv(additive)  # projects on what is not additive
    means, sds = np.array([mean_and_sd(sample) for sample in samples]).T
    counts = np.array([len(sample) for sample in samples])
    variances = sds**2 / counts
    expected = float(np.diag(rest) @ variances)
    weighted = rest * variances
    freedom = expected**2 / float(np.trace(weighted @ weighted))
    freedom_of_spread = expected**2 / float(((np.diag(rest) * variances) ** 2 / (counts - 1)).sum())
    return float(f.sf(float(means @ rest @ means) / expected, freedom, freedom_of_spread))
