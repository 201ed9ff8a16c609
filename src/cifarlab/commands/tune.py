"""Tune: search the settings of a recipe on validation images, confirm the best on fresh seeds, write a recipe file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifarlab.errors import UsageError
from cifarlab.experiments.search import SearchSpec, check_search, open_search
from cifarlab.experiments.search_page import SearchPage, write_search_page
from cifarlab.experiments.search_record import (
    SearchRecord,
    candidates,
    confirmation_spec,
    latest_confirmation,
    load_search,
    read_confirmation,
)
from cifarlab.experiments.search_work import SearchStep, SearchWorker
from cifarlab.experiments.storage import open_leases, open_storage
from cifarlab.experiments.study import StudyRecord, StudySpec
from cifarlab.experiments.trial_queue import TrialQueue
from cifarlab.experiments.trials import Train
from cifarlab.run import runs_root
from cifarlab.training.loop import Hooks

if TYPE_CHECKING:
    import optuna

CONFIRMED = 3
"""How many of the best configurations are trained again, besides the recipe, unless another number is asked for."""


@dataclass(frozen=True)
class Tuning:
    """A search, and the files that hold what came of it."""

    record: SearchRecord
    page: SearchPage


def tune(
    wanted: SearchSpec | str,
    *,
    train: Train,
    storage: str | None = None,
    trials: int = 30,
    minutes: float = math.inf,
    hooks: Hooks | None = None,
    notify: Callable[[str], None] = lambda line: None,
    on_begin: Callable[[SearchStep], None] = lambda step: None,
) -> Tuning:
    """Search, or go on with a search; several processes may do so at once.

    Args:
        wanted: The search, which is created if it is new; or the name of one that is there, to take it as it is.
        train: Trains a run, as cifarlab.commands.train.train does.
        storage: URL or file of the record; experiments.db in the runs folder if None.
        trials: How many trials the search is to have, whoever does them.
        minutes: Begin no trial after so long.
        hooks: Progress of the run at hand and stop request.
        notify: Takes one-line notices.
        on_begin: Is called when a trial begins.

    Raises:
        UsageError: If the search cannot be done as asked for, or there is another one of that name.
        MissingExtraError: If Optuna is not installed.
        StorageError: If the database cannot be reached.
        DataError: If the images are missing or damaged.
        TrainingError: If the first trials all failed.
        StoppedError: If a stop was requested; the same call goes on with the search.
    """
    if trials < 1:
        raise UsageError(f"a search needs at least one trial, not {trials}")
    if not minutes > 0:
        raise UsageError(f"--minutes must be positive, not {minutes:g}")
    study, spec = _opened(wanted, storage)
    _tell_limits(spec, notify)
    leases = open_leases(storage)
    try:
        worker = SearchWorker(TrialQueue(study, spec, leases), train, hooks or Hooks(), notify, on_begin)
        worker.images.get(spec.base.data)  # what is missing is missed now
        worker.work(min(trials, spec.grid_size or trials), 60 * minutes)
    finally:
        leases.close()
    return _written(load_search(study, spec), latest_confirmation(spec.name, open_storage(storage)))


def _opened(wanted: SearchSpec | str, storage: str | None) -> tuple[optuna.Study, SearchSpec]:
    """Open a search, or create it after all that can be checked was checked."""
    name = wanted if isinstance(wanted, str) else wanted.name
    if not isinstance(wanted, str):
        wanted = _with_absolute_paths(wanted)
        check_search(wanted)
    if (runs_root() / name / "config.yaml").is_file():
        raise UsageError(f"{runs_root() / name} is a run; choose another --name for the search")
    return open_search(name, open_storage(storage), None if isinstance(wanted, str) else wanted)


def confirm(tuning: Tuning, *, study: Callable[[StudySpec], StudyRecord], seeds: int, top: int = CONFIRMED) -> Tuning:
    """Train the recipe and the best configurations again, on seeds the search has not seen, and choose by their means.

    Args:
        tuning: The search.
        study: Works on a study until it is finished, as cifarlab.commands.study.study does.
        seeds: How many seeds.
        top: How many of the best configurations, besides the recipe.

    Raises:
        UsageError: For numbers below 1.
    """
    if seeds < 1 or top < 1:
        raise UsageError("--confirm takes a number of seeds, and --top how many configurations to train again")
    if not candidates(tuning.record, top):
        return tuning  # nothing but the recipe is complete
    return _written(tuning.record, study(confirmation_spec(tuning.record, top, seeds)))


def _written(record: SearchRecord, confirmation: StudyRecord | None) -> Tuning:
    if confirmation is not None:
        confirmed = read_confirmation(confirmation)
        record = dataclasses.replace(record, confirmed=confirmed, confirmation=confirmation.spec.name)
    return Tuning(record, write_search_page(record, runs_root() / record.spec.name))


def _with_absolute_paths(spec: SearchSpec) -> SearchSpec:
    """Return the search with paths of images that hold in every folder it may be continued from."""
    data = spec.recipe.data
    folder, csv = (str(Path(path).resolve()) if path else "" for path in (data.folder, data.csv))
    recipe = dataclasses.replace(spec.recipe, data=dataclasses.replace(data, folder=folder, csv=csv))
    return dataclasses.replace(spec, recipe=recipe)


def _tell_limits(spec: SearchSpec, notify: Callable[[str], None]) -> None:
    if spec.recipe.data.val_fraction == 0:
        notify(f"note: {spec.recipe.recipe} trains on all images; {spec.base.data.val_fraction:.0%} are held out here")
    if spec.pruner != "none" and spec.num_epochs == 1:
        notify("note: a run has one epoch only, so no trial can be given up early")
    if spec.grid_size is None and spec.recipe_parameters is None:
        notify("note: the recipe itself lies outside the search space, so it is no trial; --confirm compares with it")
