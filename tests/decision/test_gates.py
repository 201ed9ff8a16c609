"""Requirements: met, failed, or told as unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.decision.made import all_known, evidence, with_facts

from cifarlab.decision import CoveragePoint, Evidence, Gate, load_inputs
from cifarlab.decision.analysis import _best_accuracy, prepare
from cifarlab.decision.gates import judge_gates, rejected, unknown
from cifarlab.decision.inputs import DecisionInputs, inputs_from_text
from cifarlab.decision.options import Setting
from cifarlab.stats import wilson_interval

OPTIONS = ("nothing", "buy", "adapt", "build", "hybrid")


def states(inputs: DecisionInputs, name: str, **given: object) -> dict[str, str]:
    best = dict.fromkeys(OPTIONS, 0.9)
    gates = judge_gates(inputs, evidence(**given), Setting(options=OPTIONS), best)
    return {gate.option: gate.state for gate in gates if gate.name == name}


def test_by_default_what_nobody_knows_is_unknown() -> None:
    inputs = load_inputs()
    assert states(inputs, "privacy")["buy"] == "unknown"
    assert states(inputs, "privacy")["build"] == "met"
    assert set(states(inputs, "licence").values()) == {"unknown"}
    assert states(inputs, "latency", latency_p99_ms=None)["build"] == "unknown"
    assert states(inputs, "accuracy") == {}


def test_where_everything_is_known_and_good_all_models_pass() -> None:
    inputs = all_known(load_inputs())
    for name in ("latency", "privacy", "licence"):
        found = states(inputs, name)
        assert {found[option] for option in ("buy", "adapt", "build", "hybrid")} == {"met"}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (100.0, 100.0, {"build": "met", "buy": "met", "hybrid": "met"}),
        (300.0, 100.0, {"build": "failed", "buy": "met", "hybrid": "failed"}),
        (100.0, 300.0, {"build": "met", "buy": "failed", "hybrid": "failed"}),
        (100.0, None, {"build": "met", "buy": "unknown", "hybrid": "unknown"}),
        (300.0, None, {"build": "failed", "buy": "unknown", "hybrid": "failed"}),
        (150.0, 150.0, {"build": "met", "buy": "met", "hybrid": "unknown"}),
    ],
)
def test_the_hybrid_asks_one_half_after_the_other(ours: float, theirs: float | None, expected: dict[str, str]) -> None:
    inputs = with_facts(load_inputs(), vendor__latency_p99_ms=theirs)
    found = states(inputs, "latency", latency_p99_ms=ours)
    assert {option: found[option] for option in expected} == expected
    assert found["nothing"] == "failed"


@pytest.mark.parametrize(
    ("allowed", "leaves", "expected"),
    [
        (True, True, "met"),
        (False, True, "failed"),
        (None, True, "unknown"),
        (True, None, "met"),
        (False, None, "unknown"),
        (None, None, "unknown"),
        (True, False, "met"),
        (False, False, "met"),
        (None, False, "met"),
    ],
)
def test_images_that_leave_need_leave(allowed: bool | None, leaves: bool | None, expected: str) -> None:
    inputs = with_facts(load_inputs(), requirements__images_may_leave__allowed=allowed, vendor__images_leave=leaves)
    found = states(inputs, "privacy")
    assert {found[option] for option in ("buy", "adapt", "hybrid")} == {expected}
    assert found["build"] == "met"


def test_an_accuracy_is_met_only_where_it_was_measured_on_own_images() -> None:
    inputs = with_facts(load_inputs(), requirements__minimum_accuracy__limit=0.85)
    assert states(inputs, "accuracy")["build"] == "unknown"
    assert states(inputs, "accuracy", own_images=True)["build"] == "met"
    assert states(inputs, "accuracy", correct=8000, own_images=True)["build"] == "failed"
    assert states(inputs, "accuracy", correct=8500, own_images=True)["build"] == "unknown"
    impossible = with_facts(load_inputs(), requirements__minimum_accuracy__limit=0.95)
    assert states(impossible, "accuracy")["buy"] == "failed"


def test_predictions_of_the_vendor_on_own_images_are_a_measurement() -> None:
    def found(limit: float, **given: object) -> str:
        inputs = with_facts(load_inputs(), requirements__minimum_accuracy__limit=limit)
        return states(inputs, "accuracy", **given)["buy"]

    assert found(0.65, own_images=True, vendor_correct=7000) == "met"
    assert found(0.75, own_images=True, vendor_correct=7000) == "failed"
    assert found(0.70, own_images=True, vendor_correct=7000) == "unknown"
    assert found(0.65, vendor_correct=7000) == "unknown"


def test_only_requirements_that_must_be_met_reject_an_option() -> None:
    def gate(state: str, *, must: bool) -> Gate:
        return Gate("latency", "buy", must, state, f"{state} {must}")  # type: ignore[arg-type]

    gates = (gate("failed", must=True), gate("failed", must=False), gate("unknown", must=True), gate("met", must=True))
    assert rejected(gates, "buy") == ("failed True",)
    assert unknown(gates, "buy") == ("unknown True",)
    assert rejected(gates, "build") == ()


def test_a_licence_that_forbids_the_use_rejects() -> None:
    inputs = with_facts(all_known(load_inputs()), ours__licence_allows_use=False)
    assert states(inputs, "licence") == {"buy": "met", "adapt": "met", "build": "failed", "hybrid": "failed"}


def test_how_long_people_take_is_unknown_beyond_a_second() -> None:
    def nothing(limit: float, status_quo: str = "people") -> str:
        inputs = with_facts(load_inputs(), requirements__latency_p99_ms__limit=limit)
        return states(replace(inputs, status_quo=status_quo), "latency")["nothing"]  # type: ignore[arg-type]

    assert nothing(200.0) == "failed"
    assert nothing(60_000.0) == "unknown"
    assert nothing(60_000.0, "none") == "failed"


def test_a_hybrid_fails_a_least_accuracy_only_where_no_share_of_the_vendor_reaches_it() -> None:
    low, high = wilson_interval(60, 100)
    point = CoveragePoint(0.5, 0.5, 0.6, 100, (low, high))
    text = "amounts: {vendor: {accuracy: 0.99}, hybrid: {vendor_on_hard: 1.0}, transfer: {points_lost: 0}}"
    setting, amounts, _, _ = prepare(inputs_from_text(text), Evidence(100, 200, coverage=(point,)))
    coverage = amounts["hybrid.coverage"]
    best = coverage.low * high + (1 - coverage.low) * 0.99
    assert _best_accuracy("hybrid", amounts, setting) == pytest.approx(best)
    assert best > coverage.high * high + (1 - coverage.high) * 0.99
