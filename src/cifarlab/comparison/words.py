"""What a comparison supports, in plain words: a difference is stated where a test shows it, and nowhere else."""

from __future__ import annotations

import math

from cifarlab.comparison.results import Comparison, ModelPair, RecipeAgreement, RecipeFigures, RecipePair
from cifarlab.phrases import (
    NO_SPREAD,
    beyond_images_clause,
    digits_of,
    interval,
    number,
    p_text,
    p_value,
    per_cent,
    points,
)

_MOST_NAMES = 8  # of a sentence
_MOST_ALIKE = 3  # sentences on agreement, which says less
_MOST_PAIRS = 6  # told one by one; more are told as a ranking, with the table beside it


def findings(comparison: Comparison) -> list[str]:
    """Return the sentences that the tests of a comparison support, the most important first."""
    recipes = {one.name: one for one in comparison.recipes}
    sentences = [_recipe_pair(pair, recipes, comparison) for pair in comparison.recipe_pairs]
    sentences = sentences if len(sentences) <= _MOST_PAIRS else sentences[:1]
    sentences += _of_models(comparison)
    if sum(map(len, comparison.ranking)) > 2:
        sentences.insert(0, _ranking(comparison.ranking))
    return [*sentences, *(_spread(one) for one in comparison.recipes if len(one.members) > 1)]


def _of_models(comparison: Comparison) -> list[str]:
    """Return what is found image by image; of many pairs the first, or their number where recipes come first."""
    pairs = comparison.model_pairs
    single = [one.name for one in comparison.recipes if len(one.members) == 1]
    if not comparison.recipes:
        sentences = [_model_pair(pair, len(pairs)) for pair in pairs]
        return sentences if len(sentences) <= _MOST_PAIRS else sentences[:1]
    repeated = [one for one in comparison.recipes if len(one.members) > 1]
    sentences = [_single_against_seeds(name, recipe, comparison) for name in single for recipe in repeated]
    sentences += [_model_pair(pair, len(pairs)) for pair in pairs if {pair.a, pair.b} <= set(single)]
    if len(sentences) <= _MOST_PAIRS:
        return sentences
    apart = sum(pair.apart for pair in pairs)
    return [
        f"{len(single)} models with one training each are compared image by image with all others: {apart} of "
        f"{len(pairs)} pairs are told apart (McNemar, after correction); the table of models shows which."
    ]


def cautions(comparison: Comparison) -> list[str]:
    """Return what the figures of a comparison do not show."""
    sentences = []
    for model in comparison.models:
        spread = math.sqrt(model.chance * (1 - model.chance) / comparison.num_images)
        if model.correct == comparison.num_images or model.accuracy > model.chance + 3 * spread:
            continue
        text = (
            f"{model.name} is right on {per_cent(model.accuracy)}, about as often as its answers would be if they were "
            f"dealt out at random ({per_cent(model.chance)})"
        )
        foreign = model.seed is None  # not a run of ours
        remedy = "its answers are in the order of the images and its class ids in that of the classes"
        sentences.append(f"{text}: make sure that {remedy}." if foreign else f"{text}.")
    if len({model.recipe for model in comparison.models}) == 1:
        sentences.append("All are trainings of one recipe: what tells them apart is the seed, not the recipe.")
    elif not comparison.recipe_pairs:
        sentences.append(
            "Models are compared here, not recipes: another training of the same recipe gives other answers. "
            "Which recipe is better, several seeds of each would show."
        )
    repeated = [one for one in comparison.recipes if len(one.members) > 1]
    if repeated:
        sampling = 100 * max(one.variance.sampling_sd for one in repeated)
        sentences.append(
            f"Intervals over seeds hold for these {comparison.num_images:,} images. Another set of so many would move "
            f"the accuracy of each model by about {sampling:.2f} points (standard deviation)."
        )
    return sentences


def alike(comparison: Comparison) -> list[str]:
    """Return how alike two models answer, or the trainings of recipes; of many pairs the table alone tells it."""
    if len(comparison.models) == 2:
        (pair,) = comparison.model_pairs
        text = f"{pair.a} and {pair.b} give the same answer to {per_cent(pair.agreement.same_answer)} of the images"
        if math.isnan(pair.agreement.common_errors):
            return [f"{text}."]
        common = per_cent(pair.agreement.common_errors)
        return [f"{text}; of the images that at least one of them has wrong, both have {common} wrong."]
    within = {one.a: one for one in comparison.recipe_agreements if one.a == one.b}
    across = [one for one in comparison.recipe_agreements if one.a != one.b]
    if len(across) > _MOST_ALIKE:
        return []
    return [_alike(one, within) for one in across or within.values()]


def _alike(one: RecipeAgreement, within: dict[str, RecipeAgreement]) -> str:
    """Return the agreement of two recipes beside that of the seeds of each, or the latter alone."""
    mean = f"{per_cent(one.mean.same_answer)} of the images"
    if one.num_pairs > 1:
        low, high = one.lowest.same_answer, one.highest.same_answer
        mean += f" in the mean of {one.num_pairs:,} pairs ({number(100 * low)} to {per_cent(high)})"
    if one.a == one.b:
        return f"The same answer is given by two seeds of {one.a} to {mean}."
    names = sorted((one.a, one.b), key=lambda name: name in within)  # "v.csv and a training of x" is clear
    a, b = (f"a training of {name}" if name in within else name for name in names)
    own = [
        f"by two seeds of {name} to {per_cent(within[name].mean.same_answer)}"
        for name in (one.a, one.b)
        if name in within
    ]
    return f"The same answer is given by {a} and {b} to {mean}; {', '.join(own)}."


def _model_pair(pair: ModelPair, comparisons: int) -> str:
    paired = pair.paired
    more, discordant = paired.only_a - paired.only_b, paired.only_a + paired.only_b
    if discordant == 0:
        return f"{pair.a} and {pair.b} are right and wrong on the same images; these images show no difference."
    test = f"McNemar {p_text(pair.p_adjusted)}{_corrected(comparisons)}"
    size = points(paired.difference, paired.interval, signed=True)
    if pair.apart:
        count = f"{more:,} {_images(more)} more than {pair.b}, of {paired.num_images:,}"
        return f"{pair.a} is right on {count}: {size}, {test}."
    seen = f"{pair.a} is right on {more:,} more, {size}" if more else "both are right on equally many"
    if math.isnan(pair.smallest_significant):
        power = f"On {discordant:,} {_images(discordant)} exactly one of them is right; so few can show no difference."
    else:
        power = (
            f"On {discordant:,} images exactly one of them is right; with so many, a difference below "
            f"{_plain_points(pair.smallest_significant)} points cannot be significant"
        )
        power += (
            f", and one of {_plain_points(pair.detectable)} points is found four times in five."
            if comparisons == 1
            else " even without correction."
        )
    return f"{pair.a} and {pair.b} cannot be told apart on these {paired.num_images:,} images: {seen}, {test}. {power}"


def _recipe_pair(pair: RecipePair, recipes: dict[str, RecipeFigures], comparison: Comparison) -> str:
    seeds, comparisons = pair.seeds, len(comparison.recipe_pairs)
    num_a, num_b = len(recipes[pair.a].members), len(recipes[pair.b].members)
    size = points(seeds.difference, seeds.interval, signed=True)
    tests = _tests(pair, comparisons)
    if pair.apart:
        low, high = seeds.probability_interval
        return (
            f"{pair.a} beats {pair.b} by {size.removeprefix('+')} with {num_a} and {num_b} seeds ({tests})."
            f"{_other_images(pair, comparison.num_images)} "
            f"One training of {pair.a} is better than one of {pair.b} with probability "
            f"{seeds.probability_superior:.2f} [{low:.2f}, {high:.2f}]."
        )
    text = f"{pair.a} and {pair.b} cannot be told apart with {num_a} and {num_b} seeds: {size} ({tests})."
    text += _other_images(pair, comparison.num_images)
    if not math.isnan(pair.detectable):
        text += f" A true difference of {_plain_points(pair.detectable)} points would be found four times in five"
        text += " before correction" if comparisons > 1 else ""
        text += (
            f"; one of {_plain_points(seeds.difference)}, as seen here, would take {pair.seeds_needed:,} seeds of each."
            if pair.seeds_needed
            else "."
        )
    return text


def _other_images(pair: RecipePair, num_images: int) -> str:
    """Return what the difference may be on other images; the interval beside it takes these images as they are."""
    if math.isnan(pair.new_images[0]):
        return ""
    ends = interval(pair.new_images, digits_of(pair.new_images))
    if pair.apart and pair.new_images[0] <= 0:
        return (
            f" That is shown for these {num_images:,} images only: on other images of the same kind the difference may "
            f"lie anywhere in {ends} points."
        )
    zero = ", which still leaves zero out" if pair.apart else ""
    return (
        f" With the choice of these {num_images:,} images counted as chance too, the interval is {ends} points{zero}."
    )


def _tests(pair: RecipePair, comparisons: int) -> str:
    """Return which tests were made and what came out; the first is the one that decides."""
    seeds = pair.seeds
    permutation = f"{'exact' if seeds.permutation_exact else 'random'} permutation test"
    least = f", which so few seeds cannot bring below {p_value(seeds.smallest_p)}" if seeds.smallest_p > 0.05 else ""
    decided = f"{p_text(pair.p_adjusted)}{_corrected(comparisons)}"
    if math.isnan(seeds.p_welch):  # no seed differs from another of its recipe
        return f"{permutation} {decided}{least}"
    return f"Welch {decided}, {permutation} {p_text(seeds.p_permutation)}{least}"


def _single_against_seeds(name: str, recipe: RecipeFigures, comparison: Comparison) -> str:
    pairs = [
        pair for pair in comparison.model_pairs if name in (pair.a, pair.b) and {pair.a, pair.b} & {*recipe.members}
    ]
    total = len(recipe.members)
    better = sum(pair.a == name and pair.apart for pair in pairs)
    worse = sum(pair.b == name and pair.apart for pair in pairs)
    undecided = total - better - worse
    accuracy = next(model.accuracy for model in comparison.models if model.name == name)
    parts = [
        f"{text} in {count}"
        for count, text in ((better, "better"), (worse, "worse"), (undecided, "not to be told apart"))
        if count
    ]
    accuracies = f"it is right on {per_cent(accuracy)}, they on {per_cent(recipe.mean)} in the mean"
    test = f"McNemar, after correction for {len(comparison.model_pairs)}"
    return (
        f"Against the {total} seeds of {recipe.name}, {name} is {', '.join(parts)} of {total} comparisons ({test}); "
        f"{accuracies}. "
        f"{name} is one training, so nothing is known of its own spread."
    )


def _spread(recipe: RecipeFigures) -> str:
    text = f"{recipe.name} over {len(recipe.members)} seeds: mean {per_cent(recipe.mean)}"
    if not recipe.sd > 0:
        return f"{text}, {NO_SPREAD} between these seeds."
    text += f" {interval(recipe.interval)}, standard deviation {points(recipe.sd)} between seeds on these images"
    if recipe.variance.few_seeds:
        return f"{text}."
    return f"{text}; {beyond_images_clause(recipe.variance.distribution_seed_sd)}."


def _ranking(groups: list[list[str]]) -> str:
    names = {name for group in groups for name in group}
    if sum(map(len, groups)) <= _MOST_NAMES:
        text = "; ".join(", ".join(group) for group in groups)
        return f"Ranking as groups, best first (who shares a group was not told apart): {text}."
    best = groups[0][0]
    level = list(dict.fromkeys(name for group in groups if best in group for name in group if name != best))
    others = len(names) - 1 - len(level)
    if not level:
        return f"{best} is better than each of the other {others}; the table shows how these form groups."
    shown = ", ".join(level[:_MOST_NAMES]) + (f" and {len(level) - _MOST_NAMES} more" if level[_MOST_NAMES:] else "")
    rest = f"; the other {others} are told apart from it" if others else ""
    return f"{best} has the most right, but is not told apart from {shown}{rest}. The table shows all groups."


def _plain_points(difference: float) -> str:
    return f"{100 * abs(difference):.2f}"


def _corrected(comparisons: int) -> str:
    return f" after correction for {comparisons} comparisons" if comparisons > 1 else ""


def _images(count: int) -> str:
    return "image" if count == 1 else "images"
