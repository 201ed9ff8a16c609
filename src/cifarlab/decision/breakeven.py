"""Break-even volumes and switching values: where one option overtakes another."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cifarlab.decision.costs import fixed_and_by_image, present_costs, time_weights, unit_costs
from cifarlab.decision.given import Amount, OptionKey
from cifarlab.decision.options import Numbers, Setting, Values, derive, used_keys
from cifarlab.decision.results import BreakEven, Switch
from cifarlab.decision.wording import DOING, about, sentence

_FEWEST_DRAWS = 0.1  # share of draws that must have a break-even volume for a range of it to mean anything
_FURTHEST = 20.0  # how far beyond its high value an amount is followed in search of a switch
_POINTS = 2001
_REFINEMENTS = 3  # each narrows the place of a switch two thousandfold


def break_even_volume(
    first: OptionKey, second: OptionKey, values: Values, setting: Setting, *, errors: bool = True
) -> Numbers:
    """Return the images a month in the first year at which two options cost the same; NaN where none above 0 does.

    A present cost is fixed + by_image x volume, so V* = (fixed_first - fixed_second) / (by_image_second -
    by_image_first).

    Args:
        first: One option.
        second: The other; the order does not matter.
        values: Amounts by key; numbers, or one a draw (float64, S). The volume among them does not matter.
        setting: What is settled.
        errors: Whether the cost of wrong answers counts.
    """
    fixed, by_image = cost_difference(first, second, values, setting, errors=errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        volume = np.where(by_image == 0, np.nan, -np.asarray(fixed) / np.asarray(by_image))
    volume = np.where(volume > 0, volume, np.nan)
    return volume if volume.ndim else float(volume)


def cost_difference(
    first: OptionKey, second: OptionKey, values: Values, setting: Setting, *, errors: bool
) -> tuple[Numbers, Numbers]:
    """Return fixed and by-image parts of the cost of first less that of second."""
    derived, weights = derive(values, setting), time_weights(values, setting.horizon_years)
    parts = [
        fixed_and_by_image(unit_costs(option, derived, setting), weights, errors=errors) for option in (first, second)
    ]
    return parts[0][0] - parts[1][0], parts[0][1] - parts[1][1]


def break_even(
    first: OptionKey,
    second: OptionKey,
    values: Values,
    setting: Setting,
    draws: Values | None = None,
    *,
    errors: bool = True,
) -> BreakEven:
    """Return the break-even volume of two options, its range over the draws, and what it means.

    Args:
        first: One option; the result puts the one with the larger fixed costs first.
        second: The other.
        values: Amounts at base; plain numbers.
        setting: What is settled.
        draws: Amounts drawn (float64, S); None for no range.
        errors: Whether the cost of wrong answers counts.
    """
    fixed, by_image = (float(part) for part in cost_difference(first, second, values, setting, errors=errors))
    if fixed < 0 or (fixed == 0 and by_image < 0):
        first, second, fixed, by_image = second, first, -fixed, -by_image
    volume = float(break_even_volume(first, second, values, setting, errors=errors))
    known = not math.isnan(volume)
    # without a crossing the sign of the difference is the same at every volume
    everywhere = second if fixed > 0 or by_image > 0 else first
    below, above = (second, first) if known else (everywhere, everywhere)
    interval, share = None, 0.0
    if draws is not None:
        drawn = np.atleast_1d(break_even_volume(first, second, draws, setting, errors=errors))
        fixed_S = np.atleast_1d(cost_difference(first, second, draws, setting, errors=errors)[0])
        # a volume above which second is the cheaper one is another thing, and no part of this range
        found = drawn[~np.isnan(drawn) & np.broadcast_to(fixed_S > 0, drawn.shape)]
        share = len(found) / len(drawn)
        if share >= _FEWEST_DRAWS:
            low, high = np.quantile(found, [0.05, 0.95])
            interval = (float(low), float(high))
    expected = float(values["volume.images_per_month"])
    told = _sentence(first, second, volume if known else None, below, above, expected, errors=errors)
    return BreakEven(first, second, errors, volume if known else None, interval, share, expected, below, above, told)


def _sentence(
    first: OptionKey,
    second: OptionKey,
    volume: float | None,
    below: OptionKey,
    above: OptionKey,
    expected: float,
    *,
    errors: bool,
) -> str:
    counted = "with the cost of wrong answers" if errors else "counting money paid only"
    if volume is None:
        other = first if above == second else second
        return sentence(f"{DOING[above]} costs less than {DOING[other]} at every volume ({counted}).")
    here = above if expected > volume else below
    return sentence(
        f"{DOING[above]} costs less than {DOING[below]} above about {about(volume)} images a month in the first year, "
        f"{counted}; {about(expected)} are expected, where {DOING[here]} is the cheaper."
    )


def switching_values(
    amounts: Mapping[str, Amount], setting: Setting, admissible: tuple[OptionKey, ...] | None = None
) -> tuple[Switch, ...]:
    """Return for each amount the nearest values, below and above its base, at which another option becomes cheapest.

    One amount moves, all others stay at base. Values within the range of an amount come first, and the nearest to the
    base, relative to it, first among these.

    Args:
        amounts: All amounts.
        setting: What is settled.
        admissible: Options that may be chosen; all of the setting by default.

    References:
        HM Treasury, The Green Book: the value of an input at which the preferred option changes ("switching value").
    """
    options = setting.options if admissible is None else admissible
    if len(options) < 2:
        return ()
    base = {key: amount.base for key, amount in amounts.items()}
    used = set().union(*(used_keys(option, setting) for option in options))
    found = []
    for key, amount in amounts.items():
        if key in used:
            for end in _limits(amount):
                switch = _nearest_switch(amount, end, base, setting, options)
                if switch is not None:
                    found.append(switch)
    return tuple(sorted(found, key=lambda switch: (not switch.inside, _distance(switch), switch.key)))


def _distance(switch: Switch) -> float:
    return abs(switch.value - switch.base) / (abs(switch.base) or (switch.high - switch.low) or 1.0)


def _limits(amount: Amount) -> tuple[float, float]:
    """Return how far an amount is followed: below and above its base."""
    if amount.unit == "share":
        return 0.0, 1.0
    if amount.key == "volume.growth_per_year":
        return min(-0.9, amount.low), max(3.0, amount.high)
    if amount.key == "finance.discount_rate":
        return 0.0, max(1.0, amount.high)
    if amount.key in ("people.days_per_year", "people.overhead_factor"):
        return amount.low / _FURTHEST, amount.high * _FURTHEST
    return 0.0, (amount.high or 1.0) * _FURTHEST


def _nearest_switch(
    amount: Amount, end: float, base: Mapping[str, float], setting: Setting, options: tuple[OptionKey, ...]
) -> Switch | None:
    """Return the first switch on the way from base to ``end``."""
    if end == amount.base:
        return None
    start, stop = amount.base, end
    inner = amount.low if end < amount.base else amount.high
    # half of the points within the range that is thought plausible, half beyond
    path = np.unique(np.concatenate([np.linspace(start, inner, _POINTS), np.linspace(inner, stop, _POINTS)]))
    path = path if end > amount.base else path[::-1]
    before = int(_cheapest(amount.key, path[:1], base, setting, options)[0])
    for _ in range(_REFINEMENTS):
        best = _cheapest(amount.key, path, base, setting, options)
        changed = np.flatnonzero(best != before)
        if not len(changed):
            return None
        place = int(changed[0])
        becomes = options[int(best[place])]
        path = np.linspace(path[max(0, place - 1)], path[place], _POINTS)
    value = float(path[-1])
    inside = amount.low <= value <= amount.high
    return Switch(amount.key, amount.label, amount.unit, amount.base, amount.low, amount.high, value, becomes, inside)


def _cheapest(
    key: str,
    path: NDArray[np.float64],
    base: Mapping[str, float],
    setting: Setting,
    options: tuple[OptionKey, ...],
) -> NDArray[np.intp]:
    values: dict[str, Numbers] = {**base, key: path}
    costs = present_costs(values, setting, options)
    table = np.stack([np.broadcast_to(costs[option], path.shape) for option in options])
    best: NDArray[np.intp] = table.argmin(0)
    return best
