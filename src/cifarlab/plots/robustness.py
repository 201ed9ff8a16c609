"""Plots of what a model does with images that are corrupted, moved, gathered anew or attacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifarlab.plots.style import BLUE, COLORS, INK, MUTED, literal, new_figure, new_grid, set_title

_MARKERS = "osD^vPX*"
_COLORS = "Blues_r"  # dark where accuracy is lost
_LABELS = {
    "translation": "pixels",
    "rotation": "degrees",
    "scale": "size",
    "crop": "side kept",
}

Row = tuple[str, float, tuple[float, float] | None]
"""Name, accuracy, interval."""


@dataclass(frozen=True)
class Level:
    """What changes of one kind and size led to.

    Attributes:
        amount: Their size.
        accuracy: Mean accuracy, a fraction.
        interval: Its ends; None where there is none.
        right_in_all: Share of the images that are right in all ways of this size.
    """

    amount: float
    accuracy: float
    interval: Sequence[float] | None
    right_in_all: float


def corruption_table_figure(rows: Sequence[tuple[str, Sequence[float]]], clean: float, title: str) -> Figure:
    """Draw accuracy under every corruption and severity as a table whose cells are the darker the more is lost.

    Args:
        rows: Corruption and its accuracies, fractions, by severity.
        clean: Accuracy on the same images as they are.
        title: Heading.
    """
    values_CS = np.array([[clean, *values] for _, values in rows])
    figure, axes = new_figure(6.4, 1.5 + 0.32 * len(rows))
    picture = axes.imshow(values_CS, cmap=_COLORS, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values_CS):
        tone = "white" if value < 0.45 else INK
        axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center", fontsize=8.5, color=tone)
    columns = ["as it is", *(f"severity {s}" for s in range(1, values_CS.shape[1]))]
    axes.set_xticks(range(len(columns)), columns, fontsize=8.5)
    axes.set_yticks(range(len(rows)), [literal(name) for name, _ in rows])
    axes.axvline(0.5, color="white", linewidth=4)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, aspect=30, format=PercentFormatter(1, 0))
    bar.set_label("accuracy", fontsize=9)
    bar.outline.set_visible(False)
    set_title(axes, title)
    return figure


def corruption_curves_figure(
    families: Mapping[str, Sequence[Mapping[str, Any]]], clean: Mapping[str, Any], title: str
) -> Figure:
    """Draw mean accuracy of each family of corruptions against severity, with intervals.

    Args:
        families: By name, a figure (value, interval) for each severity.
        clean: The same for the images as they are: severity 0.
        title: Heading.
    """
    figure, axes = new_figure(6.4, 4.0)
    for number, (family, figures) in enumerate(families.items()):
        points = [clean, *figures]
        values = [point["value"] for point in points]
        lows, highs = zip(*((point["interval"] or [point["value"]] * 2) for point in points), strict=True)
        severities = range(len(points))
        axes.fill_between(severities, lows, highs, color=COLORS[number], alpha=0.15, linewidth=0)
        axes.plot(severities, values, color=COLORS[number], marker=_MARKERS[number], markersize=5, label=family)
    axes.set_ylim(0, 1)
    axes.set_xticks(range(1 + max(len(figures) for figures in families.values())))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.set(xlabel="severity", ylabel="accuracy")
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    set_title(axes, title)
    return figure


def shifts_figure(kinds: Mapping[str, Sequence[Level]], clean: float, title: str) -> Figure:
    """Draw accuracy against the size of each kind of change.

    Args:
        kinds: By name, what was measured.
        clean: Accuracy on the same images as they are.
        title: Heading.
    """
    figure, grid = new_grid(1, len(kinds), 9.6, 3.2, sharey=True)
    for axes, (kind, levels) in zip(grid[0], kinds.items(), strict=True):
        _shift_panel(axes, sorted(levels, key=lambda level: level.amount), clean)
        in_shares = kind in ("scale", "crop")
        if in_shares:
            axes.xaxis.set_major_formatter(PercentFormatter(1, 1 if kind == "crop" else 0))
        axes.set_xticks([level.amount for level in sorted(levels, key=lambda level: level.amount)])
        axes.set_xlabel(_LABELS.get(kind, kind))
        set_title(axes, kind)
    grid[0, 0].set_ylabel("accuracy")
    grid[0, 0].yaxis.set_major_formatter(PercentFormatter(1, 0))
    grid[0, 0].set_ylim(0, 1.02)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=3, loc="outside lower center")
    figure.suptitle(literal(title), x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure


def _shift_panel(axes: Axes, levels: Sequence[Level], clean: float) -> None:
    amounts = [level.amount for level in levels]
    values = [level.accuracy for level in levels]
    lows, highs = zip(*(level.interval or (level.accuracy, level.accuracy) for level in levels), strict=True)
    axes.axhline(clean, color=MUTED, linewidth=1, linestyle=":", label="as they are")
    axes.fill_between(amounts, lows, highs, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(amounts, values, color=BLUE, marker="o", markersize=5, label="accuracy, mean over the ways")
    in_all = [level.right_in_all for level in levels]
    axes.plot(amounts, in_all, color=INK, marker="D", markersize=4, linestyle="--", label="right in all ways")


def sets_figure(rows: Sequence[Row], title: str) -> Figure:
    """Draw accuracies on several sets of images with their intervals, the first on top.

    Args:
        rows: Name, accuracy and interval of each set.
        title: Heading.
    """
    figure, axes = new_figure(6.4, 1.4 + 0.42 * len(rows))
    lowest = min(ends[0] if ends else value for _, value, ends in rows)
    _dots(axes, rows)
    axes.set_xlim(max(0.0, np.floor(20 * lowest - 0.5) / 20), 1)
    set_title(axes, title)
    return figure


def attacks_figure(rows: Sequence[Row], title: str) -> Figure:
    """Draw accuracy on images as they are and under each attack, from 0 to 100 %.

    Args:
        rows: Name, accuracy and interval; the first is that without an attack.
        title: Heading.
    """
    figure, axes = new_figure(6.4, 1.4 + 0.42 * len(rows))
    positions = np.arange(len(rows))
    axes.barh(positions, [value for _, value, _ in rows], height=0.55, color=[MUTED, *[BLUE] * (len(rows) - 1)])
    _dots(axes, rows, beside=True)
    axes.set_xlim(0, 1.12)
    axes.set_xticks(np.linspace(0, 1, 6))
    set_title(axes, title)
    return figure


def _dots(axes: Axes, rows: Sequence[Row], *, beside: bool = False) -> None:
    """Draw intervals, and dots with their figures; ``beside`` leaves out the dots, for bars end there."""
    for position, (_, value, ends) in enumerate(rows):
        low, high = ends or (value, value)
        axes.plot([low, high], [position, position], color=INK, linewidth=1.6, solid_capstyle="butt")
        if not beside:
            axes.plot([value], [position], color=BLUE, marker="o", markersize=6)
        place, shift = (high, (4, -3)) if beside else (value, (0, 6))
        side = "left" if beside else "center"
        text = f"{100 * value:.1f} %"
        axes.annotate(text, (place, position), shift, textcoords="offset points", ha=side, fontsize=8.5, color=INK)
    axes.set_yticks(range(len(rows)), [literal(name) for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.set_xlabel("accuracy")
