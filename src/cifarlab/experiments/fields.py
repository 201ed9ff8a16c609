"""The fields of a Config by their dotted names: which there are, of what type, and a Config with some of them set."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import typing
from collections.abc import Mapping
from typing import Any

from cifarlab.config import Config, DataConfig, ModelConfig
from cifarlab.config_yaml import config_from_dict, config_to_dict, typed_value
from cifarlab.errors import ConfigError

VAL_FRACTION = 0.1
"""Share of the training images held out in studies and searches where the recipe trains on all of them."""


def held_out(data: DataConfig) -> str:
    """Say what is held out of the training images here of a recipe that does without, whose images ``data`` names."""
    own = "where they bring no validation set, " if data.folder or data.csv else ""
    return f"trains on all images; {own}{VAL_FRACTION:.0%} of them are held out here for validation"


FIXED = {
    "recipe": "it names the recipe and changes nothing",
    "train.device": "it changes where is trained, not what is learnt",
    "train.checkpoint_epochs": "it changes what is saved, not what is learnt",
} | {
    f"data.{name}": "configurations are compared on one set of validation images, and it would change them"
    for name in ("dataset", "folder", "csv", "corrupt", "val_fraction", "test_fraction", "split_seed")
}
"""Fields that are the same in all trials, and why."""

_COUNTS_WITH: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("optimizer.head_lr", "optimizer.bias_lr", "optimizer.sgd_momentum"), ("optimizer.name", ("muon",))
    ),
    "optimizer.beta2": ("optimizer.name", ("adamw",)),
    "schedule.step_at": ("schedule.name", ("step",)),
    "schedule.decay": ("schedule.name", ("step", "plateau")),
    "schedule.patience": ("schedule.name", ("plateau",)),
    "train.freeze_whitening": ("model.name", ("speednet",)),
    "evaluate.views_margin": ("evaluate.views", ("flip", "flip_translate")),
}
"""Fields that have an effect only where another one has one of these values."""

_FAMILIES = tuple(name for name, kind in typing.get_type_hints(ModelConfig).items() if dataclasses.is_dataclass(kind))


@functools.cache
def field_types() -> Mapping[str, Any]:
    """Return the annotated type of every field of Config by its dotted name, such as 'optimizer.lr': float."""
    return _types_of(Config, "")


def _types_of(section: Any, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(section).items():
        if dataclasses.is_dataclass(kind):
            found |= _types_of(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = kind
    return found


def resolve_field(name: str, config: Config) -> str:
    """Return the full dotted name of a field.

    ``model.activation`` stands for the field of the chosen network, such as ``model.convnet.activation``, and a dash
    may stand for an underscore, as on the command line.

    Raises:
        ConfigError: If there is no such field; it names the closest one.
    """
    types, dotted = field_types(), name.strip().replace("-", "_")
    short = dotted.removeprefix("model.")
    for candidate in (dotted, f"model.{config.model.name}.{short}"):
        if candidate in types and (candidate == dotted or dotted.startswith("model.")):
            return candidate
    others = tuple(f"model.{family}." for family in _FAMILIES if family != config.model.name)
    types = {field: kind for field, kind in types.items() if not field.startswith(others)}  # what counts comes closest
    section = [field for field in types if field.startswith(dotted.partition(".")[0] + ".")]
    close = difflib.get_close_matches(dotted, types, n=1, cutoff=0.75) or [
        field for field in types if field.rpartition(".")[2] == dotted.rpartition(".")[2]
    ]
    known = section or dict.fromkeys(field.partition(".")[0] for field in types)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    raise ConfigError(f"unknown field {name!r}; {hint}")


def resolve_name(name: str, config: Config) -> str:
    """Return the full dotted name of a field; its last part is enough where only one field that counts ends so.

    Args:
        name: Such as 'optimizer.lr', 'lr', 'model.activation' or 'activation'.
        config: Its network family says which model fields count.

    Raises:
        ConfigError: If there is no such field, or more than one.
    """
    dotted = name.strip().replace("-", "_")
    if dotted not in field_types() and "." not in dotted:
        fitting = [field for field in field_types() if field.endswith(f".{dotted}") and not idle_reason(field, config)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise ConfigError(f"{name} may be {' or '.join(fitting)}; write it in full")
    return resolve_field(name, config)


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a configuration with some fields replaced.

    Args:
        config: Where all other fields come from.
        values: Plain values (lists for tuples) by full dotted name.

    Raises:
        ConfigError: If a value has the wrong type or lies out of range, naming the field.
    """
    plain = config_to_dict(config)
    for name, value in values.items():
        *sections, field = name.split(".")
        part = plain
        for section in sections:
            part = part[section]
        part[field] = value
    return config_from_dict(plain)


def plain_value(field: str, value: Any) -> Any:
    """Return a value as its field's type has it; to YAML 1e-3 is text.

    Raises:
        ConfigError: If it is of another type, naming the field.
    """
    kind = field_types()[field]
    if kind is float and isinstance(value, str):
        with contextlib.suppress(ValueError):  # typed_value says what is wrong with it
            value = float(value)
    return typed_value(kind, value, field)


def value_of(config: Config, name: str) -> Any:
    """Return the plain value of a field by its full dotted name."""
    value: Any = config_to_dict(config)
    for part in name.split("."):
        value = value[part]
    return value


def idle_reason(name: str, config: Config, varied: frozenset[str] = frozenset()) -> str:
    """Say why a field has no effect in this configuration; empty if it has one.

    Args:
        name: Full dotted name.
        config: The configuration.
        varied: Full dotted names of the fields that are varied along with it.
    """
    family = name.split(".")[1] if name.startswith("model.") else ""
    if family in _FAMILIES and family != config.model.name and "model.name" not in varied:
        return f"{name} has no effect with model.name {config.model.name}"
    chooser, values = _COUNTS_WITH.get(name, ("", ()))
    if chooser and chooser not in varied and (chosen := value_of(config, chooser)) not in values:
        return f"{name} has no effect with {chooser} {chosen}"
    stages = config.model.convnet.pool_after
    if name == "model.convnet.pool_last" and stages and "model.convnet.pool_after" not in varied:
        return f"{name} has no effect with model.convnet.pool_after {list(stages)}"
    if name == "data.resize" and not (config.data.folder or config.data.csv):
        return f"{name} has no effect on the images of {config.data.dataset}, which are square"
    return ""
