"""Whatever decision.yaml and evidence allow gives an answer in words, a ledger and a spreadsheet."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.decision.sheets import Book

from cifarlab.decision import Amount, CoveragePoint, Evidence, analyse, ledger_json, load_inputs, workbook_bytes
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.differences import compare_paired
from cifarlab.stats import wilson_interval


def random_amount(amount: Amount, rng: np.random.Generator) -> Amount:
    """Return an amount moved, widened or narrowed to a point, within what may be given."""
    factor = rng.choice([0.0, 1.0, float(10 ** rng.uniform(-3, 3)), float(rng.uniform(0.2, 3))])
    if amount.key in ("people.days_per_year", "people.overhead_factor"):
        factor = max(factor, 0.1)
    low, base, high = (float(factor * end) for end in (amount.low, amount.base, amount.high))
    if amount.unit == "share":
        low, base, high = (min(1.0, end) for end in (low, base, high))
    if amount.key == "vendor.accuracy":
        base = min(max(base, 0.001), 0.999)
        low, high = min(low, base), max(high, base)
    if rng.random() < 0.2:
        low = high = base
    return replace(amount, low=low, base=base, high=high)


def random_inputs(rng: np.random.Generator) -> DecisionInputs:
    inputs = load_inputs()
    facts: dict[str, Any] = dict(inputs.facts)
    for name in facts:
        if name == "vendor.claim_images":
            facts[name] = [None, 1, 50, 10_000][rng.integers(4)]
        elif name.endswith(("must", "needed")):
            facts[name] = bool(rng.integers(2))
        elif name.endswith(("limit", "latency_p99_ms")):
            facts[name] = [None, 0.5, 0.9, 100.0][rng.integers(3 if "accuracy" in name else 4)]
        elif name != "vendor.name":
            facts[name] = [None, True, False][rng.integers(3)]
    amounts = {key: random_amount(amount, rng) for key, amount in inputs.amounts.items()}
    status_quo = ["people", "none"][rng.integers(2)]
    years = int(rng.integers(1, 11))
    return replace(inputs, amounts=amounts, facts=facts, status_quo=status_quo, horizon_years=years)  # type: ignore[arg-type]


def random_evidence(rng: np.random.Generator) -> Evidence:
    total = int(rng.choice([1, 2, 50, 10_000]))
    correct = int(rng.choice([0, total, rng.integers(0, total + 1)]))
    coverage = []
    for threshold in sorted(rng.random(rng.integers(0, 4))):
        kept = int(rng.integers(1, 100))
        right = int(rng.integers(0, kept + 1))
        share = float(rng.choice([1.0, kept / 100]))
        coverage.append(CoveragePoint(float(threshold), share, right / kept, kept, wilson_interval(right, kept)))
    theirs = rng.random(total) < 0.7
    given: dict[str, Any] = {"paired": None, "vendor_correct": None}
    if rng.random() < 0.4:
        given = {"paired": compare_paired(np.arange(total) < correct, theirs), "vendor_correct": int(theirs.sum())}
    return Evidence(
        correct,
        total,
        own_images=bool(rng.integers(2)),
        seed_accuracies=tuple(rng.random(rng.integers(0, 4)).tolist()),
        diagnosis=["neither", "unknown"][rng.integers(2)],
        coverage=tuple(coverage),
        latency_p99_ms=[None, 5.0, 300.0][rng.integers(3)],
        **given,
    )


@pytest.mark.parametrize("seed", range(25))
def test_any_input_gives_an_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, given = random_inputs(rng), random_evidence(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        analysis = analyse(inputs, given, draws=40)
    advice = analysis.advice
    assert len(advice.figures) == 3
    assert (advice.leaning is None) == all(option.rejected for option in analysis.options)
    assert advice.answer in (advice.leaning, "measure first")
    texts = [advice.headline, advice.confidence_reason, advice.next_test.sentence]
    texts += [*advice.reasons, *advice.changes, *advice.conditions, *(figure.text for figure in advice.figures)]
    for text in texts:
        assert not any(bad in text for bad in ("nan", "None", "inf "))
    entries = {entry["id"]: entry for entry in json.loads(ledger_json(analysis.ledger))["entries"]}
    assert {figure.entry for figure in advice.figures} <= set(entries)
    book = Book(workbook_bytes(inputs, given, analysis))
    for row, option in enumerate(analysis.options, start=5):
        cost = entries[f"option.{option.key}.present_cost"]["value"]
        assert book.value("Result", f"D{row}") == pytest.approx(cost, abs=0.005, rel=1e-9)
