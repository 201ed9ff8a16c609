"""The spreadsheet against Python, computed by an evaluator of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.decision.made import evidence, paired_evidence, with_facts
from tests.decision.sheets import Book

from cifarlab.decision import Analysis, Evidence, analyse, load_inputs, workbook_bytes
from cifarlab.decision.analysis import prepare
from cifarlab.decision.breakeven import break_even
from cifarlab.decision.costs import present_cost
from cifarlab.decision.inputs import DecisionInputs, inputs_from_text

pytest.importorskip("xlsxwriter")
CENT = 0.005
ROWS = {"Do nothing": "nothing", "Buy": "buy", "Buy and adapt": "adapt", "Build": "build", "Hybrid": "hybrid"}
VARIANTS = ("hybrid", "no hybrid", "nobody sorts", "own images", "both on own images", "five years", "one year")


def made(inputs: DecisionInputs, given: Evidence) -> tuple[Book, Analysis]:
    analysis = analyse(inputs, given, draws=50)
    return Book(workbook_bytes(inputs, given, analysis)), analysis


def costs(book: Book) -> dict[str, tuple[float, float, float]]:
    found = {}
    for label, key in ROWS.items():
        for row in book.find("Result", label):
            found[key] = tuple(float(book.value("Result", f"{column}{row}")) for column in "BCD")
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("scenario", ["low", "base", "high"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_present_costs_agree_to_the_cent(variant: str, scenario: str) -> None:
    inputs, given = load_inputs(), evidence()
    if variant == "no hybrid":
        given = evidence(coverage=())
    elif variant == "nobody sorts":
        inputs = replace(inputs, status_quo="none")
    elif variant == "own images":
        given = evidence(own_images=True, seed_accuracies=(0.93, 0.94, 0.95))
    elif variant == "both on own images":
        given = paired_evidence()
    elif variant == "five years":
        inputs = replace(inputs, horizon_years=5)
    elif variant == "one year":
        inputs = replace(inputs, horizon_years=1)
    book, _ = made(inputs, given)
    book.change("Inputs", "B3", {"low": 1, "base": 2, "high": 3}[scenario])
    setting, amounts, _, _ = prepare(inputs, given)
    values = {key: getattr(amount, scenario) for key, amount in amounts.items()}
    found = costs(book)
    assert set(found) == set(setting.options)
    for option in setting.options:
        paid, errors, together = found[option]
        expected = float(present_cost(option, values, setting))
        assert together == pytest.approx(expected, abs=CENT)
        assert paid == pytest.approx(float(present_cost(option, values, setting, errors=False)), abs=CENT)
        assert errors == pytest.approx(expected - float(present_cost(option, values, setting, errors=False)), abs=CENT)


@pytest.mark.parametrize("scenario", ["low", "base", "high"])
def test_break_even_volumes_agree(scenario: str) -> None:
    book, analysis = made(load_inputs(), evidence())
    book.change("Inputs", "B3", {"low": 1, "base": 2, "high": 3}[scenario])
    setting, amounts, _, _ = prepare(load_inputs(), evidence())
    values = {key: getattr(amount, scenario) for key, amount in amounts.items()}
    (head,) = book.find("Result", "break-even volume, images a month")
    for row, even in enumerate(analysis.break_evens, start=head + 1):
        expected = break_even(even.first, even.second, values, setting, errors=even.with_errors).volume
        found = book.value("Result", f"D{row}")
        if expected is None:
            assert found == "none"
        else:
            assert found == pytest.approx(expected, abs=CENT)


def test_an_own_value_takes_the_place_of_the_scenarios() -> None:
    book, _ = made(load_inputs(), evidence())
    (row,) = book.find("Inputs", "vendor.licence_per_year")
    book.change("Inputs", f"F{row}", 99_000.0)
    setting, amounts, _, _ = prepare(load_inputs(), evidence())
    values = {key: amount.base for key, amount in amounts.items()} | {"vendor.licence_per_year": 99_000.0}
    assert costs(book)["buy"][2] == pytest.approx(float(present_cost("buy", values, setting)), abs=CENT)


def test_what_is_stored_is_what_the_formulas_give() -> None:
    """A program that shows the file without computing it shows the right figures."""
    book, _ = made(load_inputs(), evidence())
    assert len(book.formulas) > 150
    for sheet, cell in book.formulas:
        stored, found = book.stored.get((sheet, cell), ""), book.value(sheet, cell)
        if isinstance(found, str):
            assert stored == found, (sheet, cell)
        else:
            assert stored == pytest.approx(found, rel=1e-9, abs=1e-6), (sheet, cell)


def test_the_cheapest_is_marked() -> None:
    book, analysis = made(load_inputs(), evidence())
    least = min(analysis.options, key=lambda option: option.present_cost)
    marked = [label for label in ROWS for row in book.find("Result", label) if book.value("Result", f"E{row}")]
    assert marked == [least.label]


def test_an_option_that_may_not_be_chosen_is_marked() -> None:
    inputs = with_facts(load_inputs(), ours__licence_allows_use=False)
    book, analysis = made(inputs, evidence())
    for option in analysis.options:
        (row,) = (row for label, key in ROWS.items() if key == option.key for row in book.find("Result", label))
        assert bool(book.value("Result", f"F{row}")) == bool(option.rejected) == (option.key in ("build", "hybrid"))


def test_equal_figures_give_equal_bytes() -> None:
    analysis = analyse(load_inputs(), evidence(), draws=50)
    one, other = (workbook_bytes(load_inputs(), evidence(), analysis) for _ in range(2))
    assert one == other


def test_a_users_text_never_becomes_a_formula() -> None:
    text = "amounts: {vendor: {exit_days: {low: 1, base: 2, high: 3, label: '=1+1', source: '=HYPERLINK(0)'}}}"
    book, _ = made(inputs_from_text(text), evidence())
    (row,) = book.find("Inputs", "vendor.exit_days")
    assert book.stored["Inputs", f"B{row}"] == "=1+1"
    assert book.stored["Inputs", f"J{row}"] == "=HYPERLINK(0)"
    assert ("Inputs", f"B{row}") not in book.formulas
