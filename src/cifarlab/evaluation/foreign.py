"""Answers of others: logits or probabilities in a file, with the true classes, checked before they are judged.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.errors import DataError, UsageError
from cifarlab.evaluation.foreign_files import read_answers, read_labels
from cifarlab.evaluation.section import Scored
from cifarlab.phrases import per_cent
from cifarlab.predictions_file import Classes, vocabulary
from cifarlab.predictions_file.columns import as_number

_SUM_TOLERANCE = 0.01  # of a row of probabilities: half precision and four decimals of a hundred classes stay within it
_LEAST_PROBABILITY = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class ForeignAnswers:
    """What a file of answers holds.

    Attributes:
        scored: Logits, or logarithms of probabilities, and labels.
        class_names: K names in label order, where the file names them.
        kind: 'logits' or 'probabilities', as the file has them.
        notes: What was assumed or changed.
    """

    scored: Scored
    class_names: tuple[str, ...] | None
    kind: str
    notes: tuple[str, ...]


def load_answers_file(path: Path | str, labels: Path | str = "") -> tuple[Scored, tuple[str, ...] | None]:
    """Return answers and class names of a file; see :func:`read_answers_file`, which tells what was assumed too."""
    found = read_answers_file(path, labels)
    return found.scored, found.class_names


def read_answers_file(path: Path | str, labels: Path | str = "") -> ForeignAnswers:
    """Read logits or probabilities of N images and K classes with the true classes.

    Rows that are not negative and sum to 1 are probabilities, and are kept as their logarithms; zeros among them count
    as the smallest probability above zero in the file, at most 1.2e-7. All else is logits.

    Args:
        path: .npz with 'logits' or 'probabilities' (and 'labels', 'class_names'), .npy of N x K, or .csv with a column
            a class (and 'label').
        labels: .npy, .npz or .csv of the true classes, ids from 0 or names; empty where they stand in ``path``.

    Raises:
        UsageError: If nothing says what is true.
        DataError: If a file cannot be read, or its numbers cannot be answers; one line that says what to do.
    """
    path, place = Path(path), Path(labels or path)
    raw = read_answers(path)
    said = read_labels(place) if labels else raw.labels
    if said is None:
        raise UsageError(f"{path} holds no labels; name a file of the true classes, such as --labels labels.npy")
    values_NK = _matrix(path, raw.values, len(said) if np.ndim(said) else 0)
    labels_N = _class_ids(place, said, values_NK.shape[1], raw.names)
    if labels and raw.labels is not None:
        own_N = _class_ids(path, raw.labels, values_NK.shape[1], raw.names)
        if not np.array_equal(own_N, labels_N):
            raise DataError(f"{path} holds labels that differ from those of {place}; leave out the wrong ones")
    _require_counted_from_zero(place, values_NK, labels_N)
    notes: list[str] = []
    kind = _kind(path, values_NK, raw.called)
    if kind == "probabilities":
        if raw.called == "logits":
            notes.append("The answers are called logits, but every row sums to 1, so they are taken for probabilities.")
        values_NK = _logarithms(values_NK, labels_N, notes)
    _note_chance(values_NK, labels_N, notes)
    return ForeignAnswers(Scored(_tensor(values_NK), torch.from_numpy(labels_N)), raw.names, kind, tuple(notes))


def _matrix(path: Path, values: NDArray[Any], num_labels: int) -> NDArray[np.float64]:
    """Return answers as float64, N x K, after making sure that they are numbers of so many images."""
    shape = " x ".join(map(str, values.shape))
    if values.dtype.kind not in "iuf" or values.ndim != 2 or values.shape[1] < 2:
        several = "; of several models give one at a time" if values.ndim == 3 else ""
        raise DataError(
            f"{path} holds {shape or 'one'} of type {values.dtype}; N x K numbers are needed, a row an image and a "
            f"column a class{several}"
        )
    if len(values) != num_labels:
        if values.shape[1] == num_labels:
            raise DataError(
                f"{path} holds {shape} numbers for {num_labels:,} labels: it lies on its side; transpose it"
            )
        raise DataError(
            f"{path} holds answers to {len(values):,} images, but there are {num_labels:,} labels; give one for each"
        )
    if not num_labels:
        raise DataError(f"{path} holds no answers; give one of an image at least")
    values_NK = values.astype(np.float64)
    finite_N = np.isfinite(values_NK).all(1)
    if not finite_N.all():
        raise DataError(
            f"{path}: {int((~finite_N).sum()):,} of {num_labels:,} answers hold NaN or infinity, the first that of "
            f"image {int(finite_N.argmin())} (counted from 0); give finite numbers"
        )
    return values_NK


def _class_ids(path: Path, entries: Any, num_classes: int, names: tuple[str, ...] | None) -> NDArray[np.int64]:
    """Return true classes as ids from 0."""
    array = np.asarray(entries)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iufUO":
        shape = " x ".join(map(str, array.shape))
        raise DataError(f"{path} holds labels of type {array.dtype}, {shape}; give the class id of each image")
    said = array.tolist()
    numbers = [as_number(entry) for entry in said]
    wrong = [n for n, number in enumerate(numbers) if number is None or not number.is_integer()]
    if wrong and (array.dtype.kind in "iuf" or 2 * len(wrong) < len(said)):
        raise DataError(
            f"{path}, entry {wrong[0]}: {repr(said[wrong[0]])[:60]} is no class id; give whole numbers from 0"
        )
    if wrong:
        return _ids_of_names(path, said, num_classes, names)
    ids_N = np.array(numbers).astype(np.int64)
    low, high = int(ids_N.min()), int(ids_N.max())
    if low >= 1 and high == num_classes:
        raise DataError(f"{path}: labels run from {low} to {high}; count classes from 0, so subtract 1 from each")
    if low < 0 or high >= num_classes:
        raise DataError(
            f"{path}: labels run from {low} to {high}, but the {num_classes} columns are classes 0 to {num_classes - 1}"
        )
    return ids_N


def _ids_of_names(
    path: Path, said: Sequence[Any], num_classes: int, names: tuple[str, ...] | None
) -> NDArray[np.int64]:
    classes = vocabulary(said) if names is None else Classes(names)
    if not classes.ordered or len(classes.names) != num_classes:
        raise DataError(f"{path} gives labels as names, but nothing tells which column is of which; give ids from 0")
    ids = [classes.id_of(entry) for entry in said]
    if None in ids:
        n = ids.index(None)
        raise DataError(f"{path}, entry {n}: {classes.complaint(said[n])}")
    return np.array(ids, dtype=np.int64)


def _require_counted_from_zero(path: Path, values_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> None:
    """Raise DataError if no label is 0 and the answers fit far better with every label lowered by one."""
    if labels_N.min() < 1:
        return
    given_N = values_NK.argmax(1)
    right, lowered = float((given_N == labels_N).mean()), float((given_N == labels_N - 1).mean())
    if lowered > right + 0.1 and lowered > 2 * right:
        raise DataError(
            f"{path}: labels seem to count classes from 1, for {per_cent(right, 0)} of the answers are right as they "
            f"are, and {per_cent(lowered, 0)} with each lowered by one; count from 0"
        )


def _kind(path: Path, values_NK: NDArray[np.float64], called: str) -> str:
    """Return 'logits' or 'probabilities', by the numbers themselves.

    Raises:
        DataError: If they are called probabilities and are none, or are per cent.
    """
    sums_N = values_NK.sum(1)
    smallest = float(values_NK.min())
    if smallest >= -1e-6 and (np.abs(sums_N - 1) <= _SUM_TOLERANCE).all():
        return "probabilities"
    if smallest >= 0 and (np.abs(sums_N - 100) <= 100 * _SUM_TOLERANCE).all():
        raise DataError(f"{path}: every row sums to 100; give probabilities as fractions, so divide by 100")
    if called == "probabilities":
        n = int(np.argmax(np.abs(sums_N - 1)))
        fault = f"the row of image {n} sums to {sums_N[n]:.4g}, not to 1"
        if smallest < 0:
            fault = f"one of them is {smallest:.4g}, below 0"
        raise DataError(f"{path}: these are no probabilities, for {fault}; if they are logits, call them 'logits'")
    return "logits"


def _logarithms(
    probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64], notes: list[str]
) -> NDArray[np.float64]:
    """Return logarithms of probabilities whose rows are made to sum to 1; zeros are replaced, and noted."""
    positive_NK = np.maximum(probabilities_NK, 0)
    off = float(np.abs(positive_NK.sum(1) - 1).max())
    if off > 1e-3:
        notes.append(f"Rows of probabilities sum to 1 within {per_cent(off, 1)}; they are scaled to sum to 1.")
    zero_NK = positive_NK == 0
    if zero_NK.any():
        least = min(float(positive_NK[~zero_NK].min()), _LEAST_PROBABILITY)
        true_class = int(zero_NK[np.arange(len(labels_N)), labels_N].sum())
        positive_NK = np.where(zero_NK, least, positive_NK)
        notes.append(
            f"{int(zero_NK.sum()):,} probabilities are exactly 0 and count as {least:.1e}, as their logarithm would be "
            f"infinite; {true_class:,} of them are those of the true class, on which the log loss then depends."
        )
    logarithms_NK: NDArray[np.float64] = np.log(positive_NK / positive_NK.sum(1, keepdims=True))
    return logarithms_NK


def _note_chance(values_NK: NDArray[np.float64], labels_N: NDArray[np.int64], notes: list[str]) -> None:
    """Note answers that are no better than dealt out at random: they may be in another order than the labels."""
    num_images, num_classes = values_NK.shape
    given_N = values_NK.argmax(1)
    said_K, true_K = (np.bincount(one, minlength=num_classes) / num_images for one in (given_N, labels_N))
    chance = float(said_K @ true_K)
    right = float((given_N == labels_N).mean())
    if right <= chance + 3 * (max(chance * (1 - chance), 0) / num_images) ** 0.5 and right < 1:
        notes.append(
            f"{per_cent(right, 1)} of the answers are right, no more than by chance: images or classes may be in "
            "another order in the answers than in the labels."
        )


def _tensor(values_NK: NDArray[np.float64]) -> torch.Tensor:
    """Return float32, or float64 where rounding would change an answer."""
    exact = torch.from_numpy(values_NK)
    rounded = exact.float()
    same = bool(torch.isfinite(rounded).all()) and torch.equal(rounded.argmax(1), exact.argmax(1))
    return rounded if same else exact
