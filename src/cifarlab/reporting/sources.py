"""Sources: which runs a report is about, and what training and evaluation have written of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifarlab.candidate_names import recipe_labels
from cifarlab.config import Config
from cifarlab.errors import RunError, UsageError
from cifarlab.run import Run, runs_root
from cifarlab.stats import accuracy_interval, mean_and_sd

_NEWEST_EVALUATION = 2
_NEWEST_STUDY = 1
_DATA_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


@dataclass(frozen=True)
class Seeds:
    """What several trainings of one recipe reached.

    Attributes:
        split: The images: 'test', or 'val' where not every run was judged on test.
        runs: Name, seed and accuracy of each, in the order given.
        mean, sd: Of the accuracies, fractions; sd is NaN for one run.
        interval: Student's 95 % interval of the mean; NaN where no spread was seen.
    """

    split: str
    runs: tuple[tuple[str, int, float], ...]
    mean: float
    sd: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Judged:
    """A finished run with what was measured on its test split.

    Attributes:
        run: The folder.
        config: Its configuration.
        test: What evaluation.json says of test.
        val: The same of val; None where it was not evaluated there.
        result: result.json.
        recorded: environment.json; empty where there is none.
    """

    run: Run
    config: Config
    test: dict[str, Any]
    val: dict[str, Any] | None
    result: dict[str, Any]
    recorded: dict[str, Any]

    @property
    def headline(self) -> dict[str, Any]:
        """The accuracy that counts, with its interval: averaged over test-time views where the run has any."""
        found: dict[str, Any] = self.test.get(self.test.get("headline") or "accuracy") or self.test["accuracy"]
        return found

    @property
    def with_views(self) -> bool:
        """Whether the headline is averaged over test-time views."""
        return self.headline is not self.test["accuracy"]

    @property
    def num_images(self) -> int:
        """Test images."""
        return int(self.test["num_images"])

    @property
    def correct(self) -> int:
        """Test images that the run answers correctly."""
        return round(float(self.headline["value"]) * self.num_images)

    @property
    def is_cifar10(self) -> bool:
        """Whether the images are those that the vendor and the literature speak of."""
        data = self.config.data
        return data.dataset == "cifar10" and not (data.folder or data.csv)

    @property
    def own_images(self) -> bool:
        """Whether the images are the user's; those of CIFAR-100 are not."""
        return bool(self.config.data.folder or self.config.data.csv)

    @property
    def data_name(self) -> str:
        """The images' name: of a folder its last part, since the rest is nobody's business."""
        own = self.config.data.folder or self.config.data.csv
        return Path(own).name if own else _DATA_NAMES[self.config.data.dataset]

    @property
    def started_from(self) -> str:
        """Name of the run whose weights it began with, the last part of its folder; '' for random weights."""
        return Path(self.config.model.init).name

    def sections(self, split: str = "test") -> dict[str, Any]:
        """Return the sections of an evaluation, by name; none where an earlier version evaluated."""
        scores = self.test if split == "test" else self.val
        found: dict[str, Any] = (scores or {}).get("sections") or {}
        return found


@dataclass(frozen=True)
class Sources:
    """What a report is about.

    Attributes:
        main: The run whose answers are judged.
        seeds: All runs of its recipe, if several were given.
        given: The sources by their names below the runs folder, for the command that repeats the report.
        folder: Where the report goes unless told otherwise.
        notes: What the reader should know of the choice.
    """

    main: Judged
    seeds: Seeds | None
    given: tuple[str, ...]
    folder: Path
    notes: tuple[str, ...] = ()


def load_sources(given: Sequence[Run | Path | str]) -> Sources:
    """Find the runs of a report and read what is known of them.

    Args:
        given: One run, several runs that differ in the seed only, or one study: by folder or by name.

    Raises:
        UsageError: If runs are of several recipes, or something else is named beside a study.
        RunError: If a run is missing, not finished, not evaluated on test, or damaged.
    """
    if not given:
        raise UsageError("name a run, several runs of one recipe, or a study: cifarlab report runs/fast90")
    studies = [page for one in given if not isinstance(one, Run) and (page := _study_file(Path(one)))]
    if studies and len(given) > 1:
        raise UsageError(f"a report is about one study or about runs of one recipe; give {studies[0].parent} alone")
    notes: list[str] = []
    runs = _runs_of_study(studies[0], notes) if studies else [_open(one) for one in given]
    _require_one_recipe(runs)
    main = load_run(_first_judged(runs))
    seeds = _seeds(runs) if len(runs) > 1 else None
    if studies:
        study = studies[0].parent
        return Sources(main, seeds, (f"runs/studies/{study.resolve().name}",), study, tuple(notes))
    return Sources(main, seeds, tuple(f"runs/{run.name}" for run in runs), main.run.path, tuple(notes))


def _open(one: Run | Path | str) -> Run:
    return one if isinstance(one, Run) else Run.open(one)


def _study_file(path: Path) -> Path | None:
    """Return study.json of a study's folder, of the file itself or of a name; None where it is no study."""
    for candidate in (path, path / "study.json", runs_root() / "studies" / path / "study.json"):
        if candidate.name == "study.json" and candidate.is_file():
            return candidate
    return None


def _runs_of_study(file: Path, notes: list[str]) -> list[Run]:
    try:
        study = json.loads(file.read_text(encoding="utf-8"))
        arms = {arm["label"]: arm["mean"] for arm in study["arms"] if arm.get("mean") is not None}
        # an arm is judged by its finished seeds, as in the study itself
        done = [trial for trial in study["trials"] if trial.get("state", "complete") == "complete"]
        trials = [(trial["arm"], trial["run"]) for trial in done if trial.get("run")]
        newer = study.get("format", 0) > _NEWEST_STUDY
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged: {error}") from error
    if newer:
        raise RunError(f"{file} was written by a newer cifarlab; update this one")
    if not arms or not trials:
        raise RunError(f"{file} has no finished trial yet; go on with the study first")
    best = max(arms, key=lambda label: float(arms[label]))
    if len(arms) > 1:
        notes.append(
            f"Of the study's {len(arms)} configurations the report takes {best}, which has the highest mean on "
            "validation images. The best of several is flattered by chance there; its test figures are not."
        )
    return [Run.open(_trial_folder(file, name)) for arm, name in trials if arm == best]


def _trial_folder(file: Path, name: str) -> Path:
    """Return where a study's trial lies: in the runs folder, or beside the folder of studies that was named."""
    beside = file.parent.parent.parent / name
    return beside if (beside / "config.yaml").is_file() else Path(name)


def _require_one_recipe(runs: Sequence[Run]) -> None:
    configs = {run.path.resolve(): run.config for run in runs}
    if len(configs) < len(runs):
        raise UsageError("a run is given twice; name every run once")
    labels = list(dict.fromkeys(recipe_labels(configs).values()))
    if len(labels) > 1:
        raise UsageError(
            f"a report is about one recipe, and these runs are of {len(labels)}: {', '.join(labels[:3])}; "
            "set recipes against each other with: cifarlab compare"
        )
    seeds = [config.train.seed for config in configs.values()]
    if len(set(seeds)) < len(seeds):
        raise UsageError("two of these runs have the same seed, so they are one training; name each seed once")


def _first_judged(runs: Sequence[Run]) -> Run:
    """Return the first run that was judged on test, else the first, whose error tells what to do.

    The first, not the best: a choice by test figures would flatter them.
    """
    return next((run for run in runs if _splits(run).get("test")), runs[0])


def _splits(run: Run) -> dict[str, Any]:
    evaluation = run.read_json("evaluation.json") if (run.path / "evaluation.json").is_file() else {}
    if evaluation.get("format", _NEWEST_EVALUATION) > _NEWEST_EVALUATION:
        raise RunError(f"{run.path} was evaluated by a newer cifarlab; update this one")
    return evaluation.get("splits") or {}


def load_run(run: Run) -> Judged:
    """Read a finished run and its evaluation.

    Raises:
        RunError: If it is not finished, not evaluated on test, damaged or of a newer format.
    """
    run.require_finished()
    splits = _splits(run)
    test = splits.get("test")
    anew = _evaluate_command(run)
    if test is None:
        raise RunError(f"{run.path} was not evaluated on the test split; do it with: {anew}")
    missing = [key for key in ("num_images", "class_names", "accuracy") if key not in test]
    if missing or not {"value", "interval"} <= set(test["accuracy"]):
        what = missing[0] if missing else "accuracy.interval"
        raise RunError(f"{run.path}/evaluation.json holds no {what}; make it anew with: {anew}")
    recorded = run.read_json("environment.json") if (run.path / "environment.json").is_file() else {}
    return Judged(run, run.config, test, splits.get("val"), run.read_json("result.json"), recorded)


def _evaluate_command(run: Run) -> str:
    return f"cifarlab evaluate {shlex.quote(str(run.path))} --split test"


def _seeds(runs: Sequence[Run]) -> Seeds:
    """Return the spread over seeds: on test where every run was judged there, else on val.

    Raises:
        RunError: If not even the accuracies on val are known.
    """
    for split in ("test", "val"):
        accuracies = [_accuracy(run, split) for run in runs]
        known = [one for one in accuracies if one is not None]
        if len(known) == len(runs):
            mean, sd = mean_and_sd(known)
            rows = [(run.name, run.config.train.seed, value) for run, value in zip(runs, known, strict=True)]
            return Seeds(split, tuple(rows), mean, sd, accuracy_interval(known))
    without = next(run for run in runs if _accuracy(run, "test") is None)
    raise RunError(
        f"{without.path} has no accuracy on test, nor have all runs one on val; "
        f"do it with: {_evaluate_command(without)}"
    )


def _accuracy(run: Run, split: str) -> float | None:
    run.require_finished()
    scores = _splits(run).get(split)
    if scores:
        share = scores.get(scores.get("headline") or "accuracy") or scores["accuracy"]
        return float(share["value"])
    if split == "val":
        result = run.read_json("result.json")
        value = result.get("val/accuracy_tta") or result.get("val/accuracy")
        return None if value is None else float(value)
    return None
