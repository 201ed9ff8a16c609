"""Processes that work on a study, for the tests that share one between them or kill them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.conftest import make_images

from cifarlab.config import Config
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.study import Arm, StudySpec
from cifarlab.recipes import RECIPES, load_recipe

# forked from a server that has only imported: a worker is at work within milliseconds, and safe to kill
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "cifarlab.commands.study",
        "optuna",
        "sqlalchemy",
        "alembic.command",
        "alembic.migration",
        "tests.experiments.pretend",
        "tests.experiments.workers",
    ]
)
ONE_OF_EACH = sorted({(load_recipe(n).model.name, load_recipe(n).optimizer.name): n for n in RECIPES}.values())
"""One recipe for every family of networks and every optimiser it is trained with."""

starts_processes = pytest.mark.xdist_group("processes")
"""For the tests that use it, so that one server serves them all."""


def write_images(root: Path, count: int = 60) -> Path:
    """Write a small image folder."""
    images = make_images(count, seed=3)
    for index, (image, label) in enumerate(zip(images.images_NCHW, images.labels_N, strict=True)):
        path = root / images.class_names[label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


def tiny_spec(images: Path, *, name: str = "tiny", seeds: int = 2, **settings: Any) -> StudySpec:
    """Return a study of two arms whose trials train for a moment."""
    fields = {
        "data.folder": str(images),
        "data.image_size": 16,
        "data.val_fraction": 0.2,
        "model.name": "convnet",
        "model.convnet.stages": [[1, 8], [1, 8]],
        "model.convnet.hidden": [],
        "train.epochs": 3.0,
        "train.batch_size": 12,
        "train.precision": "fp32",
        "train.device": "cpu",
    }
    base = with_values(Config(recipe="tiny"), {**fields, **{k.replace("__", "."): v for k, v in settings.items()}})
    arms = tuple(Arm(kind, {"model.convnet.activation": kind}) for kind in ("relu", "tanh"))
    return StudySpec(name=name, question="", base=base, arms=arms, seeds=seeds)


def work(
    spec: StudySpec, runs: Path, storage: str | None, log: Path, pause: float = 0.0, patience: float = 30.0
) -> None:
    """Work on a study to its end; every trial that ends, and every notice, becomes a line of the log."""
    os.environ["CIFARLAB_RUNS"] = str(runs)
    import torch

    from cifarlab.commands.study import study
    from cifarlab.training.loop import Hooks

    torch.set_num_threads(1)

    def write(line: str) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()} {line}\n")

    study(
        spec,
        storage=storage,
        hooks=Hooks(on_step=lambda report: time.sleep(pause)),
        notify=lambda line: write(f"notice {line}"),
        on_begin=lambda step: write(f"begin {step.trial.arm} {step.trial.seed}"),
        on_end=lambda step: write(f"end {step.trial.arm} {step.trial.seed}"),
        patience_seconds=patience,
        beat_seconds=0.1,
    )


def die_while_creating(path: Path) -> None:
    """Create a database, but end without a farewell when its tables are there and their indices are not."""
    from optuna.storages._rdb import storage

    storage._VersionManager.__init__ = lambda *args, **keywords: os._exit(9)  # type: ignore[method-assign]
    from cifarlab.experiments.storage import open_storage

    open_storage(str(path))


def start(target: Callable[..., None], *args: Any) -> Any:
    """Start a process."""
    process = CONTEXT.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def await_that(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def acquire_all(url: str, num_keys: int, go: Any, won: Any) -> None:
    """Try to take every key; report which were won."""
    from cifarlab.experiments.leases import Watch, claim
    from cifarlab.experiments.storage import open_leases

    leases, watch = open_leases(url), Watch()
    go.wait()
    held = leases.held()
    won.put([key for key in map(str, range(num_keys)) if claim(leases, watch, key, held)])
    time.sleep(60)  # lives on, so that nobody takes over from it; ended by the test


def open_queue_and_report(spec: StudySpec, url: str, go: Any, report: Any) -> None:
    """Set up or join a study; report its number of seeds, or the error."""
    from cifarlab.errors import CifarlabError
    from cifarlab.experiments.storage import open_leases, open_storage
    from cifarlab.experiments.study_queue import open_queue

    go.wait()
    try:
        report.put(open_queue(spec, open_storage(url), open_leases(url)).spec.seeds)
    except CifarlabError as error:
        report.put(str(error))
