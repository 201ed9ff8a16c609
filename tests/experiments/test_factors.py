"""Grids are recognised, averages are those of the cells, and the interaction test is the textbook's."""

import math

import numpy as np
import pytest
from scipy.stats import f, t

from cifarlab.experiments.factors import averaged, find_grid, interaction_p

ACT, FLIP = "model.convnet.activation", "augment.flip"
CROSSED = {f"{a} {b}": {ACT: a, FLIP: b} for a in ("relu", "gelu", "silu") for b in ("none", "random")}


def test_a_complete_crossing_is_a_grid():
    grid = find_grid(CROSSED)
    assert grid is not None
    assert grid.factors == (ACT, FLIP)
    assert grid.values == (("relu", "gelu", "silu"), ("none", "random"))
    assert grid.cells["gelu", "none"] == "gelu none"
    assert grid.labels_with(1, "random") == ["relu random", "gelu random", "silu random"]


def test_a_field_that_is_the_same_in_all_arms_is_no_factor():
    grid = find_grid({label: {**arm, "train.epochs": 3.0} for label, arm in CROSSED.items()})
    assert grid is not None
    assert grid.factors == (ACT, FLIP)


@pytest.mark.parametrize(
    "arms",
    [
        {},
        {"base": {}},
        {"relu": {ACT: "relu"}, "gelu": {ACT: "gelu"}},  # one factor
        dict(list(CROSSED.items())[:-1]),  # a cell is missing
        {**CROSSED, "again": {ACT: "relu", FLIP: "none"}},  # a cell twice
        {**CROSSED, "more": {ACT: "relu", FLIP: "none", "train.ema": 0.9}},  # an arm that sets something else
        {"none": {}, "decay": {"optimizer.weight_decay": 0.1}, "smoothing": {"train.label_smoothing": 0.1}},
    ],
)
def test_anything_else_is_none(arms):
    assert find_grid(arms) is None


def test_values_that_cannot_be_hashed_are_factors_too():
    arms = {f"{s} {a}": {"model.convnet.stages": s, ACT: a} for s in ([[1, 8]], [[2, 8]]) for a in ("relu", "gelu")}
    grid = find_grid(arms)
    assert grid is not None
    assert grid.values[0] == ("[[1, 8]]", "[[2, 8]]")


def test_averages_take_the_seeds_that_every_arm_finished():
    grid = find_grid(CROSSED)
    assert grid is not None
    generator = np.random.default_rng(0)
    by_seed = {label: {seed: float(generator.random()) for seed in range(4)} for label in CROSSED}
    del by_seed["silu none"][2]
    expected = [np.mean([by_seed[f"gelu {flip}"][seed] for flip in ("none", "random")]) for seed in (0, 1, 3)]
    np.testing.assert_allclose(averaged(grid, 0, "gelu", by_seed), expected)


def balanced_interaction_p(values_ABR):
    """Two-way analysis of variance by sums of squares, cells of equal size."""
    num_a, num_b, repeats = values_ABR.shape
    cell, a, b = values_ABR.mean(2), values_ABR.mean((1, 2)), values_ABR.mean((0, 2))
    between = repeats * ((cell - a[:, None] - b[None, :] + values_ABR.mean()) ** 2).sum()
    within = ((values_ABR - cell[:, :, None]) ** 2).sum()
    df, df_within = (num_a - 1) * (num_b - 1), num_a * num_b * (repeats - 1)
    return f.sf((between / df) / (within / df_within), df, df_within)


def unequal_interaction_p(values_ABR):
    """The same for cells of unequal spread, by Brunner, Dette and Munk's formulas with Kronecker's product."""
    num_a, num_b, repeats = values_ABR.shape
    contrasts = np.kron(np.eye(num_a) - 1 / num_a, np.eye(num_b) - 1 / num_b)
    variances = np.diag(values_ABR.var(axis=2, ddof=1).ravel() / repeats)
    means = values_ABR.mean(2).ravel()
    trace = np.trace(contrasts @ variances)
    df = trace**2 / np.trace(contrasts @ variances @ contrasts @ variances)
    df_within = trace**2 * (repeats - 1) / np.trace(np.diag(np.diag(contrasts)) ** 2 @ variances**2)
    return f.sf(means @ contrasts @ means / trace, df, df_within)


def three_by_two(values_ABR):
    labels = [[f"{a} {b}" for b in ("none", "random")] for a in ("relu", "gelu", "silu")]
    return {labels[i][j]: values_ABR[i, j].tolist() for i in range(3) for j in range(2)}


@pytest.mark.parametrize("extra", [0.0, 0.02])
def test_the_interaction_test_is_the_analysis_of_variance_where_all_cells_have_one_spread(extra):
    grid = find_grid(CROSSED)
    assert grid is not None
    values = np.random.default_rng(1).normal(0.7, 0.01, (3, 2, 4))
    values[0, 1] += extra
    assert interaction_p(grid, three_by_two(values)) == pytest.approx(unequal_interaction_p(values))
    means = values.mean(2, keepdims=True)
    even = means + 0.01 * (values - means) / values.std(axis=2, ddof=1, keepdims=True)
    assert interaction_p(grid, three_by_two(even)) == pytest.approx(balanced_interaction_p(even))


def test_the_interaction_of_two_by_two_is_welchs_test_of_the_one_contrast():
    crossed = {label: arm for label, arm in CROSSED.items() if arm[ACT] != "silu"}
    grid = find_grid(crossed)
    assert grid is not None
    generator = np.random.default_rng(4)
    values = {label: generator.normal(0.7, 0.01 * (n + 1), 3 + n).tolist() for n, label in enumerate(crossed)}
    parts = np.array([np.var(row, ddof=1) / len(row) for row in values.values()])
    freedom = parts.sum() ** 2 / (parts**2 / [len(row) - 1 for row in values.values()]).sum()
    contrast = np.dot([1, -1, -1, 1], [np.mean(row) for row in values.values()]) / np.sqrt(parts.sum())
    assert interaction_p(grid, values) == pytest.approx(2 * t.sf(abs(contrast), freedom))


def test_an_unsteady_arm_is_not_taken_for_an_interaction():
    """At 2.5 %, the half that a grid gives to its fields, the analysis of variance would find some 45 of 300."""
    grid = find_grid(CROSSED)
    assert grid is not None
    found = 0
    for number in range(300):
        values = np.random.default_rng(number).normal(0.0, 0.003, (3, 2, 3))
        values[0, 0] *= 20
        found += interaction_p(grid, three_by_two(0.7 + values)) < 0.025
    assert found <= 20


def same(values):
    return {label: list(values) for label in CROSSED}


def test_without_a_second_seed_or_any_spread_there_is_no_interaction_test():
    grid = find_grid(CROSSED)
    assert grid is not None
    assert math.isnan(interaction_p(grid, same([0.5])))
    assert math.isnan(interaction_p(grid, same([0.5, 0.5])))
    assert math.isnan(interaction_p(grid, same([0.3, 0.1 + 0.2])))  # the same but for rounding
    assert math.isnan(interaction_p(grid, {**same([0.5, 0.6]), "relu none": []}))
    assert math.isnan(interaction_p(grid, {**same([0.5, 0.6]), "relu none": [0.5]}))
