"""Selective prediction: how right the model is if it may pass on the images it is least sure of.

An image is answered if its highest probability, as the model gives it and without a temperature, reaches a threshold.

Shape suffixes: N images, G groups of images of equal confidence, the surest first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.evaluation.arrays import arrays_of, images_of, judged_on_val, no_val, probabilities_of
from cifarlab.evaluation.intervals import proportion, share_alone, share_text
from cifarlab.evaluation.section import Scored, Section, Subject, Table
from cifarlab.stats import clopper_pearson_interval

_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_CURVE_POINTS = 100
_CONFIDENCE = 0.95
_STARTS = (0.2, 0.4, 0.6, 0.8, 1.0)  # shares of the validation images from which thresholds are lowered step by step
_LEVEL = (1 - _CONFIDENCE) / len(_STARTS)

_Groups = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def selective_section(subject: Subject) -> Section:
    """Trade coverage for accuracy, and find on val the threshold for the accuracy that is wanted.

    Args:
        subject: What is judged; options.wanted_accuracy is that of the answers that are kept.

    Raises:
        DataError: If an answer is NaN or infinite.
    """
    confidence_N, right_N = _confidences(subject.judged, subject.split, len(subject.class_names))
    groups, total = kept_by_threshold(confidence_N, right_N), len(right_N)
    steps = range(1, _CURVE_POINTS + 1)
    curve = [_point(groups, g, total) for g in sorted({_group_of(groups, n / _CURVE_POINTS) for n in steps})]
    areas = risk_areas(groups)
    threshold, notes = _threshold(subject, confidence_N, right_N)
    figures: dict[str, Any] = {
        "num_images": total,
        "accuracy": proportion(int(right_N.sum()), total),
        "curve": curve,
        "coverages": [{"wanted": c, **_point(groups, _group_of(groups, c), total)} for c in _COVERAGES],
        **areas,
        "threshold": threshold,
    }
    return Section(
        findings=tuple(_findings(subject, figures)),
        figures=figures,
        tables=_tables(figures),
        plots=_plots(subject, figures),
        notes=tuple(notes),
        captions={"coverage": "Left out first are the images whose highest probability is lowest."},
    )


def _confidences(scored: Scored, where: str, num_classes: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the highest probability of each answer, and whether it is right."""
    logits_NK, labels_N = arrays_of(scored, where, num_classes)
    return probabilities_of(scored, logits_NK).max(1), logits_NK.argmax(1) == labels_N


def kept_by_threshold(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> _Groups:
    """Return what is kept at every threshold that makes a difference; images of equal confidence stay together.

    Args:
        confidence_N: Highest probability of each answer.
        right_N: Whether it is right.

    Returns:
        Thresholds, falling, float64; how many images are kept at each, and how many of these are right, int64; all of
        length G. Images with the confidence of the threshold are kept.
    """
    order_N = np.argsort(-confidence_N, kind="stable")
    ordered_N = confidence_N[order_N]
    ends_G = np.flatnonzero(np.append(ordered_N[1:] < ordered_N[:-1], True))
    return ordered_N[ends_G], ends_G + 1, np.cumsum(right_N[order_N], dtype=np.int64)[ends_G]


def risk_areas(groups: _Groups) -> dict[str, float]:
    """Return the area under the curve of risk against coverage, and how much of it a better confidence could save.

    Risk is the share of the kept answers that is wrong; the area is its mean over keeping the surest 1, 2, …, N images.
    Among images of equal confidence any order is as likely, and the mean over these orders is taken.

    Args:
        groups: From :func:`kept_by_threshold`.

    Returns:
        aurc; aurc_best, of a confidence that puts all right answers first; excess_aurc, the difference.

    References:
        Geifman, Uziel and El-Yaniv (2019), "Bias-reduced uncertainty estimation for deep neural classifiers",
        arXiv 1805.08206.
    """
    _, kept_G, right_G = groups
    kept_N = np.arange(1, kept_G[-1] + 1)
    wrong_N = np.interp(kept_N, np.append(0, kept_G), np.append(0, kept_G - right_G))
    aurc = float((wrong_N / kept_N).mean())
    best = float((np.maximum(kept_N - right_G[-1], 0) / kept_N).mean())
    return {"aurc": aurc, "aurc_best": best, "excess_aurc": max(0.0, aurc - best)}


def choose_threshold(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_], wanted: float) -> int | None:
    """Find the lowest threshold at which the answers that are kept are shown to be as accurate as wanted.

    Shown means: the lower bound of Clopper and Pearson reaches ``wanted``. Were all thresholds tried and the best
    taken, that would hold too seldom. So thresholds are lowered step by step from five starts fixed beforehand (the
    surest 20, 40, 60, 80 and 100 % of the images), each at confidence 99 %, each up to the first that fails. With a
    probability of at least 95 % the threshold keeps what it promises on new images of the same kind.

    Args:
        confidence_N: Highest probability of each answer, on the validation split.
        right_N: Whether it is right.
        wanted: Accuracy of the answers that are kept, in (0, 1).

    Returns:
        Position of the threshold in :func:`kept_by_threshold`; None where none can be shown to reach it.

    References:
        Geifman and El-Yaniv (2017), "Selective classification for deep neural networks", arXiv 1705.08500 (a threshold
        with a guaranteed risk); Angelopoulos et al. (2021), "Learn then test", arXiv 2110.01052 (fixed sequences with
        several starts).
    """
    from scipy.stats import binom

    groups = kept_by_threshold(confidence_N, right_N)
    _, kept_G, right_G = groups
    # the lower bound reaches the wanted accuracy where so many right answers would be that unlikely at the wanted one
    failed_G = np.flatnonzero(binom.sf(right_G - 1, kept_G, wanted) > _LEVEL)
    best = -1
    for start in (_group_of(groups, share) for share in _STARTS):
        next_failure = int(np.searchsorted(failed_G, start))
        end = int(failed_G[next_failure]) if next_failure < len(failed_G) else len(kept_G)
        if end > start:
            best = max(best, end - 1)
    return None if best < 0 else best


def _group_of(groups: _Groups, coverage: float) -> int:
    """Return the first group with which so great a share of the images is kept."""
    kept_G = groups[1]
    return int(np.searchsorted(kept_G, math.ceil(coverage * int(kept_G[-1]) - 1e-9)))


def _point(groups: _Groups, group: int, total: int) -> dict[str, Any]:
    threshold, kept, right = (column[group] for column in groups)
    accuracy = proportion(int(right), int(kept))
    return {
        "threshold": float(threshold),
        "coverage": int(kept) / total,
        "num_images": int(kept),
        "num_right": int(right),
        "accuracy": accuracy["value"],
        "interval": accuracy["interval"],
    }


def _threshold(
    subject: Subject, confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]
) -> tuple[dict[str, Any], list[str]]:
    """Return the threshold for the wanted accuracy with its figures on val and on the judged split, and notes."""
    wanted = subject.options.wanted_accuracy
    known: dict[str, Any] = {"wanted_accuracy": wanted, "value": None, "val": None, "judged": None}
    if subject.val is None:
        return known, [f"No threshold, for {no_val(subject.split)}."]
    same = judged_on_val(subject)
    val_confidence_N, val_right_N = (
        (confidence_N, right_N) if same else _confidences(subject.val, "val", len(subject.class_names))
    )
    chosen = choose_threshold(val_confidence_N, val_right_N, wanted)
    if chosen is None:
        needed = math.ceil(math.log(_LEVEL) / math.log(wanted))
        few = "" if len(val_right_N) >= needed else f"; even without a mistake that takes {needed:,} of them"
        return known, [
            f"No threshold on the {images_of('val', len(val_right_N))} is shown to give an accuracy of "
            f"{_wanted(wanted)}{few}; want less, or use more validation images."
        ]
    groups = kept_by_threshold(val_confidence_N, val_right_N)
    point = _point(groups, chosen, len(val_right_N))
    bound, _ = clopper_pearson_interval(point["num_right"], point["num_images"], 1 - 2 * _LEVEL)
    kept_N = confidence_N >= point["threshold"]
    num_kept = int(kept_N.sum())
    judged = {
        "coverage": proportion(num_kept, len(kept_N)),
        "accuracy": proportion(int((kept_N & right_N).sum()), num_kept),
    }
    found = {"value": point["threshold"], "val": {**point, "lower_bound": bound}, "judged": judged}
    notes = [
        f"The threshold is the lowest whose accuracy on val is shown to reach {_wanted(wanted)}: the lower bound of "
        f"Clopper and Pearson does, at 99 % from each of five starts, so that at least 95 in 100 such choices hold."
    ]
    if same:
        notes.append(
            "It was chosen on the images judged here, so their accuracy beyond it is a little too good, for which the "
            "bound allows. On test it is checked with images that had no part in the choice."
        )
    return {**known, **found, "same_images": same}, notes


def _findings(subject: Subject, figures: Mapping[str, Any]) -> list[str]:
    whole, most = figures["accuracy"], figures["coverages"][2]
    images = images_of(subject.split, figures["num_images"])
    kept = {"value": most["accuracy"], "interval": most["interval"]}
    lines = [
        f"If it answers only the {share_alone(most['coverage'], 0)} of {images} it is surest of, {share_text(kept)} "
        f"of these answers are right, against {share_alone(whole['value'])} of all."
    ]
    if most["coverage"] == 1:
        lines = [f"Of {images} no tenth can be left out by confidence: they are too few, or too many are equally sure."]
    threshold = figures["threshold"]
    if threshold["value"] is not None:
        lines.append(_threshold_sentence(threshold, images))
    elif subject.val is not None:
        wanted = _wanted(threshold["wanted_accuracy"])
        lines.append(f"No threshold on its confidence is shown to make it right {wanted} of the time.")
    return lines


def _threshold_sentence(threshold: Mapping[str, Any], images: str) -> str:
    coverage, accuracy = threshold["judged"]["coverage"], threshold["judged"]["accuracy"]
    wanted, value = threshold["wanted_accuracy"], threshold["value"]
    line = (
        f"To be right {_wanted(wanted)} of the time it must be at least {share_alone(value)} sure, as chosen on val: "
    )
    if accuracy["value"] is None:
        return f"{line}of {images} it is that sure of none."
    line += (
        f"then {share_text(coverage)} of {images} get an answer, and {share_text(accuracy)} of these answers are right"
    )
    broken = accuracy["interval"][1] < wanted
    return f"{line}{', fewer than wanted: the threshold does not hold here' if broken else ''}."


def _wanted(accuracy: float) -> str:
    """Return a wanted accuracy with the decimals it was given with."""
    return f"{100 * accuracy:.10g} %"


def _tables(figures: Mapping[str, Any]) -> dict[str, Table]:
    header = ("coverage", "images answered", "threshold", "accuracy", "95 % interval")
    kinds = ("fraction", "count", "number", "fraction", "interval")
    columns = ("coverage", "num_images", "threshold", "accuracy", "interval")
    points = {
        "coverage": ("Accuracy when only the surest answers are kept", figures["coverages"]),
        "coverage_curve": ("Accuracy against coverage", figures["curve"]),
    }
    tables = {
        name: Table(title, header, [[point[column] for column in columns] for point in rows], kinds)
        for name, (title, rows) in points.items()
    }
    areas = [
        ("mean risk over all coverages (AURC)", figures["aurc"]),
        ("least possible with this accuracy", figures["aurc_best"]),
        ("excess AURC", figures["excess_aurc"]),
        ("risk if images were left out at random", 1 - figures["accuracy"]["value"]),
    ]
    tables["risk"] = Table("Risk and coverage", ("figure", "value"), areas, ("text", "number"))
    return tables


def _plots(subject: Subject, figures: Mapping[str, Any]) -> dict[str, Any]:
    from cifarlab.plots.calibration import coverage_figure

    threshold = figures["threshold"]
    chosen = None
    if threshold["value"] is not None and threshold["judged"]["accuracy"]["value"] is not None:
        judged = threshold["judged"]
        accuracy = judged["accuracy"]
        chosen = {
            "coverage": judged["coverage"]["value"],
            "accuracy": accuracy["value"],
            "interval": accuracy["interval"],
        }
    title = f"Accuracy against coverage ({images_of(subject.split, figures['num_images'])})"
    return {"coverage": coverage_figure(figures["curve"], chosen, threshold["wanted_accuracy"], title)}
