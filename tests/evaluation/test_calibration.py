"""Calibration against naive loops, constructions whose answer is known, and a second optimiser."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from tests.evaluation.answers import calibrated_answers, random_answers, subject

from cifarlab.evaluation import calibration
from cifarlab.evaluation.scores import scores_section
from cifarlab.metrics import reliability_table


def over_confident(num_images: int, num_classes: int, temperature: float, seed: int = 0):
    logits_NK, labels_N = calibrated_answers(num_images, num_classes, seed)
    return (temperature * logits_NK).astype(np.float32).astype(np.float64), labels_N


@pytest.mark.parametrize(("num_classes", "seed"), [(2, 0), (10, 1), (100, 2)])
def test_every_error_agrees_with_its_definition(num_classes: int, seed: int) -> None:
    logits_NK, labels_N = random_answers(700, num_classes, seed, skill=1.0)
    found = calibration.calibration_figures(logits_NK, labels_N, seed=0)
    p_NK = softmax(logits_NK, axis=1)
    confidence_N, right_N = p_NK.max(1), p_NK.argmax(1) == labels_N
    gaps, weights = [], []
    for m in range(15):
        inside = (confidence_N > m / 15) & (confidence_N <= (m + 1) / 15)
        assert found["bins"][m]["count"] == inside.sum()
        if inside.any():
            gaps.append(abs(confidence_N[inside].mean() - right_N[inside].mean()))
            weights.append(inside.mean())
            assert found["bins"][m]["accuracy"] == pytest.approx(right_N[inside].mean())
    assert found["ece"] == pytest.approx(np.dot(gaps, weights))
    assert found["max_calibration_error"] == pytest.approx(max(gaps))
    order = np.argsort(confidence_N, kind="stable")
    parts = [order[[r for r in range(700) if r * 15 // 700 == m]] for m in range(15)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    adaptive = sum(len(part) / 700 * abs(confidence_N[part].mean() - right_N[part].mean()) for part in parts)
    assert found["adaptive_ece"] == pytest.approx(adaptive)
    by_class = []
    for k in range(num_classes):
        error = 0.0
        for m in range(15):
            inside = (p_NK[:, k] > m / 15) & (p_NK[:, k] <= (m + 1) / 15)
            if inside.any():
                error += inside.mean() * abs(p_NK[inside, k].mean() - (labels_N[inside] == k).mean())
        by_class.append(error)
    assert found["classwise_ece"] == pytest.approx(np.mean(by_class))
    assert found["overconfidence"]["value"] == pytest.approx(confidence_N.mean() - right_N.mean())


def test_bins_agree_with_scikit_learns_calibration_curve() -> None:
    logits_NK, labels_N = random_answers(2000, 3)
    p_NK = softmax(logits_NK, axis=1)
    shares, confidences = calibration_curve(p_NK.argmax(1) == labels_N, p_NK.max(1), n_bins=15)
    filled = [row for row in calibration.calibration_figures(logits_NK, labels_N, 0)["bins"] if row["count"]]
    assert [row["accuracy"] for row in filled] == pytest.approx(list(shares))
    assert [row["confidence"] for row in filled] == pytest.approx(list(confidences))


def test_errors_of_known_constructions_are_exact() -> None:
    # 10 answers at 0.9 of which 6 are right, 30 at 0.6 of which 27 are right: 0.3 apart in both
    confidence_N = np.array([0.9] * 10 + [0.6] * 30)
    right_N = np.array([True] * 6 + [False] * 4 + [True] * 27 + [False] * 3)
    assert calibration.adaptive_error(confidence_N, right_N) == pytest.approx(0.3)
    p_NK = np.stack([confidence_N, 1 - confidence_N], 1)
    # both classes are as far off as the answer, for what one has too much the other has too little
    assert calibration.classwise_error(p_NK, np.where(right_N, 0, 1)) == pytest.approx(0.3)


def test_a_probability_on_an_edge_is_in_the_bin_below() -> None:
    edges = np.array([0, 0.25, 0.5, np.nextafter(0.5, 1), 1])
    assert calibration._bins_of(edges, num_bins=4).tolist() == [0, 0, 1, 2, 3]
    p_NK = np.array([[0.75, 0.25], [0.75, 0.25]])
    bins = reliability_table(torch.from_numpy(p_NK), torch.tensor([0, 1]), num_bins=4)
    assert [row.count for row in bins] == [0, 0, 2, 0]


def test_the_order_of_images_does_not_matter_even_among_equals() -> None:
    generator = np.random.default_rng(0)
    confidence_N, right_N = generator.choice([0.5, 0.7, 0.9], 101), generator.random(101) < 0.7
    first = calibration.adaptive_error(confidence_N, right_N)
    for _ in range(5):
        order = generator.permutation(101)
        assert calibration.adaptive_error(confidence_N[order], right_N[order]) == pytest.approx(first, abs=1e-15)


@pytest.mark.parametrize("seed", range(4))
def test_the_temperature_is_that_of_another_optimiser_and_of_the_construction(seed: int) -> None:
    logits_NK, labels_N = over_confident(6000, 5, temperature=1.8, seed=seed)

    def log_loss(x: np.ndarray) -> float:
        return float(-log_softmax(logits_NK * np.exp(-x[0]), axis=1)[np.arange(6000), labels_N].mean())

    expected = minimize(log_loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    found = calibration.fit_temperature(logits_NK, labels_N)
    assert found == pytest.approx(float(np.exp(expected.x[0])), rel=1e-4)
    assert found == pytest.approx(1.8, rel=0.06)


@pytest.mark.parametrize("factor", [0.2, 1.0, 7.0])
def test_the_temperature_grows_with_the_logits(factor: float) -> None:
    logits_NK, labels_N = random_answers(800, 4)
    once, scaled = (calibration.fit_temperature(f * logits_NK, labels_N) for f in (1.0, factor))
    assert scaled == pytest.approx(factor * once, rel=1e-4)


def test_without_a_mistake_there_is_no_temperature_to_fit() -> None:
    assert calibration.fit_temperature(np.eye(3), np.arange(3)) == 1.0
    right = (3 * np.eye(30)[:, :30], np.arange(30))
    section = calibration.calibration_section(subject(right, val=right))
    assert section.figures["temperature"] is None
    assert "learnt from mistakes" in section.notes[0]


def test_each_fifth_is_divided_by_the_temperature_of_the_other_four() -> None:
    logits_NK, labels_N = over_confident(203, 3, 2.0)
    scaled_NK, temperatures = calibration.cross_fitted(logits_NK, labels_N, seed=0)
    used_N = (logits_NK / scaled_NK)[:, 0]
    assert len(temperatures) == 5
    sizes = []
    for temperature in temperatures:
        part = np.isclose(used_N, temperature, rtol=1e-9)
        sizes.append(int(part.sum()))
        assert calibration.fit_temperature(logits_NK[~part], labels_N[~part]) == pytest.approx(temperature)
    assert sorted(sizes) == [40, 40, 41, 41, 41]


def test_calibrated_answers_show_the_error_of_chance_and_others_more() -> None:
    below = 0
    for seed in range(40):
        found = calibration.calibration_figures(*calibrated_answers(800, 4, seed), seed=seed)
        below += found["ece"] <= found["ece_by_chance_95"]
        assert found["ece"] < 3 * found["ece_by_chance"]
    assert below >= 34  # 38 are expected
    wrong = calibration.calibration_figures(*over_confident(800, 4, 3.0), seed=0)
    assert wrong["ece"] > 2 * wrong["ece_by_chance_95"]
    assert wrong["overconfidence"]["interval"][0] > 0


def test_on_test_the_temperature_comes_from_val_alone() -> None:
    test, val = over_confident(3000, 6, 2.5, seed=0), over_confident(2000, 6, 2.5, seed=1)
    section = calibration.calibration_section(subject(test, val=val))
    found = section.figures
    expected = calibration.fit_temperature(*val)
    assert found["temperature"] == {"value": expected, "fitted_on": "val", "num_images": 2000, "cross_fitted": False}
    assert found["after"] == calibration.calibration_figures(test[0] / expected, test[1], seed=0)
    assert found["after"]["ece"] < 0.5 * found["before"]["ece"]
    assert found["log_loss_gain"]["interval"][0] > 0
    assert found["after"]["accuracy"] == found["before"]["accuracy"]
    # labels of test have no say in it
    other = calibration.calibration_section(subject((test[0], np.roll(test[1], 1)), val=val)).figures
    assert other["temperature"] == found["temperature"]
    assert "too sure" in section.findings[0]
    assert "2,000 validation images" in section.findings[2]
    gain = found["log_loss_gain"]
    assert f"a gain of {gain['value']:.4f} (95 % interval {gain['interval'][0]:.4f} to " in section.findings[2]
    assert section.findings[2].endswith(").")
    json.dumps(found, allow_nan=False)


def test_a_model_is_called_unsure_only_if_more_mistakes_could_be_expected() -> None:
    # all right with 98.9 to 99.3 %: of 60 images none wrong is likely, of 6,000 it is not
    logits_NK = np.linspace(4.5, 5.0, 6000)[:, None] * [1, 0]
    for count, verdict in ((60, "neither too sure nor too unsure"), (6000, "is not sure enough")):
        kept = (logits_NK[:: 6000 // count], np.zeros(count, dtype=int))
        section = calibration.calibration_section(subject(kept))
        assert section.figures["before"]["overconfidence"]["interval"][1] < 0
        assert verdict in section.findings[0]
    one = calibration.calibration_section(subject((np.array([[1.0, 0.0]]), np.array([1]))))
    assert "neither too sure" in one.findings[0]


def test_calibrated_answers_are_rarely_called_unsure_or_too_sure() -> None:
    called, beyond = 0, 0
    for seed in range(150):
        found = calibration.calibration_figures(*calibrated_answers(300, 4, seed, scale=5.0), seed=seed)
        beyond += abs(found["overconfidence"]["value"]) > found["overconfidence_by_chance_95"]
        called += "neither" not in calibration._verdict(found)
    assert called <= beyond <= 16  # 7.5 are expected


def test_a_temperature_that_does_harm_or_is_not_shown_to_help_is_said_so() -> None:
    val, honest = over_confident(2000, 4, 3.0), calibrated_answers(2000, 4, seed=1)
    harmful = calibration.calibration_section(subject(honest, val=val))
    assert harmful.figures["log_loss_gain"]["interval"][1] < 0
    assert harmful.findings[2].endswith(": it does harm here.")
    few = calibrated_answers(80, 4, seed=1)
    needless = calibration.calibration_section(subject(few, val=calibrated_answers(2000, 4, seed=2)))
    assert needless.figures["log_loss_gain"]["interval"][0] < 0 < needless.figures["log_loss_gain"]["interval"][1]
    assert needless.findings[2].endswith(": that it helps is not shown.")
    single = calibration.calibration_section(subject((val[0][:1], val[1][:1]), val=val))
    assert single.figures["log_loss_gain"]["value"] != 0
    assert single.findings[2].endswith(": that it helps is not shown.")


def test_answers_to_val_that_are_those_judged_are_seen_through() -> None:
    answers = over_confident(1000, 4, 2.0)
    twice = calibration.calibration_section(subject(answers, val=answers, split="given")).figures
    assert twice["temperature"]["cross_fitted"]
    other = (answers[0], np.roll(answers[1], 1))
    assert not calibration.calibration_section(subject(answers, val=other)).figures["temperature"]["cross_fitted"]


def test_on_val_itself_the_figures_are_cross_fitted_and_say_so() -> None:
    answers = over_confident(1000, 4, 2.0)
    section = calibration.calibration_section(subject(answers, val="same", split="val"))
    found = section.figures
    scaled_NK, temperatures = calibration.cross_fitted(*answers, seed=0)
    assert found["temperature"]["cross_fitted"]
    assert found["temperature"]["folds"] == temperatures
    assert found["temperature"]["value"] == calibration.fit_temperature(*answers)
    assert found["after"] == calibration.calibration_figures(scaled_NK, answers[1], seed=0)
    assert any("five-fold cross-fitting" in note for note in section.notes)


@pytest.mark.parametrize(
    ("val", "reason"),
    [
        (None, "there are no validation images (train"),
        (random_answers(19, 4), "19 validation images are too few"),
        (random_answers(1, 4), "one validation image is too few"),
    ],
)
def test_without_validation_images_there_is_no_temperature(val, reason: str) -> None:
    section = calibration.calibration_section(subject(random_answers(50, 4), val=val))
    assert section.figures["temperature"] is None
    assert section.figures["after"] is None
    assert reason in section.notes[0]
    assert len(section.findings) == 2
    assert len(section.tables["calibration"].rows) == 1


@pytest.mark.parametrize("num_classes", [2, 100])
def test_edges_can_be_judged(num_classes: int) -> None:
    logits_NK = 5 * np.eye(num_classes)[np.arange(40) % num_classes]
    for shift in (0, 1):  # all right, all wrong
        answers = (logits_NK, (np.arange(40) + shift) % num_classes)
        section = calibration.calibration_section(subject(answers))
        assert section.figures["before"]["accuracy"]["value"] == 1 - shift
        json.dumps(section.figures, allow_nan=False)
        accuracy = scores_section(subject(answers)).figures["accuracy"]
        assert section.figures["before"]["accuracy"] == accuracy


def test_a_single_image_can_be_judged() -> None:
    section = calibration.calibration_section(subject((np.array([[1.0, 0.0]]), np.array([0]))))
    confidence = 1 / (1 + np.exp(-1))
    assert section.figures["before"]["ece"] == pytest.approx(1 - confidence)
    assert section.figures["before"]["adaptive_ece"] == pytest.approx(1 - confidence)


def test_whether_chance_explains_the_error_is_said() -> None:
    honest = calibration.calibration_section(subject(calibrated_answers(2000, 4, seed=3)))
    assert honest.figures["before"]["ece"] < honest.figures["before"]["ece_by_chance_95"]
    assert "no more than chance alone explains" in honest.findings[1]
    assert "neither too sure nor too unsure, as far as these images show" in honest.findings[0]
    boastful = calibration.calibration_section(subject(over_confident(2000, 4, 3.0)))
    assert "calibration error), more than chance alone explains" in boastful.findings[1]
