"""Search: what a hyper-parameter search does, as plain data, and the Optuna study that records it.

Every draw depends on the seed, the trial's number and the trials before it, not on which worker makes it or whether
the search was stopped in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from cifarlab.config import Config
from cifarlab.config_yaml import config_from_dict, config_to_dict
from cifarlab.errors import ConfigError, UsageError
from cifarlab.experiments.fields import VAL_FRACTION, value_of, with_values
from cifarlab.experiments.search_sampler import build_sampler
from cifarlab.experiments.space import Space, beside_each_other, corners_by_two, space_from_dict, space_to_dict
from cifarlab.experiments.storage import create_or_join, holds, load_if_any
from cifarlab.experiments.study import check_name, check_network, decide_precision

if TYPE_CHECKING:
    import optuna

SEARCH_KEY = "cifarlab_search"
"""User attribute of the Optuna study that holds the specification."""

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "hyperband", "none"]

_LONGEST_NAME = 80
_UNEVEN = ("train.epochs", "train.low_resolution")
_TRIALS_BEFORE_PRUNING = 5
_SHAPING = ("model.", "data.image_size", "train.low_resolution")  # fields that decide what can be built
_LARGEST_GRID = 100_000


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """What a search does.

    Attributes:
        name: The search's name, which also begins the names of its runs.
        recipe: The configuration it starts from, as the user gave it; the result differs from it in the space only.
        space: What it may change.
        sampler: How values are chosen: by tree-structured Parzen estimators, at random, or all of a grid.
        pruner: When a trial is given up: its best accuracy so far is below the median of the others' accuracies at the
            same epoch; by Hyperband; never.
        seeds_per_trial: Runs of each trial, whose mean accuracy on val is its value; their seeds are the recipe's and
            those after it, the same ones in every trial.
        precision: What all trials are trained in where the recipe leaves it to the machine, as whoever created the
            search decided; '' before that, and where the recipe says it.
    """

    name: str
    recipe: Config
    space: Space
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    seeds_per_trial: int = 1
    precision: str = ""

    @property
    def base(self) -> Config:
        """The configuration of every trial but for its values: the recipe, with images held out for validation."""
        plain = config_to_dict(self.recipe)
        plain["data"]["val_fraction"] = plain["data"]["val_fraction"] or VAL_FRACTION
        plain["train"]["checkpoint_epochs"] = 0  # a trial that was stopped begins again
        plain["train"]["precision"] = self.precision or plain["train"]["precision"]
        return config_from_dict(plain)

    @property
    def num_epochs(self) -> int:
        """Epochs of a trial, the last of which may be a part."""
        return max(1, math.ceil(self.recipe.train.epochs))

    @property
    def grid_size(self) -> int | None:
        """Number of points of the grid; None for other samplers."""
        return math.prod(len(dimension.grid()) for dimension in self.space) if self.sampler == "grid" else None

    @property
    def recipe_parameters(self) -> dict[str, Any] | None:
        """The recipe itself as parameters of a trial; None where it lies outside the space."""
        values = {dimension.field: value_of(self.base, dimension.field) for dimension in self.space}
        if not all(dimension.holds(values[dimension.field]) for dimension in self.space):
            return None
        return {dimension.field: dimension.stored(values[dimension.field]) for dimension in self.space}


def check_search(spec: SearchSpec) -> None:
    """Make sure that a search can be done as it was asked for.

    Raises:
        UsageError: If it cannot, saying what to change.
    """
    check_name(spec.name, _LONGEST_NAME)
    if spec.seeds_per_trial < 1:
        raise UsageError(f"a trial needs at least one seed, not {spec.seeds_per_trial}")
    uneven = [dimension.field for dimension in spec.space if dimension.field in _UNEVEN]
    if uneven and spec.pruner != "none":
        raise UsageError(
            f"with {uneven[0]} in the search space the same epoch means different things in two trials, and no trial "
            "can be given up for being behind; add --pruner none"
        )
    if (spec.grid_size or 0) > _LARGEST_GRID:
        raise UsageError(f"a grid of {spec.grid_size:,} points has no end; list fewer values, or take --sampler tpe")
    _check_networks(spec)


def _check_networks(spec: SearchSpec) -> None:
    """Build every network that two fields of the space lead to; what only Config allows shows here, not in a trial."""
    first = {dimension.field: dimension.corners[0] for dimension in spec.space}
    shaping = tuple(one for one in spec.space if one.field.startswith(_SHAPING) and one.field != "model.init")
    for chosen in corners_by_two(shaping) if shaping else ():
        try:
            check_network(with_values(spec.base, {**first, **chosen}))
        except ConfigError as error:
            raise ConfigError(f"no network can be built with {beside_each_other(chosen)}: {error}") from error


def search_to_dict(spec: SearchSpec) -> dict[str, Any]:
    """Return a specification as plain values that JSON can hold."""
    return {
        "format": 1,
        "name": spec.name,
        "recipe": config_to_dict(spec.recipe),
        "space": space_to_dict(spec.space),
        "sampler": spec.sampler,
        "pruner": spec.pruner,
        "seeds_per_trial": spec.seeds_per_trial,
        "precision": spec.precision,
    }


def search_from_dict(values: dict[str, Any]) -> SearchSpec:
    """Build a specification from what :func:`search_to_dict` gave.

    Raises:
        UsageError: If another version of cifarlab wrote it and it cannot be understood.
    """
    try:
        if values["format"] != 1:
            raise UsageError(f"the search was written by another cifarlab (format {values['format']}); update this one")
        recipe = config_from_dict(values["recipe"])
        return SearchSpec(
            name=values["name"],
            recipe=recipe,
            space=space_from_dict(values["space"], recipe),
            sampler=values["sampler"],
            pruner=values["pruner"],
            seeds_per_trial=values["seeds_per_trial"],
            precision=values.get("precision", ""),  # older ones have none
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise UsageError(f"the search cannot be read; another cifarlab wrote it: {error}") from error


def open_search(
    name: str,
    storage: optuna.storages.BaseStorage,
    wanted: SearchSpec | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> tuple[optuna.Study, SearchSpec]:
    """Open a search in its storage.

    Args:
        name: Its name.
        storage: Where it is recorded.
        wanted: What to create if there is no search of that name, checked, and what one that is there has to be; None
            to take one that is there as it is.
        notify: Takes one-line notices.

    Raises:
        UsageError: If there is none to take, or it is another one than wanted.
    """
    study = load_if_any(name, storage)
    if not holds(study, SEARCH_KEY) and wanted is not None:
        created = _with_one_precision(wanted, notify)
        study = create_or_join(name, storage, attributes={SEARCH_KEY: search_to_dict(created)})
    if study is None or SEARCH_KEY not in study.user_attrs:
        others = [one.study_name for one in storage.get_all_studies() if SEARCH_KEY in one.user_attrs]
        raise UsageError(f"there is no search {name!r} in the storage; searches are {', '.join(others) or 'none yet'}")
    found = search_from_dict(study.user_attrs[SEARCH_KEY])
    if wanted is not None and found != (wanted := replace(wanted, precision=found.precision)):
        raise UsageError(
            f"the search {name} was begun with other settings ({_first_difference(found, wanted)}); "
            "continue it as it is with --join, or choose another --name"
        )
    study.sampler, study.pruner = build_sampler(found), build_pruner(found)
    return study, found


def _with_one_precision(spec: SearchSpec, notify: Callable[[str], None]) -> SearchSpec:
    if spec.recipe.train.precision != "auto" or any(one.field == "train.precision" for one in spec.space):
        return spec
    return replace(spec, precision=decide_precision(spec.recipe, notify))


def _first_difference(found: SearchSpec, wanted: SearchSpec) -> str:
    old, new = _flat(search_to_dict(found)), _flat(search_to_dict(wanted))
    key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
    return f"{key} {old.get(key, 'not searched')}, now {new.get(key, 'not searched')}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def build_pruner(spec: SearchSpec) -> optuna.pruners.BasePruner:
    """Return Optuna's pruner; its steps are epochs, so only accuracies at equal resolution are ever compared."""
    import optuna

    if spec.pruner == "none" or spec.num_epochs == 1:
        return optuna.pruners.NopPruner()
    if spec.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=spec.num_epochs, reduction_factor=3)
    # the first epochs say little, under a schedule that warms up least of all
    return optuna.pruners.MedianPruner(
        n_startup_trials=_TRIALS_BEFORE_PRUNING,
        n_warmup_steps=spec.num_epochs // 3 + 1,  # the first epoch that ends after the first third
    )
