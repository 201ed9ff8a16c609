"""Plots of robustness: what stands in them."""

from __future__ import annotations

import pytest

from cifarlab.plots.robustness import (
    Level,
    attacks_figure,
    corruption_curves_figure,
    corruption_table_figure,
    sets_figure,
    shifts_figure,
)
from cifarlab.plots.style import figure_bytes


def texts(axes: object) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_every_cell_of_the_table_has_its_figure() -> None:
    figure = corruption_table_figure([("fog", [0.9, 0.123]), ("a $b$ c", [0.5, 0.0])], 0.95, "Title")
    axes = figure.axes[0]
    assert texts(axes) == ["95.0", "90.0", "12.3", "95.0", "50.0", "0.0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["as it is", "severity 1", "severity 2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fog", r"a \$b\$ c"]
    assert figure_bytes(figure, "svg").startswith(b"<?xml")


def test_curves_begin_at_the_images_as_they_are() -> None:
    clean = {"value": 0.9, "interval": (0.88, 0.92)}
    family = [{"value": 0.8, "interval": (0.7, 0.85)}, {"value": 0.6, "interval": None}]
    figure = corruption_curves_figure({"noise": family, "blur": family}, clean, "Title")
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == ["noise", "blur"]
    assert lines[0].get_ydata().tolist() == [0.9, 0.8, 0.6]
    assert lines[0].get_marker() != lines[1].get_marker()


def test_each_kind_of_shift_has_its_panel() -> None:
    levels = [Level(2, 0.7, (0.6, 0.8), 0.5), Level(1, 0.9, None, 0.85)]
    figure = shifts_figure({"translation": levels, "scale": levels}, 0.95, "Title")
    assert len(figure.axes) == 2
    line = next(line for line in figure.axes[0].lines if line.get_label().startswith("accuracy"))
    assert line.get_xdata().tolist() == [1, 2]  # in order of size
    assert line.get_ydata().tolist() == [0.9, 0.7]
    assert figure_bytes(figure, "png") == figure_bytes(figure, "png")


@pytest.mark.parametrize("draw", [sets_figure, attacks_figure])
def test_rows_are_told_from_the_top_with_their_figures(draw: object) -> None:
    figure = draw([("one", 0.9, (0.88, 0.92)), ("two", 0.82, None)], "Title")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    assert texts(axes) == ["90.0 %", "82.0 %"]
    bottom, top = axes.get_ylim()
    assert bottom > top
