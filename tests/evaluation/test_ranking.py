"""Ranking: figures of scikit-learn, DeLong's variance by its definition, and intervals that cover."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn import metrics as reference
from tests.evaluation.answers import random_answers, subject

from cifarlab.evaluation import ranking


def delong_variance(scores_N: np.ndarray, positive_N: np.ndarray) -> float:
    """The variance by the formulas of the paper: every positive against every negative."""
    ours, others = scores_N[positive_N], scores_N[~positive_N]
    wins_PQ = (ours[:, None] > others) + 0.5 * (ours[:, None] == others)
    return wins_PQ.mean(1).var(ddof=1) / len(ours) + wins_PQ.mean(0).var(ddof=1) / len(others)


@pytest.mark.parametrize("seed", range(6))
def test_the_standard_error_is_delongs_with_ties_and_without(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positive_N = generator.random(120) < 0.3
    scores_N = positive_N + generator.normal(size=120)
    if seed % 2:
        scores_N = scores_N.round()
    influence_N = ranking.auroc_influence(scores_N, positive_N)
    assert ranking.standard_error(influence_N) ** 2 == pytest.approx(delong_variance(scores_N, positive_N))
    assert influence_N[positive_N].sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_areas_are_those_of_scikit_learn(num_classes: int) -> None:
    logits_NK, labels_N = random_answers(1200, num_classes)
    found = ranking.ranking_section(subject((logits_NK, labels_N))).figures
    p_NK = softmax(logits_NK, axis=1)
    for k, row in enumerate(found["per_class"]):
        assert row["auroc"]["value"] == pytest.approx(reference.roc_auc_score(labels_N == k, p_NK[:, k]))
        expected = reference.average_precision_score(labels_N == k, p_NK[:, k])
        assert row["average_precision"]["value"] == pytest.approx(expected)
        for share in (row["auroc"], row["average_precision"]):
            assert share["interval"][0] < share["value"] < share["interval"][1]
    if num_classes > 2:
        macro = reference.roc_auc_score(labels_N, p_NK, multi_class="ovr", average="macro")
        assert found["macro_auroc"]["value"] == pytest.approx(macro)
    json.dumps(found, allow_nan=False)


def test_of_two_classes_the_mean_is_either() -> None:
    found = ranking.ranking_section(subject(random_answers(300, 2))).figures
    first, second = (row["auroc"] for row in found["per_class"])
    assert first["value"] == pytest.approx(second["value"])
    assert found["macro_auroc"]["value"] == pytest.approx(first["value"])
    assert found["macro_auroc"]["interval"] == pytest.approx(first["interval"])


def test_the_interval_of_the_mean_is_that_of_resampled_images() -> None:
    logits_NK, labels_N = random_answers(400, 3, skill=1.0)
    found = ranking.ranking_section(subject((logits_NK, labels_N))).figures["macro_auroc"]
    p_NK, generator, drawn = softmax(logits_NK, axis=1), np.random.default_rng(0), []
    for _ in range(400):
        rows = generator.integers(400, size=400)
        drawn.append(reference.roc_auc_score(labels_N[rows], p_NK[rows], multi_class="ovr"))
    assert found["interval"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.008)


def test_the_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Two normal distributions one and a half apart: the AUROC is known; the average precision from many draws."""
    generator = np.random.default_rng(0)

    def draw(num_images: int) -> tuple[np.ndarray, np.ndarray]:
        positive_N = np.arange(num_images) < num_images // 4
        return generator.normal(size=num_images) + 1.5 * positive_N, positive_N

    scores_N, positive_N = draw(400_000)
    truths = {"auroc": 0.8556, "average_precision": float(reference.average_precision_score(positive_N, scores_N))}
    covered = dict.fromkeys(truths, 0)
    for _ in range(400):
        found, _ = ranking.class_ranking(*draw(200))
        for name, truth in truths.items():
            low, high = found[name]["interval"]
            covered[name] += low <= truth <= high
    assert 0.92 < covered["auroc"] / 400 < 0.98
    assert covered["average_precision"] / 400 > 0.9


def test_the_logit_interval_stays_within_zero_and_one() -> None:
    low, high = ranking.logit_interval(0.99, 0.02)
    assert 0 < low < 0.99 < high < 1
    half_width = 1.959964 * 0.02 / (0.99 * 0.01)
    assert [low, high] == pytest.approx([expit(np.log(99) - half_width), expit(np.log(99) + half_width)], rel=1e-5)
    for value, error in ((1.0, 0.1), (0.0, 0.1), (0.5, 0.0), (0.5, float("nan"))):
        assert ranking.logit_interval(value, error) is None


def test_only_the_order_of_the_scores_matters() -> None:
    generator = np.random.default_rng(0)
    positive_N, scores_N = generator.random(80) < 0.5, generator.random(80)
    first, _ = ranking.class_ranking(scores_N, positive_N)
    second, _ = ranking.class_ranking(np.exp(3 * scores_N), positive_N)
    assert first == second
    turned, _ = ranking.class_ranking(-scores_N, ~positive_N)
    assert turned["auroc"]["value"] == pytest.approx(first["auroc"]["value"])


def test_absent_classes_have_no_figure_and_faultless_ones_no_interval() -> None:
    # class c has no image; a and b are told apart without a fault
    section = ranking.ranking_section(subject((6 * np.eye(3)[[0, 0, 1, 1]], np.array([0, 0, 1, 1]))))
    rows = section.figures["per_class"]
    assert [row["auroc"]["value"] for row in rows] == [1, 1, None]
    assert [row["auroc"]["interval"] for row in rows] == [None, None, None]
    assert any(note.endswith("one side only: class c.") for note in section.notes)
    assert any(note.endswith("without an interval: class a and class b.") for note in section.notes)
    json.dumps(section.figures, allow_nan=False)


def test_images_of_one_class_alone_rank_nothing() -> None:
    section = ranking.ranking_section(subject((np.eye(3)[[0, 0]], np.array([0, 0]))))
    assert section.skipped == "2 test images, and all of one class; give images of two classes at least"
    assert not section.figures


def test_a_class_with_a_single_image_has_a_figure_and_no_interval() -> None:
    figures, _ = ranking.class_ranking(np.array([0.1, 0.8, 0.7, 0.2]), np.array([False, False, True, False]))
    assert figures["auroc"]["value"] == pytest.approx(2 / 3)
    assert figures["auroc"]["interval"] is None
    logits_NK, labels_N = random_answers(60, 3)
    labels_N[labels_N == 2] = 0
    labels_N[7] = 2
    section = ranking.ranking_section(subject((logits_NK, labels_N)))
    assert section.figures["macro_auroc"]["interval"] is None
    assert any("single image" in note and note.endswith("one too: class c.") for note in section.notes)


def test_ties_count_half() -> None:
    figures, _ = ranking.class_ranking(np.full(6, 0.5), np.arange(6) < 2)
    assert figures["auroc"]["value"] == 0.5
    assert figures["average_precision"]["value"] == pytest.approx(1 / 3)


def test_of_many_classes_the_hardest_are_drawn() -> None:
    section = ranking.ranking_section(subject(random_answers(600, 120)))
    values = {row["name"]: row for row in section.figures["per_class"] if row["support"]}
    for plot, figure in (("roc", "auroc"), ("precision_recall", "average_precision")):
        (axes,) = section.plots[plot].axes
        assert axes.get_title(loc="left").endswith(f": the 100 hardest of {len(values)}")
        assert len(axes.lines) == 100 + (plot == "roc")  # and the diagonal
        named = [text.get_text().split("  ")[0] for text in axes.get_legend().get_texts()]
        assert named == sorted(values, key=lambda name: values[name][figure]["value"])[:5]


def test_findings_name_the_hardest_class() -> None:
    section = ranking.ranking_section(subject(random_answers(500, 4)))
    worst = min(section.figures["per_class"], key=lambda row: row["average_precision"]["value"])
    assert f"Told least well from the rest is {worst['name']}" in section.findings[1]
    assert set(section.plots) == {"roc", "precision_recall"}
    assert [row[0] for row in section.tables["ranking"].rows] == [row["name"] for row in section.figures["per_class"]]
