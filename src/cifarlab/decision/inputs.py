"""decision.yaml: the amounts and facts that the question is decided by, over complete and commented defaults."""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from cifarlab.decision.given import Amount, Origin
from cifarlab.errors import ConfigError
from cifarlab.strict_yaml import read_yaml

_FORMAT = 1
_LONGEST_HORIZON = 10
_FASTEST = 10.0  # growth or interest of 1,000 % a year
_DAYS = 366
_LARGEST = 10**12  # of any figure: a product of all factors of a cost stays a finite number
_AMOUNT_KEYS = ("label", "low", "base", "high", "unit", "origin", "source", "date")
_ENDS = ("low", "base", "high")
_ABOVE_ZERO = {"people.days_per_year", "people.overhead_factor"}
_MAY_SHRINK = {"volume.growth_per_year"}  # by less than all of it
_NO_SOURCE = "given by the user, without a source"
_Kind = Literal["text", "yes or no, or null", "yes or no", "number or null", "count or null"]

# the facts and requirements: dotted name -> what it holds
_FACTS: dict[str, _Kind] = {
    "vendor.name": "text",
    "vendor.claim_images": "count or null",
    "vendor.latency_p99_ms": "number or null",
    "vendor.images_leave": "yes or no, or null",
    "vendor.licence_allows_use": "yes or no, or null",
    "ours.licence_allows_use": "yes or no, or null",
    "people.images_leave": "yes or no, or null",
    "requirements.latency_p99_ms.limit": "number or null",
    "requirements.latency_p99_ms.must": "yes or no",
    "requirements.images_may_leave.allowed": "yes or no, or null",
    "requirements.images_may_leave.must": "yes or no",
    "requirements.minimum_accuracy.limit": "number or null",
    "requirements.minimum_accuracy.must": "yes or no",
    "requirements.licence.needed": "yes or no",
    "requirements.licence.must": "yes or no",
}
_PLAIN = ("format", "currency", "horizon_years", "status_quo", "mistake_weights")


@dataclass(frozen=True)
class DecisionInputs:
    """Everything a decision.yaml says, over the defaults.

    Attributes:
        currency: Of all money.
        horizon_years: Years that count, 1..10.
        status_quo: What doing nothing means: images sorted by 'people', or by 'none'.
        amounts: By dotted key, in the order of the default file.
        facts: The other settings by dotted name, such as 'vendor.name' or 'requirements.licence.must'; None where
            nobody knows.
        mistake_classes: Names of the classes that mistake_weights is for; empty without it.
        mistake_weights: What a kind of mistake costs, as a multiple of the usual one; rows the true class; empty where
            all cost the same.
        users: Dotted names of what the user's file sets; everything else is a default.
        source: The file, as given; '' for the defaults alone.
    """

    currency: str
    horizon_years: int
    status_quo: Literal["people", "none"]
    amounts: Mapping[str, Amount]
    facts: Mapping[str, Any]
    mistake_classes: tuple[str, ...] = ()
    mistake_weights: tuple[tuple[float, ...], ...] = ()
    users: tuple[str, ...] = ()
    source: str = ""

    @property
    def vendor(self) -> str:
        """Return the vendor's name."""
        return str(self.facts["vendor.name"])


def default_yaml() -> str:
    """Return the commented default file, complete, to be copied and changed."""
    return (files("cifarlab.decision") / "default_decision.yaml").read_text(encoding="utf-8")


def load_inputs(path: Path | None = None) -> DecisionInputs:
    """Read a decision.yaml over the defaults.

    Args:
        path: The user's file, which may leave out whatever it does not change; None for the defaults.

    Raises:
        ConfigError: If it cannot be read, is not YAML, or has a key, a unit or a value that does not fit; one line that
            names the key.
    """
    if path is None:
        return inputs_from_text("")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8") from error
    try:
        return inputs_from_text(text, str(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def inputs_from_text(text: str, source: str = "") -> DecisionInputs:
    """Read the text of a decision.yaml over the defaults; see :func:`load_inputs`."""
    default, user = _read_yaml(default_yaml()), _read_yaml(text)
    _refuse_unknown(user, tuple(default), "")
    plain = {key: user.get(key, default[key]) for key in _PLAIN}
    _check_plain(plain)
    amounts = _amounts(default["amounts"], _section(user, "amounts"), plain["currency"], default["currency"])
    facts, users = _facts(default, user)
    classes, weights = _mistake_weights(plain["mistake_weights"])
    changed = [key for key in _PLAIN if key in user and key != "format"] + users
    changed += [key for key, amount in amounts.items() if amount.users]
    return DecisionInputs(
        currency=plain["currency"],
        horizon_years=plain["horizon_years"],
        status_quo=plain["status_quo"],
        amounts=amounts,
        facts=facts,
        mistake_classes=classes,
        mistake_weights=weights,
        users=tuple(changed),
        source=source,
    )


def _read_yaml(text: str) -> dict[str, Any]:
    values = read_yaml(text)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError("must hold keys and values, such as 'horizon_years: 3'")
    return values


def _section(values: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
    found = values.get(key)
    if found is None and key not in values:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{where or key} must hold keys and values, not {found!r}")
    return found


def _refuse_unknown(values: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            guess = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {guess[0]}?" if guess else f"keys are {', '.join(known)}"
            raise ConfigError(f"unknown key {where + '.' if where else ''}{key}; {hint}")


def _check_plain(plain: Mapping[str, Any]) -> None:
    if plain["format"] != _FORMAT:
        raise ConfigError(f"format must be {_FORMAT}, not {plain['format']!r}; a newer cifarlab may be needed")
    if not isinstance(plain["currency"], str) or not plain["currency"].strip():
        raise ConfigError(f"currency must be a name such as USD, not {plain['currency']!r}")
    years = plain["horizon_years"]
    if not isinstance(years, int) or isinstance(years, bool) or not 1 <= years <= _LONGEST_HORIZON:
        raise ConfigError(f"horizon_years must be a whole number from 1 to {_LONGEST_HORIZON}, not {years!r}")
    if plain["status_quo"] not in ("people", "none"):
        raise ConfigError(f"status_quo must be people or none, not {plain['status_quo']!r}")


def _amounts(default: dict[str, Any], user: dict[str, Any], currency: str, usual: str) -> dict[str, Amount]:
    _refuse_unknown(user, tuple(default), "amounts")
    amounts = {}
    for section, entries in default.items():
        given = _section(user, section, f"amounts.{section}")
        _refuse_unknown(given, tuple(entries), f"amounts.{section}")
        for name, entry in entries.items():
            key = f"{section}.{name}"
            unit = _money_unit(entry["unit"], usual, currency)
            if name in given:
                amounts[key] = _amount(key, _merged(key, given[name], entry, unit), users=True)
            elif unit != entry["unit"]:
                raise ConfigError(f"amounts.{key} is in {usual} by default; with currency {currency} it must be given")
            else:
                amounts[key] = _amount(key, entry, users=False)
    return amounts


def _money_unit(unit: str, usual: str, currency: str) -> str:
    return currency + unit.removeprefix(usual) if unit.startswith(usual + " ") else unit


def _merged(key: str, given: Any, entry: dict[str, Any], unit: str) -> dict[str, Any]:
    """Return what the user gives of an amount, completed by the default's label and unit, never by its figures."""
    if not isinstance(given, dict):
        given = dict.fromkeys(_ENDS, given)
    _refuse_unknown(given, _AMOUNT_KEYS, f"amounts.{key}")
    missing = [end for end in _ENDS if end not in given]
    if missing:
        raise ConfigError(f"amounts.{key}.{missing[0]} is missing; give low, base and high, or one number")
    if given.get("unit", unit) != unit:
        raise ConfigError(f"amounts.{key}.unit must be '{unit}', not {given['unit']!r}; convert the values")
    stated = bool(str(given.get("source") or "").strip())
    if not stated and given.get("origin") in ("measured", "quoted"):
        raise ConfigError(f"amounts.{key}.source is missing; what is {given['origin']} says by whom and where")
    basis = {"label": entry["label"], "origin": "quoted" if stated else "assumed", "source": _NO_SOURCE, "date": ""}
    return {**basis, **{name: value for name, value in given.items() if value is not None}, "unit": unit}


def _amount(key: str, entry: Mapping[str, Any], *, users: bool) -> Amount:
    where = f"amounts.{key}"
    low, base, high = (_figure(f"{where}.{end}", entry.get(end)) for end in _ENDS)
    if not low <= base <= high:
        raise ConfigError(f"{where} must have low <= base <= high, not {low:g}, {base:g}, {high:g}")
    _check_range(where, key, str(entry["unit"]), low, high)
    if key == "vendor.accuracy" and not 0 < base < 1:
        raise ConfigError(f"{where}.base must lie between 0 and 1, not be one of them: nobody is always right")
    if entry["origin"] not in get_args(Origin)[:3]:
        raise ConfigError(f"{where}.origin must be measured, quoted or assumed, not {entry['origin']!r}")
    texts = {}
    for name in ("label", "source"):
        if not isinstance(entry[name], str):
            raise ConfigError(f"{where}.{name} must be text, not {entry[name]!r}")
        texts[name] = entry[name]
    date = _date(where, entry["date"])
    return Amount(key, texts["label"], low, base, high, entry["unit"], entry["origin"], texts["source"], date, users)


def _figure(where: str, value: Any) -> float:
    if isinstance(value, str):
        raise ConfigError(f"{where} must be a number, not the text {value!r}; write 0.001, not 1e-3 or 0,001")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{where} must be a number, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number, not {value}")
    if abs(value) > _LARGEST:
        raise ConfigError(f"{where} must be at most {_LARGEST:,}, beyond which no sum means anything")
    return float(value)


def _check_range(where: str, key: str, unit: str, low: float, high: float) -> None:
    least = -1.0 if key in _MAY_SHRINK else 0.0
    if low < least or (low == least and key in _ABOVE_ZERO | _MAY_SHRINK):
        bound = f"above {least:g}" if key in _ABOVE_ZERO | _MAY_SHRINK else "not negative"
        raise ConfigError(f"{where} must be {bound}, and its low is {low:g}")
    if unit == "share" and high > 1:
        raise ConfigError(f"{where} is a share, from 0 to 1, and its high is {high:g}; 70 % is 0.7")
    if unit == "share per year" and high > _FASTEST:
        raise ConfigError(f"{where} is a share a year, at most {_FASTEST:g}, and its high is {high:g}; 20 % is 0.2")
    if key == "people.days_per_year" and not (low >= 1 and high <= _DAYS):
        raise ConfigError(f"{where} must lie between 1 and {_DAYS}, not from {low:g} to {high:g}")


def _date(where: str, value: Any) -> str:
    if isinstance(value, datetime.datetime):
        value = value.date()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if value in ("", None):
        return ""
    try:
        return datetime.date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise ConfigError(f"{where}.date must be a date such as 2026-11-21, not {value!r}") from None


def _facts(default: dict[str, Any], user: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return all facts by dotted name, and the names that the user set."""
    facts, users = {}, []
    for section in ("vendor", "ours", "people", "requirements"):
        given = _flat(_section(user, section), section)
        known = tuple(name for name in _FACTS if name.startswith(section + "."))
        _refuse_unknown(given, known, "")
        usual = _flat(default[section], section)
        for name in known:
            facts[name] = _fact(name, given.get(name, usual[name]))
            if name in given:
                users.append(name)
    return facts, users


def _flat(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        name = f"{where}.{key}"
        flat.update(_flat(value, name) if isinstance(value, dict) else {name: value})
    return flat


def _fact(name: str, value: Any) -> Any:
    kind = _FACTS[name]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        "text": isinstance(value, str) and value.strip() != "",
        "yes or no": isinstance(value, bool),
        "yes or no, or null": value is None or isinstance(value, bool),
        "count or null": value is None or (isinstance(value, int) and number and 0 < value <= _LARGEST),
        "number or null": value is None or (number and 0 < value <= _LARGEST),
    }[kind]
    if not fits:
        above = f" above 0 and at most {_LARGEST:,}" if kind in ("count or null", "number or null") else ""
        raise ConfigError(f"{name} must be {kind}{above}, not {value!r}")
    if name.endswith("minimum_accuracy.limit") and value is not None and value > 1:
        raise ConfigError(f"{name} is a share, from 0 to 1, not {value:g}; 90 % is 0.9")
    return value


def _mistake_weights(value: Any) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    if value is None:
        return (), ()
    if not isinstance(value, dict) or set(value) != {"classes", "weights"}:
        raise ConfigError("mistake_weights must be null or {classes: [...], weights: [[...], ...]}")
    classes, rows = value["classes"], value["weights"]
    if not isinstance(classes, list) or len(set(map(str, classes))) != len(classes) or len(classes) < 2:
        raise ConfigError("mistake_weights.classes must be a list of different names")
    size = len(classes)
    if not isinstance(rows, list) or len(rows) != size or any(not isinstance(r, list) or len(r) != size for r in rows):
        raise ConfigError(f"mistake_weights.weights must be {size} rows of {size} numbers, one for each class")
    weights = tuple(
        tuple(_figure(f"mistake_weights.weights row {i + 1}, column {j + 1}", item) for j, item in enumerate(row))
        for i, row in enumerate(rows)
    )
    if any(item < 0 for row in weights for item in row):
        raise ConfigError("mistake_weights.weights must not be negative")
    if any(weights[i][i] != 0 for i in range(size)):
        raise ConfigError("mistake_weights.weights must be 0 on the diagonal: a right answer is no mistake")
    return tuple(map(str, classes)), weights
