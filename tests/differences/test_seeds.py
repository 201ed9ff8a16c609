"""Recipes over seeds, against published values, brute force, scipy and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests

from cifarlab.differences import compare_seeds, groups, holm, letter_groups, letters_of

# Student's sleep data (1908), as in R's datasets; t.test gives p = 0.07939 and [-3.3654832, 0.2054832]
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
# Efron and Tibshirani (1993), "An introduction to the bootstrap", table 2.1: survival of mice in days
TREATED = [94, 197, 16, 38, 99, 141, 23]
CONTROL = [52, 104, 146, 10, 51, 30, 40, 27, 46]


def all_arrangements(a: list[float], b: list[float]) -> tuple[float, float]:
    """Return both one-sided p-values of the difference in means, every arrangement written out."""
    pooled = [*a, *b]
    observed = sum(a) / len(a) - sum(b) / len(b)
    low = high = count = 0
    for chosen in itertools.combinations(range(len(pooled)), len(a)):
        mine = sum(pooled[i] for i in chosen)
        difference = mine / len(a) - (sum(pooled) - mine) / len(b)
        low += difference <= observed + 1e-9
        high += difference >= observed - 1e-9
        count += 1
    return low / count, high / count


def test_welch_gives_the_published_values() -> None:
    result = compare_seeds(DRUG_1, DRUG_2)
    assert result.difference == pytest.approx(-1.58)
    assert result.p_welch == pytest.approx(0.07939, abs=5e-6)
    assert result.interval == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


def test_the_permutation_test_of_the_mice() -> None:
    """Section 15.2 of the book estimates the one-sided p-value as 0.132 from 1,000 random arrangements."""
    result = compare_seeds(TREATED, CONTROL)
    assert result.difference == pytest.approx(30.63, abs=0.01)
    assert result.permutation_exact
    assert result.p_permutation / 2 == pytest.approx(0.132, abs=0.03)
    assert result.p_permutation == pytest.approx(2 * min(all_arrangements(TREATED, CONTROL)))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 4), (2, 2), (3, 3), (5, 5), (2, 6), (6, 4)])
def test_the_exact_test_counts_every_arrangement(sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(sum(sizes))
    for _ in range(5):
        # counts of 1,000 images: many ties, and sums whose rounding must not break them
        a, b = ((generator.integers(930, 945, size) / 1000).tolist() for size in sizes)
        assert compare_seeds(a, b).p_permutation == pytest.approx(min(1, 2 * min(all_arrangements(a, b))))


def test_the_random_arrangements_agree_with_all_of_them() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(0.6, 1, 9), generator.normal(0, 1, 9)  # 48,620 arrangements
    result = compare_seeds(a.tolist(), b.tolist())
    assert not result.permutation_exact
    exact = stats.permutation_test(
        (a, b), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis), n_resamples=10**6, vectorized=True
    ).pvalue
    assert result.p_permutation == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize(("sizes", "smallest"), [((1, 1), 1), ((3, 3), 2 / 20), ((5, 5), 2 / 252), ((2, 5), 2 / 21)])
def test_the_smallest_p_is_reached_by_complete_separation(sizes: tuple[int, int], smallest: float) -> None:
    result = compare_seeds([1.0 + i / 10 for i in range(sizes[0])], [i / 100 for i in range(sizes[1])])
    assert result.p_permutation == pytest.approx(smallest)
    assert result.smallest_p == pytest.approx(smallest)


def test_random_arrangements_never_give_a_p_of_zero() -> None:
    result = compare_seeds([10.0 + i for i in range(20)], [float(-i) for i in range(20)])
    assert 0 < result.p_permutation == result.smallest_p < 2e-4


def test_exchanging_the_recipes_changes_signs_only() -> None:
    there, back = compare_seeds(TREATED, CONTROL), compare_seeds(CONTROL, TREATED)
    assert there.difference == -back.difference
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.hedges_g == pytest.approx(-back.hedges_g)
    assert there.probability_superior == pytest.approx(1 - back.probability_superior)
    low, high = back.probability_interval
    assert there.probability_interval == pytest.approx((1 - high, 1 - low))
    for name in ("p_welch", "p_permutation", "smallest_p"):
        assert getattr(there, name) == pytest.approx(getattr(back, name))


def test_shifting_and_scaling_changes_no_test() -> None:
    plain = compare_seeds(DRUG_1, DRUG_2)
    moved = compare_seeds([0.9 + x / 1000 for x in DRUG_1], [0.9 + x / 1000 for x in DRUG_2])
    for name in ("p_welch", "p_permutation", "hedges_g", "probability_superior"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name), rel=1e-6)
    assert moved.difference == pytest.approx(plain.difference / 1000)


def test_one_seed_says_nothing_about_spread() -> None:
    result = compare_seeds([0.94], [0.93, 0.92, 0.925])
    assert all(math.isnan(x) for x in (*result.interval, result.p_welch, result.hedges_g))
    assert result.p_permutation == 0.5
    assert result.p_value() == result.p_permutation
    assert result.probability_superior == 1
    assert result.probability_interval[0] < 0.5


@pytest.mark.parametrize("values", [[0.3, 0.3, 0.3], [0.3, 0.1 + 0.2, 0.3]])
def test_recipes_without_any_spread(values: list[float]) -> None:
    """The second differ by rounding only, as averages of equal figures do; Welch's test would call that a spread."""
    apart = compare_seeds([0.5, 0.5, 0.5], values)
    assert apart.difference == pytest.approx(0.2)
    assert all(math.isnan(x) for x in (*apart.interval, apart.p_welch, apart.hedges_g))
    assert apart.p_value() == pytest.approx(0.1)
    equal = compare_seeds([0.1] * 4, [0.1] * 4)
    assert (equal.difference, equal.p_permutation, equal.probability_superior) == (0, 1, 0.5)


@pytest.mark.parametrize("values", [([], [1.0]), ([1.0], []), ([math.nan, 1.0], [1.0]), ([math.inf], [1.0])])
def test_figures_that_are_none_are_refused(values: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="at least one figure"):
        compare_seeds(*values)


def test_hedges_g_agrees_with_its_usual_approximation() -> None:
    """Statsmodels corrects by 1 - 3 / (4 df - 1), which is Hedges' own approximation of the exact factor."""
    a, b = np.array(TREATED), np.array(CONTROL)
    approximate, _ = effectsize_smd(a.mean(), a.std(ddof=1), len(a), b.mean(), b.std(ddof=1), len(b))
    assert compare_seeds(TREATED, CONTROL).hedges_g == pytest.approx(approximate, rel=2e-3)


def test_hedges_g_is_right_on_average() -> None:
    generator = np.random.default_rng(5)
    found = [compare_seeds(generator.normal(1, 1, 3), generator.normal(0, 1, 3)).hedges_g for _ in range(1500)]
    assert np.mean(found) == pytest.approx(1, abs=0.08)


def test_the_probability_of_superiority_counts_pairs() -> None:
    a, b = [3, 1, 2, 2], [2, 1, 0]
    pairs = [1 if x > y else 0.5 if x == y else 0 for x in a for y in b]
    assert compare_seeds(a, b).probability_superior == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize("sizes", [(5, 5), (10, 4)])
def test_its_interval_solves_the_published_equation(sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(6)
    result = compare_seeds(generator.normal(0.5, 1, sizes[0]), generator.normal(0, 1, sizes[1]))
    m, n = sizes
    half = (m + n) / 2 - 1
    for end in result.probability_interval:
        variance = end * (1 - end) * (1 + half * (1 - end) / (2 - end) + half * end / (1 + end)) / (m * n)
        assert abs(result.probability_superior - end) / math.sqrt(variance) == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_its_interval_covers_the_truth_with_five_seeds(shift: float) -> None:
    generator = np.random.default_rng(7)
    truth = stats.norm.cdf(shift / math.sqrt(2))
    hits = 0
    for _ in range(500):
        low, high = compare_seeds(generator.normal(shift, 1, 5), generator.normal(0, 1, 5)).probability_interval
        hits += low <= truth <= high
    assert 0.92 <= hits / 500 <= 0.995


def test_five_seeds_that_all_win_are_no_certainty() -> None:
    result = compare_seeds([0.95, 0.951, 0.952, 0.953, 0.954], [0.94, 0.941, 0.942, 0.943, 0.944])
    assert result.probability_superior == 1
    assert result.probability_interval[1] == 1
    assert 0.5 < result.probability_interval[0] < 0.9


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([]) == []


def test_holm_is_its_definition() -> None:
    p_values = np.random.default_rng(8).uniform(0, 0.2, 12).tolist()
    order = sorted(range(12), key=p_values.__getitem__)
    expected, highest = [0.0] * 12, 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1, (12 - rank) * p_values[i]))
        expected[i] = highest
    assert holm(p_values) == pytest.approx(expected)


@pytest.mark.parametrize("size", [1, 2, 9, 40])
def test_holm_agrees_with_statsmodels(size: int) -> None:
    p_values = np.random.default_rng(size).uniform(0, 0.1, size).round(2).tolist()  # with ties
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_holm_leaves_an_array_as_it_was() -> None:
    p_values = np.array([0.01, 0.04])
    assert holm(p_values) == pytest.approx([0.02, 0.04])
    assert p_values.tolist() == [0.01, 0.04]


def test_holm_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert all(math.isnan(p) for p in holm([math.nan, math.nan]))


def around(mean: float, sd: float = 0.001) -> list[float]:
    return [mean + sd * step for step in (-1.3, -0.4, 0.0, 0.5, 1.2)]


def test_groups_of_clear_winners_and_ties() -> None:
    values = {"sigmoid": around(0.80), "relu": around(0.9), "silu": around(0.9001), "gelu": around(0.95)}
    assert groups(list(values), values) == [["gelu"], ["silu", "relu"], ["sigmoid"]]


def test_groups_may_overlap() -> None:
    values = {"a": around(0.9), "b": around(0.8986), "c": around(0.8972)}
    assert compare_seeds(values["a"], values["c"]).p_welch < 0.05 / 3
    assert groups(["a", "b", "c"], values) == [["a", "b"], ["b", "c"]]


def test_groups_are_the_largest_sets_without_a_difference() -> None:
    generator = np.random.default_rng(9)
    names = list("abcdefg")
    for _ in range(5):
        values = {
            name: generator.normal(generator.uniform(0, 3), generator.uniform(0.1, 1), 5).tolist() for name in names
        }
        pairs = list(itertools.combinations(names, 2))
        adjusted = holm([compare_seeds(values[x], values[y]).p_welch for x, y in pairs])
        apart = {frozenset(pair) for pair, p in zip(pairs, adjusted, strict=True) if p < 0.05}
        free = [
            set(members)
            for size in range(1, 8)
            for members in itertools.combinations(names, size)
            if not any(frozenset(pair) in apart for pair in itertools.combinations(members, 2))
        ]
        largest = [members for members in free if not any(members < other for other in free)]
        found = groups(names, values)
        assert sorted(map(sorted, found)) == sorted(map(sorted, largest))
        means = [[np.mean(values[name]) for name in group] for group in found]
        assert all(group == sorted(group, reverse=True) for group in means)
        assert [group[0] for group in means] == sorted((group[0] for group in means), reverse=True)


def test_groups_do_not_depend_on_the_order_of_the_names() -> None:
    values = {"a": around(0.9), "b": around(0.8986), "c": around(0.8972), "d": around(0.7)}
    found = {str(groups(order, values)) for order in itertools.permutations("abcd")}
    assert found == {"[['a', 'b'], ['b', 'c'], ['d']]"}


def test_the_exact_test_with_three_seeds_tells_nobody_apart() -> None:
    values = {"a": [0.9, 0.901, 0.902], "b": [0.5, 0.501, 0.502]}
    assert groups(["a", "b"], values) == [["a"], ["b"]]
    assert groups(["a", "b"], values, test="permutation") == [["a", "b"]]


def test_letters_of_given_pairs() -> None:
    assert letter_groups("abc", []) == [["a", "b", "c"]]
    assert letter_groups("abcd", [("a", "b"), ("c", "a")]) == [["a", "d"], ["b", "c", "d"]]
    assert letter_groups("", []) == []


def test_letters_name_the_groups() -> None:
    ranking = [["a", "b"], ["b", "c"]]
    assert [letters_of(name, ranking) for name in "abcd"] == ["a", "ab", "b", ""]
    assert letters_of("x", [["y"]] * 25 + [["x"], ["x"]]) == "z(27)"


def test_groups_of_none_and_of_one() -> None:
    assert groups([], {}) == []
    assert groups(["a"], {"a": [0.5]}) == [["a"]]
    assert groups(["a", "b"], {"a": [0.5], "b": [0.9]}) == [["b", "a"]]
