"""Names of the models and recipes of a comparison: models have distinct ones, and seeds of one recipe share its."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cifarlab.comparison import Candidate
from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields

_LONGEST_LABEL = 70


def recipe_labels(configs: Mapping[Path, Config]) -> dict[Path, str]:
    """Name the recipe of every run: runs whose configurations differ in the seed only share it.

    Args:
        configs: Configuration of each run, by its folder.
    """
    changed = {path: _changed(config) for path, config in configs.items()}
    keys = {path: json.dumps(fields, sort_keys=True) for path, fields in changed.items()}
    names = [path.resolve().name for path in configs]
    labels = {}
    for path, config in configs.items():
        rivals = [other for other in configs if configs[other].recipe == config.recipe and keys[other] != keys[path]]
        differing = {
            field
            for other in rivals
            for field in changed[path] | changed[other]
            if changed[path].get(field) != changed[other].get(field)
        }
        values = ", ".join(f"{field} {changed[path].get(field, _default(field))}" for field in sorted(differing))
        label = f"{config.recipe} ({values})" if values else config.recipe
        if len(label) > _LONGEST_LABEL:
            first = next(other for other in configs if keys[other] == keys[path])
            name = first.resolve().name
            label = f"{config.recipe} as in {name if names.count(name) == 1 else first}"
        labels[path] = label
    return labels


def _changed(config: Config) -> dict[str, Any]:
    return changed_fields(replace(config, train=replace(config.train, seed=0)), Config())


def _default(field: str) -> Any:
    value: Any = Config()
    for name in field.split("."):
        value = getattr(value, name)
    return value


def distinct(candidates: Sequence[Candidate], paths: Sequence[Path]) -> tuple[Candidate, ...]:
    """Call models of one name by their paths."""
    names = [one.name for one in candidates]
    return tuple(
        replace(one, name=str(path)) if names.count(one.name) > 1 else one
        for one, path in zip(candidates, paths, strict=True)
    )


def each_seed_once(candidates: Sequence[Candidate], notes: list[str]) -> tuple[Candidate, ...]:
    """Give a repeated seed a recipe of its own, since it is no independent training; two models may share one.

    Args:
        candidates: With distinct names.
        notes: Takes a line for each repeated seed.
    """
    seen: set[tuple[str, int | None]] = set()
    result = []
    for one in candidates:
        key = (one.recipe, one.seed)
        if key in seen and len(candidates) > 2:
            notes.append(f"{one.name} repeats seed {one.seed} of {one.recipe} and does not count among its seeds.")
            one = replace(one, recipe=f"{one.name}, a repeated seed")  # noqa: PLW2901
        seen.add(key)
        result.append(one)
    # a recipe of several seeds goes by its own name beside single models by theirs
    counts = Counter(one.recipe for one in result)
    taken = {one.name for one in result if counts[one.recipe] == 1}
    shared = [one.recipe in taken and counts[one.recipe] > 1 for one in result]
    return tuple(
        replace(one, recipe=f"recipe {one.recipe}") if both else one for one, both in zip(result, shared, strict=True)
    )
