"""Break-even volumes and switching values against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.decision.made import evidence, world
from tests.decision.test_costs import random_world

from cifarlab.decision import Amount, load_inputs
from cifarlab.decision.analysis import prepare
from cifarlab.decision.breakeven import _leads_of, break_even, break_even_volume, cost_difference, switching_values
from cifarlab.decision.costs import present_cost, present_costs
from cifarlab.decision.options import Setting
from cifarlab.decision.simulate import draw, simulate

PAIRS = [("build", "buy"), ("build", "nothing"), ("adapt", "build"), ("hybrid", "buy")]


def bisected(first: str, second: str, values: dict[str, float], setting: Setting, *, errors: bool) -> float | None:
    """Find the volume at which the present costs are equal, by nothing but present costs."""

    def difference(volume: float) -> float:
        at = {**values, "volume.images_per_month": volume}
        one, other = (present_cost(option, at, setting, errors=errors) for option in (first, second))
        return float(one - other)

    low, high = 0.0, 1e13
    if difference(low) * difference(high) >= 0:
        return None
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if difference(low) * difference(middle) > 0 else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("errors", [True, False])
@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("seed", range(6))
def test_the_formula_is_where_bisection_ends(first: str, second: str, seed: int, errors: bool) -> None:
    values, setting = random_world(seed)
    expected = bisected(first, second, values, setting, errors=errors)
    even = break_even(first, second, values, setting, errors=errors)
    assert even.volume == (None if expected is None else pytest.approx(expected, rel=1e-9))
    assert {even.first, even.second} == {first, second}


def test_the_textbook_formula_where_nothing_grows_and_nothing_is_discounted() -> None:
    """V* = (fixed costs of building - of buying, a year) / (price of a call - own marginal cost)."""
    _, setting, v = world()
    v.update({"finance.discount_rate": 0.0, "volume.growth_per_year": 0.0})
    at_zero = {**v, "volume.images_per_month": 0.0}
    fixed = present_cost("build", at_zero, setting) - present_cost("buy", at_zero, setting)
    call = (v["vendor.price_per_1000_images"] + v["vendor.transfer_per_1000_images"]) / 1000
    own = v["serving.price_per_1000_images"] / 1000
    even = break_even("build", "buy", v, setting, errors=False)
    assert even.volume == pytest.approx(fixed / 3 / (call - own) / 12, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_which_is_cheaper_on_either_side_is_told_right(seed: int) -> None:
    values, setting = random_world(seed)
    for first, second in PAIRS:
        even = break_even(first, second, values, setting)
        middle = even.volume or 1e6
        for volume, told in ((middle / 10, even.cheaper_below), (middle * 10, even.cheaper_above)):
            costs = present_costs({**values, "volume.images_per_month": volume}, setting, (first, second))
            assert told == min(costs, key=lambda key: costs[key])


def test_there_is_none_where_one_is_cheaper_at_every_volume() -> None:
    _, setting, v = world()
    free = {**v, **{key: 0.0 for key in v if key.startswith(("build.", "operation.", "serving.", "retraining."))}}
    even = break_even("build", "buy", free, setting)
    assert even.volume is None
    assert even.cheaper_below == even.cheaper_above == "build"
    assert "at every volume" in even.sentence
    same = break_even("buy", "buy", v, setting)
    assert same.volume is None


def test_equal_cost_by_image_has_none_either() -> None:
    _, setting, v = world()
    equal = {**v, "vendor.transfer_per_1000_images": 0.0, "vendor.price_per_1000_images": 0.5}
    equal["serving.price_per_1000_images"] = 0.5
    even = break_even("build", "buy", equal, setting, errors=False)
    assert even.volume is None
    assert even.cheaper_below == "buy"


def test_of_draws_each_has_its_own() -> None:
    worlds = [random_world(seed)[0] for seed in range(30)]
    setting = random_world(0)[1]
    stacked = {key: np.array([values[key] for values in worlds]) for key in worlds[0]}
    together = np.asarray(break_even_volume("build", "buy", stacked, setting))
    single = [break_even_volume("build", "buy", values, setting) for values in worlds]
    assert together == pytest.approx(single, rel=1e-12, nan_ok=True)
    even = break_even("build", "buy", worlds[0], setting, stacked)
    found = together[~np.isnan(together)]
    assert even.share_with == len(found) / 30
    assert even.interval == pytest.approx(tuple(np.quantile(found, [0.05, 0.95])))


def test_worlds_in_which_the_other_is_cheaper_above_are_no_part_of_the_range() -> None:
    """With calls that cost nothing and a dear connection, building is the cheaper one below the volume, not above."""
    _, setting, v = world()
    odd = {**v, "vendor.price_per_1000_images": 0.0, "vendor.transfer_per_1000_images": 0.0}
    odd |= {"vendor.integration_days": 5000.0, "serving.price_per_1000_images": 0.02}
    assert break_even_volume("build", "buy", odd, setting, errors=False) > 0
    draws = {key: np.array([v[key]] * 9 + [odd[key]]) for key in v}
    even = break_even("build", "buy", v, setting, draws, errors=False)
    assert even.share_with == 0.9
    assert even.interval == pytest.approx((even.volume, even.volume))


def drawn_world(seed: int = 0, draws: int = 400) -> tuple[dict[str, Amount], Setting, dict[str, np.ndarray]]:
    setting, amounts, counts, _ = prepare(load_inputs(), evidence())
    return amounts, setting, draw(amounts, counts, seed, draws)


def leaning_with(key: str, value: float, drawn: dict[str, np.ndarray], setting: Setting) -> str:
    """Find the option with the least mean cost, one amount having the same value in every draw, draw by draw."""
    worlds = [{**{name: float(drawn[name][s]) for name in drawn}, key: value} for s in range(len(drawn[key]))]
    means = {option: np.mean([present_cost(option, one, setting) for one in worlds]) for option in setting.options}
    return min(setting.options, key=means.__getitem__)


def test_beyond_a_switching_value_another_option_costs_the_least_on_average_and_before_it_none() -> None:
    amounts, setting, drawn = drawn_world(draws=40)
    leaning = simulate(drawn, setting, setting.options)
    before = leaning.options[int(np.argmin(leaning.mean_O))]
    switches = switching_values(amounts, drawn, setting)
    assert len(switches) > 10
    for switch in switches:
        assert switch.expected == drawn[switch.key].mean()
        step = (switch.value - switch.expected) * 1e-6
        assert leaning_with(switch.key, switch.value + step, drawn, setting) == switch.becomes != before
        for share in (0.01, 0.5, 0.9999):
            on_the_way = switch.expected + share * (switch.value - switch.expected)
            assert leaning_with(switch.key, on_the_way, drawn, setting) == before
        assert switch.inside == (amounts[switch.key].low <= switch.value <= amounts[switch.key].high)


@pytest.mark.parametrize("seed", range(3))
def test_no_switch_on_a_fine_grid_is_missed(seed: int) -> None:
    """Also of amounts on which costs depend along a curve, such as growth and the discount rate."""
    amounts, setting, drawn = drawn_world(seed, draws=100)
    found = {(s.key, s.value > s.expected): s.value for s in switching_values(amounts, drawn, setting)}
    costs = simulate(drawn, setting, setting.options).mean_O
    before = int(np.argmin(costs))
    for key in (
        "volume.growth_per_year",
        "finance.discount_rate",
        "vendor.price_per_1000_images",
        "transfer.points_lost",
    ):
        expected = drawn[key].mean()
        for end in (amounts[key].low, amounts[key].high):
            grid = np.linspace(expected, end, 300)
            table = present_costs({**{n: v[:, None] for n, v in drawn.items()}, key: grid[None, :]}, setting)
            means = np.stack([np.broadcast_to(table[o], (100, 300)).mean(0) for o in setting.options])
            changed = np.flatnonzero(means.argmin(0) != before)
            value = found.get((key, end > expected))
            if len(changed):
                assert value == pytest.approx(grid[changed[0]], abs=1.01 * abs(grid[1] - grid[0]))
            else:
                assert value is None or not min(expected, end) < value < max(expected, end)


def test_the_switching_volume_is_the_volume_at_which_mean_costs_are_equal() -> None:
    amounts, setting, drawn = drawn_world()
    fixed, by_image = cost_difference("build", "buy", drawn, setting, errors=True)
    found = [
        s for s in switching_values(amounts, drawn, setting, ("build", "buy")) if s.key.startswith("volume.images")
    ]
    assert [s.value for s in found] == [pytest.approx(-np.mean(fixed) / np.mean(by_image), rel=1e-9)]


def test_switches_within_the_range_come_first_and_the_nearest_first_among_them() -> None:
    amounts, setting, drawn = drawn_world()
    switches = switching_values(amounts, drawn, setting)
    inside = [switch.inside for switch in switches]
    assert inside == sorted(inside, reverse=True)
    near = [abs(s.value - s.expected) / (s.expected or s.high - s.low) for s in switches if s.inside]
    assert near
    assert near == sorted(near)


def test_one_option_alone_never_switches() -> None:
    amounts, setting, drawn = drawn_world()
    assert switching_values(amounts, drawn, setting, ("build",)) == ()


def test_an_amount_that_does_not_matter_has_no_switch() -> None:
    amounts, setting, drawn = drawn_world()
    odd = {**amounts, "unused.amount": Amount("unused.amount", "x", 0, 1, 2, "days", "assumed", "none at all", "")}
    drawn["unused.amount"] = np.linspace(0, 2, 400)
    assert not any(switch.key == "unused.amount" for switch in switching_values(odd, drawn, setting))


def test_an_amount_that_is_known_exactly_can_switch_too() -> None:
    amounts, setting, drawn = drawn_world()
    volume = amounts["volume.images_per_month"]
    known = {**amounts, volume.key: replace(volume, low=volume.base, high=volume.base)}
    drawn[volume.key] = np.full(400, volume.base)
    found = [s for s in switching_values(known, drawn, setting, ("build", "buy")) if s.key == volume.key]
    assert [s.inside for s in found] == [False]


@pytest.mark.parametrize("setting", [None, Setting(status_quo="none", own_images=True, vendor_own_images=True)])
def test_leads_are_those_of_all_costs_computed_anew(setting: Setting | None) -> None:
    amounts, usual, drawn = drawn_world()
    setting = usual if setting is None else replace(setting, options=usual.options)
    rivals, leads = _leads_of(drawn, setting, setting.options)
    for key, amount in amounts.items():
        for value in (amount.low, 1.5 * amount.high):
            costs = present_costs({**drawn, key: value}, setting)
            means = {option: float(np.mean(cost)) for option, cost in costs.items()}
            (leaning,) = set(setting.options) - set(rivals)
            expected = [means[rival] - means[leaning] for rival in rivals]
            assert leads(key, value).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-6), key


def test_options_that_cost_the_same_are_not_said_to_cost_less() -> None:
    _, setting, base = world()
    free = {**base, **{key: 0.0 for key in base if key.startswith("adapt.")}}
    assert "cost the same at every volume" in break_even("adapt", "buy", free, setting, errors=False).sentence
    dearer = {**free, "adapt.hosting_per_year": 1.0}
    assert "Buying costs less" in break_even("adapt", "buy", dearer, setting, errors=False).sentence
