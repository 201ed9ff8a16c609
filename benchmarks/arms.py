"""The arms of time to accuracy: which configuration each trains, and how one run of it is measured."""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cifarlab.commands.train import train
from cifarlab.config import Config, DataConfig
from cifarlab.config_yaml import config_from_dict, config_to_dict, config_to_yaml
from cifarlab.data import ImageSet, Splits, load_splits
from cifarlab.data.loader import BatchLoader
from cifarlab.device import choose_device
from cifarlab.environment import peak_memory
from cifarlab.errors import RunError, StoppedError, UsageError
from cifarlab.inference import load_model, predict_logits
from cifarlab.metrics import accuracy
from cifarlab.models import ImageClassifier
from cifarlab.recipes import load_recipe
from cifarlab.run import Run
from cifarlab.training.checkpoint import unpack_state
from cifarlab.training.loop import Hooks, build_state, judged_model

_STOP = 15  # SIGTERM: the loop asks for the number of a signal
_AUGMENTATION_STEPS = 50
_CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
_VAL_FRACTION = 0.1  # the standard validation split, whatever share a recipe itself holds out


@dataclass(frozen=True)
class Arm:
    """One recipe as it is measured."""

    recipe: str
    config: Config
    on_val: bool = False
    """Judge on the validation split and never touch test."""
    overridden: bool = False
    """Whether fields were changed, so that the recipe's name does not say it all."""
    max_minutes: float = 0.0
    """Stop at the end of the first epoch after so much training; 0 for never."""
    wall: bool = False
    """Train each seed once more in a process of its own, timed from outside."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return choose_device(self.config.train.device)

    @property
    def splits(self) -> Splits:
        """Its images; without the test split where it is judged on validation."""
        splits = _load_splits(self.config.data)
        return replace(splits, test=None) if self.on_val else splits

    def with_seed(self, seed: int) -> Config:
        """Return the configuration of one run."""
        return replace(self.config, train=replace(self.config.train, seed=seed))


@dataclass(frozen=True)
class Measurement:
    """What one run showed."""

    figures: dict[str, Any]
    """Numbers of this run."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What must be the same in all runs of an arm, such as the precision."""


@functools.cache
def _load_splits(config: DataConfig) -> Splits:
    return load_splits(config)


def build_arm(
    recipe: str, settings: tuple[str, ...] = (), *, on_val: bool = False, max_minutes: float = 0.0, wall: bool = False
) -> Arm:
    """Build an arm from a recipe's name.

    Args:
        recipe: Name of the recipe.
        settings: 'section.field=value' each, with the value as JSON or as a plain word.
        on_val: Hold out the standard validation split and judge on it.
        max_minutes: See :class:`Arm`.
        wall: See :class:`Arm`.

    Raises:
        UsageError: For an unknown recipe or field, or a value that does not fit.
    """
    config = load_recipe(recipe)
    if on_val:
        config = replace(config, data=replace(config.data, val_fraction=_VAL_FRACTION))
    config = set_fields(config, settings)
    if on_val and config.data.val_fraction == 0:
        raise UsageError("--val needs a validation split; leave data.val_fraction above 0")
    return Arm(recipe, config, on_val=on_val, overridden=bool(settings) or on_val, max_minutes=max_minutes, wall=wall)


def set_fields(config: Config, settings: tuple[str, ...]) -> Config:
    """Return the configuration with fields replaced; each setting is 'section.field=value'.

    Raises:
        UsageError: If a setting has no such form, or names no field, or its value does not fit.
    """
    values = config_to_dict(config)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes section.field=value, such as train.epochs=7, not {setting!r}")
        *sections, last = name.split(".")
        part: Any = values
        for section in sections:
            part = part.get(section) if isinstance(part, dict) else None
        if not isinstance(part, dict) or last not in part:
            raise UsageError(f"--set {setting}: no field {name}; fields are those of cifarlab train --help")
        part[last] = _value(text)
    return config_from_dict(values)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def measure(arm: Arm, seed: int) -> Measurement:
    """Train and judge one seed, and where the arm asks for it time a process of its own.

    Raises:
        RunError: If the separate process failed, or computed in another precision.
    """
    measurement = _train_and_judge(arm, seed)
    if not arm.wall:
        return measurement
    figures, precision = time_fresh_process(arm, seed)
    if precision != measurement.facts["precision"]:
        raise RunError(f"{arm.recipe}: the process of its own trained in {precision}, not as the others; measure again")
    return replace(measurement, figures=measurement.figures | figures)


def _train_and_judge(arm: Arm, seed: int) -> Measurement:
    """Train and judge one seed in this process."""
    config, splits = arm.with_seed(seed), arm.splits
    if arm.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    cut = False
    try:
        run = train(config, name=f"bench-{arm.recipe}-{seed}", splits=splits, hooks=_stop_after(arm.max_minutes))
        model, result = load_model(run)[0], run.read_json("result.json")
    except StoppedError as stop:
        if stop.run is None:
            raise
        cut, run = True, Run.open(stop.run)
        model, result = _read_cut_run(run, config, splits, arm.device)
    judged = splits.val if arm.on_val else splits.test
    if judged is None:
        raise UsageError(f"{arm.recipe} has no test split to be judged on; give --val")
    if not arm.on_val:
        run.log_test_read(shlex.join(sys.argv), "benchmark of a recipe chosen on validation")
    evaluated = judge(model, config, judged, result["precision"], arm.device)
    training = result["train_clock_seconds"]
    kept = ("steps", "epochs", "compute_pflop", "train/accuracy", "val/accuracy")
    figures: dict[str, Any] = {
        "seed": seed,
        "train_clock_seconds": training + evaluated["evaluation_seconds"],
        "training_seconds": training,
        **evaluated,
    }
    figures |= {name: result[name] for name in kept if name in result}
    figures["curves"] = read_curves(run)
    if cut:
        figures["cut"] = True
    if (peak := peak_memory()) is not None:
        figures["peak_memory_bytes"] = peak
    if arm.device.type == "cuda":
        figures["gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
    return Measurement(figures, {"num_train": len(splits.train), "precision": result["precision"]})


def read_curves(run: Run) -> dict[str, list[float]]:
    """Return losses and accuracies of a run epoch by epoch, to five decimals."""
    records = run.metrics()
    return {name: [round(record[name], 5) for record in records] for name in _CURVES if name in records[0]}


def _stop_after(max_minutes: float) -> Hooks:
    """Return hooks that stop a run at the end of the first epoch after so many minutes of training; 0 for never."""
    seconds: list[float] = []

    def stop_signal() -> int:
        # the loop asks after every step too, but the sum grows only between two epochs
        return _STOP if max_minutes and sum(seconds) >= 60 * max_minutes else 0

    return Hooks(on_epoch=lambda record: seconds.append(record["seconds"]), stop_signal=stop_signal)


def _read_cut_run(
    run: Run, config: Config, splits: Splits, device: torch.device
) -> tuple[ImageClassifier, dict[str, Any]]:
    """Return the model a stopped run had reached, and what of a result.json can be said of it."""
    packed = run.load_checkpoint()
    assert packed is not None  # a stop saves one
    state = build_state(config, splits.train, device, packed[1]["progress"]["precision"])
    unpack_state(state, *packed)
    model, progress = judged_model(state), state.progress
    model.preprocess.image_size = config.data.image_size
    last = progress.records[-1]
    result = {
        "train_clock_seconds": progress.clock_seconds,
        "precision": progress.precision,
        "steps": progress.step,
        "epochs": len(progress.records),
    }
    return model, result | {name: last[name] for name in ("train/accuracy", "val/accuracy") if name in last}


def judge(
    model: ImageClassifier, config: Config, images: ImageSet, precision: str, device: torch.device
) -> dict[str, float]:
    """Evaluate a split with the recipe's views in the run's own precision, timed from images in the device's memory."""
    settings = config.evaluate
    model = model.to(device)
    if config.train.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images_NCHW = images.images_NCHW.to(device)
    _wait(device)
    start = time.perf_counter()
    logits_NK, logits_tta_NK = predict_logits(
        model,
        images_NCHW,
        views=settings.views,
        views_margin=settings.views_margin,
        batch_size=settings.batch_size,
        precision=precision,
        device=device,
    )
    figures = {"evaluation_seconds": time.perf_counter() - start, "accuracy": accuracy(logits_NK, images.labels_N)}
    if logits_tta_NK is not None:
        figures["accuracy_tta"] = accuracy(logits_tta_NK, images.labels_N)
    return figures


def warm_up(arm: Arm) -> None:
    """Train and judge once for nothing, so that a GPU's libraries are loaded and tuned before a clock runs.

    It is judged on training images: test is read for figures only.
    """
    splits, config = arm.splits, arm.with_seed(0)
    # one epoch sees every size: low resolutions are shares of a run, however long it is
    config = replace(config, train=replace(config.train, epochs=min(1.0, config.train.epochs)))
    run = train(config, name=f"bench-{arm.recipe}-warm-up", splits=splits)
    size = len(splits.test or splits.val or splits.train)
    images = splits.train.subset(torch.arange(min(size, len(splits.train))))
    judge(load_model(run)[0], config, images, run.read_json("result.json")["precision"], arm.device)


def augmentation_seconds(arm: Arm) -> float:
    """Return the seconds it takes to make one training batch, apart from training."""
    loader = BatchLoader(arm.splits.train, arm.config, arm.device)
    steps = min(loader.plan.num_steps, _AUGMENTATION_STEPS)
    loader.batch(0)
    _wait(arm.device)
    start = time.perf_counter()
    for step in range(steps):
        loader.batch(step)
    _wait(arm.device)
    return (time.perf_counter() - start) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_fresh_process(arm: Arm, seed: int) -> tuple[dict[str, float], str]:
    """Train in a process of its own, timed from its start to its result on disk.

    Returns:
        Wall clock and what the run recorded of itself: time to its first step, most memory held; and its precision.

    Raises:
        RunError: If the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        if arm.overridden:
            path = Path(folder) / "config.yaml"
            path.write_text(config_to_yaml(arm.config), encoding="utf-8")
            what = ["--config", str(path)]
        else:
            what = [arm.recipe]
        command = [sys.executable, "-m", "cifarlab", "train", *what, "--train.seed", str(seed), "--name", "timed"]
        runs = Path(folder) / "runs"
        started = time.time()
        done = subprocess.run(
            command, env={**os.environ, "CIFARLAB_RUNS": str(runs)}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RunError(f"{shlex.join(command)} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        run = Run.open(runs / "timed")
        result = run.read_json("result.json")
        # its last change is the renaming that put it in its place; the process then still takes a while to end
        seconds = (run.path / "result.json").stat().st_ctime - started
        recorded = {name: result[name] for name in ("seconds_to_first_step", "peak_memory_bytes") if name in result}
        return {"wall_clock_seconds": seconds, **recorded}, result["precision"]
