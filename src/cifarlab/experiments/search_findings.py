"""Search findings: what a search showed, in plain words that say no more than its figures support."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from cifarlab.experiments.fields import VAL_FRACTION, value_of
from cifarlab.experiments.search_points import Points
from cifarlab.experiments.search_record import RECIPE, Confirmed, SearchRecord, SearchTrial, position
from cifarlab.experiments.space import Dimension, label
from cifarlab.phrases import NO_SPREAD, count, listed, number, p_text, per_cent, points
from cifarlab.stats import wilson_interval

_ALPHA = 0.05
_EDGE = 0.03
_RANDOM_TRIALS = 10  # so many trials TPE draws at random before it learns from them


def verdict(record: SearchRecord, num_val: int) -> str:
    """Return what to take from the search, in one paragraph.

    Args:
        record: The search.
        num_val: Number of validation images; 0 if unknown.
    """
    if record.best is None:
        return "No trial is complete, so there is nothing to choose from."
    tried = f" All {count(whole, 'combination')} of values were tried." if (whole := whole_space(record)) else ""
    if record.chosen_is_confirmed:
        return _confirmed_verdict(record) + tried
    text = _search_verdict(record, record.best, num_val) + tried
    if record.confirmed:
        text += " The confirmation on fresh seeds is not complete, and nothing rests on it yet."
    return text


def whole_space(record: SearchRecord) -> int:
    """Return how many points the space has if every one is finished; 0 if not, or if they are endless."""
    points, space = Points(record.spec), record.spec.space
    if points.count is None:
        return 0
    ended = [trial.values for trial in record.trials if trial.state in ("complete", "pruned", "failed")]
    whole = [values for values in ended if len(values) == len(space)]
    tried = {points.key({one.field: one.stored(values[one.field]) for one in space}) for values in whole}
    return points.count if len(tried) == points.count else 0


def _search_verdict(record: SearchRecord, best: SearchTrial, num_val: int) -> str:
    spec, complete = record.spec, record.count("complete")
    recipe = record.recipe_trial
    figure = f"{per_cent(best.accuracy)} on val"
    if num_val and spec.seeds_per_trial == 1:
        low, high = wilson_interval(round(best.accuracy * num_val), num_val)
        figure += f" ({per_cent(low, 1)} to {per_cent(high, 1)} from the number of its {num_val:,} images alone)"
    if best.is_recipe and complete == 1:
        return f"Only the recipe itself is complete and reached {figure}, so there is nothing to choose from."
    if best.is_recipe:
        return f"No other of {complete} complete trials is better than the recipe itself, which reached {figure}."
    beside = f"; the recipe itself reached {per_cent(recipe.accuracy)}" if recipe else ""
    if complete == 1:
        return f"Trial {best.label}, the only one that is complete, reached {figure}{beside}."
    return (
        f"Trial {best.label} is the best of {complete} complete trials with {figure}{beside}. "
        f"The highest of {complete} uncertain figures is an optimistic one: part of its lead is luck, and it is not "
        f"shown that {best.label} is better than the recipe."
    )


def _confirmed_verdict(record: SearchRecord) -> str:
    recipe, *rivals = record.comparable
    chosen = max(record.comparable, key=lambda one: one.mean)
    others, fresh = len(rivals), count(chosen.planned, "fresh seed")
    if chosen.label == RECIPE:
        what = f"{rivals[0].label} has no" if others == 1 else f"none of {listed([one.label for one in rivals])} has a"
        return (
            f"Trained again on {fresh}, {what} higher mean on val than the recipe itself ({_mean_sd(recipe)}): the "
            "search found nothing that is better, and best.yaml is the recipe."
        )
    text = f"Trained again on {fresh}, {chosen.label} has the highest mean on val, {_mean_sd(chosen)}"
    difference = chosen.against_recipe
    assert difference is not None  # the recipe is complete, and so is what was chosen
    text += f"; the recipe has {_mean_sd(recipe)}. "
    told = points(difference.difference, difference.interval, signed=True)
    if math.isnan(difference.p_welch) and difference.smallest_p >= _ALPHA:
        return text + f"The difference of {told} rests on too few seeds to be tested."
    told += f", {p_text(chosen.p_adjusted)}"
    if others > 1:
        told += f" after correction for {others} comparisons"
    if chosen.p_adjusted < _ALPHA:
        return text + f"It is better than the recipe on these images: {told}."
    return text + f"It cannot be told apart from the recipe: {told}."


def _mean_sd(one: Confirmed) -> str:
    if len(one.accuracies) > 1 and not one.sd > 0:
        return f"{per_cent(one.mean)}, {NO_SPREAD}"
    return per_cent(one.mean) if math.isnan(one.sd) else f"{number(100 * one.mean)} ± {number(100 * one.sd)} %"


def caveats(record: SearchRecord, test_reads: int) -> list[str]:
    """Return what the reader has to know before believing a figure, a sentence each."""
    return [*_about_figures(record), *_about_space(record), *_about_images(record, test_reads)]


def _about_figures(record: SearchRecord) -> Iterator[str]:
    spec, complete = record.spec, record.count("complete")
    if complete > 1:
        yield (
            f"The best of {complete} figures is optimistic even where all configurations are equally good: it was "
            "chosen because it is high. What counts is the mean over fresh seeds (--confirm)."
        )
    shrunk = _shrinkage(record)
    if shrunk is not None:
        trial, confirmed = shrunk
        change = confirmed.mean - trial.accuracy
        yield (
            f"In the search {trial.label} had {per_cent(trial.accuracy)}, over fresh seeds its mean is "
            f"{per_cent(confirmed.mean)}: {points(abs(change))} {'lower' if change < 0 else 'higher'}."
        )
        yield "Fresh seeds were judged on the same validation images, so luck with these images remains in the figure."
    if record.chosen_is_confirmed and len(record.comparable) > 2:
        yield (
            f"The highest of {len(record.comparable)} means over fresh seeds is chosen, so a little luck with these "
            "seeds remains in it too."
        )
    missing = [one for one in record.confirmed if not one.complete]
    if missing:
        told = [f"{len(one.accuracies)} of {count(one.planned, 'seed')} of {one.label}" for one in missing]
        rest = "these are left out of the choice" if record.chosen_is_confirmed else "nothing is chosen by it yet"
        yield f"The confirmation on fresh seeds is not complete ({listed(told)} finished): {rest}."
    best = record.best
    if record.chosen_is_confirmed and best and not best.is_recipe and best.label not in _labels(record):
        yield f"Trial {best.label}, which leads the search by now, was not trained again; --confirm does it."
    if spec.seeds_per_trial == 1 and complete:
        yield "Every trial is one run: two runs of one configuration differ by their seed alone."
    if failed := record.count("failed"):
        yield f"{failed} trial{'s' * (failed > 1)} failed; the table says why."
    if pruned := record.count("pruned"):
        yield (
            f"{pruned} trial{'s were' if pruned > 1 else ' was'} given up early, for being behind at the same epoch; "
            "one that rises late is lost that way (--pruner none keeps all)."
        )
    if spec.sampler == "tpe" and 0 < len(record.trials) <= _RANDOM_TRIALS and not whole_space(record):
        yield f"The first {_RANDOM_TRIALS} trials are drawn at random; only then does the search learn from its trials."


def _labels(record: SearchRecord) -> list[str]:
    return [one.label for one in record.confirmed]


def _shrinkage(record: SearchRecord) -> tuple[SearchTrial, Confirmed] | None:
    """Return the trial that led the search and its confirmation; None if it has none."""
    confirmed = {one.label: one for one in record.comparable}
    leaders = [trial for trial in record.ranked if trial.label in confirmed]
    return (leaders[0], confirmed[leaders[0].label]) if leaders else None


def _about_space(record: SearchRecord) -> Iterator[str]:
    if record.chosen is None or not record.chosen[1]:
        return
    for dimension in record.spec.space:
        value = record.chosen[1][dimension.field]
        end = _end_of_range(dimension, value)
        if end:
            yield (
                f"{dimension.field} = {label(short(value))} lies at the {end} end of its range ({dimension.text}); "
                "a better value may lie beyond."
            )


def _end_of_range(dimension: Dimension, value: Any) -> str:
    at = 0.5 if dimension.kind == "list" else position(dimension, value)
    natural = dimension.low == 0 and not dimension.log  # no dropout, no shift: nothing lies below
    if at <= _EDGE and not natural:
        return "lower"
    return "upper" if at >= 1 - _EDGE else ""


def _about_images(record: SearchRecord, test_reads: int) -> Iterator[str]:
    data = record.spec.recipe.data
    if data.val_fraction == 0:
        own = "Unless the images bring a validation set, the" if data.folder or data.csv else "The"
        yield (
            f"{own} recipe trains on all images; the search held out {per_cent(VAL_FRACTION, 0)} of them to go by, and "
            "best.yaml trains on all of them again."
        )
    if test_reads:
        yield (
            f"Runs of this search were evaluated on test {test_reads} time{'s' * (test_reads > 1)}: whatever was "
            "chosen after that may have been chosen by test."
        )
    else:
        yield "No trial has seen the test split: it is dropped before the first one. Evaluate the final run once."


def changes(record: SearchRecord) -> list[dict[str, Any]]:
    """Return field, the recipe's value, the chosen value and the range searched, for every field of the space."""
    chosen = record.chosen[1] if record.chosen else {}
    rows = []
    for dimension in record.spec.space:
        before = value_of(record.spec.recipe, dimension.field)
        after = chosen.get(dimension.field, before)
        rows.append(
            {
                "field": dimension.field,
                "recipe": label(short(before)),
                "chosen": label(short(after)),
                "changed": before != after,
                "searched": dimension.text,
            }
        )
    return rows


def short(value: Any) -> Any:
    """Return a number with no more digits than a table can use; other values as they are."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
