"""Plots of the answers themselves: which class is taken for which, and the worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifarlab.metrics import Mistake
from cifarlab.plots.style import GRID, INK, RED, literal, new_figure, new_grid, set_title

_MAX_CLASSES_WITH_NUMBERS = 20  # beyond, the numbers in the cells would be too small to read
_NAMED_CELL = 0.135  # inches; beside smaller cells there is no room for names
_MOST_INCHES = 20  # of a matrix
_MAX_NAME = 24
_MISTAKE_COLUMNS = 6
_ERROR_COLORS = "Blues"  # light to dark, so that a cell without an error looks like paper


def _short(name: str, length: int = _MAX_NAME) -> str:
    return literal(name if len(name) <= length else name[: length - 1] + "…")


def confusion_figure(confusion_KK: Sequence[Sequence[int]], class_names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix in which the errors carry the colour.

    The diagonal holds most images of any useful model and would drown everything else, so it is grey.

    Args:
        confusion_KK: Counts; rows are the true class, columns the given one.
        class_names: K names in label order.
        title: Heading.
    """
    counts_KK = np.asarray(confusion_KK)
    num_classes = len(counts_KK)
    with_numbers = num_classes <= _MAX_CLASSES_WITH_NUMBERS
    cell = 0.52 if with_numbers else min(_NAMED_CELL, _MOST_INCHES / num_classes)
    side = max(3.4, cell * num_classes)
    figure, axes = new_figure(side + 2.2, side + 1.3)
    shares_KK = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
    diagonal = np.eye(num_classes, dtype=bool)
    highest = max(float(shares_KK[~diagonal].max()), 1e-3)
    errors_KK = np.ma.masked_array(shares_KK, mask=diagonal)
    axes.set_facecolor(GRID)
    picture = axes.imshow(errors_KK, cmap=_ERROR_COLORS, vmin=0, vmax=highest)
    if with_numbers:
        for row, column in np.argwhere(counts_KK > 0):
            dark = not diagonal[row, column] and shares_KK[row, column] > 0.55 * highest
            weight = "bold" if row == column else "normal"
            text = f"{counts_KK[row, column]:,}"
            axes.text(
                column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else INK, weight=weight
            )
    named = range(num_classes if cell >= _NAMED_CELL else 0)
    names = [_short(class_names[k]) for k in named]
    size = 9 if with_numbers else 5.5
    axes.set_xticks(named, names, rotation=45 if with_numbers else 90, fontsize=size)
    for label in axes.get_xticklabels():
        label.set(ha="right" if with_numbers else "center", rotation_mode="anchor" if with_numbers else "default")
    axes.set_yticks(named, names, fontsize=size)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, aspect=30, format=PercentFormatter(1, _decimals(highest)))
    bar.set_label("share of the true class's images", fontsize=9)
    bar.outline.set_visible(False)
    set_title(axes, title)
    return figure


def _decimals(highest: float) -> int:
    """Return how many decimals per cents up to ``highest`` (a fraction) need for distinct ticks."""
    return 0 if highest > 0.05 else 1 if highest > 0.005 else 2


def mistakes_figure(
    images_MCHW: torch.Tensor, mistakes: Sequence[Mistake], class_names: Sequence[str], title: str
) -> Figure:
    """Draw the wrong predictions: each image with its true class, the class given, and the confidence.

    Args:
        images_MCHW: uint8, M x 3 x H x W, in the order of ``mistakes``.
        mistakes: M entries; none gives a figure that says so.
        class_names: K names in label order.
        title: Heading.
    """
    rows = max(1, math.ceil(len(mistakes) / _MISTAKE_COLUMNS))
    figure, grid = new_grid(rows, _MISTAKE_COLUMNS, 1.55 * _MISTAKE_COLUMNS, 0.7 + 1.95 * rows)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, mistake in zip(grid.flat, images_MCHW, mistakes, strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        truth, given = _short(class_names[mistake.label], 16), _short(class_names[mistake.predicted], 12)
        axes.text(0, 1.16, f"true: {truth}", transform=axes.transAxes, fontsize=8, color=INK)
        axes.text(
            0, 1.04, f"{given} {mistake.confidence:.1%}", transform=axes.transAxes, fontsize=8, color=RED, weight="bold"
        )
    if not mistakes:
        grid[0, 0].text(0, 0.5, "no mistake", fontsize=11)
    figure.set_layout_engine("constrained", h_pad=0.08)
    figure.suptitle(literal(title), x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure
