"""Metrics: functions of what a model said and of what is true, nothing else.

All take at least one image; a class without an image is allowed everywhere. Figures are fractions, not per cent.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class ClassScores:
    """How well one class is recognised.

    Attributes:
        support: Number of images of the class.
        precision: Share of the images called this class that are of it; NaN where none was called so.
        recall: Share of the images of this class that were called so; NaN where there is none.
        f1: Harmonic mean of both; NaN where the class is neither there nor ever named.
    """

    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions with a confidence in (lower, upper].

    Attributes:
        lower: Lower end, exclusive (but 0 itself is in the first bin).
        upper: Upper end, inclusive.
        count: Number of predictions in it.
        confidence: Their mean confidence; NaN where there is none.
        accuracy: The share of them that is right; NaN where there is none.
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Mistake:
    """One image that got the wrong class.

    Attributes:
        index: Its position in the split.
        label: The true class.
        predicted: The class given.
        confidence: The probability given to that class.
    """

    index: int
    label: int
    predicted: int
    confidence: float


@dataclass(frozen=True)
class Confusion:
    """How often one class was taken for another.

    Attributes:
        label: The true class.
        predicted: The class given.
        count: Number of such images.
        share: Their share of the images of the true class.
    """

    label: int
    predicted: int
    count: int
    share: float


def num_correct(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> int:
    """Return how many images have their highest logit (or probability) at their label (int64, N)."""
    return int((logits_NK.argmax(1) == labels_N).sum())


def accuracy(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> float:
    """Return the share of images with the highest logit (or probability) at their label (int64, N)."""
    return num_correct(logits_NK, labels_N) / len(labels_N)


def top_k_accuracy(logits_NK: torch.Tensor, labels_N: torch.Tensor, k: int) -> float:
    """Return the share of images whose label (int64, N) is among the k highest logits; 1 where K is k or less."""
    return int((label_ranks(logits_NK, labels_N) < k).sum()) / len(labels_N)


def label_ranks(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """Return how many classes stand before the true one (int64, N): int64, N, 0 for a right answer.

    Of equal logits the first class stands first, as it does for the answer itself.
    """
    own_N1 = logits_NK.gather(1, labels_N[:, None])
    earlier_NK = torch.arange(logits_NK.shape[1]) < labels_N[:, None]
    return ((logits_NK > own_N1) | ((logits_NK == own_N1) & earlier_NK)).sum(1)


def cross_entropy(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> float:
    """Return the mean negative log-likelihood, in nats, of labels (int64, N) under the softmax of the logits."""
    return float(F.cross_entropy(logits_NK.double(), labels_N))


def confusion_matrix(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """Count every pair of true and given class.

    Args:
        logits_NK: Logits or probabilities.
        labels_N: int64.

    Returns:
        int64, K x K; rows are the true class, columns the given one.
    """
    num_classes = logits_NK.shape[1]
    pairs_N = labels_N * num_classes + logits_NK.argmax(1)
    return torch.bincount(pairs_N, minlength=num_classes**2).view(num_classes, num_classes)


def class_scores(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> list[ClassScores]:
    """Return support, precision, recall and F1 of every class, in label order.

    Args:
        logits_NK: Logits or probabilities.
        labels_N: int64.

    Returns:
        K entries; a figure whose denominator is zero is NaN, not zero: nothing was measured.
    """
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(
        labels_N.numpy(), logits_NK.argmax(1).numpy(), labels=range(logits_NK.shape[1]), zero_division=np.nan
    )
    rows = zip(support, precision, recall, f1, strict=True)
    return [ClassScores(int(s), float(p), float(r), float(f)) for s, p, r, f in rows]


def macro_f1(scores: list[ClassScores]) -> float:
    """Return the plain mean of the classes' F1; classes neither there nor ever named do not count."""
    defined = [score.f1 for score in scores if not math.isnan(score.f1)]
    return sum(defined) / len(defined)


def reliability_table(
    probabilities_NK: torch.Tensor, labels_N: torch.Tensor, num_bins: int = 15
) -> list[ReliabilityBin]:
    """Compare confidence with accuracy in bins of equal width.

    Args:
        probabilities_NK: Floating point; rows sum to 1.
        labels_N: int64.
        num_bins: Number of bins over [0, 1].

    Returns:
        The bins in ascending order, the empty ones included.

    References:
        Guo et al. (2017), "On calibration of modern neural networks", arXiv 1706.04599, section 2.
    """
    confidence_N, predicted_N = probabilities_NK.double().max(1)
    correct_N = (predicted_N == labels_N).double()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)
    bins_N = torch.bucketize(confidence_N, edges[1:-1])  # right=False: an edge belongs to the bin below it
    counts = torch.bincount(bins_N, minlength=num_bins)
    confidences = torch.bincount(bins_N, weights=confidence_N, minlength=num_bins) / counts
    accuracies = torch.bincount(bins_N, weights=correct_N, minlength=num_bins) / counts
    columns = (edges[:-1], edges[1:], counts, confidences, accuracies)
    return [ReliabilityBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def expected_calibration_error(table: list[ReliabilityBin]) -> float:
    """Return the mean gap between confidence and accuracy over the bins, weighted by their counts (ECE)."""
    total = sum(row.count for row in table)
    return sum(row.count * abs(row.accuracy - row.confidence) for row in table if row.count) / total


def confident_mistakes(probabilities_NK: torch.Tensor, labels_N: torch.Tensor, limit: int = 36) -> list[Mistake]:
    """Return the wrong predictions with the highest confidence, highest first, at most ``limit``."""
    confidence_N, predicted_N = probabilities_NK.max(1)
    wrong_M = (predicted_N != labels_N).nonzero().flatten()
    order = confidence_N[wrong_M].argsort(descending=True, stable=True)[:limit]
    return [Mistake(i, int(labels_N[i]), int(predicted_N[i]), float(confidence_N[i])) for i in wrong_M[order].tolist()]


def frequent_confusions(confusion_KK: torch.Tensor, limit: int = 10) -> list[Confusion]:
    """Return the pairs of classes confused most often, most frequent first, at most ``limit``; rows are the truth."""
    counts_KK = confusion_KK.clone().fill_diagonal_(0)
    num_classes = len(counts_KK)
    order = counts_KK.flatten().argsort(descending=True, stable=True)[:limit]
    pairs = [(int(cell) // num_classes, int(cell) % num_classes) for cell in order]
    support_K = confusion_KK.sum(1)
    return [
        Confusion(label, predicted, count, count / int(support_K[label]))
        for label, predicted in pairs
        if (count := int(counts_KK[label, predicted]))
    ]
