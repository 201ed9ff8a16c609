"""Plots of an evaluation: their marks stand where the figures say, for any number of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cifarlab.metrics import Mistake
from cifarlab.plots import evaluation as plots
from cifarlab.plots.style import save_figure


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def test_confusion_shows_counts_and_colours_errors_only() -> None:
    figure = plots.confusion_figure([[90, 10, 0], [5, 95, 0], [0, 0, 0]], ("a", "b", "c"), "title")
    assert sorted(texts(figure)) == ["10", "5", "90", "95"]
    drawn = figure.axes[0].images[0].get_array()
    assert drawn is not None
    assert bool(np.ma.getmaskarray(drawn).diagonal().all())
    assert drawn[0, 1] == pytest.approx(0.1)
    assert drawn[1, 0] == pytest.approx(0.05)
    assert drawn[2, 0] == 0  # a class without an image divides nothing by zero
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]


def test_confusion_of_a_perfect_model_and_of_many_classes_can_be_drawn(tmp_path: Path) -> None:
    save_figure(plots.confusion_figure([[1, 0], [0, 1]], ("a", "b"), "perfect"), tmp_path / "perfect")
    thousand = plots.confusion_figure(np.eye(1000, dtype=int), [f"class {k}" for k in range(1000)], "a thousand")
    assert max(thousand.get_size_inches()) < 25
    assert list(thousand.axes[0].get_yticklabels()) == []  # a thousand empty ones would take seconds
    many = plots.confusion_figure(np.eye(60, dtype=int).tolist(), [f"class {k}" for k in range(60)], "many")
    assert texts(many) == []
    save_figure(many, tmp_path / "many")
    assert len(list(tmp_path.iterdir())) == 4


def test_mistakes_are_drawn_with_both_classes_and_confidence() -> None:
    images = torch.randint(256, (7, 3, 8, 8), dtype=torch.uint8)
    mistakes = [Mistake(index=i, label=0, predicted=1, confidence=0.987) for i in range(7)]
    figure = plots.mistakes_figure(images, mistakes, ("a" * 60, "$dog$"), "title")
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(drawn) == 7
    assert np.array_equal(np.asarray(drawn[3]), images[3].permute(1, 2, 0).numpy())
    assert texts(figure)[1] == r"\$dog\$ 98.7%"
    assert len(texts(figure)[0]) < 30


def test_no_mistakes_say_so(tmp_path: Path) -> None:
    figure = plots.mistakes_figure(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), [], ("a", "b"), "title")
    assert texts(figure) == ["no mistake"]
    save_figure(figure, tmp_path / "none")
