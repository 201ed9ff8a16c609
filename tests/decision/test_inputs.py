"""decision.yaml: defaults that are complete, and one clear line for whatever does not fit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from cifarlab.decision import default_yaml, load_inputs
from cifarlab.decision.inputs import inputs_from_text
from cifarlab.decision.options import Setting, used_keys
from cifarlab.errors import ConfigError

ALL = ("nothing", "buy", "adapt", "build", "hybrid")
MEASURED = {"ours.accuracy", "hybrid.coverage", "hybrid.kept_accuracy"}


def test_every_default_has_a_range_a_source_and_a_date() -> None:
    inputs = load_inputs()
    assert inputs.users == ()
    assert inputs.horizon_years == 3
    for amount in inputs.amounts.values():
        assert amount.low <= amount.base <= amount.high
        assert len(amount.source) > 10, amount.key
        assert len(amount.date) == 10, amount.key
        assert amount.origin in ("quoted", "assumed")
        assert not amount.users


def test_no_amount_is_asked_for_that_changes_nothing_and_none_is_missing() -> None:
    used = set()
    for status_quo in ("people", "none"):
        for option in ALL:
            used |= used_keys(option, Setting(status_quo=status_quo, options=ALL))
    assert used - MEASURED == set(load_inputs().amounts)


def test_the_vendors_price_is_never_passed_off_as_known() -> None:
    amounts = load_inputs().amounts
    for key in ("price_per_1000_images", "licence_per_year"):
        assert amounts[f"vendor.{key}"].origin == "assumed"
        assert "unknown" in amounts[f"vendor.{key}"].source


def test_the_default_file_read_as_the_users_changes_no_value() -> None:
    inputs, same = load_inputs(), inputs_from_text(default_yaml())
    assert {k: (a.low, a.base, a.high, a.unit, a.source, a.date) for k, a in inputs.amounts.items()} == {
        k: (a.low, a.base, a.high, a.unit, a.source, a.date) for k, a in same.amounts.items()
    }
    assert inputs.facts == same.facts
    assert all(amount.users for amount in same.amounts.values())


def test_a_partial_file_overrides_and_tells_what_is_the_users(tmp_path: Path) -> None:
    file = tmp_path / "decision.yaml"
    file.write_text(
        "horizon_years: 5\nvendor: {claim_images: 2000}\nrequirements: {minimum_accuracy: {limit: 0.9}}\n"
        "amounts:\n"
        "  vendor:\n"
        "    licence_per_year: 20000\n"
        "    price_per_1000_images: {low: 1, base: 2, high: 4, source: offer of May, date: 2026-05-02}\n"
    )
    inputs = load_inputs(file)
    assert set(inputs.users) == {
        "horizon_years",
        "vendor.claim_images",
        "requirements.minimum_accuracy.limit",
        "vendor.licence_per_year",
        "vendor.price_per_1000_images",
    }
    licence, price = inputs.amounts["vendor.licence_per_year"], inputs.amounts["vendor.price_per_1000_images"]
    assert (licence.low, licence.base, licence.high) == (20000, 20000, 20000)
    assert (licence.origin, licence.date) == ("assumed", "")
    assert "without a source" in licence.source
    assert (price.low, price.base, price.high, price.origin, price.date) == (1, 2, 4, "quoted", "2026-05-02")
    assert price.label == load_inputs().amounts["vendor.price_per_1000_images"].label
    assert inputs.facts["requirements.minimum_accuracy.must"] is True
    assert inputs.source == str(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("horizn_years: 3", ["horizn_years", "horizon_years"]),
        ("amounts: {vendr: {}}", ["amounts.vendr", "vendor"]),
        ("amounts: {vendor: {prise_per_1000_images: 1}}", ["amounts.vendor.prise", "price_per_1000_images"]),
        ("amounts: {vendor: {exit_days: {low: 1, base: 2, high: 3, unti: days}}}", ["exit_days.unti", "unit"]),
        ("vendor: {nam: x}", ["vendor.nam", "vendor.name"]),
        ("requirements: {latency_p99_ms: {must: perhaps}}", ["requirements.latency_p99_ms.must", "yes or no"]),
        ("amounts: {vendor: {exit_days: {base: 2}}}", ["amounts.vendor.exit_days.low", "missing"]),
        ("amounts: {vendor: {exit_days: {low: 5, base: 2, high: 9}}}", ["amounts.vendor.exit_days", "low <= base"]),
        ("amounts: {vendor: {exit_days: {low: 1, base: 9, high: 2}}}", ["amounts.vendor.exit_days", "<= high"]),
        ("amounts: {vendor: {exit_days: -1}}", ["amounts.vendor.exit_days", "not negative"]),
        ("amounts: {people: {days_per_year: 0}}", ["amounts.people.days_per_year", "above 0"]),
        ("amounts: {volume: {growth_per_year: -1}}", ["amounts.volume.growth_per_year", "above -1"]),
        ("amounts: {vendor: {accuracy: 70}}", ["amounts.vendor.accuracy", "70 % is 0.7"]),
        ("amounts: {vendor: {exit_days: {low: 1, base: 2, high: 3, unit: weeks}}}", ["exit_days.unit", "'days'"]),
        ("amounts: {vendor: {exit_days: .nan}}", ["amounts.vendor.exit_days.low", "finite"]),
        ("amounts: {vendor: {exit_days: .inf}}", ["amounts.vendor.exit_days.low", "finite"]),
        (f"amounts: {{vendor: {{exit_days: {10**400}}}}}", ["amounts.vendor.exit_days", "at most"]),
        ("amounts: {vendor: {licence_per_year: 1.0e+13}}", ["amounts.vendor.licence_per_year", "at most"]),
        ("amounts: {people: {days_per_year: 0.001}}", ["amounts.people.days_per_year", "between 1 and 366"]),
        ("amounts: {people: {days_per_year: 367}}", ["amounts.people.days_per_year", "between 1 and 366"]),
        ("amounts: {volume: {growth_per_year: 20}}", ["amounts.volume.growth_per_year", "20 % is 0.2"]),
        (f"vendor: {{claim_images: {10**400}}}", ["vendor.claim_images", "at most"]),
        (f"vendor: {{latency_p99_ms: {10**400}}}", ["vendor.latency_p99_ms", "at most"]),
        ("amounts: {vendor: {exit_days: 1e3}}", ["amounts.vendor.exit_days.low", "text"]),
        ("amounts: {vendor: {exit_days: true}}", ["amounts.vendor.exit_days.low", "number"]),
        ("amounts: {vendor: {exit_days: [1, 2, 3]}}", ["amounts.vendor.exit_days.low", "number"]),
        ("amounts: {vendor: {exit_days: {low: 1, base: 2, high: 3, date: May}}}", ["exit_days.date", "2026-11-21"]),
        ("amounts: {vendor: {exit_days: {low: 1, base: 2, high: 3, origin: known}}}", ["exit_days.origin", "quoted"]),
        ("amounts: {vendor: {exit_days: {low: 1, base: 2, high: 3, source: 7}}}", ["exit_days.source", "text"]),
        ("amounts: {vendor: {exit_days: {low: 1, base: 2, high: 3, origin: quoted}}}", ["exit_days.source", "missing"]),
        ("amounts: {vendor: {exit_days: {low: 1, base: 2, high: 3, origin: measured, source: ' '}}}", ["source"]),
        ("a: " + "[" * 5000, ["not YAML"]),
        ("currency: !!timestamp x", ["not YAML"]),
        ("currency: !!bool x", ["not YAML"]),
        ("currency: !!int ''", ["not YAML"]),
        ("amounts: 3", ["amounts", "keys and values"]),
        ("amounts: {vendor: 3}", ["amounts.vendor", "keys and values"]),
        ("vendor: null", ["vendor", "keys and values"]),
        ("vendor: {claim_images: 0}", ["vendor.claim_images", "above 0"]),
        ("vendor: {claim_images: 10.5}", ["vendor.claim_images", "count"]),
        ("vendor: {latency_p99_ms: .nan}", ["vendor.latency_p99_ms", "number"]),
        ("vendor: {name: ''}", ["vendor.name", "text"]),
        ("requirements: {minimum_accuracy: {limit: 90}}", ["requirements.minimum_accuracy.limit", "90 % is 0.9"]),
        ("horizon_years: 0", ["horizon_years", "1 to 10"]),
        ("horizon_years: 2.5", ["horizon_years", "whole"]),
        ("status_quo: sleep", ["status_quo", "people or none"]),
        ("format: 2", ["format", "newer"]),
        ("currency: ''", ["currency", "USD"]),
        ("currency: EUR", ["amounts.people.salary_per_year", "EUR"]),
        ("amounts: {vendor: {exit_days: 1, exit_days: 2}}", ["exit_days", "twice"]),
        ("mistake_weights: 3", ["mistake_weights", "classes"]),
        ("mistake_weights: {classes: [a, a], weights: [[0, 1], [1, 0]]}", ["mistake_weights.classes", "different"]),
        ("mistake_weights: {classes: [a, b], weights: [[0, 1]]}", ["mistake_weights.weights", "2 rows"]),
        ("mistake_weights: {classes: [a, b], weights: [[1, 1], [1, 0]]}", ["mistake_weights.weights", "diagonal"]),
        ("mistake_weights: {classes: [a, b], weights: [[0, -1], [1, 0]]}", ["mistake_weights.weights", "negative"]),
        ("[1, 2]", ["keys and values"]),
        ("a: b: c", ["YAML"]),
        ("a: [", ["YAML"]),
        ("amounts: {vendor: {exit_days: {low: 1, base: 2, high: 3, date: 2026-13-41}}}", []),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_key(tmp_path: Path, text: str, told: list[str]) -> None:
    file = tmp_path / "decision.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_inputs(file)
    message = str(caught.value)
    assert "\n" not in message
    assert str(file) in message
    for part in told:
        assert part in message


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_inputs(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_inputs(tmp_path / "bad.yaml")


def test_another_currency_is_taken_where_every_amount_of_money_is_given_in_it() -> None:
    default = yaml.safe_load(default_yaml())
    amounts = {
        section: {
            name: {**one, "unit": one["unit"].replace("USD", "EUR")}
            for name, one in entries.items()
            if one["unit"].startswith("USD")
        }
        for section, entries in default["amounts"].items()
    }
    text = yaml.safe_dump({"currency": "EUR", "amounts": {name: one for name, one in amounts.items() if one}})
    inputs = inputs_from_text(text)
    assert inputs.currency == "EUR"
    assert not any("USD" in amount.unit for amount in inputs.amounts.values())
    assert all(math.isfinite(amount.base) for amount in inputs.amounts.values())


def test_weights_of_mistakes_are_read() -> None:
    inputs = inputs_from_text("mistake_weights: {classes: [cat, dog], weights: [[0, 0.1], [2, 0]]}")
    assert inputs.mistake_classes == ("cat", "dog")
    assert inputs.mistake_weights == ((0, 0.1), (2, 0))
    assert inputs.users == ("mistake_weights",)
