"""Which column of a file means what: its predictions, its true labels, and which image each entry is of.

A column is believed by its name, and only where no other column could mean the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError


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
        index: Which image each entry is of; None where it has no such column.
        files: The file each entry's image is of; None where it has no such column.
        notes: What was assumed.
    """

    path: Path
    rows: Sequence[str]
    predictions: Sequence[Any] | None = None
    scores: NDArray[np.float64] | None = None
    score_names: tuple[str, ...] = ()
    labels: Sequence[Any] | None = None
    index: Sequence[Any] | None = None
    files: Sequence[Any] | None = None
    notes: tuple[str, ...] = ()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# all without case, spaces and punctuation
_ROW = frozenset({"", "unnamed0"})  # a row number, as pandas writes it
_INDEX = _names("index idx id ids i image images imageid imageindex sample samples row number") | _ROW
_FILE = _names("file files filename filenames filepath path paths name names imagename imagefile imagepath img fname")
_PREDICTION = _names(
    "prediction predictions predicted predicts pred preds predictedclass predictedclasses predictedlabel "
    "predictedlabels predictedid predictedids predclass predclasses predlabel predlabels predid ypred ypreds yhat "
    "answer answers output outputs argmax guess guesses modelprediction modelpredictions"
)
_CLASS = _names("class classes classid classids classname")  # the prediction, unless true labels stand beside it
_LABEL = _names(
    "label labels target targets truth true truelabel truelabels trueclass trueclasses ytrue y groundtruth gt gtlabel "
    "gtlabels gtclass actual actuals actuallabel actualclass expected expectedlabel expectedclass reference"
)
_SCORES = _names("score scores logit logits probability probabilities prob probs proba softmax")
KNOWN = (_INDEX - {""}) | _PREDICTION | _CLASS | _LABEL
_CALL = "call the column of predictions 'prediction', and that of true classes, if there is one, 'label'"


def plain(name: Any) -> str:
    """Return a column's name without case, spaces and punctuation: y_pred, Y pred and yPred are one."""
    return "".join(character for character in str(name).casefold() if character.isalnum())


def names_columns(line: Sequence[str]) -> bool:
    """Return whether the first line of a file names columns, by a name that is known.

    A single column may hold class names, of which one may be 'path'.
    """
    return bool({plain(name) for name in line} & (KNOWN if len(line) == 1 else KNOWN | _FILE))


def of_one_length(path: Path, lists: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the lists of an object that have an entry for every prediction; others mean something else.

    Raises:
        DataError: If an index, a label or a file is missing for some predictions.
    """
    by_rank = (_PREDICTION, _SCORES, _CLASS, _LABEL)
    known = [lists[key] for names in by_rank for key in lists if plain(key) in names]
    size = len(known[0]) if known else max(map(len, lists.values()))
    for key, entries in lists.items():
        if len(entries) != size and plain(key) in _INDEX | _LABEL | _FILE:
            raise DataError(f"{path} holds {size:,} predictions, but {len(entries):,} {key}")
    return {key: entries for key, entries in lists.items() if len(entries) == size}


def as_number(entry: Any) -> float | None:
    """Return a number that may be written as text; None for anything else, NaN and infinity included."""
    try:
        number = float(entry)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class Columns:
    """Named columns of a file, and which of them have a role."""

    def __init__(self, path: Path, names: Sequence[str], columns: Sequence[Sequence[Any]]) -> None:
        self.path, self.names, self.columns = path, names, columns
        self._plain = [plain(name) for name in names]

    def take(self, role: str, accepted: Sequence[int]) -> int | None:
        """Return the one column of several that could have a role, if any; columns that say the same count as one.

        Raises:
            DataError: If two could have it that differ.
        """
        if not accepted:
            return None
        first = accepted[0]
        for other in accepted[1:]:
            if self.columns[first] != self.columns[other]:
                both = f"{self.names[first]!r} and {self.names[other]!r}"
                raise DataError(
                    f"{self.path}: the columns {both} could both be the {role}; remove or rename one: {_CALL}"
                )
        return first

    def named(self, names: frozenset[str]) -> list[int]:
        """Return the columns with one of these names."""
        return [k for k, name in enumerate(self._plain) if name in names]

    def of_files(self) -> list[int]:
        """Return the columns that hold files: by their names, or called as an index but holding text throughout."""
        found = self.named(_FILE) + [k for k in self.named(_INDEX - _ROW) if all(map(_is_text, self.columns[k]))]
        return sorted(k for k in found if any(entry not in ("", None) for entry in self.columns[k]))


def _is_text(entry: Any) -> bool:
    return isinstance(entry, str) and as_number(entry) is None


def make_table(path: Path, rows: Sequence[str], names: Sequence[str], columns: Sequence[Sequence[Any]]) -> Table:
    """Make a table of named columns of equal length, each entry a number, a text, or a list of scores.

    Raises:
        DataError: If it is not clear which column is the prediction, the label or the index, or scores are no matrix.
    """
    found = Columns(path, names, columns)
    files = found.of_files()
    index = found.take("index", [k for k in found.named(_INDEX - _ROW) if k not in files] or found.named(_ROW))
    label, prediction = _answers(found)
    notes = []
    roles = {*found.named(_INDEX | _FILE | _LABEL), *files}
    rest = [k for k in range(len(names)) if k not in roles]
    common: dict[str, Any] = {
        role: None if k is None else columns[k]
        for role, k in (("labels", label), ("index", index), ("files", found.take("name of the image", files)))
    }
    if prediction is None and label is not None and not rest:  # as in a submission to a contest: id,label
        note = "no column of predictions, so that of labels is taken for it"
        return Table(path, rows, predictions=columns[label], notes=(note,), **{**common, "labels": None})
    if prediction is None and len(rest) == 1:
        prediction = rest[0]
        scored = isinstance(columns[prediction][0], list) and found.named(_SCORES) == rest
        if label is not None and not scored:
            raise DataError(f"{path}: the column {str(names[prediction])!r} is not known to be of predictions; {_CALL}")
        if not scored:
            notes.append(f"the column {str(names[prediction])!r} is taken for the predictions")
    if prediction is not None and not isinstance(columns[prediction][0], list):
        return Table(path, rows, predictions=columns[prediction], notes=tuple(notes), **common)
    if prediction is not None:
        return Table(path, rows, scores=matrix(path, rows, columns[prediction]), notes=tuple(notes), **common)
    if len(rest) > 1:
        scores = matrix(path, rows, [list(entries) for entries in zip(*(columns[k] for k in rest), strict=True)])
        return Table(path, rows, scores=scores, score_names=tuple(str(names[k]) for k in rest), **common)
    raise DataError(f"{path} has no column of predictions; {_CALL}")


def _answers(found: Columns) -> tuple[int | None, int | None]:
    """Return the columns of true labels and of predictions, where there are such."""
    label = found.take("true label", found.named(_LABEL))
    sure, perhaps = found.named(_PREDICTION), found.named(_CLASS)
    if label is not None and not sure and perhaps:
        name, other = found.names[perhaps[0]], found.names[label]
        raise DataError(f"{found.path}: the column {name!r} beside {other!r} could be true or predicted; {_CALL}")
    # beside labels and predictions a class is one of the further columns
    candidates = sure if label is not None else sorted(sure + perhaps)
    return label, found.take("prediction", candidates)


def matrix(path: Path, rows: Sequence[str], entries: Sequence[Any]) -> NDArray[np.float64]:
    """Return rows of numbers as float64, N x K; what is no number becomes NaN.

    Raises:
        DataError: If the rows are not of one length.
    """
    width = len(entries[0])
    for row, entry in zip(rows, entries, strict=True):
        if not isinstance(entry, list) or len(entry) != width:
            raise DataError(f"{path}, {row}: {width} scores are needed, as in the others")
    return np.array([[math.nan if (x := as_number(item)) is None else x for item in entry] for entry in entries])
