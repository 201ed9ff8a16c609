"""Plots of a study: marks stand where the figures say, names do not overlap, and the bands are those of the seeds."""

import math

import numpy as np
import pytest

from cifarlab.plots.study import (
    LABELLED_CURVES,
    ArmCurve,
    ArmPoints,
    _apart,
    _lanes,
    plot_arms,
    plot_compute,
    plot_learning,
)
from cifarlab.plots.style import figure_bytes


def arm(label, *values, pflop=0.01):
    mean, spread = float(np.mean(values)), float(np.ptp(values))
    interval = (mean - spread, mean + spread) if len(values) > 1 else (math.nan, math.nan)
    return ArmPoints(label, values, mean, interval, pflop)


def curve(label, *heights):
    epochs = tuple(float(e + 1) for e in range(len(heights)))
    return ArmCurve(label, epochs, heights, tuple(h - 0.01 for h in heights), tuple(h + 0.02 for h in heights))


def dots(axes, marker):
    return sorted(float(x) for line in axes.get_lines() if line.get_marker() == marker for x in line.get_xdata())


def test_every_seed_and_mean_is_drawn_in_per_cent_best_on_top():
    arms = [arm("gelu", 0.74, 0.75), arm("relu", 0.70, 0.71, 0.73)]
    axes = plot_arms(arms, "accuracy (%)").axes[0]
    assert dots(axes, "o") == pytest.approx([70, 71, 73, 74, 75])
    assert dots(axes, "D") == pytest.approx([100 * arms[1].mean, 100 * arms[0].mean])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gelu", "relu"]
    assert axes.yaxis_inverted()
    low, high = axes.get_xlim()
    assert low < 100 * arms[1].interval[0]
    assert high > 100 * arms[0].interval[1]


def test_leaders_are_enlarged_where_another_arm_lies_far_below():
    far = plot_arms([arm("a", 0.80, 0.81), arm("b", 0.79, 0.80), arm("c", 0.10, 0.10)], "accuracy (%)")
    assert len(far.axes) == 2
    assert min(dots(far.axes[1], "o")) == pytest.approx(79)
    assert len(plot_arms([arm("a", 0.80), arm("b", 0.79), arm("c", 0.78)], "accuracy (%)").axes) == 1
    assert len(plot_arms([arm("a", 0.80), arm("b", 0.10)], "accuracy (%)").axes) == 1


def test_equal_values_are_not_blown_up_to_a_difference_and_lie_side_by_side():
    axes = plot_arms([arm("a", 0.7, 0.7, 0.7)], "accuracy (%)").axes[0]
    low, high = axes.get_xlim()
    assert high - low >= 1
    heights = next(line.get_ydata() for line in axes.get_lines() if line.get_marker() == "o")
    assert len(set(heights)) == 3


def test_bands_reach_from_the_lowest_to_the_highest_seed():
    axes = plot_learning([curve("gelu", 0.5, 0.7), curve("relu", 0.4, 0.6)]).axes[0]
    bands = sorted(
        (path.vertices[:, 1].min(), path.vertices[:, 1].max()) for c in axes.collections for path in c.get_paths()
    )
    assert bands == [(pytest.approx(39), pytest.approx(62)), (pytest.approx(49), pytest.approx(72))]
    assert {text.get_text() for text in axes.texts} == {"gelu", "relu"}


def test_the_second_half_of_the_leaders_is_enlarged_and_every_arm_named_once():
    rising = [0.2, 0.5, 0.6, 0.7, 0.72, 0.73]
    curves = [curve("gelu", *rising), curve("relu", *(h - 0.004 for h in rising)), curve("tanh", *([0.1] * 6))]
    whole, enlarged = plot_learning(curves).axes
    assert len(whole.get_lines()) == 3
    assert [text.get_text() for text in whole.texts] == ["tanh"]
    assert {text.get_text() for text in enlarged.texts} == {"gelu", "relu"}
    assert {tuple(line.get_xdata()) for line in enlarged.get_lines()} == {(3, 4, 5, 6)}
    low, high = enlarged.get_ylim()
    assert 50 < low < 59.6
    assert 73 < high < 80


def test_more_curves_than_can_be_told_apart_share_one_grey_label():
    curves = [curve(f"arm {i}", 0.5, 0.7 - i / 100) for i in range(LABELLED_CURVES + 5)]
    axes = plot_learning(curves).axes[0]
    assert len(axes.texts) == LABELLED_CURVES + 1
    assert axes.texts[-1].get_text() == "5 more"
    assert len({text.get_color() for text in axes.texts}) == LABELLED_CURVES + 1
    assert len(axes.get_lines()) == len(curves)


def test_no_curve_is_refused():
    with pytest.raises(ValueError, match="no curve"):
        plot_learning([])


def test_compute_is_drawn_where_it_is():
    axes = plot_compute([arm("a", 0.7, 0.72, pflop=0.1), arm("b", 0.6, 0.61, pflop=0.001)], "accuracy (%)").axes[0]
    assert dots(axes, "D") == pytest.approx([0.001, 0.1])
    assert axes.get_xscale() == "log"
    assert axes.get_ylabel() == "accuracy (%)"


@pytest.mark.parametrize("heights", [[1.0, 1.0, 1.0], [0.0, 10.0, 9.9, 9.8], list(range(30)), [5.0], []])
def test_labels_keep_their_distance_and_their_order(heights):
    placed = _apart(heights, 0.5, 0.0, 10.0)
    order = np.argsort(heights, kind="stable")
    assert all(b - a >= 0.5 - 1e-9 for a, b in zip(np.array(placed)[order], np.array(placed)[order][1:], strict=False))
    if len(heights) * 0.5 <= 10:
        assert all(-1e-9 <= height <= 10 + 1e-9 for height in placed)


def test_dots_of_one_lane_do_not_touch():
    values = np.sort(np.random.default_rng(0).random(40)).tolist()
    lanes = _lanes(values, 0.05)
    for lane in set(lanes):
        inside = [value for value, one in zip(values, lanes, strict=True) if one == lane]
        assert lane == 0 or min(np.diff(inside), default=1) >= 0.05


@pytest.mark.parametrize("name", ["a" * 80, "$x^2$", "<b>&", "mu µ"])
def test_any_name_can_be_drawn(name):
    figure = plot_arms([arm(name, 0.7, 0.71), arm("b", 0.5)], "accuracy (%)")
    assert figure_bytes(figure, "svg").startswith(b"<?xml")
    assert figure_bytes(plot_learning([curve(name, 0.7)]), "png").startswith(b"\x89PNG")
    assert figure_bytes(plot_compute([arm(name, 0.7, pflop=0.2), arm("b", 0.5)], "accuracy"), "png").startswith(
        b"\x89PNG"
    )
