"""Near duplicates: images of the split of which the model has seen a version in training, and accuracy without them.

Shape suffix: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.data.audit import NEAR_THRESHOLD, exact_duplicates, near_duplicates
from cifarlab.data.imageset import ImageSet
from cifarlab.evaluation.arrays import arrays_of, images_of
from cifarlab.evaluation.intervals import difference, proportion, share_text
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.phrases import per_cent, points
from cifarlab.plots.exploration import Pair, plot_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAIRS_SHOWN = 18
_LONGEST_NAME = 14
_CAPTION = (
    "Left the training image, right the image the model is judged on: the most similar pairs, no training image twice. "
    "Red where their labels differ."
)
_LIMITS = (
    "Near duplicates are found by the project's own search (docs/metrics.md). It misses mirrored and strongly cropped "
    "copies, and a few of the pairs it names are only alike."
)


@dataclass(frozen=True)
class Copy:
    """An image of the split and the training image that is most like it.

    Attributes:
        judged: Position in the split.
        train: Position among the training images.
        similarity: Correlation of details after registration; 1 where the pixels are equal.
        exact: Whether the pixels are equal.
    """

    judged: int
    train: int
    similarity: float
    exact: bool


def duplicates_section(subject: Subject) -> Section:
    """Look for near duplicates of the split among the training images, and judge the model without them.

    Args:
        subject: With the images of the split, and the training images.

    Returns:
        The share of copies, accuracy on all images, without copies and on copies only, differences, all pairs.
    """
    judged = subject.judged.images
    if judged is None or subject.train is None:
        missing = "the images" if judged is None else "the training images"
        return Section(skipped=f"near duplicates need {missing}, which are not at hand; evaluate a run beside its data")
    logits_NK, labels_N = arrays_of(subject.judged, subject.split, len(subject.class_names))
    correct_N = logits_NK.argmax(1) == labels_N
    train = subject.train()
    subject.notify(f"looking for near duplicates of {len(judged):,} images among {len(train):,} training images")
    copies, complete = find_copies(train, judged)
    differing = sum(int(train.labels_N[one.train]) != int(judged.labels_N[one.judged]) for one in copies)
    figures = _figures(copies, correct_N) | {"num_train": len(train), "label_differs": differing, "complete": complete}
    tables, drawn = {"accuracy_without_copies": _accuracy_table(figures)}, {}
    notes = [] if complete else ["There were too many similar images to look at all pairs; some may be missing."]
    if copies:
        notes.append(_LIMITS)
        tables["near_duplicates"] = _pairs_table(copies, train, judged, correct_N)
        drawn["near_duplicates"] = _pairs_figure(copies, train, judged, subject.split)
    return Section(
        findings=(_sentence(figures, subject.split),),
        figures=figures,
        tables=tables,
        plots=drawn,
        notes=tuple(notes),
        captions={"near_duplicates": _CAPTION},
    )


def find_copies(train: ImageSet, judged: ImageSet) -> tuple[list[Copy], bool]:
    """Find the images of a split that have an equal or nearly equal picture among the training images.

    Args:
        train: Images of one size.
        judged: Images of the same size.

    Returns:
        Each such image once, with the training image most like it, equal ones first, then the most similar; and False
        if there were too many candidates to look at all pairs.
    """
    pictures = torch.cat([train.images_NCHW, judged.images_NCHW])
    best: dict[int, Copy] = {}
    for group in exact_duplicates(pictures):  # ascending, so training images come first
        if group[0] < len(train):
            copies = (position - len(train) for position in group if position >= len(train))
            best |= {position: Copy(position, group[0], 1.0, exact=True) for position in copies}
    near = near_duplicates(pictures, across=len(train))
    for (first, second), similarity in zip(near.pairs_P2.tolist(), near.similarity_P.tolist(), strict=True):
        position = second - len(train)  # most similar first, so the first pair that an image is met in is its best
        best.setdefault(position, Copy(position, first, round(similarity, 4), exact=False))
    return sorted(best.values(), key=lambda one: (not one.exact, -one.similarity, one.judged)), near.complete


def _figures(copies: Sequence[Copy], correct_N: NDArray[np.bool_]) -> dict[str, Any]:
    has_copy_N = np.zeros(len(correct_N), dtype=bool)
    has_copy_N[[one.judged for one in copies]] = True
    only = proportion(int(correct_N[has_copy_N].sum()), len(copies))
    without = proportion(int(correct_N[~has_copy_N].sum()), len(correct_N) - len(copies))
    both = 0 < len(copies) < len(correct_N)
    return {
        "threshold": NEAR_THRESHOLD,
        "copies": proportion(len(copies), len(correct_N)),
        "exact_copies": sum(one.exact for one in copies),
        "accuracy": proportion(int(correct_N.sum()), len(correct_N)),
        "accuracy_without_copies": without,
        "accuracy_on_copies": only,
        "copies_less_rest": difference(only, without) if both else None,
        # all images are both groups together, so all - without = share of copies x (copies - without), exactly
        "all_less_without": difference(only, without, len(copies) / len(correct_N)) if both else None,
    }


def _sentence(figures: dict[str, Any], split: str) -> str:
    copies, gain = figures["copies"], figures["all_less_without"]
    all_images = images_of(split, copies["images"])
    among = f"the {figures['num_train']:,} training images"
    if not copies["count"]:
        return f"Of {all_images} none has a near duplicate among {among}."
    if gain is None:
        return f"Of {all_images} every one has a near duplicate among {among}: nothing is known of new images."
    low, high = gain["interval"]
    total = f"the accuracy of all images, {share_text(figures['accuracy'])}"
    if low > 0:
        verdict = f"They raise {total}, by {points(gain['value'], (low, high))}."
    elif high < 0:
        verdict = f"They lower {total}, by {points(-gain['value'], (-high, -low))}."
    else:
        verdict = f"An effect on {total}, is not seen: {points(gain['value'], (low, high), signed=True)}."
    found = f"{copies['count']:,} ({per_cent(copies['value'], 1)}) {'has' if copies['count'] == 1 else 'have'}"
    without = share_text(figures["accuracy_without_copies"])
    return f"Of {all_images} {found} a near duplicate among {among}; without them accuracy is {without}. {verdict}"


def _accuracy_table(figures: dict[str, Any]) -> Table:
    groups = {
        "all": "accuracy",
        "without near duplicates": "accuracy_without_copies",
        "near duplicates only": "accuracy_on_copies",
    }
    rows = [
        (name, figures[key]["images"], figures[key]["value"], figures[key]["interval"]) for name, key in groups.items()
    ]
    return Table(
        title="Accuracy with and without near duplicates of training images",
        header=("images", "number", "accuracy", "95 % interval"),
        rows=rows,
        kinds=("text", "count", "fraction", "interval"),
    )


def _pairs_table(copies: Sequence[Copy], train: ImageSet, judged: ImageSet, correct_N: NDArray[np.bool_]) -> Table:
    def place(images: ImageSet, position: int) -> str:
        return images.names[position] if images.names else str(position)

    def label(images: ImageSet, position: int) -> str:
        return images.class_names[int(images.labels_N[position])]

    rows = [
        (
            place(judged, one.judged),
            place(train, one.train),
            one.similarity,
            label(judged, one.judged),
            label(train, one.train),
            "yes" if correct_N[one.judged] else "no",
        )
        for one in copies
    ]
    return Table(
        title="Images with a near duplicate among the training images, the most similar first",
        header=("image", "training image", "similarity", "label", "training label", "answer is right"),
        rows=rows,
        kinds=("text", "text", "number", "text", "text", "text"),
    )


def _pairs_figure(copies: Sequence[Copy], train: ImageSet, judged: ImageSet, split: str) -> Figure:
    shown: list[Pair] = []
    seen: set[int] = set()
    for one in copies:
        if one.train in seen or len(shown) == _PAIRS_SHOWN:  # thirty copies of one car would hide everything else
            continue
        seen.add(one.train)
        labels = int(train.labels_N[one.train]), int(judged.labels_N[one.judged])
        names = [train.class_names[label][:_LONGEST_NAME] for label in dict.fromkeys(labels)]
        caption = f"{' | '.join(names)}\ntrain {one.train} | {split} {one.judged}"
        pictures = train.images_NCHW[one.train], judged.images_NCHW[one.judged]
        shown.append(Pair(*pictures, caption, alarming=labels[0] != labels[1]))
    return plot_pairs(shown)
