"""Runs with stored answers of a chosen accuracy, and files of predictions, to compare."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import with_fields

from cifarlab.commands import compare as module
from cifarlab.config import Config, DataConfig
from cifarlab.data import ImageSet, SourceData
from cifarlab.data.cifar import CIFAR10
from cifarlab.run import Predictions, Run

N = 200
LABELS = torch.arange(N) % 10
PUBLIC = Config(recipe="fast", data=DataConfig(val_fraction=0.5))


@pytest.fixture(autouse=True)
def _no_real_images(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.randint(0, 256, (N, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = ImageSet(pixels, LABELS, CIFAR10.class_names)
    monkeypatch.setattr(module, "load_source", lambda *_, **__: SourceData(images, None, images, "cifar10"))


@pytest.fixture(autouse=True)
def _plots_cost_seconds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not {"page", "pictures"} & set(request.node.name.split("_")):
        monkeypatch.setattr(module, "write_page", lambda *_: None)


def logits(accuracy: float, draw: int) -> torch.Tensor:
    """Logits of a model that is right where a difficulty common to all lies below its accuracy, but for some noise."""
    generator = np.random.default_rng(draw)
    right = np.random.default_rng(99).random(N) + 0.1 * generator.normal(size=N) < accuracy
    answers = np.where(right, LABELS.numpy(), (LABELS.numpy() + generator.integers(1, 10, N)) % 10)
    return torch.from_numpy(generator.random((N, 10)).astype(np.float32)) + 2 * torch.eye(10)[answers]


def make_run(
    name: str,
    accuracy: float = 0.7,
    *,
    config: Config = PUBLIC,
    seed: int = 0,
    splits: tuple[str, ...] = ("test",),
    views: bool = True,
    labels: torch.Tensor = LABELS,
    recorded: dict[str, Any] | None = None,
) -> Run:
    run = Run.create(with_fields(config, train__seed=seed), name=name)
    run.write_json("environment.json", {"split_sha256": "s", "data_sha256": "d"} if recorded is None else recorded)
    for split in splits:
        plain, averaged = logits(accuracy, seed + 1), logits(accuracy + 0.1, seed + 101)
        run.save_predictions(
            split, Predictions(plain[: len(labels)], labels, averaged[: len(labels)] if views else None)
        )
    run.write_json("result.json", {"format": 1})
    return run


def answers_of(run: Run, *, views: bool = True) -> list[int]:
    said = run.load_predictions("test")
    chosen = said.logits_tta_NK if views else said.logits_NK
    assert chosen is not None
    return [int(k) for k in chosen.argmax(1)]


def predictions_file(path: Path, ids: list[int], labels: list[int] | None = None) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "prediction"] + ["label"] * (labels is not None))
        writer.writerows([n, k, *([labels[n]] if labels else [])] for n, k in enumerate(ids))
    return path
