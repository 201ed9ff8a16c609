"""From answers to figures: pairs of models image by image, recipes over seeds. Shape suffixes: N images, S seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cifarlab.comparison import words
from cifarlab.comparison.alike import agreement, recipe_agreements
from cifarlab.comparison.results import (
    Candidate,
    ClassDifference,
    Comparison,
    ModelFigures,
    ModelPair,
    RecipeFigures,
    RecipePair,
    Side,
)
from cifarlab.differences import (
    compare_paired,
    compare_seeds,
    detectable_difference,
    detectable_paired_difference,
    groups,
    holm,
    letter_groups,
    new_images_interval,
    seeds_needed,
    smallest_significant_difference,
    variance_parts,
)
from cifarlab.stats import accuracy_interval, mean_and_sd, wilson_interval

ALPHA = 0.05
_MOST_SIDES = 6  # with more rivals, hardly an image is left that just one has right: then the best two are shown
_MOST_SEEDS = 100_000  # beyond, nobody would train so many


def compare_answers(
    candidates: Sequence[Candidate], labels_N: NDArray[np.int64], class_names: Sequence[str]
) -> Comparison:
    """Compare the answers of two or more models to the same images.

    Where every recipe has one training, all pairs of models are compared image by image. Where a recipe has several
    seeds, recipes are compared over seeds; a model that has none is compared image by image with every other, since a
    single training says nothing of its spread. Two models are always compared image by image.

    Args:
        candidates: At least two, with distinct names; in a recipe, every seed once.
        labels_N: int64, N, at least two.
        class_names: K names in label order.

    Raises:
        ValueError: If there are fewer than two candidates, or names or lengths do not fit.
    """
    names = [one.name for one in candidates]
    if len(candidates) < 2 or len(set(names)) < len(names):
        raise ValueError("a comparison takes two candidates or more, with distinct names")
    correct = {one.name: one.predicted_N == labels_N for one in candidates}
    models = [_model(one, correct[one.name], labels_N) for one in candidates]
    recipes = _recipes(candidates, correct)
    model_pairs = _model_pairs(candidates, recipes, correct, labels_N)
    repeated = [one for one in recipes if len(one.members) > 1]
    recipe_pairs = _recipe_pairs(repeated, correct)
    ranked: Literal["models", "recipes"] = "recipes" if len(repeated) > 1 else "models"
    classes_of, classes = _classes(model_pairs, recipe_pairs, recipes, correct, labels_N, class_names)
    told = recipes if repeated and len(candidates) > 2 else []
    result = Comparison(
        num_images=len(labels_N),
        num_classes=len(class_names),
        models=models,
        recipes=told,
        model_pairs=model_pairs,
        recipe_pairs=recipe_pairs,
        recipe_agreements=recipe_agreements(told, {one.name: one.predicted_N for one in candidates}, labels_N),
        ranked=ranked,
        ranking=_ranking(models, repeated, model_pairs),
        classes=classes,
        classes_of=classes_of,
        sides=_sides(candidates, recipes if len(candidates) > 2 else [], labels_N),
        findings=[],
        cautions=[],
        alike=[],
    )
    return dataclasses.replace(
        result, findings=words.findings(result), cautions=words.cautions(result), alike=words.alike(result)
    )


def _ranking(
    models: Sequence[ModelFigures], repeated: Sequence[RecipeFigures], pairs: Sequence[ModelPair]
) -> list[list[str]]:
    """Rank recipes with several seeds, or models where there is none; seeds of one recipe are no rivals."""
    accuracy = {one.name: one.accuracy for one in models}
    if len(repeated) > 1:
        values = {one.name: [accuracy[member] for member in one.members] for one in repeated}
        return groups(list(values), values, ALPHA)
    if repeated:
        return []  # one training against several is told in words
    order = sorted(accuracy, key=lambda name: -accuracy[name])
    return letter_groups(order, [(pair.a, pair.b) for pair in pairs if pair.apart])


def _model(one: Candidate, correct_N: NDArray[np.bool_], labels_N: NDArray[np.int64]) -> ModelFigures:
    right, total = int(correct_N.sum()), len(correct_N)
    size = 1 + int(max(labels_N.max(), one.predicted_N.max()))
    labelled_K, answered_K = (np.bincount(ids_N, minlength=size) / total for ids_N in (labels_N, one.predicted_N))
    chance = float(labelled_K @ answered_K)
    return ModelFigures(one.name, one.recipe, one.seed, right, right / total, wilson_interval(right, total), chance)


def _recipes(candidates: Sequence[Candidate], correct: dict[str, NDArray[np.bool_]]) -> list[RecipeFigures]:
    """Return recipes, best first; one with a single training goes by the name of its model."""
    members: dict[str, list[str]] = {}
    for one in candidates:
        members.setdefault(one.recipe, []).append(one.name)
    recipes = []
    for recipe, names in members.items():
        correct_SN = np.stack([correct[name] for name in names])
        accuracies = [float(row.mean()) for row in correct_SN]
        label = recipe if len(names) > 1 else names[0]
        figures = (*mean_and_sd(accuracies), accuracy_interval(accuracies))
        recipes.append(RecipeFigures(label, tuple(names), *figures, variance_parts(correct_SN)))
    return sorted(recipes, key=lambda one: -one.mean)


def _model_pairs(
    candidates: Sequence[Candidate],
    recipes: Sequence[RecipeFigures],
    correct: dict[str, NDArray[np.bool_]],
    labels_N: NDArray[np.int64],
) -> list[ModelPair]:
    """Compare every two models of which one at least is the only training of its recipe; two models in any case."""
    single = {one.members[0] for one in recipes if len(one.members) == 1}
    names = sorted((one.name for one in candidates), key=lambda name: -int(correct[name].sum()))
    chosen = [pair for pair in combinations(names, 2) if single & set(pair) or len(names) == 2]
    predicted = {one.name: one.predicted_N for one in candidates}
    paired = [compare_paired(correct[a], correct[b]) for a, b in chosen]
    adjusted = holm([one.p_exact for one in paired])
    pairs = []
    for (a, b), one, p in zip(chosen, paired, adjusted, strict=True):
        discordant = one.only_a + one.only_b
        pairs.append(
            ModelPair(
                a=a,
                b=b,
                paired=one,
                p_adjusted=p,
                apart=p < ALPHA,
                smallest_significant=smallest_significant_difference(one.num_images, discordant, ALPHA),
                detectable=detectable_paired_difference(one.num_images, discordant, alpha=ALPHA),
                agreement=agreement(predicted[a], predicted[b], labels_N),
            )
        )
    return pairs


def _recipe_pairs(recipes: Sequence[RecipeFigures], correct: dict[str, NDArray[np.bool_]]) -> list[RecipePair]:
    """Compare every two recipes with several seeds; ``recipes`` are in order, so a has the higher mean."""
    pairs = list(combinations(recipes, 2))
    values = {one.name: [float(correct[member].mean()) for member in one.members] for one in recipes}
    found = [compare_seeds(values[a.name], values[b.name]) for a, b in pairs]
    adjusted = holm([one.p_value() for one in found])
    result = []
    for (a, b), seeds, p in zip(pairs, found, adjusted, strict=True):
        freedom = len(a.members) + len(b.members) - 2
        sd = math.sqrt(((len(a.members) - 1) * a.sd**2 + (len(b.members) - 1) * b.sd**2) / freedom)
        fewer = min(len(a.members), len(b.members))
        detectable = detectable_difference(sd, fewer, alpha=ALPHA) if sd > 0 else math.nan
        a_SN, b_SN = (np.stack([correct[member] for member in one.members]) for one in (a, b))
        new_images = new_images_interval(a_SN, b_SN, seeds.interval)
        needed = _needed(sd, seeds.difference)
        result.append(RecipePair(a.name, b.name, seeds, p, p < ALPHA, new_images, detectable, needed))
    return result


def _needed(sd: float, difference: float) -> int | None:
    # the number grows with (sd / difference)^2; asking for millions would only take time
    if not sd > 0 or not abs(difference) > 4 * sd / math.sqrt(_MOST_SEEDS):
        return None
    return seeds_needed(sd, difference, alpha=ALPHA)


def _classes(
    model_pairs: Sequence[ModelPair],
    recipe_pairs: Sequence[RecipePair],
    recipes: Sequence[RecipeFigures],
    correct: dict[str, NDArray[np.bool_]],
    labels_N: NDArray[np.int64],
    class_names: Sequence[str],
) -> tuple[tuple[str, ...], list[ClassDifference]]:
    """Compare two models, or two recipes, class by class; more than two would make tables that nobody reads."""
    if len(correct) == 2:
        a, b = model_pairs[0].a, model_pairs[0].b
        sides = [np.stack([correct[name]]) for name in (a, b)]
    elif len(recipe_pairs) == 1 and len(recipes) == 2:
        a, b = recipe_pairs[0].a, recipe_pairs[0].b
        members = {one.name: one.members for one in recipes}
        sides = [np.stack([correct[name] for name in members[recipe]]) for recipe in (a, b)]
    else:
        return (), []
    present = [k for k in range(len(class_names)) if (labels_N == k).any()]
    rows = [_one_class(class_names[k], sides[0][:, labels_N == k], sides[1][:, labels_N == k]) for k in present]
    adjusted = holm([row.p for row in rows])
    return (a, b), [
        dataclasses.replace(row, p_adjusted=p, apart=p < ALPHA) for row, p in zip(rows, adjusted, strict=True)
    ]


def _one_class(name: str, a_SN: NDArray[np.bool_], b_SN: NDArray[np.bool_]) -> ClassDifference:
    a, b = a_SN.mean(1), b_SN.mean(1)
    if len(a) == len(b) == 1:
        paired = compare_paired(a_SN[0], b_SN[0])
        interval, p = paired.interval, paired.p_exact
    else:
        seeds = compare_seeds(a.tolist(), b.tolist())
        interval, p = seeds.interval, seeds.p_value()
    difference = float(a.mean() - b.mean())
    return ClassDifference(
        name, a_SN.shape[1], float(a.mean()), float(b.mean()), difference, interval, p, math.nan, False
    )


def _sides(
    candidates: Sequence[Candidate], recipes: Sequence[RecipeFigures], labels_N: NDArray[np.int64]
) -> list[Side]:
    members = {one.name: one.members for one in recipes} or {one.name: (one.name,) for one in candidates}
    if len(members) < 2:
        return []
    if len(members) > _MOST_SIDES:
        members = {name: members[name] for name in list(members)[:2]}  # recipes are in order, the best first
    predicted = {one.name: one.predicted_N for one in candidates}
    sides = []
    for name, own in members.items():
        rivals = [other for other in members if other != name]
        own_SN = np.stack([predicted[one] for one in own])
        others_SN = np.stack([predicted[one] for other in rivals for one in members[other]])
        alone_N = (own_SN == labels_N).all(0) & (others_SN != labels_N).all(0)
        answers = [int(np.bincount(said).argmax()) for said in others_SN[:, alone_N].T]
        sides.append(Side(name, rivals, np.flatnonzero(alone_N).tolist(), answers))
    return sides
