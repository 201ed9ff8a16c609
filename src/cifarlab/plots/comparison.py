"""Plots of a comparison: accuracies, differences with their intervals, classes, and pictures that tell models apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cifarlab.plots.style import BLUE, INK, MUTED, RED, literal, new_figure, new_grid, set_title, shortened

_PICTURE_COLUMNS = 6


@dataclass(frozen=True)
class Bar:
    """One line of a plot of intervals; shares of one.

    Attributes:
        name: What stands at its left.
        value: Where its mark is.
        interval: Its ends; NaN where there is none.
        dots: Single values beside the mark, such as seeds.
        strong: Whether it is drawn in colour: a difference that a test shows.
        minus: In a difference, the name of what is subtracted; it stands on a line of its own.
    """

    name: str
    value: float
    interval: tuple[float, float]
    dots: tuple[float, ...] = ()
    strong: bool = True
    minus: str = ""

    @property
    def label(self) -> str:
        """What stands at its left, on one line or two."""
        return shortened(self.name) + (f"\n\N{MINUS SIGN} {shortened(self.minus)}" if self.minus else "")


@dataclass(frozen=True)
class Answered:
    """What is true of a picture, and the wrong answer to it."""

    truth: str
    wrong: str


def accuracy_figure(bars: Sequence[Bar], title: str, axis: str) -> Figure:
    """Draw accuracies with their intervals, the first on top; dots are single seeds.

    Args:
        bars: At least one.
        title: Heading.
        axis: What the horizontal axis shows.
    """
    figure, axes = _intervals(bars, title, axis)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    return figure


def difference_figure(bars: Sequence[Bar], title: str, axis: str) -> Figure:
    """Draw differences with their intervals beside zero, the first on top; what no test shows is grey.

    Args:
        bars: At least one.
        title: Heading.
        axis: What the horizontal axis shows.
    """
    figure, axes = _intervals(bars, title, axis)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.4g}" if value else "0"))
    return figure


def _intervals(bars: Sequence[Bar], title: str, axis: str) -> tuple[Figure, Axes]:
    figure, axes = new_figure(7.2, 1.3 + (0.46 if any(bar.minus for bar in bars) else 0.34) * len(bars))
    for row, bar in enumerate(bars):
        color = BLUE if bar.strong else MUTED
        if not math.isnan(bar.interval[0]):
            axes.plot(bar.interval, [row, row], color=color, linewidth=2, solid_capstyle="butt", zorder=2)
        face = color if bar.strong else "white"
        axes.scatter([bar.value], [row], color=face, edgecolor=color, linewidth=1.5, s=42, zorder=4)
        axes.scatter(bar.dots, [row] * len(bar.dots), color=INK, s=9, alpha=0.55, linewidth=0, zorder=5)
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.08)
    figure.supxlabel(axis, fontsize=10, color=INK)  # beside long names the axes alone are too narrow for it
    set_title(axes, title)
    return figure, axes


def pictures_figure(images_MCHW: torch.Tensor, answers: Sequence[Answered], title: str) -> Figure:
    """Draw pictures with their true class, and in red a wrong answer.

    Args:
        images_MCHW: uint8, M x 3 x H x W, M at least 1.
        answers: M entries.
        title: Heading.
    """
    rows = math.ceil(len(answers) / _PICTURE_COLUMNS)
    figure, grid = new_grid(rows, _PICTURE_COLUMNS, 1.55 * _PICTURE_COLUMNS, 0.6 + 1.95 * rows)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, answer in zip(grid.flat, images_MCHW, answers, strict=False):
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        truth, wrong = shortened(answer.truth, 14), shortened(answer.wrong, 16)
        axes.text(0, 1.16, f"true: {truth}", transform=axes.transAxes, fontsize=8, color=INK)
        axes.text(0, 1.04, wrong, transform=axes.transAxes, fontsize=8, color=RED, weight="bold")
    figure.set_layout_engine("constrained", h_pad=0.08)
    figure.suptitle(literal(title), x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure
