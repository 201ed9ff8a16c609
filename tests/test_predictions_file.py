"""Foreign predictions: every plausible form gives the same answer, and what was assumed is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cifarlab.data.cifar import CIFAR10
from cifarlab.errors import DataError
from cifarlab.predictions_file import Classes, Table, read_table, resolve, vocabulary
from cifarlab.predictions_file.classes import _KNOWN_ORDERS
from tests.prediction_forms import (
    ARRAYS,
    IDS,
    JSON_WITH_LABELS,
    JSON_WITHOUT_LABELS,
    LABELS,
    NAMES,
    WITH_LABELS,
    WITHOUT_LABELS,
    lines,
    read,
)


@pytest.mark.parametrize("text", WITHOUT_LABELS.values(), ids=WITHOUT_LABELS)
def test_text_without_labels(text: str, tmp_path: Path) -> None:
    found = read(tmp_path / "vendor.csv", text)
    assert found.predicted_N.tolist() == IDS
    assert found.predicted_N.dtype == np.int64
    assert found.labels_N is None


@pytest.mark.parametrize("text", WITH_LABELS.values(), ids=WITH_LABELS)
def test_text_with_labels(text: str, tmp_path: Path) -> None:
    found = read(tmp_path / "vendor.txt", text)
    assert found.predicted_N.tolist() == IDS
    assert found.labels_N is not None
    assert found.labels_N.tolist() == LABELS


@pytest.mark.parametrize("value", JSON_WITHOUT_LABELS.values(), ids=JSON_WITHOUT_LABELS)
def test_json_without_labels(value: object, tmp_path: Path) -> None:
    found = read(tmp_path / "vendor.json", json.dumps(value))
    assert found.predicted_N.tolist() == IDS
    assert found.labels_N is None


@pytest.mark.parametrize("value", JSON_WITH_LABELS.values(), ids=JSON_WITH_LABELS)
def test_json_with_labels(value: object, tmp_path: Path) -> None:
    found = read(tmp_path / "vendor.json", json.dumps(value))
    assert found.predicted_N.tolist() == IDS
    assert found.labels_N is not None
    assert found.labels_N.tolist() == LABELS


@pytest.mark.parametrize("array", ARRAYS, ids=["ids", "a column", "scores", "names"])
def test_arrays(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", array)
    assert resolve(read_table(tmp_path / "p.npy"), Classes(NAMES), 5, "test").predicted_N.tolist() == IDS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_byte_order_are_understood(encoding: str, tmp_path: Path) -> None:
    text = lines("prediction", "Bär", "cat")
    assert read(tmp_path / "p.csv", text.encode(encoding), ("bär", "cat"), 2).predicted_N.tolist() == [0, 1]


def test_notes_say_what_was_assumed(tmp_path: Path) -> None:
    def notes(text: str) -> str:
        return " ".join(read(tmp_path / "p.csv", text).notes)

    assert "no index" in notes(WITHOUT_LABELS["one id a line"])
    assert notes(WITHOUT_LABELS["index"]) == ""
    assert "counted from 1" in notes(WITHOUT_LABELS["index from one"])
    assert "that of labels is taken for it" in notes(WITHOUT_LABELS["index from one"])
    assert "without class names" in notes(WITHOUT_LABELS["scores with other names"])
    assert "without class names" not in notes(WITHOUT_LABELS["named scores"])
    assert "column 'modell-antwort' is taken for the predictions" in notes(
        WITHOUT_LABELS["an unknown header above numbers"]
    )
    (tmp_path / "p.json").write_text(json.dumps({"labels": IDS}))
    assert "that of labels is taken for it" in " ".join(read_table(tmp_path / "p.json").notes)


def test_classes_named_by_numbers_are_taken_by_name(tmp_path: Path) -> None:
    """In the order of names '10' stands before '2', so ids and names differ."""
    assert read(tmp_path / "p.csv", "2\n10\n1\n", ("1", "10", "2"), 3).predicted_N.tolist() == [2, 1, 0]
    assert read(tmp_path / "p.json", "[2, 10.0, 1]", ("1", "10", "2"), 3).predicted_N.tolist() == [2, 1, 0]
    assert read(tmp_path / "p.json", "[2, 1, 10]", ("01", "02", "10"), 3).predicted_N.tolist() == [1, 0, 2]


@pytest.mark.parametrize("names", [("1", "10", "2"), ("1", "2", "3"), ("3", "cat", "dog")])
def test_ids_and_numeric_names_are_never_mixed(names: tuple[str, ...], tmp_path: Path) -> None:
    """An id that is no class name cannot mean an id where another one that is means a name."""
    with pytest.raises(DataError, match="line 2: the class is 0, but classes have names with numbers"):
        read(tmp_path / "p.csv", lines(names[0], 0, names[2]), names, 3)


def names_table(path: Path, files: list[str], header: str = "file") -> str:
    return lines(f"{header},prediction", *(f"{file},{k}" for file, k in zip(files, IDS, strict=True)))


IMAGES = ("test/cat/7.png", "test/dog/7.png", "test/dog/8.png", "test/cat/1.png", "test/dog/x 2.jpg")


@pytest.mark.parametrize("header", ["file", "Filename", "path", "name", "image", "id"])
@pytest.mark.parametrize(
    "spelling",
    [
        IMAGES,
        tuple(f"/data/photos/{name}" for name in IMAGES),
        tuple(name.replace("/", "\\") for name in IMAGES),
        ("cat/7.png", "dog/7", "8", "./1.png", "x 2"),
    ],
    ids=["paths", "longer paths", "Windows", "as short as can be"],
)
def test_entries_find_the_image_of_their_file(header: str, spelling: tuple[str, ...], tmp_path: Path) -> None:
    order = [3, 1, 4, 0, 2]
    text = names_table(tmp_path, [spelling[n] for n in order], header)
    if spelling[2] == "8":
        text = text.replace("\n8,", "\n8.png,")  # or the column holds a number, which names no file
    found = read(tmp_path / "p.csv", text, files=IMAGES)
    assert found.predicted_N[order].tolist() == IDS
    assert found.notes == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["7.png", "dog/7.png", "8.png", "1.png", "x 2.jpg"], "line 2: the file '7.png' is that of several images"),
        (["cat/7.png", "dog/7.png", "9.png", "1.png", "x 2.jpg"], "line 4: the file '9.png' is that of no image"),
        (["cat/7.png", "dog/7.png", "fox/8.png", "1.png", "x 2.jpg"], "line 4: the file 'fox/8.png' is that of no"),
        (["cat/7.png", "dog/7.png", "8.png", "dog/8.png", "1.png"], "line 5: the image test/dog/8.png is there twice"),
    ],
)
def test_files_that_tell_no_image_or_several_are_refused(files: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "p.csv", names_table(tmp_path, files), files=IMAGES)


@pytest.mark.parametrize("header", ["file", "image_path", "Name", "id"])
def test_files_are_not_passed_over_where_images_have_none(header: str, tmp_path: Path) -> None:
    text = names_table(tmp_path, [f"{n}.png" for n in (4, 2, 0, 1, 3)], header)
    with pytest.raises(DataError, match="tells its images by file, but the images compared here have no file names"):
        read(tmp_path / "p.csv", text)
    with_index = lines("index,file,prediction", *(f"{n},{4 - n}.png,{k}" for n, k in enumerate(IDS)))
    assert read(tmp_path / "p.csv", with_index).predicted_N.tolist() == IDS


def answers(path: Path, entries: object) -> Table:
    path.write_text(json.dumps(entries))
    return read_table(path)


def test_a_vocabulary_is_made_of_labels_and_predictions(tmp_path: Path) -> None:
    def found(labels: list[object], *said: object) -> Classes:
        return vocabulary(labels, [answers(tmp_path / "p.json", entries) for entries in said])

    assert found(["2", "0", "1.0"]) == Classes(("0", "1", "2"))
    assert found(["cat", " ant ", "cat"]) == Classes(("ant", "cat"), ordered=False)
    assert found([3, 10**12]) == Classes(("1000000000000", "3"), ordered=False)
    assert found([0, 1], [0, 3], [2, 1]) == Classes(("0", "1", "2", "3"))
    assert found([0, 1], [-1, 1.5], [None, "nan"]) == Classes(("0", "1"))
    assert found([0, 1], [[0.1, 0.7, 0.2]] * 2) == Classes(("0", "1", "2"))
    assert found(["Cat", "ant"], ["cat", "bee"], ["ANT", None]) == Classes(("Cat", "ant", "bee"), ordered=False)
    assert found(["cat"], [{"Cat": 0.5, "bee": 0.5}]) == Classes(("bee", "cat"), ordered=False)


def test_names_have_no_order_that_ids_could_follow(tmp_path: Path) -> None:
    """The order of a data set need not be that of the alphabet, and nothing says which it is."""
    classes = vocabulary(["wolf", "ant", "bee"])
    ids = answers(tmp_path / "p.json", [2, 0, 1])
    with pytest.raises(
        DataError, match="nothing tells which of ant, bee, wolf has that id; give labels and predictions"
    ):
        resolve(ids, classes, 3, "labelled")
    with pytest.raises(DataError, match="nothing tells which column is of which class"):
        resolve(answers(tmp_path / "p.json", np.eye(3).tolist()), classes, 3, "labelled")
    names = answers(tmp_path / "p.json", ["wolf", "Ant", "bee"])
    assert resolve(names, classes, 3, "labelled").predicted_N.tolist() == [2, 0, 1]


def test_the_order_of_cifars_names_is_known_also_by_their_other_names(tmp_path: Path) -> None:
    """In the alphabet 'plane' stands behind 'horse'; in CIFAR-10 it is the first."""
    tutorial = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    classes = vocabulary(tutorial)
    assert classes == Classes(CIFAR10.class_names)
    assert resolve(answers(tmp_path / "p.json", tutorial), classes, 10, "x").predicted_N.tolist() == list(range(10))
    assert vocabulary(list(range(10)), [answers(tmp_path / "p.json", tutorial)]) == Classes(CIFAR10.class_names)
    assert not vocabulary(tutorial[:9]).ordered
    assert not vocabulary([*tutorial, "fox"]).ordered


def test_the_order_of_cifar_100_is_the_alphabets() -> None:
    names = _KNOWN_ORDERS[1]
    assert (len(names), sorted(names)) == (100, list(names))
    people = {2: "baby", 11: "boy", 35: "girl", 46: "man", 98: "woman"}  # the superclass people, as often cited
    assert {k: names[k] for k in people} == people
    assert vocabulary([name.replace("_", " ") for name in reversed(names)]) == Classes(names)
