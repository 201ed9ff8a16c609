"""Config to and from YAML: strict about names and types, so that a misspelt field never passes unnoticed."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from cifarlab.config import Config
from cifarlab.errors import ConfigError
from cifarlab.strict_yaml import read_yaml


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dicts, lists and scalars."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def changed_fields(config: Config, base: Config) -> dict[str, Any]:
    """Return the plain value of every field in which ``config`` differs from ``base``, by its dotted name.

    The name of the recipe does not count: it changes nothing that a run does.
    """
    return _changed(config_to_dict(config), config_to_dict(base), "")


def _changed(values: dict[str, Any], base: dict[str, Any], prefix: str) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            changed |= _changed(value, base[key], f"{prefix}{key}.")
        elif value != base[key] and key != "recipe":
            changed[prefix + key] = value
    return changed


def config_from_dict(values: dict[str, Any]) -> Config:
    """Build a Config from plain values; absent fields take their defaults.

    Raises:
        ConfigError: For an unknown field, a wrong type or a value out of range, naming the field.
    """
    config = _build(Config, values, "")
    assert isinstance(config, Config)
    return config


def config_to_yaml(config: Config) -> str:
    """Return the complete configuration as YAML text."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)


def load_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: If the file is missing, is not YAML, or does not fit Config.
    """
    try:
        values = read_yaml(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"{path} must hold fields and values, such as 'train: {{epochs: 5}}'")
    try:
        return config_from_dict(values or {})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def typed_value(kind: Any, value: Any, where: str) -> Any:
    """Return a plain value as an annotated type has it, plain again; ranges are not checked.

    Args:
        kind: The annotation of a field.
        value: Plain value.
        where: The field's dotted name, for messages.

    Raises:
        ConfigError: If the value has another type.
    """
    return _plain(_build(kind, value, where))


def _build(kind: Any, value: Any, where: str) -> Any:
    """Convert a plain value to the annotated type; ``where`` is the field's dotted name for messages."""
    if dataclasses.is_dataclass(kind):
        return _build_section(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is Literal:
        choices = typing.get_args(kind)
        # bool is a subclass of int: True must not pass for 1
        if any(value == choice and type(value) is type(choice) for choice in choices):
            return value
        raise ConfigError(f"{where} must be one of {', '.join(map(str, choices))}, not {value!r}")
    if origin is tuple:
        return _build_tuple(kind, value, where)
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        value = _number(value)
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    raise ConfigError(f"{where} must be of type {kind.__name__}, not {value!r}")


def _number(value: int | str) -> Any:
    """Return a whole number, or a text such as 1e-3 (to YAML no number), as a float; what is no number as it is."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return value
    return number if isinstance(value, int) or math.isfinite(number) else value


def _build_section(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{where or 'the configuration'} must hold fields and values, not {value!r}")
    hints = _hints(kind)
    for name in value:
        if name not in hints:
            guess = difflib.get_close_matches(str(name), hints, n=1)
            hint = f"; did you mean {guess[0]}?" if guess else f"; fields are {', '.join(hints)}"
            raise ConfigError(f"unknown field {where + '.' if where else ''}{name}{hint}")
    prefix = f"{where}." if where else ""
    return kind(**{name: _build(hints[name], item, prefix + name) for name, item in value.items()})


@functools.cache  # most of the time of building a Config, and a search space builds hundreds to check them
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build_tuple(kind: types.GenericAlias, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} must be a list, not {value!r}")
    parts = typing.get_args(kind)
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(_build(parts[0], item, where) for item in value)
    if len(parts) != len(value):
        raise ConfigError(f"{where} must have {len(parts)} values, not {len(value)}")
    return tuple(_build(part, item, where) for part, item in zip(parts, value, strict=True))
