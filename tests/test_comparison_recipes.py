"""Recipes over seeds: how alike they answer, what holds on other images, and which images tell many rivals apart."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

from cifarlab.comparison import Candidate, compare_answers
from cifarlab.differences import new_images_interval
from tests.test_comparison import LABELS, NAMES, N, candidate, compared, recipe


def counted(a: Candidate, b: Candidate) -> list[float]:
    """Shares of one pair of models, counted image by image."""
    same = right = wrong = either = alike = 0
    for p, q, y in zip(a.predicted_N.tolist(), b.predicted_N.tolist(), LABELS.tolist(), strict=True):
        same += p == q
        right += p == y == q
        wrong += p != y != q
        either += p != y or q != y
        alike += p == q != y
    return [same / N, right / N, wrong / N, wrong / either, alike / wrong]


def test_recipes_agree_as_the_pairs_of_their_trainings_do() -> None:
    new, old = recipe("new", [0.80, 0.81, 0.805, 0.795]), recipe("old", [0.75, 0.76, 0.70])
    result = compared(*old, *new)
    across = [counted(a, b) for a in new for b in old]
    within = {side[0].recipe: [counted(a, b) for a, b in itertools.combinations(side, 2)] for side in (new, old)}
    expected = {("new", "new"): within["new"], ("new", "old"): across, ("old", "old"): within["old"]}
    assert [(one.a, one.b) for one in result.recipe_agreements] == list(expected)
    for one, pairs in zip(result.recipe_agreements, expected.values(), strict=True):
        assert one.num_pairs == len(pairs)
        for found, function in ((one.mean, np.mean), (one.lowest, np.min), (one.highest, np.max)):
            assert list(vars(found).values()) == pytest.approx(function(pairs, axis=0))
    new_too, both, old_too = (f"{100 * one.mean.same_answer:.2f} %" for one in result.recipe_agreements)
    low, high = (f"{100 * pick(pairs[0] for pairs in across):.2f}" for pick in (min, max))
    assert result.alike == [
        f"The same answer is given by a training of new and a training of old to {both} of the images in the mean of "
        f"12 pairs ({low} to {high} %); by two seeds of new to {new_too}, by two seeds of old to {old_too}."
    ]
    assert [one["num_pairs"] for one in result.as_dict()["recipe_agreements"]] == [6, 12, 3]


def test_agreement_of_one_recipe_of_a_single_training_and_of_many() -> None:
    ours, vendor = recipe("ours", [0.80, 0.805, 0.81]), candidate("vendor.csv", 0.7, noise=0.02)
    alone = compared(*ours)
    assert [(one.a, one.b, one.num_pairs) for one in alone.recipe_agreements] == [("ours", "ours", 3)]
    assert alone.alike[0].startswith("The same answer is given by two seeds of ours to ")
    beside = compared(*ours, vendor)
    found = {(one.a, one.b): one for one in beside.recipe_agreements}
    assert sorted(found) == [("ours", "ours"), ("ours", "vendor.csv")]
    assert found["ours", "vendor.csv"].lowest.same_answer == min(counted(one, vendor)[0] for one in ours)
    assert beside.alike[0].startswith("The same answer is given by vendor.csv and a training of ours to ")
    many = compared(*(one for n in range(4) for one in recipe(f"r{n}", [0.7 + n / 50, 0.71 + n / 50])))
    assert (len(many.recipe_agreements), many.alike) == (10, [])
    plain = compared(*ours[:2])
    assert plain.recipe_agreements == []
    assert f"the same answer to {100 * counted(ours[0], ours[1])[0]:.2f} % of the images" in plain.alike[0]


def test_pairs_without_errors_do_not_count_for_errors_in_common() -> None:
    worse = np.where(np.arange(N) < 10, (LABELS + 1) % 4, LABELS)
    said = {"a-0": LABELS, "a-1": LABELS, "b-0": LABELS, "b-1": worse}
    result = compared(*(Candidate(name, name[0], int(name[2]), said[name]) for name in said))
    found = {(one.a, one.b): one for one in result.recipe_agreements}
    assert math.isnan(found["a", "a"].mean.common_errors)
    assert (found["a", "b"].mean.common_errors, found["a", "b"].mean.same_answer) == (0, 1 - 5 / N)
    json.dumps(result.as_dict(), allow_nan=False)


def test_other_images_are_counted_beside_the_seeds() -> None:
    """Answers of one recipe are moved together, as if each knew images of its own."""
    known = np.random.default_rng(7).random(N) < 0.08
    new = recipe("new", [0.80, 0.803, 0.802, 0.801])
    old = [
        dataclasses.replace(one, predicted_N=np.where(known, (LABELS + 1) % 4, one.predicted_N))
        for one in recipe("old", [0.80, 0.802, 0.801])
    ]
    result = compared(*new, *old)
    (pair,) = result.recipe_pairs
    sides = [np.stack([one.predicted_N == LABELS for one in side]) for side in (new, old)]
    low, high = new_images_interval(*sides)
    assert pair.new_images == (min(low, pair.seeds.interval[0]), max(high, pair.seeds.interval[1]))
    assert pair.new_images[1] - pair.new_images[0] > pair.seeds.interval[1] - pair.seeds.interval[0]
    digits = 1 if high - low >= 0.006 else 2
    ends = f"[{100 * pair.new_images[0]:.{digits}f}, {100 * pair.new_images[1]:.{digits}f}]"
    assert (
        f" With the choice of these 2,000 images counted as chance too, the interval is {ends} points, which still "
        "leaves zero out." in result.findings[0]
    )
    assert result.as_dict()["recipe_pairs"][0]["new_images"] == [*pair.new_images]


def test_what_is_shown_for_these_images_only_is_said_to_be() -> None:
    """Each recipe knows images of its own and its seeds agree, so the seeds show what a hundred images do not."""
    labels = np.zeros(100, dtype=np.int64)
    candidates = []
    for name, known, own in (("new", np.arange(100) < 55, 10), ("old", np.arange(100) >= 50, 60)):
        for seed in range(4):
            said = np.where(known, 0, 1)
            said[[own + seed, own + (seed or 20)]] = 1  # the first seed has one image less right
            candidates.append(Candidate(f"{name}-{seed}", name, seed, said))
    result = compare_answers(candidates, labels, NAMES)
    (pair,) = result.recipe_pairs
    assert pair.apart
    assert pair.new_images[0] < 0 < pair.seeds.interval[0]
    low, high = (f"{100 * end:.1f}" for end in pair.new_images)
    assert (
        "That is shown for these 100 images only: on other images of the same kind the difference may lie anywhere in "
        f"[{low}, {high}] points." in result.findings[0]
    )


def test_of_many_rivals_the_best_two_tell_images_apart() -> None:
    many = [candidate(f"m{n}", 0.8 - n / 30, noise=0.3) for n in range(7)]
    result = compared(*many[::-1])
    ranked = sorted(many, key=lambda one: -int((one.predicted_N == LABELS).sum()))
    first, second = ranked[:2]
    assert [(side.name, side.others) for side in result.sides] == [
        (first.name, [second.name]),
        (second.name, [first.name]),
    ]
    right = {one.name: one.predicted_N == LABELS for one in many}
    assert result.sides[0].positions == np.flatnonzero(right[first.name] & ~right[second.name]).tolist()
    assert result.sides[1].answers == first.predicted_N[result.sides[1].positions].tolist()
    six = compared(*many[:6])
    assert [len(side.others) for side in six.sides] == [5] * 6


def test_of_many_recipes_the_best_two_tell_images_apart() -> None:
    sides = [recipe(f"r{n}", [0.5 + n / 20, 0.52 + n / 20]) for n in range(7)]
    result = compared(*(one for side in sides for one in side))
    assert [(side.name, side.others) for side in result.sides] == [("r6", ["r5"]), ("r5", ["r6"])]
    right = [np.stack([one.predicted_N == LABELS for one in side]) for side in (sides[6], sides[5])]
    assert result.sides[0].positions == np.flatnonzero(right[0].all(0) & ~right[1].any(0)).tolist()
