"""What mistakes cost: the matrix a user gives, and what an image costs by two ways of deciding.

Shape suffixes: N images, K classes, M kinds of images, B resamples.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError
from cifarlab.evaluation.intervals import bootstrap, bootstrap_figure, proportion

_LARGEST_BYTES = 2**26
_LARGEST_COST = 1e15  # sums over images stay far from overflow


def read_costs(path: Path, class_names: Sequence[str]) -> NDArray[np.float64]:
    """Read what each mistake costs.

    The file is CSV: a header with the names of the answers after one free cell, then a line for each true class with
    its name and the costs. Lines and columns may be in any order; they are brought into that of the classes.

    Args:
        path: The file.
        class_names: K names in label order.

    Returns:
        float64, K x K, not negative; rows are the true class, columns the given one.

    Raises:
        DataError: If the file cannot be read, its names are not the classes, or a cost is no number from 0 to 1e15; one
            line.
    """
    lines = _lines(path)
    num_classes = len(class_names)
    form = f"give a header and {num_classes} lines, each a class name and {num_classes} costs, commas between them"
    header = lines[0][1][1:]
    if len(header) != num_classes or len(lines) != num_classes + 1:
        raise DataError(
            f"{path} holds {len(lines) - 1} lines of {len(header)} costs, but there are {num_classes} classes; {form}"
        )
    columns = _positions(path, "header", header, class_names)
    rows = _positions(path, "first column", [entries[0] for _, entries in lines[1:]], class_names)
    costs_KK = np.empty((num_classes, num_classes))
    for row, (number, entries) in zip(rows, lines[1:], strict=True):
        if len(entries) != num_classes + 1:
            raise DataError(f"{path}, line {number}: {len(entries) - 1} costs, but {num_classes} are needed; {form}")
        for column, entry in zip(columns, entries[1:], strict=True):
            costs_KK[row, column] = _cost(path, number, entry)
    return costs_KK


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the cells of every line that is not empty, with its number."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise DataError(f"{path} is larger than 64 MiB, which no table of costs is")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; name a CSV file of costs") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8; save the costs as CSV in UTF-8") from error
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        cells = [(reader.line_num, [entry.strip() for entry in entries]) for entries in reader]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error
    lines = [(line, entries) for line, entries in cells if any(entries)]
    if not lines:
        raise DataError(f"{path} is empty; give a header and a line of costs for each class")
    return lines


def _positions(path: Path, place: str, names: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """Return which class each name is; every class must be named once."""
    known = {name: k for k, name in enumerate(class_names)}
    for name in names:
        if name not in known:
            missing = [one for one in class_names if one not in names]
            raise DataError(f"{path}: {name!r} in the {place} is no class; {missing[0]!r} is missing there")
        if names.count(name) > 1:
            raise DataError(f"{path}: the class {name!r} stands twice in the {place}; name every class once")
    return [known[name] for name in names]


def _cost(path: Path, line: int, entry: str) -> float:
    try:
        cost = float(entry)
    except ValueError:
        cost = np.nan
    if not 0 <= cost <= _LARGEST_COST:
        raise DataError(f"{path}, line {line}: {entry!r} is no cost; give a number from 0 to {_LARGEST_COST:g}")
    return cost


def least_cost_answers(probabilities_NK: NDArray[np.float64], costs_KK: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each image the answer whose expected cost is least if the probabilities are right.

    Args:
        probabilities_NK: Rows sum to 1.
        costs_KK: Rows are the true class, columns the answer.

    Returns:
        int64, N; of answers that cost the same the first.
    """
    answers_N: NDArray[np.int64] = (probabilities_NK @ costs_KK).argmin(1).astype(np.int64)
    return answers_N


def cost_figures(
    probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64], costs_KK: NDArray[np.float64], seed: int
) -> dict[str, Any]:
    """Return what an image costs on average, by the most probable answer and by that of least expected cost.

    Args:
        probabilities_NK: Rows sum to 1.
        labels_N: int64.
        costs_KK: Rows are the true class, columns the answer.
        seed: Of the resamples of images.

    Returns:
        most_probable, least_cost and saving (the first less the second), each with its interval; least_cost_accuracy;
        num_changed, images whose answer differs between the two.
    """
    probable_N = probabilities_NK.argmax(1).astype(np.int64)
    cheapest_N = least_cost_answers(probabilities_NK, costs_KK)
    kinds_M3, counts_M = np.unique(np.stack([labels_N, probable_N, cheapest_N], 1), axis=0, return_counts=True)
    labels_M, probable_M, cheapest_M = kinds_M3.T
    ways_M3 = np.stack([costs_KK[labels_M, probable_M], costs_KK[labels_M, cheapest_M]], 1)
    ways_M3 = np.concatenate([ways_M3, ways_M3[:, :1] - ways_M3[:, 1:]], 1)
    total = len(labels_N)
    ends = bootstrap(counts_M, lambda draws_BM: draws_BM @ ways_M3 / total, seed, "expected cost")
    values = counts_M @ ways_M3 / total
    names = ("most_probable", "least_cost", "saving")
    figures = {name: bootstrap_figure(value, end) for name, value, end in zip(names, values, ends, strict=True)}
    return {
        **figures,
        "least_cost_accuracy": proportion(int((cheapest_N == labels_N).sum()), total),
        "num_changed": int((cheapest_N != probable_N).sum()),
    }
