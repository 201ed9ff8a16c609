"""Tune: search the settings of a recipe on validation images, confirm the best on fresh seeds, write a recipe file."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cifarlab.errors import StoppedError, UsageError
from cifarlab.experiments.fields import held_out
from cifarlab.experiments.leases import Leases, Watch, alone
from cifarlab.experiments.search import SearchSpec, check_search, open_search
from cifarlab.experiments.search_page import SearchPage, write_search_page
from cifarlab.experiments.search_queue import SearchQueue
from cifarlab.experiments.search_record import (
    SearchRecord,
    candidates,
    confirmation_spec,
    latest_confirmation,
    load_search,
    read_confirmation,
)
from cifarlab.experiments.search_work import SearchStep, SearchWorker
from cifarlab.experiments.space import Dimension
from cifarlab.experiments.storage import open_leases, open_storage, patiently
from cifarlab.experiments.study import LONGEST_NAME, StudyRecord, StudySpec
from cifarlab.experiments.trials import Train
from cifarlab.run import absolute_run, runs_root, with_absolute_paths
from cifarlab.training.loop import Hooks

if TYPE_CHECKING:
    import optuna

_TRIALS = 30
"""How many trials a search has where nobody says."""

_TRIALS_KEY = "cifarlab_trials"
"""User attribute of the Optuna study that holds how many trials were asked for last."""


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
    trials: int | None = None,
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
        trials: How many trials the search is to have, whoever does them; None for as many as were asked for last, else
            all points of a grid, else 30. There are never more than there are combinations of values.
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
    check_tuning(wanted, trials=trials, minutes=minutes)
    hooks, leases = hooks or Hooks(), open_leases(storage)
    try:
        study, spec = _opened(wanted, storage, leases, hooks, notify)
        _tell_limits(spec, notify)
        queue = SearchQueue(study, spec, leases, notify=notify, stop_signal=hooks.stop_signal)
        worker = SearchWorker(queue, train, hooks, notify, on_begin)
        worker.images.get(spec.base.data)  # what is missing is missed now
        worker.work(patiently(lambda: _agreed_trials(study, spec, trials), notify=notify), 60 * minutes)
    finally:
        leases.close()
    record = patiently(lambda: load_search(study, spec), notify=notify)
    confirmation = patiently(lambda: latest_confirmation(spec.name, open_storage(storage)), notify=notify)
    tuning = _written(record, confirmation)
    if number := hooks.stop_signal():  # while the page was written
        raise StoppedError(f"stopped after {tuning.page.html} was written; the same command goes on", number)
    return tuning


def check_tuning(
    wanted: SearchSpec | str, *, trials: int | None, minutes: float, confirm: int = 0, top: int = 1
) -> None:
    """Make sure that a search can be done as asked for, as far as that is to be seen without its storage and images.

    Args:
        wanted: As for :func:`tune`.
        trials: Likewise.
        minutes: Likewise.
        confirm: Seeds of the confirmation; 0 for none.
        top: How many of the best configurations are confirmed.

    Raises:
        UsageError: If it cannot, saying what to change.
        RunError: If a run whose weights a trial is to start from is not there.
    """
    if trials is not None and trials < 1:
        raise UsageError(f"a search needs at least one trial, not {trials}")
    if not minutes > 0:
        raise UsageError(f"--minutes must be positive, not {minutes:g}")
    if confirm < 0:
        raise UsageError(f"--confirm takes a number of seeds, not {confirm}")
    if top < 1:
        raise UsageError(f"--top takes how many configurations to train again, at least 1, not {top}")
    if not isinstance(wanted, str):
        check_search(_by_absolute_paths(wanted))
    name = wanted if isinstance(wanted, str) else wanted.name
    if (runs_root() / name / "config.yaml").is_file():
        raise UsageError(f"{runs_root() / name} is a run; choose another --name for the search")


def _opened(
    wanted: SearchSpec | str, storage: str | None, leases: Leases, hooks: Hooks, notify: Callable[[str], None]
) -> tuple[optuna.Study, SearchSpec]:
    """Open a search, or create it, which one worker does at a time: it decides the precision for all."""
    if isinstance(wanted, str):
        name, checked = wanted, None
    else:
        name, checked = wanted.name, _by_absolute_paths(wanted)
    opened, watch = open_storage(storage), Watch()

    def open_alone() -> tuple[optuna.Study, SearchSpec]:
        with alone(leases, watch, f"setup/{name}", hooks.stop_signal):
            return open_search(name, opened, checked, notify)

    return patiently(open_alone, notify=notify)


def _by_absolute_paths(spec: SearchSpec) -> SearchSpec:
    """Return the same search by paths that hold in every folder from which somebody goes on with it."""

    def absolute(one: Dimension) -> Dimension:
        return dataclasses.replace(one, choices=tuple(map(absolute_run, one.choices)))

    space = tuple(absolute(one) if one.field == "model.init" else one for one in spec.space)
    return dataclasses.replace(spec, recipe=with_absolute_paths(spec.recipe), space=space)


def _agreed_trials(study: optuna.Study, spec: SearchSpec, asked: int | None) -> int:
    """Return how many trials a search is to have, and keep what was asked for, for those who join and do not say."""
    if asked is not None:
        study.set_user_attr(_TRIALS_KEY, asked)
    return asked or int(study.user_attrs.get(_TRIALS_KEY, spec.grid_size or _TRIALS))


def confirm(tuning: Tuning, *, study: Callable[[StudySpec], StudyRecord], seeds: int, top: int) -> Tuning:
    """Train the recipe and the best configurations again, on seeds the search has not seen, and choose by their means.

    Args:
        tuning: The search.
        study: Works on a study until it is finished, as cifarlab.commands.study.study does.
        seeds: How many seeds, at least 1.
        top: How many of the best configurations, besides the recipe; at least 1.
    """
    if not candidates(tuning.record, top):
        return tuning  # nothing but the recipe is complete
    return _written(tuning.record, study(_with_short_name(confirmation_spec(tuning.record, top, seeds))))


def _with_short_name(spec: StudySpec) -> StudySpec:
    """Return a confirmation whose name fits: where it lists many trials, a hash stands for them."""
    if len(spec.name) <= LONGEST_NAME:
        return spec
    search, dash, numbers = spec.name.rpartition("-confirm-")
    return dataclasses.replace(spec, name=f"{search}{dash}{hashlib.sha256(numbers.encode()).hexdigest()[:8]}")


def _written(record: SearchRecord, confirmation: StudyRecord | None) -> Tuning:
    if confirmation is not None:
        confirmed = read_confirmation(confirmation)
        record = dataclasses.replace(record, confirmed=confirmed, confirmation=confirmation.spec.name)
    return Tuning(record, write_search_page(record, runs_root() / record.spec.name))


def _tell_limits(spec: SearchSpec, notify: Callable[[str], None]) -> None:
    if spec.recipe.data.val_fraction == 0:
        notify(f"note: {spec.recipe.recipe} {held_out(spec.recipe.data)}")
    if spec.pruner != "none" and spec.num_epochs == 1:
        notify("note: a run has one epoch only, so no trial can be given up early")
    if spec.grid_size is None and spec.recipe_parameters is None:
        notify("note: the recipe itself lies outside the search space, so it is no trial; --confirm compares with it")
