"""Files of predictions as tables, before it is known which classes and images they speak of.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".npy")
_LARGEST_BYTES = 2**30
_INDEX = {"", "index", "idx", "id", "i", "image", "imageid", "imageindex", "sample", "row", "number", "unnamed0"}
_PREDICTION = {
    "prediction",
    "predictions",
    "predicted",
    "pred",
    "preds",
    "predictedclass",
    "predictedlabel",
    "predclass",
    "predlabel",
    "ypred",
    "yhat",
    "class",
    "classid",
    "answer",
}
_LABEL = {
    "label",
    "labels",
    "target",
    "targets",
    "truth",
    "true",
    "truelabel",
    "trueclass",
    "ytrue",
    "y",
    "groundtruth",
}
_SCORES = {"scores", "logits", "probabilities", "probs"}


@dataclass(frozen=True)
class Table:
    """What a file holds, before it is known which classes and images it speaks of.

    Attributes:
        path: The file.
        rows: Where each entry stands, for messages: 'line 7' or 'entry 6'.
        predictions: One entry an image: an id or a name; None where there are scores.
        scores: float64, N x K; None where there are predictions.
        score_names: The column names of the scores; empty where they have none.
        labels: The true classes, likewise; None where the file has none.
        index: Which image each entry is of; None where they are in order.
        notes: What was assumed.
    """

    path: Path
    rows: Sequence[str]
    predictions: Sequence[Any] | None = None
    scores: NDArray[np.float64] | None = None
    score_names: tuple[str, ...] = ()
    labels: Sequence[Any] | None = None
    index: Sequence[Any] | None = None
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """Read a file of predictions (or of labels) without interpreting its classes.

    Raises:
        DataError: If it is missing, is no text in UTF-8, or has none of the forms of docs/predictions-file.md.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise DataError(f"{path} is larger than 1 GiB; give predicted classes, not scores")
        if path.suffix.lower() == ".npy":
            return _from_array(path, _load_array(path))
        text = _decode(path, path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return _from_json(path, text) if path.suffix.lower() == ".json" else _from_csv(path, text)


def as_number(entry: Any) -> float | None:
    """Return a number that may be written as text; None for anything else, NaN and infinity included."""
    try:
        number = float(entry)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _decode(path: Path, content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not text in UTF-8 (line {line}); save it as CSV or JSON in UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path} is not text; give predictions as CSV or JSON in UTF-8, or as .npy")
    return text


def _load_array(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)  # pickles can run code
    except (ValueError, EOFError, MemoryError) as error:
        raise DataError(f"{path} is no array of numbers in NumPy's format: {' '.join(str(error).split())}") from error
    return array


def _from_array(path: Path, array: NDArray[Any]) -> Table:
    rows = [f"entry {n}" for n in range(len(array) if array.ndim else 0)]
    if array.ndim == 1 and array.dtype.kind in "iufU":
        return Table(path, rows, predictions=array.tolist())
    if array.ndim == 2 and array.dtype.kind in "iuf":
        return Table(path, rows, scores=array.astype(np.float64))
    raise DataError(f"{path} is an array of {array.dtype} {array.shape}; N class ids or N x K scores are needed")


def _from_json(path: Path, text: str) -> Table:
    try:
        value = json.loads(text, object_pairs_hook=lambda pairs: _unique(path, pairs))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {' '.join(str(error).split())}") from error
    columns: dict[str, Any] = {}
    if isinstance(value, dict):
        named = {_plain(key): item for key, item in value.items() if isinstance(item, list)}
        for role, names in (("index", _INDEX), ("predictions", _PREDICTION | _SCORES), ("labels", _LABEL)):
            columns[role] = next((item for name, item in named.items() if name in names), None)
        if not named and value and all(as_number(key) is not None for key in value):  # {"0": 3, "1": 8}
            columns = {"index": list(value), "predictions": list(value.values())}
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        keys = list(value[0])
        return _from_columns(
            path, [f"entry {n}" for n in range(len(value))], keys, [[item.get(key) for key in keys] for item in value]
        )
    elif isinstance(value, list):
        columns["predictions"] = value
    if not columns.get("predictions"):  # a file of labels alone is read as classes, too
        columns["predictions"] = columns.pop("labels", None)
    entries = columns.get("predictions")
    if not entries:
        raise DataError(f'{path} holds no predictions; give a list, or an object such as {{"predictions": [3, 8, …]}}')
    rows = [f"entry {n}" for n in range(len(entries))]
    for role in ("labels", "index"):
        if columns.get(role) is not None and len(columns[role]) != len(entries):
            raise DataError(f"{path} holds {len(entries):,} predictions, but {len(columns[role]):,} {role}")
    common: dict[str, Any] = {"labels": columns.get("labels"), "index": columns.get("index")}
    if isinstance(entries[0], list):
        return Table(path, rows, scores=_matrix(path, rows, entries), **common)
    return Table(path, rows, predictions=entries, **common)


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} has {twice!r} twice in one object; give each image once")
    return values


def _matrix(path: Path, rows: Sequence[str], entries: Sequence[Any]) -> NDArray[np.float64]:
    width = len(entries[0])
    for row, entry in zip(rows, entries, strict=True):
        if not isinstance(entry, list) or len(entry) != width:
            raise DataError(f"{path}, {row}: {width} scores are needed, as in the others")
    return np.array([[math.nan if (x := as_number(item)) is None else x for item in entry] for entry in entries])


def _plain(name: Any) -> str:
    """Return a column's name without case, spaces and punctuation: y_pred, Y pred and yPred are one."""
    return "".join(character for character in str(name).casefold() if character.isalnum())


def _from_csv(path: Path, text: str) -> Table:
    lines = text.splitlines()
    content = [line for line in lines if line.strip() and not line.startswith("#")]
    if not content:
        raise DataError(f"{path} is empty")
    cells, numbers = _cells(path, lines, _delimiter(content[0]))
    header = _header(cells)
    rows = [f"line {number}" for number in numbers][1 if header else 0 :]
    cells = cells[1:] if header else cells
    if not cells:
        raise DataError(f"{path} holds a header, but no predictions")
    width = len(header or cells[0])
    for row, entries in zip(rows, cells, strict=True):
        if len(entries) != width:
            raise DataError(f"{path}, {row}: {len(entries)} columns, but {width} before")
    return _from_columns(path, rows, header or _guess(path, cells), cells)


def _delimiter(line: str) -> str:
    for delimiter in "\t;,":
        if delimiter in line:
            return delimiter
    parts = line.split()
    return " " if len(parts) > 1 and all(as_number(part) is not None for part in parts) else ","


def _cells(path: Path, lines: list[str], delimiter: str) -> tuple[list[list[str]], list[int]]:
    """Return the cells of every line with its number; comments and empty lines at the end are passed over."""
    last = max(n for n, line in enumerate(lines) if line.strip())
    cells, numbers = [], []
    content = io.StringIO("\n".join(line.strip(" ") for line in lines[: last + 1]))
    reader = csv.reader(content, delimiter=delimiter, skipinitialspace=True)
    try:
        for entries in reader:
            if entries and entries[0].startswith("#"):
                continue
            cells.append([entry.strip() for entry in entries] or [""])
            numbers.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    return cells, numbers


def _header(cells: list[list[str]]) -> list[str] | None:
    """Return the first line if it names columns: by a known name, as 0, 1, 2, …, or by words above numbers."""
    first = cells[0]
    numbered = first[1:] if first[0] == "" else first
    if len(numbered) > 2 and numbered == [str(k) for k in range(len(numbered))]:  # as pandas writes an array of scores
        return first
    if {_plain(name) for name in first} & ((_INDEX | _PREDICTION | _LABEL) - {""}):
        return first
    if any(as_number(entry) is not None for entry in first) or len(cells) == 1:
        return None
    numeric = [as_number(entry) is not None for entry in cells[1][: len(first)]]
    return first if any(numeric) else None


def _guess(path: Path, cells: list[list[str]]) -> list[str]:
    """Name the columns of a file without a header: one column, an index and one, or a score a class."""
    width, size = len(cells[0]), len(cells)
    if width == 1:
        return ["prediction"]
    first = [as_number(entries[0]) for entries in cells]
    counts = sorted(number for number in first if number is not None)
    if counts in ([float(n) for n in range(size)], [float(n + 1) for n in range(size)]):
        return ["index", "prediction"] if width == 2 else ["index", *(str(k) for k in range(width - 1))]
    if width == 2:
        raise DataError(f"{path} has two columns without names; begin it with the line index,prediction (or label)")
    return [str(k) for k in range(width)]


def _from_columns(path: Path, rows: Sequence[str], names: Sequence[str], cells: Sequence[Sequence[Any]]) -> Table:
    """Make a table of named columns."""
    plain = [_plain(name) for name in names]

    def column(accepted: Callable[[str], bool]) -> list[Any] | None:
        found = [k for k, name in enumerate(plain) if accepted(name)]
        return [entries[found[0]] for entries in cells] if found else None

    index = column(lambda name: name in _INDEX)
    predictions, labels = column(lambda name: name in _PREDICTION), column(lambda name: name in _LABEL)
    rest = [k for k, name in enumerate(plain) if name not in _INDEX | _LABEL | _PREDICTION]
    common: dict[str, Any] = {"index": index, "labels": labels}
    if predictions is not None:
        return Table(path, rows, predictions=predictions, **common)
    if labels is not None and not rest:  # as in a submission to a contest: id,label
        note = "no column of predictions, so that of labels is taken for it"
        return Table(path, rows, predictions=labels, index=index, notes=(note,))
    if len(rest) == 1:
        return Table(path, rows, predictions=[entries[rest[0]] for entries in cells], **common)
    if len(rest) > 1:
        scores = _matrix(path, rows, [[entries[k] for k in rest] for entries in cells])
        return Table(path, rows, scores=scores, score_names=tuple(str(names[k]) for k in rest), **common)
    raise DataError(f"{path} has no column of predictions; name the columns index, prediction and, if wanted, label")
