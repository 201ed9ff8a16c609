"""The headline of an evaluation: what a model is worth on one split, in the figures that every reader asks for first.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import torch

from cifarlab import metrics
from cifarlab.inference import Views, uncertain
from cifarlab.run import Predictions
from cifarlab.stats import wilson_interval

CONFIDENCE = 0.95
LARGEST_MATRIX = 100
"""Classes up to which evaluation.json holds matrices of K x K; of more they would be nearly all of it."""


@dataclass(frozen=True)
class Proportion:
    """A share of the images with its interval.

    Attributes:
        value: Fraction.
        interval: Lower and upper end, fractions.
        method: How the interval was computed.
        confidence: Its coverage.
    """

    value: float
    interval: tuple[float, float]
    method: Literal["wilson"]
    confidence: float


@dataclass(frozen=True)
class NamedScores(metrics.ClassScores):
    """The scores of a class, with its name."""

    name: str


@dataclass(frozen=True)
class NamedMistake(metrics.Mistake):
    """A wrong prediction, with the image's file where there is one."""

    name: str


@dataclass(frozen=True)
class Conditions:
    """How answers came about.

    Attributes:
        views, views_margin: Test-time views, and how uncertain an image must be to get them.
        precision: Arithmetic of the forward pass; empty for answers from a file.
        device: Where it ran; empty for answers from a file.
        notices: What the reader should know besides.
    """

    views: Views = "none"
    views_margin: float = 1.0
    precision: str = ""
    device: str = ""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """What a model showed on one split; all but the two accuracies is computed from the headline logits.

    Attributes:
        split: 'test', 'val', or 'given' for answers from a file.
        num_images: N.
        class_names: K names in label order.
        accuracy: Of the plain logits.
        accuracy_tta: Of the logits averaged over test-time views; None where the run has none.
        headline: Which of the two is the run's answer.
        views, views_share: The test-time views, and the share of the images that were uncertain enough to get them.
        loss: Mean cross-entropy in nats.
        top3: Share of the images with the true class among the three most probable (min(3, K)).
        macro_f1: Mean F1 over the classes.
        ece: Expected calibration error, 15 bins of equal width.
        reliability: The bins.
        per_class: One entry a class, in label order.
        confusion: K x K counts; rows are the true class, columns the given one. None of more than 100 classes: the CSV
            file holds it.
        confusions: The pairs of classes confused most often; label and predicted are positions in class_names.
        mistakes: The most confident wrong predictions, likewise.
        precision: Arithmetic of the forward pass.
        device: Where it ran.
        time: When, UTC, ISO 8601.
        seconds: How long all of it took.
        notices: What the reader should know besides.
        sections: What the sections found, as in evaluation.json; those of earlier evaluations of the split included.
    """

    split: str
    num_images: int
    class_names: tuple[str, ...]
    accuracy: Proportion
    accuracy_tta: Proportion | None
    headline: Literal["accuracy", "accuracy_tta"]
    views: Views
    views_share: float
    loss: float
    top3: float
    macro_f1: float
    ece: float
    reliability: list[metrics.ReliabilityBin]
    per_class: list[NamedScores]
    confusion: list[list[int]] | None
    confusions: list[metrics.Confusion]
    mistakes: list[NamedMistake]
    precision: str
    device: str
    time: str
    seconds: float
    notices: tuple[str, ...]
    sections: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Proportion:
        """The accuracy the model is judged by."""
        return self.accuracy if self.accuracy_tta is None else self.accuracy_tta

    def as_dict(self) -> dict[str, Any]:
        """Return plain values fit for JSON, as in evaluation.json; what is NaN (nothing was measured) becomes None."""
        plain: dict[str, Any] = finite(dataclasses.asdict(self))
        return plain


def finite(value: Any) -> Any:
    """Return plain values fit for strict JSON: tuples as lists, what is NaN or infinite as None."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's and torch's
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def headline_logits(predictions: Predictions) -> torch.Tensor:
    """Return the logits that are a run's answer (N x K): averaged over test-time views where it has any."""
    return predictions.logits_NK if predictions.logits_tta_NK is None else predictions.logits_tta_NK


def judge(
    split: str,
    predictions: Predictions,
    class_names: tuple[str, ...],
    conditions: Conditions,
    image_names: tuple[str, ...] = (),
) -> Evaluation:
    """Compute the headline figures.

    Args:
        split: 'test', 'val' or 'given'.
        predictions: The answers, with the true classes.
        class_names: K names in label order.
        conditions: How the answers came about.
        image_names: File of every image, N; none where there are no files.

    Returns:
        The evaluation without its duration and its sections.
    """
    logits_NK, labels_N = headline_logits(predictions), predictions.labels_N
    probabilities_NK = logits_NK.double().softmax(1)
    averaged_NK = predictions.logits_tta_NK
    reliability = metrics.reliability_table(probabilities_NK, labels_N)
    scores = metrics.class_scores(logits_NK, labels_N)
    confusion_KK = metrics.confusion_matrix(logits_NK, labels_N)
    mistakes = metrics.confident_mistakes(probabilities_NK, labels_N)
    return Evaluation(
        split=split,
        num_images=len(labels_N),
        class_names=class_names,
        accuracy=_proportion(predictions.logits_NK, labels_N),
        accuracy_tta=None if averaged_NK is None else _proportion(averaged_NK, labels_N),
        headline="accuracy" if averaged_NK is None else "accuracy_tta",
        views=conditions.views,
        views_share=_views_share(predictions, conditions),
        loss=metrics.cross_entropy(logits_NK, labels_N),
        top3=metrics.top_k_accuracy(logits_NK, labels_N, 3),
        macro_f1=metrics.macro_f1(scores),
        ece=metrics.expected_calibration_error(reliability),
        reliability=reliability,
        per_class=[NamedScores(**vars(score), name=name) for score, name in zip(scores, class_names, strict=True)],
        confusion=confusion_KK.tolist() if len(class_names) <= LARGEST_MATRIX else None,
        confusions=metrics.frequent_confusions(confusion_KK),
        mistakes=[NamedMistake(**vars(one), name=image_names[one.index] if image_names else "") for one in mistakes],
        precision=conditions.precision,
        device=conditions.device,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=math.nan,
        notices=conditions.notices,
    )


def _proportion(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> Proportion:
    correct, total = metrics.num_correct(logits_NK, labels_N), len(labels_N)
    return Proportion(correct / total, wilson_interval(correct, total, CONFIDENCE), "wilson", CONFIDENCE)


def _views_share(predictions: Predictions, conditions: Conditions) -> float:
    if conditions.views == "none":
        return 0.0
    return uncertain(predictions.logits_NK, conditions.views_margin).double().mean().item()
