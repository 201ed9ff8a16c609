"""Plots of confidence: whether it is honest, and what leaving out the least certain answers gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifarlab.plots.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    RED,
    SKY,
    literal,
    new_figure,
    new_grid,
    set_title,
)

_MIN_SPAN = 0.02  # of the axis of accuracy
_MOST_MARKED = 5  # points of a curve


@dataclass(frozen=True)
class Reliability:
    """Accuracy in bins of confidence.

    Attributes:
        name: Which answers.
        ece: Their expected calibration error, a fraction.
        bins: lower, upper, count, confidence, accuracy and interval of each, fractions; those without images are left
            out.
    """

    name: str
    ece: float
    bins: Sequence[Mapping[str, Any]]


def reliability_figure(states: Sequence[Reliability], title: str) -> Figure:
    """Draw accuracy with its interval beside mean confidence in every bin, and how many answers each bin holds.

    Args:
        states: One or several, side by side.
        title: Heading.
    """
    figure, grid = new_grid(
        2, len(states), 0.8 + 4.3 * len(states), 5.6, sharex=True, sharey="row", height_ratios=[3, 1]
    )
    for state, top, bottom in zip(states, *grid, strict=True):
        filled = [row for row in state.bins if row["count"]]
        left = [row["lower"] for row in filled]
        widths = [row["upper"] - row["lower"] for row in filled]
        centres = [start + width / 2 for start, width in zip(left, widths, strict=True)]
        heights = [row["accuracy"] for row in filled]
        style = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}
        top.bar(left, heights, widths, color=SKY, label="accuracy", **style)
        top.vlines(
            centres, [row["interval"][0] for row in filled], [row["interval"][1] for row in filled], color=BLUE, lw=1.4
        )
        half_widths = [0.42 * width for width in widths]
        top.errorbar(
            centres,
            [row["confidence"] for row in filled],
            xerr=half_widths,
            fmt="none",
            ecolor=RED,
            elinewidth=2.5,
            label="mean confidence",
        )
        top.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--", label="accuracy = confidence")
        top.set(xlim=(0, 1), ylim=(0, 1))
        legend = top.legend(frameon=False, fontsize=9, loc="upper left", title=f"ECE {state.ece:.2%}", alignment="left")
        legend.get_title().set_fontweight("bold")
        set_title(top, state.name)
        total = sum(row["count"] for row in filled)
        bottom.bar(left, [row["count"] / total for row in filled], widths, color=MUTED, **style)
        bottom.set(xlabel="confidence (highest probability)")
        for axis in (top.yaxis, bottom.yaxis, bottom.xaxis):
            axis.set_major_formatter(PercentFormatter(1, 0))
    grid[0, 0].set_ylabel("accuracy in the bin")
    grid[1, 0].set_ylabel("share of images")
    figure.suptitle(literal(title), x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure


def coverage_figure(
    curve: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any] | None, wanted: float, title: str
) -> Figure:
    """Draw the accuracy of the answers that are kept against the share that is kept, with its 95 % interval.

    Args:
        curve: coverage, accuracy and interval of each point, fractions.
        chosen: The point of the threshold that was chosen, likewise; None where there is none.
        wanted: Accuracy that was wanted, a fraction.
        title: Heading.
    """
    figure, axes = new_figure(6.4, 4.2)
    points = sorted(curve, key=lambda point: float(point["coverage"]))
    coverages = [point["coverage"] for point in points]
    lows, highs = zip(*(point["interval"] for point in points), strict=True)
    accuracies = [point["accuracy"] for point in points]
    axes.fill_between(coverages, lows, highs, color=SKY, alpha=0.35, linewidth=0, label="95 % interval")
    marker = "o" if len(points) <= _MOST_MARKED else ""  # of a single point there is no line
    axes.plot(coverages, accuracies, color=BLUE, linewidth=2, marker=marker, label="accuracy of the answers kept")
    axes.axhline(wanted, color=GREEN, linewidth=1.2, linestyle="--", label=f"wanted: {100 * wanted:.10g}%")
    if chosen is not None:
        axes.errorbar(
            [chosen["coverage"]],
            [chosen["accuracy"]],
            yerr=[[chosen["accuracy"] - chosen["interval"][0]], [chosen["interval"][1] - chosen["accuracy"]]],
            fmt="D",
            color=RED,
            capsize=4,
            label="threshold chosen on val",
        )
    low = min(*accuracies, wanted)
    axes.set_ylim(max(min(low - 0.15 * (1 - low), 1 - _MIN_SPAN), -0.01), 1.002)
    axes.set_xlim(0, 1.01)
    axes.set(xlabel="coverage: share of images that get an answer", ylabel="share of these answers that is right")
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    set_title(axes, title)
    return figure
