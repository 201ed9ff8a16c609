"""Explore: the figures agree with the images, and the page is one safe file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifarlab.commands.explore import Exploration, explore
from cifarlab.config import DataConfig
from cifarlab.data import load_splits
from cifarlab.data.audit import count_overlaps, exact_duplicates, near_duplicates
from cifarlab.data.imageset import ImageSet
from cifarlab.errors import DataError, RunError


def texture(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    total = np.zeros((32, 32, 3))
    for cells in (4, 8, 16):
        noise = random.normal(size=(cells, cells, 1)) + 0.3 * random.normal(size=(cells, cells, 3))
        total += np.kron(noise, np.ones((32 // cells, 32 // cells, 1))) * (4 / cells) ** 0.7
    return (128 + 40 * total).clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_split_folder(root: Path) -> DataConfig:
    """Two classes: 8 and 4 training images, 2 validation and 4 test images, with three planted copies."""
    for n in range(8):
        save(root / "train" / "cat" / f"{n}.png", texture(n))
    for n in range(4):
        save(root / "train" / "dog" / f"{n}.png", texture(100 + n))
    save(root / "val" / "cat" / "0.png", texture(200))
    save(root / "val" / "dog" / "0.png", texture(201))
    save(root / "test" / "cat" / "0.png", texture(300))
    save(root / "test" / "cat" / "1.png", texture(0))  # an equal picture
    save(root / "test" / "cat" / "2.png", (texture(1) * 0.8 + 30).astype(np.uint8))  # nearly equal to one of train
    save(root / "test" / "dog" / "0.png", (texture(200) * 0.8 + 30).astype(np.uint8))  # a cat's picture in val
    return DataConfig(folder=str(root))


@pytest.fixture(scope="module")
def explored(tmp_path_factory) -> tuple[DataConfig, Exploration]:
    folder = tmp_path_factory.mktemp("explore")
    config = make_split_folder(folder / "data")
    return config, explore(config, out=folder / "out")


def test_counts_and_statistics_are_those_of_the_images(explored):
    config, result = explored
    splits = load_splits(config)
    assert {name: one.images for name, one in result.sets.items()} == {"train": 12, "val": 2, "test": 4}
    assert result.sets["train"].class_counts == [8, 4]
    assert result.imbalance == 12 / 6
    assert result.split_sha256 == splits.sha256
    for name in ("train", "val", "test"):
        images = getattr(splits, name)
        pixels = images.images_NCHW.double().transpose(0, 1).flatten(1) / 255
        assert result.sets[name].sha256 == images.sha256()
        torch.testing.assert_close(
            torch.tensor(result.sets[name].channel_mean).double(), pixels.mean(1), atol=1e-6, rtol=0
        )
        expected = pixels.std(1, correction=0)
        torch.testing.assert_close(torch.tensor(result.sets[name].channel_std).double(), expected, atol=1e-5, rtol=0)


def test_planted_duplicates_are_counted_where_they_are(explored):
    _, result = explored
    found = {(o.first, o.second): (o.exact_images, o.near_images, o.disagreeing_pairs) for o in result.overlaps}
    assert found == {
        ("train", "train"): (0, 0, 0),
        ("val", "val"): (0, 0, 0),
        ("train", "val"): (0, 0, 0),
        ("test", "test"): (0, 0, 0),
        ("train", "test"): (1, 2, 0),
        ("val", "test"): (0, 1, 1),
        ("train+val", "test"): (1, 3, 1),
    }
    assert {(pair.first[3], pair.second[3]) for pair in result.pairs} == {
        ("train/cat/0.png", "test/cat/1.png"),
        ("train/cat/1.png", "test/cat/2.png"),
        ("val/cat/0.png", "test/dog/0.png"),
    }


def test_the_page_is_one_file_that_says_what_was_found(explored):
    _, result = explored
    page = result.page.read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == []
    assert "<script" not in page
    assert "cat has 2.0 times as many images as dog" in page
    assert "of 4 test images, 1 have an equal picture" in page
    assert "(75.0 %)" in page
    assert "In 1 pair of nearly equal pictures the two labels disagree" in page
    assert page.count("data:image/png") == 7  # no pair lies within train
    assert sorted(path.name for path in (result.page.parent / "plots").iterdir()) == [
        "across.png",
        "balance.png",
        "channels.png",
        "disagreeing.png",
        "distributions.png",
        "grid.png",
        "means.png",
    ]


def test_the_json_file_holds_the_same(explored):
    _, result = explored
    values = json.loads(result.json.read_text(encoding="utf-8"))
    assert values["sets"]["train"]["class_counts"] == [8, 4]
    assert len(values["overlaps"]) == len(result.overlaps)
    assert values["pairs"][0]["similarity"] == result.pairs[0].similarity
    assert str(result.page) not in result.json.read_text(encoding="utf-8")


def test_the_same_data_gives_the_same_bytes(explored, tmp_path):
    config, result = explored
    again = explore(config, out=tmp_path)
    assert again.json.read_bytes() == result.json.read_bytes()
    assert again.page.read_bytes() == result.page.read_bytes()


def test_three_images_are_enough_and_one_that_is_skipped_is_named(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "data" / name / "1.png", texture(0))
    (tmp_path / "data" / "a" / "broken.jpg").write_bytes(b"nothing")
    Image.fromarray(texture(1)).save(tmp_path / "data" / "b" / "odd.png", exif=b"Exif\0\0II*\0\x08\0\0\0")
    result = explore(DataConfig(folder=str(tmp_path / "data"), corrupt="skip"), out=tmp_path / "out")
    page = result.page.read_text(encoding="utf-8")
    assert list(result.sets) == ["train"]
    assert result.split_sha256 == ""
    assert len(result.notes) == 2  # and none of Pillow on the EXIF that ends too early
    assert "broken.jpg" in result.notes[0]
    assert "cannot be split" in result.notes[1]
    assert "broken.jpg" in page
    assert "There is no test set" in page


def test_class_names_cannot_break_the_page_or_the_plots(tmp_path):
    names = ["<b>&amp;", "$x_{", "a very long class name that goes on and on and on"]
    for name in names:
        for n in range(3):
            save(tmp_path / "data" / name / f"{n}.png", texture(n + 10 * names.index(name)))
    result = explore(DataConfig(folder=str(tmp_path / "data"), val_fraction=0, test_fraction=0), out=tmp_path / "out")
    assert set(result.class_names) == set(names)
    assert "<b>" not in result.page.read_text(encoding="utf-8")


def test_a_hundred_classes_fit(tmp_path):
    for k in range(100):
        save(tmp_path / "data" / f"class {k:03}" / "1.png", texture(k)[:8, :8])
    config = DataConfig(folder=str(tmp_path / "data"), image_size=8, val_fraction=0, test_fraction=0)
    result = explore(config, out=tmp_path / "out")
    assert len(result.sets["train"].class_counts) == 100
    assert "(the first 100 classes)" not in result.page.read_text(encoding="utf-8")


def test_progress_names_its_stages(tmp_path):
    config = make_split_folder(tmp_path / "data")
    told: list[tuple[str, float]] = []
    explore(config, out=tmp_path / "out", progress=lambda stage, share: told.append((stage, share)))
    assert list(dict.fromkeys(stage for stage, _ in told)) == ["reading", "statistics", "duplicates", "page"]
    assert told[-1] == ("page", 1.0)


def test_errors_are_those_of_the_user(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        explore(DataConfig(folder=str(tmp_path / "absent")), out=tmp_path / "out")
    config = make_split_folder(tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot create the folder"):
        explore(config, out=tmp_path / "file")


def test_overlaps_agree_with_a_count_by_hand():
    random = np.random.default_rng(0)
    images = (
        torch.from_numpy(np.stack([texture(n) for n in random.integers(0, 25, 60)])).permute(0, 3, 1, 2).contiguous()
    )
    labels = torch.from_numpy(random.integers(0, 3, 60))
    parts = {"train": slice(0, 30), "val": slice(30, 42), "test": slice(42, 60)}
    sets = {name: ImageSet(images[part], labels[part], ("a", "b", "c")) for name, part in parts.items()}
    overlaps = count_overlaps(sets, exact_duplicates(images), near_duplicates(images))
    ranges = {name: range(*part.indices(60)) for name, part in parts.items()}
    equal = (images.flatten(1)[:, None] == images.flatten(1)[None]).all(2)
    for one in overlaps:
        firsts = [i for name in one.first.split("+") for i in ranges[name]]
        copies = {j: [i for i in firsts if i != j and equal[i, j]] for j in ranges[one.second]}
        pairs = {(min(i, j), max(i, j)) for j, others in copies.items() for i in others}
        assert one.exact_images == one.near_images == sum(map(bool, copies.values()))
        assert one.near_pairs == len(pairs)
        assert one.disagreeing_pairs == sum(int(labels[i] != labels[j]) for i, j in pairs)


def test_pairs_of_the_images_before_do_not_stay_beside_others(tmp_path):
    explore(make_split_folder(tmp_path / "copies"), out=tmp_path / "out")
    assert (tmp_path / "out" / "plots" / "across.png").is_file()
    for n in range(6):
        save(tmp_path / "none" / "cat" / f"{n}.png", texture(n))
        save(tmp_path / "none" / "dog" / f"{n}.png", texture(50 + n))
    explore(DataConfig(folder=str(tmp_path / "none"), val_fraction=0, test_fraction=0), out=tmp_path / "out")
    left = {path.stem for path in (tmp_path / "out" / "plots").iterdir()}
    assert left == {"balance", "channels", "distributions", "grid", "means"}
