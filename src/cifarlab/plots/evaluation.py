"""Plots of one evaluation: what is confused, whether confidence is honest, how classes fare, the worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifarlab.metrics import ClassScores, Mistake, ReliabilityBin
from cifarlab.plots.style import BLUE, GRID, INK, MUTED, RED, SKY, literal, new_figure, new_grid, set_title

_MAX_CLASSES_WITH_NUMBERS = 20  # beyond, the numbers in the cells would be too small to read
_NAMED_CELL = 0.135  # inches; beside smaller cells there is no room for names
_MOST_INCHES = 20  # of a matrix
_MAX_NAME = 24
_MISTAKE_COLUMNS = 6
_MIN_SPAN = 0.04  # of an axis of shares: a narrower one would make a hair's breadth look like a difference
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
    names = [_short(name) if cell >= _NAMED_CELL else "" for name in class_names]
    size = 9 if with_numbers else 5.5
    axes.set_xticks(range(num_classes), names, rotation=45 if with_numbers else 90, fontsize=size)
    for label in axes.get_xticklabels():
        label.set(ha="right" if with_numbers else "center", rotation_mode="anchor" if with_numbers else "default")
    axes.set_yticks(range(num_classes), names, fontsize=size)
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


def reliability_figure(table: Sequence[ReliabilityBin], ece: float, title: str) -> Figure:
    """Draw accuracy beside mean confidence in every bin, and how many predictions each bin holds.

    Args:
        table: Bins in ascending order.
        ece: Expected calibration error, a fraction.
        title: Heading.
    """
    figure, grid = new_grid(2, 1, 5.2, 5.8, sharex=True, height_ratios=[3, 1])
    top, bottom = grid[:, 0]
    filled = [row for row in table if row.count]
    left = [row.lower for row in filled]
    widths = [row.upper - row.lower for row in filled]
    centres = [(row.lower + row.upper) / 2 for row in filled]
    half_widths = [0.42 * width for width in widths]
    style = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}
    top.bar(left, [row.accuracy for row in filled], widths, color=SKY, label="accuracy", **style)
    confidences = [row.confidence for row in filled]
    top.errorbar(
        centres, confidences, xerr=half_widths, fmt="none", ecolor=RED, elinewidth=2.5, label="mean confidence"
    )
    top.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", label="accuracy = confidence")
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy in the bin")
    top.yaxis.set_major_formatter(PercentFormatter(1, 0))
    legend = top.legend(frameon=False, fontsize=9, loc="upper left", title=f"ECE {ece:.2%}", alignment="left")
    legend.get_title().set_fontweight("bold")
    set_title(top, title)
    total = sum(row.count for row in filled)
    bottom.bar(left, [row.count / total for row in filled], widths, color=MUTED, **style)
    bottom.set(xlabel="confidence (highest probability)", ylabel="share of images")
    bottom.xaxis.set_major_formatter(PercentFormatter(1, 0))
    bottom.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return figure


def per_class_figure(scores: Sequence[ClassScores], class_names: Sequence[str], title: str) -> Figure:
    """Draw precision, recall and F1 of every class, the best class on top.

    Args:
        scores: One entry a class, in label order; NaN figures are left out.
        class_names: K names in label order.
        title: Heading.
    """
    order = sorted(range(len(scores)), key=lambda k: -1.0 if math.isnan(scores[k].f1) else scores[k].f1)
    rows = np.arange(len(order))
    precision, recall, f1 = (
        np.array([getattr(scores[k], name) for k in order]) for name in ("precision", "recall", "f1")
    )
    figure, axes = new_figure(6.4, 1.6 + 0.3 * len(order))
    axes.hlines(rows, np.fmin(precision, recall), np.fmax(precision, recall), color=GRID, linewidth=4, zorder=1)
    axes.scatter(precision, rows, color=BLUE, s=34, label="precision", zorder=2)
    axes.scatter(recall, rows, color=RED, s=34, marker="D", label="recall", zorder=2)
    axes.scatter(f1, rows, color=INK, s=60, marker="|", label="F1", zorder=3)
    low, high = axes.get_xlim()
    high = min(high + max(0.0, _MIN_SPAN - (high - low)) / 2, 1.01)
    axes.set_xlim(max(min(low, high - _MIN_SPAN), -0.01), high)
    axes.set_yticks(rows, [f"{_short(class_names[k])}  ({scores[k].support:,})" for k in order])
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("share (in brackets: images of the class)")
    figure.legend(frameon=False, fontsize=9, ncols=3, loc="outside lower center")
    set_title(axes, title)
    return figure


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
