"""Break-even volumes and switching values: where one option overtakes another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cifarlab.decision.costs import TimeWeights, UnitCosts, fixed_and_by_image, time_weights, unit_costs
from cifarlab.decision.given import Amount, OptionKey
from cifarlab.decision.options import VOLUME_AND_TIME, Numbers, Setting, Values, derive, used_keys
from cifarlab.decision.results import BreakEven, Switch
from cifarlab.decision.wording import DOING, about, sentence

_Leads = Callable[[str, float], NDArray[np.float64]]

_FEWEST_DRAWS = 0.1  # share of draws that must have a break-even volume for a range of it to mean anything
_FURTHEST = 20.0  # how far beyond its high value an amount is followed in search of a switch
_POINTS = 9  # on either side of a range's end, where costs are no straight line


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
    if fixed == 0 and by_image == 0:
        told = _same(first, second, errors=errors)
    return BreakEven(first, second, errors, volume if known else None, interval, share, expected, below, above, told)


def _same(first: OptionKey, second: OptionKey, *, errors: bool) -> str:
    counted = "with the cost of wrong answers" if errors else "counting money paid only"
    return sentence(f"{DOING[first]} and {DOING[second]} cost the same at every volume ({counted}).")


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
    amounts: Mapping[str, Amount],
    drawn: Values,
    setting: Setting,
    admissible: tuple[OptionKey, ...] | None = None,
) -> tuple[Switch, ...]:
    """Return for each amount the nearest values, below and above the expected one, at which the leaning changes.

    The leaning is the option with the least mean cost over all draws. One amount is held at the same value in every
    draw, all others vary as drawn; beyond a switching value another option has the least mean cost. Values within the
    range of an amount come first, and the nearest to the expected value, relative to it, first among these.

    Args:
        amounts: All amounts.
        drawn: The same, drawn, float64, S each.
        setting: What is settled.
        admissible: Options that may be chosen; all of the setting by default.

    References:
        HM Treasury, The Green Book: the value of an input at which the preferred option changes ("switching value").
    """
    options = setting.options if admissible is None else admissible
    if len(options) < 2:
        return ()
    rivals, leads = _leads_of(drawn, setting, options)
    used = set().union(*(used_keys(option, setting) for option in options))
    found = []
    for key, amount in amounts.items():
        if key in used:
            found += _switches_of(amount, float(np.mean(drawn[key])), rivals, leads)
    return tuple(sorted(found, key=lambda switch: (not switch.inside, _distance(switch), switch.key)))


def _leads_of(drawn: Values, setting: Setting, options: tuple[OptionKey, ...]) -> tuple[tuple[OptionKey, ...], _Leads]:
    """Return the leaning's rivals, and a function of an amount's key and value.

    It gives how much dearer each rival is than the leaning, on average over the draws, where the amount has that value
    in all of them; below zero where the rival is cheaper.
    """
    derived, weights = derive(drawn, setting), time_weights(drawn, setting.horizon_years)
    units = {option: unit_costs(option, derived, setting) for option in options}
    depends = {option: used_keys(option, setting) for option in options}

    def mean(costs: UnitCosts, weights: TimeWeights, volume: Numbers) -> float:
        fixed, by_image = fixed_and_by_image(costs, weights)
        return float(np.mean(fixed + by_image * volume))

    means = np.array([mean(units[option], weights, drawn["volume.images_per_month"]) for option in options])
    leaning = int(means.argmin())

    def leads(key: str, value: float) -> NDArray[np.float64]:
        # an amount moves the options it is a part of; what the others cost is known
        values, held = {**drawn, key: value}, means.copy()
        if key in VOLUME_AND_TIME:
            years = time_weights(values, setting.horizon_years)
            held[:] = [mean(units[option], years, values["volume.images_per_month"]) for option in options]
        else:
            follows = derive(values, setting)
            for place, option in enumerate(options):
                if key in depends[option]:
                    held[place] = mean(unit_costs(option, follows, setting), weights, values["volume.images_per_month"])
        dearer: NDArray[np.float64] = np.delete(held, leaning) - held[leaning]
        return dearer

    return tuple(option for place, option in enumerate(options) if place != leaning), leads


def _distance(switch: Switch) -> float:
    return abs(switch.value - switch.expected) / (abs(switch.expected) or (switch.high - switch.low) or 1.0)


def _limits(amount: Amount) -> tuple[float, float]:
    """Return how far an amount is followed: below and above what is expected."""
    if amount.unit == "share":
        return 0.0, 1.0
    if amount.key == "volume.growth_per_year":
        return min(-0.9, amount.low), max(3.0, amount.high)
    if amount.key == "finance.discount_rate":
        return 0.0, max(1.0, amount.high)
    if amount.key in ("people.days_per_year", "people.overhead_factor"):
        return amount.low / _FURTHEST, amount.high * _FURTHEST
    return 0.0, (amount.high or 1.0) * _FURTHEST


def _switches_of(amount: Amount, expected: float, rivals: tuple[OptionKey, ...], leads: _Leads) -> list[Switch]:
    """Return the first switch on the way down from the expected value, and the first on the way up, where there are."""
    limits = _limits(amount)
    ends = [(value, leads(amount.key, value)) for value in (limits[0], expected, limits[1])]
    # most amounts only ever multiply and add up: then leads are straight lines, and their ends tell everything
    share = (expected - limits[0]) / (limits[1] - limits[0])
    line = (1 - share) * ends[0][1] + share * ends[2][1]
    straight = bool(np.allclose(line, ends[1][1], rtol=1e-9, atol=1e-9 * float(np.abs(line).max())))
    found = []
    for end in (ends[0], ends[2]):
        path = [ends[1], end] if straight else _path(amount, expected, end[0], leads)
        place = _first_switch(amount.key, path, leads, straight=straight)
        if place is not None:
            value, becomes = place[0], rivals[place[1]]
            inside = amount.low <= value <= amount.high
            known = (amount.key, amount.label, amount.unit, expected, amount.low, amount.high)
            found.append(Switch(*known, value, becomes, inside))
    return found


def _path(amount: Amount, expected: float, end: float, leads: _Leads) -> list[tuple[float, NDArray[np.float64]]]:
    """Return leads on the way from the expected value to an end: half of the points within the amount's range."""
    inner = amount.low if end < expected else amount.high
    values = np.concatenate([np.linspace(expected, inner, _POINTS), np.linspace(inner, end, _POINTS)[1:]])
    return [(float(value), leads(amount.key, float(value))) for value in values]


def _first_switch(
    key: str, path: list[tuple[float, NDArray[np.float64]]], leads: _Leads, *, straight: bool
) -> tuple[float, int] | None:
    """Return where on the path a rival becomes the cheapest, and its place among rivals; None where none does."""
    from scipy.optimize import brentq

    for (start, at_start), (end, at_end) in pairwise(path):
        found = []
        for rival in map(int, np.flatnonzero(at_end < 0)):
            if at_start[rival] <= 0:  # means so near that holding the amount decides between them
                value = start
            elif straight:
                value = start + (end - start) * float(at_start[rival] / (at_start[rival] - at_end[rival]))
            else:
                value = brentq(lambda x, rival=rival: leads(key, x)[rival], start, end, rtol=1e-12)
            found.append((abs(value - start), float(value), rival))
        if found:
            return min(found)[1:]
    return None
