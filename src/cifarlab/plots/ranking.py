"""Plots of how well each class is told from the rest: ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from cifarlab.plots.style import BLUE, GREEN, INK, ORANGE, PURPLE, RED, new_figure, set_title, shortened

# hardest first; the style of line tells them apart without colour
_LOOKS = ((RED, "-"), (BLUE, "--"), (GREEN, "-."), (ORANGE, ":"), (PURPLE, (0, (5, 1, 1, 1, 1, 1))))
_REST = "#b4bac4"
_PAPER = {"facecolor": "white", "edgecolor": "none", "framealpha": 0.85}


@dataclass(frozen=True)
class ClassCurve:
    """The curves of one class against the rest.

    Attributes:
        name: Of the class.
        auroc: Area under the first curve, a fraction.
        average_precision: Of the second, a fraction.
        false_rates, true_rates: Shares of the rest and of the class that are called so, both rising.
        recalls, precisions: Points of the second curve, recall falling, as scikit-learn gives them.
    """

    name: str
    auroc: float
    average_precision: float
    false_rates: NDArray[np.float64]
    true_rates: NDArray[np.float64]
    recalls: NDArray[np.float64]
    precisions: NDArray[np.float64]


def roc_figure(curves: Sequence[ClassCurve], num_images: int, title: str) -> Figure:
    """Draw the ROC curve of every class; the five of least area in colour, the others grey.

    Points are joined by straight lines, as the area takes them: equal scores count half. The false positive rate is on
    a logarithmic scale, for the curves of a good model would all lie on the left edge.

    Args:
        curves: One entry a class.
        num_images: N; no rate but zero is smaller than 1 / N.
        title: Heading.
    """
    figure, axes = new_figure(6.4, 4.6)
    smallest = 0.5 / num_images
    for curve, look in _in_order(curves, "auroc"):
        rates = np.maximum(curve.false_rates, smallest)
        axes.plot(rates, curve.true_rates, **_style(look, f"{curve.name}  {curve.auroc:.4f}"))
    diagonal = np.geomspace(smallest, 1, 50)
    axes.plot(diagonal, diagonal, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.set_xscale("log")
    axes.set(xlim=(smallest, 1), ylim=(0, 1.01))
    axes.set(xlabel="false positive rate: share of other images called so", ylabel="true positive rate: share found")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    _finish(axes, curves, "area (AUROC)", title)
    return figure


def precision_recall_figure(curves: Sequence[ClassCurve], title: str) -> Figure:
    """Draw precision against recall of every class; the five of least average precision in colour, the others grey.

    Args:
        curves: One entry a class.
        title: Heading.
    """
    figure, axes = new_figure(6.4, 4.6)
    for curve, look in _in_order(curves, "average_precision"):
        label = f"{curve.name}  {curve.average_precision:.4f}"
        axes.plot(curve.recalls, curve.precisions, drawstyle="steps-post", **_style(look, label))
    axes.set(xlim=(0, 1.005), ylim=(0, 1.01), xlabel="recall: share found", ylabel="precision: share right when named")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, 0))
    _finish(axes, curves, "average precision", title)
    return figure


def _in_order(curves: Sequence[ClassCurve], figure: str) -> list[tuple[ClassCurve, tuple[str, Any] | None]]:
    """Return the curves with their looks, in the order of drawing: the grey ones first."""
    ordered = sorted(curves, key=lambda curve: float(getattr(curve, figure)))
    looks = [*_LOOKS, *[None] * len(ordered)][: len(ordered)]
    return list(zip(ordered, looks, strict=True))[::-1]


def _style(look: tuple[str, Any] | None, label: str) -> dict[str, Any]:
    if look is None:
        return {"color": _REST, "linewidth": 0.9}
    return {"color": look[0], "linestyle": look[1], "linewidth": 1.7, "label": shortened(label)}


def _finish(axes: Axes, curves: Sequence[ClassCurve], figure: str, title: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    more = f"; {len(curves) - len(_LOOKS)} more in grey" if len(curves) > len(_LOOKS) else ""
    axes.legend(
        handles[::-1],
        labels[::-1],
        **_PAPER,
        fontsize=9,
        loc="lower right",
        title=f"{figure}{more}",
        alignment="left",
    ).get_title().set_fontsize(9)
    set_title(axes, title)
