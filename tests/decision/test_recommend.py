"""The answer: never surer than the evidence, and never moved the wrong way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.decision.made import all_known, evidence, paired_evidence, scaled, with_facts

from cifarlab.decision import Analysis, Evidence, analyse, load_inputs
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.decision.recommend import _chance, _close_to
from cifarlab.decision.wording import DOING
from cifarlab.differences import compare_paired

DRAWS = 1500
PRICE = "vendor.price_per_1000_images"
BUILD = ("build.days", "build.integration_days", "operation.days_per_year", "operation.audit_per_year")


def run(inputs: DecisionInputs | None = None, given: Evidence | None = None) -> Analysis:
    return analyse(inputs or load_inputs(), given or evidence(), draws=DRAWS)


def test_by_default_the_answer_is_not_sure_and_says_why() -> None:
    advice = run().advice
    assert advice.confidence != "high"
    assert "our own images" in advice.confidence_reason
    assert len(advice.figures) == 3
    assert any("own labelled" in condition for condition in advice.conditions)
    assert advice.next_test.num_images >= 200


def test_every_key_figure_stands_in_the_ledger() -> None:
    for given in (evidence(), evidence(7000), evidence(5000, diagnosis="underfits"), evidence(coverage=())):
        analysis = run(given=given)
        entries = {entry.id for entry in analysis.ledger}
        assert {figure.entry for figure in analysis.advice.figures} <= entries


@pytest.mark.parametrize(
    ("correct", "diagnosis", "measure"),
    [
        (9400, "unknown", False),
        (7000, "neither", True),
        (6000, "underfits", True),
        (6000, "unknown", True),
        (6000, "neither", False),
        (6000, "overfits", False),
    ],
)
def test_an_accuracy_that_is_not_settled_is_measured_first(correct: int, diagnosis: str, measure: bool) -> None:
    advice = run(given=evidence(correct, diagnosis=diagnosis)).advice
    assert (advice.answer == "measure first") == measure
    if measure:
        assert advice.confidence == "low"
        assert "Measure first" in advice.headline
    else:
        assert advice.answer == advice.leaning


def test_a_claim_for_cifar10_is_not_set_against_own_images() -> None:
    advice = run(all_known(load_inputs()), evidence(own_images=True, dataset="cars")).advice
    assert advice.answer == "measure first"
    assert "cannot be set against it" in advice.figures[0].text
    assert "CIFAR-10" in advice.reasons[0]


def test_with_the_vendors_predictions_mcnemar_decides() -> None:
    ours = np.repeat([True, False], [720, 280])
    other = np.roll(ours, 5)
    paired = compare_paired(ours, other)
    advice = run(given=evidence(720, 1000, paired=paired, vendor_correct=720)).advice
    assert advice.answer == "measure first"
    assert not any("predictions on the same images" in condition for condition in advice.conditions)


def test_high_confidence_needs_own_images_known_requirements_and_nine_draws_of_ten() -> None:
    sure = scaled(all_known(load_inputs()), 0.05, *BUILD)
    own = paired_evidence()
    assert run(sure, own).simulation.probability_cheapest_admissible["build"] >= 0.9
    assert run(sure, own).advice.confidence == "high"
    assert run(sure, evidence()).advice.confidence == "moderate"
    assert run(scaled(load_inputs(), 0.05, *BUILD), own).advice.confidence == "moderate"
    no_offer = replace(sure, amounts={**sure.amounts, PRICE: load_inputs().amounts[PRICE]})
    assert run(no_offer, own).advice.confidence == "moderate"
    assert "prices are assumed" in run(no_offer, own).advice.confidence_reason
    assert run(sure, paired_evidence(105, 100)).advice.confidence == "low"
    assert run(sure, evidence(own_images=True)).advice.confidence == "low"


def test_an_option_that_fails_a_requirement_is_not_recommended() -> None:
    inputs = with_facts(all_known(load_inputs()), ours__licence_allows_use=False)
    analysis = run(inputs)
    assert analysis.option("build").rejected
    assert analysis.advice.leaning in ("nothing", "buy", "adapt")
    assert any(reason.startswith("Out: Build") for reason in analysis.advice.reasons)


def test_where_every_option_fails_nothing_is_recommended() -> None:
    forbidden = {"ours__licence_allows_use": False, "vendor__licence_allows_use": False}
    inputs = with_facts(all_known(load_inputs()), **forbidden, requirements__minimum_accuracy__limit=0.99)
    analysis = run(inputs)
    assert analysis.advice.leaning is None
    assert analysis.advice.answer == "measure first"
    assert analysis.tornado is None
    assert analysis.switches == ()


def test_dearer_building_moves_the_answer_away_from_building_and_never_back() -> None:
    ranks = []
    for factor in (0.1, 0.5, 1, 2, 5, 20):
        ranks.append(run(scaled(all_known(load_inputs()), factor, *BUILD)).advice.leaning == "build")
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0]
    assert not ranks[-1]


def test_a_dearer_vendor_never_moves_the_answer_towards_it() -> None:
    ranks = []
    for factor in (0.0, 0.3, 1, 3, 10):
        inputs = scaled(all_known(load_inputs()), factor, "vendor.price_per_1000_images", "vendor.licence_per_year")
        ranks.append(run(inputs).advice.leaning == "buy")
    assert ranks == sorted(ranks, reverse=True)
    assert not ranks[-1]


def test_more_accuracy_never_moves_the_answer_away_from_building() -> None:
    given = [evidence(correct, coverage=()) for correct in range(5000, 10_001, 500)]
    answers = [run(given=one).advice.leaning == "build" for one in given]
    assert answers == sorted(answers)
    assert answers[-1]


def test_doing_nothing_stands_whatever_the_models_where_it_is_surely_the_cheapest() -> None:
    tiny = scaled(load_inputs(), 1e-4, "volume.images_per_month")
    advice = run(tiny, evidence(7000)).advice
    assert advice.answer == "nothing"
    assert "do nothing" in advice.headline


@pytest.mark.parametrize("correct", [9400, 9800])
def test_what_would_change_it_names_values_inside_their_range_and_never_the_leaning(correct: int) -> None:
    """Also where another option is the cheapest at the likeliest values: both go by means over the draws."""
    analysis = run(all_known(load_inputs()), evidence(correct))
    inside = [switch for switch in analysis.switches if switch.inside]
    assert inside
    assert analysis.advice.leaning not in {switch.becomes for switch in analysis.switches}
    for switch, told in zip(inside, analysis.advice.changes[:6], strict=False):
        assert told.startswith(switch.label)
        assert f"then {DOING[switch.becomes]} costs the least on average" in told


def test_no_option_cheaper_at_the_likeliest_values_is_left_out_of_the_figure_of_cost() -> None:
    for correct in (5000, 8000, 9000, 9400, 9900):
        analysis = run(given=evidence(correct))
        cheapest = min(analysis.options, key=lambda option: option.present_cost)
        assert DOING[cheapest.key] in analysis.advice.figures[1].text.lower()


def test_what_a_wrong_answer_counts_is_on_the_first_screen_and_among_the_conditions() -> None:
    analysis = run()
    assert "a wrong answer counted as USD 0.001 to USD 0.1" in analysis.advice.figures[1].label
    assert any("USD 0.012" in one and "hurt somebody" in one for one in analysis.advice.conditions)
    assert any("in traffic" in one for one in analysis.assumptions)


def test_an_offer_is_asked_for_only_where_prices_are_assumed() -> None:
    def asked(inputs: DecisionInputs, given: Evidence) -> bool:
        return any("written offer" in one for one in run(inputs, given).advice.conditions)

    assert asked(load_inputs(), evidence())
    assert asked(load_inputs(), paired_evidence())
    assert not asked(all_known(load_inputs()), evidence())


def test_a_leaning_to_adapting_rests_on_the_prices_of_adapting() -> None:
    free = [key for key in load_inputs().amounts if key.startswith("adapt.") and key != "adapt.errors_removed"]
    inputs = scaled(all_known(load_inputs()), 0.0, *free)
    inputs = replace(
        inputs,
        amounts={
            **inputs.amounts,
            "adapt.errors_removed": replace(inputs.amounts["adapt.errors_removed"], low=0.9, base=0.95, high=1.0),
        },
    )
    own = paired_evidence(diagnosis="neither")
    advice = run(inputs, own).advice
    assert advice.leaning == "adapt"
    assert advice.confidence == "moderate"
    assert "prices are assumed" in advice.confidence_reason
    keys = ("adapt.price_per_training_hour", "adapt.hosting_per_year")
    quoted = {key: replace(inputs.amounts[key], origin="quoted") for key in keys}
    assert run(replace(inputs, amounts={**inputs.amounts, **quoted}), own).advice.confidence == "high"


def test_a_claim_for_cifar10_is_not_set_against_another_public_data_set() -> None:
    analysis = run(given=evidence(dataset="CIFAR-100"))
    assert analysis.advice.answer == "measure first"
    assert analysis.verdict.outcome == "undecided"
    assert analysis.verdict.claim_images is None
    assert "cannot be set against it" in analysis.verdict.sentence
    assert any("is not set against ours" in one for one in analysis.assumptions)
    assert not any("more images" in one for one in analysis.advice.changes)
    assert len(analysis.comparisons) == 1
    values = {entry.id: entry.value for entry in analysis.ledger}
    assert values["verdict.p_value"] is None


def test_a_share_that_close_to_what_is_asked_for_is_told_so() -> None:
    assert _close_to(0.696, 10_000) == 0.7
    assert _close_to(0.75, 10_000) is None
    assert _close_to(0.896, 10_000) == 0.9
    assert _close_to(0.75, 100) == 0.7
    assert _chance(0.6996, 10_000) == "70.0\u00a0%"
    assert _chance(0.6944, 10_000) == "69.4\u00a0%"  # 69 % and not 70 %, nor the other way round
    assert _chance(0.766, 10_000) == "77\u00a0%"


def test_an_option_that_is_the_cheapest_more_often_is_named() -> None:
    analysis = run(replace(load_inputs(), status_quo="none"))
    chances = analysis.simulation.probability_cheapest_admissible
    assert analysis.advice.leaning == "build"
    assert chances["nothing"] > chances["build"]
    assert "doing nothing in" in analysis.advice.confidence_reason
    assert "costs more on average" in analysis.advice.confidence_reason
    assert "costs more on average" not in run().advice.confidence_reason


def test_costs_that_the_draws_do_not_tell_apart_are_told_so() -> None:
    inputs = load_inputs()
    fixed = {key: replace(a, low=a.base, high=a.base) for key, a in inputs.amounts.items()}
    free = {key: replace(fixed[key], low=0, base=0, high=0) for key in fixed if key.startswith("adapt.")}
    same = replace(inputs, amounts={**fixed, **free})  # adapting costs nothing and does nothing: it is buying
    reasons = run(same, evidence(5000, coverage=())).advice.reasons
    assert any("do not tell them apart" in reason for reason in reasons)
    assert not any("do not tell them apart" in reason for reason in run().advice.reasons)


def test_a_test_that_costs_more_than_knowing_is_worth_says_so() -> None:
    tiny = scaled(load_inputs(), 1e-4, "volume.images_per_month")
    analysis = run(tiny)
    assert analysis.advice.next_test.cost > analysis.simulation.value_of_knowing
    assert any("which is more" in reason for reason in analysis.advice.reasons)
    assert not any("which is more" in reason for reason in run().advice.reasons)


def test_building_is_not_praised_against_a_claim_it_does_not_beat() -> None:
    dear = scaled(all_known(load_inputs()), 100.0, "vendor.price_per_1000_images")
    advice = run(dear, evidence(6500, coverage=())).advice
    assert advice.answer == "build"
    assert "claim" not in advice.headline


def test_the_text_has_no_placeholder_and_no_unknown_number() -> None:
    for given in (evidence(), evidence(7000), evidence(5000, diagnosis="underfits"), evidence(coverage=())):
        advice = run(given=given).advice
        texts = [advice.headline, advice.confidence_reason, advice.next_test.sentence, advice.next_test.what]
        texts += [*advice.reasons, *advice.changes, *advice.conditions, *(figure.text for figure in advice.figures)]
        for text in texts:
            assert text[0].isupper() or text[0] in "+-0123456789"
            assert not any(bad in text for bad in ("nan", "None", "{", "}", "inf "))


def test_the_status_quo_without_sorting_is_another_question() -> None:
    inputs = replace(load_inputs(), status_quo="none")
    analysis = run(inputs)
    assert analysis.option("nothing").present_expenditure == 0
    assert "unsorted" in analysis.option("nothing").description


def test_a_model_that_is_measured_worse_is_not_called_undecided() -> None:
    headline = run(given=evidence(6000, diagnosis="underfits")).advice.headline
    assert headline.startswith("Measure first: our model is below the vendor's")
    assert "not settled" in run(given=evidence(7000)).advice.headline
