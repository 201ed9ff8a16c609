"""Plots of a model's answers to images of none of its classes.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from cifarlab.plots.style import BLUE, INK, MUTED, ORANGE, RED, new_figure, new_grid, shortened


@dataclass(frozen=True)
class Sample:
    """A picture and the model's answer to it.

    Attributes:
        image_CHW: uint8, 3 x H x W.
        answer: Name of the class.
        confidence: Its probability.
        rejected: Whether that is too low for an answer.
    """

    image_CHW: torch.Tensor
    answer: str
    confidence: float
    rejected: bool


def confidence_figure(confidence: Mapping[str, NDArray[np.float64]], threshold: float, lowest: float) -> Figure:
    """Draw how confident the model is: 5 % to 95 % of each kind of images, the middle half and the median.

    Args:
        confidence: For each kind of images their confidences, N each; the known ones first.
        threshold: Below it an answer is rejected.
        lowest: Confidence of a model that says nothing, 1 / number of classes.
    """
    figure, axes = new_figure(6.4, 1.1 + 0.38 * len(confidence))
    for row, values in enumerate(confidence.values()):
        low, quarter, middle, three_quarters, high = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
        shade = BLUE if row == 0 else ORANGE
        axes.hlines(row, low, high, color=MUTED, linewidth=1.2)
        axes.hlines(row, quarter, three_quarters, color=shade, linewidth=8)
        axes.plot(middle, row, "o", color="white", markeredgecolor=INK, markersize=5)
    axes.axvline(threshold, color=RED, linestyle="--", linewidth=1.4)
    axes.set_yticks(range(len(confidence)), [shortened(name, 24) for name in confidence])
    axes.set_ylim(len(confidence) - 0.4, -0.6)
    axes.set_xlim(lowest - 0.01, 1.01)
    axes.set_xlabel("confidence (highest probability)")
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.grid(visible=False, axis="y")
    return figure


def samples_figure(samples: Mapping[str, Sequence[Sample]]) -> Figure:
    """Draw pictures of each kind in a row, each with its answer; those that are not rejected in bold and red.

    Args:
        samples: For each kind of images some of them, at least one in all.
    """
    columns = max(map(len, samples.values()))
    figure, grid = new_grid(len(samples), columns, 1.2 * columns + 1.1, 1.42 * len(samples))
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    for row, (name, shown) in zip(grid, samples.items(), strict=True):
        row[0].set_ylabel(shortened(name, 22), rotation=0, ha="right", va="center", fontsize=9, color=INK)
        for axes, sample in zip(row, shown, strict=False):
            axes.imshow(sample.image_CHW.permute(1, 2, 0).numpy(), interpolation="nearest")
            look = {"color": MUTED} if sample.rejected else {"color": RED, "fontweight": "bold"}
            axes.set_title(f"{shortened(sample.answer, 12)} {sample.confidence:.0%}", fontsize=7.5, pad=3, **look)
    return figure
