"""Ranking: how well the probability of each class tells its images from all others, whatever threshold is taken.

Shape suffixes: N images, K classes, P positives, Q negatives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.evaluation.arrays import arrays_of, images_of, probabilities_of
from cifarlab.evaluation.intervals import CONFIDENCE, share_text
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.phrases import listed

if TYPE_CHECKING:
    from cifarlab.plots.ranking import ClassCurve

_MOST_POINTS, _FEWEST_POINTS = 3000, 80  # of all drawn curves together; of each
_MOST_CURVES = 100  # of a plot; more would cover one another
_MOST_NAMES = 12  # of classes in a note; the rest is counted


def ranking_section(subject: Subject) -> Section:
    """Take each class against the rest: ROC and precision-recall curve, the area under the one, the mean of the other.

    Args:
        subject: What is judged.

    Raises:
        DataError: If an answer is NaN or infinite.
    """
    names = subject.class_names
    logits_NK, labels_N = arrays_of(subject.judged, subject.split, len(names))
    probabilities_NK = probabilities_of(subject.judged, logits_NK)
    per_class: list[dict[str, Any]] = []
    influence_N = np.zeros(len(labels_N))  # on the sum of all classes' AUROC
    for k, name in enumerate(names):
        positive_N = labels_N == k
        figures, own_N = class_ranking(probabilities_NK[:, k], positive_N)
        per_class.append({"name": name, "support": int(positive_N.sum()), **figures})
        if own_N is not None:
            influence_N += own_N
    known = [row for row in per_class if row["auroc"]["value"] is not None]
    if not known:
        reason = f"{images_of(subject.split, len(labels_N))}, and all of one class; give images of two classes at least"
        return Section(skipped=reason)
    figures = {
        "num_images": len(labels_N),
        "per_class": per_class,
        "macro_auroc": _macro_auroc(known, influence_N / len(known)),
        "macro_average_precision": {
            "value": float(np.mean([row["average_precision"]["value"] for row in known])),
            "interval": None,
        },
    }
    return Section(
        findings=tuple(_findings(subject, figures, known)),
        figures=figures,
        tables={"ranking": _table(per_class)},
        plots=_plots(subject, probabilities_NK, labels_N, known),
        notes=tuple(_notes(per_class, len(labels_N))),
        captions={
            "roc": "How many images of a class are found (up) for how many others wrongly called so (right, on a "
            "logarithmic scale), over all thresholds. The five hardest classes are in colour.",
            "precision_recall": "How many images called a class are of it, for each share of the class that is found.",
        },
    )


def class_ranking(
    scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_]
) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Return AUROC and average precision of one class against the rest.

    Args:
        scores_N: Probability of the class.
        positive_N: Whether the image is of it.

    Returns:
        auroc and average_precision, each with value, interval, method and confidence (values None where the class has
        no image or all of them), and what each image adds to the AUROC as in :func:`auroc_influence`, or None.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    num_positive = int(positive_N.sum())
    auroc: dict[str, Any] = {"value": None, "interval": None, "method": "DeLong, logit", "confidence": CONFIDENCE}
    precision = {**auroc, "method": "Boyd, logit"}
    if not 0 < num_positive < len(positive_N):
        return {"auroc": auroc, "average_precision": precision}, None
    auroc["value"] = float(roc_auc_score(positive_N, scores_N))
    influence_N = auroc_influence(scores_N, positive_N)
    auroc["interval"] = logit_interval(auroc["value"], standard_error(influence_N))
    value = float(average_precision_score(positive_N, scores_N))
    precision["value"] = value
    precision["interval"] = logit_interval(value, math.sqrt(max(value * (1 - value), 0) / num_positive))
    return {"auroc": auroc, "average_precision": precision}, influence_N


def auroc_influence(scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how far each image moves the AUROC from its value, times N.

    The sum of their squares over N² is DeLong's variance; of the mean of several AUROCs on the same images it is the
    sum of the squared means. Ranks make it quick.

    Args:
        scores_N: Higher for positives.
        positive_N: Whether the image is of the class; at least one is, and one is not.

    Returns:
        float64, N; NaN where there is only one positive, or one negative, and so no variance.

    References:
        DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver operating
        characteristic curves", Biometrics 44, 837-845; Sun and Xu (2014), "Fast implementation of DeLong's algorithm",
        IEEE Signal Processing Letters 21, 1389-1393.
    """
    from scipy.stats import rankdata

    ranks_N = rankdata(scores_N)
    num_positive, total = int(positive_N.sum()), len(positive_N)
    num_negative = total - num_positive
    # the share of the negatives below each positive, and of the positives above each negative; ties count half
    above_P = (ranks_N[positive_N] - rankdata(scores_N[positive_N])) / num_negative
    below_Q = 1 - (ranks_N[~positive_N] - rankdata(scores_N[~positive_N])) / num_positive
    influence_N = np.empty(total)
    for where_N, placements in ((positive_N, above_P), (~positive_N, below_Q)):
        count = len(placements)
        unbiased = math.sqrt(count / (count - 1)) if count > 1 else math.nan
        influence_N[where_N] = (placements - placements.mean()) * total / count * unbiased
    return influence_N


def standard_error(influence_N: NDArray[np.float64]) -> float:
    """Return the standard error of a figure given what each image adds to it, times N."""
    return float(np.sqrt(np.square(influence_N).sum()) / len(influence_N))


def logit_interval(value: float, error: float) -> list[float] | None:
    """Return the interval of a fraction that is symmetric on the logit scale, and so stays within 0 and 1.

    Args:
        value: The fraction.
        error: Its standard error.

    Returns:
        Lower and upper end; None where the fraction is 0 or 1, or no spread was seen.
    """
    from scipy.special import expit, logit
    from scipy.stats import norm

    if not 0 < value < 1 or not error > 0:
        return None
    half_width = float(norm.ppf((1 + CONFIDENCE) / 2)) * error / (value * (1 - value))
    return [float(expit(logit(value) + sign * half_width)) for sign in (-1, 1)]


def _macro_auroc(known: Sequence[Mapping[str, Any]], influence_N: NDArray[np.float64]) -> dict[str, Any]:
    value = float(np.mean([row["auroc"]["value"] for row in known]))
    ends = logit_interval(value, standard_error(influence_N))
    return {"value": value, "interval": ends, "method": "DeLong, logit", "confidence": CONFIDENCE}


def _notes(per_class: Sequence[Mapping[str, Any]], num_images: int) -> list[str]:
    notes = ["Each class is taken against all others together; their share of the images sets the average precision."]
    absent = [row["name"] for row in per_class if row["auroc"]["value"] is None]
    if absent:
        notes.append(f"Without a figure, for there are images on one side only: {listed(absent, _MOST_NAMES)}.")
    known = [row for row in per_class if row["auroc"]["value"] is not None]
    lone = [row["name"] for row in known if 1 in (row["support"], num_images - row["support"])]
    if lone:
        notes.append(
            "With a single image on one side, and so without an interval of the AUROC, which leaves its mean without "
            f"one too: {listed(lone, _MOST_NAMES)}."
        )
    faultless = [row["name"] for row in per_class if row["auroc"]["value"] == 1]
    if faultless:
        notes.append(f"Told apart without a fault, so without an interval: {listed(faultless, _MOST_NAMES)}.")
    return notes


def _findings(subject: Subject, figures: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> list[str]:
    macro = figures["macro_auroc"]
    lines = [
        "Given one image of a class and one of another, the model finds the former more like that class in "
        f"{share_text(macro)} of cases (AUROC, mean over classes, {images_of(subject.split, figures['num_images'])})."
    ]
    worst = min(known, key=lambda row: row["average_precision"]["value"])
    if worst["average_precision"]["value"] < 1:
        lines.append(
            f"Told least well from the rest is {worst['name']}: AUROC {share_text(worst['auroc'])}, average "
            f"precision {share_text(worst['average_precision'])}."
        )
    return lines


def _table(per_class: Sequence[Mapping[str, Any]]) -> Table:
    shares = ("auroc", "average_precision")
    rows = [
        (row["name"], row["support"], *(row[share][key] for share in shares for key in ("value", "interval")))
        for row in per_class
    ]
    header = ("class", "images", "AUROC", "AUROC, 95 % interval", "average precision", "average precision, 95 %")
    return Table("Each class against the rest", header, rows, ("text", "count", *("fraction", "interval") * 2))


def _plots(
    subject: Subject, probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64], known: Sequence[Any]
) -> dict[str, Any]:
    from cifarlab.plots.ranking import precision_recall_figure, roc_figure

    drawn = {
        figure: [row["name"] for row in sorted(known, key=lambda row: float(row[figure]["value"]))[:_MOST_CURVES]]
        for figure in ("auroc", "average_precision")
    }
    rows, columns = ({row["name"]: row for row in known}, {name: k for k, name in enumerate(subject.class_names)})
    curves = {
        name: _curve(rows[name], probabilities_NK[:, columns[name]], labels_N == columns[name], len(drawn["auroc"]))
        for name in {*drawn["auroc"], *drawn["average_precision"]}
    }
    roc, precision_recall = ([curves[name] for name in names] for names in drawn.values())
    where = images_of(subject.split, len(labels_N))
    note = "" if len(known) <= _MOST_CURVES else f": the {_MOST_CURVES} hardest of {len(known):,}"
    return {
        "roc": roc_figure(roc, len(labels_N), f"ROC of each class against the rest ({where}){note}"),
        "precision_recall": precision_recall_figure(precision_recall, f"Precision and recall ({where}){note}"),
    }


def _curve(
    row: Mapping[str, Any], scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_], num_curves: int
) -> ClassCurve:
    """Return both curves of a class, thinned."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    from cifarlab.plots.ranking import ClassCurve

    false_rates, true_rates, _ = roc_curve(positive_N, scores_N)
    precisions, recalls, _ = precision_recall_curve(positive_N, scores_N, drop_intermediate=True)
    return ClassCurve(
        row["name"],
        row["auroc"]["value"],
        row["average_precision"]["value"],
        *_thinned(num_curves, false_rates, true_rates),
        *_thinned(num_curves, recalls, precisions),
    )


def _thinned(num_curves: int, *columns: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    points = max(_FEWEST_POINTS, _MOST_POINTS // num_curves)
    kept = np.unique(np.linspace(0, len(columns[0]) - 1, points).round().astype(int))
    return [column[kept] for column in columns]
