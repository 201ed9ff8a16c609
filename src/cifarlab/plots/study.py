"""Plots of a study: every seed of every arm, how they learned, and what they cost.

An arm is one of the configurations that a study compares. Accuracies come in as fractions and are drawn in per cent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from cifarlab.plots import style

LABELLED_CURVES = 7
"""So many learning curves get a colour and a name; further arms are drawn grey."""

# yellow is left out: a thin line of it cannot be seen on white
_LINE_COLORS = (style.BLUE, style.RED, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, style.BLACK)
_MIN_SPAN = 1.0  # points on an axis of accuracies: a narrower one would make a hair's breadth look like a difference
_DOT = 0.012  # a dot's width as a share of its axis
_ENLARGED_EPOCHS = 3  # fewer in the second half of the training are not worth a panel of their own
_LANES = (0, 1, -1, 2, -2, 3, -3)


@dataclass(frozen=True)
class ArmPoints:
    """The accuracies of one arm.

    Attributes:
        label: Its name.
        values: One fraction a finished seed; at least one.
        mean: Their mean.
        interval: 95 % interval of the mean; NaN for a single seed.
        pflop: Compute of one run; NaN where unknown.
    """

    label: str
    values: tuple[float, ...]
    mean: float
    interval: tuple[float, float]
    pflop: float = math.nan


@dataclass(frozen=True)
class ArmCurve:
    """How the validation accuracy of one arm rose.

    Attributes:
        label: Its name.
        epochs: Ascending.
        mean: Mean over the seeds at every epoch, fractions.
        lowest: The lowest seed's.
        highest: The highest seed's.
    """

    label: str
    epochs: tuple[float, ...]
    mean: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]


def plot_arms(arms: Sequence[ArmPoints], what: str) -> Figure:
    """Draw every seed as a dot, and the mean with its 95 % interval, one row an arm.

    Where a few arms lie far below the others, which would push these together, a second panel enlarges the leaders.

    Args:
        arms: Best first; at least one.
        what: Label of the axis, such as "accuracy on val (%)".
    """
    leaders = _leaders(arms)
    height = 0.9 + (0.42 if len(arms) > 1 else 0.7) * len(arms)
    if not leaders:
        figure, axes = style.new_figure(7.6, height)
        _draw_rows(axes, arms, arms, what)
        return figure
    figure, grid = style.new_grid(1, 2, 9.6, height + 0.3, sharey=True)
    _draw_rows(grid[0, 0], arms, arms, what)
    _draw_rows(grid[0, 1], arms, leaders, what)
    style.set_title(grid[0, 0], "All arms")
    style.set_title(grid[0, 1], f"The leading {len(leaders)}, enlarged")
    return figure


def plot_learning(curves: Sequence[ArmCurve]) -> Figure:
    """Draw validation accuracy by epoch: a line for the mean, a band from the lowest to the highest seed.

    Runs of a few epochs or more get a second panel that enlarges the second half of the leading arms, where the
    differences are.

    Args:
        curves: Best arm first; those after the seventh are drawn grey and share one label.

    Raises:
        ValueError: If there is no curve.
    """
    if not curves:
        raise ValueError("no curve to draw")
    leading = _above_the_gap([curve.mean[-1] for curve in curves]) or len(curves)
    half = max(curve.epochs[-1] for curve in curves) / 2
    if sum(epoch >= half for epoch in curves[0].epochs) < _ENLARGED_EPOCHS:
        figure, axes = style.new_figure(7.6, 4.2)
        _draw_curves(axes, curves, 0.0)
        _label_ends(axes, _curve_ends(curves))
        return figure
    figure, grid = style.new_grid(1, 2, 10.4, 4.2)
    _draw_curves(grid[0, 0], curves, 0.0)
    _label_inside(grid[0, 0], _curve_ends(curves)[leading:])
    _draw_curves(grid[0, 1], curves[:leading], half)
    _label_ends(grid[0, 1], _curve_ends(curves)[: min(leading, LABELLED_CURVES + 1)])
    style.set_title(grid[0, 0], "The whole training")
    what = "The second half" if leading == len(curves) else f"The second half of the leading {leading}"
    style.set_title(grid[0, 1], f"{what}, enlarged")
    return figure


def _draw_curves(axes: Axes, curves: Sequence[ArmCurve], start: float) -> None:
    """Draw the curves from an epoch on."""
    for i, curve in reversed(list(enumerate(curves))):  # the best lies on top
        kept = [e for e, epoch in enumerate(curve.epochs) if epoch >= start]
        epochs = [curve.epochs[e] for e in kept]
        mean, lowest, highest = ([100 * row[e] for e in kept] for row in (curve.mean, curve.lowest, curve.highest))
        if i >= LABELLED_CURVES:
            axes.plot(epochs, mean, color=style.MUTED, linewidth=0.8, alpha=0.6)
            continue
        axes.fill_between(epochs, lowest, highest, color=_LINE_COLORS[i], alpha=0.15, linewidth=0)
        marker = "o" if len(epochs) <= 20 else None
        axes.plot(epochs, mean, color=_LINE_COLORS[i], linewidth=1.8, marker=marker, markersize=3.5)
    axes.set(xlabel="epoch", ylabel="accuracy on val (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _curve_ends(curves: Sequence[ArmCurve]) -> list[tuple[float, float, str, str]]:
    """Return end point, name and colour of every curve; those that are drawn grey share one entry, the last."""
    ends = [
        (curve.epochs[-1], 100 * curve.mean[-1], style.shortened(curve.label), color)
        for curve, color in zip(curves, _LINE_COLORS, strict=False)
    ]
    if len(curves) > LABELLED_CURVES:
        first = curves[LABELLED_CURVES]
        name = f"{len(curves) - LABELLED_CURVES} more"
        ends.append((first.epochs[-1], 100 * first.mean[-1], name, style.MUTED))
    return ends


def plot_compute(arms: Sequence[ArmPoints], what: str) -> Figure:
    """Draw accuracy, with its 95 % interval, against the compute of one run on a logarithmic axis.

    Args:
        arms: Those whose compute is known; at least one.
        what: Label of the vertical axis.
    """
    figure, axes = style.new_figure(7.6, 4.2)
    for arm in arms:
        axes.plot([arm.pflop] * len(arm.values), _percent(arm.values), "o", color=style.SKY, alpha=0.5, markersize=4)
        if not math.isnan(arm.interval[0]):
            axes.vlines(arm.pflop, 100 * arm.interval[0], 100 * arm.interval[1], color=style.BLUE, linewidth=2)
        axes.plot(arm.pflop, 100 * arm.mean, "D", color=style.BLUE, markersize=5)
    axes.set_xscale("log")
    axes.set(xlabel="compute of one run (PFLOP)", ylabel=what)
    cheapest, dearest = min(arm.pflop for arm in arms), max(arm.pflop for arm in arms)
    axes.set_xlim(cheapest / (dearest / cheapest) ** 0.08, dearest * (dearest / cheapest) ** 0.08)
    _widen(axes)
    costs = sorted({arm.pflop for arm in arms})
    ticks = [cost for i, cost in enumerate(costs) if i == 0 or cost > costs[i - 1] * (dearest / cheapest) ** 0.08]
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    _label_ends(axes, [(arm.pflop, 100 * arm.mean, style.shortened(arm.label), style.INK) for arm in arms])
    return figure


def _leaders(arms: Sequence[ArmPoints]) -> list[ArmPoints]:
    return list(arms[: _above_the_gap([arm.mean for arm in arms])])


def _above_the_gap(means: Sequence[float]) -> int:
    """Return how many lie above the widest gap; 0 unless that takes more than half of the range and two lie above.

    Args:
        means: Fractions, highest first.
    """
    gaps = [means[i] - means[i + 1] for i in range(len(means) - 1)]
    if not gaps or max(gaps) <= 0.5 * (means[0] - means[-1]) or 100 * max(gaps) < 5 * _MIN_SPAN:
        return 0
    above = gaps.index(max(gaps)) + 1
    return above if above > 1 else 0


def _draw_rows(axes: Axes, arms: Sequence[ArmPoints], shown: Sequence[ArmPoints], what: str) -> None:
    """Draw the shown arms in the rows that they have among all arms, the best on top."""
    points = [100 * value for arm in shown for value in (*arm.values, *arm.interval) if not math.isnan(value)]
    low, high = min(points), max(points)
    margin = 0.04 * (high - low) + max(0.0, _MIN_SPAN - (high - low)) / 2
    axes.set_xlim(low - margin, high + margin)
    width = high - low + 2 * margin
    apart = 0.16  # the mean above and the seeds below the middle of a row, so that none hides the other
    for row, arm in enumerate(arms):
        if arm not in shown:
            continue
        values = sorted(_percent(arm.values))
        heights = [row + apart + 0.06 * lane for lane in _lanes(values, _DOT * width)]
        axes.plot(values, heights, "o", color=style.SKY, markersize=4.5, markeredgewidth=0, alpha=0.8)
        if not math.isnan(arm.interval[0]):
            axes.hlines(row - apart, 100 * arm.interval[0], 100 * arm.interval[1], color=style.BLUE, linewidth=2)
        axes.plot(100 * arm.mean, row - apart, "D", color=style.BLUE, markeredgecolor="white", markersize=6.5)
    axes.set_yticks(range(len(arms)), [style.shortened(arm.label) for arm in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(what)


def _lanes(values: Sequence[float], width: float) -> list[int]:
    """Return a lane for every one of ascending values, so that two in one lane are at least ``width`` apart.

    Where all lanes are taken the middle one is used again: dots then overlap.
    """
    ends = dict.fromkeys(_LANES, -math.inf)
    lanes = []
    for value in values:
        lane = next((one for one in _LANES if value - ends[one] >= width), 0)
        ends[lane] = value
        lanes.append(lane)
    return lanes


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names to the right of the axes at the height of their points, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    heights = _apart([y for _, y, _, _ in ends], 0.055 * (high - low), low, high)
    right = axes.get_xlim()[1]
    for (x, y, name, color), height in zip(ends, heights, strict=True):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.04, (height - low) / (high - low)),
            textcoords="axes fraction",
            color=color,
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "alpha": 0.5, "shrinkA": 1, "shrinkB": 3},
        )
    axes.set_xlim(right=right)


def _label_inside(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names above the ends of their curves, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    heights = _apart([y for _, y, _, _ in ends], 0.055 * (high - low), low, high)
    for (x, _, name, color), height in zip(ends, heights, strict=True):
        axes.annotate(name, (x, height), (0, 4), textcoords="offset points", color=color, fontsize=9, ha="right")


def _apart(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return the heights, each at least ``gap`` from the next, in the same order, kept within the axis if they fit."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [0.0] * len(heights)
    at = -math.inf
    for i in order:
        at = placed[i] = max(heights[i], at + gap, low)
    ceiling = max(high, low + gap * (len(heights) - 1))
    for i in reversed(order):
        ceiling = placed[i] = min(placed[i], ceiling)
        ceiling -= gap
    return placed


def _widen(axes: Axes) -> None:
    low, high = axes.get_ylim()
    if high - low < _MIN_SPAN:
        middle = (low + high) / 2
        axes.set_ylim(middle - _MIN_SPAN / 2, middle + _MIN_SPAN / 2)


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]
