"""Near duplicates: the planted ones are found, and the accuracies with and without them add up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cifarlab.data import ImageSet
from cifarlab.evaluation.duplicates import duplicates_section, find_copies
from cifarlab.evaluation.intervals import difference
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.section import Scored, Subject
from cifarlab.plots.style import save_figure

NAMES = ("cat", "dog", "$never$ seen")


def pictures(count: int, seed: int, side: int = 32) -> torch.Tensor:
    """Unrelated textures with the spectrum of photographs: uint8, count x 3 x side x side."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, side, side)
    for cells in (4, 8, 16, 32):
        noise = torch.randn(count, 1, cells, cells, generator=generator)
        noise = noise + 0.3 * torch.randn(count, 3, cells, cells, generator=generator)
        total += F.interpolate(noise, (side, side), mode="bicubic", align_corners=False) * (4 / cells) ** 0.7
    return (128 + 40 * total).clamp(0, 255).to(torch.uint8)


def image_set(images: torch.Tensor, labels: torch.Tensor | None = None, *, named: str = "") -> ImageSet:
    labels = torch.arange(len(images)) % 2 if labels is None else labels
    return ImageSet(images, labels, NAMES, tuple(f"{named}{n}.png" for n in range(len(images))) if named else ())


def answers(labels_N: torch.Tensor, wrong: list[int]) -> torch.Tensor:
    """Logits that are right but for the given images."""
    given = labels_N.clone()
    given[wrong] = 1 - given[wrong]
    return F.one_hot(given, 3).float() * 5


def subject(train: ImageSet | None, judged: ImageSet | None, logits: torch.Tensor, labels: torch.Tensor) -> Subject:
    scored = Scored(logits, labels, judged)
    loader = None if train is None else lambda: train
    return Subject("test", NAMES, scored, scored, None, loader, Options())


@pytest.fixture
def planted() -> tuple[ImageSet, ImageSet]:
    """Forty training images; judged 3 is one of them shifted, 5 one made darker, 7 an exact copy with another label."""
    scenes = pictures(40, seed=1, side=40)
    train = image_set(scenes[..., 4:36, 4:36])
    images = pictures(20, seed=2)
    images[3] = scenes[10, :, 4:36, 3:35]
    images[5] = (scenes[11, :, 4:36, 4:36].float() * 0.8).round().to(torch.uint8)
    images[7] = train.images_NCHW[12]
    labels = torch.arange(20) % 2  # of 3 and 10, 7 and 12 different, of 5 and 11 the same
    return train, image_set(images, labels)


def test_planted_copies_are_found_with_their_training_images(planted):
    copies, complete = find_copies(*planted)
    assert complete
    assert {(one.judged, one.train) for one in copies} == {(3, 10), (5, 11), (7, 12)}
    assert [one.judged for one in copies if one.exact] == [7]
    assert copies[0].judged == 7
    assert all(0.9 <= one.similarity <= 1 for one in copies)


def test_copies_within_a_set_do_not_count(planted):
    train, judged = planted
    doubled = judged.images_NCHW.clone()
    doubled[0] = doubled[1]
    among = train.images_NCHW.clone()
    among[0] = among[1]
    copies, _ = find_copies(image_set(among), image_set(doubled))
    assert {(one.judged, one.train) for one in copies} == {(3, 10), (5, 11), (7, 12)}


def test_an_image_with_several_copies_is_named_once_with_the_best(planted):
    train, judged = planted
    more = torch.cat([train.images_NCHW, judged.images_NCHW[3:4]])
    copies, _ = find_copies(image_set(more), judged)
    assert [(one.train, one.exact) for one in copies if one.judged == 3] == [(40, True)]


def test_flat_copies_have_no_detail_but_are_equal():
    train, judged = pictures(5, 1), pictures(5, 2)
    train[2] = judged[4] = 90
    copies, _ = find_copies(image_set(train), image_set(judged))
    assert [(one.judged, one.train, one.exact) for one in copies] == [(4, 2, True)]


def test_accuracies_are_those_of_the_two_groups(planted):
    train, judged = planted
    found = duplicates_section(subject(train, judged, answers(judged.labels_N, [3, 0, 1]), judged.labels_N)).figures
    assert (found["copies"]["count"], found["copies"]["images"], found["exact_copies"]) == (3, 20, 1)
    assert found["label_differs"] == 2
    assert found["accuracy"]["value"] == pytest.approx(17 / 20)
    assert found["accuracy_on_copies"]["value"] == pytest.approx(2 / 3)
    assert found["accuracy_without_copies"]["value"] == pytest.approx(15 / 17)
    assert found["copies_less_rest"]["value"] == pytest.approx(2 / 3 - 15 / 17)
    # what leaving the copies out changes is known exactly from the two groups
    change = found["accuracy"]["value"] - found["accuracy_without_copies"]["value"]
    assert found["all_less_without"]["value"] == pytest.approx(change)
    low, high = found["all_less_without"]["interval"]
    assert low < change < high


def newcombe(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """Method 10 of Newcombe (1998), written down from its definition."""

    def wilson(count: int, total: int) -> tuple[float, float]:
        z = 1.959963984540054
        centre = (count + z**2 / 2) / (total + z**2)
        half = z / (total + z**2) * math.sqrt(count * (total - count) / total + z**2 / 4)
        return centre - half, centre + half

    (p, q), (a, b), (c, d) = (x / n for x, n in (first, second)), wilson(*first), wilson(*second)
    return p - q - math.hypot(p - a, d - q), p - q + math.hypot(b - p, q - c)


@pytest.mark.parametrize(("first", "second"), [((40, 44), (900, 1000)), ((3, 3), (10, 10)), ((0, 5), (7, 9))])
def test_the_interval_of_a_difference_is_newcombes(first, second):
    shares = [{"count": x, "images": n, "value": x / n} for x, n in (first, second)]
    found = difference(*shares)
    assert found["value"] == pytest.approx(first[0] / first[1] - second[0] / second[1])
    assert found["interval"] == pytest.approx(newcombe(first, second), abs=1e-9)
    assert difference(*shares, 0.1)["interval"] == pytest.approx(0.1 * np.array(newcombe(first, second)), abs=1e-9)


def test_an_effect_is_claimed_only_where_it_is_seen():
    """Twenty copies among twenty others."""
    train = pictures(20, 1)
    judged = image_set(torch.cat([train, pictures(20, 2)]))
    good = answers(judged.labels_N, list(range(20, 30)))
    found = duplicates_section(subject(image_set(train), judged, good, judged.labels_N))
    assert "They raise" in found.findings[0]
    bad = answers(judged.labels_N, list(range(10)))
    assert "They lower" in duplicates_section(subject(image_set(train), judged, bad, judged.labels_N)).findings[0]
    even = answers(judged.labels_N, [0, 1, 20, 21])
    assert "is not seen" in duplicates_section(subject(image_set(train), judged, even, judged.labels_N)).findings[0]


def test_without_copies_nothing_is_compared():
    judged = image_set(pictures(9, 2))
    logits = answers(judged.labels_N, [2])
    found = duplicates_section(subject(image_set(pictures(9, 1)), judged, logits, judged.labels_N))
    assert found.figures["copies"]["count"] == 0
    assert found.figures["accuracy_on_copies"]["value"] is None
    assert found.figures["all_less_without"] is None
    assert not found.plots
    assert "none has a near duplicate" in found.findings[0]


def test_where_all_are_copies_nothing_is_known_of_new_images():
    images = image_set(pictures(6, 1))
    found = duplicates_section(subject(images, images, answers(images.labels_N, []), images.labels_N))
    assert found.figures["accuracy_without_copies"]["value"] is None
    assert "nothing is known of new images" in found.findings[0]


def test_own_images_of_another_size_are_named_by_their_files(tmp_path: Path):
    scenes = pictures(30, 1, side=48)
    train = image_set(scenes[:20], named="train/")
    judged = image_set(torch.cat([scenes[20:], scenes[:1]]), named="test/")
    found = duplicates_section(subject(train, judged, answers(judged.labels_N, []), judged.labels_N))
    rows = found.tables["near_duplicates"].rows
    assert [row[:2] for row in rows] == [("test/10.png", "train/0.png")]
    save_figure(found.plots["near_duplicates"], tmp_path / "pairs")


def test_what_is_missing_is_said():
    labels = torch.tensor([0, 1])
    images = image_set(pictures(2, 1))
    assert "the images" in duplicates_section(subject(images, None, answers(labels, []), labels)).skipped
    assert "training images" in duplicates_section(subject(None, images, answers(labels, []), labels)).skipped
