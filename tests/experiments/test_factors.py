"""Grids are recognised, averages are those of the cells, and the interaction test is the textbook's."""

import math

import numpy as np
import pytest
from scipy.stats import f

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


@pytest.mark.parametrize("extra", [0.0, 0.02])
def test_the_interaction_test_is_that_of_the_analysis_of_variance(extra):
    grid = find_grid(CROSSED)
    assert grid is not None
    values = np.random.default_rng(1).normal(0.7, 0.01, (3, 2, 4))
    values[0, 1] += extra
    labels = [[f"{a} {b}" for b in ("none", "random")] for a in ("relu", "gelu", "silu")]
    by_label = {labels[i][j]: values[i, j].tolist() for i in range(3) for j in range(2)}
    assert interaction_p(grid, by_label) == pytest.approx(balanced_interaction_p(values))


def same(values):
    return {label: list(values) for label in CROSSED}


def test_without_a_second_seed_or_any_spread_there_is_no_interaction_test():
    grid = find_grid(CROSSED)
    assert grid is not None
    assert math.isnan(interaction_p(grid, same([0.5])))
    assert math.isnan(interaction_p(grid, same([0.5, 0.5])))
    assert math.isnan(interaction_p(grid, same([0.3, 0.1 + 0.2])))  # the same but for rounding
    assert math.isnan(interaction_p(grid, {**same([0.5, 0.6]), "relu none": []}))
