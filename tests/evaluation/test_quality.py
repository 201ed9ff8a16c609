"""Quality: its three parts stand beside one another, and one that cannot be measured leaves the others as they are."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cifarlab.data import ImageSet
from cifarlab.errors import MissingExtraError
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.quality import quality_section
from cifarlab.evaluation.section import Scored, Subject

NAMES = ("cat", "dog")


def subject(*, images: bool = True, human_labels: str = "") -> Subject:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 2
    pixels = torch.randint(256, (12, 3, 16, 16), dtype=torch.uint8, generator=generator)
    judged = ImageSet(pixels, labels, NAMES)
    train = ImageSet(torch.cat([pixels[:1], 255 - pixels[1:]]), labels, NAMES)
    scored = Scored(torch.eye(2)[labels] * 4, labels, judged if images else None)
    loader = (lambda: train) if images else None
    return Subject("val", NAMES, scored, scored, None, loader, Options(human_labels=human_labels))


def test_without_the_library_for_labels_the_copies_are_counted_all_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    found = quality_section(subject())
    assert not found.skipped
    assert found.figures["duplicates"]["exact_copies"] == 1
    assert "pip install 'cifarlab[audit]'" in found.figures["label_errors"]["skipped"]
    assert any("Label errors: cleanlab is not installed" in note for note in found.notes)
    assert any("Human labels: no human labels were given" in note for note in found.notes)


def test_a_wrong_file_of_human_labels_is_told_and_loses_nothing(tmp_path: Path):
    lines: list[str] = []
    judged = dataclasses.replace(subject(human_labels=str(tmp_path / "none.npy")), notify=lines.append)
    found = quality_section(judged)
    assert any(line.startswith("not measured, human labels: there is no file") for line in lines)
    assert "there is no file" in found.figures["human_labels"]["skipped"]
    assert found.figures["duplicates"]["copies"]["images"] == 12


def test_all_parts_come_together(tmp_path: Path):
    pytest.importorskip("cleanlab")
    np.save(tmp_path / "counts.npy", 1 + 8 * np.eye(2, dtype=int)[np.arange(12) % 2])
    found = quality_section(subject(human_labels=str(tmp_path / "counts.npy")))
    assert set(found.figures) == {"duplicates", "label_errors", "human_labels"}
    assert {"accuracy_without_copies", "near_duplicates", "human_agreement"} <= set(found.tables)
    assert {"near_duplicates", "human_agreement"} <= set(found.plots) <= set(found.captions)
    assert len(found.findings) == 4
    assert found.figures["human_labels"]["person_accuracy"]["value"] == pytest.approx(0.9)


def test_where_nothing_can_be_measured_the_way_out_is_the_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(MissingExtraError, match="audit"):
        quality_section(subject(images=False))


def test_where_nothing_applies_every_reason_is_given():
    one_class = Scored(torch.ones(3, 2), torch.zeros(3, dtype=torch.int64))
    found = quality_section(Subject("given", NAMES, one_class, None, None, None, Options()))
    assert "near duplicates need the images" in found.skipped
    assert "two classes" in found.skipped
    assert "--human-labels" in found.skipped
