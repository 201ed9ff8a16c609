"""Foreign predictions: every plausible form gives the same answer, everything else one clear line."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from cifarlab.answers import load_answers
from cifarlab.data.cifar import CIFAR10
from cifarlab.errors import DataError
from cifarlab.predictions_file import Classes, ForeignPredictions, Table, read_table, resolve, vocabulary
from cifarlab.predictions_file.classes import _KNOWN_ORDERS

NAMES = ("airplane", "automobile", "Polar Bear", "cat")
IDS = [3, 0, 2, 1, 2]
LABELS = [3, 0, 2, 2, 2]


def words(ids: list[int]) -> list[str]:
    return [NAMES[k] for k in ids]


def scores(ids: list[int]) -> list[list[float]]:
    return [[9.5 if k == best else -k - 1e-3 for k in range(4)] for best in ids]


def lines(*rows: object) -> str:
    return "\n".join(str(row) for row in rows) + "\n"


def table_lines(rows: list[list[float]], *, header: str = "", by: str = ",", index: bool = False) -> str:
    body = [by.join(map(str, [*([n] if index else []), *row])) for n, row in enumerate(rows)]
    return lines(*([header] if header else []), *body)


def read(
    path: Path, text: str | bytes, names: tuple[str, ...] = NAMES, count: int = 5, files: tuple[str, ...] = ()
) -> ForeignPredictions:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return resolve(read_table(path), Classes(names), count, "test", files)


WITHOUT_LABELS = {
    "one id a line": lines(*IDS),
    "no newline at the end": "\n".join(map(str, IDS)),
    "Windows": "\r\n".join(map(str, IDS)) + "\r\n",
    "as numpy.savetxt writes": lines(*(f"{k:.18e}" for k in IDS)),
    "with a comment": "# from the vendor\n" + lines(*IDS),
    "a quote in a comment that has no end": '# by "x", "model v2\n' + lines(*IDS) + '\n#, "the end\n',
    "empty lines at the end": lines(*IDS) + "\n\n",
    "one name a line": lines(*words(IDS)),
    "names in any case": lines(*(name.upper() for name in words(IDS))),
    "names of a tutorial": lines("cat", "plane", "polar bear", "car", "Polar Bear"),
    "header": lines("prediction", *IDS),
    "another header": lines("Y pred", *words(IDS)),
    "an unknown header above numbers": lines("modell-antwort", *IDS),
    "quoted": lines('"prediction"', *(f'"{name}"' for name in words(IDS))),
    "index": lines("index,prediction", *(f"{n},{k}" for n, k in enumerate(IDS))),
    "index in another order": lines("index,prediction", "4,2", "0,3", "2,2", "1,0", "3,1"),
    "index after": lines("prediction;id", *(f"{NAMES[k]};{n}" for n, k in enumerate(IDS))),
    "index from one": lines("id,label", *(f"{n + 1},{NAMES[k]}" for n, k in enumerate(IDS))),
    "as pandas writes": lines(",pred", *(f"{n},{k}" for n, k in enumerate(IDS))),
    "tabs without header": lines(*(f"{n}\t{k}" for n, k in enumerate(IDS))),
    "spaces after commas": lines("index, prediction", *(f"{n}, {k}" for n, k in enumerate(IDS))),
    "further columns": lines("epoch,predicted,confidence", *(f"7,{k},0.5" for k in IDS)),
    "a row number of pandas beside the index": lines(",id,pred", "0,4,2", "1,0,3", "2,2,2", "3,1,0", "4,3,1"),
    "twice the same": lines("pred,class", *(f"{k},{k}" for k in IDS)),
    "scores": table_lines(scores(IDS)),
    "scores and spaces": table_lines(scores(IDS), by=" "),
    "scores with an index": table_lines(scores(IDS), index=True),
    "named scores": lines("cat,airplane,polar bear,automobile", *(f"{r[3]},{r[0]},{r[2]},{r[1]}" for r in scores(IDS))),
    "named scores with a word before": lines(
        "p_cat,p_airplane,p_polar_bear,P car", *(f"{r[3]},{r[0]},{r[2]},{r[1]}" for r in scores(IDS))
    ),
    "scores as pandas writes": table_lines(scores(IDS), header=",0,1,2,3", index=True),
    "scores as pandas writes without index": table_lines(scores(IDS), header="0,1,2,3"),
    "scores with other names": table_lines(scores(IDS), header="id,p_a,p_b,p_c,p_d", index=True),
}
WITH_LABELS = {
    "three columns": lines("index,prediction,label", *(f"{n},{IDS[n]},{LABELS[n]}" for n in (1, 0, 4, 3, 2))),
    "as evaluate writes": lines(
        "index,name,label,predicted,confidence",
        *(f"{n},,{NAMES[LABELS[n]]},{NAMES[k]},0.91" for n, k in enumerate(IDS)),
    ),
    "usual names": lines("y_true,y_pred", *(f"{LABELS[n]},{k}" for n, k in enumerate(IDS))),
    "other usual names": lines("Actual,Outputs", *(f"{LABELS[n]},{k}" for n, k in enumerate(IDS))),
    "short names": lines("gt,argmax", *(f"{LABELS[n]},{k}" for n, k in enumerate(IDS))),
    "expected": lines("answers,expected,class", *(f"{k},{LABELS[n]},x" for n, k in enumerate(IDS))),
    "files, and labels that show the order": lines("file,y,yhat", *(f"{n}.png,{LABELS[n]},{IDS[n]}" for n in range(5))),
    "scores and target": lines(
        "target,airplane,automobile,polar bear,cat",
        *(",".join(map(str, [LABELS[n], *row])) for n, row in enumerate(scores(IDS))),
    ),
}
JSON_WITHOUT_LABELS = {
    "list": IDS,
    "list of names": words(IDS),
    "list of texts": [str(k) for k in IDS],
    "floats": [float(k) for k in IDS],
    "object": {"model": "x", "predictions": IDS},
    "by index": {str(n): k for n, k in reversed(list(enumerate(IDS)))},
    "objects": [{"prediction": k, "confidence": 0.5} for k in IDS],
    "objects with index": [{"index": n, "class": NAMES[IDS[n]]} for n in (2, 1, 0, 4, 3)],
    "rows of scores": scores(IDS),
    "named scores": [{"cat": r[3], "automobile": r[1], "airplane": r[0], "polar bear": r[2]} for r in scores(IDS)],
    "logits": {"logits": scores(IDS)},
    "labels alone": {"labels": IDS},
    "labels with an index": {"labels": IDS[::-1], "index": [4, 3, 2, 1, 0]},
    "an unknown name": {"foo": IDS},
    "lists of other lengths": {"classes": list(NAMES), "losses": [0.5], "predictions": IDS},
    "by class": {name: [row[k] for row in scores(IDS)] for k, name in enumerate(NAMES)},
}
JSON_WITH_LABELS = {
    "object": {"predictions": IDS, "labels": LABELS},
    "shuffled": {"index": [4, 3, 2, 1, 0], "y_pred": IDS[::-1], "targets": LABELS[::-1]},
    "plural names": {"predicted_labels": IDS, "labels": LABELS},
    "logits": {"logits": scores(IDS), "labels": LABELS, "predictions": IDS},
    "logits alone": {"logits": scores(IDS), "truth": LABELS},
    "objects": [{"label": NAMES[LABELS[n]], "pred": k} for n, k in enumerate(IDS)],
}


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


ARRAYS = [
    np.array(IDS),
    np.array(IDS, dtype=np.uint8)[:, None],
    np.array(scores(IDS), np.float16),
    np.array(words(IDS)),
]


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
