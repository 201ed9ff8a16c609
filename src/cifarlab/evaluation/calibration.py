"""Calibration: whether an answer given with 90 % confidence is right nine times in ten, and what a temperature mends.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.evaluation.arrays import arrays_of, images_of, judged_on_val, no_val
from cifarlab.evaluation.intervals import CONFIDENCE, mean_figure, number_text, proportion, share_alone, share_text
from cifarlab.evaluation.scores import brier_scores
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.metrics import expected_calibration_error, reliability_table
from cifarlab.phrases import number
from cifarlab.seeding import derive_seed

NUM_BINS = 15
_FOLDS = 5
_FEWEST = 20  # images to fit a temperature on: fewer hold hardly a mistake to learn from
_LOWEST, _HIGHEST = 0.01, 100.0  # temperatures: there all answers are certain, or all classes equally likely
_NUM_SIMULATED = 200

_Arrays = tuple[NDArray[np.float64], NDArray[np.int64]]


def calibration_section(subject: Subject) -> Section:
    """Compare confidence with accuracy on the judged split, before and after a temperature fitted on val alone.

    Where val itself is judged, the figures after it are cross-fitted: no image is judged by a temperature that was
    fitted on it.

    Args:
        subject: What is judged.

    Raises:
        DataError: If an answer is NaN or infinite.
    """
    num_classes, seed = len(subject.class_names), subject.options.seed
    logits_NK, labels_N = arrays_of(subject.judged, subject.split, num_classes)
    before = calibration_figures(logits_NK, labels_N, seed)
    figures: dict[str, Any] = {
        "num_images": len(labels_N),
        "num_bins": NUM_BINS,
        "before": before,
        "after": None,
        "temperature": None,
    }
    fitted, why_not = _temperature(subject, (logits_NK, labels_N))
    notes = [why_not] if why_not else []
    if fitted is not None:
        scaled_NK, figures["temperature"] = fitted
        figures["after"] = calibration_figures(scaled_NK, labels_N, seed)
        gains_N = _log_losses(logits_NK, labels_N) - _log_losses(scaled_NK, labels_N)
        figures["log_loss_gain"] = mean_figure(gains_N)
        notes += _notes(figures["temperature"])
    return Section(
        findings=tuple(_findings(subject, figures)),
        figures=figures,
        tables=_tables(figures),
        plots=_plots(subject, figures),
        notes=tuple(notes),
        captions={
            "reliability": "Bars on the dashed line mean that confidence can be taken at its word; below it the model "
            "is too sure. Whiskers are 95 % intervals of the accuracy in the bin."
        },
    )


def fit_temperature(logits_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
    """Return the temperature by which to divide logits so that the log loss is least.

    The log loss is convex in the reciprocal of the temperature, so there is one minimum.

    Args:
        logits_NK: Finite; at least one image.
        labels_N: int64.

    Returns:
        From 0.01 to 100; 1 where every answer is right, for then the best would be 0: certainty in everything.

    References:
        Guo et al. (2017), "On calibration of modern neural networks", arXiv 1706.04599, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    if (logits_NK.argmax(1) == labels_N).all():
        return 1.0
    shifted_NK = logits_NK - logits_NK.max(1, keepdims=True)
    own_N = shifted_NK[np.arange(len(labels_N)), labels_N]

    def log_loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float((np.log(np.exp(shifted_NK * scale).sum(1)) - own_N * scale).mean())

    bounds = (math.log(_LOWEST), math.log(_HIGHEST))
    found = minimize_scalar(log_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def cross_fitted(
    logits_NK: NDArray[np.float64], labels_N: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], list[float]]:
    """Divide the logits of each fifth of the images by the temperature fitted on the other four.

    Args:
        logits_NK: Finite; at least five images.
        labels_N: int64.
        seed: Of the division into fifths.

    Returns:
        The divided logits, N x K, and the five temperatures.
    """
    order_N = np.random.default_rng(derive_seed(seed, "calibration folds")).permutation(len(labels_N))
    scaled_NK = np.empty_like(logits_NK)
    temperatures = []
    for part in np.array_split(order_N, _FOLDS):
        others_N = np.ones(len(labels_N), dtype=bool)
        others_N[part] = False
        temperatures.append(fit_temperature(logits_NK[others_N], labels_N[others_N]))
        scaled_NK[part] = logits_NK[part] / temperatures[-1]
    return scaled_NK, temperatures


def _temperature(subject: Subject, judged: _Arrays) -> tuple[tuple[NDArray[np.float64], dict[str, Any]] | None, str]:
    """Return the judged logits after the temperature and what is known of it, or why there is none."""
    if subject.val is None:
        return None, f"No temperature, for {no_val(subject.split)}."
    logits_NK, labels_N = judged
    crossed = judged_on_val(subject)
    val_NK, val_labels_N = judged if crossed else arrays_of(subject.val, "val", len(subject.class_names))
    if len(val_labels_N) < _FEWEST:
        few = f"{images_of('val', len(val_labels_N))} {'is' if len(val_labels_N) == 1 else 'are'} too few"
        return None, f"No temperature: {few} to fit one ({_FEWEST} needed)."
    if (val_NK.argmax(1) == val_labels_N).all():
        return None, "No temperature: every validation image is right, and one is learnt from mistakes."
    value = fit_temperature(val_NK, val_labels_N)
    known: dict[str, Any] = {"value": value, "fitted_on": "val", "num_images": len(val_labels_N)}
    if not crossed:
        return (logits_NK / value, {**known, "cross_fitted": False}), ""
    scaled_NK, folds = cross_fitted(logits_NK, labels_N, subject.options.seed)
    return (scaled_NK, {**known, "cross_fitted": True, "folds": folds}), ""


def _log_losses(logits_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    from scipy.special import log_softmax

    losses_N: NDArray[np.float64] = -log_softmax(logits_NK, axis=1)[np.arange(len(labels_N)), labels_N]
    return losses_N


def calibration_figures(logits_NK: NDArray[np.float64], labels_N: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """Return how far confidence and accuracy lie apart.

    Args:
        logits_NK: Finite.
        labels_N: int64.
        seed: Of the simulation of answers that are calibrated.

    Returns:
        ece, adaptive_ece, max_calibration_error, classwise_ece; ece_by_chance and ece_by_chance_95 (what calibrated
        answers of the same confidence would show: mean, and what 95 in 100 stay below); mean_confidence, accuracy,
        overconfidence (their difference, with interval) and overconfidence_by_chance_95 (what that of calibrated
        answers exceeds on either side 5 times in 100, by the normal approximation); log_loss, brier; bins (lower,
        upper, count, confidence, accuracy, interval).
    """
    from scipy.special import softmax
    from scipy.stats import norm

    probabilities_NK = softmax(logits_NK, axis=1)
    confidence_N = probabilities_NK.max(1)
    right_N = logits_NK.argmax(1) == labels_N
    table = reliability_table(torch.from_numpy(probabilities_NK), torch.from_numpy(labels_N), NUM_BINS)
    chance = errors_by_chance(confidence_N, seed)
    spread = math.sqrt(float((confidence_N * (1 - confidence_N)).mean()))  # of right answers about their confidence
    bins = []
    for row in table:
        right = round(row.accuracy * row.count) if row.count else 0
        share = proportion(right, row.count)
        known = {"confidence": row.confidence if row.count else None, "accuracy": share["value"]}
        bins.append(
            {"lower": row.lower, "upper": row.upper, "count": row.count, **known, "interval": share["interval"]}
        )
    return {
        "ece": expected_calibration_error(table),
        "ece_by_chance": float(chance.mean()),
        "ece_by_chance_95": float(np.quantile(chance, 0.95)),
        "adaptive_ece": adaptive_error(confidence_N, right_N),
        "max_calibration_error": max(abs(row.accuracy - row.confidence) for row in table if row.count),
        "classwise_ece": classwise_error(probabilities_NK, labels_N),
        "mean_confidence": float(confidence_N.mean()),
        "accuracy": proportion(int(right_N.sum()), len(labels_N)),
        "overconfidence": mean_figure(confidence_N - right_N),
        "overconfidence_by_chance_95": float(norm.ppf((1 + CONFIDENCE) / 2) * spread / math.sqrt(len(labels_N))),
        "log_loss": float(_log_losses(logits_NK, labels_N).mean()),
        "brier": float(brier_scores(probabilities_NK, labels_N).mean()),
        "bins": bins,
    }


def _bins_of(probabilities: NDArray[np.float64], num_bins: int) -> NDArray[np.int64]:
    """Return the bin of equal width each probability is in; an edge belongs to the bin below it."""
    return np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], probabilities, side="left").astype(np.int64)


def adaptive_error(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_], num_bins: int = NUM_BINS) -> float:
    """Return the calibration error over bins that hold equally many images each (adaptive ECE).

    Images of equal confidence stay together, so the order of the images does not matter; bins are then not quite equal.

    Args:
        confidence_N: Probability of the answer.
        right_N: Whether it is right.
        num_bins: Number of bins.

    References:
        Nguyen and O'Connor (2015), "Posterior calibration and exploratory analysis for natural language processing
        models", arXiv 1508.05154 (the bins; they square the gaps); Mukhoti et al. (2020), "Calibrating deep neural
        networks using focal loss", arXiv 2002.09437 (their mean, as here).
    """
    from scipy.stats import rankdata

    ranks_N = rankdata(confidence_N, method="min").astype(np.int64) - 1
    gaps = np.bincount(ranks_N * num_bins // len(ranks_N), weights=confidence_N - right_N)
    return float(np.abs(gaps).sum() / len(ranks_N))


def classwise_error(
    probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64], num_bins: int = NUM_BINS
) -> float:
    """Return the calibration error of every class's probability, averaged over the classes (classwise ECE).

    Args:
        probabilities_NK: Rows sum to 1.
        labels_N: int64.
        num_bins: Number of bins of equal width.

    References:
        Kull et al. (2019), "Beyond temperature scaling", arXiv 1910.12656, section 2.
    """
    num_images, num_classes = probabilities_NK.shape
    cells_NK = _bins_of(probabilities_NK, num_bins) + num_bins * np.arange(num_classes)
    excess_NK = probabilities_NK - np.eye(num_classes)[labels_N]
    gaps = np.bincount(cells_NK.ravel(), weights=excess_NK.ravel())
    return float(np.abs(gaps).sum() / (num_images * num_classes))


def errors_by_chance(
    confidence_N: NDArray[np.float64], seed: int, num_bins: int = NUM_BINS, num_simulated: int = _NUM_SIMULATED
) -> NDArray[np.float64]:
    """Return the calibration errors that answers would show that are right exactly as often as they say.

    It is not zero, for in a bin the share of right answers varies by chance.

    Args:
        confidence_N: Probability of the answer.
        seed: Of the draws.
        num_bins: Number of bins of equal width.
        num_simulated: How many times all images are drawn.

    Returns:
        float64, one a simulation.

    References:
        Broecker and Smith (2007), "Increasing the reliability of reliability diagrams", Weather and Forecasting 22,
        651-661 (consistency resampling).
    """
    generator = np.random.default_rng(derive_seed(seed, "calibration by chance"))
    ordered_N = np.sort(confidence_N)
    starts = np.unique(_bins_of(ordered_N, num_bins), return_index=True)[1]
    errors = np.empty(num_simulated)
    for n in range(num_simulated):
        gaps = np.add.reduceat(ordered_N - (generator.random(len(ordered_N)) < ordered_N), starts)
        errors[n] = np.abs(gaps).sum() / len(ordered_N)
    return errors


def _notes(temperature: Mapping[str, Any]) -> list[str]:
    notes = ["A temperature changes how sure the answers are, and none of the answers: accuracy stays what it is."]
    if temperature["cross_fitted"]:
        notes.append(
            "The images judged here are those the temperature is fitted on. So the figures after it are from five-fold "
            "cross-fitting: each fifth of the images is judged with the temperature of the other four."
        )
    if not 2 * _LOWEST < temperature["value"] < _HIGHEST / 2:
        notes.append("The temperature lies at the end of the range searched (0.01 to 100), so do not rely on it.")
    return notes


def _points(value: float) -> str:
    return f"{number(100 * value)} points"


def _findings(subject: Subject, figures: Mapping[str, Any]) -> list[str]:
    before, after = figures["before"], figures["after"]
    lines = [
        f"On average the model {_verdict(before)}: its mean confidence is {share_alone(before['mean_confidence'])}, "
        f"and {share_text(before['accuracy'])} of {images_of(subject.split, figures['num_images'])} are right.",
        f"Confidence and accuracy lie {_points(before['ece'])} apart on average (expected calibration error), "
        f"{'more' if before['ece'] > before['ece_by_chance_95'] else 'no more'} than chance alone explains: it gives "
        f"about {_points(before['ece_by_chance'])}, and rarely more than {_points(before['ece_by_chance_95'])}.",
    ]
    if after is not None:
        value, gain = figures["temperature"]["value"], figures["log_loss_gain"]
        lines.append(
            f"Dividing the logits by a temperature of {number(value, 3)}, fitted on "
            f"{images_of('val', figures['temperature']['num_images'])}, brings the error from {_points(before['ece'])} "
            f"to {_points(after['ece'])} and the log loss from {number(before['log_loss'], 4)} to "
            f"{number(after['log_loss'], 4)}, a gain of {number_text(gain, 4)}{_not_shown(gain)}."
        )
    return lines


def _verdict(before: Mapping[str, Any]) -> str:
    """Say which way confidence errs, if that is shown: calibrated answers would rarely be so far off by chance either.

    Where hardly an answer is wrong, Student's interval alone would see too little spread.
    """
    gap = before["overconfidence"]
    low, high = gap["interval"] or (gap["value"], gap["value"])
    if abs(gap["value"]) > before["overconfidence_by_chance_95"] and (low > 0 or high < 0):
        return "is too sure" if low > 0 else "is not sure enough"
    return "is neither too sure nor too unsure, as far as these images show"


def _not_shown(gain: Mapping[str, Any]) -> str:
    """Say of a gain what is not shown; without an interval, as of a single image, nothing is."""
    low, high = gain["interval"] or (-math.inf, math.inf)
    return "" if low > 0 else ": it does harm here" if high < 0 else ": that it helps is not shown"


def _tables(figures: Mapping[str, Any]) -> dict[str, Table]:
    states = [(name, figures[key]) for name, key in (("as it is", "before"), ("after temperature", "after"))]
    states = [(name, state) for name, state in states if state is not None]
    called = {
        "ece": "ECE",
        "ece_by_chance": "ECE by chance",
        "adaptive_ece": "adaptive ECE",
        "max_calibration_error": "maximum calibration error",
        "classwise_ece": "classwise ECE",
        "mean_confidence": "mean confidence",
    }
    numbers = {"log_loss": "log loss (nats)", "brier": "Brier score (0 to 2)"}
    rows = [
        (name, *(state[key] for key in called), state["accuracy"]["value"], *(state[key] for key in numbers))
        for name, state in states
    ]
    header = ("answers", *called.values(), "accuracy", *numbers.values())
    kinds = ("text", *("fraction",) * (len(called) + 1), "number", "number")
    columns = ("lower", "upper", "count", "confidence", "accuracy", "interval")
    bins = [(name, *(row[key] for key in columns)) for name, state in states for row in state["bins"] if row["count"]]
    return {
        "calibration": Table("Calibration", header, rows, kinds),
        "reliability": Table(
            "Confidence and accuracy in bins of confidence",
            ("answers", "from", "to", "images", "mean confidence", "accuracy", "accuracy, 95 % interval"),
            bins,
            ("text", "fraction", "fraction", "count", "fraction", "fraction", "interval"),
        ),
    }


def _plots(subject: Subject, figures: Mapping[str, Any]) -> dict[str, Any]:
    from cifarlab.plots.calibration import Reliability, reliability_figure

    states = [Reliability("as it is", figures["before"]["ece"], figures["before"]["bins"])]
    if figures["after"] is not None:
        name = f"temperature {number(figures['temperature']['value'])}"
        states.append(Reliability(name, figures["after"]["ece"], figures["after"]["bins"]))
    where = images_of(subject.split, figures["num_images"])
    return {"reliability": reliability_figure(states, f"Reliability ({where})")}
