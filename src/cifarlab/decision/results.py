"""What the sums give: costs, break-even volumes, switching values, draws. Plain dataclasses, no logic.

Money is in the currency of the inputs, at today's prices; costs are positive, so the less the better.
Shape suffixes: S draws, O options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cifarlab.decision.given import CoveragePoint, OptionKey


@dataclass(frozen=True)
class CashFlows:
    """Payments of one option by year, at base values, not discounted.

    Attributes:
        years: 0 (today), 1, … horizon; what is paid during a year counts at its end.
        lines: Expenditure by name of the cost line, one figure a year.
        expenditure: Their sum, by year.
        errors: Cost of wrong answers by year; not money paid to anybody, so kept apart.
        discount: Discount factor of each year.
    """

    years: tuple[int, ...]
    lines: Mapping[str, tuple[float, ...]]
    expenditure: tuple[float, ...]
    errors: tuple[float, ...]
    discount: tuple[float, ...]


@dataclass(frozen=True)
class OptionResult:
    """One way to go, judged.

    Attributes:
        key: 'nothing', 'buy', 'adapt', 'build' or 'hybrid'.
        label: In words.
        description: What would be done, in one sentence.
        accuracy: Expected on the images of the use, at base values.
        flows: Payments by year, at base values.
        present_cost: Net present value of all costs, expenditure and errors, at base values.
        present_expenditure: Of expenditure alone.
        present_errors: Of errors alone.
        favourable: present_cost with every amount of this option at the end that makes it cheapest; amounts of the
            world (volume, growth, pay, discount rate, cost of an error) stay at base, the same for all options.
        unfavourable: Likewise at the dearest end.
        per_1000_images: Expenditure over all years, not discounted, for 1,000 images.
        per_correct: The same divided by the number of correct answers; NaN where there is none.
        rejected: Requirements it fails that must be met, in words; such an option is not recommended.
        unknown: Requirements of which nobody knows whether it meets them, in words.
    """

    key: OptionKey
    label: str
    description: str
    accuracy: float
    flows: CashFlows
    present_cost: float
    present_expenditure: float
    present_errors: float
    favourable: float
    unfavourable: float
    per_1000_images: float
    per_correct: float
    rejected: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class HybridChoice:
    """The threshold at which the hybrid costs least.

    Attributes:
        point: The chosen point of the coverage curve.
        present_cost: Of the hybrid there, at base values.
        candidates: Every point of the curve at which the vendor is asked at all, and its present cost.
    """

    point: CoveragePoint
    present_cost: float
    candidates: tuple[tuple[CoveragePoint, float], ...]


@dataclass(frozen=True)
class BreakEven:
    """The volume at which two options cost the same.

    Attributes:
        first: Option with the larger fixed costs, or where they are equal the one named first.
        second: The other.
        with_errors: Whether the cost of wrong answers counts.
        volume: Images a month in the first year; None where there is no such volume.
        interval: 5 % and 95 % quantiles of the volume over the draws that have one above which first is the cheaper;
            None where few have.
        share_with: Share of draws that have such a volume.
        expected_volume: The volume expected at base, for comparison.
        cheaper_below: Option that is cheaper below the volume, or at every volume where there is none.
        cheaper_above: Option that is cheaper above it, or at every volume.
        sentence: In plain words.
    """

    first: OptionKey
    second: OptionKey
    with_errors: bool
    volume: float | None
    interval: tuple[float, float] | None
    share_with: float
    expected_volume: float
    cheaper_below: OptionKey
    cheaper_above: OptionKey
    sentence: str


@dataclass(frozen=True)
class Switch:
    """A value at which another option has the least mean cost, if one amount has it in every draw and others vary.

    Attributes:
        key: Of the amount.
        label: Of the amount.
        unit: Of the amount.
        expected: Its mean over the draws.
        low: Its low value.
        high: Its high value.
        value: Where the option with the least mean cost changes.
        becomes: The option with the least mean cost beyond.
        inside: Whether the value lies within low..high.
    """

    key: str
    label: str
    unit: str
    expected: float
    low: float
    high: float
    value: float
    becomes: OptionKey
    inside: bool


@dataclass(frozen=True)
class Bar:
    """One bar of a tornado: what an amount's range does to the difference in cost of two options.

    Attributes:
        key: Of the amount.
        label: Of the amount.
        unit: Of the amount.
        low: Its low value.
        high: Its high value.
        at_low: Difference in present cost with the amount at low, all others at base.
        at_high: Likewise at high.
        rank_correlation: Spearman's, of the amount's draws with the difference; NaN where the amount does not vary.
    """

    key: str
    label: str
    unit: str
    low: float
    high: float
    at_low: float
    at_high: float
    rank_correlation: float

    @property
    def swing(self) -> float:
        """Return how far the difference moves."""
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True)
class Tornado:
    """Which amounts decide between two options.

    Attributes:
        first: The option with the least expected cost.
        second: Of the others the one that is the cheapest most often; bars show its present cost less that of first, so
            above 0 first is cheaper.
        base: That difference at base values.
        bars: The widest first.
    """

    first: OptionKey
    second: OptionKey
    base: float
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Simulation:
    """Costs of all options under many draws of all amounts; each draw is one world, the same for every option.

    Attributes:
        options: Keys, in the order of the arrays.
        seed: Of the draws.
        costs_SO: Present cost by draw and option, float64.
        mean_O: Expected cost.
        quantiles: For each option the quantiles 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95 by their level.
        probability_cheapest: Of each option, over all options.
        probability_cheapest_admissible: Of each option that fails no requirement, among these; 0 for the others.
        expected_regret: How much more each costs on average than the cheapest of its world, of all options, also of
            those that fail a requirement.
        value_of_knowing: What knowing every amount beforehand would save on average (expected value of perfect
            information) in a choice among the admissible options: the least regret, counted among these alone.
    """

    options: tuple[OptionKey, ...]
    seed: int
    costs_SO: NDArray[np.float64] = field(repr=False)
    mean_O: tuple[float, ...]
    quantiles: Mapping[OptionKey, Mapping[float, float]]
    probability_cheapest: Mapping[OptionKey, float]
    probability_cheapest_admissible: Mapping[OptionKey, float]
    expected_regret: Mapping[OptionKey, float]
    value_of_knowing: float
