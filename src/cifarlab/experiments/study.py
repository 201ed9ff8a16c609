"""Study: what is compared (a base configuration, arms, seeds) and what came of it, as plain data.

An arm is one of the compared configurations. Its overrides are plain values by dotted field name, so that a study can
be written to a database and read on another machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cifarlab.config import Config
from cifarlab.config_yaml import config_from_dict, config_to_dict
from cifarlab.errors import ConfigError, RunError, UsageError
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.storage import load_if_any

if TYPE_CHECKING:
    import optuna

    from cifarlab.run import Run

SPEC_KEY = "cifarlab_study"
"""User attribute of the Optuna study that holds the specification."""

LONGEST_NAME = 100
"""Characters of a study's name; that of a search is shorter, so that its confirmation can be named after it."""

TrialState = Literal["waiting", "running", "complete", "failed"]


@dataclass(frozen=True)
class Arm:
    """One of the compared configurations.

    Attributes:
        label: Its name in tables and findings.
        overrides: Plain values (lists for tuples) by full dotted field name, such as 'model.convnet.activation'.
    """

    label: str
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudySpec:
    """What a study does.

    Attributes:
        name: The study's name, which also begins the names of its runs.
        question: What it answers, in words.
        base: Configuration of every trial but for the arm's overrides and the seed.
        arms: What is compared.
        seeds: Trials of each arm; their seeds are ``base.train.seed`` and those after it.
    """

    name: str
    question: str
    base: Config
    arms: tuple[Arm, ...]
    seeds: int


@dataclass(frozen=True)
class StudyTrial:
    """One trial: an arm with a seed, which is trained as an ordinary run.

    Attributes:
        arm: Label of the arm.
        seed: Training seed.
        run: The run's folder; where it is going to be, if it has not begun.
        state: Where it stands.
        figures: What the run's result.json holds; accuracies of a study are those on val. Empty until complete.
        error: Why it failed.
        number: Number of its Optuna trial.
    """

    arm: str
    seed: int
    run: Path
    state: TrialState
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    number: int = -1

    @property
    def finished(self) -> bool:
        """Whether it was trained to the end, so that it has figures."""
        return self.state == "complete"

    @property
    def seconds(self) -> float:
        """How long a finished trial took; of one that was stopped and resumed, the last part at least."""
        return float(max(self.figures["wall_clock_seconds"], self.figures["train_clock_seconds"]))


def headline(figures: dict[str, Any]) -> float:
    """Return the accuracy on val that a run is judged by: with test-time views where it has them."""
    return float(figures.get("val/accuracy_tta", figures["val/accuracy"]))


@dataclass(frozen=True)
class StudyRecord:
    """A study and its trials, in the order in which they are worked on: the first seed of every arm, then the next."""

    spec: StudySpec
    trials: tuple[StudyTrial, ...]


def trial_config(spec: StudySpec, arm: Arm, seed: int) -> Config:
    """Return the configuration of one trial.

    Raises:
        ConfigError: If the overrides do not fit, naming the field.
    """
    return with_values(spec.base, {**arm.overrides, "train.seed": seed})


def planned_trials(spec: StudySpec) -> list[tuple[Arm, int]]:
    """Return arm and seed of every trial, interleaved, so that a study that is stopped half-way is balanced."""
    first = spec.base.train.seed
    return [(arm, seed) for seed in range(first, first + spec.seeds) for arm in spec.arms]


def run_name(spec: StudySpec, arm: Arm, seed: int) -> str:
    """Return the name of a trial's run folder, such as 'activations-relu-s0'; it differs between any two trials."""
    slugs = [_slug(other.label) for other in spec.arms]
    position = spec.arms.index(arm)
    slug = slugs[position]
    if slugs.count(slug) > 1:
        slug = f"{slug}-{position + 1}"
    return f"{spec.name}-{slug}-s{seed}"


def _slug(label: str) -> str:
    """Return a label as part of a file name, at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-.")[:60] or "arm"


def check_name(name: str, longest: int = LONGEST_NAME) -> None:
    """Raise UsageError unless a study's name can begin the names of folders."""
    if len(name) > longest or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"a study's name is made of letters, digits, '.', '_' and '-', at most {longest} of them, not {name!r}; "
            "choose one with --name"
        )


def check_network(config: Config) -> None:
    """Raise ConfigError unless the network of a configuration can be built, for every size it is to be trained at."""
    import torch

    from cifarlab.models import build_model
    from cifarlab.training.suitability import require_low_resolutions

    try:
        with torch.device("meta"):  # shapes without values: the largest network takes milliseconds
            build_model(config.model, 10, config.data.image_size)
            require_low_resolutions(config, 10)
    except (UsageError, RuntimeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def decide_precision(config: Config, notify: Callable[[str], None]) -> str:
    """Return the precision in which all trials of a configuration train.

    Decided by every worker, ``auto`` might come out otherwise with what else a machine does.
    """
    if config.train.precision != "auto":
        return config.train.precision
    from cifarlab.device import choose_device, choose_precision

    precision, notice = choose_precision("auto", choose_device(config.train.device))
    if notice:
        notify(notice)
    return precision


def spec_to_dict(spec: StudySpec) -> dict[str, Any]:
    """Return a specification as plain values that JSON can hold."""
    return {
        "format": 1,
        "name": spec.name,
        "question": spec.question,
        "base": config_to_dict(spec.base),
        "arms": [{"label": arm.label, "overrides": arm.overrides} for arm in spec.arms],
        "seeds": spec.seeds,
    }


def spec_from_dict(values: dict[str, Any]) -> StudySpec:
    """Build a specification from what :func:`spec_to_dict` gave.

    Raises:
        UsageError: If another version of cifarlab wrote it and it cannot be understood.
    """
    try:
        if values["format"] != 1:
            raise UsageError(f"the study was written by another cifarlab (format {values['format']}); update this one")
        return StudySpec(
            name=values["name"],
            question=values["question"],
            base=config_from_dict(values["base"]),
            arms=tuple(Arm(arm["label"], arm["overrides"]) for arm in values["arms"]),
            seeds=values["seeds"],
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise UsageError(f"the study cannot be read; another cifarlab wrote it: {error}") from error


def load_study(name: str, storage: optuna.storages.BaseStorage) -> StudyRecord:
    """Read a study from its storage.

    Raises:
        UsageError: If there is no study of that name.
    """
    record = find_study(name, storage)
    if record is None:
        others = [one.study_name for one in storage.get_all_studies() if SPEC_KEY in one.user_attrs]
        raise UsageError(f"there is no study {name!r} in the storage; studies are {', '.join(others) or 'none yet'}")
    return record


def find_study(name: str, storage: optuna.storages.BaseStorage) -> StudyRecord | None:
    """Read a study from its storage; None if there is none of that name."""
    study = load_if_any(name, storage)
    if study is None or SPEC_KEY not in study.user_attrs:
        return None
    spec = spec_from_dict(study.user_attrs[SPEC_KEY])
    trials = current_trials(study)
    planned = planned_trials(spec)
    return StudyRecord(
        spec, tuple(_as_study_trial(spec, arm, seed, trials.get((arm.label, seed))) for arm, seed in planned)
    )


def current_trials(study: optuna.Study) -> dict[tuple[str, int], optuna.trial.FrozenTrial]:
    """Return the Optuna trial that counts for every arm and seed: the first one of the latest attempt.

    A worker that was halted while it set a study up, and went on after another had done it, may add a trial again;
    all workers pass over it by this rule.
    """
    found: dict[tuple[str, int], optuna.trial.FrozenTrial] = {}
    for trial in sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number):
        attributes = trial.user_attrs
        if "arm" not in attributes:  # added by hand
            continue
        key = (attributes["arm"], attributes["seed"])
        if key not in found or attributes["attempt"] > found[key].user_attrs["attempt"]:
            found[key] = trial
    return found


def _as_study_trial(spec: StudySpec, arm: Arm, seed: int, trial: optuna.trial.FrozenTrial | None) -> StudyTrial:
    from cifarlab.run import runs_root  # loads torch

    planned = runs_root() / run_name(spec, arm, seed)
    if trial is None:
        return StudyTrial(arm.label, seed, planned, "waiting")
    states: dict[str, TrialState] = {"WAITING": "waiting", "RUNNING": "running", "COMPLETE": "complete"}
    return StudyTrial(
        arm=arm.label,
        seed=seed,
        run=find_run(trial.user_attrs["run"]) if "run" in trial.user_attrs else planned,
        state=states.get(trial.state.name, "failed"),
        figures=trial.user_attrs.get("figures", {}),
        error=trial.user_attrs.get("error", ""),
        number=trial.number,
    )


def finished_run(trial: StudyTrial) -> Run:
    """Return the run of a finished trial.

    Raises:
        RunError: If its folder is not on this machine. One of its name that another study left here holds another
            result.
    """
    from cifarlab.run import Run  # loads torch

    run = Run.open(trial.run)
    if run.read_json("result.json") != trial.figures:
        raise RunError(f"{run.path} does not hold the result of {trial.arm}, seed {trial.seed}")
    return run


def find_run(recorded: str) -> Path:
    """Return a run's folder: where it was written, or, where that is not there, its namesake in the runs folder."""
    from cifarlab.run import runs_root  # loads torch

    path = Path(recorded)
    moved = runs_root() / path.name
    return moved if not path.is_dir() and moved.is_dir() else path
