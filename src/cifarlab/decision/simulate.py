"""Ten thousand worlds: every amount drawn from its range, one world for all options. Shapes: S draws, O options."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cifarlab.decision.costs import present_costs
from cifarlab.decision.given import Amount, OptionKey
from cifarlab.decision.options import Setting, used_keys
from cifarlab.decision.results import Bar, Simulation, Tornado

DRAWS = 10_000
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
_PEAKEDNESS = 4.0  # of PERT; 4 is the usual choice, and gives the mean (low + 4 base + high) / 6
_GRID = 4097


@dataclass(frozen=True)
class Counted:
    """An accuracy that was counted, so that its distribution follows from the counts and not from a range.

    Attributes:
        correct: Right answers; the mean over seeds times total where there are several.
        total: Images.
        seeds: Number of trainings; 1 for one.
        seeds_sd: Standard deviation of accuracy between them; 0 for one.
    """

    correct: float
    total: int
    seeds: int = 1
    seeds_sd: float = 0.0


def pert_quantile(u: NDArray[np.float64], low: float, base: float, high: float) -> NDArray[np.float64]:
    """Return quantiles of the PERT distribution: a beta between low and high with its mode at base.

    Args:
        u: Levels in [0, 1], float64, S.
        low: Smallest value.
        base: Most likely value.
        high: Largest value.

    References:
        Malcolm, Roseboom, Clark and Fazar (1959), "Application of a technique for research and development program
        evaluation", Operations Research 7, 646-669.
    """
    if low == high:
        return np.full(u.shape, base)
    # the distribution function read backwards: within 1e-6 of the inverse, in a fiftieth of its time
    levels, grid = _pert_levels(1 + _PEAKEDNESS * (base - low) / (high - low))
    drawn: NDArray[np.float64] = low + (high - low) * np.interp(u, levels, grid)
    return drawn


@lru_cache(maxsize=256)
def _pert_levels(first: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return PERT's distribution function between 0 and 1, and where it has these values.

    Analyses of one decision file, and amounts whose ranges lie alike about their base, share it.

    Args:
        first: First parameter of the beta distribution; the two add up to six.
    """
    from scipy.special import betainc

    grid = (1 - np.cos(np.linspace(0, np.pi, _GRID))) / 2  # dense at both ends, where it is steep or flat
    return betainc(first, 2 + _PEAKEDNESS - first, grid), grid


def counted_quantile(u: NDArray[np.float64], between: NDArray[np.float64], counted: Counted) -> NDArray[np.float64]:
    """Return draws of an accuracy: Jeffreys' beta of the counts, and a new training's t where seeds are known.

    Args:
        u: Levels for the images, float64, S.
        between: Levels for the trainings, float64, S.
        counted: What was counted.
    """
    from scipy.special import betaincinv, stdtrit

    drawn = betaincinv(counted.correct + 0.5, counted.total - counted.correct + 0.5, u)
    if counted.seeds > 1 and counted.seeds_sd > 0:
        scale = counted.seeds_sd * np.sqrt(1 + 1 / counted.seeds)
        drawn = drawn + scale * stdtrit(counted.seeds - 1, np.clip(between, 1e-12, 1 - 1e-12))
    kept: NDArray[np.float64] = np.clip(drawn, 0.0, 1.0)
    return kept


def draw(
    amounts: Mapping[str, Amount], counts: Mapping[str, Counted], seed: int = 0, draws: int = DRAWS
) -> dict[str, NDArray[np.float64]]:
    """Return all amounts drawn, independently of each other.

    Each amount has a stream of its own, so that a change of one leaves the draws of the others as they are; and draws
    are quantiles, so that an amount that becomes dearer as a whole becomes so in every draw.

    Args:
        amounts: By key.
        counts: Of the amounts that were counted.
        seed: Of the draws.
        draws: S.
    """
    drawn = {}
    for key, amount in amounts.items():
        u = np.random.default_rng([seed, zlib.crc32(key.encode())]).random((2, draws))
        if key in counts:
            drawn[key] = counted_quantile(u[0], u[1], counts[key])
        else:
            drawn[key] = pert_quantile(u[0], amount.low, amount.base, amount.high)
    return drawn


def simulate(
    drawn: Mapping[str, NDArray[np.float64]], setting: Setting, admissible: tuple[OptionKey, ...], seed: int = 0
) -> Simulation:
    """Return the costs of all options in every drawn world, and how often each is the cheapest.

    Args:
        drawn: Amounts, float64, S each.
        setting: What is settled.
        admissible: Options that fail no requirement.
        seed: That the draws were made with, to be told.
    """
    size = len(drawn["volume.images_per_month"])
    found = present_costs(drawn, setting)
    costs_SO = np.stack([np.broadcast_to(found[option], (size,)) for option in setting.options], axis=1)
    allowed = [place for place, option in enumerate(setting.options) if option in admissible]
    regret_O = (costs_SO - costs_SO.min(1, keepdims=True)).mean(0)
    quantiles = np.quantile(costs_SO, LEVELS, axis=0)
    knowing = 0.0
    if allowed:
        among = costs_SO[:, allowed]
        knowing = float(among.mean(0).min() - among.min(1).mean())
    return Simulation(
        options=setting.options,
        seed=seed,
        costs_SO=costs_SO,
        mean_O=tuple(map(float, costs_SO.mean(0))),
        quantiles={
            option: dict(zip(LEVELS, map(float, quantiles[:, place]), strict=True))
            for place, option in enumerate(setting.options)
        },
        probability_cheapest=_shares(costs_SO, setting.options, list(range(len(setting.options)))),
        probability_cheapest_admissible=_shares(costs_SO, setting.options, allowed),
        expected_regret=dict(zip(setting.options, map(float, regret_O), strict=True)),
        value_of_knowing=max(0.0, knowing),
    )


def _shares(
    costs_SO: NDArray[np.float64], options: tuple[OptionKey, ...], allowed: list[int]
) -> dict[OptionKey, float]:
    shares = dict.fromkeys(options, 0.0)
    if allowed:
        counts = np.bincount(costs_SO[:, allowed].argmin(1), minlength=len(allowed))
        for place, count in zip(allowed, counts, strict=True):
            shares[options[place]] = float(count) / len(costs_SO)
    return shares


def tornado(
    amounts: Mapping[str, Amount],
    drawn: Mapping[str, NDArray[np.float64]],
    setting: Setting,
    first: OptionKey,
    second: OptionKey,
) -> Tornado:
    """Return what the range of each amount does to the cost of second less that of first, the widest first.

    Args:
        amounts: By key.
        drawn: The same, drawn, for the rank correlations.
        setting: What is settled.
        first: The option with the least expected cost.
        second: The next.
    """
    pair = (first, second)
    base = {key: amount.base for key, amount in amounts.items()}

    def difference(values: Mapping[str, float]) -> float:
        costs = present_costs(values, setting, pair)
        return float(costs[second] - costs[first])

    drawn_costs = present_costs(drawn, setting, pair)
    size = len(drawn["volume.images_per_month"])
    ranks = _ranks(np.broadcast_to(drawn_costs[second] - drawn_costs[first], (size,)))
    bars = []
    for key in sorted(used_keys(first, setting) | used_keys(second, setting)):
        amount = amounts[key]
        at_low, at_high = (difference({**base, key: end}) for end in (amount.low, amount.high))
        correlation = _correlation(_ranks(drawn[key]), ranks)
        bars.append(Bar(key, amount.label, amount.unit, amount.low, amount.high, at_low, at_high, correlation))
    ordered = sorted(bars, key=lambda bar: (-bar.swing, bar.key))
    return Tornado(first, second, difference(base), tuple(ordered))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(values)
    return ranks


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    spread = float(a.std() * b.std())
    return float(np.mean((a - a.mean()) * (b - b.mean())) / spread) if spread else float("nan")
