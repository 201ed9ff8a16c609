"""Figures of a decision as a person writes them."""

from __future__ import annotations

import math

from cifarlab.decision.given import OptionKey

_LARGEST = 1e15  # beyond, a float's own digits would show
DOING: dict[OptionKey, str] = {
    "nothing": "doing nothing",
    "buy": "buying",
    "adapt": "buying and adapting",
    "build": "building",
    "hybrid": "using both",
}
"""The options as subjects of a sentence."""


def about(value: float, digits: int = 3) -> str:
    """Return a number rounded to so many significant figures: "771,000", "0.00153", "1.23e+21"; "-" if unknown."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    if abs(rounded) >= _LARGEST:
        return f"{rounded:.{digits - 1}e}"
    if places > 0 and rounded != int(rounded):
        return f"{rounded:,.{places}f}".rstrip("0").rstrip(".")
    return f"{rounded:,.0f}"


def money(value: float, currency: str, digits: int = 3) -> str:
    """Return an amount of money: "USD 297,000", "-USD 1.5"; "-" where it is not known."""
    if math.isnan(value):
        return "-"
    return f"{'-' if value < 0 else ''}{currency} {about(abs(value), digits)}"


def bare(value: float, unit: str) -> str:
    """Return a figure without its unit, but for the per cent of a share: "70 %", "1.5"."""
    return f"{about(100 * value)} %" if unit.startswith("share") else about(value)


def value_with_unit(value: float, unit: str) -> str:
    """Return a figure with its unit: "70 %" for a share, "15 days", "USD 1.50 per 1,000 images"."""
    if unit.startswith("share"):
        return bare(value, unit) + ("" if unit == "share" else " a year")
    if unit == "factor":
        return f"{about(value)} times"
    head, _, rest = unit.partition(" per ")
    by = f" per {rest}" if rest else ""
    if head.isupper() and len(head) <= 4:
        return money(value, head) + by
    one = about(value) == "1" and head.endswith("s")
    return f"{about(value)} {head[:-1] if one else head}{by}"


def sentence(text: str) -> str:
    """Return text with its first letter large."""
    return text[:1].upper() + text[1:]
