"""Plots of why: points of the plane can be told apart, or are not told apart at all."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from cifarlab.plots.why import embedding_figure


def embedded(num_classes: int) -> Figure:
    labels_M = 3 * np.arange(200) % (3 * num_classes)  # two thirds of the classes have no image
    places_M2 = np.random.default_rng(0).normal(size=(200, 2))
    names = [f"kind {k}" for k in range(3 * num_classes)]
    return embedding_figure(places_M2, labels_M, np.arange(200) % 4 > 0, names, "title")


@pytest.mark.parametrize("num_classes", [1, 20, 21, 100])
def test_every_point_is_drawn_and_classes_only_as_far_as_they_can_be_told_apart(num_classes: int) -> None:
    figure = embedded(num_classes)
    *groups, wrong = figure.axes[0].collections
    assert sum(len(group.get_offsets()) for group in groups) == 200
    assert len(wrong.get_offsets()) == 50
    looks = {(tuple(group.get_facecolor()[0]), group.get_paths()[0].vertices.tobytes()) for group in groups}
    assert len(looks) == len(groups) == (num_classes if num_classes <= 20 else 1)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[-1] == "wrong answer (50)"
    assert names[0] == ("kind 0" if num_classes <= 20 else f"image of {num_classes} classes")
