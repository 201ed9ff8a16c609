"""Selective prediction: curves by loops, areas by their definition, and thresholds that keep their promise."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from scipy.special import softmax
from tests.evaluation.answers import calibrated_answers, random_answers, subject

from cifarlab.evaluation import selective
from cifarlab.stats import clopper_pearson_interval


def surest(num_images: int, seed: int, lowest: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, uniform from ``lowest`` to 1, and answers that are right exactly so often."""
    generator = np.random.default_rng(seed)
    confidence_N = generator.uniform(lowest, 1, num_images)
    return confidence_N, generator.random(num_images) < confidence_N


@pytest.mark.parametrize("rounded", [False, True])
def test_every_point_of_the_curve_is_what_its_threshold_keeps(rounded: bool) -> None:
    logits_NK, labels_N = random_answers(730, 5, skill=1.0)
    if rounded:
        logits_NK = logits_NK.round()
    figures = selective.selective_section(subject((logits_NK, labels_N))).figures
    confidence_N, right_N = softmax(logits_NK, axis=1).max(1), logits_NK.argmax(1) == labels_N
    for point in figures["curve"]:
        kept_N = confidence_N >= point["threshold"]
        assert point["num_images"] == kept_N.sum()
        assert point["coverage"] == kept_N.mean()
        assert point["num_right"] == right_N[kept_N].sum()
        assert point["accuracy"] == right_N[kept_N].mean()
        assert point["interval"][0] <= point["accuracy"] <= point["interval"][1]
    coverages = [point["coverage"] for point in figures["curve"]]
    assert coverages == sorted(set(coverages))
    assert coverages[-1] == 1
    assert figures["curve"][-1]["accuracy"] == figures["accuracy"]["value"]
    assert [row["wanted"] for row in figures["coverages"]] == [1, 0.95, 0.9, 0.8, 0.7, 0.5]
    for row in figures["coverages"]:
        assert row["coverage"] >= row["wanted"]
        if not rounded:
            assert row["num_images"] == int(np.ceil(730 * row["wanted"]))


def test_areas_are_means_over_all_orders_of_equals() -> None:
    confidence_N = np.array([0.9, 0.8, 0.8, 0.8, 0.6])
    right_N = np.array([True, False, True, True, False])
    risks = []
    for middle in permutations([1, 2, 3]):
        order = [0, *middle, 4]
        risks.append(np.mean([np.mean(~right_N[order[:n]]) for n in range(1, 6)]))
    found = selective.risk_areas(selective.kept_by_threshold(confidence_N, right_N))
    assert found["aurc"] == pytest.approx(np.mean(risks))
    assert found["aurc_best"] == pytest.approx(np.mean([0, 0, 0, 1 / 4, 2 / 5]))
    assert found["excess_aurc"] == pytest.approx(found["aurc"] - found["aurc_best"])


@pytest.mark.parametrize("seed", range(5))
def test_a_faultless_confidence_has_no_excess_and_a_useless_one_the_risk_of_all(seed: int) -> None:
    right_N = np.random.default_rng(seed).random(400) < 0.8
    best = selective.risk_areas(selective.kept_by_threshold(right_N + 0.1, right_N))
    # a tie among all wrong answers changes nothing, for any order of them is the same
    assert best["excess_aurc"] == pytest.approx(0, abs=1e-12)
    flat = selective.risk_areas(selective.kept_by_threshold(np.full(400, 0.5), right_N))
    assert flat["aurc"] == pytest.approx(1 - right_N.mean())
    worst = selective.risk_areas(selective.kept_by_threshold(1.1 - right_N, right_N))
    assert worst["aurc"] > flat["aurc"] > best["aurc"]


def naive_choice(confidence_N: np.ndarray, right_N: np.ndarray, wanted: float) -> float | None:
    """The same rule image by image, with the bound itself; without ties."""
    order = np.argsort(-confidence_N)
    best = 0
    for start in (0.2, 0.4, 0.6, 0.8, 1.0):
        count = int(np.ceil(start * len(order) - 1e-9))
        while count <= len(order):
            bound, _ = clopper_pearson_interval(int(right_N[order[:count]].sum()), count, 0.98)
            if bound < wanted:
                break
            best = max(best, count)
            count += 1
    return float(confidence_N[order[best - 1]]) if best else None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("wanted", [0.8, 0.9, 0.97])
def test_the_threshold_is_that_of_the_rule_step_by_step(seed: int, wanted: float) -> None:
    confidence_N, right_N = surest(400, seed)
    chosen = selective.choose_threshold(confidence_N, right_N, wanted)
    expected = naive_choice(confidence_N, right_N, wanted)
    found = None if chosen is None else selective.kept_by_threshold(confidence_N, right_N)[0][chosen]
    assert found == expected


def test_the_threshold_keeps_its_promise_in_95_of_100_choices() -> None:
    broken = chosen = 0
    for seed in range(400):
        position = selective.choose_threshold(*surest(2000, seed), 0.9)
        if position is None:
            continue
        chosen += 1
        threshold = selective.kept_by_threshold(*surest(2000, seed))[0][position]
        broken += (threshold + 1) / 2 < 0.9  # of confidences uniform above it, the mean is what is right
    assert chosen > 300
    assert broken / 400 <= 0.05


def test_a_dearer_wish_never_lowers_the_threshold() -> None:
    confidence_N, right_N = surest(3000, 1)
    groups = selective.kept_by_threshold(confidence_N, right_N)
    positions = [selective.choose_threshold(confidence_N, right_N, wanted) for wanted in (0.6, 0.7, 0.8, 0.9)]
    thresholds = [groups[0][position] for position in positions if position is not None]
    assert len(thresholds) == 4
    assert thresholds == sorted(thresholds)


def test_on_test_the_threshold_comes_from_val_alone_and_is_checked() -> None:
    test, val = (calibrated_answers(4000, 4, seed, scale=4.0) for seed in (0, 1))
    section = selective.selective_section(subject(test, val=val, wanted_accuracy=0.97))
    found = section.figures["threshold"]
    confidence_N, right_N = softmax(test[0], axis=1).max(1), test[0].argmax(1) == test[1]
    kept_N = confidence_N >= found["value"]
    assert found["judged"]["coverage"]["value"] == kept_N.mean()
    assert found["judged"]["accuracy"]["value"] == right_N[kept_N].mean()
    assert found["val"]["lower_bound"] >= 0.97
    assert not found["same_images"]
    other = selective.selective_section(subject((test[0], np.roll(test[1], 1)), val=val, wanted_accuracy=0.97))
    assert other.figures["threshold"]["value"] == found["value"]
    assert "97 % of the time" in section.findings[1]
    assert "of 4,000 test images get an answer" in section.findings[1]
    json.dumps(section.figures, allow_nan=False)


def test_on_val_itself_it_says_that_the_images_are_the_same() -> None:
    answers = calibrated_answers(4000, 4, 0, scale=4.0)
    section = selective.selective_section(subject(answers, val="same", split="val", wanted_accuracy=0.95))
    assert section.figures["threshold"]["same_images"]
    assert (
        section.figures["threshold"]["judged"]["accuracy"]["value"] == section.figures["threshold"]["val"]["accuracy"]
    )
    assert any("a little too good" in note for note in section.notes)


def test_where_no_threshold_reaches_it_that_is_said() -> None:
    answers = random_answers(600, 4, skill=0.0)
    section = selective.selective_section(subject(answers, val="same", split="val"))
    assert section.figures["threshold"]["value"] is None
    assert "No threshold" in section.findings[1]
    assert "is shown to give" in section.notes[0]
    few = selective.selective_section(subject(random_answers(100, 4, skill=9.0), val="same", split="val"))
    assert "takes 459 of them" in few.notes[0]
    none = selective.selective_section(subject(answers))
    assert "there are no validation images (train with" in none.notes[0]
    assert len(none.findings) == 1


def test_if_all_are_right_or_all_are_equally_sure_the_edges_hold() -> None:
    right = (9 * np.eye(2)[np.arange(600) % 2], np.arange(600) % 2)
    section = selective.selective_section(subject(right, val=right))
    assert len(section.figures["curve"]) == 1  # one confidence, so one threshold
    assert section.figures["threshold"]["judged"]["coverage"]["value"] == 1
    assert section.figures["excess_aurc"] == 0
    wrong = (right[0], 1 - right[1])
    section = selective.selective_section(subject(wrong, val=wrong))
    assert section.figures["aurc"] == 1
    assert section.figures["threshold"]["value"] is None
    one = selective.selective_section(subject((np.array([[1.0, 0.0]]), np.array([1]))))
    assert one.figures["accuracy"]["value"] == 0
    json.dumps(one.figures, allow_nan=False)


def test_no_judged_image_may_reach_the_threshold() -> None:
    val = (9 * np.eye(2)[np.arange(600) % 2], np.arange(600) % 2)
    section = selective.selective_section(subject((0.1 * np.eye(2), np.array([0, 1])), val=val))
    judged = section.figures["threshold"]["judged"]
    assert judged["coverage"]["value"] == 0
    assert judged["accuracy"]["value"] is None
    assert section.findings[1].endswith("as chosen on val: of 2 test images it is that sure of none.")


def test_a_threshold_that_does_not_hold_is_said_so() -> None:
    val, test = calibrated_answers(4000, 4, 0, scale=4.0), random_answers(2000, 4, skill=4.0)
    poor = (3 * test[0], np.where(np.arange(2000) % 3, test[1], (test[1] + 1) % 4))
    section = selective.selective_section(subject(poor, val=val, wanted_accuracy=0.97))
    assert section.findings[1].endswith("fewer than wanted: the threshold does not hold here.")
    held = selective.selective_section(
        subject(calibrated_answers(4000, 4, 1, scale=4.0), val=val, wanted_accuracy=0.97)
    )
    assert "does not hold" not in held.findings[1]
    one_of_twenty = (np.tile([[9.0, 0.0, 0.0, 0.0]], (20, 1)), np.repeat([0, 1], [19, 1]))  # 95 %: not shown to be less
    few = selective.selective_section(subject(one_of_twenty, val=val, wanted_accuracy=0.97))
    assert few.figures["threshold"]["judged"]["accuracy"]["value"] == 0.95
    assert "does not hold" not in few.findings[1]


def test_answers_to_val_that_are_those_judged_are_seen_through() -> None:
    answers = calibrated_answers(4000, 4, 0, scale=4.0)
    section = selective.selective_section(subject(answers, val=answers, split="given", wanted_accuracy=0.95))
    assert section.figures["threshold"]["same_images"]
    assert any("chosen on the images judged here" in note for note in section.notes)


def test_where_confidence_cannot_leave_a_tenth_out_that_is_said() -> None:
    logits_NK = np.array([[9.0, 0.0]] * 40 + [[1.0, 0.0]] * 60)
    for answers in ((logits_NK, np.zeros(100, dtype=int)), (logits_NK[:5], np.zeros(5, dtype=int))):
        assert "no tenth can be left out by confidence" in selective.selective_section(subject(answers)).findings[0]


def test_nearly_all_is_not_called_all() -> None:
    logits_NK = np.array([[900.0, 0.0]] * 996 + [[1.0, 0.0]] * 4)
    finding = selective.selective_section(subject((logits_NK, np.zeros(1000, dtype=int)))).findings[0]
    assert finding.startswith("If it answers only the 99.6 % of 1,000 test images it is surest of")


def test_a_wish_is_written_as_it_was_given() -> None:
    section = selective.selective_section(
        subject(random_answers(50, 3), val="same", split="val", wanted_accuracy=0.9995)
    )
    assert "right 99.95 % of the time" in section.findings[1]
    assert "accuracy of 99.95 %; even without a mistake" in section.notes[0]
