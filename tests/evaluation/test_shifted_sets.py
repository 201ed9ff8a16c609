"""The section on CIFAR-10.1: the drop and its interval, and when there is nothing to measure."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from tests.evaluation.models import coloured, subject
from torch import nn

from cifarlab.data.cifar import CIFAR10
from cifarlab.data.imageset import ImageSet
from cifarlab.evaluation import shifted_sets
from cifarlab.evaluation.intervals import difference, proportion
from cifarlab.evaluation.shifted_sets import shifted_sets_section
from cifarlab.stats import wilson_interval


class Three(nn.Module):
    """Ten logits, of which the first three are the channels."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return torch.cat([images_NCHW.float().mean((2, 3)), torch.zeros(len(images_NCHW), 7)], 1)


def in_ten(images: ImageSet) -> ImageSet:
    return ImageSet(images.images_NCHW, images.labels_N, CIFAR10.class_names)


def wrong(images: ImageSet, count: int) -> ImageSet:
    """The same with other labels for the first few."""
    labels = images.labels_N.clone()
    labels[:count] = (labels[:count] + 1) % 3
    return ImageSet(images.images_NCHW, labels, images.class_names)


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> dict[str, ImageSet]:
    """What is here of CIFAR-10.1, by version; a test fills it."""
    here: dict[str, ImageSet] = {}
    monkeypatch.setattr(shifted_sets, "load_cifar10_1", lambda version: here.get(version.name))
    return here


def test_accuracy_and_drop(sets: dict[str, ImageSet]) -> None:
    judged = wrong(in_ten(coloured(200)), 10)
    sets |= {"v4": wrong(in_ten(coloured(101, seed=1)), 20), "v6": in_ten(coloured(50, seed=2))}
    section = shifted_sets_section(subject(judged, Three(), "test"))
    v4, v6 = section.figures["sets"]["v4"], section.figures["sets"]["v6"]
    assert section.figures["judged"]["value"] == 190 / 200
    assert v4["accuracy"]["value"] == 81 / 101
    assert v4["drop"]["value"] == pytest.approx(190 / 200 - 81 / 101)
    assert v6["drop"]["value"] == pytest.approx(-0.05)
    assert section.skipped == ""
    assert len(section.findings) == 2
    assert ": 14.8 points" in section.findings[0]
    assert " less than on " in section.findings[0]
    assert ": 5.0 points" in section.findings[1]
    assert " more than on " in section.findings[1]
    table = section.tables["shifted_sets"]
    assert all(len(row) == len(table.header) == len(table.kinds) for row in table.rows)


def test_newcombes_interval_by_its_formula() -> None:
    first, second = proportion(190, 200), proportion(81, 101)
    (low_1, high_1), (low_2, high_2) = wilson_interval(190, 200), wilson_interval(81, 101)
    p_1, p_2 = 190 / 200, 81 / 101
    low = p_1 - p_2 - math.hypot(p_1 - low_1, high_2 - p_2)
    high = p_1 - p_2 + math.hypot(high_1 - p_1, p_2 - low_2)
    assert difference(first, second)["interval"] == pytest.approx([low, high])


def test_one_version_alone_is_measured_and_the_other_named(sets: dict[str, ImageSet]) -> None:
    sets["v6"] = in_ten(coloured(20))
    section = shifted_sets_section(subject(in_ten(coloured(30)), Three(), "test"))
    assert list(section.figures["sets"]) == ["v6"]
    assert any("cifarlab fetch cifar10.1" in note and "v4" in note for note in section.notes)


def test_skipped_with_one_line_that_says_what_to_do(sets: dict[str, ImageSet]) -> None:
    judged = in_ten(coloured(30))
    assert shifted_sets_section(subject(judged, Three())).skipped.endswith("cifarlab fetch cifar10.1")
    sets["v4"] = judged
    assert "classes" in shifted_sets_section(subject(coloured(30))).skipped
    turned: Any = dataclasses.replace(subject(judged, Three()), class_names=CIFAR10.class_names[::-1])
    assert "classes" in shifted_sets_section(turned).skipped
    assert "answers" in shifted_sets_section(dataclasses.replace(subject(judged, Three()), classifier=None)).skipped
