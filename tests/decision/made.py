"""Evidence and worlds made up for the tests of the decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cifarlab.decision import Amount, CoveragePoint, Evidence, load_inputs
from cifarlab.decision.analysis import base_values, prepare
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.decision.options import Setting
from cifarlab.differences import compare_paired
from cifarlab.stats import wilson_interval

FACTS_KNOWN = {
    "vendor.latency_p99_ms": 50.0,
    "vendor.licence_allows_use": True,
    "ours.licence_allows_use": True,
    "requirements.images_may_leave.allowed": True,
}


def curve(total: int = 5000) -> tuple[CoveragePoint, ...]:
    """Return a coverage curve such as a good model has."""
    points = []
    for threshold, share, accuracy in ((0.0, 1.0, 0.94), (0.8, 0.92, 0.975), (0.95, 0.8, 0.99), (0.99, 0.6, 0.998)):
        kept = round(share * total)
        points.append(CoveragePoint(threshold, share, accuracy, kept, wilson_interval(round(accuracy * kept), kept)))
    return tuple(points)


def evidence(correct: int = 9400, total: int = 10_000, **changes: object) -> Evidence:
    """Return evidence of one run; with a coverage curve unless told otherwise."""
    given = {"coverage": curve(), "diagnosis": "neither", "date": "2026-11-21", "latency_p99_ms": 20.0, **changes}
    return Evidence(correct, total, **given)  # type: ignore[arg-type]


def with_facts(inputs: DecisionInputs, **facts: object) -> DecisionInputs:
    """Return inputs with facts changed; double underscores stand for dots."""
    changed = {name.replace("__", "."): value for name, value in facts.items()}
    assert set(changed) <= set(inputs.facts)
    return replace(inputs, facts={**inputs.facts, **changed})


def all_known(inputs: DecisionInputs) -> DecisionInputs:
    """Return inputs in which every requirement is known to be met, and the vendor has made an offer."""
    offered = {
        key: replace(amount, origin="quoted") for key, amount in inputs.amounts.items() if key.startswith("vendor.")
    }
    return replace(inputs, facts={**inputs.facts, **FACTS_KNOWN}, amounts={**inputs.amounts, **offered})


def scaled(inputs: DecisionInputs, factor: float, *keys: str) -> DecisionInputs:
    """Return inputs with low, base and high of some amounts multiplied."""
    amounts = dict(inputs.amounts)
    for key in keys:
        one = amounts[key]
        amounts[key] = replace(one, low=factor * one.low, base=factor * one.base, high=factor * one.high)
    return replace(inputs, amounts=amounts)


def world(given: Evidence | None = None) -> tuple[dict[str, Amount], Setting, dict[str, float]]:
    """Return the default amounts with the measured ones, the setting, and base values."""
    setting, amounts, _, _ = prepare(load_inputs(), given or evidence())
    return amounts, setting, base_values(amounts)


def paired_evidence(only_ours: int = 2500, only_theirs: int = 100, **changes: object) -> Evidence:
    """Return evidence on 10,000 own images with the vendor's predictions on the same; 6,900 both have right."""
    both = 6900
    neither = 10_000 - both - only_ours - only_theirs
    counts = [both, only_ours, only_theirs, neither]
    ours, theirs = np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)
    paired = compare_paired(ours, theirs)
    given = {"own_images": True, "paired": paired, "vendor_correct": both + only_theirs, **changes}
    return evidence(both + only_ours, 10_000, **given)
