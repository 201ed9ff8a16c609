"""Plots of classes, confidence, coverage and ranking: marks stand where the figures say, for any number of classes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from cifarlab.plots.calibration import Reliability, coverage_figure, reliability_figure
from cifarlab.plots.ranking import ClassCurve, precision_recall_figure, roc_figure
from cifarlab.plots.scores import ClassRow, class_intervals_figure
from cifarlab.plots.style import BLUE, RED, figure_bytes

BINS = [
    {"lower": 0.0, "upper": 0.5, "count": 10, "confidence": 0.4, "accuracy": 0.6, "interval": [0.3, 0.8]},
    {"lower": 0.5, "upper": 0.75, "count": 0, "confidence": None, "accuracy": None, "interval": None},
    {"lower": 0.75, "upper": 1.0, "count": 30, "confidence": 0.9, "accuracy": 0.7, "interval": [0.5, 0.8]},
]


def point(coverage, accuracy):
    return {"coverage": coverage, "accuracy": accuracy, "interval": [accuracy - 0.02, min(1, accuracy + 0.01)]}


def test_reliability_bars_are_accuracies_and_shares_before_and_after():
    figure = reliability_figure([Reliability("before", 0.2, BINS), Reliability("after", 0.1, BINS[2:])], "title")
    before, after, shares_before, shares_after = figure.axes
    assert [(bar.get_x(), bar.get_height()) for bar in before.patches] == [(0, 0.6), (0.75, 0.7)]
    assert [bar.get_height() for bar in shares_before.patches] == [0.25, 0.75]
    assert [bar.get_height() for bar in shares_after.patches] == [1]
    assert before.get_legend().get_title().get_text() == "ECE 20.00%"
    whiskers = [path.vertices[:, 1].tolist() for path in before.collections[0].get_paths()]
    assert whiskers == [[0.3, 0.8], [0.5, 0.8]]
    assert after.get_title(loc="left") == "after"


def test_coverage_curve_runs_through_its_points():
    curve = [point(1.0, 0.94), point(0.5, 0.99), point(0.8, 0.97)]
    chosen = {"coverage": 0.7, "accuracy": 0.98, "interval": [0.97, 0.99]}
    (axes,) = coverage_figure(curve, chosen, 0.985, "title").axes
    line = next(line for line in axes.lines if line.get_color() == BLUE)
    assert line.get_xydata().tolist() == [[0.5, 0.99], [0.8, 0.97], [1.0, 0.94]]
    mark = next(line for line in axes.lines if line.get_color() == RED and line.get_marker() == "D")
    assert mark.get_xydata().tolist() == [[0.7, 0.98]]
    low, high = axes.get_ylim()
    assert low < 0.94
    assert high >= 1
    (axes,) = coverage_figure([point(1.0, 0.02)], None, 0.5, "one point").axes
    assert next(line for line in axes.lines if line.get_color() == BLUE).get_marker() == "o"  # or nothing would be seen
    assert axes.get_ylim()[0] >= -0.01


def test_of_a_thousand_classes_the_weakest_are_drawn():
    whole = (0.9, (0.8, 0.95))
    rows = [ClassRow(f"class {k}", 5, whole, whole, (k / 2000, (0.0, 1.0))) for k in range(2000)]
    figure = class_intervals_figure([ClassRow("absent", 0, None, None, None), *rows], "title")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"class {k}  (5)" for k in range(120)]
    assert figure.axes[0].get_title(loc="left") == "title: the 120 weakest"
    assert max(figure.get_size_inches()) < 40


def test_classes_are_ordered_by_f1_and_absent_ones_are_last():
    whole = (0.9, (0.8, 0.95))
    rows = [
        ClassRow("middle", 10, whole, whole, (0.9, (0.8, 0.95))),
        ClassRow("absent", 0, None, None, None),
        ClassRow("best", 1000, whole, None, (0.99, (0.98, 1.0))),
    ]
    (axes,) = class_intervals_figure(rows, "title").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["absent  (0)", "middle  (10)", "best  (1,000)"]
    low, high = axes.get_xlim()
    assert low < 0.8
    assert high > 1


def curve_of(name, area, points=20):
    rates = np.linspace(0, 1, points)
    return ClassCurve(name, area, area, rates, np.sqrt(rates), rates[::-1], 1 - 0.5 * rates[::-1])


@pytest.mark.parametrize("count", [1, 2, 10, 100])
def test_the_hardest_classes_are_in_colour_and_every_class_is_drawn(count):
    curves = [curve_of(f"class {k}", 0.9 + k / 1000) for k in range(count)]
    for figure in (roc_figure(curves, 500, "title"), precision_recall_figure(curves, "title")):
        (axes,) = figure.axes
        named = [text.get_text().split("  ")[0] for text in axes.get_legend().get_texts()]
        assert named == [f"class {k}" for k in range(min(count, 5))]
        drawn = [line for line in axes.lines if len(line.get_xdata()) == 20]
        assert len(drawn) == count
        assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == min(count, 6)
    assert figure_bytes(roc_figure(curves[:3], 500, "title"), "svg") == figure_bytes(
        roc_figure(curves[:3], 500, "title"), "svg"
    )


def test_the_area_below_the_drawn_curve_is_the_auroc_among_equals_too():
    generator = np.random.default_rng(0)
    positive, scores = np.arange(200) < 60, generator.integers(4, size=200)
    false_rates, true_rates, _ = roc_curve(positive, scores)
    curve = ClassCurve("a", roc_auc_score(positive, scores), 0.5, false_rates, true_rates, np.ones(2), np.ones(2))
    line = roc_figure([curve], 200, "title").axes[0].lines[0]
    assert line.get_drawstyle() == "default"
    rates, found = line.get_xdata(), line.get_ydata()
    area = (np.diff(rates) * (found[1:] + found[:-1]) / 2).sum()
    assert area == pytest.approx(curve.auroc, abs=0.003)  # rates of zero stand at half an image


def test_a_false_positive_rate_of_zero_stands_at_the_left_edge():
    (axes,) = roc_figure([curve_of("a", 0.9)], 500, "title").axes
    assert axes.lines[0].get_xdata()[0] == axes.get_xlim()[0] == 0.001


def test_no_name_of_a_class_hides_it_from_the_legend() -> None:
    curves = [curve_of(name, area) for name, area in (("_noise_", 0.8), ("$\\frac{a}$", 0.85), ("cat", 0.9))]
    legend = roc_figure(curves, 500, "title").axes[0].get_legend()
    assert legend is not None
    assert [text.get_text().split()[0] for text in legend.get_texts()] == ["_noise_", "\\$\\frac{a}\\$", "cat"]
