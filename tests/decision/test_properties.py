"""Which way an answer may move: for any world, a dearer option never gains and a better one never loses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.decision.made import all_known, evidence, scaled
from tests.decision.test_any_input import random_evidence, random_inputs

from cifarlab.decision import Analysis, Evidence, analyse, load_inputs
from cifarlab.decision.analysis import base_values, prepare
from cifarlab.decision.costs import present_costs
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.decision.options import Setting

SEEDS = range(40)
OWN = ("build.", "serving.", "operation.", "retraining.")
VENDOR = ("vendor.price_per_1000_images", "vendor.licence_per_year", "vendor.integration_days", "vendor.exit_days")
MODELS = ("buy", "adapt", "build")


def random_base(seed: int) -> tuple[dict[str, float], Setting]:
    """Return base values of random inputs and random evidence."""
    rng = np.random.default_rng(seed)
    inputs, given = random_inputs(rng), random_evidence(rng)
    setting, amounts, _, _ = prepare(inputs, given)
    return base_values(amounts), setting


def margin(values: dict[str, float], setting: Setting, option: str) -> float:
    """Return how much more an option costs than the cheapest of the others."""
    costs = {key: float(cost) for key, cost in present_costs(values, setting).items()}
    return costs[option] - min(cost for key, cost in costs.items() if key != option)


@pytest.mark.parametrize("seed", SEEDS)
def test_dearer_building_never_makes_building_more_attractive(seed: int) -> None:
    values, setting = random_base(seed)
    rng = np.random.default_rng(1000 + seed)
    own = [key for key in values if key.startswith(OWN)]
    dearer = {**values, **{key: values[key] * (1 + 3 * rng.random()) for key in own}}
    against_vendor = [
        float(costs["build"] - min(costs["buy"], costs["adapt"], costs["nothing"]))
        for costs in (present_costs(one, setting) for one in (values, dearer))
    ]
    assert against_vendor[1] >= against_vendor[0] - 1e-9 * abs(against_vendor[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dearer_vendor_never_makes_buying_more_attractive(seed: int) -> None:
    values, setting = random_base(seed)
    rng = np.random.default_rng(2000 + seed)
    dearer = {**values, **{key: values[key] * (1 + 3 * rng.random()) for key in VENDOR}}
    for other in ("build", "nothing"):
        gaps = [
            float(costs["buy"] - costs[other]) for costs in (present_costs(one, setting) for one in (values, dearer))
        ]
        assert gaps[1] >= gaps[0] - 1e-9 * abs(gaps[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_more_accuracy_of_ours_never_makes_building_less_attractive(seed: int) -> None:
    values, setting = random_base(seed)
    better = {**values, "ours.accuracy": values["ours.accuracy"] + 0.5 * (1 - values["ours.accuracy"])}
    assert margin(better, setting, "build") <= margin(values, setting, "build") + 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_dearer_mistakes_never_favour_the_less_accurate(seed: int) -> None:
    values, setting = random_base(seed)
    accuracy = {"buy": 0.3, "adapt": 0.3, "build": 0.9}
    values = {**values, "vendor.accuracy": 0.3, "adapt.errors_removed": 0.0, "ours.accuracy": 0.9}
    values["transfer.points_lost"] = 0.0
    dearer = {**values, "errors.cost_per_wrong_answer": 3 * values["errors.cost_per_wrong_answer"] + 0.01}
    costs, dear = present_costs(values, setting), present_costs(dearer, setting)
    for worse in MODELS:
        for better in MODELS:
            if accuracy[worse] < accuracy[better]:
                gap, dear_gap = costs[worse] - costs[better], dear[worse] - dear[better]
                assert dear_gap >= gap - 1e-9 * abs(gap)


def leaning(inputs: DecisionInputs, given: Evidence | None = None, **how: int) -> Analysis:
    return analyse(inputs, given or evidence(coverage=()), **{"draws": 400, **how})


@pytest.mark.parametrize("seed", range(12))
def test_the_leaning_of_random_inputs_moves_no_wrong_way(seed: int) -> None:
    rng = np.random.default_rng(3000 + seed)
    inputs = random_inputs(rng)
    own = [key for key in inputs.amounts if key.startswith(OWN)]
    ranks = [leaning(scaled(inputs, factor, *own)).advice.leaning == "build" for factor in (0.1, 1.0, 10.0)]
    assert ranks == sorted(ranks, reverse=True)
    accuracies = [leaning(inputs, evidence(c, coverage=())).advice.leaning == "build" for c in (2000, 7000, 9900)]
    assert accuracies == sorted(accuracies)


def test_a_leaning_that_leads_by_far_is_that_of_every_seed() -> None:
    sure = scaled(all_known(load_inputs()), 0.05, "build.days", "operation.days_per_year")
    advice = [leaning(sure, seed=seed, draws=2000).advice for seed in range(8)]
    assert {one.leaning for one in advice} == {"build"}
    assert len({one.confidence for one in advice}) == 1


def test_all_options_are_judged_in_the_same_world() -> None:
    """Adapting that costs nothing and changes nothing is buying, in each draw."""
    inputs = load_inputs()
    free = scaled(inputs, 0.0, *(key for key in inputs.amounts if key.startswith("adapt.")))
    costs_SO = leaning(free).simulation.costs_SO
    options = leaning(free).simulation.options
    assert costs_SO[:, options.index("buy")] == pytest.approx(costs_SO[:, options.index("adapt")], rel=1e-12)


def test_a_wider_range_above_never_lowers_the_expected_cost() -> None:
    inputs = load_inputs()
    days = inputs.amounts["build.days"]
    means = []
    for high in (60.0, 100.0, 300.0, 2000.0):
        wider = replace(inputs, amounts={**inputs.amounts, "build.days": replace(days, high=high)})
        simulation = leaning(wider, draws=4000).simulation
        means.append(simulation.mean_O[simulation.options.index("build")])
    assert means == sorted(means)


PROGRAM = """
import hashlib, sys
sys.path.insert(0, ".")
from tests.decision.made import evidence
from cifarlab.decision import analyse, ledger_json, load_inputs, workbook_bytes
inputs, given = load_inputs(), evidence()
analysis = analyse(inputs, given, draws=200)
print(hashlib.sha256(ledger_json(analysis.ledger).encode() + workbook_bytes(inputs, given, analysis)).hexdigest())
"""


def test_every_process_writes_the_same_bytes() -> None:
    pytest.importorskip("xlsxwriter")
    digests = set()
    for seed in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1
