"""Arms: from what a user writes to the configurations a study compares, all of them checked before the first trial."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from cifarlab.config import Config
from cifarlab.config_yaml import typed_value
from cifarlab.errors import ConfigError, UsageError
from cifarlab.experiments.fields import field_types, idle_reason, resolve_name, with_values
from cifarlab.experiments.space import label
from cifarlab.experiments.study import Arm, StudySpec, check_name, planned_trials, trial_config

VAL_FRACTION = 0.1
"""Share held out in a study where the recipe holds nothing out."""

_REFUSED = {
    "recipe": "it names the recipe and changes nothing",
    "train.seed": "every arm is trained on the same seeds; say how many with --seeds",
    "train.device": "it changes where is trained, not what is learnt",
    "train.checkpoint_epochs": "it changes what is saved, not what is learnt",
} | {
    f"data.{name}": "arms are compared on one set of validation images, and it would change them"
    for name in ("dataset", "folder", "csv", "corrupt", "val_fraction", "test_fraction", "split_seed")
}


def parse_setting(text: str, config: Config) -> tuple[str, Any]:
    """Read ``field=value``.

    Returns:
        Full dotted field name and plain value.

    Raises:
        ConfigError: For an unknown field or a value of another type.
    """
    name, written = _parted(text, "--set")
    field = resolve_name(name, config)
    return field, _plain(field, _yaml(field, written))


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
    values = [_plain(field, value) for value in _yaml(field, f"[{written}]")]
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


def _plain(field: str, value: Any) -> Any:
    """Return a value as its field's type has it; to YAML 1e-3 is text."""
    kind = field_types()[field]
    if kind is float and isinstance(value, str):
        with contextlib.suppress(ValueError):  # typed_value says what is wrong with it
            value = float(value)
    return typed_value(kind, value, field)


def _refuse(field: str) -> None:
    if field in _REFUSED:
        raise ConfigError(f"{field} cannot be varied: {_REFUSED[field]}")


def expand_grid(varies: Sequence[tuple[str, Sequence[Any]]]) -> tuple[Arm, ...]:
    """Return every combination of values as an arm, the last field changing fastest.

    Args:
        varies: Full dotted field names, each with its plain values.
    """
    names = [field for field, _ in varies]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{twice} is varied twice; list all its values once")
    arms = []
    for combination in itertools.product(*(values for _, values in varies)):
        overrides = dict(zip(names, combination, strict=True))
        arms.append(Arm(_label(overrides), overrides))
    return tuple(arms)


def _label(overrides: dict[str, Any]) -> str:
    """Name an arm by its values: 'relu'; 'lr=0.1', for a number says nothing alone; 'activation=relu, flip=none'."""
    if len(overrides) == 1:
        value = next(iter(overrides.values()))
        if isinstance(value, str):
            return label(value)
    last = [name.rpartition(".")[2] for name in overrides]
    names = last if len(set(last)) == len(last) else list(overrides)
    return ", ".join(f"{name}={label(value)}" for name, value in zip(names, overrides.values(), strict=True))


def load_arms(path: Path, config: Config) -> tuple[Arm, ...]:
    """Read a YAML file of arms: for every label the fields it changes, none for the recipe as it is.

    Raises:
        ConfigError: If the file is missing or no such mapping, or for a field or value as in :func:`parse_setting`.
    """
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the arms {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    usable = isinstance(written, dict) and all(isinstance(one, dict | None) for one in written.values())
    if not usable or not written:
        raise ConfigError(f"{path} must hold labels with fields and values, such as 'narrow: {{model.widths: [8, 8]}}'")
    return tuple(make_arm(str(name), fields or {}, config) for name, fields in written.items())


def make_arm(name: str, fields: dict[str, Any], config: Config) -> Arm:
    """Build an arm from plain values by field names, short ones too; they count for the network the arm chooses.

    Raises:
        ConfigError: For an unknown field, one that cannot be varied, or a value of another type, naming the arm.
    """
    try:
        chosen = {key: value for key, value in fields.items() if key == "model.name"}
        own = with_values(config, chosen)
        overrides = {}
        for key, value in fields.items():
            field = resolve_name(str(key), own)
            _refuse(field)
            overrides[field] = _plain(field, value)
    except ConfigError as error:
        raise ConfigError(f"arm {name!r}: {error}") from error
    return Arm(name, overrides)


def study_base(config: Config) -> tuple[Config, list[str]]:
    """Return a configuration as a study uses it, and what was changed, as sentences.

    Studies judge on validation images, so some are held out where the recipe trains on all. Runs of one epoch or less
    save their state only when stopped: training them again costs less than the checkpoints would.
    """
    notes = []
    data = replace(config.data, folder=_absolute(config.data.folder), csv=_absolute(config.data.csv))
    if data.val_fraction == 0:
        data = replace(data, val_fraction=VAL_FRACTION)
        notes.append(f"{VAL_FRACTION:.0%} of the training images are held out for validation, which the recipe is not")
    train = replace(config.train, checkpoint_epochs=0) if config.train.epochs <= 1 else config.train
    return replace(config, data=data, train=train), notes


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if path else ""


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
            idle = [idle_reason(field, config) for field in arm.overrides if field != "model.name"]
            if any(idle):
                raise ConfigError(next(filter(None, idle)))
            _check_network(config)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.label!r}: {error}") from error
        if repr(config) in seen:
            raise UsageError(f"arms {seen[repr(config)]!r} and {arm.label!r} are the same configuration; remove one")
        seen[repr(config)] = arm.label
    labels = [arm.label for arm in spec.arms]
    if len(set(labels)) < len(labels):
        raise UsageError(f"two arms are called {next(one for one in labels if labels.count(one) > 1)!r}; rename one")


def _check_network(config: Config) -> None:
    import torch

    from cifarlab.models import build_model

    with torch.device("meta"):  # shapes without values: the largest network takes milliseconds
        build_model(config.model, 10, config.data.image_size)
