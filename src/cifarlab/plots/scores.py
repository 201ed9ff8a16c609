"""Plots of how single classes fare, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifarlab.plots.style import BLUE, GREEN, RED, new_figure, set_title, shortened

_MIN_SPAN = 0.04  # of the axis: a narrower one would make a hair's breadth look like a difference
_MOST_TALL_ROWS = 20
_MOST_ROWS = 120
_LOOKS = (("recall", RED, "D"), ("precision", BLUE, "o"), ("f1", GREEN, "|"))
_LABELS = {"recall": "recall (found)", "precision": "precision (right when named)", "f1": "F1"}

Estimate = tuple[float, tuple[float, float]]
"""A fraction and the ends of its interval."""


@dataclass(frozen=True)
class ClassRow:
    """What is drawn of one class.

    Attributes:
        name: Its name.
        support: Number of its images.
        recall: Share of its images that were found; None where nothing was measured, as in the others.
        precision: Share of the images called so that are of it.
        f1: Harmonic mean of both.
    """

    name: str
    support: int
    recall: Estimate | None
    precision: Estimate | None
    f1: Estimate | None


def class_intervals_figure(rows: Sequence[ClassRow], title: str) -> Figure:
    """Draw recall, precision and F1 of every class with their intervals, the best class (by F1) on top.

    Of many classes the 120 weakest are drawn.

    Args:
        rows: One entry a class, in any order.
        title: Heading.
    """
    ordered = sorted(rows, key=lambda row: -1.0 if row.f1 is None else row.f1[0])
    if len(ordered) > _MOST_ROWS:
        ordered = [row for row in ordered if row.f1 is not None][:_MOST_ROWS]
        title = f"{title}: the {len(ordered)} weakest"
    figure, axes = new_figure(6.4, 1.7 + (0.42 if len(ordered) <= _MOST_TALL_ROWS else 0.24) * len(ordered))
    lowest = 1.0
    for offset, (name, color, marker) in zip((0.24, 0.0, -0.24), _LOOKS, strict=True):
        known = [(y, estimate) for y, row in enumerate(ordered) if (estimate := getattr(row, name)) is not None]
        heights = [y + offset for y, _ in known]
        lows, highs = [ends[0] for _, (_, ends) in known], [ends[1] for _, (_, ends) in known]
        axes.hlines(heights, lows, highs, color=color, linewidth=1.6)
        axes.scatter(
            [value for _, (value, _) in known], heights, color=color, marker=marker, s=26, label=_LABELS[name], zorder=3
        )
        lowest = min([lowest, *lows])
    axes.set_xlim(max(min(lowest, 1 - _MIN_SPAN) - 0.01, -0.01), 1.005)
    axes.set_yticks(range(len(ordered)), [f"{shortened(row.name, 24)}  ({row.support:,})" for row in ordered])
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("share with 95 % interval (in brackets: images of the class)")
    figure.legend(frameon=False, fontsize=9, ncols=3, loc="outside lower center")
    set_title(axes, title)
    return figure
