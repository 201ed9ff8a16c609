"""The page of a search has every figure that its trials allow, and says why one is missing."""

import dataclasses
import re

import pytest
from tests.experiments.pretend import spec

from cifarlab.experiments.search_page import write_search_page

pytest.importorskip("optuna")

FIGURES = {
    "history": "Accuracy of every trial and the best so far",
    "epochs": "Accuracy of every trial by epoch",
    "importances": "Importance of every field",
    "slices": "Accuracy over every field",
    "parallel": "Complete trials as lines over all fields",
}


def drawn(page):
    """The alternative texts of the figures, in the page's order, each of which holds its own picture."""
    return re.findall(r'<img src="data:image/png;base64,[^"]{1000,}" alt="([^"]+)">', page.html.read_text())


def test_a_search_of_enough_trials_has_every_figure(work, tmp_path):
    record = work(spec(pruner="none"), 12)
    assert record.count("complete") == 12
    assert set(record.importances) == {"optimizer.lr", "model.convnet.dropout"}
    page = write_search_page(record, tmp_path)
    assert drawn(page) == list(FIGURES.values())
    files = {path.name for path in (tmp_path / "plots").iterdir()}
    assert files == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert "Too few complete trials" not in page.html.read_text()

    few = dataclasses.replace(record, trials=record.trials[:9], importances={})
    page = write_search_page(few, tmp_path / "few")
    assert drawn(page) == [text for name, text in FIGURES.items() if name != "importances"]
    assert "Too few complete trials to say how much each field matters: it takes ten" in page.html.read_text()


def test_one_field_has_no_parallel_coordinates(work, tmp_path):
    page = write_search_page(work(spec("optimizer.lr=log:0.001:1"), 2), tmp_path)
    assert drawn(page) == [FIGURES[name] for name in ("history", "epochs", "slices")]
