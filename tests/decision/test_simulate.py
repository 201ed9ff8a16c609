"""The draws against closed forms, and what follows from them against plain counting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from tests.decision.made import evidence, world

from cifarlab.decision import Amount, load_inputs
from cifarlab.decision.analysis import prepare
from cifarlab.decision.costs import present_cost, present_costs
from cifarlab.decision.options import Setting
from cifarlab.decision.simulate import Counted, counted_quantile, draw, pert_quantile, simulate, tornado

LEVELS_U = (np.arange(20_000) + 0.5) / 20_000


@pytest.mark.parametrize(("low", "base", "high"), [(0, 1, 4), (2, 2, 5), (1, 3, 3), (-1, 0, 1), (10, 20, 30)])
def test_pert_has_its_textbook_mean_ends_and_mode(low: float, base: float, high: float) -> None:
    drawn = pert_quantile(LEVELS_U, low, base, high)
    assert drawn.min() >= low
    assert drawn.max() <= high
    assert drawn.mean() == pytest.approx((low + 4 * base + high) / 6, abs=1e-3 * (high - low))
    first = 1 + 4 * (base - low) / (high - low)
    reference = stats.beta(first, 6 - first, loc=low, scale=high - low)
    exact = reference.ppf(LEVELS_U)
    assert np.abs(drawn - exact).max() < 1e-6 * (high - low)


def test_an_amount_without_a_range_does_not_vary() -> None:
    assert (pert_quantile(LEVELS_U, 3.0, 3.0, 3.0) == 3).all()


def test_a_counted_accuracy_is_jeffreys_posterior() -> None:
    drawn = counted_quantile(LEVELS_U, LEVELS_U[::-1], Counted(940, 1000))
    reference = stats.beta(940.5, 60.5)
    assert drawn.mean() == pytest.approx(reference.mean(), abs=1e-5)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx(reference.ppf([0.025, 0.975]), abs=1e-4)


def test_several_seeds_add_the_spread_of_a_new_training() -> None:
    rng = np.random.default_rng(0)
    u, between = rng.random((2, 50_000))
    drawn = counted_quantile(u, between, Counted(0.9 * 1e7, 10**7, seeds=10, seeds_sd=0.004))
    # with ten million images only the trainings vary: Student's t, nine degrees of freedom, of a new one
    reference = stats.t(9, loc=0.9, scale=0.004 * np.sqrt(1.1))
    assert np.quantile(drawn, [0.05, 0.95]) == pytest.approx(reference.ppf([0.05, 0.95]), abs=4e-4)


def test_equal_seeds_give_equal_draws_and_one_amount_does_not_move_the_others() -> None:
    amounts, _, _ = world()
    one, same, other = draw(amounts, {}, 3, 500), draw(amounts, {}, 3, 500), draw(amounts, {}, 4, 500)
    moved = replace(amounts["build.days"], high=900.0)
    changed = draw({**amounts, "build.days": moved}, {}, 3, 500)
    for key in amounts:
        assert (one[key] == same[key]).all()
        assert (one[key] == changed[key]).all() == (key != "build.days")
    assert (one["build.days"] != other["build.days"]).any()


def test_amounts_are_drawn_independently() -> None:
    amounts, _, _ = world()
    drawn = draw(amounts, {}, 0, 40_000)
    table = np.stack(list(drawn.values()))
    correlations = np.corrcoef(table) - np.eye(len(table))
    assert np.abs(correlations).max() < 0.03  # six standard errors


def one_price_varies() -> tuple[dict[str, Amount], Setting]:
    """Return a world in which everything is fixed but the price of audits."""
    amounts, setting, _ = world()
    fixed = {key: replace(a, low=a.base, high=a.base) for key, a in amounts.items()}
    audits = replace(fixed["operation.audit_per_year"], low=0.0, base=30_000.0, high=60_000.0)
    return {**fixed, "operation.audit_per_year": audits}, setting


def test_quantiles_agree_with_the_closed_form_where_one_price_varies() -> None:
    amounts, setting = one_price_varies()
    setting = replace(setting, options=("nothing", "buy", "build"))
    licence = replace(amounts["vendor.licence_per_year"], low=12_000.0, base=12_000.0, high=12_000.0)
    amounts["vendor.licence_per_year"] = licence
    base = {key: amount.base for key, amount in amounts.items()}
    drawn = draw(amounts, {}, 1, 40_000)
    simulation = simulate(drawn, setting, setting.options)
    annuity = sum(1.035**-year for year in (1, 2, 3))
    without = present_cost("build", {**base, "operation.audit_per_year": 0.0}, setting)
    audits = stats.beta(3, 3, scale=60_000)  # PERT with the mode in the middle
    for level in (0.05, 0.5, 0.95):
        expected = without + annuity * audits.ppf(level)
        assert simulation.quantiles["build"][level] == pytest.approx(expected, rel=5e-3)
    other = min(present_cost(option, base, setting) for option in ("buy", "nothing"))
    chance = audits.cdf((other - without) / annuity)
    assert 0.05 < chance < 0.95
    assert simulation.probability_cheapest["build"] == pytest.approx(chance, abs=0.01)
    assert simulation.quantiles["buy"][0.05] == pytest.approx(simulation.quantiles["buy"][0.95])


def test_probabilities_regret_and_value_of_knowing_by_counting() -> None:
    inputs, given = load_inputs(), evidence()
    setting, amounts, counts, _ = prepare(inputs, given)
    drawn = draw(amounts, counts, 0, 2000)
    simulation = simulate(drawn, setting, ("buy", "build"), seed=0)
    costs = present_costs(drawn, setting)
    table = np.stack([np.broadcast_to(costs[option], (2000,)) for option in setting.options], axis=1)
    assert simulation.costs_SO == pytest.approx(table)
    assert sum(simulation.probability_cheapest.values()) == pytest.approx(1)
    for place, option in enumerate(setting.options):
        assert simulation.probability_cheapest[option] == np.mean(table.argmin(1) == place)
        assert simulation.expected_regret[option] == pytest.approx(np.mean(table[:, place] - table.min(1)))
    buy, build = table[:, setting.options.index("buy")], table[:, setting.options.index("build")]
    assert simulation.probability_cheapest_admissible["buy"] == np.mean(buy < build)
    assert simulation.probability_cheapest_admissible["nothing"] == 0
    knowing = min(buy.mean(), build.mean()) - np.minimum(buy, build).mean()
    assert simulation.value_of_knowing == pytest.approx(knowing)


def test_dearer_building_never_makes_building_the_cheapest_more_often() -> None:
    amounts, setting, _ = world()
    chances = []
    for factor in (0.5, 1.0, 1.5, 3.0):
        days = amounts["build.days"]
        dearer = replace(days, low=factor * days.low, base=factor * days.base, high=factor * days.high)
        drawn = draw({**amounts, "build.days": dearer}, {}, 0, 3000)
        chances.append(simulate(drawn, setting, setting.options).probability_cheapest["build"])
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > chances[-1]


def test_nothing_admissible_is_not_an_error() -> None:
    amounts, setting, _ = world()
    simulation = simulate(draw(amounts, {}, 0, 100), setting, ())
    assert set(simulation.probability_cheapest_admissible.values()) == {0}
    assert simulation.value_of_knowing == 0


def test_the_tornado_moves_one_amount_at_a_time() -> None:
    amounts, setting, base = world()
    drawn = draw(amounts, {}, 0, 3000)
    result = tornado(amounts, drawn, setting, "build", "buy")

    def difference(values: dict[str, float]) -> float:
        costs = present_costs(values, setting)
        return float(costs["buy"] - costs["build"])

    assert result.base == pytest.approx(difference(base))
    swings = [bar.swing for bar in result.bars]
    assert swings == sorted(swings, reverse=True)
    for bar in result.bars:
        assert bar.at_low == pytest.approx(difference({**base, bar.key: bar.low}))
        assert bar.at_high == pytest.approx(difference({**base, bar.key: bar.high}))
    costs = present_costs(drawn, setting)
    first = result.bars[0]
    expected = stats.spearmanr(drawn[first.key], costs["buy"] - costs["build"])[0]
    assert first.rank_correlation == pytest.approx(expected, abs=1e-9)
    assert "adapt.days" not in {bar.key for bar in result.bars}
