"""Label errors: labels that the model's answers speak against, for people to look at.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.data.imageset import ImageSet
from cifarlab.errors import MissingExtraError
from cifarlab.evaluation.arrays import arrays_of, images_of
from cifarlab.evaluation.intervals import proportion, share_text
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.phrases import per_cent
from cifarlab.plots.quality import suspects_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 24
_NOTES = (
    "A suspected label is one that the model contradicts with confidence. All of them are among the images it gets "
    "wrong, so leaving any out raises its accuracy by construction: accuracy without all of them is an upper bound, "
    "not a better model.",
    "People must look at a picture before its label is changed. Of 275 labels of CIFAR-10's test set that were "
    "suspected by this method, people found 54 wrong (Northcutt et al. 2021, arXiv 2103.14749).",
)
_CAPTION = "The labels the model gives the lowest probability, the lowest first. Red: the class it suggests instead."


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong.

    Attributes:
        index: Position in the split.
        given: The label.
        suggested: The class the model gives instead.
        score: Probability the model gives to the label; the lower, the more suspect.
        confidence: Probability it gives to the suggested class.
    """

    index: int
    given: int
    suggested: int
    score: float
    confidence: float


def label_errors_section(subject: Subject) -> Section:
    """Find labels that are probably wrong by confident learning, and say what accuracy would be without them.

    Args:
        subject: Its answers must be to images that the model was not trained on.

    Returns:
        Their number, the accuracy without them (an upper bound), all of them as a table, the most suspect as pictures.

    Raises:
        MissingExtraError: If cleanlab is not installed.
    """
    logits_NK, labels_N = arrays_of(subject.judged, subject.split, len(subject.class_names))
    if len(np.unique(labels_N)) < 2:
        return Section(skipped="label errors need images of two classes or more; add some of other classes")
    from scipy.special import softmax

    suspects = find_suspects(softmax(logits_NK, axis=1), labels_N)
    total, correct = len(labels_N), int((logits_NK.argmax(1) == labels_N).sum())
    figures = {
        "suspects": proportion(len(suspects), total),
        "accuracy": proportion(correct, total),
        # no suspect is among the images answered right
        "accuracy_without_suspects_at_most": proportion(correct, total - len(suspects)),
        "method": f"cleanlab {version('cleanlab')}, find_label_issues, prune_by_noise_rate",
    }
    notes = _NOTES if suspects else ()
    if subject.split == "given":
        notes = (*notes, "Whether the model was trained on these images is not known; if so, it learnt their errors.")
    return Section(
        findings=(_sentence(figures, subject.split),),
        figures=figures,
        tables={"label_suspects": _table(suspects, subject)} if suspects else {},
        plots=_plots(suspects, subject.judged.images),
        notes=notes,
        captions={"label_suspects": _CAPTION},
    )


def find_suspects(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> list[Suspect]:
    """Return the labels that are probably wrong, the most suspect first.

    Args:
        probabilities_NK: Of images the model was not trained on; rows sum to 1.
        labels_N: The given labels, of two classes at least; classes without an image do no harm.

    Raises:
        MissingExtraError: If cleanlab is not installed.

    References:
        Northcutt, Jiang and Chuang (2021), "Confident learning: estimating uncertainty in dataset labels", JAIR 70,
        1373-1411, arXiv 1911.00068.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise MissingExtraError("cleanlab", "audit") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a class has few images is seen in its support
        # one process: ten thousand images take a fraction of a second, starting others takes longer
        suspect_N = find_label_issues(labels_N, probabilities_NK, n_jobs=1)
    predicted_N = probabilities_NK.argmax(1)
    found = [
        Suspect(i, int(labels_N[i]), int(k), float(probabilities_NK[i, labels_N[i]]), float(probabilities_NK[i, k]))
        for i, k in ((int(i), predicted_N[i]) for i in np.flatnonzero(suspect_N))
    ]
    return sorted(found, key=lambda one: (one.score, one.index))


def _sentence(figures: dict[str, Any], split: str) -> str:
    found = figures["suspects"]
    of = f"Of the labels of {images_of(split, found['images'])}"
    if not found["count"]:
        return f"{of} none is suspected to be wrong."
    without = share_text(figures["accuracy_without_suspects_at_most"])
    return (
        f"{of} {found['count']:,} ({per_cent(found['value'])}) {'looks' if found['count'] == 1 else 'look'} wrong to "
        f"the model, and people should look at them; accuracy without those that people find wrong would lie between "
        f"{per_cent(figures['accuracy']['value'])}, if none is, and {without}, if all are."
    )


def _table(suspects: Sequence[Suspect], subject: Subject) -> Table:
    names, images = subject.class_names, subject.judged.images
    files = images.names if images is not None else ()
    columns = [
        ("image", "text", [one.index for one in suspects]),
        ("given label", "text", [names[one.given] for one in suspects]),
        ("suggested label", "text", [names[one.suggested] for one in suspects]),
        ("probability of the given label", "number", [one.score for one in suspects]),
        ("probability of the suggested label", "number", [one.confidence for one in suspects]),
    ]
    if files:
        columns.insert(1, ("file", "text", [files[one.index] for one in suspects]))
    header, kinds, values = zip(*columns, strict=True)
    return Table("Labels to look at, the most suspect first", header, list(zip(*values, strict=True)), kinds)


def _plots(suspects: Sequence[Suspect], images: ImageSet | None) -> dict[str, Figure]:
    if images is None or not suspects:
        return {}
    shown = suspects[:_SHOWN]
    pictures = images.images_NCHW[torch.tensor([one.index for one in shown])]
    names = images.class_names
    given, suggested = ([names[getattr(one, side)] for one in shown] for side in ("given", "suggested"))
    return {"label_suspects": suspects_figure(pictures, given, suggested, [one.confidence for one in shown])}
