"""Train: a configuration becomes a run folder."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from cifarlab.config import Config
from cifarlab.data import ImageSet, Splits, load_splits
from cifarlab.data.loader import make_plan
from cifarlab.device import choose_device, choose_precision, decide_compile
from cifarlab.diagnosis import diagnose
from cifarlab.environment import describe_environment, peak_memory
from cifarlab.errors import RunError
from cifarlab.inference import model_metadata
from cifarlab.metrics import accuracy
from cifarlab.models import ImageClassifier
from cifarlab.models.compute import training_pflop
from cifarlab.run import FORMAT_VERSION, Predictions, Run, with_absolute_paths
from cifarlab.training.checkpoint import TrainState, packed_precision, unpack_state
from cifarlab.training.compiling import will_compile_loops
from cifarlab.training.distributed import World, joined, shared_logits
from cifarlab.training.loop import Hooks, StepReport, build_state, fit, judged_model


def train(
    config: Config,
    *,
    name: str = "",
    splits: Splits | None = None,
    hooks: Hooks | None = None,
    notify: Callable[[str], None] = lambda line: None,
    started: float | None = None,
    world: World | None = None,
) -> Run:
    """Train a new run.

    Args:
        config: What to do.
        name: Name of the run folder; the recipe's name if empty.
        splits: The images, where the caller has them already; loaded from ``config.data`` otherwise.
        hooks: Progress and stop request.
        notify: Takes one-line notices.
        started: When the work began, on the clock of time.monotonic(); now if None.
        world: The processes that train together, where the caller has joined them; those torchrun started if None.
            Each of them makes this call; hooks and notices are rank 0's, but for the stop request.

    Raises:
        DataError: If the images are missing or damaged.
        UsageError: If this machine cannot do what the configuration asks for.
        TrainingError: If the loss becomes NaN or infinite, or another rank failed.
        StoppedError: If a stop was requested; the run can be resumed.
    """
    started = time.monotonic() if started is None else started
    config = with_absolute_paths(config)
    hooks = hooks or Hooks()
    with joined(world, hooks.stop_signal) as ranks:
        hooks, notify = _main_voice(ranks, hooks, notify)
        with ranks.in_turn():
            splits = load_splits(config.data) if splits is None else splits
        described = _describe_data(splits, ranks)
        device = _own_device(config, splits, ranks)
        precision = ranks.from_main(lambda: _decide_precision(config, device, notify))
        with _random_numbers_aside(device):
            state = build_state(config, splits.train, device, precision)
            if config.model.init:
                _start_from(state, Run.open(config.model.init), notify)
            run = Run(Path(ranks.from_main(lambda: str(_create(config, name, described, ranks).path))))
            return _finish(config, state, splits, device, run, hooks, notify, started, ranks)


def resume(
    run: Run,
    *,
    hooks: Hooks | None = None,
    notify: Callable[[str], None] = lambda line: None,
    started: float | None = None,
    world: World | None = None,
) -> Run:
    """Continue a stopped run to the same bytes as if it had never been stopped.

    Raises:
        RunError: If the run is finished, or its checkpoint or data do not fit.
        DataError, TrainingError, StoppedError: As for :func:`train`.
    """
    started = time.monotonic() if started is None else started
    hooks = hooks or Hooks()
    with joined(world, hooks.stop_signal) as ranks:
        hooks, notify = _main_voice(ranks, hooks, notify)
        with ranks.in_turn():
            if run.finished:
                raise RunError(f"{run.path} is finished; there is nothing to resume")
            if not (run.path / "environment.json").is_file():
                again = f"cifarlab train --config {shlex.quote(str(run.path / 'config.yaml'))}"
                raise RunError(f"{run.path} was stopped before its training began; begin it anew with: {again}")
            config, packed = run.config, run.load_checkpoint()
            splits = load_splits(config.data)
            recorded = run.read_json("environment.json")
        if recorded.get("data_sha256") != _describe_data(splits, ranks)["data_sha256"]:
            raise RunError(f"the images of {run.path} have changed since it began; restore them or train anew")
        device = _own_device(config, splits, ranks)
        with _random_numbers_aside(device):
            if packed is None:
                notify(f"{run.path} has no checkpoint yet; starting from the beginning")
                precision = ranks.from_main(lambda: _decide_precision(config, device, lambda line: None))
                state = build_state(config, splits.train, device, precision)
                if config.model.init:
                    _start_from(state, Run.open(config.model.init), notify)
            else:
                state = build_state(config, splits.train, device, packed_precision(packed[1]))
                unpack_state(state, *packed)
            return _finish(config, state, splits, device, run, hooks, notify, started, ranks)


def _main_voice(ranks: World, hooks: Hooks, notify: Callable[[str], None]) -> tuple[Hooks, Callable[[str], None]]:
    """Return hooks and notices as they are on rank 0, and silent ones on the others, which may ask to stop too."""
    if ranks.is_main:
        return hooks, notify
    return Hooks(stop_signal=hooks.stop_signal), lambda line: None


def _own_device(config: Config, splits: Splits, ranks: World) -> torch.device:
    """Return this rank's device; refuse, before anything is written, a batch the ranks cannot share."""
    ranks.rows(make_plan(config, len(splits.train)).batch_size)
    return ranks.device(choose_device(config.train.device))


def _decide_precision(config: Config, device: torch.device, notify: Callable[[str], None]) -> str:
    precision, notice = choose_precision(config.train.precision, device)
    if notice:
        notify(notice)
    return precision


def _as_it_can_compile(
    config: Config, state: TrainState, device: torch.device, notify: Callable[[str], None], ranks: World
) -> Config:
    compiles, notice = decide_compile(config.train.compile, device)
    if compiles and will_compile_loops(state, device, ranks.size):
        notice = "compiling loops for this processor, for half a minute to a minute and a half; they are kept"
    if notice:
        notify(notice)
    return replace(config, train=replace(config.train, compile=compiles))


def _random_numbers_aside(device: torch.device) -> AbstractContextManager[None]:
    """Give the caller's random numbers back afterwards; other GPUs than this run's are not touched."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def _create(config: Config, name: str, described: dict[str, Any], ranks: World) -> Run:
    run = Run.create(config, name=name)
    run.write_json("environment.json", {**describe_environment(), "world_size": ranks.size, **described})
    return run


def _describe_data(splits: Splits, ranks: World) -> dict[str, Any]:
    """Describe the images by hashes and counts, after seeing to it that all ranks have the same."""
    described = {
        "data_origin": splits.origin,
        "split_sha256": splits.sha256,
        "data_sha256": splits.train.sha256(),
        "num_train": len(splits.train),
        "num_val": len(splits.val) if splits.val else 0,
        "num_test": len(splits.test) if splits.test else 0,
    }
    ranks.require_same(f"{described['data_sha256']} {splits.sha256}", "images")
    return described


def _start_from(state: TrainState, source: Run, notify: Callable[[str], None]) -> None:
    """Copy the weights of a finished run wherever name and shape agree."""
    weights, _ = source.load_model()
    targets = state.model.state_dict()
    fitting = {name: value for name, value in weights.items() if name in targets and targets[name].shape == value.shape}
    fresh = sorted(set(targets) - set(fitting))
    if not fitting:
        raise RunError(f"no layer of {source.path} fits this model; choose the same model.name and settings")
    state.model.load_state_dict(fitting, strict=False)
    if state.ema is not None:
        state.ema.module.load_state_dict(state.model.state_dict())  # type: ignore[union-attr]
    notify(f"{len(fitting)} tensors start from {source.path}" + (f"; afresh: {', '.join(fresh)}" if fresh else ""))


def _finish(
    config: Config,
    state: TrainState,
    splits: Splits,
    device: torch.device,
    run: Run,
    hooks: Hooks,
    notify: Callable[[str], None],
    started: float,
    ranks: World,
) -> Run:
    """Train to the end and write what a finished run holds."""
    hooks, first_step = _noting_first_step(hooks, started)
    fit(_as_it_can_compile(config, state, device, notify, ranks), state, splits, device, run, hooks, ranks)
    model = judged_model(state)
    if config.train.keep == "best" and state.best_weights:
        model.load_state_dict(state.best_weights)
    val = None if splits.val is None else _predict_val(config, model, splits.val, device, state, ranks)
    if ranks.is_main:
        run.save_model(model.state_dict(), model_metadata(config, splits.train.class_names))
        result = {
            "format": FORMAT_VERSION,
            "recipe": config.recipe,
            **_summary(config, state, len(splits.train)),
            "device": device.type,
            "world_size": ranks.size,
            **first_step,
        }
        _write_result(run, result, state.progress.records, val, started)
    ranks.agree(0)  # the run is finished for all ranks or for none
    return run


def _draw_curves(records: list[dict[str, Any]], run: Run) -> None:
    # matplotlib takes most of a second to load, which the first step need not wait for
    from cifarlab.plots.curves import plot_curves
    from cifarlab.plots.style import save_figure

    save_figure(plot_curves(records), run.path / "plots" / "curves")


def _write_result(
    run: Run, result: dict[str, Any], records: list[dict[str, Any]], val: Predictions | None, started: float
) -> None:
    """Judge the run and write what it led to; result.json comes last."""
    if val is not None:
        run.save_predictions("val", val)
        result |= _judge_on_val(val)
    diagnosis = diagnose(records, 0 if val is None else len(val.labels_N))
    result["diagnosis"] = {"verdict": diagnosis.verdict, "sentence": diagnosis.sentence}
    _draw_curves(records, run)
    if (peak := peak_memory()) is not None:
        result["peak_memory_bytes"] = peak
    result["wall_clock_seconds"] = time.monotonic() - started
    run.write_json("result.json", result)


def _noting_first_step(hooks: Hooks, started: float) -> tuple[Hooks, dict[str, float]]:
    """Return hooks that also note when the first step of this process was done, and where they note it."""
    noted: dict[str, float] = {}

    def on_step(report: StepReport) -> None:
        # on a GPU steps are reported some at a time, when losses are read back
        noted.setdefault("seconds_to_first_step", time.monotonic() - started)
        hooks.on_step(report)

    return replace(hooks, on_step=on_step), noted


def _summary(config: Config, state: TrainState, num_images: int) -> dict[str, Any]:
    progress = state.progress
    return {
        "epochs": len(progress.records),
        "steps": progress.step,
        "stopped_early": progress.step < make_plan(config, num_images).num_steps,
        "kept_epoch": progress.best_epoch if config.train.keep == "best" else len(progress.records),
        "train_clock_seconds": progress.clock_seconds,
        "compute_pflop": _compute_pflop(config, state, num_images),
        "num_parameters": sum(parameter.numel() for parameter in state.model.parameters()),
        "precision": progress.precision,
        "train/loss": progress.records[-1]["train/loss"],
        "train/accuracy": progress.records[-1]["train/accuracy"],
    }


def _compute_pflop(config: Config, state: TrainState, num_images: int) -> float:
    plan = make_plan(config, num_images)
    done = state.progress.step / plan.num_steps  # below 1 where the run was stopped early
    sizes = tuple((min(share / done, 1.0), size) for share, size in config.train.low_resolution)
    trained = replace(config.train, low_resolution=sizes)
    return training_pflop(state.model, trained, config.data.image_size, state.progress.step * plan.batch_size)


def _predict_val(
    config: Config, model: ImageClassifier, val: ImageSet, device: torch.device, state: TrainState, ranks: World
) -> Predictions:
    logits_NK, logits_tta_NK = shared_logits(
        ranks,
        model,
        val.images_NCHW,
        val.num_classes,
        views=config.evaluate.views,
        views_margin=config.evaluate.views_margin,
        batch_size=config.evaluate.batch_size,
        precision=state.progress.precision,
        device=device,
    )
    return Predictions(logits_NK, val.labels_N, logits_tta_NK)


def _judge_on_val(val: Predictions) -> dict[str, float]:
    figures = {
        "val/loss": F.cross_entropy(val.logits_NK, val.labels_N).item(),
        "val/accuracy": accuracy(val.logits_NK, val.labels_N),
    }
    if val.logits_tta_NK is not None:
        figures["val/accuracy_tta"] = accuracy(val.logits_tta_NK, val.labels_N)
    return figures
