import numpy as np
import pytest

from cifarlab.plots.curves import plot_curves
from cifarlab.plots.style import figure_bytes


def records(epochs, *, val=True, last=None):
    rows = []
    for i in range(epochs):
        row = {"epoch": i + 1, "train/loss": 2.0 / (i + 1), "train/accuracy": 1 - 0.5 / (i + 1), "lr": 0.1 / (i + 1)}
        if val:
            row |= {"val/loss": 2.5 / (i + 1), "val/accuracy": 1 - 0.6 / (i + 1)}
        rows.append(row)
    if last is not None:
        rows[-1]["epoch"] = last
    return rows


def lines(axes):
    return {line.get_label().split()[0]: (line.get_xdata(), line.get_ydata()) for line in axes.get_lines()}


def test_the_lines_are_the_records_with_accuracy_in_per_cent():
    rows = records(5, last=4.6)
    loss, accuracy = plot_curves(rows).axes[:2]
    for split in ("train", "val"):
        epochs, values = lines(loss)[split]
        np.testing.assert_allclose(epochs, [1, 2, 3, 4, 4.6])
        np.testing.assert_allclose(values, [row[f"{split}/loss"] for row in rows])
        np.testing.assert_allclose(lines(accuracy)[split][1], [100 * row[f"{split}/accuracy"] for row in rows])


def test_without_val_only_train_is_drawn():
    for rows in (records(3, val=False), [{**row, "val/loss": None, "val/accuracy": None} for row in records(3)]):
        loss, accuracy = plot_curves(rows).axes[:2]
        assert set(lines(loss)) == set(lines(accuracy)) == {"train"}


def test_an_epoch_without_a_val_figure_leaves_a_gap_not_a_zero():
    rows = records(4)
    rows[1]["val/accuracy"] = None
    epochs, values = lines(plot_curves(rows).axes[1])["val"]
    np.testing.assert_allclose(epochs, [1, 3, 4])
    assert min(values) > 0


@pytest.mark.parametrize("rows", [records(1), records(1, val=False), records(1, last=0.5), [{"epoch": 1}], records(60)])
def test_every_length_can_be_written(rows):
    content = figure_bytes(plot_curves(rows), "png")
    assert content.startswith(b"\x89PNG")


def test_a_single_epoch_is_visible_as_a_point():
    assert all(line.get_marker() == "o" for line in plot_curves(records(1)).axes[0].get_lines())


def test_the_learning_rate_lies_behind_the_loss():
    figure = plot_curves(records(4))
    loss, rate = figure.axes[0], figure.axes[2]
    assert loss.get_zorder() > rate.get_zorder()
    assert "peak 0.1" in rate.texts[0].get_text()


def test_no_record_is_refused():
    with pytest.raises(ValueError, match="no epoch"):
        plot_curves([])
