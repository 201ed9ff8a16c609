"""Arms: from what a user writes to the configurations a study compares, all of them checked before the first trial."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from cifarlab.config import Config
from cifarlab.errors import ConfigError, UsageError
from cifarlab.experiments.fields import (
    FIXED,
    VAL_FRACTION,
    held_out,
    idle_reason,
    plain_value,
    resolve_name,
    with_values,
)
from cifarlab.experiments.space import label
from cifarlab.experiments.study import Arm, StudySpec, check_name, check_network, planned_trials, trial_config

_REFUSED = FIXED | {"train.seed": "every arm is trained on the same seeds; say how many with --seeds"}


def parse_setting(text: str, config: Config) -> tuple[str, Any]:
    """Read ``field=value``.

    Returns:
        Full dotted field name and plain value.

    Raises:
        ConfigError: For an unknown field or a value of another type.
    """
    name, written = _parted(text, "--set")
    field = resolve_name(name, config)
    return field, plain_value(field, _yaml(field, written))


def parse_vary(text: str, config: Config) -> tuple[str, list[Any]]:
    """Read ``field=value,value,…``; values are written as in YAML, lists as ``[1,32],[2,64]``.

    Returns:
        Full dotted field name and plain values.

    Raises:
        ConfigError: For an unknown field, one that cannot be varied, values of another type, or fewer than two.
    """
    name, written = _parted(text, "--vary")
    field = resolve_name(name, config)
    _refuse(field)
    values = [plain_value(field, value) for value in _yaml(field, f"[{written}]")]
    if len(values) < 2:
        raise ConfigError(f"{field} needs at least two values to vary; to set it for all arms write --set {text}")
    if any(repr(a) == repr(b) for a, b in itertools.combinations(values, 2)):
        raise ConfigError(f"{field} has a value twice: {', '.join(map(label, values))}")
    return field, values


def _parted(text: str, flag: str) -> tuple[str, str]:
    name, equals, written = text.partition("=")
    if not equals or not written.strip():
        raise ConfigError(f"{flag} {text!r}: write it like {flag} optimizer.lr=0.05{',0.1' * (flag == '--vary')}")
    return name, written.strip()


def _yaml(field: str, written: str) -> Any:
    try:
        return yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise ConfigError(f"{field}={written.strip('[]')}: values are written like 0.1, relu or [1,32]") from error


def _refuse(field: str) -> None:
    if field in _REFUSED:
        raise ConfigError(f"{field} cannot be varied: {_REFUSED[field]}")


def expand_grid(varies: Sequence[tuple[str, Sequence[Any]]], config: Config) -> tuple[Arm, ...]:
    """Return every combination of values as an arm, the last field changing fastest.

    Args:
        varies: Full dotted field names, each with its plain values.
        config: What the arms change.

    Raises:
        ConfigError: For a field that is varied twice, or has no effect in one of the arms.
    """
    names = [field for field, _ in varies]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{twice} is varied twice; list all its values once")
    arms = []
    for combination in itertools.product(*(values for _, values in varies)):
        overrides = dict(zip(names, combination, strict=True))
        try:
            _require_effect(names, with_values(config, overrides))
        except ConfigError as error:
            raise ConfigError(f"arm {_label(overrides)!r}: {error}") from error
        arms.append(Arm(_label(overrides), overrides))
    return tuple(arms)


def _label(overrides: dict[str, Any]) -> str:
    """Name an arm by its values: 'relu'; 'lr=0.1', for a number says nothing alone; 'activation=relu + flip=none'."""
    if len(overrides) == 1:
        value = next(iter(overrides.values()))
        if isinstance(value, str):
            return label(value)
    last = [name.rpartition(".")[2] for name in overrides]
    names = last if len(set(last)) == len(last) else list(overrides)
    # no comma, which would not show where an arm ends in a list of arms
    return " + ".join(f"{name}={label(value)}" for name, value in zip(names, overrides.values(), strict=True))


def load_arms(path: Path, config: Config) -> tuple[Arm, ...]:
    """Read a YAML file of arms: for every label the fields it changes, none for the recipe as it is.

    Raises:
        ConfigError: If the file is missing or no such mapping, or for a field or value as in :func:`parse_setting`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        written = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read the arms {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    usable = isinstance(written, dict) and all(isinstance(one, dict | None) for one in written.values())
    if not usable or not written:
        raise ConfigError(f"{path} must hold labels with fields and values, such as 'narrow: {{model.widths: [8, 8]}}'")
    labels = _labels(path, text)
    if len(labels) > len(written):
        raise ConfigError(f"{path} has labels that are the same to YAML, as no and off are; write them in quotes")
    return tuple(make_arm(name, fields or {}, config) for name, fields in zip(labels, written.values(), strict=True))


def _labels(path: Path, text: str) -> list[str]:
    """Return the labels as they are written, for to YAML no is a truth value.

    Raises:
        ConfigError: Where a label or a field stands twice, of which YAML keeps the last only.
    """
    arms = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(arms, yaml.MappingNode)
    for mapping in [arms, *(fields for _, fields in arms.value if isinstance(fields, yaml.MappingNode))]:
        keys = [key.value for key, _ in mapping.value]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ConfigError(f"{path} has {twice!r} twice; rename or remove one")
    return [key.value for key, _ in arms.value]


def make_arm(name: str, fields: dict[str, Any], config: Config) -> Arm:
    """Build an arm from plain values by field names, short ones too; they count for the network the arm chooses.

    Raises:
        ConfigError: For an unknown field, one that cannot be varied or has no effect, or a value that does not fit,
            naming the arm.
    """
    try:
        chosen = {key: value for key, value in fields.items() if key == "model.name"}
        own = with_values(config, chosen)
        overrides = {}
        for key, value in fields.items():
            field = resolve_name(str(key), own)
            _refuse(field)
            overrides[field] = plain_value(field, value)
        _require_effect(overrides, with_values(config, overrides))
    except ConfigError as error:
        raise ConfigError(f"arm {name!r}: {error}") from error
    return Arm(name, overrides)


def _require_effect(fields: Iterable[str], config: Config) -> None:
    for field in fields:
        if reason := idle_reason(field, config):
            raise ConfigError(reason)


def study_base(config: Config) -> tuple[Config, list[str]]:
    """Return a configuration as a study uses it, and what was changed, as sentences.

    Studies judge on validation images, so some are held out where the recipe trains on all. Runs of one epoch or less
    save their state only when stopped: training them again costs less than the checkpoints would.
    """
    from cifarlab.run import with_absolute_paths  # loads torch

    notes = []
    config = with_absolute_paths(config)
    data = config.data
    if data.val_fraction == 0:
        data = replace(data, val_fraction=VAL_FRACTION)
        notes.append(f"the recipe {held_out(data)}")
    train = replace(config.train, checkpoint_epochs=0) if config.train.epochs <= 1 else config.train
    return replace(config, data=data, train=train), notes


def check_spec(spec: StudySpec) -> None:
    """Make sure that every trial of a study can be trained: its configuration is valid and its network can be built.

    Raises:
        UsageError: For a name that cannot be a folder's, no arms, two arms of one label or one configuration, or fewer
            than one seed.
        ConfigError: For a value out of range or a field without effect, naming the arm.
    """
    check_name(spec.name)
    if not spec.arms:
        raise UsageError("a study compares arms; name a field to vary, such as --vary optimizer.lr=0.05,0.1")
    if spec.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, not {spec.seeds}")
    seen: dict[str, str] = {}
    for arm, seed in planned_trials(replace(spec, seeds=1)):
        try:
            config = trial_config(spec, arm, seed)
            # the best of a search over networks carries the values of the fields of all of them
            idle = filter(None, (idle_reason(field, config, frozenset(arm.overrides)) for field in arm.overrides))
            if reason := next(idle, ""):
                raise ConfigError(reason)
            check_network(config)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.label!r}: {error}") from error
        if repr(config) in seen:
            raise UsageError(f"arms {seen[repr(config)]!r} and {arm.label!r} are the same configuration; remove one")
        seen[repr(config)] = arm.label
    labels = [arm.label for arm in spec.arms]
    if len(set(labels)) < len(labels):
        raise UsageError(f"two arms are called {next(one for one in labels if labels.count(one) > 1)!r}; rename one")
