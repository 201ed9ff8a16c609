"""Plots of a data set as it is, before any model: counts, pictures, brightness, duplicates.

Shape suffixes: N images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifarlab.plots.style import BLUE, GREEN, INK, MUTED, RED, color, literal, new_figure, new_grid, set_title

_NAMED_CLASSES = 30  # more names than that cannot be read beside one another
_SHEET_ROWS = 25
_LONGEST_NAME = 18


@dataclass(frozen=True)
class Pair:
    """Two pictures to be shown side by side.

    Attributes:
        first_CHW: uint8, 3 x H x W.
        second_CHW: The same shape.
        caption: One or two short lines.
        alarming: Whether the caption is set in red.
    """

    first_CHW: torch.Tensor
    second_CHW: torch.Tensor
    caption: str
    alarming: bool


def plot_class_balance(class_names: Sequence[str], counts: dict[str, list[int]]) -> Figure:
    """Draw images per class, stacked by split.

    Args:
        class_names: K names.
        counts: Images per class (K) for every split.

    Returns:
        A figure; beyond 30 classes, sorted by size and without names.
    """
    total = np.sum([np.asarray(values) for values in counts.values()], axis=0)
    named = len(class_names) <= _NAMED_CLASSES
    order = np.arange(len(class_names)) if named else np.argsort(-total, kind="stable")
    figure, axes = new_figure(7.2, 1.1 + 0.26 * len(class_names) if named else 3.2)
    base = np.zeros(len(class_names))
    for number, (split, values) in enumerate(counts.items()):
        heights = np.asarray(values)[order]
        if named:
            axes.barh(order, heights, left=base, color=color(number), label=split, height=0.75)
        else:
            axes.bar(np.arange(len(order)), heights, bottom=base, color=color(number), label=split, width=1.0)
        base = base + heights
    if named:
        axes.set_yticks(order, [_short(name) for name in class_names])
        axes.invert_yaxis()
        axes.set_xlabel("images")
        axes.grid(visible=False, axis="y")
    else:
        axes.set_xlabel(f"{len(class_names)} classes, largest first")
        axes.set_ylabel("images")
        axes.set_xlim(-0.5, len(order) - 0.5)
        axes.grid(visible=False, axis="x")
    figure.legend(loc="outside upper right", ncols=len(counts), frameon=False)
    return figure


def plot_image_grid(class_names: Sequence[str], images_by_class: Sequence[torch.Tensor]) -> Figure:
    """Draw a sheet of pictures, one row per class, in columns of up to 25 rows.

    Args:
        class_names: K names.
        images_by_class: For every class uint8, n x 3 x H x W; n may differ and may be 0.

    Returns:
        A figure.
    """
    blocks = [range(k, min(k + _SHEET_ROWS, len(class_names))) for k in range(0, len(class_names), _SHEET_ROWS)]
    columns = max(1, *(len(images) for images in images_by_class))
    rows = len(blocks[0])
    side = 0.5
    names = 0.3 + 0.08 * min(max(map(len, class_names)), _LONGEST_NAME)
    figure, axes = new_grid(1, len(blocks), len(blocks) * (columns * side + names), rows * side + 0.2)
    for block, one in zip(blocks, axes.flat, strict=True):
        sheet = _tile([images_by_class[k] for k in block], columns)
        _show(one, sheet)
        step = sheet.shape[0] / len(block)
        one.set_yticks([(n + 0.5) * step for n in range(len(block))], [_short(class_names[k]) for k in block])
        one.tick_params(left=False)
    return figure


def plot_mean_images(class_names: Sequence[str], means_KCHW: torch.Tensor) -> Figure:
    """Draw the mean picture of every class.

    Args:
        class_names: K names.
        means_KCHW: uint8, K x 3 x H x W.

    Returns:
        A figure.
    """
    columns = 10 if len(class_names) > 5 else len(class_names)
    rows = -(-len(class_names) // columns)
    height, width = means_KCHW.shape[2:]
    # white above every picture makes room for its name; one pair of axes for all, because a hundred take seconds
    room = torch.full((len(means_KCHW), 3, height // 4, width), 255, dtype=torch.uint8)
    framed = torch.cat([room, means_KCHW], 2)
    sheet = _tile(torch.split(framed, columns), columns)
    figure, axes = new_figure(0.95 * columns, 1.15 * rows)
    _show(axes, sheet)
    step_y, step_x = sheet.shape[0] / rows, sheet.shape[1] / columns
    for position, name in enumerate(class_names):
        row, column = divmod(position, columns)
        x, y = column * step_x + width / 2, row * step_y + height / 4
        axes.text(x, y, _short(name, 13), fontsize=7.5, color=INK, ha="center", va="bottom")
    return figure


def plot_channels(histogram_CB: np.ndarray[Any, Any]) -> Figure:
    """Draw how often each value occurs in each colour channel.

    Args:
        histogram_CB: Pixels per channel and value, 3 x 256.

    Returns:
        A figure.
    """
    figure, axes = new_figure(7.2, 2.8)
    shares = 100 * histogram_CB / np.maximum(histogram_CB.sum(1, keepdims=True), 1)
    # each channel in a colour of its own name, and told apart by line style too
    for values, shade, style, name in zip(
        shares, (RED, GREEN, BLUE), ("-", "--", ":"), ("red", "green", "blue"), strict=True
    ):
        axes.plot(np.arange(256), values, color=shade, linestyle=style, label=name)
    # saturated pixels, 0 and 255, are often a spike that would flatten everything else
    axes.set_ylim(0, 1.1 * max(float(shares[:, 1:-1].max()), 1e-3))
    axes.set_xlim(0, 255)
    axes.set_xlabel("value")
    axes.set_ylabel("share of pixels (%)")
    axes.legend(frameon=False)
    return figure


def plot_distributions(class_names: Sequence[str], brightness: list[Any], contrast: list[Any]) -> Figure:
    """Draw the brightness and contrast of the images of every class: median, middle half, and 5 % to 95 %.

    Args:
        class_names: K names.
        brightness: For every class an array of mean grey values, 0..1.
        contrast: For every class an array of standard deviations of grey values, 0..0.5.

    Returns:
        A figure; beyond 30 classes, sorted by median and without names.
    """
    named = len(class_names) <= _NAMED_CLASSES
    height = 1.0 + 0.26 * len(class_names) if named else 3.4
    figure, axes = new_grid(1, 2, 9.2, height, sharey=named)
    titles = ("Brightness (mean of an image)", "Contrast (deviation within an image)")
    for one, values, title in zip(axes.flat, (brightness, contrast), titles, strict=True):
        quantiles = np.array([np.quantile(v, (0.05, 0.25, 0.5, 0.75, 0.95)) for v in values])
        order = np.arange(len(values)) if named else np.argsort(quantiles[:, 2], kind="stable")
        low, quarter, middle, three_quarters, high = quantiles[order].T
        rank = np.arange(len(values))
        lines, points = (one.hlines, (middle, rank)) if named else (one.vlines, (rank, middle))
        lines(rank, low, high, color=MUTED, linewidth=1)
        lines(rank, quarter, three_quarters, color=BLUE, linewidth=7 if named else 2.5)
        one.plot(*points, "o", color="white", markeredgecolor=INK, markersize=4 if named else 2.5)
        if not named:
            one.set_xlabel(f"{len(values)} classes, by median")
        set_title(one, title)
    if named:
        axes[0, 0].set_yticks(np.arange(len(class_names)), [_short(name) for name in class_names])
        axes[0, 0].set_ylim(len(class_names) - 0.4, -0.6)
    return figure


def plot_pairs(pairs: Sequence[Pair]) -> Figure:
    """Draw pairs of pictures side by side with captions.

    Args:
        pairs: At least one.

    Returns:
        A figure with six places in a row, so that all such figures show pictures at one scale.
    """
    columns = 6
    rows = -(-len(pairs) // columns)
    figure, axes = new_grid(rows, columns, 1.62 * columns, 1.13 * rows)
    for position, one in enumerate(axes.flat):
        one.axis("off")
        if position < len(pairs):
            pair = pairs[position]
            _show(one, _tile([torch.stack([pair.first_CHW, pair.second_CHW])], 2))
            shade = RED if pair.alarming else INK
            one.set_title(literal(pair.caption), fontsize=7.5, color=shade, pad=3)
    return figure


def _tile(rows: Sequence[torch.Tensor], columns: int) -> np.ndarray[Any, Any]:
    """Lay rows of pictures (uint8, n x 3 x H x W) out on white: uint8, height x width x 3."""
    height, width = next(row.shape[2:] for row in rows)
    gap = max(1, height // 16)
    sheet = np.full((len(rows) * (height + gap), columns * (width + gap), 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            sheet[top : top + height, left : left + width] = image.permute(1, 2, 0).numpy()
    return sheet


def _show(axes: Axes, picture_HWC: np.ndarray[Any, Any]) -> None:
    # one pixel stays one square: smoothing would show what is not in the data
    axes.imshow(picture_HWC, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _short(name: str, length: int = _LONGEST_NAME) -> str:
    return literal(name if len(name) <= length else name[: length - 1] + "…")
