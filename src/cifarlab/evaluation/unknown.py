"""Unknown: what the model says to images of none of its classes, and whether its confidence gives them away.

The confidence is the highest probability. Of a known and an unknown image the model should be surer of the known one.

Shape suffixes: N known images, U unknown images, K classes.

References:
    Hendrycks and Gimpel (2017), "A baseline for detecting misclassified and out-of-distribution examples in neural
    networks", ICLR, arXiv 1610.02136: the highest probability as the measure, AUROC.
    Liang, Li and Srikant (2018), "Enhancing the reliability of out-of-distribution image detection in neural networks",
    ICLR, arXiv 1706.02690: the false positive rate at a true positive rate of 95 %.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.differences import superiority_interval
from cifarlab.evaluation.arrays import arrays_of, confidences, images_of
from cifarlab.evaluation.intervals import CONFIDENCE, mean_figure, proportion, share_alone, share_text
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.evaluation.unknown_images import UnknownSet, cifar100_set, drawn_sets, folder_set
from cifarlab.phrases import listed
from cifarlab.plots.unknown import Sample, confidence_figure, samples_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cifarlab.inference import Classifier

_KEPT_PER_CENT = 95
_SAMPLES = 8
_KNOWN = "known images"
_NOTE = (
    "Noise and flat colours are easy to draw and rarely met; only images such as those the model will meet tell how it "
    "will do there. Name a folder of them with --unknown."
)
_NOTE_SAME = "The threshold was chosen on the images it is judged on: it keeps 95 % of these by choice."
_CAPTIONS = {
    "unknown_confidence": "Line: 5 % to 95 % of the images; bar: the middle half; dot: the median. What lies left of "
    "the dashed line is rejected.",
    "unknown_samples": "Images of each kind with the model's answer and its confidence; bold and red where the answer "
    "is not rejected.",
}
_NOTE_CIFAR100 = (
    "The classes of CIFAR-100 are none of CIFAR-10's, but some are close to them, such as the pickup truck. Of other "
    "data sets only the names of the classes are compared."
)


@dataclass(frozen=True)
class Answered:
    """Unknown images and what the model said.

    Attributes:
        images: The images.
        confidence_U: Highest probability, float64.
        answers_U: The class it was given to, int64.
    """

    images: UnknownSet
    confidence_U: NDArray[np.float64]
    answers_U: NDArray[np.int64]


def unknown_section(subject: Subject) -> Section:
    """Show the model images of none of its classes, and see how confident it is.

    The model answers as it is shipped: in fp32, with test-time views where it is uncertain, if the run has views.

    Args:
        subject: With the model; options.unknown names a folder of images or is empty.

    Returns:
        For each kind of images AUROC, false positive rate, mean confidence, and the share that the threshold rejects.

    Raises:
        DataError: If the folder is missing or holds no image that can be read.
    """
    classifier = subject.classifier
    if classifier is None:
        return Section(skipped="the model itself is needed, and only answers are at hand; evaluate the run")
    known_N = confidences(arrays_of(subject.judged, subject.split, len(subject.class_names))[0])
    chosen_on = subject.judged if subject.val is None else subject.val
    where = subject.split if chosen_on is subject.judged else "val"
    threshold = keeping_threshold(confidences(arrays_of(chosen_on, where, len(subject.class_names))[0]))
    sets, notes = _gather(subject, classifier)
    answered = []
    for one in sets:
        subject.notify(f"unknown images: {one.title}, {len(one.images_NCHW):,}")
        logits_UK = classifier.logits(one.images_NCHW).double().numpy()
        answered.append(Answered(one, confidences(logits_UK), logits_UK.argmax(1)))
    kept = proportion(int((known_N >= threshold).sum()), len(known_N))
    figures = {
        "threshold": threshold,
        "threshold_chosen_on": where,
        "known": {"mean_confidence": mean_figure(known_N), "kept": kept},
        "sets": {one.images.name: set_figures(known_N, one.confidence_U, threshold) for one in answered},
    }
    if where == subject.split:
        notes.append(_NOTE_SAME)
    return Section(
        findings=_sentences(figures, answered, subject.split),
        figures=figures,
        tables={"unknown": _table(figures, answered, subject.class_names)},
        plots=_plots(known_N, threshold, answered, subject.class_names),
        notes=tuple(notes),
        captions=_CAPTIONS,
    )


def keeping_threshold(confidence_N: NDArray[np.float64], kept_per_cent: int = _KEPT_PER_CENT) -> float:
    """Return the highest threshold at which at least so many per cent of the images are as confident or more."""
    kept = -(-kept_per_cent * len(confidence_N) // 100)
    return float(np.sort(confidence_N)[::-1][kept - 1])


def set_figures(known_N: NDArray[np.float64], unknown_U: NDArray[np.float64], threshold: float) -> dict[str, Any]:
    """Return how well confidence tells unknown images from known ones.

    Args:
        known_N: Confidence in known images, at least one.
        unknown_U: Confidence in unknown ones, at least one.
        threshold: Below it an image is rejected.
    """
    from sklearn.metrics import roc_auc_score

    is_known = np.concatenate([np.ones(len(known_N)), np.zeros(len(unknown_U))])
    auroc = float(roc_auc_score(is_known, np.concatenate([known_N, unknown_U])))
    taken = unknown_U >= keeping_threshold(known_N)
    return {
        "auroc": {
            "value": auroc,
            "interval": list(superiority_interval(auroc, len(known_N), len(unknown_U))),
            "method": "newcombe",
            "confidence": CONFIDENCE,
        },
        "fpr_at_95_tpr": proportion(int(taken.sum()), len(unknown_U)),
        "mean_confidence": mean_figure(unknown_U),
        "rejected": proportion(int((unknown_U < threshold).sum()), len(unknown_U)),
    }


def _gather(subject: Subject, classifier: Classifier) -> tuple[list[UnknownSet], list[str]]:
    options, notes = subject.options, []
    sets = drawn_sets(classifier.image_size, options.seed)
    cifar100, note = cifar100_set(subject.class_names, options.seed)
    notes.append(note)
    if cifar100 is not None:
        sets.append(cifar100)
        notes.append(_NOTE_CIFAR100)
    if options.unknown:
        own, note = folder_set(
            Path(options.unknown).expanduser(),
            image_size=classifier.image_size,
            resize=classifier.resize,
            seed=options.seed,
        )
        if own.title in (_KNOWN, *(one.title for one in sets)):  # figures and plots go by it
            own = dataclasses.replace(own, title=f"folder {own.title}")
        sets.append(own)
        notes.append(note)
    else:
        notes.append(_NOTE)
    return sets, [note for note in notes if note]


def _sentences(figures: dict[str, Any], answered: Sequence[Answered], split: str) -> tuple[str, ...]:
    found = {one.images.title: figures["sets"][one.images.name] for one in answered}
    hardest = min(found, key=lambda title: float(found[title]["auroc"]["value"]))
    shares = [f"{share_alone(one['rejected']['value'], 0)} of {title}" for title, one in found.items()]
    rejected = listed(shares, most=9)
    kept = figures["known"]["kept"]
    on = "the same images" if figures["threshold_chosen_on"] == split else "validation images"
    sentences = [
        f"Answers with a confidence below {share_alone(figures['threshold'])} can be rejected: that threshold, chosen "
        f"on {on} to keep 95 % of them, keeps {share_text(kept)} of {images_of(split, kept['images'])} and rejects "
        f"{rejected}.",
        f"Hardest to tell from images it knows: {hardest}. Of a known and such an image it is surer of the known one "
        f"in {share_text(found[hardest]['auroc'])} of cases (AUROC).",
    ]
    missed = [title for title, one in found.items() if one["rejected"]["value"] < 0.5]
    if missed:
        kinds = listed(missed, most=9)
        sentences.append(f"More than half of the images of {kinds} would be answered as one of the classes.")
    return tuple(sentences)


def _table(figures: dict[str, Any], answered: Sequence[Answered], class_names: Sequence[str]) -> Table:
    found = [figures["sets"][one.images.name] for one in answered]
    most = [int(np.bincount(one.answers_U).argmax()) for one in answered]
    columns: list[tuple[str, str, list[Any]]] = [
        ("images of", "text", [one.images.title for one in answered]),
        ("number", "count", [len(one.answers_U) for one in answered]),
        ("rejected", "fraction", [one["rejected"]["value"] for one in found]),
        ("95 % interval", "interval", [one["rejected"]["interval"] for one in found]),
        ("AUROC", "fraction", [one["auroc"]["value"] for one in found]),
        ("AUROC, low", "fraction", [one["auroc"]["interval"][0] for one in found]),
        ("AUROC, high", "fraction", [one["auroc"]["interval"][1] for one in found]),
        ("FPR at 95 % TPR", "fraction", [one["fpr_at_95_tpr"]["value"] for one in found]),
        ("mean confidence", "fraction", [one["mean_confidence"]["value"] for one in found]),
        ("most frequent answer", "text", [class_names[k] for k in most]),
        ("its share", "fraction", [float((one.answers_U == k).mean()) for one, k in zip(answered, most, strict=True)]),
    ]
    header, kinds, values = zip(*columns, strict=True)
    return Table("Images of none of the classes", header, list(zip(*values, strict=True)), kinds)


def _plots(
    known_N: NDArray[np.float64], threshold: float, answered: Sequence[Answered], class_names: Sequence[str]
) -> dict[str, Figure]:
    samples = {
        one.images.title: [
            Sample(image, class_names[answer], float(share), rejected=bool(share < threshold))
            for image, answer, share in zip(
                one.images.images_NCHW[:_SAMPLES], one.answers_U, one.confidence_U, strict=False
            )
        ]
        for one in answered
    }
    confidence = {_KNOWN: known_N} | {one.images.title: one.confidence_U for one in answered}
    return {
        "unknown_confidence": confidence_figure(confidence, threshold, 1 / len(class_names)),
        "unknown_samples": samples_figure(samples),
    }
