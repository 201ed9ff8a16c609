"""Plots of a search: nothing in them lies over a trial."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cifarlab.plots import tuning


def history():
    accuracies = [0.7, 0.72, 0.5, 0.75, 0.3, 0.2]  # the last ones lie low
    return tuning.history_figure([0, 1, 2, 4, 6, 8], accuracies, {3: 0.4, 7: 0.25}, [5], recipe=0.7)


def epochs():
    return tuning.epochs_figure([{1: 0.2, 2: 0.6}, {1: 0.1, 2: 0.1}], [True, False])


@pytest.mark.parametrize("draw", [history, epochs])
def test_the_legend_covers_no_trial(draw):
    figure = draw()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    (legend,) = [one for one in (axes.get_legend(), *figure.legends) if one]
    box = legend.get_window_extent(canvas.get_renderer())
    assert not box.overlaps(axes.get_window_extent(canvas.get_renderer()))
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.y0 >= 0
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[:2] == (["given up", "complete"] if draw is history else ["complete", "given up"])


@pytest.mark.parametrize(("complete", "labels"), [([True, True], ["complete"]), ([False, False], ["given up"])])
def test_the_legend_of_curves_names_only_what_is_drawn(complete, labels):
    (legend,) = tuning.epochs_figure([{1: 0.2, 2: 0.6}, {1: 0.1}], complete).legends
    assert [text.get_text() for text in legend.get_texts()] == labels
