"""Costs against plain sums, and the properties that any sound comparison of costs has."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.decision.made import world

from cifarlab.decision.costs import cash_flows, images_by_year, per_image_figures, present_cost, present_costs
from cifarlab.decision.options import LABELS, WORLD, Setting, cost_lines, derive, mistake_weight, used_keys

OPTIONS = ("nothing", "buy", "adapt", "build", "hybrid")
VENDOR_PRICES = ("vendor.price_per_1000_images", "vendor.licence_per_year", "vendor.integration_days")
BUILD_COSTS = ("build.days", "build.labels", "build.gpu_hours", "operation.days_per_year", "operation.audit_per_year")


def random_world(seed: int) -> tuple[dict[str, float], Setting]:
    """Return a world within the ranges of the defaults."""
    amounts, setting, _ = world()
    draw = np.random.default_rng(seed).random(len(amounts))
    return {key: a.low + u * (a.high - a.low) for (key, a), u in zip(amounts.items(), draw, strict=True)}, setting


def test_buying_by_hand() -> None:
    """The cost of buying, spelled out."""
    _, setting, v = world()
    day = v["people.salary_per_year"] * v["people.overhead_factor"] / v["people.days_per_year"]
    call = (v["vendor.price_per_1000_images"] + v["vendor.transfer_per_1000_images"]) / 1000
    wrong = (1 - (v["vendor.accuracy"] - v["transfer.points_lost"])) * v["errors.cost_per_wrong_answer"]
    total = v["vendor.integration_days"] * day
    for year in (1, 2, 3):
        images = 12 * v["volume.images_per_month"] * (1 + v["volume.growth_per_year"]) ** (year - 1)
        paid = v["vendor.licence_per_year"] + v["vendor.oversight_days_per_year"] * day + call * images
        total += (paid + wrong * images) / 1.035**year
    total += v["vendor.exit_days"] * day / 1.035**3
    assert present_cost("buy", v, setting) == pytest.approx(total, rel=1e-12)


def test_building_by_hand() -> None:
    _, setting, v = world()
    day = v["people.salary_per_year"] * v["people.overhead_factor"] / v["people.days_per_year"]
    once = (v["build.days"] + v["build.integration_days"]) * day
    once += v["build.labels"] * v["labels.price_per_label"] + v["build.gpu_hours"] * v["gpu.price_per_hour"]
    round_cost = v["retraining.days_per_round"] * day + v["retraining.labels_per_round"] * v["labels.price_per_label"]
    round_cost += v["retraining.gpu_hours_per_round"] * v["gpu.price_per_hour"]
    yearly = v["serving.nodes"] * v["serving.price_per_node_hour"] * 8760
    yearly += v["operation.days_per_year"] * day + v["operation.audit_per_year"]
    yearly += v["retraining.rounds_per_year"] * round_cost
    wrong = (1 - (v["ours.accuracy"] - v["transfer.points_lost"])) * v["errors.cost_per_wrong_answer"]
    total = once
    for year in (1, 2, 3):
        images = 12 * v["volume.images_per_month"] * (1 + v["volume.growth_per_year"]) ** (year - 1)
        total += (yearly + (v["serving.price_per_1000_images"] / 1000 + wrong) * images) / 1.035**year
    assert present_cost("build", v, setting) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("seed", range(5))
def test_the_present_cost_is_the_discounted_cash_flow(option: str, seed: int) -> None:
    values, setting = random_world(seed)
    flows = cash_flows(option, values, setting)
    paid = sum(p * d for p, d in zip(flows.expenditure, flows.discount, strict=True))
    errors = sum(e * d for e, d in zip(flows.errors, flows.discount, strict=True))
    assert present_cost(option, values, setting, errors=False) == pytest.approx(paid, rel=1e-12)
    assert present_cost(option, values, setting) == pytest.approx(paid + errors, rel=1e-12)
    assert flows.expenditure == pytest.approx(np.sum(list(flows.lines.values()), axis=0))
    assert flows.errors[0] == 0


@pytest.mark.parametrize("option", OPTIONS)
def test_without_discounting_it_is_the_plain_sum(option: str) -> None:
    values, setting = random_world(11)
    values["finance.discount_rate"] = 0.0
    flows = cash_flows(option, values, setting)
    assert present_cost(option, values, setting) == pytest.approx(sum(flows.expenditure) + sum(flows.errors))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_draws_at_once_are_draws_one_by_one(option: str, seed: int) -> None:
    worlds = [random_world(100 * seed + i) for i in range(4)]
    setting = worlds[0][1]
    stacked = {key: np.array([values[key] for values, _ in worlds]) for key in worlds[0][0]}
    together = present_costs(stacked, setting)[option]
    assert np.allclose(together, [present_cost(option, values, setting) for values, _ in worlds], rtol=1e-13)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_depends_on_the_amounts_it_says_and_on_no_other(option: str) -> None:
    values, setting = random_world(5)
    before = present_cost(option, values, setting)
    used = used_keys(option, setting)
    for key in values:
        changed = present_cost(option, {**values, key: values[key] * 0.9 + 1e-3}, setting)
        assert (changed != before) == (key in used), key


@pytest.mark.parametrize("seed", range(20))
def test_what_is_dearer_is_never_more_attractive(seed: int) -> None:
    values, setting = random_world(seed)

    def margin(values: dict[str, float]) -> float:
        costs = present_costs(values, setting)
        return float(costs["buy"] - costs["build"])  # above 0: building is cheaper

    before = margin(values)
    for key in BUILD_COSTS:
        assert margin({**values, key: 1.5 * values[key] + 1}) <= before
    for key in VENDOR_PRICES:
        assert margin({**values, key: 1.5 * values[key] + 1}) >= before
    better = min(1.0, values["ours.accuracy"] + 0.01)
    assert margin({**values, "ours.accuracy": better}) >= before
    assert margin({**values, "vendor.accuracy": values["vendor.accuracy"] + 0.01}) <= before


@pytest.mark.parametrize("seed", range(20))
def test_dearer_errors_never_favour_the_less_accurate(seed: int) -> None:
    values, setting = random_world(seed)
    derived = derive(values, setting)
    dearer = {**values, "errors.cost_per_wrong_answer": 3 * values["errors.cost_per_wrong_answer"]}
    before, after = present_costs(values, setting), present_costs(dearer, setting)
    for one in OPTIONS:
        for other in OPTIONS:
            if derived[f"accuracy.{one}"] >= derived[f"accuracy.{other}"]:
                assert after[other] - after[one] >= before[other] - before[one] - 1e-6


@pytest.mark.parametrize("key", [*VENDOR_PRICES, "people.salary_per_year", "labels.price_per_label"])
def test_the_present_cost_is_linear_in_prices(key: str) -> None:
    values, setting = random_world(3)
    at = [float(present_cost("hybrid", {**values, key: price}, setting)) for price in (1.0, 2.0, 5.0)]
    assert at[1] - at[0] == pytest.approx((at[2] - at[1]) / 3, rel=1e-6, abs=1e-6)


def test_the_hybrid_mixes_by_coverage() -> None:
    _, setting, v = world()
    derived = derive(v, setting)
    kept, share = v["hybrid.kept_accuracy"] - v["transfer.points_lost"], v["hybrid.coverage"]
    hard = v["hybrid.vendor_on_hard"] * (v["vendor.accuracy"] - v["transfer.points_lost"])
    assert derived["accuracy.hybrid"] == pytest.approx(share * kept + (1 - share) * hard)
    everything = {**v, "hybrid.coverage": 1.0, "hybrid.kept_accuracy": v["ours.accuracy"]}
    assert derive(everything, setting)["accuracy.hybrid"] == pytest.approx(derived["accuracy.build"])


def test_measured_on_own_images_nothing_is_lost_in_transfer() -> None:
    _, _, v = world()
    own = Setting(own_images=True)
    assert derive(v, own)["accuracy.build"] == v["ours.accuracy"]
    assert derive(v, own)["accuracy.buy"] == pytest.approx(v["vendor.accuracy"] - v["transfer.points_lost"])
    both = Setting(own_images=True, vendor_own_images=True)
    assert derive(v, both)["accuracy.buy"] == v["vendor.accuracy"]
    assert "transfer.points_lost" not in used_keys("buy", both) | used_keys("build", both)


def test_where_nobody_sorts_doing_nothing_costs_what_not_knowing_costs() -> None:
    _, _, v = world()
    setting = Setting(status_quo="none")
    assert cost_lines("nothing", setting) == ()
    assert present_cost("nothing", v, setting, errors=False) == 0
    flows = cash_flows("nothing", v, setting)
    expected = v["status_quo.cost_per_1000_unanswered"] / 1000 * images_by_year(v, 3)
    assert flows.errors == pytest.approx(expected)


def test_mistakes_are_weighed_by_kind() -> None:
    confusion = [[90, 10, 0], [5, 94, 1], [0, 0, 100]]
    assert mistake_weight(confusion, [[0, 1, 1], [1, 0, 1], [1, 1, 0]]) == 1
    assert mistake_weight(confusion, [[0, 2, 9], [4, 0, 8], [9, 9, 0]]) == pytest.approx((10 * 2 + 5 * 4 + 8) / 16)
    assert mistake_weight(np.diag([5, 5]), [[0, 7], [7, 0]]) == 1
    with pytest.raises(ValueError, match="weights of mistakes"):
        mistake_weight(confusion, [[0, 1], [1, 0]])


def test_cost_by_image_and_by_correct_answer() -> None:
    _, setting, v = world()
    flows = cash_flows("buy", v, setting)
    images = images_by_year(v, 3).sum()
    per_1000, per_correct = per_image_figures(flows, images, 0.5)
    assert per_1000 == pytest.approx(1000 * sum(flows.expenditure) / images)
    assert per_correct == pytest.approx(2 * per_1000 / 1000)
    assert all(math.isnan(x) for x in per_image_figures(flows, 0.0, 0.5))


def test_labels_of_lines_are_unique_so_that_none_is_lost_in_a_table() -> None:
    for option in OPTIONS:
        labels = [line.label for line in cost_lines(option, Setting(options=OPTIONS))]
        assert len(set(labels)) == len(labels)
    assert set(LABELS) == set(OPTIONS)
    assert set(WORLD) <= set(world()[0])
