"""What an option costs over the horizon: payments by year, and their net present value.

Conventions: one-off costs are paid today (year 0), running costs at the end of the year they belong to, the exit at the
end of the horizon. The volume grows from one year to the next, not within one. All amounts are real, as is the rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifarlab.decision.given import OptionKey
from cifarlab.decision.options import (
    MONTHS_PER_YEAR,
    Line,
    Numbers,
    Setting,
    Values,
    cost_lines,
    derive,
    error_cost_per_image,
)
from cifarlab.decision.results import CashFlows


@dataclass(frozen=True)
class UnitCosts:
    """What an option costs before volume and time come in; numbers, or one a draw.

    Attributes:
        once: Today.
        yearly: Each year, whatever the volume.
        image: For each image, expenditure.
        error: For each image, wrong answers.
        end: At the horizon.
    """

    once: Numbers
    yearly: Numbers
    image: Numbers
    error: Numbers
    end: Numbers


@dataclass(frozen=True)
class TimeWeights:
    """What the years make of a cost; numbers, or one a draw.

    Attributes:
        annuity: Present value of 1 a year.
        images: Present value of 1 an image, at one image a month in the first year.
        last: Present value of 1 at the horizon.
    """

    annuity: Numbers
    images: Numbers
    last: Numbers


def unit_costs(option: OptionKey, derived: Values, setting: Setting) -> UnitCosts:
    """Return an option's costs by kind.

    Args:
        option: Which one.
        derived: Amounts and what follows from them, of :func:`options.derive`.
        setting: What is settled.
    """
    sums: dict[str, Numbers] = {"once": 0.0, "yearly": 0.0, "image": 0.0, "end": 0.0}
    for line in cost_lines(option, setting):
        sums[line.when] = sums[line.when] + line_cost(line, derived)
    error = error_cost_per_image(option, derived, setting)
    return UnitCosts(sums["once"], sums["yearly"], sums["image"], error, sums["end"])


def line_cost(line: Line, derived: Values) -> Numbers:
    """Return one line: the product of its factors."""
    product: Numbers = line.scale
    for factor in line.factors:
        product = product * derived[factor]
    return product


def time_weights(values: Values, horizon_years: int) -> TimeWeights:
    """Return what discounting and growth make of running costs."""
    rate, growth = values["finance.discount_rate"], values["volume.growth_per_year"]
    annuity: Numbers = 0.0
    images: Numbers = 0.0
    discount: Numbers = 1.0
    volume: Numbers = MONTHS_PER_YEAR
    for year in range(1, horizon_years + 1):
        discount = discount / (1 + rate)
        annuity = annuity + discount
        images = images + volume * discount
        if year < horizon_years:
            volume = volume * (1 + growth)
    return TimeWeights(annuity, images, discount)


def present_cost(option: OptionKey, values: Values, setting: Setting, *, errors: bool = True) -> Numbers:
    """Return the net present value of an option's costs; positive, the less the better.

    Args:
        option: Which one.
        values: Amounts by key; numbers, or one a draw (float64, S).
        setting: What is settled.
        errors: Whether the cost of wrong answers counts.
    """
    return present_costs(values, setting, (option,), errors=errors)[option]


def present_costs(
    values: Values, setting: Setting, options: tuple[OptionKey, ...] | None = None, *, errors: bool = True
) -> dict[OptionKey, Numbers]:
    """Return :func:`present_cost` of several options in the same world; all options of the setting by default."""
    derived, weights = derive(values, setting), time_weights(values, setting.horizon_years)
    found: dict[OptionKey, Numbers] = {}
    for option in options or setting.options:
        fixed, by_image = fixed_and_by_image(unit_costs(option, derived, setting), weights, errors=errors)
        found[option] = fixed + by_image * values["volume.images_per_month"]
    return found


def fixed_and_by_image(costs: UnitCosts, weights: TimeWeights, *, errors: bool = True) -> tuple[Numbers, Numbers]:
    """Return the two parts of a present cost: what does not depend on volume, and what one image a month adds."""
    fixed = costs.once + costs.yearly * weights.annuity + costs.end * weights.last
    by_image = costs.image + costs.error if errors else costs.image
    return fixed, by_image * weights.images


def cash_flows(option: OptionKey, values: Values, setting: Setting) -> CashFlows:
    """Return an option's payments by year, not discounted; ``values`` are plain numbers."""
    horizon = setting.horizon_years
    derived = derive(values, setting)
    images = images_by_year(values, horizon)
    lines = {}
    for line in cost_lines(option, setting):
        cost = float(line_cost(line, derived))
        lines[line.label] = tuple(float(amount) for amount in _spread(line.when, cost, images))
    expenditure = np.sum(list(lines.values()), axis=0) if lines else np.zeros(horizon + 1)
    errors = float(error_cost_per_image(option, derived, setting)) * images
    rate = float(values["finance.discount_rate"])
    return CashFlows(
        years=tuple(range(horizon + 1)),
        lines=lines,
        expenditure=tuple(map(float, expenditure)),
        errors=tuple(map(float, errors)),
        discount=tuple((1 + rate) ** -year for year in range(horizon + 1)),
    )


def images_by_year(values: Values, horizon_years: int) -> NDArray[np.float64]:
    """Return the images of year 0 (none) to the horizon; ``values`` are plain numbers."""
    first, growth = float(values["volume.images_per_month"]), float(values["volume.growth_per_year"])
    years = [MONTHS_PER_YEAR * first * (1 + growth) ** (year - 1) for year in range(1, horizon_years + 1)]
    return np.array([0.0, *years])


def _spread(when: str, cost: float, images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a cost laid out over the years."""
    if when == "image":
        return cost * images
    years = np.zeros(len(images))
    if when == "once":
        years[0] = cost
    elif when == "end":
        years[-1] = cost
    else:
        years[1:] = cost
    return years


def per_image_figures(flows: CashFlows, images: float, accuracy: float) -> tuple[float, float]:
    """Return expenditure for 1,000 images and for one correct answer, over all years, not discounted; NaN if none."""
    total = sum(flows.expenditure)
    correct = images * accuracy
    return (1000 * total / images if images else float("nan")), (total / correct if correct else float("nan"))
