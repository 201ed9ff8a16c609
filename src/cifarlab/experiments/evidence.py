"""Evidence: what the run folders of a study hold besides their final figures, read once and kept as plain values.

Shape suffixes: S seeds, N images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.errors import RunError
from cifarlab.experiments.study import StudyRecord, StudyTrial, finished_run
from cifarlab.phrases import listed
from cifarlab.run import Run

Correct = NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """What the finished runs of a study hold.

    Attributes:
        correct_SN: For every arm which images of val each finished seed got right, seeds ascending; an arm is absent
            where predictions are missing or were made on other images.
        num_images: Images of val; 0 where no predictions are stored.
        guessing: Accuracy of answering the most frequent class of val always; NaN where unknown.
        curves: For every arm the lines of metrics.jsonl of each finished seed.
        environments: The environment.json of every finished run, oldest first.
        test: Accuracies on test, by name of the run folder, of the runs that were evaluated there: "test/accuracy" and,
            with views, "test/accuracy_tta". They are shown, never compared: choices are made on val.
        test_reads: How often the test split was read by these runs.
        remarks: What is amiss, in sentences.
    """

    correct_SN: dict[str, Correct] = field(default_factory=dict)
    num_images: int = 0
    guessing: float = float("nan")
    curves: dict[str, list[list[dict[str, Any]]]] = field(default_factory=dict)
    environments: tuple[dict[str, Any], ...] = ()
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    test_reads: int = 0
    remarks: tuple[str, ...] = ()


def finished(record: StudyRecord, label: str) -> list[StudyTrial]:
    """Return the finished trials of one arm, seeds ascending."""
    return sorted((t for t in record.trials if t.arm == label and t.finished), key=lambda trial: trial.seed)


def load_evidence(record: StudyRecord) -> Evidence:
    """Read the folders of the finished trials; what is missing or damaged there becomes a remark, not an error."""
    correct_SN: dict[str, Correct] = {}
    curves: dict[str, list[list[dict[str, Any]]]] = {}
    environments: list[dict[str, Any]] = []
    labels_N: torch.Tensor | None = None
    split = None
    unreadable: list[str] = []
    other_images: list[str] = []
    test: dict[str, dict[str, float]] = {}
    reads = 0
    for arm in record.spec.arms:
        rows: list[Correct] = []
        for trial in finished(record, arm.label):
            try:
                run = finished_run(trial)
                curves.setdefault(arm.label, []).append(run.metrics())
                environments.append(environment := _environment(run))
                reads += len(run.test_reads())
                if judged := test_accuracies(run):
                    test[Path(trial.run).name] = judged
                predictions = run.load_predictions("val")
            except RunError:
                unreadable.append(Path(trial.run).name)
                continue
            if labels_N is None:
                labels_N, split = predictions.labels_N, environment.get("split_sha256")
            if environment.get("split_sha256") != split or not torch.equal(predictions.labels_N, labels_N):
                other_images.append(Path(trial.run).name)
                continue
            logits_NK = predictions.logits_NK if predictions.logits_tta_NK is None else predictions.logits_tta_NK
            rows.append((logits_NK.argmax(1) == predictions.labels_N).numpy())
        if rows and len(rows) == len(finished(record, arm.label)):
            correct_SN[arm.label] = np.stack(rows)
    environments.sort(key=lambda one: str(one.get("time")))
    known = labels_N is not None and len(labels_N) > 0
    return Evidence(
        correct_SN=correct_SN,
        num_images=len(labels_N) if labels_N is not None else 0,
        guessing=torch.bincount(labels_N).max().item() / len(labels_N) if known and labels_N is not None else np.nan,
        curves=curves,
        environments=tuple(environments),
        test=test,
        test_reads=reads,
        remarks=(*_remarks(unreadable, other_images, environments), *_precisions(record)),
    )


def _environment(run: Run) -> dict[str, Any]:
    return dict(run.read_json("environment.json")) if (run.path / "environment.json").is_file() else {}


def test_accuracies(run: Run) -> dict[str, float]:
    """Return the accuracies on test of a run that was evaluated there; none of another."""
    if not (run.path / "evaluation.json").is_file():
        return {}
    scores = (run.read_json("evaluation.json").get("splits") or {}).get("test") or {}
    return {f"test/{key}": float(scores[key]["value"]) for key in ("accuracy", "accuracy_tta") if scores.get(key)}


def _precisions(record: StudyRecord) -> Iterable[str]:
    if any("train.precision" in arm.overrides for arm in record.spec.arms):
        return
    found = Counter(trial.figures["precision"] for trial in record.trials if "precision" in trial.figures)
    if len(found) > 1:
        told = listed([f"{number} in {precision}" for precision, number in found.most_common()])
        yield f"Not all trials were trained in the same precision ({told}): differences may come from that."


def _remarks(unreadable: list[str], other_images: list[str], environments: list[dict[str, Any]]) -> Iterable[str]:
    if unreadable:
        yield (
            f"The folders or predictions of {len(unreadable)} of the finished trials cannot be read "
            f"({listed(unreadable)}): their final figures count, their curves and images do not."
        )
    splits = {one.get("split_sha256") for one in environments if one.get("split_sha256")}
    if other_images or len(splits) > 1:
        yield (
            "Not all trials were judged on the same images: differences between arms may come from the images, "
            "and are no fair comparison unless the split is what the study varies."
        )
    for key, what in (("torch", "versions of PyTorch"), ("cifarlab", "versions of cifarlab")):
        found = sorted({str(one[key]) for one in environments if one.get(key)})
        if len(found) > 1:
            yield f"The trials were made with several {what}: {listed(found)}."
