"""How the report writes figures: money and amounts with their unit, what is not recorded as such; its jinja filters."""

from __future__ import annotations

import functools
import math
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import Environment

from cifarlab import pages
from cifarlab.decision import wording
from cifarlab.phrases import duration

ABSENT = "not recorded"


@functools.cache  # templates are compiled once
def report_environment() -> Environment:
    """Return the jinja environment of the report and the model card: that of all pages, and the filters of here."""
    environment = pages.environment()
    filters: dict[str, Callable[..., Any]] = {
        "percent": percent,
        "percent_span": percent_span,
        "quantity": quantity,
        "lasting": lasting,
        "recorded": recorded,
        "money": money,
        "bare": bare,
        "unit_words": unit_words,
        "key_figure": key_figure,
        "after": after,
        "shell": shlex.quote,
    }
    environment.filters.update(filters)
    return environment


def recorded(value: object) -> object:
    """Return a value, or that it was not recorded."""
    return ABSENT if value in (None, "") else value


def percent(value: float | None, digits: int = 2) -> str:
    """Return "71.25 %", or that it was not recorded."""
    return ABSENT if value is None else pages.per_cent(value, digits)


def percent_span(ends: Sequence[float] | None, digits: int = 2) -> str:
    """Return "70.35 to 72.13 %"."""
    return "none" if ends is None else f"{100 * ends[0]:.{digits}f} to {pages.per_cent(ends[1], digits)}"


def quantity(value: float | None, digits: int = 0) -> str:
    """Return "10,000", or that it was not recorded."""
    return ABSENT if value is None else pages.number(value, digits)


def lasting(value: float | None) -> str:
    """Return a duration in seconds as a person says it, or that it was not recorded."""
    return ABSENT if value is None else pages.unbroken(duration(value))


def money(value: float | None, currency: str = "") -> str:
    """Return a sum with three figures that count: "USD 457,000", "-USD 1.5", or without the currency "457,000"."""
    if value is None or math.isnan(value):
        return "none"
    return wording.money(value, currency).replace(" ", "\u00a0") if currency else wording.about(value)


def tick(value: float) -> str:
    """Return a value of an axis exactly: two marks beside each other may be told apart by their fifth figure."""
    return wording.about(value, 10)


def share_tick(value: float) -> str:
    """Return a share of an axis in per cent, exactly: "97.5 %", "98 %"."""
    return f"{wording.about(100 * value, 10)}\u00a0%"


def bare(value: float, unit: str) -> str:
    """Return an amount without its unit, which stands beside it: "1.5", "15"; of a share "70 %"."""
    return pages.unbroken(wording.bare(value, unit))


def unit_words(unit: str) -> str:
    """Return what stands beside bare amounts: "USD per 1,000 images"; of a share only what it is per."""
    return unit.removeprefix("share").strip() if unit.startswith("share") else unit


def key_figure(text: str) -> tuple[str, str]:
    """Return a figure and what is said of it, parted at the first bracket or semicolon."""
    match = re.match(r"(.*?[^\s;(])(\s*[;(].*)", text, re.DOTALL)
    return (match.group(1), match.group(2).removeprefix(";").strip()) if match else (text, "")


def after(sentence: str, word: str) -> str:
    """Return a sentence without the word it begins with, where that word already stands above it: "Buy: …"."""
    rest = sentence.removeprefix(f"{word}: ")
    return rest if rest == sentence else rest[:1].upper() + rest[1:]
