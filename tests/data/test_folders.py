"""Folders and CSV files: layouts, order, classes, unreadable images, and messages that say what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from cifarlab.config import DataConfig
from cifarlab.data import load_source
from cifarlab.data.folders import load_csv, load_folder
from cifarlab.errors import DataError

OPTIONS = {"image_size": 8, "resize": "squash", "corrupt": "refuse"}


def picture(path: Path, color="red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 12), color).save(path)
    return path


def plain_tree(root: Path) -> Path:
    for name in ("b.png", "a.JPG", "deep/c.webp"):
        picture(root / "cat" / name, "red")
    for name in ("1.bmp", "2.gif", "3.jpeg"):
        picture(root / "Dog" / name, "blue")
    return root


def test_a_plain_folder_is_one_training_set_in_order(tmp_path):
    source = load_folder(plain_tree(tmp_path), **OPTIONS)
    assert source.val is None
    assert source.test is None
    assert source.origin == str(tmp_path)
    assert source.train.class_names == ("Dog", "cat")
    assert source.train.names == ("Dog/1.bmp", "Dog/2.gif", "Dog/3.jpeg", "cat/a.JPG", "cat/b.png", "cat/deep/c.webp")
    assert source.train.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    means = source.train.images_NCHW.float().mean((2, 3)).round()
    assert (means[:3] - torch.tensor([0, 0, 255])).abs().max() <= 2
    assert (means[3:] - torch.tensor([255, 0, 0])).abs().max() <= 2


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
    plain_tree(tmp_path)
    before = load_folder(tmp_path, **OPTIONS)
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "cat" / "._b.png").write_bytes(b"x")
    picture(tmp_path / "cat" / ".cache" / "x.png")
    picture(tmp_path / ".git" / "x.png")
    (tmp_path / "README.txt").write_text("x")
    assert load_folder(tmp_path, **OPTIONS).train.names == before.train.names


@pytest.mark.parametrize("val_name", ["val", "valid", "validation", "Val"])
def test_a_split_folder_brings_its_own_sets(tmp_path, val_name):
    plain_tree(tmp_path / "train")
    picture(tmp_path / val_name / "cat" / "v.png")
    picture(tmp_path / "test" / "Dog" / "t.png", "blue")
    source = load_folder(tmp_path, **OPTIONS)
    assert len(source.train) == 6
    assert source.val.names == (f"{val_name}/cat/v.png",)
    assert source.val.labels_N.tolist() == [1]
    assert source.test.labels_N.tolist() == [0]
    assert source.test.class_names == source.train.class_names


def test_a_class_called_train_is_a_class(tmp_path):
    for name in ("train", "ship"):
        picture(tmp_path / name / "1.png")
    assert load_folder(tmp_path, **OPTIONS).train.class_names == ("ship", "train")


def test_the_configuration_leads_here(tmp_path):
    source = load_source(DataConfig(folder=str(plain_tree(tmp_path)), image_size=10))
    assert source.train.images_NCHW.shape == (6, 3, 10, 10)


def missing_folder(root: Path) -> Path:
    return root / "absent"


def no_class_folder(root: Path) -> Path:
    picture(root / "1.png")
    return root


def one_class(root: Path) -> Path:
    picture(root / "cat" / "1.png")
    return root


def class_without_image(root: Path) -> Path:
    (plain_tree(root) / "empty").mkdir()
    return root


def no_train(root: Path) -> Path:
    plain_tree(root / "test")
    return root


def two_vals(root: Path) -> Path:
    for name in ("train", "val", "valid"):
        plain_tree(root / name)
    return root


def strange_test_class(root: Path) -> Path:
    plain_tree(root / "train")
    picture(root / "test" / "bird" / "1.png")
    return root


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (missing_folder, "there is no folder"),
        (no_class_folder, "no class folder"),
        (one_class, "one class only, cat"),
        (class_without_image, "no image in .*empty"),
        (no_train, "but no train"),
        (two_vals, "the same split"),
        (strange_test_class, "no training image for class bird"),
    ],
)
def test_unusable_folders_are_refused_in_one_line(tmp_path, build, message):
    with pytest.raises(DataError, match=message) as caught:
        load_folder(build(tmp_path), **OPTIONS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "cat", "cat/deep"])
def test_a_folder_that_may_not_be_read_is_named_and_not_passed_over(tmp_path, monkeypatch, name):
    plain_tree(tmp_path)

    def refusing(function):
        def call(path="."):
            if Path(path) == tmp_path / name:
                raise PermissionError(13, "Permission denied", str(path))
            return function(path)

        return call

    monkeypatch.setattr(os, "scandir", refusing(os.scandir))  # a test may be run by root, who may read everything
    monkeypatch.setattr(os, "listdir", refusing(os.listdir))
    with pytest.raises(DataError, match=f"cannot read {tmp_path / name}: Permission denied; permit it"):
        load_folder(tmp_path, **OPTIONS)


@pytest.mark.parametrize("name", [b"caf\xe9/1.png", b"cat/caf\xe9.png"])
def test_a_name_that_is_not_utf8_is_refused_in_one_line(tmp_path, name):
    """No page, JSON or CSV file could hold it, which would be found out after the training."""
    plain_tree(tmp_path)
    picture(tmp_path / os.fsdecode(name))
    with pytest.raises(DataError, match=r"caf\\udce9.*is not UTF-8.*rename"):
        load_folder(tmp_path, **OPTIONS)


def test_a_corrupt_image_is_named_and_refused_or_skipped(tmp_path):
    whole = load_folder(plain_tree(tmp_path), **OPTIONS)
    broken = tmp_path / "cat" / "broken.png"
    broken.write_bytes((tmp_path / "cat" / "b.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"broken\.png.*--data\.corrupt skip"):
        load_folder(tmp_path, **OPTIONS)
    with pytest.warns(UserWarning, match=r"1 image skipped: .*broken\.png"):
        source = load_folder(tmp_path, **{**OPTIONS, "corrupt": "skip"})
    assert source.train.names == whole.train.names
    assert source.train.sha256() == whole.train.sha256()


def test_many_corrupt_images_are_counted(tmp_path):
    plain_tree(tmp_path)
    for number in range(10):
        (tmp_path / "cat" / f"x{number}.png").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=r"10 images skipped: .*x0\.png.*x1\.png.*x2\.png.*and 7 more"):
        load_folder(tmp_path, **{**OPTIONS, "corrupt": "skip"})


def test_skipping_a_whole_class_is_refused(tmp_path):
    picture(tmp_path / "cat" / "1.png")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1.png").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="1 image skipped"), pytest.raises(DataError, match="class dog can be read"):
        load_folder(tmp_path, **{**OPTIONS, "corrupt": "skip"})


@pytest.mark.parametrize("split", ["val", "test"])
def test_skipping_a_whole_split_is_refused(tmp_path, split):
    plain_tree(tmp_path / "train")
    (tmp_path / split / "cat").mkdir(parents=True)
    (tmp_path / split / "cat" / "1.png").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="1 image skipped"), pytest.raises(DataError, match=f"no {split} image can"):
        load_folder(tmp_path, **{**OPTIONS, "corrupt": "skip"})


def write_csv(root: Path, text: str) -> Path:
    path = root / "images.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_file_lists_images_relative_to_itself(tmp_path):
    plain_tree(tmp_path)
    text = "\ufeffPath,note,label\ncat/b.png,x,one\nDog/1.bmp,y,two\ncat/a.JPG,z,one\n"
    source = load_csv(write_csv(tmp_path, text), **OPTIONS)
    assert source.train.names == ("Dog/1.bmp", "cat/a.JPG", "cat/b.png")
    assert source.train.class_names == ("one", "two")
    assert source.train.labels_N.tolist() == [1, 0, 0]
    assert source.test is None


def test_labels_may_hold_commas_in_quotes_and_lines_may_end_in_one(tmp_path):
    plain_tree(tmp_path)
    source = load_csv(write_csv(tmp_path, 'path,label\ncat/b.png,"one, small",\nDog/1.bmp,"one, large"\n'), **OPTIONS)
    assert source.train.class_names == ("one, large", "one, small")


def test_a_csv_file_may_bring_splits(tmp_path):
    plain_tree(tmp_path)
    rows = ["cat/b.png,one,train", "Dog/1.bmp,two,Train", "cat/a.JPG,one,test", "Dog/2.gif,two,valid"]
    source = load_csv(write_csv(tmp_path, "path,label,split\n" + "\n".join(rows)), **OPTIONS)
    assert len(source.train) == 2
    assert source.test.names == ("cat/a.JPG",)
    assert source.val.names == ("Dog/2.gif",)


def test_the_order_of_lines_does_not_matter(tmp_path):
    plain_tree(tmp_path)
    rows = ["cat/b.png,one", "Dog/1.bmp,two", "cat/a.JPG,one"]
    first = load_csv(write_csv(tmp_path, "path,label\n" + "\n".join(rows)), **OPTIONS)
    second = load_csv(write_csv(tmp_path, "path,label\n" + "\n".join(reversed(rows))), **OPTIONS)
    assert first.train.sha256() == second.train.sha256()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path and no column label"),
        ("file,label\na,b\n", "no column path"),
        ("path,label\n", "lists no image"),
        ("path,label\ncat/b.png,\n", "line 2: path or label is empty"),
        ("path,label\ncat/b.png\n", "line 2: path or label is empty"),
        ("path,label,split\ncat/b.png,one,dev\n", "line 2: split must be train, val or test, not 'dev'"),
        ("path,label,split\ncat/b.png,one,test\nDog/1.bmp,two,test\n", "no training image for class one, two"),
        ("path,label\ncat/b.png,one, small\nDog/1.bmp,one, large\n", "line 2 has more cells .* comma in quotes"),
        ("path,label\ncat/b.png,one\nDog/1.bmp,two\n./cat/b.png,two\n", r"line 4: \./cat/b\.png stands in line 2 too"),
        ("path,label,split\ncat/b.png,one,train\nDog/1.bmp,two,train\ncat/b.png,one,test\n", "line 4: .* line 2 too"),
        ("path,label\ncat/b.png,one\nDog/absent.png,two\n", r"absent\.png: No such file"),
        ("path,label\ncat/b.png,one\nDog,two\n", "not a regular file"),
    ],
)
def test_unusable_csv_files_are_refused_in_one_line(tmp_path, text, message):
    plain_tree(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load_csv(write_csv(tmp_path, text), **OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_csv_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        load_csv(tmp_path / "absent.csv", **OPTIONS)
    with pytest.raises(DataError, match="UTF-8"):
        load_csv(picture(tmp_path / "1.png"), **OPTIONS)
