"""Evaluate: what a finished run is worth on images it was not trained on.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import torch

from cifarlab import metrics
from cifarlab.config import EvaluateConfig
from cifarlab.data import ImageSet, Splits, load_splits
from cifarlab.errors import IntegrityError, RunError, UsageError
from cifarlab.inference import Classifier, Views, predict_logits, uncertain
from cifarlab.run import Predictions, Run, write_text
from cifarlab.stats import wilson_interval

_FORMAT = 1
_CONFIDENCE = 0.95
_PRECISION = "fp32"  # as in Classifier: what is judged is what is shipped, and no machine rounds differently


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
class Evaluation:
    """What a run showed on one split; all but the two accuracies is computed from the headline logits.

    Attributes:
        split: 'test' or 'val'.
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
        confusion: K x K counts; rows are the true class, columns the given one.
        confusions: The pairs of classes confused most often; label and predicted are positions in class_names.
        mistakes: The most confident wrong predictions, likewise.
        precision: Arithmetic of the forward pass.
        device: Where it ran.
        time: When, UTC, ISO 8601.
        seconds: How long all of it took.
        notices: What the reader should know besides.
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
    confusion: list[list[int]]
    confusions: list[metrics.Confusion]
    mistakes: list[NamedMistake]
    precision: str
    device: str
    time: str
    seconds: float
    notices: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values fit for JSON, as in evaluation.json; what is NaN (nothing was measured) becomes None."""
        return {key: _finite(item) for key, item in dataclasses.asdict(self).items()}


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluate(run: Run, *, split: Literal["test", "val"] = "test", reason: str = "", device: str = "auto") -> Evaluation:
    """Predict a split, and write predictions, metrics, tables and plots into the run folder.

    A reading of the test split is recorded before it happens. Evaluating one split leaves the results of the other.

    Args:
        run: A finished run.
        split: Which images.
        reason: Why the test split is read, for the record.
        device: 'auto', 'cpu', 'cuda' or 'mps'.

    Raises:
        RunError: If the run is not finished, is damaged, or cannot be written to.
        UsageError: If the run has no images in that split.
        DataError: If the images are missing, or are not those the run was trained beside.
    """
    start = time.perf_counter()
    run.require_finished()
    classifier = Classifier.load(run, device)
    splits = load_splits(run.config.data)
    images = _choose_split(run, splits, split)
    notices = _check_data(run, splits, classifier)
    if split == "test":
        run.log_test_read("evaluate --split test", reason)
    predictions = _predict(classifier, images)
    run.save_predictions(split, predictions)
    evaluation = _judge(classifier, split, images, predictions, notices)
    _write_tables(run, evaluation, images, predictions)
    _write_plots(run, evaluation, images)
    evaluation = dataclasses.replace(evaluation, seconds=time.perf_counter() - start)
    path = run.path / "evaluation.json"
    others = run.read_json(path.name)["splits"] if path.is_file() else {}
    run.write_json(path.name, {"format": _FORMAT, "splits": {**others, split: evaluation.as_dict()}})
    return evaluation


def _choose_split(run: Run, splits: Splits, split: str) -> ImageSet:
    images = splits.test if split == "test" else splits.val
    if images is not None and len(images):
        return images
    other = "val" if split == "test" else "test"
    raise UsageError(
        f"{run.path} has no {split} images; take --split {other}, or train with data.{split}_fraction above 0"
    )


def _check_data(run: Run, splits: Splits, classifier: Classifier) -> tuple[str, ...]:
    """Make sure that the images are those the run was trained beside, and split as they were then."""
    if splits.train.class_names != classifier.class_names:
        raise IntegrityError(
            f"the images have the classes {', '.join(splits.train.class_names)}, but {run.path} was trained on "
            f"{', '.join(classifier.class_names)}; restore its images"
        )
    path = run.path / "environment.json"
    recorded = run.read_json(path.name) if path.is_file() else {}
    if "split_sha256" not in recorded:
        return ("The run does not record its split, so images it was trained on could be among those judged here.",)
    same = recorded["split_sha256"] == splits.sha256
    if same and "data_sha256" in recorded:
        same = recorded["data_sha256"] == splits.train.sha256()
    if not same:
        raise IntegrityError(
            f"the images or their split have changed since {run.path} was trained; restore them or train anew"
        )
    return ()


def _predict(classifier: Classifier, images: ImageSet) -> Predictions:
    config = classifier.run.config.evaluate
    logits_NK, logits_tta_NK = predict_logits(
        classifier.model,
        images.images_NCHW,
        views=config.views,
        views_margin=config.views_margin,
        batch_size=config.batch_size,
        precision=_PRECISION,
        device=classifier.device,
    )
    return Predictions(logits_NK, images.labels_N, logits_tta_NK)


def _headline_logits(predictions: Predictions) -> torch.Tensor:
    return predictions.logits_NK if predictions.logits_tta_NK is None else predictions.logits_tta_NK


def _views_share(predictions: Predictions, config: EvaluateConfig) -> float:
    if config.views == "none":
        return 0.0
    return uncertain(predictions.logits_NK, config.views_margin).double().mean().item()


def _proportion(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> Proportion:
    correct, total = metrics.num_correct(logits_NK, labels_N), len(labels_N)
    return Proportion(correct / total, wilson_interval(correct, total, _CONFIDENCE), "wilson", _CONFIDENCE)


def _judge(
    classifier: Classifier, split: str, images: ImageSet, predictions: Predictions, notices: tuple[str, ...]
) -> Evaluation:
    logits_NK, labels_N = _headline_logits(predictions), images.labels_N
    probabilities_NK = logits_NK.double().softmax(1)
    config = classifier.run.config.evaluate
    averaged_NK = predictions.logits_tta_NK
    reliability = metrics.reliability_table(probabilities_NK, labels_N)
    scores = metrics.class_scores(logits_NK, labels_N)
    confusion_KK = metrics.confusion_matrix(logits_NK, labels_N)
    mistakes = metrics.confident_mistakes(probabilities_NK, labels_N)
    return Evaluation(
        split=split,
        num_images=len(images),
        class_names=images.class_names,
        accuracy=_proportion(predictions.logits_NK, labels_N),
        accuracy_tta=None if averaged_NK is None else _proportion(averaged_NK, labels_N),
        headline="accuracy" if averaged_NK is None else "accuracy_tta",
        views=config.views,
        views_share=_views_share(predictions, config),
        loss=metrics.cross_entropy(logits_NK, labels_N),
        top3=metrics.top_k_accuracy(logits_NK, labels_N, 3),
        macro_f1=metrics.macro_f1(scores),
        ece=metrics.expected_calibration_error(reliability),
        reliability=reliability,
        per_class=[
            NamedScores(**vars(score), name=name) for score, name in zip(scores, images.class_names, strict=True)
        ],
        confusion=confusion_KK.tolist(),
        confusions=metrics.frequent_confusions(confusion_KK),
        mistakes=[NamedMistake(**vars(one), name=_name(images, one.index)) for one in mistakes],
        precision=_PRECISION,
        device=classifier.device.type,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=math.nan,
        notices=notices,
    )


def _name(images: ImageSet, index: int) -> str:
    return images.names[index] if images.names else ""


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _write_tables(run: Run, evaluation: Evaluation, images: ImageSet, predictions: Predictions) -> None:
    folder, split, names = run.path / "evaluation", evaluation.split, evaluation.class_names
    header = ("class", "support", "precision", "recall", "f1")
    plain = evaluation.as_dict()["per_class"]  # NaN becomes None, and None an empty cell
    rows: Iterable[Sequence[object]] = [[one["name"], *(one[column] for column in header[1:])] for one in plain]
    write_text(folder / f"per_class_{split}.csv", _csv(header, rows))
    rows = [[name, *counts] for name, counts in zip(names, evaluation.confusion, strict=True)]
    write_text(folder / f"confusion_{split}.csv", _csv(("true \\ predicted", *names), rows))
    confidence_N, predicted_N = _headline_logits(predictions).double().softmax(1).max(1)
    columns = zip(images.labels_N.tolist(), predicted_N.tolist(), confidence_N.tolist(), strict=True)
    rows = ((i, _name(images, i), names[y], names[p], f"{c:.6f}") for i, (y, p, c) in enumerate(columns))
    write_text(folder / f"predictions_{split}.csv", _csv(("index", "name", "label", "predicted", "confidence"), rows))


def _write_plots(run: Run, evaluation: Evaluation, images: ImageSet) -> None:
    from cifarlab.plots import evaluation as plots
    from cifarlab.plots.style import save_figure

    names = evaluation.class_names
    where = f"{evaluation.split} split, {evaluation.num_images:,} images"
    wrong = images.subset(torch.tensor([one.index for one in evaluation.mistakes], dtype=torch.int64))
    figures = {
        "confusion": plots.confusion_figure(evaluation.confusion, names, f"Confusion matrix ({where})"),
        "reliability": plots.reliability_figure(evaluation.reliability, evaluation.ece, f"Reliability ({where})"),
        "per_class": plots.per_class_figure(evaluation.per_class, names, f"Classes ({where})"),
        "mistakes": plots.mistakes_figure(
            wrong.images_NCHW, evaluation.mistakes, names, f"Most confident mistakes ({where})"
        ),
    }
    try:
        for name, figure in figures.items():
            save_figure(figure, run.path / "plots" / f"{name}_{evaluation.split}")
    except OSError as error:
        problem = error.strerror or error
        raise RunError(
            f"cannot write the plots in {run.path}: {problem}; free space or choose another folder"
        ) from error
