"""A small run to evaluate, answers of others beside it, sections made up here, and readers of what is written."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from cifarlab.commands import evaluate as module
from cifarlab.config import Config, DataConfig, EvaluateConfig, ModelConfig, SpeednetConfig
from cifarlab.data import ImageSet, Splits
from cifarlab.evaluation import conduct, writing
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.evaluation.sections import SECTIONS, Entry
from cifarlab.inference import model_metadata
from cifarlab.models import build_model, fit_to_images
from cifarlab.run import Run

NAMES = ("plain", "with, comma", "$never$ seen")
SIZE = 12


def squares(count: int, seed: int, *, names: bool = False) -> ImageSet:
    """Noisy images of the first two classes; the third has none."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(count) % 2
    images = torch.randint(120, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    images[torch.arange(count), labels_N] += 60
    return ImageSet(images, labels_N, NAMES, tuple(f"{i}.png" for i in range(count)) if names else ())


@pytest.fixture(name="splits")
def _splits() -> Splits:
    return Splits(squares(60, 0), squares(20, 1), squares(50, 2, names=True), "squares", "abc")


def make_run(root: Path, splits: Splits, views: str = "flip", views_margin: float = 0.02) -> Run:
    config = Config(
        data=DataConfig(image_size=SIZE),
        model=ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 8, 8))),
        evaluate=EvaluateConfig(views=views, views_margin=views_margin, batch_size=16),  # type: ignore[arg-type]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(config.model, len(NAMES), SIZE)
    fit_to_images(model, splits.train.images_NCHW)
    run = Run.create(config, name="tiny", root=root)
    run.write_json("environment.json", {"split_sha256": splits.sha256, "data_sha256": splits.train.sha256()})
    run.save_model(model.state_dict(), model_metadata(config, NAMES))
    run.write_json("result.json", {"format": 1})
    return run


@pytest.fixture(name="run")
def _run(tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(module, "load_splits", lambda config: splits)
    return make_run(tmp_path, splits)


@pytest.fixture(name="answers")
def _answers(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    labels_N = generator.integers(0, 4, 200)
    logits_NK = generator.normal(size=(200, 4)) + 3 * np.eye(4)[labels_N]
    np.savez(tmp_path / "theirs.npz", logits=logits_NK, labels=labels_N)
    return tmp_path / "theirs.npz"


@pytest.fixture(autouse=True)
def _plots_cost_seconds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "plots" not in request.node.name:
        monkeypatch.setattr(conduct, "write_mistakes", lambda *arguments: None)
        monkeypatch.setattr(writing, "save_plots", lambda folder, split, figures: None)


def strict_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def page_of(run: Run, split: str) -> str:
    return (run.path / "evaluation" / f"{split}.html").read_text(encoding="utf-8")


def add_section(monkeypatch: pytest.MonkeyPatch, name: str, function: Any) -> None:
    """Put a section into the table, as a module of its own."""
    module_name = f"cifarlab.evaluation.{name}"
    fake = ModuleType(module_name)
    setattr(fake, f"{name}_section", function)
    monkeypatch.setitem(sys.modules, module_name, fake)
    monkeypatch.setitem(SECTIONS, name, Entry(f"Is it {name}?", name, quick=False, cost="no time", options=("seed",)))


def found(subject: Subject) -> Section:
    table = Table("Of <classes>", ("class", "share", "95 % interval"), [("a", 0.5, (0.25, 0.75)), ("b", None, None)],
                  ("text", "fraction", "interval"))  # fmt: skip
    return Section(
        findings=("It is <b>well</b>.",),
        figures={"share": {"value": np.float64(0.5), "interval": (0.25, 0.75)}, "nothing": float("nan")},
        tables={"well": table},
        notes=("Only a test.",),
    )
