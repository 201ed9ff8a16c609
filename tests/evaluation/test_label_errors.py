"""Label errors: planted flips are suspected, and what is said of them follows from their number."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cifarlab.data import ImageSet
from cifarlab.errors import MissingExtraError
from cifarlab.evaluation.label_errors import find_suspects, label_errors_section
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.section import Scored, Subject
from cifarlab.phrases import per_cent
from cifarlab.plots.style import save_figure

NAMES = ("cat", "$dog$", "frog", "never seen")


def subject(logits: torch.Tensor, labels: torch.Tensor, images: ImageSet | None = None, split: str = "val") -> Subject:
    scored = Scored(logits, labels, images)
    return Subject(split, NAMES, scored, scored, None, None, Options())


def good_answers(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a model that is nearly always right about three classes, and the true classes."""
    truth = torch.arange(count) % 3
    logits = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    logits[torch.arange(count), truth] += 6
    logits[:, 3] -= 5
    return logits, truth


@pytest.fixture
def flipped() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]:
    """Logits, labels of which twenty-one are wrong, seven of each class, true classes, and which labels are wrong."""
    logits, truth = good_answers(600)
    wrong = list(range(0, 600, 29))
    labels = truth.clone()
    labels[wrong] = (truth[wrong] + 1) % 3
    return logits, labels, truth, wrong


def test_planted_flips_are_suspected_and_their_true_classes_suggested(flipped):
    pytest.importorskip("cleanlab")
    logits, labels, truth, wrong = flipped
    suspects = find_suspects(logits.double().softmax(1).numpy(), labels.numpy())
    found = {one.index for one in suspects}
    assert len(found & set(wrong)) >= 18
    assert len(found - set(wrong)) <= 1
    assert all(one.suggested == truth[one.index] for one in suspects if one.index in wrong)
    assert all(one.given == labels[one.index] != one.suggested for one in suspects)


def test_the_published_example_of_the_method():
    """From the discussion of cleanlab's authors with users (cleanlab/cleanlab, discussion 405)."""
    pytest.importorskip("cleanlab")
    labels = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.array(
        [[0.9, 0.025, 0.075], [0.75, 0.15, 0.1], [0.1, 0.05, 0.85], [0.3, 0.5, 0.2], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8]]
    )
    suspects = find_suspects(probabilities, labels)
    assert sorted((one.index, one.suggested) for one in suspects) == [(2, 2), (4, 1)]


def test_the_most_suspect_come_first_with_the_models_own_figures(flipped):
    pytest.importorskip("cleanlab")
    logits, labels, _, _ = flipped
    probabilities = logits.double().softmax(1)
    suspects = find_suspects(probabilities.numpy(), labels.numpy())
    scores = [one.score for one in suspects]
    assert scores == sorted(scores)
    assert scores == pytest.approx([float(probabilities[one.index, one.given]) for one in suspects])
    highest = probabilities.max(1).values[[one.index for one in suspects]]
    assert [one.confidence for one in suspects] == pytest.approx(highest.tolist())


def test_accuracy_without_suspects_counts_the_same_right_answers_among_fewer_images(flipped):
    pytest.importorskip("cleanlab")
    logits, labels, _, _ = flipped
    found = label_errors_section(subject(logits, labels)).figures
    right = int((logits.argmax(1) == labels).sum())
    without = found["accuracy_without_suspects_at_most"]
    assert (without["count"], without["images"]) == (right, 600 - found["suspects"]["count"])
    assert found["accuracy"]["count"] == right
    assert without["value"] > found["accuracy"]["value"]


def test_the_sentence_bounds_the_accuracy_without_whatever_people_find_wrong(flipped):
    """Leaving out any of the suspects gives an accuracy between the two that are named."""
    pytest.importorskip("cleanlab")
    logits, labels, _, _ = flipped
    found = label_errors_section(subject(logits, labels))
    low, high = (found.figures[key]["value"] for key in ("accuracy", "accuracy_without_suspects_at_most"))
    suspects = [row[0] for row in found.tables["label_suspects"].rows]
    for count in range(len(suspects) + 1):
        kept = torch.ones(600, dtype=torch.bool)
        kept[suspects[:count]] = False
        accuracy = float((logits.argmax(1) == labels)[kept].double().mean())
        assert low - 1e-12 <= accuracy <= high + 1e-12
    assert f"between {per_cent(low)}, if none is, and {per_cent(high)}" in found.findings[0]


def test_all_suspects_are_in_the_table_and_some_are_shown(flipped, tmp_path: Path):
    pytest.importorskip("cleanlab")
    logits, labels, _, _ = flipped
    pixels = torch.randint(256, (600, 3, 11, 11), dtype=torch.uint8)
    images = ImageSet(pixels, labels, NAMES, tuple(f"{n}.png" for n in range(600)))
    found = label_errors_section(subject(logits, labels, images))
    table = found.tables["label_suspects"]
    assert len(table.rows) == found.figures["suspects"]["count"] >= 18
    assert len(table.header) == len(table.kinds) == len(table.rows[0])
    index, file, given, suggested, score, confidence = table.rows[0]
    assert file == f"{index}.png"
    assert given == NAMES[labels[index]]
    assert suggested == NAMES[int(logits[index].argmax())]
    assert score < confidence
    assert any("upper bound" in note for note in found.notes)
    save_figure(found.plots["label_suspects"], tmp_path / "suspects")


def test_without_images_there_is_a_table_and_no_picture(flipped):
    pytest.importorskip("cleanlab")
    logits, labels, _, _ = flipped
    found = label_errors_section(subject(logits, labels, split="given"))
    assert found.tables["label_suspects"].header[1] == "given label"
    assert not found.plots
    assert any("not known" in note for note in found.notes)


def test_where_the_model_agrees_with_every_label_none_is_suspected():
    pytest.importorskip("cleanlab")
    logits, truth = good_answers(60)
    logits[torch.arange(60), truth] += 20
    found = label_errors_section(subject(logits, truth))
    assert found.figures["suspects"]["count"] == 0
    assert "none is suspected" in found.findings[0]
    assert not found.tables
    assert not found.plots


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 1], [2, 1, 0, 0]])
def test_a_handful_of_images_does_no_harm(labels):
    pytest.importorskip("cleanlab")
    logits = torch.eye(4)[: len(labels)]
    found = label_errors_section(subject(logits, torch.tensor(labels)))
    assert 0 <= found.figures["suspects"]["count"] < len(labels)


def test_one_class_alone_cannot_be_doubted():
    found = label_errors_section(subject(torch.randn(5, 4), torch.ones(5, dtype=torch.int64)))
    assert "two classes" in found.skipped


def test_without_the_library_the_line_to_install_it_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cifarlab\[audit\]'"):
        label_errors_section(subject(*good_answers(9)))
