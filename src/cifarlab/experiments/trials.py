"""Trials: one trial is one ordinary run, begun, gone on with, or found finished.

The commands that train stand above this room, so they are handed in.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from cifarlab.config import Config
from cifarlab.data import Splits
from cifarlab.errors import (
    CifarlabError,
    ConfigError,
    DataError,
    MissingExtraError,
    RunError,
    StorageError,
    UsageError,
)
from cifarlab.experiments.study import find_run
from cifarlab.experiments.study_queue import Work
from cifarlab.run import Run, durable_file, runs_root
from cifarlab.training.loop import Hooks

Notify = Callable[[str], None]

# a UsageError of a configuration that was checked says that this machine has no such device
_OF_THE_MACHINE = (DataError, MissingExtraError, RunError, StorageError, UsageError, OSError)
_ACCELERATOR_SIGNS = ("cuda error", "cudnn error", "cublas error", "hip error", "nccl error")
_MEMORY_SIGNS = ("out of memory", "alloc_failed")


class Train(Protocol):
    """What cifarlab.commands.train.train offers."""

    def __call__(self, config: Config, *, name: str, splits: Splits, hooks: Hooks, notify: Notify) -> Run:
        """Train a new run."""


class Resume(Protocol):
    """What cifarlab.commands.train.resume offers."""

    def __call__(self, run: Run, *, hooks: Hooks, notify: Notify) -> Run:
        """Go on with a run."""


@dataclass(frozen=True)
class Trainer:
    """How runs are trained here.

    Attributes:
        train: Trains a new run.
        resume: Goes on with a run that was stopped.
        splits: Gives the images of a configuration.
    """

    train: Train
    resume: Resume
    splits: Callable[[Config], Splits]


def is_of_the_machine(error: Exception) -> bool:
    """Return whether an error speaks of this machine or its data, not of the trial, which is another worker's to do.

    After most errors of an accelerator everything else that the process asks of it fails too. That its memory is too
    small for a batch is the trial's own affair.
    """
    if isinstance(error, _OF_THE_MACHINE):
        return not isinstance(error, ConfigError)
    text = str(error).lower()
    accelerator = isinstance(error, torch.AcceleratorError) or text.startswith(_ACCELERATOR_SIGNS)
    return isinstance(error, RuntimeError) and accelerator and not any(sign in text for sign in _MEMORY_SIGNS)


def ended_by(error: Exception) -> Exception:
    """Return what a worker ends with after an error of its machine: the error, or one that says what to do."""
    if isinstance(error, CifarlabError | OSError):
        return error
    return CifarlabError(
        f"this machine's accelerator failed ({str(error).splitlines()[0]}); the trial went back to the queue for other "
        "workers; when the machine is well again, the same command goes on"
    )


def run_trial(
    work: Work,
    name: str,
    trainer: Trainer,
    *,
    hooks: Hooks,
    notify: Notify,
    note: Callable[[Path], None],
) -> Run:
    """Train a trial's run to its end, from wherever it stands.

    Where the worker that began it may still be at work (it was silent, as one that was halted or cut off), this one
    goes on in a copy of the folder: two processes never write one.

    Args:
        work: The trial.
        name: Name for a new run folder.
        trainer: How runs are trained.
        hooks: Progress and stop request.
        notify: Takes one-line notices.
        note: Is told the run's folder before it is made, and whenever it is another one.

    Returns:
        The finished run.

    Raises:
        CifarlabError: As training does; StoppedError if a stop was requested.
    """
    begun = _begun(work)
    if begun is not None and begun.finished:
        return begun
    if begun is not None and work.claim.previous == "silent":
        begun = _copy_unfinished(begun, name)
        note(begun.path)
    if begun is not None:
        return trainer.resume(begun, hooks=hooks, notify=notify)
    planned = free_folder(name)
    note(planned)
    run = trainer.train(work.config, name=planned.name, splits=trainer.splits(work.config), hooks=hooks, notify=notify)
    if run.path != planned:  # somebody else took the name in between
        note(run.path)
    return run


def _begun(work: Work) -> Run | None:
    """Return the run in which a trial was begun, if it can be gone on with."""
    if not work.run:
        return None
    path = find_run(work.run)
    if not path.is_dir():  # on another machine's disk, or never made
        return None
    run = Run(path)
    if not (path / "environment.json").is_file():  # its worker was killed while it made the folder
        if work.claim.previous != "silent":
            _remove_half_made(path)
        return None
    try:
        return run if run.config == work.config else None
    except CifarlabError:
        return None


def _remove_half_made(path: Path) -> None:
    """Remove a folder that holds nothing but what is written before training, perhaps half of it."""
    if all(file.name == "config.yaml" or file.name.startswith(".") for file in path.iterdir()):
        shutil.rmtree(path, ignore_errors=True)


def free_folder(name: str) -> Path:
    """Return the folder that a run of this name would get: it is told to others before it is made."""
    root = runs_root()
    names = (name if number == 1 else f"{name}-{number}" for number in range(1, 100_000))
    return next(root / one for one in names if not (root / one).exists())


def _copy_unfinished(run: Run, name: str) -> Run:
    """Copy what is needed to go on with a run; its writer, if it still lives, may replace files meanwhile."""
    copy = Run.create(run.config, name=name)
    files = [*sorted((run.path / "checkpoint").glob("step-*.safetensors")), run.path / "metrics.jsonl"]
    for file in [*files, run.path / "environment.json"]:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            continue
        with durable_file(copy.path / file.relative_to(run.path)) as temporary:
            temporary.write_bytes(content)
    return copy


def drop_checkpoints(run: Run) -> None:
    """Remove the training states of a finished run, which nothing can go on from; they are most of its bytes."""
    if not run.finished:
        raise RunError(f"{run.path} is not finished; its checkpoints are needed")
    shutil.rmtree(run.path / "checkpoint", ignore_errors=True)
