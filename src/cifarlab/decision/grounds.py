"""What an answer is drawn from, and which options stand out in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cifarlab.decision.claims import Verdict
from cifarlab.decision.findings import Comparison, NextTest
from cifarlab.decision.given import Amount, Evidence, OptionKey
from cifarlab.decision.results import BreakEven, OptionResult, Simulation, Switch


@dataclass(frozen=True)
class Grounds:
    """What an answer is drawn from.

    Attributes:
        currency: Of all costs.
        horizon_years: Years that count.
        vendor: The vendor's name.
        evidence: What was measured of our model.
        verdict: Our accuracy against the claim.
        against_vendor: The same, paired where the vendor's predictions are at hand.
        options: All options, judged.
        break_even: Of build against buy, errors counted.
        switches: Nearest first.
        simulation: The draws.
        next_test: The cheapest one.
        prices_assumed: Whether a price of the vendor's that the leaning turns on is assumed, for want of an offer.
        cost_of_error: What one wrong answer costs.
    """

    currency: str
    horizon_years: int
    vendor: str
    evidence: Evidence
    verdict: Verdict
    against_vendor: Comparison
    options: Sequence[OptionResult]
    break_even: BreakEven
    switches: Sequence[Switch]
    simulation: Simulation
    next_test: NextTest
    prices_assumed: bool
    cost_of_error: Amount

    def option(self, key: OptionKey) -> OptionResult:
        """Return one option."""
        return next(option for option in self.options if option.key == key)


def find_leaning(options: Sequence[OptionResult], simulation: Simulation) -> OptionKey | None:
    """Return the option with the least expected cost among those that fail no requirement; None where all fail."""
    means: dict[str, float] = dict(zip(simulation.options, simulation.mean_O, strict=True))
    left = [option.key for option in options if not option.rejected]
    return min(left, key=lambda key: means[key], default=None)


def runner_up(options: Sequence[OptionResult], simulation: Simulation, leaning: OptionKey | None) -> OptionKey | None:
    """Return the strongest rival: of the others that fail no requirement, the one that is the cheapest most often."""
    others = [option.key for option in options if option.key != leaning and not option.rejected]
    means: dict[str, float] = dict(zip(simulation.options, simulation.mean_O, strict=True))
    chances = simulation.probability_cheapest_admissible
    return min(others, key=lambda key: (-chances[key], means[key]), default=None)


def cheapest_at_base(grounds: Grounds) -> OptionResult | None:
    """Return the option that costs least with every amount at its likeliest value, of those that may be chosen."""
    return min((o for o in grounds.options if not o.rejected), key=lambda o: o.present_cost, default=None)
