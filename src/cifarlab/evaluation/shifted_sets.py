"""Shifted sets: accuracy on CIFAR-10.1, images gathered years later as those of CIFAR-10 were.

References:
    Recht, Roelofs, Schmidt and Shankar (2018), "Do CIFAR-10 Classifiers Generalize to CIFAR-10?", arXiv 1806.00451.
    Newcombe (1998), "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 17, 873-890, method 10.
"""

from __future__ import annotations

from typing import Any

from cifarlab.data.cifar import CIFAR10
from cifarlab.data.cifar10_1 import VERSIONS, load_cifar10_1
from cifarlab.evaluation.arrays import arrays_of, images_of
from cifarlab.evaluation.intervals import difference, proportion, share_text
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.phrases import points
from cifarlab.plots.robustness import sets_figure

_FETCH = "CIFAR-10.1 is not here; bring it with: cifarlab fetch cifar10.1"
_OTHER_CLASSES = "CIFAR-10.1 has the classes of CIFAR-10, and this model has others"
_NO_MODEL = "the model is needed, and only answers are at hand; evaluate the run"
_NOTE = (
    "Answers are those of the run, with its test-time views, on both sets. The sets share no image, so the interval of "
    "the drop is that of two independent shares; most images of v4 are in v6 too, so the two say much the same."
)
_CAPTION = "Accuracy with its 95 % interval."


def shifted_sets_section(subject: Subject) -> Section:
    """Measure accuracy on CIFAR-10.1, v4 and v6, and how far it falls short of that on the split.

    Args:
        subject: With the model; its classes those of CIFAR-10, in their order.

    Returns:
        Accuracy on each version, and the drop; skipped where no version is here.

    Raises:
        IntegrityError: If a file is damaged.
    """
    if subject.classifier is None:
        return Section(skipped=_NO_MODEL)
    if subject.class_names != CIFAR10.class_names:
        return Section(skipped=_OTHER_CLASSES)
    logits_NK, labels_N = arrays_of(subject.judged, subject.split, len(subject.class_names))
    judged = proportion(int((logits_NK.argmax(1) == labels_N).sum()), len(labels_N))
    sets: dict[str, dict[str, Any]] = {}
    for version in VERSIONS:
        images = load_cifar10_1(version)
        if images is None:
            continue
        subject.notify(f"CIFAR-10.1 {version.name}: {len(images):,} images")
        answers_N = subject.classifier.logits(images.images_NCHW).argmax(1)
        accuracy = proportion(int((answers_N == images.labels_N).sum()), len(images))
        sets[version.name] = {"accuracy": accuracy, "drop": difference(judged, accuracy)}
    if not sets:
        return Section(skipped=_FETCH)
    figures = {"judged": judged, "sets": sets}
    rows = [(subject.split, judged), *((f"CIFAR-10.1 {name}", one["accuracy"]) for name, one in sets.items())]
    title = "Accuracy on newly gathered images"
    return Section(
        findings=_findings(figures, subject.split),
        figures=figures,
        tables={"shifted_sets": _table(figures, subject.split)},
        plots={"shifted_sets": sets_figure([(name, one["value"], one["interval"]) for name, one in rows], title)},
        notes=(_NOTE, *(f"{_FETCH} ({one.name})" for one in VERSIONS if one.name not in sets)),
        captions={"shifted_sets": _CAPTION},
    )


def _findings(figures: dict[str, Any], split: str) -> tuple[str, ...]:
    judged = figures["judged"]
    lines = []
    for name, one in figures["sets"].items():
        drop = one["drop"]
        low, high = drop["interval"]
        if drop["value"] >= 0:
            change = f"{points(drop['value'], (low, high))} less"
        else:
            change = f"{points(-drop['value'], (-high, -low))} more"
        lines.append(
            f"On the {images_of('given', one['accuracy']['images'])} of CIFAR-10.1 {name}, gathered anew years later, "
            f"{share_text(one['accuracy'])} are right: {change} than on "
            f"{images_of(split, judged['images'])} ({share_text(judged)})."
        )
    return tuple(lines)


def _table(figures: dict[str, Any], split: str) -> Table:
    judged = figures["judged"]
    rows = [[split, judged["images"], judged["count"], judged["value"], judged["interval"], None, None]]
    for name, one in figures["sets"].items():
        accuracy, drop = one["accuracy"], one["drop"]
        row = [f"CIFAR-10.1 {name}", accuracy["images"], accuracy["count"], accuracy["value"], accuracy["interval"]]
        rows.append([*row, drop["value"], drop["interval"]])
    return Table(
        title="Accuracy on newly gathered images",
        header=("images of", "images", "right", "accuracy", "95 % interval", "drop", "95 % interval of the drop"),
        rows=rows,
        kinds=("text", "count", "count", "fraction", "interval", "points", "interval"),
    )
