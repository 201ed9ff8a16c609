"""Foreign predictions: whatever is wrong or damaged is one clear line, and a large file takes no more than a moment."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from cifarlab.answers import load_answers
from cifarlab.errors import DataError
from cifarlab.predictions_file import read_table
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
    scores,
    table_lines,
)

WRONG = {
    "p.csv": [
        (lines(*IDS[:4]), "holds 4 predictions, but the test split has 5 images"),
        (lines(3, 0, 4, 1, 2), "line 3: the class is 4, but ids are whole numbers from 0 to 3"),
        (lines(3, 0, -1, 1, 2), "line 3: the class is -1, but"),
        (lines(3, 0, 1.5, 1, 2), "line 3: the class is 1.5, but"),
        (lines(3, 0, "nan", 1, 2), "line 3: the class is missing (nan)"),
        (lines(3, 0, "", 1, 2), "line 3: the class is missing (empty)"),
        (lines("prediction", "# one", 3, '# two, "', 0, "", 1, 2), "line 6: the class is missing (empty)"),
        (lines(3, 0, "catt", 1, 2), "line 3: 'catt' is none of the classes; did you mean cat?"),
        (lines(3, 0, "zebra", 1, 2), "they are airplane, automobile, Polar Bear, cat"),
        (lines("index,prediction", "0,1", "1,1", "2,1", "2,1", "4,1"), "index 2 twice and index 3 not at all"),
        (lines("index,prediction", "0,1", "1,1", "2,1", "3,1", "5,1"), "line 6: index 5 is outside 0..4"),
        (lines("index,prediction", "0,1", "1,1", "x,1", "3,1", "4,1"), "line 4: the index 'x' is no position"),
        (lines("index,prediction", "0,1", "1,1", ",1", "3,1", "4,1"), "line 4: the index '' is no position"),
        (lines("index,prediction", "0,1", "1,1", "2", "3,1", "4,1"), "line 4: 1 columns, but 2 before"),
        (lines(*(f"{k},{k}" for k in IDS)), "begin it with the line index,prediction"),
        (lines("index", *range(5)), "has no column of predictions"),
        (lines("prediction"), "holds a header, but no predictions"),
        (lines("index,prediction"), "holds a header, but no predictions"),
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("# nothing\n", "is empty"),
        (b"prediction\ncat\nB\xe4r\n", "is not text in UTF-8 (line 3)"),
        (b"\x00\x01\x02", "is not text"),
        (table_lines([[1, 2, 3]] * 5), "has 3 scores an image, but there are 4 classes"),
        (table_lines([[1, 2, 3, "nan"]] * 5), "line 1: a score is missing, NaN or infinite"),
        (table_lines([[1, 2, 3, "inf"]] * 5), "line 1: a score"),
        (table_lines(scores(IDS), header="cat,airplane,bird,x"), "a column of scores is named 'bird'"),
        (table_lines(scores(IDS), header="p_cat,p_airplane,p_bird,p_x"), "a column of scores is named 'p_bird'"),
        (table_lines(scores(IDS), header="cat,airplane,cat,automobile"), "a column of scores is named 'cat'"),
        (table_lines(scores(IDS), header="id,1,2,3,4", index=True), "a column of scores is named '4'"),
        (
            lines("index,class,prediction", *(f"{n},{LABELS[n]},{k}" for n, k in enumerate(IDS))),
            "the columns 'class' and 'prediction' could both be the prediction",
        ),
        (lines("class,label", *(f"{NAMES[k]},{k}" for k in IDS)), "'class' beside 'label' could be true or predicted"),
        (lines("pred,y,target", *(f"{k},{k},{LABELS[n]}" for n, k in enumerate(IDS))), "'y' and 'target' could both"),
        (lines("id,index,pred", *(f"{n},{4 - n},{k}" for n, k in enumerate(IDS))), "could both be the index"),
        (lines("label,fold", *(f"{k},{k}" for k in IDS)), "the column 'fold' is not known to be of predictions"),
    ],
    "p.json": [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (r'["cat", "\ud83d"]', "is not JSON"),
        ("3", "holds no predictions"),
        ("[]", "holds no predictions"),
        ('{"answers": 3}', "holds no predictions"),
        ('{"predictions": []}', "holds no predictions"),
        ("[3, 0, NaN, 1, 2]", "entry 2: the class is missing (nan)"),
        ("[3, 0, null, 1, 2]", "entry 2: the class is missing (None)"),
        ("[3, 0, true, 1, 2]", "entry 2"),
        ("[3, 0, 1e400, 1, 2]", "entry 2"),
        ("[3, 0, [1], 1, 2]", "entry 2"),
        ("[[1, 2, 3, 4], [1, 2]]", "entry 1: 4 scores are needed"),
        ('{"predictions": [1, 2], "labels": [1]}', "holds 2 predictions, but 1 labels"),
        ('{"foo": [3, 0, 2, 1, 2], "labels": [3, 0, 2, 1, 2]}', "the column 'foo' is not known to be of predictions"),
        (
            '{"preds": [3, 0, 2, 1, 2], "outputs": [3, 0, 2, 1, 1]}',
            "'preds' and 'outputs' could both be the prediction",
        ),
        ('{"0": 1, "1": 2, "1": 3}', "has '1' twice in one object"),
        ('[{"index": 0, "prediction": 1}, {"index": 1}]', "holds 2 predictions"),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "message"), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_what_is_wrong_is_one_clear_line(name: str, text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path / name, text)
    assert message in str(error.value)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there_or_are_pickles(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_table(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="cannot read"):
        read_table(tmp_path)
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="no array of numbers"):
        read_table(tmp_path / "p.npy")
    np.save(tmp_path / "q.npy", np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match="N class ids or N x K scores"):
        read_table(tmp_path / "q.npy")
    (tmp_path / "r.npy").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError):
        read_table(tmp_path / "r.npy")


def test_an_archive_of_scores_is_told_which_command_reads_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "scores.npz", logits=np.zeros((3, 10)))
    with pytest.raises(DataError, match=r"only evaluate --answers reads \.npz"):
        read_table(tmp_path / "scores.npz")
    with pytest.raises(DataError, match="there is no file"):
        read_table(tmp_path / "nothing.npz")


def test_damaged_files_never_give_anything_but_predictions_or_one_line(tmp_path: Path) -> None:
    """Random cuts, copies and changes of good files: no exception but ours, and every answer is a class."""
    generator = random.Random(0)
    texts = {"p.csv": [*WITHOUT_LABELS.values(), *WITH_LABELS.values()]}
    texts["p.json"] = [json.dumps(value) for value in (*JSON_WITHOUT_LABELS.values(), *JSON_WITH_LABELS.values())]
    good = {name: [text.encode() for text in some] for name, some in texts.items()}
    good["p.npy"] = []
    for array in ARRAYS:
        np.save(tmp_path / "p.npy", array)
        good["p.npy"].append((tmp_path / "p.npy").read_bytes())
    refused = 0
    for _ in range(900):
        name = generator.choice(list(good))
        content = bytearray(generator.choice(good[name]))
        for _ in range(generator.randint(1, 2)):
            length = generator.randint(0, 6)
            new = bytes(generator.choice(b"0123456789,;\n\t\"[]{}()':-.eE \x00\xff\xc3nai#") for _ in range(length))
            # an array's header says where it ends, so that it is changed but not moved
            start = generator.randrange(80 if name == "p.npy" else len(content) + 1)
            content[start : start + (length if name == "p.npy" else generator.randint(0, 6))] = new
        problem = ""
        try:
            found = read(tmp_path / name, bytes(content))
        except DataError as error:
            problem = str(error)
        assert "\n" not in problem
        refused += problem != ""
        if problem:
            continue
        assert found.predicted_N.shape == (5,)
        assert 0 <= found.predicted_N.min() <= found.predicted_N.max() < 4
    assert 200 < refused < 850


@pytest.mark.parametrize("header", ["{'descr': '<i8', 'shape': (5,", "{'descr': (", "'" * 3, "{'descr': 'sh\xff"])
def test_a_damaged_header_of_an_array_is_one_line(header: str, tmp_path: Path) -> None:
    """What such a header makes numpy raise are errors of the parser of Python, not of numpy."""
    content = header.encode("latin-1").ljust(117) + b"\n"
    (tmp_path / "p.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + bytes(40))
    with pytest.raises(DataError, match=r"p\.npy is no array of numbers in NumPy's format"):
        read_table(tmp_path / "p.npy")


def test_a_large_file_is_judged_in_no_more_than_a_moment(tmp_path: Path) -> None:
    """Time that grew with the square of the number of images, or of classes, would take minutes here."""
    size, truth = 50_000, tmp_path / "truth.csv"
    entries = ", ".join(f'"{n}": 1' for n in [*range(size), size - 1])
    began = time.process_time()
    with pytest.raises(DataError, match="has '49999' twice in one object"):
        read(tmp_path / "p.json", f"{{{entries}}}")
    truth.write_text(lines("label", *([0] * size)))
    paths = [tmp_path / name for name in ("up.csv", "down.csv")]
    for path, ids in zip(paths, (range(size), reversed(range(size))), strict=True):
        path.write_text(lines("prediction", *ids))
    answers = load_answers([str(path) for path in paths], labels=str(truth))
    assert "No image is labelled 1, 2, 3 and 49996 more" in answers.notes[-1]
    assert time.process_time() - began < 10
