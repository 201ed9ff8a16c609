"""A comparison: its figures are those of plain counting, and its words say what the tests support and nothing else."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestIndPower

from cifarlab.comparison import Candidate, Comparison, compare_answers, words
from cifarlab.differences import compare_paired, compare_seeds, groups, holm

NAMES = ("a", "b", "c", "d")
N = 2000
LABELS = np.arange(N) % 4


def candidate(
    name: str, accuracy: float, *, seed: int | None = None, recipe: str = "", noise: float = 0.15, draw: int = 0
) -> Candidate:
    """Answer rightly where a difficulty all candidates share, moved by a little noise, is below the accuracy."""
    shared = np.random.default_rng(1).random(N)
    generator = np.random.default_rng([sum(map(ord, name)), draw, seed or 0])
    right = shared + noise * generator.normal(size=N) < accuracy
    return Candidate(name, recipe or name, seed, np.where(right, LABELS, (LABELS + generator.integers(1, 4, N)) % 4))


def compared(*candidates: Candidate) -> Comparison:
    return compare_answers(candidates, LABELS, NAMES)


def recipe(name: str, accuracies: list[float]) -> list[Candidate]:
    return [candidate(f"{name}-{n}", x, seed=n, recipe=name, noise=0.02) for n, x in enumerate(accuracies)]


def test_two_models_by_plain_counting() -> None:
    a, b = candidate("a", 0.8), candidate("b", 0.7)
    result = compared(b, a)
    assert [one.name for one in result.models] == ["b", "a"]
    assert (result.recipes, result.recipe_pairs, result.ranked) == ([], [], "models")
    (pair,) = result.model_pairs
    right_a, right_b = a.predicted_N == LABELS, b.predicted_N == LABELS
    assert (pair.a, pair.b) == ("a", "b")
    assert pair.paired == compare_paired(right_a, right_b)
    assert (pair.p_adjusted, pair.apart) == (pair.paired.p_exact, True)
    assert result.ranking == [["a"], ["b"]]
    both = same = common = either = 0
    for p, q, y in zip(a.predicted_N, b.predicted_N, LABELS, strict=True):
        same += p == q
        both += p == y == q
        either += p != y or q != y
        common += p != y and q != y
    assert pair.agreement.same_answer == same / N
    assert pair.agreement.both_right == both / N
    assert pair.agreement.both_wrong == common / N
    assert pair.agreement.common_errors == pytest.approx(common / either)
    wrong_alike = sum(p == q != y for p, q, y in zip(a.predicted_N, b.predicted_N, LABELS, strict=True))
    assert pair.agreement.same_error == pytest.approx(wrong_alike / common)


def test_the_sentence_of_two_models_holds_their_figures() -> None:
    result = compared(candidate("one", 0.8), candidate("two", 0.7))
    paired = result.model_pairs[0].paired
    more = paired.only_a - paired.only_b
    low, high = (f"{100 * end:.1f}" for end in paired.interval)
    assert paired.interval[1] - paired.interval[0] > 0.006  # so wide that one decimal is enough
    expected = f"one is right on {more} images more than two, of 2,000: +{more / 20:.1f} points [{low}, {high}], "
    assert result.findings == [f"{expected}McNemar p < 0.001."]
    assert any("not recipes" in text for text in result.cautions)


def test_models_that_differ_by_chance_are_not_told_apart() -> None:
    result = compared(candidate("one", 0.8, draw=1), candidate("two", 0.8, draw=2))
    (pair,) = result.model_pairs
    assert not pair.apart
    assert len(result.ranking) == 1
    text = result.findings[0]
    assert "cannot be told apart on these 2,000 images" in text
    assert f"{100 * pair.smallest_significant:.2f} points cannot be significant" in text
    assert f"{100 * pair.detectable:.2f} points is found four times in five" in text
    assert not re.search(r"\b(beats|better|wins|more than)\b", text)


def test_equal_answers_and_too_few_differences() -> None:
    a = candidate("a", 0.8)
    same = compared(a, Candidate("b", "b", None, a.predicted_N))
    assert "right and wrong on the same images" in same.findings[0]
    assert same.sides[0].positions == []
    almost = a.predicted_N.copy()
    almost[np.flatnonzero(a.predicted_N == LABELS)[:3]] = (LABELS[np.flatnonzero(a.predicted_N == LABELS)[:3]] + 1) % 4
    few = compared(a, Candidate("b", "b", None, almost))
    assert "On 3 images exactly one of them is right; so few can show no difference." in few.findings[0]
    assert few.as_dict()["model_pairs"][0]["detectable"] is None
    json.dumps(few.as_dict(), allow_nan=False)


def test_classes_are_tested_and_corrected() -> None:
    a, b = candidate("a", 0.8), candidate("b", 0.78)
    worse = b.predicted_N.copy()
    worse[LABELS == 2] = np.where(np.arange(N // 4) % 3, 2, 0)
    result = compared(a, Candidate("b", "b", None, worse))
    assert result.classes_of == ("a", "b")
    p_values = []
    for k, row in enumerate(result.classes):
        here = np.equal(LABELS, k)
        only_a = int(((a.predicted_N == k) & (worse != k) & here).sum())
        only_b = int(((a.predicted_N != k) & (worse == k) & here).sum())
        assert (row.name, row.support) == (NAMES[k], N // 4)
        assert row.difference == pytest.approx((only_a - only_b) / (N // 4))
        p_values.append(stats.binomtest(only_a, only_a + only_b).pvalue)
        assert row.p == pytest.approx(p_values[-1])
    assert [row.p_adjusted for row in result.classes] == pytest.approx(holm(p_values))
    assert [row.name for row in result.classes if row.apart] == ["c"]


def test_a_class_without_images_is_left_out() -> None:
    labels = np.arange(N) % 3
    result = compare_answers(
        [Candidate(x, x, None, (labels + (np.arange(N) < k)) % 4) for k, x in ((9, "a"), (5, "b"))], labels, NAMES
    )
    assert [row.name for row in result.classes] == ["a", "b", "c"]


def test_images_that_one_alone_has_right() -> None:
    a, b, c = (candidate(x, 0.7, noise=0.3) for x in "abc")
    sides = {side.name: side for side in compared(a, b, c).sides}
    expected = [
        n for n in range(N) if a.predicted_N[n] == LABELS[n] != b.predicted_N[n] and c.predicted_N[n] != LABELS[n]
    ]
    assert sides["a"].positions == expected
    for n, answer in zip(expected, sides["a"].answers, strict=True):
        assert answer in (b.predicted_N[n], c.predicted_N[n])
        assert answer != LABELS[n]


def test_three_models_are_corrected_and_ranked() -> None:
    result = compared(candidate("low", 0.6), candidate("high", 0.8), candidate("also", 0.8, draw=5))
    assert [(pair.a in ("high", "also"), pair.b) for pair in result.model_pairs[1:]] == [(True, "low"), (True, "low")]
    assert [pair.p_adjusted for pair in result.model_pairs] == pytest.approx(
        holm([pair.paired.p_exact for pair in result.model_pairs])
    )
    assert sorted(result.ranking[0]) == ["also", "high"]
    assert result.ranking[1] == ["low"]
    assert result.findings[0].startswith("Ranking as groups, best first")
    assert "after correction for 3 comparisons" in result.findings[1]
    assert "even without correction" in result.findings[1]
    assert result.classes == []


def test_recipes_are_compared_over_seeds() -> None:
    new, old = recipe("new", [0.80, 0.81, 0.805, 0.795]), recipe("old", [0.75, 0.76, 0.74, 0.755, 0.745])
    result = compared(*old, *new)
    assert result.ranked == "recipes"
    assert result.model_pairs == []
    values = {one.name: one.accuracy for one in result.models}
    (pair,) = result.recipe_pairs
    expected = compare_seeds([values[one.name] for one in new], [values[one.name] for one in old])
    assert (pair.a, pair.b) == ("new", "old")
    assert pair.seeds == expected
    assert result.ranking == [["new"], ["old"]]
    assert [one.name for one in result.recipes] == ["new", "old"]
    assert result.recipes[0].mean == pytest.approx(np.mean([values[one.name] for one in new]))
    assert result.recipes[1].sd == pytest.approx(np.std([values[one.name] for one in old], ddof=1))
    pooled = math.sqrt((3 * result.recipes[0].sd ** 2 + 4 * result.recipes[1].sd ** 2) / 7)
    solve = TTestIndPower().solve_power
    assert pair.detectable == pytest.approx(pooled * solve(nobs1=4, power=0.8, alpha=0.05))  # of the fewer seeds
    assert pair.seeds_needed == math.ceil(solve(effect_size=pair.seeds.difference / pooled, power=0.8, alpha=0.05))
    assert result.findings[0].startswith("new beats old by ")
    assert "with 4 and 5 seeds" in result.findings[0]
    assert not any("not recipes" in text for text in result.cautions)
    for k, row in enumerate(result.classes):
        shares = [[float((one.predicted_N[np.equal(LABELS, k)] == k).mean()) for one in side] for side in (new, old)]
        assert row.p == pytest.approx(compare_seeds(*shares).p_welch)
    alone = {side.name: set(side.positions) for side in result.sides}
    for n in alone["new"]:
        assert all(one.predicted_N[n] == LABELS[n] for one in new)
        assert all(one.predicted_N[n] != LABELS[n] for one in old)


def test_recipes_within_their_spread_are_not_told_apart() -> None:
    result = compared(*recipe("x", [0.80, 0.77, 0.79]), *recipe("y", [0.79, 0.80, 0.775]))
    text = result.findings[0]
    assert "cannot be told apart with 3 and 3 seeds" in text
    assert "which so few seeds cannot bring below 0.10" in text
    (pair,) = result.recipe_pairs
    pooled = math.sqrt((result.recipes[0].sd ** 2 + result.recipes[1].sd ** 2) / 2)
    solve = TTestIndPower().solve_power
    found = 100 * pooled * solve(nobs1=3, power=0.8, alpha=0.05)
    assert f"A true difference of {found:.2f} points would be found four times in five" in text
    needed = math.ceil(solve(effect_size=pair.seeds.difference / pooled, power=0.8, alpha=0.05))
    assert pair.seeds_needed == needed
    assert f"as seen here, would take {needed:,} seeds of each" in text
    assert not re.search(r"\b(beats|better)\b", text)
    assert len(result.ranking) == 1


def test_many_recipes_are_ranked_as_the_differences_say() -> None:
    sides = [
        recipe(name, [x, x + 0.01, x - 0.008])
        for name, x in zip("uvwxyz", (0.5, 0.51, 0.6, 0.7, 0.705, 0.9), strict=True)
    ]
    result = compared(*(one for side in sides for one in side))
    values = {side[0].recipe: [float((one.predicted_N == LABELS).mean()) for one in side] for side in sides}
    assert result.ranking == groups(sorted(values, key=lambda name: -np.mean(values[name])), values)
    assert len(result.recipe_pairs) == 15
    assert result.findings[0].startswith("Ranking as groups")
    assert len([text for text in result.findings if "beats" in text or "told apart with" in text]) == 1


def test_one_model_against_the_seeds_of_a_recipe() -> None:
    ours = recipe("ours", [0.80, 0.805, 0.81])
    result = compared(*ours, candidate("vendor.csv", 0.7, noise=0.02))
    assert result.recipe_pairs == []
    assert {(pair.a, pair.b) for pair in result.model_pairs} == {(one.name, "vendor.csv") for one in ours}
    text = next(text for text in result.findings if "vendor.csv is" in text)
    assert "Against the 3 seeds of ours, vendor.csv is worse in 3 of 3 comparisons" in text
    assert "nothing is known of its own spread" in text
    assert (result.ranking, result.rivals) == ([], ["ours", "vendor.csv"])


def test_many_single_models_are_counted_in_one_sentence() -> None:
    single = [candidate(f"m{n}", 0.5 + n / 50, noise=0.02) for n in range(4)]
    result = compared(*recipe("new", [0.8, 0.81, 0.805]), *recipe("old", [0.75, 0.76, 0.74]), *single)
    assert len(result.model_pairs) == 6 + 4 * 6
    assert result.findings[0].startswith("new beats old")
    apart = sum(pair.apart for pair in result.model_pairs)
    assert result.findings[1].startswith("4 models with one training each")
    assert f"{apart} of 30 pairs are told apart" in result.findings[1]
    assert len(result.findings) == 4


def test_a_long_ranking_is_told_from_its_best() -> None:
    result = compared(*(candidate(f"m{n}", 0.8 - n / 30, noise=0.05) for n in range(9)))
    first = result.ranking[0]
    level = {name for group in result.ranking if "m0" in group for name in group} - {"m0"}
    assert first[0] == "m0"
    assert len(result.findings) == 2
    assert (
        f"the other {8 - len(level)} are told apart" in result.findings[0] or "better than each" in result.findings[0]
    )
    assert all(name in result.findings[0] for name in level)
    assert result.groups_of("m0") == "".join(
        letter for letter, g in zip("abcdefghi", result.ranking, strict=False) if "m0" in g
    )
    assert result.groups_of("nobody") == ""


def test_who_shares_two_groups_with_the_best_is_named_once() -> None:
    """Neither b nor d is told apart from a, but b is from d; c is told apart from nobody of them."""
    text = words._ranking([["a", "b", "c"], ["a", "c", "d"], ["e", "f"], ["g", "h"]])
    assert text.startswith("a has the most right, but is not told apart from b, c, d; the other 4 are told apart")


def test_seeds_of_one_recipe_are_described_and_not_ranked() -> None:
    result = compared(*recipe("only", [0.8, 0.79, 0.81, 0.8, 0.805]))
    assert (result.model_pairs, result.recipe_pairs, result.ranking, result.sides) == ([], [], [], [])
    assert result.findings[0].startswith("only over 5 seeds: mean ")
    assert "endlessly many images seeds would differ by " in result.findings[0]
    assert "trainings of one recipe" in result.cautions[0]
    few = compared(*recipe("only", [0.8, 0.79, 0.81]))
    assert "endlessly" not in few.findings[0]


def test_two_seeds_of_one_recipe_are_two_models() -> None:
    result = compared(*recipe("only", [0.8, 0.7]))
    assert (result.recipes, result.rivals) == ([], ["only-0", "only-1"])
    assert result.findings[0].startswith("only-0 is right on")
    assert len(result.findings) == 1
    assert "trainings of one recipe" in result.cautions[0]


def test_an_interval_over_two_seeds_stays_a_share() -> None:
    result = compared(*recipe("wild", [0.9, 0.5]), *recipe("tame", [0.7, 0.71]))
    assert {one.name: one.interval for one in result.recipes}["wild"] == (0, 1)


def test_answers_in_a_wrong_order_are_pointed_out() -> None:
    shuffled = candidate("right", 0.9).predicted_N[np.random.default_rng(0).permutation(N)]
    result = compared(candidate("right", 0.9), Candidate("shuffled.csv", "s", None, shuffled))
    assert any(
        text.startswith("shuffled.csv is right on ") and "dealt out at random" in text for text in result.cautions
    )
    assert not any(text.startswith("right is right on") for text in result.cautions)


def test_answers_in_a_wrong_order_are_pointed_out_also_where_classes_are_unequal() -> None:
    """Nine images of ten are of one class, so that shuffled answers are right four times in five."""
    generator = np.random.default_rng(0)
    labels = (generator.random(N) < 0.1).astype(np.int64)
    said = np.where(generator.random(N) < 0.96, labels, 1 - labels)
    shuffled = generator.permutation(said)
    result = compare_answers(
        [Candidate("ordered", "o", None, said), Candidate("shuffled.csv", "s", None, shuffled)], labels, NAMES
    )
    other = result.models[1]
    expected = np.mean([np.mean(generator.permutation(shuffled) == labels) for _ in range(300)])
    assert other.chance == pytest.approx(expected, abs=0.002)
    assert other.accuracy > 0.75  # thrice as often as with four equal classes
    assert [text.split()[0] for text in result.cautions if "dealt out at random" in text] == ["shuffled.csv"]


def test_seeds_without_any_spread_have_no_interval() -> None:
    def seeds(name: str, wrong: int) -> list[Candidate]:
        said = np.where(np.arange(N) < wrong, (LABELS + 1) % 4, LABELS)
        return [Candidate(f"{name}-{n}", name, n, said) for n in range(5)]

    result = compared(*seeds("new", 200), *seeds("old", 300))
    assert all(math.isnan(end) for one in result.recipes for end in one.interval)
    start = "new beats old by 5.00 points with 5 and 5 seeds (exact permutation test p = 0.008)."
    assert result.findings[0].startswith(start), "Welch's test is not defined without any spread"
    assert ", which still leaves zero out. One training of new is better" in result.findings[0]
    assert result.findings[1] == "new over 5 seeds: mean 90.00 %, no spread seen between these seeds."
    json.dumps(result.as_dict(), allow_nan=False)


def test_the_order_of_candidates_changes_no_finding() -> None:
    sides = [*recipe("new", [0.80, 0.81, 0.805]), *recipe("old", [0.75, 0.76, 0.74]), candidate("vendor", 0.7)]
    assert compared(*sides).findings == compared(*reversed(sides)).findings


@pytest.mark.parametrize("names", [["a"], ["a", "a"]])
def test_a_comparison_takes_two_names(names: list[str]) -> None:
    with pytest.raises(ValueError, match="two candidates"):
        compared(*(candidate(name, 0.8) for name in names))


def test_answers_that_are_all_right_need_no_second_look() -> None:
    """Where all images are of one class, answers dealt out at random are as often right."""
    labels = np.zeros(20, dtype=np.int64)
    worse = np.where(np.arange(20) < 2, 1, 0)
    result = compare_answers([Candidate("a", "a", None, labels), Candidate("b", "b", None, worse)], labels, NAMES)
    assert [text.split()[0] for text in result.cautions if "dealt out at random" in text] == ["b"]
