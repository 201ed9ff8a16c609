"""The whole analysis: consistent with its parts, and the same twice."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.decision.made import all_known, curve, evidence, paired_evidence, scaled, world

from cifarlab.decision import DecisionInputs, Evidence, analyse, ledger_json, load_inputs
from cifarlab.decision.analysis import base_values, choose_threshold, prepare, scenario_costs
from cifarlab.decision.costs import present_cost
from cifarlab.decision.inputs import inputs_from_text
from cifarlab.decision.options import WORLD, used_keys
from cifarlab.errors import ConfigError
from cifarlab.stats import accuracy_interval

DRAWS = 1000


def test_the_same_figures_give_the_same_bytes() -> None:
    one = ledger_json(analyse(load_inputs(), evidence(), draws=DRAWS).ledger)
    assert one == ledger_json(analyse(load_inputs(), evidence(), draws=DRAWS).ledger)
    other = ledger_json(analyse(load_inputs(), evidence(), draws=DRAWS, seed=1).ledger)
    assert one != other


def test_the_ledger_holds_every_figure_once_with_its_origin() -> None:
    analysis = analyse(load_inputs(), evidence(seed_accuracies=(0.93, 0.94, 0.95)), draws=DRAWS)
    document = json.loads(ledger_json(analysis.ledger))
    entries = {entry["id"]: entry for entry in document["entries"]}
    assert len(entries) == len(document["entries"])
    assert {entry["origin"] for entry in entries.values()} == {"measured", "quoted", "assumed", "computed"}
    for key, amount in analysis.amounts.items():
        entry = entries[f"amount.{key}"]
        assert (entry["low"], entry["value"], entry["high"]) == pytest.approx((amount.low, amount.base, amount.high))
        assert (entry["unit"], entry["origin"], entry["date"]) == (amount.unit, amount.origin, amount.date)
    for option in analysis.options:
        entry = entries[f"option.{option.key}.present_cost"]
        assert entry["value"] == pytest.approx(option.present_cost)
        assert entry["unit"] == "USD"
        flows = [e["value"] for name, e in entries.items() if name.startswith(f"option.{option.key}.flow.")]
        assert sum(flows) == pytest.approx(sum(option.flows.expenditure) + sum(option.flows.errors))
    assert entries["evidence.accuracy"]["value"] == 0.94
    assert entries["break_even.build_buy"]["value"] == pytest.approx(analysis.break_evens[0].volume)


def test_the_ledger_says_whose_a_figure_is() -> None:
    inputs = inputs_from_text("amounts: {vendor: {licence_per_year: 5000}}", "mine.yaml")
    entries = {entry.id: entry for entry in analyse(inputs, evidence(), draws=100).ledger}
    assert "set by the user" in entries["amount.vendor.licence_per_year"].source
    assert "set by the user" not in entries["amount.vendor.exit_days"].source
    assert entries["setting.horizon_years"].source == "default of cifarlab"


def test_the_cheapest_threshold_is_chosen() -> None:
    _, setting, base = world()
    choice = choose_threshold(curve(), base, setting)
    assert choice.present_cost == min(cost for _, cost in choice.candidates)
    assert [point.coverage for point, _ in choice.candidates] == [0.92, 0.8, 0.6]
    # calls that cost the earth leave as many images as can be to our model
    dear = {**base, "vendor.price_per_1000_images": 1e6}
    assert choose_threshold(curve(), dear, setting).point.coverage == 0.92
    # mistakes that cost the earth, and a vendor that knows everything, leave it the doubtful ones
    safe = {**base, "vendor.accuracy": 1.0, "hybrid.vendor_on_hard": 1.0, "errors.cost_per_wrong_answer": 100.0}
    safe["transfer.points_lost"] = 0.0
    assert choose_threshold(curve(), safe, setting).point.coverage == 0.6


def test_without_a_coverage_curve_there_is_no_hybrid() -> None:
    analysis = analyse(load_inputs(), evidence(coverage=()), draws=DRAWS)
    assert [option.key for option in analysis.options] == ["nothing", "buy", "adapt", "build"]
    assert analysis.hybrid is None
    with pytest.raises(KeyError):
        analysis.option("hybrid")


@pytest.mark.parametrize("option", ["nothing", "buy", "adapt", "build", "hybrid"])
def test_scenarios_are_the_extremes_of_an_options_own_amounts(option: str) -> None:
    amounts, setting, base = world()
    favourable, unfavourable = scenario_costs(option, amounts, setting)
    own = [key for key in sorted(used_keys(option, setting)) if key not in WORLD]
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = dict(base)
        for key in own:
            values[key] = rng.choice([amounts[key].low, amounts[key].base, amounts[key].high])
        assert favourable - 1e-6 <= present_cost(option, values, setting) <= unfavourable + 1e-6


def test_costs_of_several_seeds_rest_on_their_mean() -> None:
    seeds = (0.93, 0.94, 0.95, 0.94)
    _, amounts, counts, _ = prepare(load_inputs(), evidence(seed_accuracies=seeds))
    ours = amounts["ours.accuracy"]
    assert ours.base == pytest.approx(0.94)
    assert (ours.low, ours.high) == pytest.approx(accuracy_interval(seeds))
    assert counts["ours.accuracy"].seeds == 4


def test_a_known_number_of_images_of_the_claim_narrows_its_range() -> None:
    inputs = load_inputs()
    known = replace(inputs, facts={**inputs.facts, "vendor.claim_images": 10_000})
    wide, narrow = (prepare(one, evidence())[1]["vendor.accuracy"] for one in (inputs, known))
    assert narrow.high - narrow.low < 0.11 * (wide.high - wide.low)
    assert narrow.base == wide.base
    assert "as if it had been 100" in wide.source
    assert "10,000 images" in narrow.source
    assert "as if" not in narrow.source


def test_predictions_of_the_vendor_replace_its_claim() -> None:
    given = evidence(940, 1000, vendor_correct=650)
    setting, amounts, counts, _ = prepare(load_inputs(), given)
    assert amounts["vendor.accuracy"].base == 0.65
    assert amounts["vendor.accuracy"].origin == "measured"
    assert "650 of 1,000 images" in amounts["vendor.accuracy"].source
    mine = inputs_from_text("amounts: {vendor: {accuracy: 0.8}}")
    measured = prepare(mine, replace(given, dataset="cars"))[1]["vendor.accuracy"]
    assert measured.base == 0.65
    assert not measured.users
    assert measured.label == "Vendor's accuracy on cars, test"
    assert counts["vendor.accuracy"].total == 1000
    assert present_cost("buy", base_values(amounts), setting) > 0


def test_weights_of_mistakes_need_the_classes_of_the_run() -> None:
    text = "mistake_weights: {classes: [cat, dog], weights: [[0, 0.5], [2, 0]]}"
    confusion = np.array([[90, 10], [30, 70]])
    analysis = analyse(inputs_from_text(text), evidence(160, 200, confusion_KK=confusion), draws=100)
    plain = analyse(load_inputs(), evidence(160, 200), draws=100)
    ratio = (10 * 0.5 + 30 * 2) / 40
    assert analysis.option("build").present_errors == pytest.approx(ratio * plain.option("build").present_errors)
    with pytest.raises(ConfigError, match="2 classes, the run has 3"):
        analyse(inputs_from_text(text), evidence(confusion_KK=np.eye(3, dtype=np.int64)), draws=100)


def test_weights_of_mistakes_are_refused_where_the_run_tells_no_mistakes() -> None:
    inputs = inputs_from_text("mistake_weights: {classes: [cat, dog], weights: [[0, 0.5], [2, 0]]}")
    with pytest.raises(ConfigError, match="confusion matrix"):
        analyse(inputs, evidence(confusion_KK=None))


def test_weights_of_mistakes_follow_the_names_of_the_classes() -> None:
    text = "mistake_weights: {classes: [dog, cat], weights: [[0, 2], [0.5, 0]]}"
    confusion = np.array([[90, 10], [30, 70]])  # rows cat, dog
    given = evidence(160, 200, confusion_KK=confusion, class_names=("cat", "dog"))
    analysis = analyse(inputs_from_text(text), given, draws=100)
    plain = analyse(load_inputs(), evidence(160, 200), draws=100)
    ratio = (10 * 0.5 + 30 * 2) / 40
    assert analysis.option("build").present_errors == pytest.approx(ratio * plain.option("build").present_errors)
    entries = {entry.id: entry for entry in analysis.ledger}
    assert entries["mistake_weight"].value == pytest.approx(ratio)
    assert entries["setting.mistake_weights.0.1"].value == 2
    assert entries["setting.mistake_weights.0.1"].label == "Weight of dog taken for cat"
    with pytest.raises(ConfigError, match="has horse; the classes are cat, dog"):
        analyse(inputs_from_text(text.replace("dog", "horse")), given, draws=100)


def test_every_figure_of_the_ledger_has_a_unit_and_an_origin_that_fits() -> None:
    inputs = inputs_from_text("vendor: {claim_images: 500}\nrequirements: {minimum_accuracy: {limit: 0.8}}")
    unitless = {"simulation.seed"}
    for entry in analyse(inputs, paired_evidence(), draws=100).ledger:
        counts = isinstance(entry.value, (int, float)) and not isinstance(entry.value, bool)
        if counts and entry.id not in unitless and not entry.id.endswith(".rank"):
            assert entry.unit, entry.id
        assert entry.source, entry.id
        assert bool(entry.command) == (entry.origin == "computed") or entry.origin == "measured", entry.id


def test_the_ledger_holds_the_vendors_answers_and_the_judged_risks() -> None:
    given = paired_evidence(2500, 100)
    analysis = analyse(load_inputs(), given, draws=100)
    entries = {entry.id: entry for entry in analysis.ledger}
    found = [entries[f"evidence.{name}"].value for name in ("vendor_correct", "only_ours", "only_theirs")]
    assert found == [7000, 2500, 100]
    judged = [entry for name, entry in entries.items() if name.startswith("risk.")]
    assert len(judged) == 2 * len(analysis.risks)
    assert {entry.origin for entry in judged} == {"assumed"}


def test_risks_say_what_is_known() -> None:
    def claim(inputs: DecisionInputs, given: Evidence) -> str:
        risks = analyse(inputs, given, draws=50).risks
        return next(risk.why for risk in risks if "claim" in risk.name)

    assert "does not say on how many images" in claim(load_inputs(), evidence())
    assert "counted on 500 images" in claim(inputs_from_text("vendor: {claim_images: 500}"), evidence())
    assert "10,000 images only" in claim(load_inputs(), paired_evidence())
    forbidden = inputs_from_text("ours: {licence_allows_use: false}")
    rights = [r for r in analyse(forbidden, evidence(), draws=50).risks if r.name.startswith("Rights")]
    assert rights[0].probability == 3


def test_risks_are_ordered_and_touch_only_options_that_are_compared() -> None:
    analysis = analyse(load_inputs(), evidence(coverage=()), draws=100)
    scores = [risk.score for risk in analysis.risks]
    assert scores == sorted(scores, reverse=True)
    keys = {option.key for option in analysis.options}
    for risk in analysis.risks:
        assert set(risk.options) <= keys
        assert 1 <= risk.probability <= 3
        assert 1 <= risk.impact <= 3
        assert risk.owner
        assert risk.mitigation
        assert risk.source
    assert any("2028" in risk.why for risk in analysis.risks)


def test_all_known_and_measured_on_own_images_leaves_no_open_requirement() -> None:
    analysis = analyse(all_known(load_inputs()), evidence(own_images=True), draws=100)
    assert all(option.unknown == () for option in analysis.options if option.key != "nothing")


def test_a_volume_of_none_is_no_division_by_zero() -> None:
    analysis = analyse(scaled(load_inputs(), 0.0, "volume.images_per_month"), evidence(), draws=100)
    assert analysis.option("nothing").present_cost == 0
    assert "NaN" not in ledger_json(analysis.ledger)


def test_predictions_on_own_images_lose_nothing_more() -> None:
    given = paired_evidence()
    analysis = analyse(load_inputs(), given, draws=100)
    assert analysis.option("buy").accuracy == pytest.approx(0.7)
    assert analysis.option("build").accuracy == pytest.approx(0.94)
    elsewhere = analyse(load_inputs(), replace(given, own_images=False), draws=100)
    assert elsewhere.option("buy").accuracy == pytest.approx(0.7 - 0.08)
