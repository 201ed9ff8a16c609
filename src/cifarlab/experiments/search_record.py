"""Search record: what came of a search, as plain data read from its storage, and what may be said of it."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cifarlab.config import Config
from cifarlab.differences import SeedDifference, compare_seeds, holm
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.search import SearchSpec
from cifarlab.experiments.space import Dimension
from cifarlab.experiments.study import SPEC_KEY, Arm, StudyRecord, StudySpec, find_run, headline, load_study

if TYPE_CHECKING:
    import optuna

RECIPE = "recipe"
"""Label of the recipe itself among the confirmed configurations."""

FRESH_SEEDS = 1000
"""How far the seeds of a confirmation lie from those of the search."""

_CONFIRM = "-confirm-"
_LEAST_FOR_IMPORTANCES = 10

SearchState = Literal["waiting", "running", "complete", "pruned", "failed"]
_STATES: dict[str, SearchState] = {
    "WAITING": "waiting",
    "RUNNING": "running",
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
}


@dataclass(frozen=True)
class SearchTrial:
    """One trial of a search.

    Attributes:
        number: Its number, from 0; its runs are called ``<search>-t<number>``.
        state: Where it stands; pruned means that it was given up for being behind others at the same epoch.
        values: Plain value of every searched field.
        accuracies: Accuracy on val of each of its runs, with test-time views where the recipe has them; empty unless
            complete.
        by_epoch: Accuracy on val after each epoch of its first run, without views.
        seconds: From its beginning to its end, waiting included; NaN unless finished.
        runs: Its run folders.
        error: Why it failed.
        is_recipe: Whether it is the recipe itself.
    """

    number: int
    state: SearchState
    values: dict[str, Any]
    accuracies: tuple[float, ...] = ()
    by_epoch: dict[int, float] = field(default_factory=dict)
    seconds: float = math.nan
    runs: tuple[Path, ...] = ()
    error: str = ""
    is_recipe: bool = False

    @property
    def label(self) -> str:
        """Its name in tables."""
        return f"t{self.number}"

    @property
    def accuracy(self) -> float:
        """Mean accuracy on val, which the search goes by; NaN unless complete."""
        return statistics.fmean(self.accuracies) if self.accuracies else math.nan


@dataclass(frozen=True)
class Confirmed:
    """A configuration that was trained again on seeds the search had not seen.

    Attributes:
        label: 'recipe', or the label of its trial.
        values: Plain value of every searched field; empty for the recipe.
        accuracies: Accuracy on val for each finished fresh seed.
        planned: How many fresh seeds it was to have.
        runs: The folders of these runs.
        against_recipe: Its difference from the recipe over these seeds; None for the recipe, or where one of the two
            is not complete.
        p_adjusted: Its p-value after Holm's correction for all complete configurations; NaN likewise.
    """

    label: str
    values: dict[str, Any]
    accuracies: tuple[float, ...]
    planned: int
    runs: tuple[Path, ...] = ()
    against_recipe: SeedDifference | None = None
    p_adjusted: float = math.nan

    @property
    def complete(self) -> bool:
        """Whether all its seeds are finished, so that its mean can be compared."""
        return len(self.accuracies) == self.planned

    @property
    def mean(self) -> float:
        """Mean accuracy on val; NaN without any."""
        return statistics.fmean(self.accuracies) if self.accuracies else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation over seeds; NaN with fewer than two."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else math.nan


@dataclass(frozen=True)
class SearchRecord:
    """A search and what came of it.

    Attributes:
        spec: What it does.
        trials: Its trials by number.
        importances: Share of the variance between complete trials that each field explains (fANOVA), largest first;
            empty where there are too few trials to say.
        confirmed: Configurations trained again on fresh seeds; the recipe comes first.
        confirmation: Name of the study that did so; '' if none did.
    """

    spec: SearchSpec
    trials: tuple[SearchTrial, ...]
    importances: dict[str, float] = field(default_factory=dict)
    confirmed: tuple[Confirmed, ...] = ()
    confirmation: str = ""

    @property
    def ranked(self) -> list[SearchTrial]:
        """The complete trials, best first."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (-trial.accuracy, trial.number))

    @property
    def best(self) -> SearchTrial | None:
        """The trial with the highest figure, which is an optimistic one; None if none is complete."""
        return next(iter(self.ranked), None)

    @property
    def recipe_trial(self) -> SearchTrial | None:
        """The complete trial that is the recipe itself; None if there is none."""
        return next((trial for trial in self.ranked if trial.is_recipe), None)

    @property
    def chosen(self) -> tuple[str, dict[str, Any]] | None:
        """Label and values of what to take: the best mean over fresh seeds if they are all in, else the best trial."""
        if self.chosen_is_confirmed:
            winner = max(self.comparable, key=lambda one: one.mean)
            return winner.label, winner.values  # of equals the first: the recipe
        return (self.best.label, self.best.values) if self.best else None

    @property
    def comparable(self) -> list[Confirmed]:
        """The confirmed configurations whose seeds are all finished; the recipe comes first."""
        return [one for one in self.confirmed if one.complete]

    @property
    def chosen_is_confirmed(self) -> bool:
        """Whether the choice rests on fresh seeds: all of the recipe's and of another configuration's are finished."""
        return len(self.comparable) > 1 and self.comparable[0].label == RECIPE

    def count(self, state: SearchState) -> int:
        """Return how many trials are in a state."""
        return sum(trial.state == state for trial in self.trials)


def load_search(study: optuna.Study, spec: SearchSpec) -> SearchRecord:
    """Read a search from its storage."""
    trials = tuple(_as_search_trial(spec, frozen) for frozen in study.get_trials(deepcopy=False))
    return SearchRecord(spec, trials, field_importances(study, spec))


def _as_search_trial(spec: SearchSpec, frozen: optuna.trial.FrozenTrial) -> SearchTrial:
    stored, attributes = frozen.params, frozen.user_attrs
    state = _STATES[frozen.state.name]
    figures = attributes.get("figures", []) if state == "complete" else []
    return SearchTrial(
        number=frozen.number,
        state=state,
        values={one.field: one.plain(stored[one.field]) for one in spec.space if one.field in stored},
        accuracies=tuple(headline(one) for one in figures),
        by_epoch=dict(sorted(frozen.intermediate_values.items())),
        seconds=frozen.duration.total_seconds() if frozen.duration else math.nan,
        runs=tuple(find_run(path) for path in attributes.get("runs", [])),
        error=attributes.get("error", ""),
        is_recipe=bool(attributes.get("recipe", False)),
    )


def field_importances(study: optuna.Study, spec: SearchSpec) -> dict[str, float]:
    """Return the share of the variance of accuracy over the search space that each field explains by itself.

    A random forest is fitted to the complete trials and its variance taken apart (fANOVA), the shares then scaled to
    sum to 1. Pruned trials do not count, so that the figure speaks of the better part of the space.

    Returns:
        Largest first; empty with fewer than ten complete trials, fewer than three for each field, or equal figures.

    References:
        Hutter, Hoos and Leyton-Brown (2014), "An efficient approach for assessing hyperparameter importance", ICML.
    """
    import optuna

    complete = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    accuracies = {trial.value for trial in complete}
    if len(complete) < max(_LEAST_FOR_IMPORTANCES, 3 * len(spec.space)) or len(accuracies) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {
        name: float(share)
        for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def candidates(record: SearchRecord, top: int) -> list[SearchTrial]:
    """Return the best complete trials to train again: without the recipe, which always is, and without repetitions."""
    seen, chosen = [record.spec.base], []
    for trial in record.ranked:
        config = with_values(record.spec.base, trial.values)
        if config not in seen:
            seen.append(config)
            chosen.append(trial)
    return chosen[:top]


def confirmation_spec(record: SearchRecord, top: int, seeds: int) -> StudySpec:
    """Return the study that trains the recipe and the best configurations of a search again, on seeds it has not seen.

    Its name says which configurations: another choice, after more trials, is another study.
    """
    chosen = candidates(record, top)
    spec = record.spec
    train = spec.recipe.train
    fresh = {"train.seed": train.seed + FRESH_SEEDS, "train.checkpoint_epochs": train.checkpoint_epochs}
    base = with_values(spec.base, fresh)
    return StudySpec(
        name=spec.name + _CONFIRM + "-".join(str(trial.number) for trial in chosen),
        question=f"Are the best configurations of the search {spec.name} better than the recipe?",
        base=base,
        arms=(Arm(RECIPE, {}), *(Arm(trial.label, trial.values) for trial in chosen)),
        seeds=seeds,
    )


def latest_confirmation(name: str, storage: optuna.storages.BaseStorage) -> StudyRecord | None:
    """Return the confirmation of a search that was begun last, whole or in part; None if there is none."""
    prefix = f"{name}{_CONFIRM}"
    found = [
        one for one in storage.get_all_studies() if one.study_name.startswith(prefix) and SPEC_KEY in one.user_attrs
    ]
    return load_study(max(found, key=lambda one: one._study_id).study_name, storage) if found else None


def read_confirmation(study: StudyRecord) -> tuple[Confirmed, ...]:
    """Return what a confirmation showed, so far as it is finished.

    Each configuration whose seeds are all in is compared with the recipe, corrected for their number.
    """
    accuracies = {
        arm.label: tuple(headline(trial.figures) for trial in study.trials if trial.arm == arm.label and trial.finished)
        for arm in study.spec.arms
    }
    complete = {label: values for label, values in accuracies.items() if len(values) == study.spec.seeds}
    differences = {
        label: compare_seeds(values, complete[RECIPE])
        for label, values in complete.items()
        if label != RECIPE and RECIPE in complete
    }
    tested = {label: one.p_value() for label, one in differences.items() if not math.isnan(one.p_value())}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return tuple(
        Confirmed(
            label=arm.label,
            values=arm.overrides,
            accuracies=accuracies[arm.label],
            planned=study.spec.seeds,
            runs=tuple(trial.run for trial in study.trials if trial.arm == arm.label and trial.finished),
            against_recipe=differences.get(arm.label),
            p_adjusted=adjusted.get(arm.label, math.nan),
        )
        for arm in study.spec.arms
    )


def tuned_config(record: SearchRecord) -> Config | None:
    """Return the recipe with the values that the search chose, all else as it was; None if no trial is complete."""
    return with_values(record.spec.recipe, record.chosen[1]) if record.chosen else None


def position(dimension: Dimension, value: Any) -> float:
    """Return where a value lies on its axis, from 0 (low, or the first of a list) to 1."""
    if dimension.kind == "list":
        return dimension.choices.index(value) / (len(dimension.choices) - 1)
    scale = math.log if dimension.log else float
    low, high = scale(dimension.low), scale(dimension.high)
    return (scale(value) - low) / (high - low)
