"""Answers of others: every mistake a user can make is one line that says what to do, and nothing is unpickled."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from tests.evaluation.foreign_answers import LABELS, LOGITS, SOFTMAX, load, save_npz, with_one

from cifarlab.errors import CifarlabError, DataError, UsageError

VOTES = np.random.default_rng(1).multinomial(50, SOFTMAX)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": LOGITS}, "holds no labels; name a file of the true classes"),
        ({"logits": LOGITS.T, "labels": LABELS}, "10 x 300 numbers for 300 labels: it lies on its side; transpose it"),
        ({"logits": LOGITS[:299], "labels": LABELS}, "answers to 299 images, but there are 300 labels"),
        ({"logits": LOGITS, "labels": LABELS + 1}, "labels run from 1 to 10; count classes from 0, so subtract 1"),
        ({"logits": LOGITS, "labels": LABELS * 7}, "labels run from 0 to 63, but the 10 columns are classes 0 to 9"),
        ({"logits": LOGITS, "labels": LABELS - 1}, "labels run from -1 to 8"),
        ({"logits": LOGITS, "labels": LABELS + 0.5}, "is no class id; give whole numbers from 0"),
        ({"logits": LOGITS, "labels": np.eye(10)[LABELS]}, "give the class id of each image"),
        ({"logits": LOGITS[LABELS < 9], "labels": LABELS[LABELS < 9] + 1}, "seem to count classes from 1"),
        (
            {"logits": with_one(LOGITS, np.nan), "labels": LABELS},
            "1 of 300 answers hold NaN, infinity, a number beyond .* or what is no number, the first that",
        ),
        ({"logits": with_one(LOGITS, -1.7e308), "labels": LABELS}, r"beyond 3\.4e\+38 .* image 7"),
        ({"logits": with_one(LOGITS, -np.inf), "labels": LABELS}, "image 7"),
        ({"logits": LOGITS[None], "labels": LABELS}, "1 x 300 x 10 .* one at a time"),
        ({"logits": LABELS, "labels": LABELS}, "N x K numbers are needed"),
        ({"probs": SOFTMAX[:, :1], "labels": LABELS % 2}, "N x K numbers are needed.* of two classes give both, 1 - p"),
        ({"probs": SOFTMAX[:, 0], "labels": LABELS % 2}, "of two classes give both, 1 - p and p"),
        ({"logits": LOGITS.astype(str), "labels": LABELS}, "N x K numbers are needed"),
        ({"logits": LOGITS[:0], "labels": LABELS[:0]}, "holds no answers"),
        ({"logits": LOGITS, "labels": np.array(3)}, "there are 0 labels"),
        ({"probabilities": LOGITS, "labels": LABELS}, "below 0; if they are logits, call them 'logits'"),
        ({"probs": with_one(SOFTMAX, 0.9), "labels": LABELS}, "the row of image 7 sums to"),
        ({"probs": 100 * SOFTMAX, "labels": LABELS}, "rows sum to 100; .* divide by 100"),
        ({"scores": np.round(100 * SOFTMAX), "labels": LABELS}, "rows sum to 100; .* divide by 100"),
        ({"scores": np.round(255 * SOFTMAX).astype(np.uint8), "labels": LABELS}, r"sum to 25\d throughout, .* its sum"),
        ({"scores": VOTES, "labels": LABELS}, "sum to 50 throughout, as counts of votes"),
        ({"logits": LOGITS, "labels": LABELS * 1e300}, r"labels run from 0 to 9e\+300, but the 10 columns"),
        ({"logits": LOGITS, "labels": LABELS, "classes": np.array(["cat"] * 10)}, "names the class 'cat' twice"),
        ({"logits": LOGITS, "labels": np.array([b"\xff"] * 300)}, "names that are not in UTF-8"),
        ({"scores": np.round(SOFTMAX, 1), "labels": LABELS}, "between 0 and 1 .* image .* not to 1; give all classes"),
        ({"scores": SOFTMAX * np.where(np.arange(300) == 7, 0.5, 1)[:, None], "labels": LABELS}, "image 7 sums to 0.5"),
        ({"scores": expit(LOGITS), "labels": LABELS}, "between 0 and 1 as probabilities do"),
        ({"scores": SOFTMAX[:, :9], "labels": LABELS % 9}, "between 0 and 1 .* give all classes"),
        (
            {"scores": np.c_[LOGITS, LABELS], "labels": LABELS},
            "column 10 .* whole numbers from 0 to 9 as labels or an index do",
        ),
        ({"scores": np.c_[np.arange(300), SOFTMAX], "labels": LABELS}, "column 0 .* whole numbers from 0 to 299"),
        ({"x": LOGITS, "z": LABELS}, "holds x, z; call the answers 'logits'"),
        ({"labels": LABELS}, "but no answers; call them 'logits'"),
        ({"logits": LOGITS, "labels": LABELS, "targets": LABELS}, "labels and targets could both be the true classes"),
        ({"logits": LOGITS, "labels": LABELS, "classes": np.array(["a", "b"])}, "names 2 classes, but has 10 columns"),
        ({"logits": LOGITS, "labels": np.array(list("abcdefghij"))[LABELS]}, "nothing tells which column is of which"),
        ({"logits": LOGITS, "labels": np.array([{}] * 300)}, "pickled Python objects, which can run code"),
    ],
)
def test_every_mistake_is_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "answers.npz"
    np.savez(path, **arrays)
    with pytest.raises(CifarlabError, match=message) as raised:
        load(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


class Sentinel:
    """Its unpickling would leave a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return open, (self.path, "w")


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    objects = np.array([Sentinel(str(trace))] * 3, dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", logits=objects, labels=np.arange(3))
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(Sentinel(str(trace))))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Sentinel(str(trace))))
    np.save(tmp_path / "labels.npy", np.arange(3))
    for name in ("a.npy", "a.npz", "bare.npy", "bare.npz"):
        with pytest.raises(DataError) as raised:
            load(tmp_path / name, tmp_path / "labels.npy")
        assert "\n" not in str(raised.value)
        with pytest.raises(CifarlabError):
            load(tmp_path / "labels.npy", tmp_path / name)
    assert not trace.exists()


def test_files_that_are_missing_damaged_or_of_another_kind(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", LABELS)
    whole = save_npz(tmp_path / "whole.npz", logits=LOGITS, labels=LABELS).read_bytes()
    cases = {"cut.npz": whole[: len(whole) // 2], "empty.npy": b"", "empty.csv": b"", "noise.npy": bytes(range(200))}
    cases["flipped.npz"] = whole[:5000] + bytes(b ^ 255 for b in whole[5000:5100]) + whole[5100:]
    named = save_npz(tmp_path / "named.npz", **{"logité": LOGITS}).read_bytes()
    cases["badly named.npz"] = named.replace("é".encode(), b"\xff\xff")
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as raised:
            load(tmp_path / name, tmp_path / "labels.npy")
        assert "\n" not in str(raised.value)
        assert name in str(raised.value)
    with pytest.raises(DataError, match="there is no file"):
        load(tmp_path / "missing.npz")
    with pytest.raises(DataError, match=r"give \.npz, \.npy, \.csv, \.tsv or \.txt"):
        load(tmp_path)
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(DataError, match="no file of answers or labels"):
        load(tmp_path / "a.pkl")
    np.save(tmp_path / "a.npy", LOGITS)
    with pytest.raises(UsageError, match="holds no labels"):
        load(tmp_path / "a.npy")


def test_tables_that_are_no_answers(tmp_path: Path) -> None:
    classes = tmp_path / "classes.csv"
    classes.write_text("prediction\n1\n2\n")
    with pytest.raises(DataError, match="holds predicted classes"):
        load(classes, classes)
    twice = tmp_path / "twice.csv"
    twice.write_text("index,label,cat,dog\n0,cat,1,2\n0,dog,3,4\n")
    with pytest.raises(DataError, match="leaves out images or names one twice"):
        load(twice)
    gap = tmp_path / "gap.csv"
    gap.write_text("label,cat,dog\ncat,1,\ndog,3,4\n")
    with pytest.raises(DataError, match="what is no number, the first that of image 0"):
        load(gap)
    unknown = tmp_path / "unknown.csv"
    unknown.write_text("label,cat,dog\ncat,1,2\ndgo,3,4\n")
    with pytest.raises(DataError, match="entry 1: 'dgo' is none of the classes; did you mean dog"):
        load(unknown)
    extra = tmp_path / "extra.csv"
    extra.write_text("label,cat,dog,Confidence\ncat,1,2,0.7\ndog,3,4,0.7\n")
    with pytest.raises(DataError, match="the column 'Confidence' is of no class; leave it out"):
        load(extra)
    commas = tmp_path / "commas.csv"
    commas.write_text("cat;dog;frog\n0,5;0,25;0,25\n0,1;0,8;0,1\n")
    labels = tmp_path / "labels.csv"
    labels.write_text("label\n0\n1\n")
    with pytest.raises(DataError, match=r"what is no number, .* numbers such as 0\.5"):
        load(commas, labels)
    twins = tmp_path / "twins.csv"
    twins.write_text("cat,dog,cat\n1,2,3\n4,5,6\n")
    with pytest.raises(DataError, match="names the class 'cat' twice"):
        load(twins, labels)
    bare = tmp_path / "bare.csv"
    bare.write_text("0.5,1.5\n2.5,0.25\n")
    with pytest.raises(DataError, match="or with the names of the two classes whose scores they are"):
        load(bare, labels)
    bare.write_text("no,yes\n0.5,1.5\n2.5,0.25\n")
    assert load(bare, labels)[0].logits_NK.tolist() == [[0.5, 1.5], [2.5, 0.25]]
    several = tmp_path / "several.csv"
    several.write_text("a,b,c\n1,2,3\n1,2,3\n")
    with pytest.raises(DataError, match="name the column of true classes"):
        load(twice.parent / "several.csv", several)
