"""Learning curves of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cifarlab.plots import style


def plot_curves(records: Sequence[dict[str, Any]]) -> Figure:
    """Draw loss and accuracy of train and val over the epochs, with the learning rate faint behind the loss.

    Args:
        records: Lines of metrics.jsonl: epoch (the last may be fractional), train/loss, train/accuracy, val/loss,
            val/accuracy, lr; keys may be absent or None, as those of val are without a val split. Accuracies are
            fractions.

    Raises:
        ValueError: If there is no record.
    """
    if not records:
        raise ValueError("no epoch is recorded, so there is no curve to draw")
    figure, axes = style.new_grid(1, 2, width=9.6, height=3.6)
    loss_axes, accuracy_axes = axes[0]
    _draw_rate(loss_axes, records)
    _draw(loss_axes, records, "loss", 1)
    _draw(accuracy_axes, records, "accuracy", 100)
    style.set_title(loss_axes, "Loss (cross-entropy)")
    style.set_title(accuracy_axes, "Accuracy (%)")
    return figure


def _points(records: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    kept = [
        (record.get("epoch") or i + 1, record[key]) for i, record in enumerate(records) if record.get(key) is not None
    ]
    return [float(epoch) for epoch, _ in kept], [float(value) for _, value in kept]


def _draw(axes: Axes, records: Sequence[dict[str, Any]], quantity: str, factor: float) -> None:
    drawn = False
    for split, color, line in (("train", style.ORANGE, "--"), ("val", style.BLUE, "-")):
        epochs, values = _points(records, f"{split}/{quantity}")
        if values:
            # points as well as a line while they can be told apart; a single epoch is a point only
            marker = "o" if len(values) <= 20 else None
            label = "train (augmented images)" if split == "train" else "val"
            axes.plot(epochs, [factor * v for v in values], line, color=color, marker=marker, markersize=4, label=label)
            drawn = True
    axes.set_xlabel("epoch")
    if len(records) == 1:
        epoch = float(records[0].get("epoch") or 1)
        axes.set_xlim(epoch - 1, epoch + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if drawn:
        axes.legend(frameon=False, fontsize=9)


def _draw_rate(axes: Axes, records: Sequence[dict[str, Any]]) -> None:
    epochs, rates = _points(records, "lr")
    if len(rates) < 2 or max(rates) <= 0:
        return
    behind = axes.twinx()
    behind.fill_between(epochs, rates, color=style.MUTED, alpha=0.12, linewidth=0)
    behind.set_ylim(0, max(rates) * 1.05)
    behind.set_yticks([])
    behind.grid(visible=False)
    for spine in behind.spines.values():
        spine.set_visible(False)
    behind.text(
        0.01,
        0.02,
        f"shaded: learning rate, peak {max(rates):.3g}",
        transform=behind.transAxes,
        fontsize=8,
        color=style.MUTED,
    )
    # the rate belongs behind the curves; twin axes are drawn last unless told otherwise
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
