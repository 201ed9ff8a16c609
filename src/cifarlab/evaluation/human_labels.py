"""Human labels: how people answer to the same images, as a measure of how hard they are and of how good the model is.

Shape suffixes: N images, K classes, G groups of images.

References:
    Peterson, Battleday, Griffiths and Russakovsky (2019), "Human uncertainty makes classification more robust", ICCV,
    arXiv 1908.07086: CIFAR-10H, about 50 answers to each of CIFAR-10's 10,000 test images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError
from cifarlab.evaluation.arrays import arrays_of, images_of, no_better_than_chance
from cifarlab.evaluation.intervals import mean_figure, proportion, share_text
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.phrases import count, points
from cifarlab.plots.quality import agreement_figure
from cifarlab.predictions_file import Classes, read_table

_AGREED = 0.9
_EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, _AGREED, 1.0)
_GROUPS = ("below 50 %", "50 to 60 %", "60 to 70 %", "70 to 80 %", "80 to 90 %", "90 % or more", "all")
_ROUNDING = 1e-6  # of probabilities that were written with few digits
_EXPECTED = (
    "CIFAR-10H's are of CIFAR-10's 10,000 test images in their official order, so evaluate a run on CIFAR-10 with "
    "--split test"
)


@dataclass(frozen=True)
class HumanLabels:
    """How people answered.

    Attributes:
        shares_NK: Share of the people who gave each class; float64, rows sum to 1.
        people_N: How many people answered; None where the file gives shares only.
    """

    shares_NK: NDArray[np.float64]
    people_N: NDArray[np.float64] | None


def human_labels_section(subject: Subject) -> Section:
    """Compare labels, people and model.

    Args:
        subject: options.human_labels names the file of people's answers, one row an image in the split's order.

    Returns:
        Accuracy of people and model, their agreement, cross-entropy, accuracy by how far people agree.

    Raises:
        DataError: If the file cannot be read, or its rows do not go with the images.
    """
    path = subject.options.human_labels
    if not path:
        return Section(
            skipped="no human labels were given; name people's answers, such as cifar10h-counts.npy of CIFAR-10H, "
            "with --human-labels"
        )
    logits_NK, labels_N = arrays_of(subject.judged, subject.split, len(subject.class_names))
    people = read_human_labels(Path(path), subject.class_names)
    if misfit := number_misfit(path, people, subject.split, len(labels_N)):
        return Section(skipped=misfit)
    _require_same_order(path, people, labels_N)
    figures = human_figures(people, logits_NK, labels_N)
    table = _groups_table(people, logits_NK.argmax(1), labels_N)
    bars = [(value, *ends) for _, _, value, ends, _ in table.rows]
    names, counts, persons = ([row[column] for row in table.rows] for column in (0, 1, 4))
    return Section(
        findings=_sentences(figures),
        figures=figures,
        tables={"human_agreement": table},
        plots={"human_agreement": agreement_figure(names, counts, bars, persons)},
        notes=("People's answers are those of one experiment: other people, or more time to look, would give others.",),
        captions={"human_agreement": "Bars: 95 % intervals of the model's accuracy."},
    )


def read_human_labels(path: Path, class_names: tuple[str, ...]) -> HumanLabels:
    """Read counts or shares of people's answers, N x K.

    Args:
        path: ``.npy``, or ``.csv`` with one column a class: in label order, or in any below a line of class names.
        class_names: K names in label order.

    Raises:
        DataError: If it cannot be read, has another number of classes, or a row that is no answer; one line.
    """
    table = read_table(path)
    counts_NK = table.scores
    if counts_NK is None or counts_NK.shape[1] != len(class_names):
        found = "one column" if counts_NK is None else f"{counts_NK.shape[1]} columns"
        raise DataError(f"{path} has {found}; people's answers need one for each of {len(class_names)} classes")
    classes = Classes(class_names)
    found_ids = (classes.id_of(name) for name in table.score_names)
    ids = [-1 if found is None else found for found in found_ids]
    if max(ids, default=-1) >= 0:  # else the columns have no names, and are in label order
        if sorted(ids) != list(range(len(class_names))):
            raise DataError(f"{path}: the columns do not name each class once: {', '.join(table.score_names[:12])}")
        counts_NK = counts_NK[:, np.argsort(np.array(ids))]
    if table.index is not None and [str(entry) for entry in table.index] != [str(n) for n in range(len(counts_NK))]:
        raise DataError(f"{path}: the rows are not in the order of the images, 0 to {len(counts_NK) - 1}; sort them")
    totals_N = counts_NK.sum(1)
    with np.errstate(invalid="ignore"):
        good_N = (counts_NK >= 0).all(1) & (totals_N > 0) & np.isfinite(totals_N)
    if not good_N.all():
        row = table.rows[int(good_N.argmin())]
        raise DataError(f"{path}, {row}: numbers of answers must not be negative or missing, and one must be above 0")
    counted = bool((counts_NK == counts_NK.round()).all())
    return HumanLabels(counts_NK / totals_N[:, None], totals_N if counted else None)


def number_misfit(path: str, people: HumanLabels, split: str, num_images: int) -> str:
    """Say that people answered to another number of images than a split has; nothing where they did not."""
    if len(people.shares_NK) == num_images:
        return ""
    rows, images = count(len(people.shares_NK), "image"), images_of(split, num_images)
    return f"{path} holds people's answers to {rows}, but here are {images}; {_EXPECTED}"


def _require_same_order(path: str, people: HumanLabels, labels_N: NDArray[np.int64]) -> None:
    """Refuse answers that go with the labels no better than dealt out at random (three standard errors)."""
    answers_N, num_classes = people.shares_NK.argmax(1), people.shares_NK.shape[1]
    if no_better_than_chance(answers_N, labels_N, num_classes):
        agreement = float((answers_N == labels_N).mean())
        raise DataError(
            f"{path}: people's answers go with {100 * agreement:.0f} % of the labels, as they would by chance: they "
            f"are of other images, or in another order; {_EXPECTED}"
        )


def human_figures(people: HumanLabels, logits_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> dict[str, Any]:
    """Return every figure of people and model on the same images.

    Args:
        people: Their answers.
        logits_NK: The model's, finite.
        labels_N: The labels.
    """
    from scipy.special import log_softmax, xlogy

    rows_N, total = np.arange(len(labels_N)), len(labels_N)
    shares_NK, predicted_N = people.shares_NK, logits_NK.argmax(1)
    agreement_N = shares_NK.max(1)
    most_NK = shares_NK >= agreement_N[:, None] - _ROUNDING  # the most frequent answer, or several
    alone_N = most_NK.sum(1) == 1
    right_N = predicted_N == labels_N
    person_N = shares_NK[rows_N, labels_N]
    agreed_N = agreement_N >= _AGREED - _ROUNDING
    cross_N = -(shares_NK * log_softmax(logits_NK, axis=1)).sum(1)
    entropy_N = -xlogy(shares_NK, shares_NK).sum(1)
    return {
        "people_per_image": None if people.people_N is None else float(people.people_N.mean()),
        "ties": int((~alone_N).sum()),
        "majority_accuracy": proportion(int((most_NK[rows_N, labels_N] & alone_N).sum()), total),
        "person_accuracy": mean_figure(person_N, lowest=0, highest=1),
        "model_accuracy": proportion(int(right_N.sum()), total),
        "model_less_person": mean_figure(right_N - person_N),
        "model_gives_majority": proportion(int(most_NK[rows_N, predicted_N].sum()), total),
        "model_agrees_with_person": mean_figure(shares_NK[rows_N, predicted_N], lowest=0, highest=1),
        "cross_entropy_to_people": mean_figure(cross_N, lowest=0),
        "entropy_of_people": mean_figure(entropy_N, lowest=0),
        "divergence_from_people": mean_figure(cross_N - entropy_N, lowest=0),
        "accuracy_where_people_agree": proportion(int(right_N[agreed_N].sum()), int(agreed_N.sum())),
        "accuracy_where_people_differ": proportion(int(right_N[~agreed_N].sum()), int((~agreed_N).sum())),
    }


def _groups_table(people: HumanLabels, predicted_N: NDArray[np.int64], labels_N: NDArray[np.int64]) -> Table:
    """Return accuracy of model and person by how far people agree; groups without an image are left out."""
    agreement_N, person_N = people.shares_NK.max(1), people.shares_NK[np.arange(len(labels_N)), labels_N]
    group_N = np.searchsorted(_EDGES, agreement_N + _ROUNDING, side="right") - 1
    rows = []
    for group, name in enumerate(_GROUPS):
        in_N = group_N == group
        if in_N.any():
            model = proportion(int((predicted_N == labels_N)[in_N].sum()), int(in_N.sum()))
            rows.append((name, model["images"], model["value"], model["interval"], float(person_N[in_N].mean())))
    return Table(
        title="Accuracy by how many people give the most frequent answer",
        header=("people", "images", "accuracy of the model", "95 % interval", "accuracy of one person"),
        rows=rows,
        kinds=("text", "count", "fraction", "interval", "fraction"),
    )


def _sentences(figures: dict[str, Any]) -> tuple[str, ...]:
    gap = figures["model_less_person"]
    low, high = gap["interval"] or (-1.0, 1.0)  # without spread nothing is known
    if gap["interval"] is None:
        verdict = "not told apart from one person"
    elif low <= 0 <= high:
        verdict = f"not told apart from one person: {points(gap['value'], (low, high), signed=True)}"
    elif high < 0:
        verdict = f"{points(-gap['value'], (-high, -low))} below one person"
    else:
        verdict = f"{points(gap['value'], (low, high))} above one person"
    number = figures["people_per_image"]
    several = f"about {number:,.0f} people" if number is not None and number >= 1.5 else "people"
    agree, differ = figures["accuracy_where_people_agree"], figures["accuracy_where_people_differ"]
    parts = [
        f"where {words} ({count(part['images'], 'image')}), the model is right on {share_text(part)}"
        for part, words in ((agree, "nine in ten people or more agree"), (differ, "fewer agree"))
        if part["images"]
    ]
    second = "; ".join(parts)
    return (
        f"One person gives the label of {share_text(figures['person_accuracy'])} of the images, the most frequent "
        f"answer of {several} that of {share_text(figures['majority_accuracy'])}; the model, right on "
        f"{share_text(figures['model_accuracy'])}, is {verdict}.",
        f"{second[0].upper()}{second[1:]}.",
    )
