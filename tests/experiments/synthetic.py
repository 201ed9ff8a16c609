"""Studies made up for tests: run folders written through Run's own interface, with accuracies as ordered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cifarlab.config import Config
from cifarlab.experiments.study import Arm, StudyRecord, StudySpec, StudyTrial, run_name
from cifarlab.run import Predictions, Run

NUM_IMAGES = 1000
NUM_CLASSES = 4


def predictions(accuracy: float, noise: float, generator: np.random.Generator, views: float | None) -> Predictions:
    """Answers of which exactly the given share is right; which ones depends on the image and on chance."""
    difficulty_N = np.random.default_rng(0).normal(size=NUM_IMAGES)
    labels_N = torch.arange(NUM_IMAGES) % NUM_CLASSES

    def logits(share: float) -> torch.Tensor:
        order = np.argsort(difficulty_N + generator.normal(scale=noise, size=NUM_IMAGES))
        right = np.zeros(NUM_IMAGES, dtype=bool)
        right[order[: round(share * NUM_IMAGES)]] = True
        answers_N = torch.where(torch.from_numpy(right), labels_N, (labels_N + 1) % NUM_CLASSES)
        return torch.nn.functional.one_hot(answers_N, NUM_CLASSES).float()

    return Predictions(logits(accuracy), labels_N, None if views is None else logits(views))


def make_record(
    root: Path,
    values: Mapping[str, Sequence[float | None]],
    *,
    overrides: Mapping[str, dict[str, Any]] | None = None,
    question: str = "Which is best?",
    name: str = "made-up",
    seeds: int | None = None,
    views: float | None = None,
    pflop: Mapping[str, float] | None = None,
    epochs: int = 4,
    noise: float = 0.7,
    folders: bool = True,
) -> StudyRecord:
    """Make a study; ``None`` for an accuracy is a failed trial, and seeds beyond those given are waiting.

    Args:
        root: Where the run folders go.
        values: Accuracies of each arm, one a seed.
        overrides: What each arm sets; by default its label is its activation.
        question: The study's question.
        name: The study's name.
        seeds: Planned seeds; the longest row's number if None.
        views: What test-time views add to every accuracy; None for a recipe without views.
        pflop: Compute of one run of each arm; 0.01 by default.
        epochs: Length of the learning curves.
        noise: How much chance, against difficulty, decides which images are right.
        folders: Whether run folders are written; without them there is only the record.
    """
    overrides = overrides or {label: {"model.convnet.activation": label} for label in values}
    arms = tuple(Arm(label, overrides[label]) for label in values)
    spec = StudySpec(name, question, Config(recipe="convnet"), arms, seeds or max(map(len, values.values())))
    generator = np.random.default_rng(1)
    trials = []
    for seed in range(spec.seeds):
        for arm in arms:
            folder = root / run_name(spec, arm, seed)
            row = values[arm.label]
            if seed >= len(row):
                trials.append(StudyTrial(arm.label, seed, folder, "waiting"))
            elif row[seed] is None:
                trials.append(StudyTrial(arm.label, seed, folder, "failed", error="the loss became infinite at step 7"))
            else:
                figures = figures_of(row[seed], views, (pflop or {}).get(arm.label, 0.01), epochs, seed)
                if folders:
                    tta = None if views is None else row[seed] + views
                    write_run(spec, arm, seed, root, figures, predictions(row[seed], noise, generator, tta))
                trials.append(StudyTrial(arm.label, seed, folder, "complete", figures))
    return StudyRecord(spec, tuple(trials))


def figures_of(accuracy: float, views: float | None, pflop: float, epochs: int, seed: int) -> dict[str, Any]:
    figures = {
        "format": 1,
        "epochs": epochs,
        "stopped_early": False,
        "train_clock_seconds": 40.5 + seed,
        "compute_pflop": pflop,
        "num_parameters": 1234,
        "precision": "fp32",
        "train/accuracy": accuracy + 0.02,
        "val/accuracy": accuracy,
        "diagnosis": {"verdict": "neither", "sentence": "It neither overfits nor underfits."},
    }
    return figures if views is None else figures | {"val/accuracy_tta": accuracy + views}


def write_run(
    spec: StudySpec, arm: Arm, seed: int, root: Path, figures: dict[str, Any], predicted: Predictions
) -> None:
    run = Run.create(spec.base, name=run_name(spec, arm, seed), root=root)
    environment = {
        "cifarlab": "0.1.0",
        "torch": "2.13.0+cpu",
        "cpu": "A processor",
        "threads": 2,
        "gpu": None,
        "command": "cifarlab study convnet --vary model.activation=relu,gelu --seeds 5",
        "time": f"2026-11-21T10:{seed:02d}:00+00:00",
        "split_sha256": "ab" * 32,
        "num_val": NUM_IMAGES,
    }
    run.write_json("environment.json", environment)
    epochs, end = figures["epochs"], figures["val/accuracy"]
    run.write_metrics([{"epoch": e + 1, "val/accuracy": end * (1 - 0.5 ** (e + 1))} for e in range(epochs)])
    run.save_predictions("val", predicted)
    run.write_json("result.json", figures)
