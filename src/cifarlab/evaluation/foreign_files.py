"""Files of answers and of true classes as arrays, before it is known what their numbers mean.

Nothing is ever unpickled, for a pickle can run code. Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError
from cifarlab.predictions_file import Table, read_table
from cifarlab.predictions_file.columns import as_number
from cifarlab.predictions_file.images import match_names

_SUFFIXES = (".npz", ".npy", ".csv", ".tsv", ".txt")
_LARGEST_BYTES = 2**31
_TOO_LARGE = "is larger than 2 GiB; give fewer images or half precision"
# all without case, spaces and punctuation; kinds of answers in the order in which they are preferred
_ANSWERS = {
    "logits": ("logits", "logit", "logprobs", "logprobabilities", "logsoftmax"),
    "probabilities": ("probabilities", "probability", "probs", "prob", "proba", "softmax", "softmaxes"),
    "": ("scores", "score", "outputs", "output", "predictions", "preds", "answers"),
}
_LABELS = ("labels", "label", "targets", "target", "ytrue", "y", "truth", "truelabels", "groundtruth", "gt")
_NAMES = ("classnames", "classes", "names", "labelnames")
_NUMBERED = re.compile(r"(\D*)(\d+)(\D?)")  # class_3, logit 3, p3: no names
# columns that stand beside answers and are of no class
_NO_CLASSES = ("confidence", "conf", "maxprob", "maxprobability", "correct", "iscorrect", "loss", "entropy", "split")


@dataclass(frozen=True)
class RawAnswers:
    """Answers as they stand in a file.

    Attributes:
        values: An array of whatever type and shape.
        called: 'logits' or 'probabilities' by their name in the file; empty where that says nothing.
        labels: Array or list of true classes, one an image; None where the file has none.
        names: Class names in the order of the columns; None where the file has none.
        files: File of each image, where a table tells its images by file alone; else empty.
    """

    values: NDArray[Any]
    called: str = ""
    labels: Any = None
    names: tuple[str, ...] | None = None
    files: tuple[str, ...] = ()


def read_answers(path: Path) -> RawAnswers:
    """Read a file of answers.

    Raises:
        DataError: If it cannot be read, or it is not clear which of its arrays or columns are the answers.
    """
    suffix = _checked_suffix(path)
    if suffix == ".npz":
        return _from_npz(path)
    if suffix == ".npy":
        return RawAnswers(_load_npy(path))
    table = read_table(path)
    if table.scores is None:
        raise DataError(
            f"{path} holds predicted classes; give a column of logits or probabilities for each class, and none of "
            "predictions (cifarlab compare takes predicted classes)"
        )
    extra = [name for name in table.score_names if _plain(name) in _NO_CLASSES]
    if extra:
        raise DataError(f"{path}: the column {extra[0]!r} is of no class; leave it out, or rename it if it is one")
    order_N = _order(table)
    labels = None if table.labels is None else [table.labels[n] for n in order_N]
    files = tuple(map(str, table.files)) if table.files is not None and table.index is None else ()
    values_NK = table.scores[order_N]
    if table.score_names:
        values_NK = values_NK[:, _columns_by_number(table.score_names)]
    return RawAnswers(values_NK, labels=labels, names=_names(path, table.score_names), files=files)


def read_labels(path: Path, files: Sequence[str] = ()) -> Any:
    """Return the true classes of a file, an array or a list of entries.

    Args:
        path: The file.
        files: File of each image in the order of the answers, where that is known. Labels of a table that tells its
            images by file too are brought into that order.

    Raises:
        DataError: If it cannot be read, or it is not clear which of its arrays or columns they are.
    """
    suffix = _checked_suffix(path)
    if suffix == ".npz":
        return _only(path, _load_npz(path, _LABELS), _LABELS, "true classes")
    if suffix == ".npy":
        return _load_npy(path)
    table = read_table(path)
    entries = table.labels if table.labels is not None else table.predictions
    if entries is None:
        raise DataError(f"{path} has several columns and none called 'label'; name the column of true classes so")
    by_file = files and table.files is not None and table.index is None and len(table.files) == len(files)
    return [entries[n] for n in (match_names(table, files) if by_file else _order(table))]


def _checked_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if suffix not in _SUFFIXES or not path.is_file():
        raise DataError(f"{path} is no file of answers or labels; give {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}")
    if size > _LARGEST_BYTES:
        raise DataError(f"{path} {_TOO_LARGE}")
    return suffix


def _order(table: Table) -> NDArray[np.int64]:
    """Return in which order the entries of a table are those of images 0, 1, 2, …; as they stand if it has no index."""
    if table.index is None:
        return np.arange(len(table.rows))
    positions = []
    for row, entry in zip(table.rows, table.index, strict=True):
        number = as_number(entry)
        if number is None or not number.is_integer():
            raise DataError(f"{table.path}, {row}: the index {str(entry)!r} is no position; count images from 0")
        positions.append(number)
    index_N = np.array(positions)
    order_N = index_N.argsort()
    if not np.array_equal(index_N[order_N] - index_N.min(), np.arange(len(index_N))):
        raise DataError(f"{table.path}: the index leaves out images or names one twice; give each image once")
    return order_N


def _names(path: Path, columns: Sequence[str]) -> tuple[str, ...] | None:
    """Return column names if they name classes; class_3, p3 and 3 do not.

    Raises:
        DataError: If two have the same name.
    """
    names = tuple(name.strip() for name in columns)
    if not names or any(not name or _NUMBERED.fullmatch(name) for name in names):
        return None
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{path} names the class {twice!r} twice; name every class once")
    return names


def _columns_by_number(names: Sequence[str]) -> NDArray[np.int64]:
    """Return the order in which columns are those of class 0, 1, 2, …: that of their numbers, if they differ by that.

    Sorted as text they would be logit_0, logit_1, logit_10, logit_2; without such numbers they stay as they stand.
    """
    found = [_NUMBERED.fullmatch(name.strip()) for name in names]
    parts = [(match[1], match[3], int(match[2])) for match in found if match is not None]
    numbers = [number for *_, number in parts]
    alike = len(parts) == len(names) and len({(before, after) for before, after, _ in parts}) == 1
    if not alike or len(set(numbers)) < len(numbers):
        return np.arange(len(names))
    return np.argsort(numbers)


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            return _array(str(path), file)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _array(what: str, file: IO[bytes]) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a damaged header makes numpy raise whatever its parsing of Python does
        if "Object arrays" in str(error):
            raise DataError(f"{what} holds pickled Python objects, which can run code; save plain numbers") from error
        raise DataError(f"{what} is no array in NumPy's format: {' '.join(str(error).split())}") from error
    if array.dtype.kind != "S":
        return array
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{what} holds names that are not in UTF-8; save them as text, not as bytes") from error


def _load_npz(path: Path, wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an archive whose names are wanted, by their names without case and punctuation.

    Raises:
        DataError: If it is no archive, is damaged, or holds none of them.
    """
    found: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            for member in members:
                name = _plain(member.filename.removesuffix(".npy"))
                if name not in wanted:
                    continue
                if member.file_size > _LARGEST_BYTES:
                    raise DataError(f"{path} ({name}) {_TOO_LARGE}")
                with archive.open(member) as file:
                    found[name] = _array(f"{path} ({name})", file)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{path} is no archive of NumPy's: {' '.join(str(error).split())}; save it with numpy.savez"
        ) from error
    if not found:
        held = ", ".join(" ".join(member.filename.removesuffix(".npy").split()) for member in members[:8]) or "no array"
        raise DataError(f"{path} holds {held}; call the answers 'logits' or 'probabilities', the true classes 'labels'")
    return found


def _from_npz(path: Path) -> RawAnswers:
    answers = [name for names in _ANSWERS.values() for name in names]
    arrays = _load_npz(path, (*answers, *_LABELS, *_NAMES))
    called = next((called for called, keys in _ANSWERS.items() if arrays.keys() & set(keys)), None)
    if called is None:
        raise DataError(f"{path} holds {', '.join(arrays)}, but no answers; call them 'logits' or 'probabilities'")
    values = _only(path, arrays, _ANSWERS[called], "answers")
    labels = _only(path, arrays, _LABELS, "true classes") if arrays.keys() & set(_LABELS) else None
    lists = [arrays[key] for key in _NAMES if key in arrays and arrays[key].dtype.kind == "U" and arrays[key].ndim]
    names = _names(path, lists[0].ravel().tolist()) if lists else None
    if names is not None and values.ndim == 2 and len(names) != values.shape[1]:
        raise DataError(f"{path} names {len(names)} classes, but has {values.shape[1]} columns; give a name a column")
    return RawAnswers(values, called, labels, names)


def _only(path: Path, arrays: dict[str, NDArray[Any]], keys: Sequence[str], what: str) -> NDArray[Any]:
    held = [key for key in keys if key in arrays]
    if not held:
        raise DataError(f"{path} holds no {what}; call them {keys[0]!r}")
    if len(held) > 1:
        raise DataError(f"{path}: {' and '.join(held[:2])} could both be the {what}; leave one of them out")
    return arrays[held[0]]


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
