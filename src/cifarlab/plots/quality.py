"""Plots of the images and labels a model is judged on: suspected labels, and how people answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifarlab.plots.style import BLUE, INK, RED, literal, new_figure, new_grid

_COLUMNS = 6


def suspects_figure(
    images_MCHW: torch.Tensor, given: Sequence[str], suggested: Sequence[str], confidence: Sequence[float]
) -> Figure:
    """Draw images whose labels may be wrong, each with its label, the class suggested, and the confidence in it.

    Args:
        images_MCHW: uint8, M x 3 x H x W, at least one.
        given: M names of classes.
        suggested: Likewise.
        confidence: M probabilities of the suggested classes.
    """
    rows = -(-len(given) // _COLUMNS)
    figure, grid = new_grid(rows, _COLUMNS, 1.6 * _COLUMNS, 2.0 * rows)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, label, other, share in zip(grid.flat, images_MCHW, given, suggested, confidence, strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_title(f"label: {_short(label)}", loc="left", fontsize=8, color=INK, pad=14)  # room for the next line
        suggestion = f"{_short(other)}? {share:.1%}"
        axes.text(0, 1.04, suggestion, transform=axes.transAxes, fontsize=8, color=RED, weight="bold")
    return figure


def agreement_figure(
    names: Sequence[str],
    counts: Sequence[int],
    model: Sequence[tuple[float, float, float]],
    person: Sequence[float],
) -> Figure:
    """Draw accuracy against how far people agree: of the model with its interval, and of one person.

    Args:
        names: Each group of images by how far people agree on them, in ascending order.
        counts: Images of each group, at least one.
        model: For each group accuracy and both ends of its interval, fractions.
        person: For each group the accuracy of one person drawn at random, a fraction.
    """
    figure, axes = new_figure(8.0, 3.8)
    places = np.arange(len(names))
    value, low, high = np.array(model).T
    axes.errorbar(
        places - 0.08, value, yerr=[value - low, high - value], fmt="o", color=BLUE, capsize=3, label="the model"
    )
    axes.plot(places + 0.08, person, "D", color=RED, label="one person")
    axes.set_xticks(places, [f"{name}\n{count:,}" for name, count in zip(names, counts, strict=True)])
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel("people who give the most frequent answer (below: images)")
    axes.set_ylabel("agrees with the label")
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.grid(visible=False, axis="x")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def _short(name: str, length: int = 15) -> str:
    return literal(name if len(name) <= length else name[: length - 1] + "…")
