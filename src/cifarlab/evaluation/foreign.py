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
from cifarlab.evaluation.arrays import no_better_than_chance
from cifarlab.evaluation.foreign_files import read_answers, read_labels
from cifarlab.evaluation.scores import confusion_counts
from cifarlab.evaluation.section import Scored
from cifarlab.phrases import per_cent
from cifarlab.predictions_file import Classes, vocabulary
from cifarlab.predictions_file.columns import as_number

_SUM_TOLERANCE = 0.01  # of a row of probabilities: half precision and four decimals of a hundred classes stay within it
_ROUNDING = 1e-3  # of the sum of a row; more is noted, and scaled away
_LARGEST = float(np.finfo(np.float32).max)  # logit; differences of far larger ones would overflow
_LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
_FEWEST = 20  # images; of fewer, chance alone can look like any of the mistakes that are looked for
_MANY_TWICE = 0.05  # share of the images


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


def read_answers_file(path: Path | str, labels: Path | str = "", flag: str = "--labels") -> ForeignAnswers:
    """Read logits or probabilities of N images and K classes with the true classes.

    Rows that are not negative and sum to 1 are probabilities, and are kept as their logarithms; zeros among them count
    as the smallest probability above zero in the file, at most 1.2e-7. All else is logits, but what looks like anything
    else is refused, or noted: per cent, shares that do not sum to 1, an index or labels among the answers, classes or
    images in another order, answers given twice.

    Args:
        path: .npz with 'logits' or 'probabilities' (and 'labels', 'class_names'), .npy of N x K, or .csv with a column
            a class (and 'label').
        labels: .npy, .npz or .csv of the true classes, ids from 0 or names; empty where they stand in ``path``.
        flag: By which a user names ``labels``.

    Raises:
        UsageError: If nothing says what is true.
        DataError: If a file cannot be read, or its numbers cannot be answers; one line that says what to do.
    """
    path, place = Path(path), Path(labels or path)
    raw = read_answers(path)
    said = read_labels(place, raw.files) if labels else raw.labels
    if said is None:
        raise UsageError(f"{path} holds no labels; name a file of the true classes, such as {flag} labels.npy")
    said = _column(said)
    values_NK = _matrix(path, raw.values, len(said) if np.ndim(said) else 0)
    _require_answers_alone(path, values_NK)
    labels_N = _class_ids(place, said, values_NK.shape[1], raw.names)
    if labels and raw.labels is not None:
        own_N = _class_ids(path, raw.labels, values_NK.shape[1], raw.names)
        if not np.array_equal(own_N, labels_N):
            raise DataError(f"{path} holds labels that differ from those of {place}; leave out the wrong ones")
    _require_counted_from_zero(place, values_NK, labels_N)
    notes: list[str] = []
    kind = _kind(path, values_NK, raw.called, notes)
    probabilities_NK = None
    if kind == "probabilities":
        probabilities_NK = torch.from_numpy(_scaled(values_NK, notes))
        values_NK = _logarithms(values_NK, labels_N, notes)
    else:
        _note_twice(values_NK, notes)
    _note_order(values_NK, labels_N, notes)
    scored = Scored(_tensor(values_NK), torch.from_numpy(labels_N), probabilities_NK=probabilities_NK)
    return ForeignAnswers(scored, raw.names, kind, tuple(notes))


def _matrix(path: Path, values: NDArray[Any], num_labels: int) -> NDArray[np.float64]:
    """Return answers as float64, N x K, after making sure that they are numbers of so many images."""
    shape = " x ".join(map(str, values.shape))
    if values.dtype.kind not in "iuf" or values.ndim != 2 or values.shape[1] < 2:
        several = "; of several models give one at a time" if values.ndim == 3 else ""
        single = values.ndim == 1 or values.shape[1:] == (1,)
        raise DataError(
            f"{path} holds {shape or 'one'} of type {values.dtype}; N x K numbers are needed, a row an image and a "
            f"column a class{several}{'; of two classes give both, 1 - p and p' if single else ''}"
        )
    values_NK = values.astype(np.float64)
    good_N = (np.abs(values_NK) <= _LARGEST).all(1)
    if not good_N.all():
        raise DataError(
            f"{path}: {int((~good_N).sum()):,} of {len(values):,} answers hold NaN, infinity, a number beyond "
            f"{_LARGEST:.1e} or what is no number, the first that of image {int(good_N.argmin())} (counted from 0); "
            "give numbers such as 0.5"
        )
    if len(values) != num_labels:
        if values.shape[1] == num_labels:
            raise DataError(
                f"{path} holds {shape} numbers for {num_labels:,} labels: it lies on its side; transpose it"
            )
        header = " (its first line may be a header of numbers)" if len(values) == num_labels + 1 else ""
        images = f"{len(values):,} images{header}"
        raise DataError(f"{path} holds answers to {images}, but there are {num_labels:,} labels; give one for each")
    if not num_labels:
        raise DataError(f"{path} holds no answers; give one of an image at least")
    return values_NK


def _require_answers_alone(path: Path, values_NK: NDArray[np.float64]) -> None:
    """Raise DataError if one column is of whole numbers and others are not: an index, or the labels, stands among them.

    A column that holds no more than 0 and 1 can be of probabilities.
    """
    whole_K = (values_NK == np.rint(values_NK)).all(0)
    odd_K = whole_K & (np.ptp(values_NK, axis=0) > 1)
    if len(values_NK) < _FEWEST or whole_K.all() or not odd_K.any():
        return
    k = int(odd_K.argmax())
    raise DataError(
        f"{path}: column {k} (counted from 0) holds whole numbers from {values_NK[:, k].min():.0f} to "
        f"{values_NK[:, k].max():.0f} as labels or an index do, and others do not; leave it out of the answers"
    )


def _column(entries: Any) -> NDArray[Any]:
    """Return labels as an array; a single column or row, as some programs save them, becomes a list of its numbers."""
    array = np.asarray(entries)
    return array.ravel() if array.ndim == 2 and 1 in array.shape else array


def _class_ids(path: Path, entries: Any, num_classes: int, names: tuple[str, ...] | None) -> NDArray[np.int64]:
    """Return true classes as ids from 0."""
    array = _column(entries)
    if array.ndim != 1 or array.dtype.kind not in "biufUO":
        shape = " x ".join(map(str, array.shape))
        raise DataError(f"{path} holds labels of type {array.dtype}, {shape}; give the class id of each image")
    said = array.tolist()
    numbers = [as_number(entry) for entry in said]
    wrong = [n for n, number in enumerate(numbers) if number is None or not number.is_integer()]
    if wrong and (array.dtype.kind in "biuf" or 2 * len(wrong) < len(said)):
        raise DataError(
            f"{path}, entry {wrong[0]}: {repr(said[wrong[0]])[:60]} is no class id; give whole numbers from 0"
        )
    if wrong:
        return _ids_of_names(path, said, num_classes, names)
    known = [number for number in numbers if number is not None]
    low, high = min(known), max(known)
    if low >= 1 and high == num_classes:
        raise DataError(
            f"{path}: labels run from {low:.12g} to {high:.12g}; count classes from 0, so subtract 1 from each"
        )
    if low < 0 or high >= num_classes:
        raise DataError(
            f"{path}: labels run from {low:.12g} to {high:.12g}, but the {num_classes} columns are classes 0 to "
            f"{num_classes - 1}"
        )
    return np.array(known).astype(np.int64)


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
    if len(labels_N) < _FEWEST or labels_N.min() < 1:
        return
    given_N = values_NK.argmax(1)
    right, lowered = float((given_N == labels_N).mean()), float((given_N == labels_N - 1).mean())
    if lowered > right + 0.1 and lowered > 2 * right:
        raise DataError(
            f"{path}: labels seem to count classes from 1, for {per_cent(right, 0)} of the answers are right as they "
            f"are, and {per_cent(lowered, 0)} with each lowered by one; count from 0"
        )


def _kind(path: Path, values_NK: NDArray[np.float64], called: str, notes: list[str]) -> str:
    """Return 'logits' or 'probabilities', by the numbers themselves; what their name says otherwise is noted.

    Raises:
        DataError: If they are called probabilities and are none, are per cent or counts, or cannot well be either.
    """
    with np.errstate(over="ignore"):
        sums_N = values_NK.sum(1)
    smallest, largest = float(values_NK.min()), float(values_NK.max())
    if smallest >= -1e-6 and (np.abs(sums_N - 1) <= _SUM_TOLERANCE).all():
        if called == "logits":
            notes.append("The answers are called logits, but every row sums to 1, so they are taken for probabilities.")
        return "probabilities"
    if smallest >= 0 and abs(float(np.median(sums_N)) - 100) <= 100 * _SUM_TOLERANCE:
        raise DataError(f"{path}: rows sum to 100; give probabilities as fractions, so divide by 100")
    if smallest >= 0 and largest > 1 and _alike(sums_N):
        raise DataError(
            f"{path}: no number is below 0, and rows sum to {np.median(sums_N):.4g} throughout, as counts of votes and "
            "probabilities in whole numbers do; give fractions, so divide each row by its sum"
        )
    n = int(np.argmax(np.abs(sums_N - 1)))
    fault = f"the row of image {n} sums to {sums_N[n]:.4g}, not to 1"
    if called == "probabilities":
        if smallest < 0:
            fault = f"one of them is {smallest:.4g}, below 0"
        raise DataError(f"{path}: these are no probabilities, for {fault}; if they are logits, call them 'logits'")
    if smallest >= 0 and largest <= 1:
        if called != "logits":
            raise DataError(
                f"{path}: all numbers lie between 0 and 1 as probabilities do, but {fault}; give all classes and more "
                "decimals, or if they are logits, an .npz in which they are called 'logits'"
            )
        notes.append("All logits lie between 0 and 1, which is rare: shares of any kind would be misread as logits.")
    return "logits"


def _alike(sums_N: NDArray[np.float64]) -> bool:
    """Return whether nearly all rows have the same sum but for rounding, as rows of logits have not."""
    middle = float(np.median(sums_N))
    if len(sums_N) < _FEWEST or not np.isfinite(middle):
        return False
    return float((np.abs(sums_N - middle) <= 0.02 * middle).mean()) >= 0.95


def _scaled(probabilities_NK: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """Return probabilities of 0 to 1 as they are, or scaled and noted where a row's sum is off by more than rounding.

    Scaling rows makes equal probabilities differ, if by a hair, so it is not done for nothing.
    """
    positive_NK = np.maximum(probabilities_NK, 0)
    sums_N1 = positive_NK.sum(1, keepdims=True)
    off = float(np.abs(sums_N1 - 1).max())
    if off > _ROUNDING:
        notes.append(f"Rows of probabilities sum to 1 within {per_cent(off, 1)}; they are scaled to sum to 1.")
        positive_NK /= sums_N1
    return np.minimum(positive_NK, 1, out=positive_NK)


def _logarithms(
    probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64], notes: list[str]
) -> NDArray[np.float64]:
    """Return logarithms of probabilities whose rows are made to sum to 1; zeros are replaced, and noted."""
    positive_NK = np.maximum(probabilities_NK, 0)
    zero_NK = positive_NK == 0
    if (zero_NK.sum(1) == zero_NK.shape[1] - 1).all():
        notes.append("Every answer gives all to one class, so figures that need its confidence say nothing.")
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


def _note_twice(logits_NK: NDArray[np.float64], notes: list[str]) -> None:
    """Note logits that several images share: they may be those of one image, given more than once."""
    again = len(logits_NK) - len({hash(row.tobytes()) for row in logits_NK})
    if len(logits_NK) >= _FEWEST and again > _MANY_TWICE * len(logits_NK):
        notes.append(
            f"{again:,} answers repeat another to the last digit: if images are given more than once, intervals are "
            "too narrow."
        )


def _note_order(values_NK: NDArray[np.float64], labels_N: NDArray[np.int64], notes: list[str]) -> None:
    """Note answers that fit the labels far better with classes exchanged, or no better than dealt out at random."""
    from scipy.optimize import linear_sum_assignment

    num_images, num_classes = values_NK.shape
    given_N = values_NK.argmax(1)
    confusion_KK = confusion_counts(labels_N, given_N, num_classes)
    right = confusion_KK.trace() / num_images
    _, column_K = linear_sum_assignment(confusion_KK, maximize=True)
    moved_K = np.flatnonzero((column_K != np.arange(num_classes)) & (confusion_KK.sum(1) > 0))
    gained, kept = confusion_KK[moved_K, column_K[moved_K]].sum(), confusion_KK[moved_K, moved_K].sum()
    if gained >= _FEWEST and gained > 3 * kept and 2 * gained > confusion_KK[moved_K].sum():
        k = moved_K[confusion_KK[moved_K, column_K[moved_K]].argmax()]
        notes.append(
            f"{per_cent(right, 1)} of the answers are right, but {per_cent(right + (gained - kept) / num_images, 1)} "
            f"would be with columns exchanged, such as {column_K[k]} for {k} (counted from 0): the classes may be in "
            "another order in the answers than in the labels."
        )
        return
    if num_images >= _FEWEST and no_better_than_chance(given_N, labels_N, num_classes):
        notes.append(
            f"{per_cent(right, 1)} of the answers are right, no more than by chance: images or classes may be in "
            "another order in the answers than in the labels."
        )


def _tensor(values_NK: NDArray[np.float64]) -> torch.Tensor:
    """Return float32 where that holds the very numbers, as of logits in single or half precision; else float64."""
    exact = torch.from_numpy(values_NK)
    rounded = exact.float()
    return rounded if torch.equal(rounded.double(), exact) else exact
