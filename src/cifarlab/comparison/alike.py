"""How alike models answer, and the trainings of recipes. Shape suffix: N images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

from cifarlab.comparison.results import Agreement, RecipeAgreement, RecipeFigures


def agreement(a_N: NDArray[np.int64], b_N: NDArray[np.int64], labels_N: NDArray[np.int64]) -> Agreement:
    """Count how far the answers of two models agree."""
    same, a_wrong, b_wrong = a_N == b_N, a_N != labels_N, b_N != labels_N
    both, either = a_wrong & b_wrong, a_wrong | b_wrong
    return Agreement(
        same_answer=float(same.mean()),
        both_right=float((~either).mean()),
        both_wrong=float(both.mean()),
        common_errors=float(both.sum() / either.sum()) if either.any() else math.nan,
        same_error=float((same & both).sum() / both.sum()) if both.any() else math.nan,
    )


def recipe_agreements(
    recipes: Sequence[RecipeFigures], predicted: Mapping[str, NDArray[np.int64]], labels_N: NDArray[np.int64]
) -> list[RecipeAgreement]:
    """Summarise the agreement of every two recipes over the pairs of their trainings, and of each within itself.

    How alike two recipes answer means little alone: seeds of one recipe do not give the same answers either, and their
    agreement is the yardstick. Two recipes of one training each are left out, since they are two models.

    Args:
        recipes: In the order in which they are to be told.
        predicted: The answers of every model, by name.
        labels_N: int64, N.
    """
    found = []
    for a, b in combinations_with_replacement(recipes, 2):
        if len(a.members) == len(b.members) == 1:
            continue
        pairs = combinations(a.members, 2) if a is b else product(a.members, b.members)
        found.append(_summary(a.name, b.name, [agreement(predicted[x], predicted[y], labels_N) for x, y in pairs]))
    return found


def _summary(a: str, b: str, pairs: Sequence[Agreement]) -> RecipeAgreement:
    shares = {field: _known(getattr(pair, field) for pair in pairs) for field in vars(pairs[0])}
    return RecipeAgreement(
        a=a,
        b=b,
        num_pairs=len(pairs),
        mean=Agreement(**{field: math.fsum(values) / len(values) for field, values in shares.items()}),
        lowest=Agreement(**{field: min(values) for field, values in shares.items()}),
        highest=Agreement(**{field: max(values) for field, values in shares.items()}),
    )


def _known(values: Iterable[float]) -> list[float]:
    """Return the shares that are known; a single NaN where none is, since pairs without errors have none in common."""
    return [value for value in values if not math.isnan(value)] or [math.nan]
