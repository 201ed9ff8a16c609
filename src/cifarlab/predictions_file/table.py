"""Files of predictions as tables: CSV, JSON and NPY. What their columns mean is told by columns.py."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError
from cifarlab.predictions_file.columns import Table, as_number, make_table, names_columns, of_one_length

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".npy")
_LARGEST_BYTES = 2**30


def read_table(path: Path) -> Table:
    """Read a file of predictions (or of labels) without interpreting its classes.

    Raises:
        DataError: If it is missing, is no text in UTF-8, or has none of the forms of docs/predictions-file.md.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise DataError(f"{path} is larger than 1 GiB; give predicted classes, not scores")
        if path.suffix.lower() == ".npz" and path.is_file():
            raise DataError(f"{path}: only evaluate --answers reads .npz; save its classes or scores as .npy")
        if path.suffix.lower() == ".npy":
            return _from_array(path, _load_array(path))
        text = _decode(path, path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return _from_json(path, text) if path.suffix.lower() == ".json" else _from_csv(path, text)


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
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of arrays that an old numpy wrote
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)  # pickles can run code
    except OSError:
        raise
    except Exception as error:  # a damaged header makes numpy raise whatever its parsing of Python does
        raise DataError(f"{path} is no array of numbers in NumPy's format: {' '.join(str(error).split())}") from error
    return array


def _from_array(path: Path, array: NDArray[Any]) -> Table:
    if not array.size:
        raise DataError(f"{path} is empty")
    rows = [f"entry {n}" for n in range(len(array) if array.ndim else 0)]
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1 and array.dtype.kind in "iufU":
        return Table(path, rows, predictions=array.tolist())
    if array.ndim == 2 and array.dtype.kind in "iuf":
        return Table(path, rows, scores=array.astype(np.float64))
    raise DataError(f"{path} is an array of {array.dtype} {array.shape}; N class ids or N x K scores are needed")


def _from_json(path: Path, text: str) -> Table:
    try:
        value = json.loads(text, object_pairs_hook=lambda pairs: _unique(path, pairs))
        if re.search(r"\\u[dD]", text):  # halves of characters, which can be escaped but written nowhere
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {' '.join(str(error).split())}") from error
    columns: dict[str, list[Any]] = {}
    if isinstance(value, dict):
        columns = {key: item for key, item in value.items() if isinstance(item, list)}
        if not columns and value and all(as_number(key) is not None for key in value):  # {"0": 3, "1": 8}
            columns = {"index": list(value), "prediction": list(value.values())}
        columns = of_one_length(path, columns) if columns else {}
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        columns = {key: [item.get(key) for item in value] for key in value[0]}
    elif isinstance(value, list):
        columns = {"prediction": value}
    size = len(next(iter(columns.values()), []))
    if not size:
        raise DataError(f'{path} holds no predictions; give a list, or an object such as {{"predictions": [3, 8, …]}}')
    return make_table(path, [f"entry {n}" for n in range(size)], list(columns), list(columns.values()))


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise DataError(f"{path} has {twice!r} twice in one object; give each image once")
    return values


def _from_csv(path: Path, text: str) -> Table:
    lines = text.splitlines()
    content = [line for line in lines if line.strip() and not _is_comment(line)]
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
    return make_table(path, rows, header or _guess(path, cells), [list(column) for column in zip(*cells, strict=True)])


def _delimiter(line: str) -> str:
    for delimiter in "\t;,":
        if delimiter in line:
            return delimiter
    parts = line.split()
    return " " if len(parts) > 1 and all(as_number(part) is not None for part in parts) else ","


def _cells(path: Path, lines: list[str], delimiter: str) -> tuple[list[list[str]], list[int]]:
    """Return the cells of every line with its number; comments and empty lines at the end are passed over."""
    # before quotes are read: one in a comment may have no end
    kept = [(number, line.strip(" ")) for number, line in enumerate(lines, 1) if not _is_comment(line)]
    while not kept[-1][1].strip():
        kept.pop()
    cells, numbers = [], []
    reader = csv.reader(io.StringIO("\n".join(line for _, line in kept)), delimiter=delimiter, skipinitialspace=True)
    try:
        for entries in reader:
            cells.append([entry.strip() for entry in entries] or [""])
            numbers.append(kept[reader.line_num - 1][0])
    except csv.Error as error:
        raise DataError(f"{path}, line {kept[reader.line_num - 1][0]}: {error}") from error
    return cells, numbers


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _header(cells: list[list[str]]) -> list[str] | None:
    """Return the first line if it names columns: by a known name, as 0, 1, 2, …, or by words above numbers."""
    first = cells[0]
    numbered = first[1:] if first[0] == "" else first
    if len(numbered) > 2 and numbered == [str(k) for k in range(len(numbered))]:  # as pandas writes an array of scores
        return first
    if names_columns(first):
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
        raise DataError(
            f"{path} has two columns without names; begin it with the line index,prediction or index,label, or with "
            "the names of the two classes whose scores they are"
        )
    return [str(k) for k in range(width)]
