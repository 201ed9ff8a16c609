"""Search spaces: which fields of a Config a search may change and to what, typed and checked before the first trial.

A dimension is written ``field=values``, on the command line and in a YAML file alike:

    optimizer.lr=log:0.01:0.5                a range searched on a logarithmic scale
    model.convnet.dropout=0:0.5              a range; of whole numbers where the field holds one
    train.label_smoothing=0:0.2:0.05         a range in steps
    train.batch_size=128,250,500             a list of values, as YAML writes them: relu,gelu or [128],[256,128]
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml

from cifarlab.config import Config
from cifarlab.errors import ConfigError
from cifarlab.experiments.fields import FIXED, field_types, idle_reason, plain_value, resolve_name, with_values

_REFUSED = FIXED | {"train.seed": "the best seed is luck, not a setting; try --confirm, which trains on fresh seeds"}
_GRID_AXIS = 1000


class Trial(Protocol):
    """What a sampler offers: Optuna's Trial, or a stand-in."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Return a whole number between both ends."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Return a number between both ends."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One field of a search space.

    Attributes:
        field: Full dotted name.
        kind: A range of whole numbers, a range of numbers, or a list of values.
        low, high: Both ends of a range, which belong to it; 0 for a list.
        step: Distance of the values of a range; None for any value between its ends.
        log: Whether a range is searched on a logarithmic scale.
        choices: Plain values of a list; empty for a range.
    """

    field: str
    kind: Literal["int", "float", "list"]
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def text(self) -> str:
        """The values as they are written after ``field=``; reading it again gives an equal dimension."""
        if self.kind == "list":
            return ",".join(label(value) for value in self.choices)
        parts = [part for part in (self.low, self.high, self.step) if part is not None]
        return ("log:" if self.log else "") + ":".join(label(part) for part in parts)

    @property
    def corners(self) -> tuple[Any, ...]:
        """Plain values that a check has to try: both ends of a range, all values of a list."""
        return self.choices if self.kind == "list" else (self._number(self.low), self._number(self.high))

    def suggest(self, trial: Trial) -> Any:
        """Let a trial choose a plain value."""
        if self.kind == "list":
            return self.plain(trial.suggest_categorical(self.field, [_stored(value) for value in self.choices]))
        if self.kind == "int":
            low, high = self._number(self.low), self._number(self.high)
            return trial.suggest_int(self.field, low, high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.field, self.low, self.high, step=self.step, log=self.log)

    def stored(self, value: Any) -> Any:
        """Return a plain value as a trial's parameter holds it; the inverse of what :meth:`suggest` does."""
        return _stored(value) if self.kind == "list" else value

    def plain(self, stored: Any) -> Any:
        """Return the plain value that a trial's parameter stands for."""
        return next(choice for choice in self.choices if _stored(choice) == stored) if self.kind == "list" else stored

    def holds(self, value: Any) -> bool:
        """Whether a plain value is one that the dimension can take."""
        if self.kind == "list":
            return any(_same(value, choice) for choice in self.choices)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and (
            self.step is None or (Decimal(repr(value)) - Decimal(repr(self.low))) % Decimal(repr(self.step)) == 0
        )

    def grid(self) -> list[Any]:
        """Return all values as a trial's parameters hold them.

        Raises:
            ConfigError: For a range without steps.
        """
        if self.kind != "list" and not self.step and (self.kind == "float" or self.log):
            raise ConfigError(f"a grid needs {self.field} as a list or in steps, not {self.text}; write some values")
        count = self.size or 0
        if self.kind != "list" and count > _GRID_AXIS:
            raise ConfigError(f"a grid of {count:,} values of {self.field} has no end; write some of them")
        return [self.at(rank) for rank in range(count)]

    @property
    def size(self) -> int | None:
        """How many values there are; None where there are values between any two."""
        if self.kind == "list":
            return len(self.choices)
        if not self._step:
            return None
        return int((Decimal(repr(self.high)) - Decimal(repr(self.low))) / self._step) + 1

    def at(self, rank: int) -> Any:
        """Return a value as a trial's parameter holds it, by its place among all of them."""
        if self.kind == "list":
            return _stored(self.choices[rank])
        return self._number(float(Decimal(repr(self.low)) + rank * (self._step or 0)))

    def rank(self, stored: Any) -> Any:
        """Return the place of a parameter among all values, the inverse of :meth:`at`; itself where they are endless.

        A sampler's 0.15000000000000002 is the third step of 0:0.2:0.05, as 0.15 is.
        """
        if self.kind == "list":
            return self._ranks.get((isinstance(stored, bool), stored), stored)
        return round((stored - self.low) / float(self._step)) if self._step else stored

    @property
    def _step(self) -> Decimal | None:
        if self.step is not None:
            return Decimal(repr(self.step))
        return Decimal(1) if self.kind == "int" else None

    @functools.cached_property
    def _ranks(self) -> dict[tuple[bool, Any], int]:
        stored = [_stored(value) for value in self.choices]
        return {(isinstance(value, bool), value): rank for rank, value in enumerate(stored)}  # True equals 1

    def _number(self, value: float) -> Any:
        return int(value) if self.kind == "int" else value


Space = tuple[Dimension, ...]


def label(value: Any) -> str:
    """Return a plain value as it is written in a space and shown in a table: 0.05, relu, true, [128, 64]."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    # as part of a list: a comma in a text is then told from one between two
    text = yaml.safe_dump([value], default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.strip()[1:-1]


def parse_space(texts: Iterable[str], config: Config) -> Space:
    """Read dimensions written ``field=values``; of two for one field the later one counts.

    Args:
        texts: As on the command line.
        config: Where the search starts from; it decides what ``model.activation`` means.

    Raises:
        ConfigError: For an unknown field, one that cannot be searched, or values that do not fit its type.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, written = text.partition("=")
        if not equals or not written.strip():
            raise ConfigError(f"{text!r} is no search dimension; write it like optimizer.lr=log:0.01:0.5")
        values[name] = written.strip()
    return space_from_dict(values, config)


def load_space(path: Path, config: Config) -> Space:
    """Read a YAML file of fields and their values: text as on the command line, a list, or low, high, step and log.

    Raises:
        ConfigError: If the file is missing or is no such mapping; else as :func:`parse_space`.
    """
    try:
        # without YAML's own types, to which 0:0.5 is a number to base 60; it builds nothing but text, lists and dicts
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    except OSError as error:
        raise ConfigError(f"cannot read the search space {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{path} must hold fields and values, such as 'optimizer.lr: log:0.01:0.5'")
    try:
        return space_from_dict({name: _typed(value) for name, value in values.items()}, config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _typed(written: Any, inner: bool = False) -> Any:
    """Give what stands in lists and ranges the types of YAML; text stays text elsewhere."""
    if isinstance(written, dict):
        return {name: _typed(value, True) for name, value in written.items()}
    if isinstance(written, list):
        return [_typed(item, True) for item in written]
    return yaml.safe_load(written) if inner else written


def space_from_dict(values: Mapping[str, Any], config: Config) -> Space:
    """Build a space from values by field name, and check it: see :func:`parse_space`, :func:`check_space`."""
    dimensions = {}
    for name, written in values.items():
        field = resolve_name(str(name), config)
        dimensions[field] = _dimension(field, written)
    space = tuple(dimensions.values())
    check_space(space, config)
    return space


def space_to_dict(space: Space) -> dict[str, str]:
    """Return the space as text by field; :func:`space_from_dict` reads it."""
    return {dimension.field: dimension.text for dimension in space}


def _dimension(field: str, written: Any) -> Dimension:
    kind = field_types()[field]
    if field in _REFUSED:
        raise ConfigError(f"{field} cannot be searched: {_REFUSED[field]}")
    if isinstance(written, Mapping):
        return _range_from_mapping(field, kind, written)
    if isinstance(written, str):
        if written.startswith("log:") or (kind in (int, float) and ":" in written):
            return _range_from_text(field, kind, written)
        try:
            written = yaml.safe_load(f"[{written}]")
        except yaml.YAMLError as error:
            raise ConfigError(
                f"{field}={written}: a list of values is written like 128,250 or [128],[256,128]"
            ) from error
    if not isinstance(written, list):
        written = [written]
    choices = tuple(plain_value(field, value) for value in written)
    if any(_same(a, b) for a, b in itertools.combinations(choices, 2)):
        raise ConfigError(f"{field} has a value twice: {', '.join(map(label, choices))}")
    if len(choices) < 2:
        raise ConfigError(f"{field} needs at least two values to search; to set it for all trials use its own flag")
    return Dimension(field=field, kind="list", choices=choices)


def _range_from_text(field: str, kind: Any, written: str) -> Dimension:
    parts = written.removeprefix("log:").split(":")
    if len(parts) not in (2, 3):
        raise ConfigError(f"{field}={written}: a range is written low:high, low:high:step or log:low:high")
    names = dict(zip(("low", "high", "step"), parts, strict=False))
    return _range_from_mapping(field, kind, {**names, "log": written.startswith("log:")})


def _range_from_mapping(field: str, kind: Any, parts: Mapping[Any, Any]) -> Dimension:
    if kind not in (int, float):
        raise ConfigError(f"{field} is not a number, so it has no range; list its values like {field}=a,b")
    if unknown := set(parts) - {"low", "high", "step", "log"}:
        raise ConfigError(f"{field}: a range has low, high, step and log, not {', '.join(map(str, unknown))}")
    if not {"low", "high"} <= set(parts):
        raise ConfigError(f"{field}: a range needs low and high")
    numbers = {name: _number(field, kind, parts[name]) for name in ("low", "high", "step") if name in parts}
    low, high, step, log = numbers["low"], numbers["high"], numbers.get("step"), bool(parts.get("log", False))
    written = ("log:" if log else "") + ":".join(map(label, numbers.values()))
    if low >= high:
        raise ConfigError(f"{field}={written}: the lower end comes first, and both ends differ")
    if log and low <= 0:
        raise ConfigError(f"{field}={written}: a logarithmic range begins above 0")
    if step is not None and (step <= 0 or log):
        raise ConfigError(f"{field}={written}: a step is positive, and a logarithmic range has none")
    if step is not None:
        rest = (Decimal(repr(high)) - Decimal(repr(low))) % Decimal(repr(step))
        if rest:
            raise ConfigError(
                f"{field}={written}: steps of {label(step)} end at {Decimal(repr(high)) - rest}, not {label(high)}"
            )
    return Dimension(field=field, kind="int" if kind is int else "float", low=low, high=high, step=step, log=log)


def _number(field: str, kind: Any, written: Any) -> float:
    try:
        number = float(written)
    except (TypeError, ValueError):
        raise ConfigError(f"{field}: {written!r} is not a number") from None
    if not math.isfinite(number) or isinstance(written, bool):
        raise ConfigError(f"{field}: {written!r} is not a number")
    if kind is int:
        if number != int(number):
            raise ConfigError(f"{field} takes whole numbers, not {written}")
        return int(number)
    return number


def check_space(space: Space, config: Config) -> None:
    """Make sure that a search cannot meet an invalid configuration: before the first trial, not in the tenth.

    Both ends of every range and all values of every list are tried, each together with each of every other dimension.
    A rule that links three fields, or fails only inside a range, is left to the trial.

    Raises:
        ConfigError: Naming the values that do not go, or the field that would have no effect.
    """
    varied = frozenset(dimension.field for dimension in space)
    for dimension in space:
        if reason := idle_reason(dimension.field, config, varied):
            raise ConfigError(f"{reason}; take it out of the search space")
    first = {dimension.field: dimension.corners[0] for dimension in space}
    for chosen in corners_by_two(space):
        try:
            with_values(config, {**first, **chosen})
        except ConfigError as error:
            raise ConfigError(
                f"the search space holds a configuration that cannot be: {beside_each_other(chosen)}: {error}"
            ) from error


def corners_by_two(space: Space) -> Iterator[dict[str, Any]]:
    """Yield the values that a check has to try of every two dimensions together, or of one where there is no other."""
    pairs: Iterable[tuple[Dimension, ...]] = itertools.combinations(space, 2) if len(space) > 1 else [space]
    for pair in pairs:
        for corners in itertools.product(*(dimension.corners for dimension in pair)):
            yield dict(zip((dimension.field for dimension in pair), corners, strict=True))


def beside_each_other(values: Mapping[str, Any]) -> str:
    """Return values by field for a message: 'a=1 with b=2'."""
    return " with ".join(f"{field}={label(value)}" for field, value in values.items())


def _stored(value: Any) -> Any:
    # a storage keeps scalars only
    return value if isinstance(value, (bool, int, float, str)) else label(value)


def _same(one: Any, other: Any) -> bool:
    # True equals 1, but is another value
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
