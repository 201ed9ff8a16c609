"""Plots of a hyper-parameter search: its history, its trials by epoch, and what each field has to do with accuracy.

Accuracies are fractions on val and are drawn as per cent. Shape suffixes: T trials, D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifarlab.plots.style import BLUE, GREEN, GRID, INK, MUTED, ORANGE, RED, literal, new_figure, new_grid, set_title

_COLUMNS = 3


@dataclass(frozen=True)
class SearchAxis:
    """One field of the search space as an axis from 0 to 1.

    Attributes:
        name: What it is called.
        ticks: Position and text of its ticks.
        positions_T: Where each trial lies.
    """

    name: str
    ticks: tuple[tuple[float, str], ...]
    positions_T: tuple[float, ...]


def history_figure(
    numbers_T: Sequence[int],
    accuracies_T: Sequence[float],
    given_up: Mapping[int, float],
    failed: Sequence[int],
    recipe: float = math.nan,
) -> Figure:
    """Draw accuracy by trial and the best so far.

    Args:
        numbers_T: Numbers of the complete trials, ascending.
        accuracies_T: Their accuracies.
        given_up: Accuracy at which each pruned trial was given up, by number.
        failed: Numbers of the failed trials.
        recipe: Accuracy of the recipe itself; NaN if it was no trial.
    """
    figure, axes = new_figure(8.4, 3.6)
    best_T = np.maximum.accumulate(accuracies_T) if len(accuracies_T) else np.array([])
    if given_up:
        axes.plot(list(given_up), _percent(given_up.values()), "x", color=MUTED, markersize=5, label="given up")
    axes.plot(numbers_T, _percent(accuracies_T), "o", color=BLUE, markersize=5, label="complete")
    axes.step(numbers_T, _percent(best_T), where="post", color=ORANGE, linewidth=1.6, label="best so far")
    if not math.isnan(recipe):
        axes.axhline(100 * recipe, color=GREEN, linewidth=1.2, linestyle="--", label="the recipe itself")
    for number in failed:
        axes.axvline(number, color=RED, linewidth=0.8, linestyle=":", label="failed" if number == failed[0] else None)
    axes.set_xlabel("trial")
    axes.set_ylabel("accuracy on val, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    set_title(axes, "Accuracy by trial")
    _legend_below(figure)
    return figure


def epochs_figure(curves: Sequence[Mapping[int, float]], complete: Sequence[bool]) -> Figure:
    """Draw accuracy after every epoch, complete trials above those given up.

    Args:
        curves: For every trial its accuracy by epoch.
        complete: Whether each trial was trained to its end.
    """
    figure, axes = new_figure(8.4, 3.6)
    order = sorted(range(len(curves)), key=lambda t: complete[t])
    for t in order:
        color, width = (BLUE, 1.1) if complete[t] else (MUTED, 0.8)
        points = curves[t]
        axes.plot(list(points), _percent(points.values()), "-", color=color, linewidth=width, alpha=0.7)
        if not complete[t]:
            last = max(points)
            axes.plot([last], [100 * points[last]], "x", color=MUTED, markersize=5)
    if any(complete):
        axes.plot([], [], color=BLUE, label="complete")
    if not all(complete):
        axes.plot([], [], "x-", color=MUTED, markersize=5, label="given up")
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy on val, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    set_title(axes, "Accuracy by epoch")
    _legend_below(figure)
    return figure


def _legend_below(figure: Figure) -> None:
    # trials lie anywhere in the axes, and a search that went well ends in a corner of them
    figure.legend(frameon=False, fontsize=8.5, ncols=5, loc="outside lower center")


def importances_figure(importances: Mapping[str, float]) -> Figure:
    """Draw the share of the variance that each field explains, in the order given."""
    figure, axes = new_figure(8.4, 0.7 + 0.38 * len(importances))
    names, shares = list(importances), _percent(importances.values())
    axes.barh(range(len(names)), shares, color=BLUE, height=0.62)
    for row, share in enumerate(shares):
        axes.text(share + 1, row, f"{share:.0f} %", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(names)), [literal(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, max([*shares, 1.0]) * 1.15)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of the explained variance of accuracy, %")
    return figure


def parallel_figure(axes_D: Sequence[SearchAxis], accuracies_T: Sequence[float]) -> Figure:
    """Draw every complete trial as a line over the axes of the space, coloured by accuracy, the best on top."""
    figure, axes = new_figure(max(8.4, 1.5 * len(axes_D) + 2.0), 4.2)
    values = np.array(_percent(accuracies_T))
    scale = Normalize(float(values.min()), float(max(values.max(), values.min() + 1e-6)))
    colors = colormaps["viridis_r"]  # dark is good, and light lines lie below on white
    order = np.argsort(values)
    positions_TD = np.array([axis.positions_T for axis in axes_D]).T
    lines = [np.column_stack([np.arange(len(axes_D)), positions_TD[t]]) for t in order]
    axes.add_collection(LineCollection(lines, colors=colors(scale(values[order])), linewidths=1.3, alpha=0.85))
    for d, axis in enumerate(axes_D):
        axes.axvline(d, color=MUTED, linewidth=0.9)
        for where, text in axis.ticks:
            axes.annotate(
                literal(text),
                (d, where),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
                color=INK,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            )
    axes.set_xlim(-0.1, len(axes_D) - 0.55)
    axes.set_ylim(-0.06, 1.06)
    axes.set_xticks(range(len(axes_D)), [_broken(axis.name) for axis in axes_D], fontsize=8.5)
    axes.set_yticks([])
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    bar = figure.colorbar(ScalarMappable(scale, colors), ax=axes, pad=0.01, fraction=0.05)
    bar.set_label("accuracy on val, %")
    return figure


def slices_figure(axes_D: Sequence[SearchAxis], accuracies_T: Sequence[float], best: int) -> Figure:
    """Draw accuracy over each field by itself.

    Args:
        axes_D: The fields.
        accuracies_T: Accuracies of the complete trials.
        best: Position of the chosen trial among them, which is marked; -1 for none.
    """
    rows = -(-len(axes_D) // _COLUMNS)
    columns = min(_COLUMNS, len(axes_D))
    figure, grid = new_grid(rows, columns, 9.6, 2.7 * rows, sharey=True)
    for d, axes in enumerate(grid.flat):
        if d >= len(axes_D):
            axes.set_visible(False)
            continue
        _draw_slice(axes, axes_D[d], _percent(accuracies_T), best)
        if d % columns == 0:
            axes.set_ylabel("accuracy on val, %", fontsize=9)
    return figure


def _draw_slice(axes: Axes, axis: SearchAxis, shares_T: Sequence[float], best: int) -> None:
    axes.plot(axis.positions_T, shares_T, "o", color=BLUE, markersize=4, alpha=0.6)
    if best >= 0:
        axes.plot([axis.positions_T[best]], [shares_T[best]], "o", color=ORANGE, markersize=7)
    axes.set_xticks([where for where, _ in axis.ticks], [literal(text) for _, text in axis.ticks], fontsize=8)
    axes.set_xlim(-0.08, 1.08)
    axes.grid(color=GRID)
    axes.set_xlabel(literal(axis.name), fontsize=9)


def _percent(shares: object) -> list[float]:
    return [100 * float(share) for share in shares]  # type: ignore[attr-defined]


def _broken(name: str) -> str:
    """Return a dotted name on two lines, section over field."""
    section, _, field = name.rpartition(".")
    return literal(f"{section}.\n{field}" if section else field)
