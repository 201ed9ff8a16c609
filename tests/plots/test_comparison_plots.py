"""Plots of a comparison: marks, intervals and colours stand for the figures given."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from cifarlab.plots import comparison as plots
from cifarlab.plots.style import BLUE, MUTED, figure_bytes, save_figure

BARS = [
    plots.Bar("shown", 0.02, (0.01, 0.03)),
    plots.Bar("not shown", -0.001, (-0.004, 0.002), strong=False),
    plots.Bar("one training", 0.01, (math.nan, math.nan), dots=(0.008, 0.012)),
]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def test_differences_stand_where_they_are_and_grey_means_not_shown() -> None:
    (axes,) = plots.difference_figure(BARS, "title", "points").axes
    lines = {tuple(line.get_xdata()): line.get_color() for line in axes.lines if line.get_linewidth() == 2}
    assert lines == {(0.01, 0.03): BLUE, (-0.004, 0.002): MUTED}
    marks = [collection.get_offsets().tolist() for collection in axes.collections]
    assert [0.02, 0] in marks[0]
    assert [[0.008, 2], [0.012, 2]] in marks
    assert [label.get_text() for label in axes.get_yticklabels()] == ["shown", "not shown", "one training"]
    top, bottom = axes.get_ylim()
    assert top > bottom  # the first line is on top
    low, high = axes.get_xlim()
    assert low < 0 < high
    assert axes.xaxis.get_major_formatter()(0.02, 0) == "+2"


def test_long_names_of_two_stand_on_two_lines_and_keep_both_their_ends() -> None:
    first, second = "fast90 (optimizer.lr 0.12, train.epochs 5.5)", "fast90 (optimizer.lr 0.12, train.epochs 8.0)"
    bar = plots.Bar(first, 0.01, (0.0, 0.02), minus=second)
    (axes,) = plots.difference_figure([bar], "title", "points").axes
    above, below = axes.get_yticklabels()[0].get_text().split("\n")
    for line, name in ((above, first), (below.removeprefix("\N{MINUS SIGN} "), second)):
        assert len(line) == 34
        head, tail = line.split("…")
        assert name.startswith(head)
        assert name.endswith(tail)
        assert abs(len(head) - len(tail)) <= 1
    assert above != below.removeprefix("\N{MINUS SIGN} ")


def test_accuracies_are_per_cent() -> None:
    (axes,) = plots.accuracy_figure([plots.Bar("a", 0.9125, (0.9, 0.92))], "title", "accuracy").axes
    assert axes.xaxis.get_major_formatter()(0.9125, 0) == "91.25 %"


@pytest.mark.parametrize("count", [1, 6, 7, 12])
def test_pictures_bear_truth_and_answer(count: int, tmp_path: Path) -> None:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 3, 4, 4)
    answers = [plots.Answered("$true$", f"said {n}") for n in range(count)]
    figure = plots.pictures_figure(images, answers, "title")
    drawn = [int(axes.images[0].get_array()[0, 0, 0]) for axes in figure.axes if axes.images]  # type: ignore[index]
    assert drawn == list(range(count))
    assert texts(figure)[1::2] == [f"said {n}" for n in range(count)]
    save_figure(figure, tmp_path / "pictures")


def test_names_with_dollars_and_great_length_can_be_drawn() -> None:
    figure = plots.difference_figure([plots.Bar("$x_{" + "long" * 20, 0.0, (0.0, 0.0))], "a $ title", "$")
    assert figure_bytes(figure, "svg")
