"""Phrases: figures as a person writes them, the same on every page and in every sentence.

Accuracies and differences come in as fractions and go out in per cent and points. Minus signs are hyphens, so that what
is copied from a page can be read by a program.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

UNKNOWN = "-"
NO_SPREAD = "no spread seen"
"""What stands for an interval over seeds that all have the same figure."""
_MOST_DIGITS = 3
_SMALLEST_P = 0.001
_LEVEL = 0.05  # of the tests; on which side of it a p-value lies is never rounded away
_MOST_P_DIGITS = 6


def digits_of(ends: tuple[float, float]) -> int:
    """Return with how many decimals an interval is worth writing in points: two figures of its half width.

    More are given where an end would be rounded to zero, for on which side of it the interval ends is what matters.
    """
    low, high = (100 * end for end in ends)
    digits = 1 if high - low >= 0.6 else 2
    while digits < _MOST_DIGITS and any(end != 0 and round(end, digits) == 0 for end in (low, high)):
        digits += 1
    return digits


def number(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """Return a figure with its decimals, a plus before positive ones if wanted; a dash where it is not known.

    There is no negative zero.
    """
    if math.isnan(value):
        return UNKNOWN
    return f"{round(value, digits) + 0.0:{'+' if signed else ''},.{digits}f}"


def per_cent(value: float, digits: int = 2) -> str:
    """Return "71.25 %"."""
    return UNKNOWN if math.isnan(value) else f"{number(100 * value, digits)} %"


def interval(ends: tuple[float, float], digits: int | None = None) -> str:
    """Return "[0.40, 1.20]", in points; a dash where it is not known. Two decimals, or more where zero is near."""
    if any(map(math.isnan, ends)):
        return UNKNOWN
    digits = max(2, digits_of(ends)) if digits is None else digits
    return f"[{number(100 * ends[0], digits)}, {number(100 * ends[1], digits)}]"


def seen_interval(ends: tuple[float, float], num_seeds: int) -> str:
    """Return an interval over seeds; where several seeds have none, they did not differ."""
    return NO_SPREAD if num_seeds > 1 and math.isnan(ends[0]) else interval(ends)


def points(value: float, ends: tuple[float, float] | None = None, *, signed: bool = False) -> str:
    """Return "0.80 points [0.32, 1.28]", or without interval "0.80 points"; signed "+0.80 points"."""
    known = ends is not None and not any(map(math.isnan, ends))
    digits = digits_of(ends) if ends is not None and known else 2
    text = f"{number(100 * value, digits, signed=signed)} points"
    return f"{text} {interval(ends, digits)}" if ends is not None and known else text


def resolution(value: float) -> str:
    """Return a wanted difference: "0.1 point", "2 points"."""
    return f"{100 * value:g} {'points' if value > 0.01 else 'point'}"


def beyond_images(sd: float, *, few: bool) -> str:
    """Return the standard deviation between seeds on endlessly many images, in points, for a table.

    Args:
        sd: The estimate; 0 where the estimate of the variance is not above zero.
        few: Whether there are too few seeds to go by it.
    """
    return "too few seeds" if few else number(100 * sd) if sd > 0 else "too small to be seen"


def beyond_images_clause(sd: float) -> str:
    """Return the same as the end of a sentence; only for enough seeds."""
    size = f"about {points(sd)}" if sd > 0 else "too little to be seen here"
    return f"on endlessly many images seeds would differ by {size}"


def p_value(p: float) -> str:
    """Return a p-value for a table: "0.043", "0.60", "< 0.001"; a dash where it is not known."""
    if math.isnan(p):
        return UNKNOWN
    if p < _SMALLEST_P:
        return f"< {_SMALLEST_P}"
    digits = 3 if p < 0.1 else 2
    while round(p, digits) == _LEVEL != p and digits < _MOST_P_DIGITS:
        digits += 1
    return f"{p:.{digits}f}"


def p_text(p: float) -> str:
    """Return a p-value for a sentence: "p = 0.043", "p < 0.001"."""
    if math.isnan(p):
        return "p not defined"
    return f"p {p_value(p)}" if p < _SMALLEST_P else f"p = {p_value(p)}"


def times(ratio: float) -> str:
    """Return "3.2 times", "24 times"."""
    return f"{ratio:.2f} times" if ratio < 1.5 else f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def duration(seconds: float) -> str:
    """Return "2.3 s", "42 s", "1 min 32 s", "3 h 05 min"; a dash where it is not known."""
    if math.isnan(seconds):
        return UNKNOWN
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


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
