"""From the entries of a file to class ids in the order of a split. Shape suffixes: N images, K classes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError
from cifarlab.predictions_file.table import Table, as_number

_MOST_CLASSES = 100_000  # beyond, numbers are names and no ids
_MISSING = {"", "nan", "none", "null", "na", "n/a", "-"}
# what CIFAR's classes are called in a widely copied tutorial, and in British English
_ALIASES = {"plane": "airplane", "aeroplane": "airplane", "car": "automobile"}


@dataclass(frozen=True)
class ForeignPredictions:
    """Predictions of a file in the split's order.

    Attributes:
        predicted_N: int64, class ids.
        labels_N: int64, the file's own labels; None where it has none.
        notes: What was assumed, without the file's name, so that files with the same note can share a line.
    """

    predicted_N: NDArray[np.int64]
    labels_N: NDArray[np.int64] | None
    notes: tuple[str, ...]


def vocabulary(entries: Sequence[Any]) -> tuple[str, ...]:
    """Return the class names that a list of true classes implies: 0..K-1 for ids, the names in order otherwise."""
    numbers = [as_number(entry) for entry in entries]
    ids = [int(number) for number in numbers if number is not None and number.is_integer() and number >= 0]
    if len(ids) == len(entries) and max(ids) < _MOST_CLASSES:
        return tuple(str(k) for k in range(max(ids) + 1))
    return tuple(sorted({str(entry).strip() for entry in entries} - _MISSING))


def resolve(table: Table, class_names: Sequence[str], num_images: int, split: str) -> ForeignPredictions:
    """Bring a file's predictions into the order of a split, as class ids.

    Args:
        table: What the file holds.
        class_names: K names in label order.
        num_images: N, the size of the split.
        split: Name of the split, for messages.

    Raises:
        DataError: If an image has no prediction or two, or a class is missing, unknown or out of range; one line.
    """
    count = len(table.rows)
    if count != num_images:
        raise DataError(
            f"{table.path} holds {count:,} predictions, but the {split} split has {num_images:,} images; "
            "one is needed for each of them"
        )
    notes = list(table.notes)
    order_N, one_based = _order(table, num_images)
    if one_based:
        notes.append("images are counted from 1")
    if table.index is None:
        notes.append("no index, so the predictions are taken to be in the order of the split")
    if table.scores is None:
        predicted_N = _ids(table, table.predictions or (), class_names)
    else:
        predicted_N, more = _from_scores(table, class_names)
        notes += more
    labels_N = None if table.labels is None else _ids(table, table.labels, class_names)[order_N]
    return ForeignPredictions(predicted_N[order_N], labels_N, tuple(notes))


def _order(table: Table, num_images: int) -> tuple[NDArray[np.int64], bool]:
    """Return which entry each image of the split has, and whether the file's index begins at 1."""
    if table.index is None:
        return np.arange(num_images), False
    numbers = []
    for row, entry in zip(table.rows, table.index, strict=True):
        number = as_number(entry)
        if number is None or not number.is_integer():
            raise DataError(f"{table.path}, {row}: the index {str(entry)!r} is no position; count images from 0")
        numbers.append(int(number))
    first = 1 if min(numbers) == 1 and max(numbers) == num_images else 0
    for row, number in zip(table.rows, numbers, strict=True):
        if not first <= number < first + num_images:
            raise DataError(f"{table.path}, {row}: index {number} is outside 0..{num_images - 1}")
    index_N = np.array(numbers, dtype=np.int64) - first
    counts_N = np.bincount(index_N, minlength=num_images)
    if (counts_N > 1).any():
        twice, missing = int(np.argmax(counts_N > 1)) + first, int(np.argmin(counts_N)) + first
        raise DataError(f"{table.path} has index {twice} twice and index {missing} not at all; give each image once")
    return np.argsort(index_N), first == 1


def _from_scores(table: Table, class_names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the class with the highest score of every entry, and notes; columns are matched by their names."""
    scores_NK = table.scores
    assert scores_NK is not None
    if scores_NK.shape[1] != len(class_names):
        raise DataError(
            f"{table.path} has {scores_NK.shape[1]} scores an image, but there are {len(class_names)} classes; "
            "if it gives classes, name their column prediction"
        )
    if not np.isfinite(scores_NK).all():
        row = table.rows[int(np.argmin(np.isfinite(scores_NK).all(1)))]
        raise DataError(f"{table.path}, {row}: a score is missing, NaN or infinite")
    classes = _Classes(class_names)
    ids = [classes.id_of(name) for name in table.score_names]
    if not any(found is not None for found in ids):
        return scores_NK.argmax(1), ["scores without class names, taken in label order"]
    for name, found in zip(table.score_names, ids, strict=True):
        if found is None or ids.count(found) > 1:
            raise DataError(
                f"{table.path}: a column of scores is named {name!r}; name each class once, or none of them"
            )
    return np.array(ids, dtype=np.int64)[scores_NK.argmax(1)], []


class _Classes:
    """Looks up what may be said for a class: its name in any case, a usual other name, or its id."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._by_name = {name: k for k, name in enumerate(names)}
        self._folded = {name.casefold().strip(): k for k, name in reversed(list(enumerate(names)))}
        others = {alias: self._folded[name] for alias, name in _ALIASES.items() if name in self._folded}
        self._folded = others | self._folded

    def id_of(self, entry: Any) -> int | None:
        """Return the class id; None for what is no class. A name goes before an id where classes are named 0, 1, 2."""
        number = None if isinstance(entry, bool) else as_number(entry)
        whole = int(number) if number is not None and number.is_integer() else None
        text = str(entry if whole is None else whole).strip()
        found = self._by_name.get(text, self._folded.get(text.casefold()))
        if found is None and whole is not None and 0 <= whole < len(self.names):
            return whole
        return found

    def complaint(self, entry: Any) -> str:
        """Say in what an entry is no class."""
        text = str(entry).strip()
        if entry is None or text.casefold() in _MISSING:
            return f"the class is missing ({text or 'empty'})"
        if as_number(entry) is not None:
            return f"the class is {text[:40]}, but ids are whole numbers from 0 to {len(self.names) - 1}"
        close = difflib.get_close_matches(text, self.names, n=1)
        few = ", ".join(self.names[:12]) + (", …" if len(self.names) > 12 else "")
        hint = f"did you mean {close[0]}?" if close else f"they are {few}"
        return f"{text[:40]!r} is none of the classes; {hint}"


def _ids(table: Table, entries: Sequence[Any], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return entries, ids or names, as class ids; every distinct entry is looked up once."""
    classes = _Classes(class_names)
    known: dict[Any, int] = {}
    ids = np.empty(len(entries), dtype=np.int64)
    for n, entry in enumerate(entries):
        key = (type(entry), entry) if isinstance(entry, (str, int, float)) else repr(entry)
        if key not in known:
            found = classes.id_of(entry)
            if found is None:
                raise DataError(f"{table.path}, {table.rows[n]}: {classes.complaint(entry)}")
            known[key] = found
        ids[n] = known[key]
    return ids
