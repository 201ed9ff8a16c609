"""Plots of why a model answers as it does: where its evidence lies, how it orders images, which classes it confuses.

Shape suffixes: N images, M selected images, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cifarlab.plots.style import BLACK, COLORS, GREEN, INK, MUTED, RED, color, literal, new_figure, new_grid, set_title

MOST_NAMED = 20
"""Classes of which points in the plane can still be told apart."""
_MARKERS = "os^"  # with eight colours enough for these
_MAP_COLORS = "inferno"  # even in lightness, and so in print and for the colour-blind
_NAME = 11


@dataclass(frozen=True)
class Explained:
    """An image with the evidence for one or two classes.

    Attributes:
        image_CHW: uint8.
        label, predicted: Names of the true and of the given class.
        confidence: Of the answer, a fraction.
        for_predicted_HW: Evidence for the class given, at least 0.
        for_label_HW: Evidence for the true class; None where it is the one given.
    """

    image_CHW: torch.Tensor
    label: str
    predicted: str
    confidence: float
    for_predicted_HW: torch.Tensor
    for_label_HW: torch.Tensor | None = None


def _short(name: str) -> str:
    return literal(name if len(name) <= _NAME else name[: _NAME - 1] + "…")


def _show(axes: Axes, image_CHW: torch.Tensor, map_HW: torch.Tensor | None = None) -> None:
    picture = image_CHW.permute(1, 2, 0).numpy()
    if map_HW is None:
        axes.imshow(picture, interpolation="nearest")
        return
    axes.imshow(picture.mean(2), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    highest = float(map_HW.max())
    shares_HW = map_HW.numpy() / (highest if highest > 0 else 1)
    # where there is no evidence the picture shows as it is
    axes.imshow(shares_HW, cmap=_MAP_COLORS, vmin=0, vmax=1, alpha=0.75 * np.sqrt(shares_HW))


def attention_figure(right: Sequence[Explained], wrong: Sequence[Explained], title: str) -> Figure:
    """Draw where the evidence lies: right answers on top, below them wrong ones with the evidence for both classes.

    Args:
        right: Some right answers.
        wrong: Some wrong ones.
        title: Heading.
    """
    columns = max(len(right), len(wrong), 1)
    rows = (2 if right else 0) + (3 if wrong else 0)
    figure, grid = new_grid(max(rows, 1), columns, 1.05 * columns + 1.0, 0.6 + 1.2 * max(rows, 1))
    for axes in grid.flat:
        axes.set_axis_off()
    row = 0
    for group, captions, hue in (
        (right, ("right\nanswers", "evidence\nfor it"), GREEN),
        (wrong, ("wrong\nanswers", "for the\nanswer", "for the\ntruth"), RED),
    ):
        if not group:
            continue
        for line, caption in enumerate(captions):
            first = grid[row + line, 0]
            first.text(-0.15, 0.5, caption, transform=first.transAxes, ha="right", va="center", fontsize=8.5, color=INK)
        for axes_R, one in zip(grid[row : row + len(captions)].T, group, strict=False):
            _show(axes_R[0], one.image_CHW)
            words = f"{_short(one.predicted)} {one.confidence:.0%}"
            axes_R[0].set_title(words, fontsize=7.5, color=hue, pad=3)
            _show(axes_R[1], one.image_CHW, one.for_predicted_HW)
            if one.for_label_HW is not None:
                _show(axes_R[2], one.image_CHW, one.for_label_HW)
                axes_R[2].set_title(_short(one.label), fontsize=7.5, color=INK, pad=3)
        row += len(captions)
    figure.suptitle(literal(title), x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure


def embedding_figure(
    places_M2: NDArray[np.float64],
    labels_M: NDArray[np.int64],
    right_M: NDArray[np.bool_],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Draw images as points in the plane, by true class; wrong answers are ringed.

    More than 20 classes could not be told apart by colour and shape, so their points are alike.

    Args:
        places_M2: Where each point lies.
        labels_M: True classes.
        right_M: Whether the answer was right.
        class_names: K names in label order.
        title: Heading.
    """
    figure, axes = new_figure(7.2, 6.2)
    labels = np.unique(labels_M).tolist()
    named = len(labels) <= MOST_NAMED
    groups = [(_short(class_names[label]), labels_M == label) for label in labels] if named else []
    for number, (name, mine_M) in enumerate(groups or [(f"image of {len(labels):,} classes", labels_M >= 0)]):
        x_M, y_M = places_M2[mine_M].T
        marker = _MARKERS[number // len(COLORS)]
        axes.scatter(x_M, y_M, s=9, color=color(number), marker=marker, linewidths=0, alpha=0.75, label=name)
    x_M, y_M = places_M2[~right_M].T
    name = f"wrong answer ({len(x_M):,})"
    axes.scatter(x_M, y_M, s=26, facecolors="none", edgecolors=BLACK, linewidths=0.6, label=name)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.legend(
        frameon=False,
        fontsize=8.5,
        ncols=min(4, max(len(groups), 1) + 1),
        loc="outside lower center",
        markerscale=1.6,
        handletextpad=0.2,
    )
    set_title(axes, title)
    return figure


def pairs_figure(
    images: Sequence[torch.Tensor], titles: Sequence[str], confidences: Sequence[Sequence[float]], title: str
) -> Figure:
    """Draw examples of the pairs of classes that are confused most often, a row each.

    Args:
        images: For each pair M images, uint8, M x 3 x H x W.
        titles: For each pair what was taken for what, and how often.
        confidences: For each pair the confidence of each answer.
        title: Heading.
    """
    columns = max(len(pictures) for pictures in images)
    rows = len(images)
    figure, grid = new_grid(rows, columns, 1.15 * columns + 0.3, 0.5 + 1.55 * rows)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes_C, pictures, words, shares in zip(grid, images, titles, confidences, strict=True):
        for axes, picture, share in zip(axes_C, pictures, shares, strict=False):
            _show(axes, picture)
            axes.text(
                0.5, -0.05, f"{share:.0%}", transform=axes.transAxes, ha="center", va="top", fontsize=7.5, color=MUTED
            )
        heading = axes_C[0].text(0, 1.06, literal(words), transform=axes_C[0].transAxes, fontsize=9, color=INK)
        heading.set_in_layout(False)  # a long one would push the pictures beside its own apart
    figure.set_layout_engine("constrained", h_pad=0.09)
    figure.suptitle(literal(title), x=0.01, ha="left", fontsize=10.5, fontweight="bold", color=INK)
    return figure
