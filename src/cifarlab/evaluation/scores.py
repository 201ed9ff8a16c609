"""Scores: how often the model is right, in all, by class and by kind of mistake, and what its mistakes cost.

Shape suffixes: N images, K classes, M kinds of images, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.evaluation.arrays import arrays_of, images_of
from cifarlab.evaluation.costs import cost_figures, read_costs
from cifarlab.evaluation.headline import LARGEST_MATRIX
from cifarlab.evaluation.intervals import (
    bootstrap,
    bootstrap_figure,
    ends_of,
    mean_figure,
    number_text,
    proportion,
    share_text,
)
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.metrics import label_ranks
from cifarlab.phrases import count, listed
from cifarlab.stats import wilson_interval

_TOP = (1, 2, 3, 5)
_MOST_NAMES = 12  # of classes in a note; the rest is counted
_SUMMARIES = ("macro_f1", "balanced_accuracy", "cohens_kappa", "matthews_correlation")


def scores_section(subject: Subject) -> Section:
    """Count what is right and wrong on the judged split.

    Args:
        subject: What is judged; options.costs names a file of costs or is empty.

    Raises:
        DataError: If an answer is NaN or infinite, or the file of costs cannot be used.
    """
    from scipy.special import log_softmax

    names = subject.class_names
    logits_NK, labels_N = arrays_of(subject.judged, subject.split, len(names))
    log_probabilities_NK = log_softmax(logits_NK, axis=1)
    probabilities_NK = np.exp(log_probabilities_NK)
    confusion_KK = confusion_counts(labels_N, logits_NK.argmax(1), len(names))
    figures: dict[str, Any] = {
        "num_images": len(labels_N),
        "num_classes": len(names),
        **_accuracies(logits_NK, labels_N),
        "log_loss": mean_figure(-log_probabilities_NK[np.arange(len(labels_N)), labels_N], lowest=0),
        "brier": mean_figure(brier_scores(probabilities_NK, labels_N), lowest=0),
        **summary_figures(confusion_KK, subject.options.seed),
        "per_class": class_figures(confusion_KK, names),
        "most_frequent_mistake": _most_frequent_mistake(confusion_KK, names),
    }
    notes = _notes(figures, logits_NK)
    if subject.options.costs:
        costs_KK = read_costs(Path(subject.options.costs), names)
        figures["costs"] = cost_figures(probabilities_NK, labels_N, costs_KK, subject.options.seed)
        notes += _notes_on_costs(costs_KK, names)
    return Section(
        findings=tuple(_findings(subject, figures)),
        figures=figures,
        tables={**_tables(figures), **_confusion_table(confusion_KK, names)},
        plots=_plots(subject, figures, confusion_KK),
        notes=tuple(notes),
    )


def confusion_counts(
    labels_N: NDArray[np.int64], predicted_N: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Return how many images of each class (rows) got each answer (columns): int64, K x K."""
    pairs_N = labels_N * num_classes + predicted_N
    return np.bincount(pairs_N, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def brier_scores(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each image the squared distance of its probabilities from the truth, summed over the classes.

    This is Brier's own form for several classes, from 0 to 2; of two classes it is twice the form for one probability.

    References:
        Brier (1950), "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1-3.
    """
    truth_NK = np.eye(probabilities_NK.shape[1])[labels_N]
    scores_N: NDArray[np.float64] = np.square(probabilities_NK - truth_NK).sum(1)
    return scores_N


def _accuracies(logits_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> dict[str, Any]:
    ranks_N = label_ranks(torch.from_numpy(logits_NK), torch.from_numpy(labels_N))
    counted = [(k, int((ranks_N < k).sum())) for k in _TOP if k < logits_NK.shape[1]]
    top_k = [{"k": k, **proportion(right, len(labels_N))} for k, right in counted]
    return {"accuracy": proportion(counted[0][1], len(labels_N)), "top_k": top_k}


def summary_figures(confusion_KK: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """Return macro F1, balanced accuracy, Cohen's kappa and Matthews' correlation with bootstrap intervals.

    Args:
        confusion_KK: Counts; rows are the true class, columns the given one.
        seed: Of the resamples of images.

    Returns:
        By name: value, interval, method, confidence, num_resamples. A value is None where it is not defined: kappa and
        correlation where one class is all there is, of labels or of answers.

    References:
        Cohen (1960), "A coefficient of agreement for nominal scales", Educ. Psychol. Measurement 20, 37-46;
        Gorodkin (2004), "Comparing two K-category assignments by a K-category correlation coefficient", Computational
        Biology and Chemistry 28, 367-374.
    """
    from scipy.sparse import csr_array

    true_M, given_M = confusion_KK.nonzero()
    counts_M = confusion_KK[true_M, given_M]
    cells, shape = np.arange(len(counts_M)), (len(counts_M), len(confusion_KK))
    # sparse, for of a thousand classes there are many thousand cells
    true_MK, given_MK, hits_MK = (
        csr_array((weights, (cells, classes_M)), shape=shape)
        for weights, classes_M in ((cells >= 0, true_M), (cells >= 0, given_M), (true_M == given_M, true_M))
    )

    def statistics(draws_BM: NDArray[np.float64]) -> NDArray[np.float64]:
        return _summaries(draws_BM @ true_MK, draws_BM @ given_MK, draws_BM @ hits_MK)

    values = statistics(counts_M[None].astype(np.float64))[0]
    ends = bootstrap(counts_M, statistics, seed, "confusion matrix")
    return {name: bootstrap_figure(v, end) for name, v, end in zip(_SUMMARIES, values, ends, strict=True)}


def _summaries(
    there_BK: NDArray[np.float64], named_BK: NDArray[np.float64], hits_BK: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the four summaries, B x 4, given the images of each class, those called so, and those that are both.

    A class without images counts in no recall; one that is neither there nor named counts in no F1.
    """
    total_B, right_B = there_BK.sum(1), hits_BK.sum(1)
    both_B = (there_BK * named_BK).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        macro_f1_B = np.nanmean(2 * hits_BK / (there_BK + named_BK), axis=1)
        balanced_B = np.nanmean(hits_BK / there_BK, axis=1)
        kappa_B = (right_B * total_B - both_B) / (total_B**2 - both_B)
        spread_B = (total_B**2 - (there_BK**2).sum(1)) * (total_B**2 - (named_BK**2).sum(1))
        correlation_B = (right_B * total_B - both_B) / np.sqrt(spread_B)
    return np.stack([macro_f1_B, balanced_B, kappa_B, correlation_B], 1)


def class_figures(confusion_KK: NDArray[np.int64], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return support, precision, recall and F1 of every class with intervals.

    The interval of F1 is Wilson's of J = TP / (TP + FP + FN), carried over by F1 = 2 J / (1 + J), which only rises: of
    the images that are of the class or called so, TP is binomial.

    Args:
        confusion_KK: Counts; rows are the true class, columns the given one.
        class_names: K names.

    References:
        Lam, Gopal and Qian (2023), "Confidence intervals for the F1 score: a comparison of four methods",
        arXiv 2309.14621 (there: Wilson, indirect).
    """
    rows = []
    for k, name in enumerate(class_names):
        hits, there, named = int(confusion_KK[k, k]), int(confusion_KK[k].sum()), int(confusion_KK[:, k].sum())
        share = proportion(hits, there + named - hits)
        f1 = {key: None if share[key] is None else _f1_of(share[key]) for key in ("value", "interval")}
        rows.append(
            {
                "name": name,
                "support": there,
                "named": named,
                "precision": proportion(hits, named),
                "recall": proportion(hits, there),
                "f1": {**f1, "method": "wilson, indirect", "confidence": share["confidence"]},
            }
        )
    return rows


def _f1_of(share: Any) -> Any:
    return [_f1_of(end) for end in share] if isinstance(share, list) else 2 * share / (1 + share)


def _most_frequent_mistake(confusion_KK: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any] | None:
    """Return which class is most often taken for which, and for what share of its images; None without a mistake."""
    wrong_KK = confusion_KK - np.diag(confusion_KK.diagonal())
    if not wrong_KK.any():
        return None
    true, given = divmod(int(wrong_KK.argmax()), len(names))
    share = proportion(int(wrong_KK[true, given]), int(confusion_KK[true].sum()))
    return {"true": names[true], "given": names[given], **share}


def _notes(figures: Mapping[str, Any], logits_NK: NDArray[np.float64]) -> list[str]:
    notes = [
        "Intervals show what drawing other images of the same kind would change; not what training anew would change, "
        "nor images of another kind."
    ]
    absent = [row["name"] for row in figures["per_class"] if not row["support"]]
    if absent:
        notes.append(f"Without an image, and so without a recall: {listed(absent, _MOST_NAMES)}.")
    highest_N2 = np.partition(logits_NK, -2, axis=1)[:, -2:]
    ties = int((highest_N2[:, 0] == highest_N2[:, 1]).sum())
    if ties:
        notes.append(f"The highest value stands twice in {ties:,} answers; the first class is taken for the answer.")
    return notes


def _notes_on_costs(costs_KK: NDArray[np.float64], names: Sequence[str]) -> list[str]:
    notes = ["Costs are in the unit of the file of costs; the second rule trusts the probabilities as they are."]
    charged = [names[k] for k in np.flatnonzero(costs_KK.diagonal()).tolist()]
    if charged:
        notes.append(f"The file charges right answers too: {listed(charged, _MOST_NAMES)}.")
    return notes


def _findings(subject: Subject, figures: Mapping[str, Any]) -> list[str]:
    images = images_of(subject.split, figures["num_images"])
    lines = [f"The model gives the right class to {share_text(figures['accuracy'])} of {images}."]
    there = [row for row in figures["per_class"] if row["support"]]
    worst = min(there, key=lambda row: row["recall"]["value"])
    if worst["recall"]["value"] < 1:
        lines.append(
            f"Found least often is {worst['name']}: {share_text(worst['recall'])} of its "
            f"{count(worst['support'], 'image')}."
        )
    if (mistake := figures["most_frequent_mistake"]) is not None:
        lines.append(
            f"The most frequent mistake is {mistake['true']} taken for {mistake['given']}: "
            f"{mistake['count']:,} of {mistake['images']:,} images."
        )
    if "costs" in figures:
        lines.append(_cost_sentence(figures["costs"]))
    return lines


def _cost_sentence(costs: Mapping[str, Any]) -> str:
    mean, saving, changed = costs["most_probable"], costs["saving"], costs["num_changed"]
    digits = 4 if not mean["value"] else max(0, 3 - math.floor(math.log10(mean["value"])))
    line = f"By the given costs an image costs {number_text(mean, digits)} on average."
    if not changed:
        return f"{line} No answer changes if that of least expected cost is given instead of the most probable."
    ends = saving["interval"]
    loss = {"value": -saving["value"], "interval": None if ends is None else [-ends[1], -ends[0]]}
    effect = f"saves {number_text(saving, digits)}" if saving["value"] >= 0 else f"adds {number_text(loss, digits)}"
    return (
        f"{line} Giving the answer of least expected cost instead of the most probable {effect} an image; it changes "
        f"{count(changed, 'answer')}."
    )


def _tables(figures: Mapping[str, Any]) -> dict[str, Table]:
    top = [
        (f"top {one['k']}", one["value"], one["interval"], one["clopper_pearson"], one["count"], one["images"])
        for one in figures["top_k"]
    ]
    header: tuple[str, ...] = ("figure", "share", "95 % interval", "exact 95 % interval", "images right", "images")
    kinds = ("text", "fraction", "interval", "interval", "count", "count")
    tables = {"accuracy": Table("Share of images whose class is among the first answers", header, top, kinds)}
    called = {
        "log_loss": "log loss (nats)",
        "brier": "Brier score (0 to 2)",
        "macro_f1": "macro F1",
        "balanced_accuracy": "balanced accuracy",
        "cohens_kappa": "Cohen's kappa",
        "matthews_correlation": "Matthews correlation",
    }
    numbers = [(text, figures[name]["value"], *ends_of(figures[name])) for name, text in called.items()]
    costs = figures.get("costs", {})
    for name, text in (("most_probable", "most probable answer"), ("least_cost", "answer of least expected cost")):
        if costs:
            numbers.append((f"cost an image, {text}", costs[name]["value"], *ends_of(costs[name])))
    header = ("figure", "value", "from (95 % interval)", "to")
    tables["summary"] = Table("Figures over all classes", header, numbers, ("text", *("number",) * 3))
    tables["class_scores"] = _class_table(figures["per_class"])
    return tables


def _confusion_table(confusion_KK: NDArray[np.int64], names: Sequence[str]) -> dict[str, Table]:
    """Return the shares of each true class's images that got each answer; of many classes the mistakes alone."""
    support_K = confusion_KK.sum(1).tolist()
    if len(names) <= LARGEST_MATRIX:
        rates = [
            [name, *([cell / total for cell in row] if total else [None] * len(names))]
            for name, row, total in zip(names, confusion_KK.tolist(), support_K, strict=True)
        ]
        title = "Confusion matrix: share of each true class's images"
        kinds = ("text", *("fraction",) * len(names))
        return {"confusion_rates": Table(title, ("true \\ given", *names), rates, kinds)}
    wrong_KK = confusion_KK - np.diag(confusion_KK.diagonal())
    cells = np.argsort(-wrong_KK, axis=None, kind="stable")[: np.count_nonzero(wrong_KK)]
    rows = []
    for true, given in (divmod(cell, len(names)) for cell in cells.tolist()):
        times, total = int(wrong_KK[true, given]), support_K[true]
        rows.append((names[true], names[given], times, times / total, wilson_interval(times, total)))
    header = ("true class", "taken for", "images", "share of the class", "95 % interval")
    kinds = ("text", "text", "count", "fraction", "interval")
    return {"confusion_cells": Table("Classes taken for others, the most frequent first", header, rows, kinds)}


def _class_table(per_class: Sequence[Mapping[str, Any]]) -> Table:
    shares = {"recall": "recall", "precision": "precision", "f1": "F1"}
    rows = [
        (
            row["name"],
            row["support"],
            row["named"],
            *(cell for share in shares for cell in (row[share]["value"], row[share]["interval"])),
        )
        for row in per_class
    ]
    columns = [column for called in shares.values() for column in (called, f"{called}, 95 % interval")]
    header = ("class", "images", "named", *columns)
    return Table("Classes", header, rows, ("text", "count", "count", *("fraction", "interval") * len(shares)))


def _plots(subject: Subject, figures: Mapping[str, Any], confusion_KK: NDArray[np.int64]) -> dict[str, Any]:
    from cifarlab.plots.evaluation import confusion_figure
    from cifarlab.plots.scores import ClassRow, class_intervals_figure

    def estimate(figure: Mapping[str, Any]) -> tuple[float, tuple[float, float]] | None:
        return None if figure["value"] is None else (figure["value"], (figure["interval"][0], figure["interval"][1]))

    where = images_of(subject.split, figures["num_images"])
    rows = [
        ClassRow(row["name"], row["support"], *(estimate(row[share]) for share in ("recall", "precision", "f1")))
        for row in figures["per_class"]
    ]
    return {
        "confusion": confusion_figure(confusion_KK.tolist(), subject.class_names, f"Confusion matrix ({where})"),
        "per_class": class_intervals_figure(rows, f"Classes ({where})"),
    }
