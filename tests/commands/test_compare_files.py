"""compare: files of others' predictions are matched to the images and classes, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands.runs_to_compare import (  # noqa: F401 fixtures
    LABELS,
    N,
    _no_real_images,
    _plots_cost_seconds,
    answers_of,
    make_run,
    predictions_file,
)

from cifarlab.answers import load_answers
from cifarlab.commands.compare import compare
from cifarlab.config import Config, DataConfig
from cifarlab.data import ImageSet
from cifarlab.data.cifar import CIFAR10
from cifarlab.errors import DataError, UsageError
from cifarlab.run import Predictions, Run


def test_foreign_predictions_against_a_run(tmp_path: Path) -> None:
    run = make_run("a")
    theirs = [(k + 1) % 10 if n % 4 == 0 else k for n, k in enumerate(answers_of(run))]
    path = predictions_file(tmp_path / "vendor.csv", theirs, LABELS.tolist())
    result = compare(["a", str(path)])
    assert [one.name for one in result.comparison.models] == ["a", "vendor.csv"]
    assert result.comparison.models[1].correct == int((np.array(theirs) == LABELS.numpy()).sum())
    names = [{"image": n, "class": CIFAR10.class_names[k]} for n, k in enumerate(theirs)]
    (tmp_path / "vendor.json").write_text(json.dumps(names))
    again = compare(["a", str(tmp_path / "vendor.json")], out=tmp_path / "out")
    assert again.comparison.model_pairs[0].paired == result.comparison.model_pairs[0].paired
    assert again.page == tmp_path / "out" / "comparison.html"


def test_files_tell_the_images_of_a_folder(tmp_path: Path) -> None:
    """The answers stand in another order than the images, and only the files' names say which is whose."""
    truth = torch.tensor([0] * 5 + [1] * 5)
    for n in range(10):
        for split in ("train", "test"):
            path = tmp_path / "photos" / split / f"class{n // 5}" / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (5 * n, 0, 0)).save(path)
    data = DataConfig(folder=str(tmp_path / "photos"), image_size=8, val_fraction=0.5)
    run = Run.create(Config(recipe="own", data=data), name="a")
    run.save_predictions("test", Predictions(torch.eye(2)[truth], truth))
    run.write_json("result.json", {})
    run.write_json("evaluation.json", {"splits": {"test": {"class_names": ["class0", "class1"]}}})
    order = [7, 2, 9, 0, 4, 5, 1, 8, 3, 6]
    (tmp_path / "vendor.csv").write_text(
        "filename,prediction\n" + "".join(f"{n}.png,{n // 5 if n != 3 else 1}\n" for n in order)
    )
    found = load_answers(["a", str(tmp_path / "vendor.csv")])
    assert np.flatnonzero(found.candidates[1].predicted_N != found.labels_N).tolist() == [3]
    (tmp_path / "photos" / "test" / "class0" / "99.png").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="have changed since they were judged"):
        load_answers(["a", str(tmp_path / "vendor.csv")])


def test_foreign_labels_that_differ_are_refused(tmp_path: Path) -> None:
    run = make_run("a")
    labels = LABELS.tolist()
    labels[7] = 3
    path = predictions_file(tmp_path / "vendor.csv", answers_of(run), labels)
    with pytest.raises(
        DataError, match=r"other labels than .*a for 1 of 200 images \(first: image 7, cat against horse\)"
    ):
        load_answers(["a", str(path)])


def test_two_files_need_to_know_what_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = predictions_file(tmp_path / "a.csv", LABELS.tolist())
    second = predictions_file(tmp_path / "b.csv", [0] * N)
    truth = predictions_file(tmp_path / "truth.csv", LABELS.tolist())
    with pytest.raises(UsageError, match="nothing says what is true; add a run, or --dataset cifar10"):
        load_answers([str(first), str(second)])
    by_file = compare([str(first), str(second)], labels=str(truth))
    assert [one.correct for one in by_file.comparison.models] == [N, N // 10]
    assert any("only the labels" in note for note in by_file.notes)
    monkeypatch.setattr(
        "cifarlab.answers.split_images",
        lambda data, split: ImageSet(torch.zeros(N, 3, 8, 8, dtype=torch.uint8), LABELS, CIFAR10.class_names),
    )
    by_name = compare([str(first), str(second)], dataset="cifar10")
    assert [one.correct for one in by_name.comparison.models] == [N, N // 10]
    labelled = predictions_file(tmp_path / "c.csv", [0] * N, LABELS.tolist())
    by_column = compare([str(first), str(labelled)])
    assert [one.correct for one in by_column.comparison.models] == [N, N // 10]
    assert any("c.csv" in note and "What is true" in note for note in by_column.notes)


def files_of(tmp_path: Path, **texts: list[object]) -> list[str]:
    for name, entries in texts.items():
        (tmp_path / f"{name}.csv").write_text("".join(f"{entry}\n" for entry in entries))
    return [str(tmp_path / f"{name}.csv") for name in texts]


def test_labels_by_name_and_predictions_by_id_are_not_matched_by_the_alphabet(tmp_path: Path) -> None:
    names, ids = ["wolf", "ant", "bee"] * 4, [0, 1, 2] * 4  # in the order of their maker
    *both, labels = files_of(tmp_path, one=ids, two=ids, labels=names)
    with pytest.raises(DataError, match=r"one\.csv, line 1: the class is 0, but nothing tells which of ant, bee, wolf"):
        load_answers(both, labels=labels)
    *both, labels = files_of(tmp_path, one=names, two=names[::-1], labels=names)
    assert load_answers(both, labels=labels).class_names == ("ant", "bee", "wolf")
    tutorial = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    *both, labels = files_of(tmp_path, one=list(range(10)), two=tutorial, labels=tutorial)
    found = load_answers(both, labels=labels)
    assert [one.predicted_N.tolist() for one in found.candidates] == [list(range(10))] * 2


def test_classes_that_no_image_has_can_be_predicted_and_are_told(tmp_path: Path) -> None:
    *both, labels = files_of(tmp_path, one=[0, 1, 2, 9], two=[0, 1, 2, 3], labels=[0, 1, 2, 2])
    found = load_answers(both, labels=labels)
    assert [one.predicted_N.tolist() for one in found.candidates] == [[0, 1, 2, 9], [0, 1, 2, 3]]
    assert "No image is labelled 3 and 9, though they are predicted." in found.notes
    *both, labels = files_of(
        tmp_path, one=["ant", "bee", "wolf"], two=["ant", "ANT", "bee"], labels=["ant", "bee", "bee"]
    )
    found = load_answers(both, labels=labels)
    assert found.class_names == ("ant", "bee", "wolf")
    assert "No image is labelled wolf, though it is predicted." in found.notes
    *both, labels = files_of(tmp_path, one=["ant", "bee"], two=["bee", "bee"], labels=["Ant", "bee"])
    assert not any("No image" in note for note in load_answers(both, labels=labels).notes)


def test_files_are_matched_to_those_of_the_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\nb.png,1\na.png,0\nc.png,2\n")
    (tmp_path / "one.csv").write_text("path,prediction\nphotos/a.png,0\nphotos/c.png,2\nphotos/b.png,0\n")
    (tmp_path / "two.csv").write_text("index,prediction\n0,1\n1,0\n2,2\n")
    both = [str(tmp_path / f"{name}.csv") for name in ("one", "two")]
    found = load_answers(both, labels=str(tmp_path / "labels.csv"))
    assert [one.predicted_N.tolist() for one in found.candidates] == [[0, 0, 2], [1, 0, 2]]
    assert found.labels_N.tolist() == [1, 0, 2]
