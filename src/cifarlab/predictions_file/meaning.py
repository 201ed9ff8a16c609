"""From the entries of a file to class ids in the order of a split. Shape suffixes: N images, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError
from cifarlab.predictions_file.classes import Classes
from cifarlab.predictions_file.columns import Table, as_number
from cifarlab.predictions_file.images import match_names


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


def resolve(
    table: Table, classes: Classes, num_images: int, split: str, image_names: Sequence[str] = ()
) -> ForeignPredictions:
    """Bring a file's predictions into the order of a split, as class ids.

    Args:
        table: What the file holds.
        classes: What its classes may be.
        num_images: N, the size of the split.
        split: Name of the split, for messages.
        image_names: The file of each image, N; empty where images are no files.

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
    order_N, more = _order(table, num_images, image_names)
    notes += more
    if table.scores is None:
        predicted_N = _ids(table, table.predictions or (), classes)
    else:
        predicted_N, more = _from_scores(table, classes)
        notes += more
    labels_N = None if table.labels is None else _ids(table, table.labels, classes)[order_N]
    return ForeignPredictions(predicted_N[order_N], labels_N, tuple(notes))


def _order(table: Table, num_images: int, image_names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Return which entry each image of the split has, and what was assumed for that."""
    if table.index is not None:
        order_N, one_based = _by_index(table, table.index, num_images)
        return order_N, ["images are counted from 1"] if one_based else []
    if table.files is not None and image_names:
        return match_names(table, image_names), []
    if table.files is not None and table.labels is None:
        raise DataError(
            f"{table.path} tells its images by file, but the images compared here have no file names; add a column "
            "index with the position of each image in the split, from 0"
        )
    return np.arange(num_images), ["no index, so the predictions are taken to be in the order of the split"]


def _by_index(table: Table, index: Sequence[Any], num_images: int) -> tuple[NDArray[np.int64], bool]:
    """Return which entry each image of the split has, and whether the file's index begins at 1."""
    numbers = []
    for row, entry in zip(table.rows, index, strict=True):
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


def _from_scores(table: Table, classes: Classes) -> tuple[NDArray[np.int64], list[str]]:
    """Return the class with the highest score of every entry, and notes; columns are matched by their names."""
    scores_NK = table.scores
    assert scores_NK is not None
    if scores_NK.shape[1] != len(classes.names):
        raise DataError(
            f"{table.path} has {scores_NK.shape[1]} scores an image, but there are {len(classes.names)} classes; "
            "if it gives classes, name their column prediction"
        )
    if not np.isfinite(scores_NK).all():
        row = table.rows[int(np.argmin(np.isfinite(scores_NK).all(1)))]
        raise DataError(f"{table.path}, {row}: a score is missing, NaN or infinite")
    ids = [classes.id_of(name) for name in table.score_names]
    if not any(found is not None for found in ids):
        ids = [classes.named_by(name) for name in table.score_names]
    if not any(found is not None for found in ids):
        if not classes.ordered:
            raise DataError(
                f"{table.path} has scores, but nothing tells which column is of which class; "
                "name the columns after the classes"
            )
        return scores_NK.argmax(1), ["scores without class names, taken in label order"]
    for name, found in zip(table.score_names, ids, strict=True):
        if found is None or ids.count(found) > 1:
            raise DataError(
                f"{table.path}: a column of scores is named {name!r}; name each class once, or none of them"
            )
    return np.array(ids, dtype=np.int64)[scores_NK.argmax(1)], []


def _ids(table: Table, entries: Sequence[Any], classes: Classes) -> NDArray[np.int64]:
    """Return entries, ids or names, as class ids; every distinct entry is looked up once."""
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
