"""Phrases: figures as a person writes them. Accuracies and differences come in as fractions and go out in per cent.

Minus signs are hyphens, so that what is copied from a page can be read by a program.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

UNKNOWN = "-"
_MOST_DIGITS = 3


@dataclass(frozen=True)
class Sentence:
    """What is to be said on one matter.

    Attributes:
        kind: The answer to the study's question; a further finding; what remains open; a warning about the figures.
        text: Plain text.
    """

    kind: Literal["answer", "finding", "open", "warning"]
    text: str


def digits_of(ends: tuple[float, float]) -> int:
    """Return with how many decimals an interval is worth writing in points: two figures of its half width.

    More are given where an end would be rounded to zero, for on which side of it the interval ends is what matters.
    """
    low, high = (100 * end for end in ends)
    digits = 1 if high - low >= 0.6 else 2
    while digits < _MOST_DIGITS and any(end != 0 and round(end, digits) == 0 for end in (low, high)):
        digits += 1
    return digits


def number(value: float, digits: int = 2) -> str:
    """Return a figure with its decimals; a dash where it is not known, and never a negative zero."""
    if math.isnan(value):
        return UNKNOWN
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def per_cent(value: float, digits: int = 2) -> str:
    """Return "71.25 %"."""
    return UNKNOWN if math.isnan(value) else f"{number(100 * value, digits)} %"


def interval(ends: tuple[float, float], digits: int = 2) -> str:
    """Return "[0.4, 1.2]", in points; a dash where it is not known."""
    if any(map(math.isnan, ends)):
        return UNKNOWN
    return f"[{number(100 * ends[0], digits)}, {number(100 * ends[1], digits)}]"


def points(value: float, ends: tuple[float, float] | None = None) -> str:
    """Return "0.80 points [0.32, 1.28]", or without interval "0.80 points"."""
    digits = 2 if ends is None or any(map(math.isnan, ends)) else digits_of(ends)
    text = f"{number(100 * value, digits)} points"
    return text if ends is None or math.isnan(ends[0]) else f"{text} {interval(ends, digits)}"


def resolution(value: float) -> str:
    """Return a wanted difference: "0.1 point", "2 points"."""
    return f"{100 * value:g} {'points' if value > 0.01 else 'point'}"


def p_text(p: float) -> str:
    """Return "p = 0.012" or "p < 0.0001"; a dash where it is not known."""
    if math.isnan(p):
        return UNKNOWN
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def times(ratio: float) -> str:
    """Return "3.2 times", "24 times"."""
    return f"{ratio:.2f} times" if ratio < 1.5 else f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def pflop(value: float) -> str:
    """Return "0.0021 PFLOP"."""
    return UNKNOWN if math.isnan(value) else f"{value:.2g} PFLOP"


def seconds(value: float) -> str:
    """Return "2.3 s", "4 min 10 s", "2 h 5 min"."""
    if math.isnan(value):
        return UNKNOWN
    if value < 99.5:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (0 if hours else rest, "s"))
    return " ".join(f"{amount} {unit}" for amount, unit in parts if amount)


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """Return the last part of each dotted field name, or the whole name where two would become the same."""
    last = {field: field.rpartition(".")[2] for field in fields}
    parts = list(last.values())
    return {field: part if parts.count(part) == 1 else field for field, part in last.items()}


def count(n: int, one: str, many: str = "") -> str:
    """Return "one seed", "5 seeds", "1,200 seeds"."""
    return f"one {one}" if n == 1 else f"{n:,} {many or one + 's'}"


def seeds_of(numbers: Iterable[int]) -> str:
    """Return "5 seeds", or "3 to 5 seeds" where arms have different numbers of them."""
    kept = sorted(set(numbers))
    return count(kept[0], "seed") if len(kept) == 1 else f"{kept[0]} to {kept[-1]} seeds"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return "a", "a and b" or "a, b and c"; of more than ``most`` names the last are counted only."""
    names = list(names)
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
