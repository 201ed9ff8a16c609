"""Plots of label suspects, of people's agreement and of unknown inputs: their marks stand where the figures say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cifarlab.plots.quality import agreement_figure, suspects_figure
from cifarlab.plots.style import RED
from cifarlab.plots.unknown import Sample, confidence_figure, samples_figure


def test_every_suspect_has_its_label_and_the_suggestion():
    images = torch.zeros(7, 3, 9, 9, dtype=torch.uint8)
    given, suggested = [f"given{n}" for n in range(7)], [f"other{n}" for n in range(7)]
    figure = suspects_figure(images, given, suggested, [0.5 + n / 20 for n in range(7)])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [*(f"label: given{n}" for n in range(7)), *[""] * 5]
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert (texts[0], texts[6], len(texts)) == ("other0? 50.0%", "other6? 80.0%", 7)
    assert len(figure.axes) == 12
    assert sum(bool(axes.images) for axes in figure.axes) == 7


def test_agreement_shows_both_accuracies_and_the_interval_of_one():
    figure = agreement_figure(["below 50 %", "all"], [10, 1200], [(0.6, 0.3, 0.8), (0.95, 0.94, 0.96)], [0.4, 1.0])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["below 50 %\n10", "all\n1,200"]
    heights = [np.asarray(line.get_ydata()).tolist() for line in axes.lines]
    assert [0.6, 0.95] in heights
    assert [0.4, 1.0] in heights
    segments = axes.collections[0].get_segments()
    assert [segment[:, 1].tolist() for segment in segments] == [pytest.approx([0.3, 0.8]), pytest.approx([0.94, 0.96])]


def test_confidence_shows_quantiles_and_the_threshold():
    values = {"known": np.linspace(0.5, 1, 101), "noise": np.linspace(0.2, 0.4, 101)}
    axes = confidence_figure(values, 0.45, 0.1).axes[0]
    drawn = [segment[:, 0].tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert drawn[0] == pytest.approx([0.525, 0.975])
    assert drawn[1] == pytest.approx([0.625, 0.875])
    assert drawn[2] == pytest.approx([0.21, 0.39])
    medians = [float(line.get_xdata()[0]) for line in axes.lines]
    assert medians == pytest.approx([0.75, 0.3, 0.45])  # the last is the threshold
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the known ones on top


def test_an_answer_that_is_not_rejected_stands_out():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    kept, rejected = Sample(image, "cat", 0.9, rejected=False), Sample(image, "$dog$", 0.2, rejected=True)
    rows = {"noise": [kept], "dots": [rejected, rejected]}
    figure = samples_figure(rows)
    first, empty, second, third = figure.axes
    assert first.get_title() == "cat 90%"
    assert (first.title.get_color(), first.title.get_fontweight()) == (RED, "bold")
    assert not empty.images
    assert second.title.get_color() != RED
    assert third.get_title() == r"\$dog\$ 20%"
