"""Planning agrees with statsmodels, and says where its figures come from."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from statsmodels.stats.power import TTestIndPower
from tests.experiments.workers import tiny_spec

from cifarlab.commands.study import seconds_left
from cifarlab.errors import UsageError
from cifarlab.experiments.planning import PRIOR_SD, plan_study
from cifarlab.experiments.study import Arm, StudyRecord, StudyTrial


@pytest.fixture
def spec(tmp_path):
    return tiny_spec(tmp_path)


def trial(arm, seed, accuracy=None, seconds=10.0):
    if accuracy is None:
        return StudyTrial(arm, seed, "r", "waiting")
    clocks = {"wall_clock_seconds": seconds, "train_clock_seconds": 1.0}
    return StudyTrial(arm, seed, "r", "complete", {"val/accuracy": accuracy, "compute_pflop": 0.5, **clocks})


def power(plan, seeds):
    return TTestIndPower().power(plan.difference / plan.sd, seeds, 0.05)


def test_without_a_study_the_prior_is_assumed_and_costs_are_unknown(spec):
    plan = plan_study(spec, 0.002, record=None)
    assert plan.sd == PRIOR_SD
    assert "assumed" in plan.source
    assert power(plan, plan.seeds - 1) < 0.8 <= power(plan, plan.seeds)
    assert (plan.num_trials, plan.num_done) == (2 * plan.seeds, 0)
    assert math.isnan(plan.seconds)
    assert math.isnan(plan.pflop)
    assert math.isnan(plan.seconds_corrected)


def test_the_prior_is_what_studies_here_have_measured(spec):
    folder = Path(__file__).resolve().parents[2] / "docs" / "studies"
    studies = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/study.json")]
    measured = [study["pooled_sd"] for study in studies if study["val_images"] == 5000]
    assert len(measured) >= 4
    assert min(measured) - 0.001 < PRIOR_SD < max(measured)


def test_the_correction_has_its_own_total_and_cost(spec):
    arms = tuple(Arm(f"lr={rate}", {"optimizer.lr": rate}) for rate in (0.1, 0.2, 0.3))
    spec = dataclasses.replace(spec, arms=arms)
    trials = tuple(trial(arm.label, seed, 0.5 + 0.01 * seed) for seed in range(2) for arm in arms)
    plan = plan_study(spec, 0.01, record=StudyRecord(spec, trials))
    assert plan.seeds_corrected > plan.seeds
    assert plan.num_trials_corrected == 3 * plan.seeds_corrected
    assert plan.seconds_corrected == pytest.approx((3 * plan.seeds_corrected - 6) * 10.0)


def test_the_spread_within_arms_and_the_cost_of_a_trial_come_from_the_study(spec):
    # within arms the standard deviation is sqrt(2)/2 points; between them it does not count
    trials = (trial("relu", 0, 0.70), trial("tanh", 0, 0.50), trial("relu", 1, 0.71), trial("tanh", 1, 0.51, 30.0))
    plan = plan_study(spec, 0.01, record=StudyRecord(spec, trials))
    assert plan.sd == pytest.approx(0.01 / math.sqrt(2))
    assert power(plan, plan.seeds - 1) < 0.8 <= power(plan, plan.seeds)
    missing = 2 * plan.seeds - 4
    assert (plan.seconds, plan.pflop) == (pytest.approx(missing * 15.0), pytest.approx(missing * 0.5))
    assert plan_study(spec, 0.01, record=StudyRecord(spec, trials), sd=0.02).sd == 0.02


def test_more_arms_take_more_seeds_for_every_pair_is_corrected_for_all(spec):
    """At worst by Bonferroni's factor; twice that in a grid, whose fields have the other half of the 5 %."""
    assert plan_study(spec, 0.002, record=None).seeds_corrected == plan_study(spec, 0.002, record=None).seeds

    def check(arms, times):
        plan = plan_study(dataclasses.replace(spec, arms=arms), 0.002, record=None)
        assert plan.seeds == plan_study(spec, 0.002, record=None).seeds
        effect, seeds = plan.difference / plan.sd, plan.seeds_corrected
        power = TTestIndPower().power
        assert power(effect, seeds - 1, 0.05 / times) < 0.8 <= power(effect, seeds, 0.05 / times)

    rates = (0.1, 0.2, 0.3, 0.4)
    check(tuple(Arm(f"lr={rate}", {"optimizer.lr": rate}) for rate in rates), 6)
    fields = [{"optimizer.lr": rate, "train.ema": ema} for rate in rates[:2] for ema in (0.0, 0.9)]
    check(tuple(Arm(str(one), one) for one in fields), 12)


def test_seeds_beyond_the_plan_do_not_pay_for_it(spec):
    trials = tuple(trial(arm, seed, 0.5 + 0.001 * seed) for seed in range(9) for arm in ("relu", "tanh"))
    plan = plan_study(spec, 0.5, record=StudyRecord(spec, trials), sd=0.05)
    assert plan.seeds < 9
    assert plan.num_done == plan.num_trials
    assert plan.seconds == 0


@pytest.mark.parametrize(("difference", "sd"), [(0, None), (1.5, None), (0.01, 0.0), (0.01, -1)])
def test_what_is_no_fraction_is_refused(spec, difference, sd):
    with pytest.raises(UsageError, match="is a fraction"):
        plan_study(spec, difference, record=None, sd=sd)


def test_time_left_is_that_of_each_arm_shared_among_the_workers(spec):
    trials = (trial("relu", 0, 0.7, 10.0), trial("tanh", 0, 0.5, 30.0), trial("relu", 1), trial("tanh", 1))
    assert seconds_left(StudyRecord(spec, trials), num_workers=2) == pytest.approx(20.0)
    first = (trial("relu", 0, 0.7, 10.0), trial("tanh", 0), trial("relu", 1), trial("tanh", 1))
    assert seconds_left(StudyRecord(spec, first), num_workers=1) == pytest.approx(30.0)
    assert math.isnan(seconds_left(StudyRecord(spec, first[1:]), num_workers=1))
