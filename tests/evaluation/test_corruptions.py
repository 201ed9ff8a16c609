"""The section on corruptions: what is averaged over what, and when the official files count."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluation.models import coloured, subject

from cifarlab.data.cifar import CIFAR10
from cifarlab.data.cifar10_c import NAMES, open_cifar10_c
from cifarlab.data.imageset import ImageSet
from cifarlab.errors import DataError
from cifarlab.evaluation import corruptions
from cifarlab.evaluation.corrupting import CORRUPTIONS, FAMILIES
from cifarlab.evaluation.corruptions import corruption_figures, corruptions_section
from cifarlab.stats import wilson_interval


def values(figures: list[dict[str, Any]]) -> list[float]:
    return [figure["value"] for figure in figures]


def test_names_are_those_of_the_official_files() -> None:
    assert tuple(one.name for one in CORRUPTIONS) == NAMES


def test_means_against_numpy() -> None:
    draw = np.random.default_rng(0)
    clean, right = draw.random(60) < 0.9, draw.random((15, 5, 60)) < np.linspace(0.9, 0.3, 5)[:, None]
    figures = corruption_figures(clean, right, 0)
    assert figures["clean"]["value"] == pytest.approx(clean.mean())
    assert figures["mean"]["value"] == pytest.approx(right.mean())
    assert figures["drop"]["value"] == pytest.approx(clean.mean() - right.mean())
    np.testing.assert_allclose(values(figures["by_severity"]), right.mean((0, 2)))
    np.testing.assert_allclose(values(list(figures["by_corruption"].values())), right.mean((1, 2)))
    for family in FAMILIES:
        members = [n for n, one in enumerate(CORRUPTIONS) if one.family == family]
        assert figures["by_family"][family]["value"] == pytest.approx(right[members].mean())
        np.testing.assert_allclose(values(figures["curves"][family]), right[members].mean((0, 2)))
    for n, one in enumerate(CORRUPTIONS):
        for s, cell in enumerate(figures["cells"][one.name]):
            assert cell["interval"] == list(wilson_interval(int(right[n, s].sum()), 60))
    low, high = figures["mean"]["interval"]
    # images differ in how often they are right: the spread is that of their own means
    error = right.mean((0, 1)).std() / np.sqrt(60)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_a_subset_in_proportion_is_judged_and_said_so() -> None:
    lines: list[str] = []
    whole = subject(coloured(60), num_corrupted=12)
    section = corruptions_section(dataclasses.replace(whole, notify=lines.append))
    assert section.skipped == ""
    assert section.figures["images"] == 12
    assert section.figures["source"] == "regenerated"
    assert section.figures["clean"]["value"] == 1
    assert any("12 of 60 validation images" in note for note in section.notes)
    assert any("regenerated" in note for note in section.notes)
    assert any("Frost" in note and "other texture" in note for note in section.notes)
    assert len(lines) == 15
    assert section.figures == corruptions_section(whole).figures  # all draws are seeded
    # the average colour is what this model goes by: blur leaves it
    assert all(cell["value"] == 1 for cell in section.figures["cells"]["defocus_blur"])
    table = section.tables["corruptions"]
    assert len(table.rows) == 16
    assert all(len(row) == len(table.header) == len(table.kinds) for row in table.rows)
    cells = section.tables["corruption_cells"]
    assert len(cells.rows) == 75
    assert all(len(row) == len(cells.header) == len(cells.kinds) for row in cells.rows)
    assert set(section.plots) == set(section.captions) == {"corruptions", "corruption_curves"}


def sentences(clean_M: np.ndarray, right_M: np.ndarray) -> tuple[str, ...]:
    right_CSM = np.broadcast_to(right_M, (15, 5, len(right_M))).copy()
    return corruptions._findings(corruption_figures(clean_M, right_CSM, 0), "val")


def test_a_gain_is_no_loss_and_among_equals_none_is_worst() -> None:
    half, most = np.arange(200) < 100, np.arange(200) < 150
    assert "points [" in sentences(most, half)[0]
    assert sentences(most, half)[0].endswith("] are lost.")
    gain = sentences(half, most)
    assert gain[0].endswith("] more.")
    assert "-" not in gain[0]
    assert len(gain) == 2, "all corruptions are alike, so none is worst or best"


def test_without_a_model_it_is_skipped() -> None:
    images = coloured(6)
    assert "answers" in corruptions_section(dataclasses.replace(subject(images), classifier=None)).skipped
    judged = dataclasses.replace(subject(images).judged, images=None)
    assert "answers" in corruptions_section(dataclasses.replace(subject(images), judged=judged)).skipped


# --- official files


@pytest.fixture
def ten() -> ImageSet:
    """Ten images in the classes of CIFAR-10, of which the model of these tests knows three."""
    images = coloured(10)
    return ImageSet(images.images_NCHW, images.labels_N, CIFAR10.class_names)


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ten: ImageSet) -> Path:
    """Official files of ten images: under fog all show the next class, under all else they are as they were."""
    monkeypatch.setattr(corruptions, "NUM_IMAGES", 10)
    monkeypatch.setattr(corruptions, "open_cifar10_c", partial(open_cifar10_c, num_images=10))
    monkeypatch.setenv("CIFARLAB_DATA", str(tmp_path / "nothing"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "official"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(ten.labels_N.numpy().astype(np.uint8), 5))
    for name in NAMES:
        images = ten.images_NCHW.roll(1, dims=1) if name == "fog" else ten.images_NCHW
        np.save(folder / f"{name}.npy", np.tile(images.permute(0, 2, 3, 1).numpy(), (5, 1, 1, 1)))
    return folder


class Three(torch.nn.Module):
    """Ten logits, of which the first three are the channels."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        images = images_NCHW.float() / 255 if images_NCHW.dtype == torch.uint8 else images_NCHW
        return torch.cat([40 * images.mean((2, 3)), torch.zeros(len(images), 7)], 1)


def test_official_files_are_used_for_the_test_split(official: Path, ten: ImageSet) -> None:
    section = corruptions_section(subject(ten, Three(), "test", cifar10_c=str(official)))
    assert section.figures["source"] == "official"
    cells = section.figures["cells"]
    assert values(cells["fog"]) == [0] * 5
    assert values(cells["snow"]) == [1] * 5
    assert section.figures["mean"]["value"] == pytest.approx(14 / 15)
    assert not any("regenerated" in note for note in section.notes)


def test_a_subset_of_the_official_files_is_that_of_the_same_positions(official: Path, ten: ImageSet) -> None:
    section = corruptions_section(subject(ten, Three(), "test", cifar10_c=str(official), num_corrupted=4))
    assert section.figures["images"] == 4
    assert values(section.figures["cells"]["snow"]) == [1] * 5


def test_official_files_are_not_opened_for_other_images(
    official: Path, ten: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold the labels of the test split, which an evaluation of val must not see."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the official files were opened")

    monkeypatch.setattr(corruptions, "open_cifar10_c", refuse)
    section = corruptions_section(subject(ten, Three(), "val", cifar10_c=str(official)))
    assert section.figures["source"] == "regenerated"
    assert any("other images were judged" in note for note in section.notes)
    named_otherwise = ImageSet(ten.images_NCHW, ten.labels_N, CIFAR10.class_names[::-1])
    assert corruptions_section(subject(named_otherwise, Three(), "test")).figures["source"] == "regenerated"


def test_official_files_of_another_order_are_not_used(official: Path, ten: ImageSet) -> None:
    turned = ten.subset(torch.arange(9, -1, -1))
    section = corruptions_section(subject(turned, Three(), "test", cifar10_c=str(official)))
    assert section.figures["source"] == "regenerated"


def test_a_folder_without_files_is_an_error_and_no_folder_is_a_hint(
    official: Path, ten: ImageSet, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="cifarlab fetch cifar10-c"):
        corruptions_section(subject(ten, Three(), "test", cifar10_c=str(tmp_path / "elsewhere")))
    section = corruptions_section(subject(ten, Three(), "test"))
    assert section.figures["source"] == "regenerated"
    assert any("cifarlab fetch cifar10-c" in note for note in section.notes)
    assert official.is_dir()
