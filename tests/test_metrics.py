"""Metrics against scikit-learn, naive loops and constructions whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from cifarlab import metrics


def random_case(num_images: int, num_classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(num_classes, (num_images,), generator=generator)
    logits_NK = torch.randn(num_images, num_classes, generator=generator)
    logits_NK[torch.arange(num_images), labels_N] += 1
    return logits_NK, labels_N


def logits_for(predicted: list[int], num_classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), num_classes).float() * 5


@pytest.mark.parametrize(("num_images", "num_classes"), [(1, 2), (1, 10), (200, 2), (500, 10), (300, 100)])
def test_agreement_with_scikit_learn(num_images: int, num_classes: int) -> None:
    logits_NK, labels_N = random_case(num_images, num_classes)
    y, p = labels_N.numpy(), logits_NK.argmax(1).numpy()
    classes = np.arange(num_classes)
    probabilities = logits_NK.double().softmax(1).numpy()
    assert metrics.accuracy(logits_NK, labels_N) == reference.accuracy_score(y, p)
    assert metrics.num_correct(logits_NK, labels_N) == (y == p).sum()
    expected = reference.log_loss(y, probabilities, labels=classes)
    assert metrics.cross_entropy(logits_NK, labels_N) == pytest.approx(expected, rel=1e-9)
    confusion_KK = metrics.confusion_matrix(logits_NK, labels_N)
    assert confusion_KK.tolist() == reference.confusion_matrix(y, p, labels=classes).tolist()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_counts_like_a_loop(k: int) -> None:
    logits_NK, labels_N = random_case(300, 5)
    hits = [int(y) in sorted(range(5), key=lambda j: -row[j])[:k] for row, y in zip(logits_NK, labels_N, strict=True)]
    assert metrics.top_k_accuracy(logits_NK, labels_N, k) == pytest.approx(np.mean(hits))


def test_top_k_of_fewer_classes_than_k_is_one() -> None:
    logits_NK, labels_N = random_case(20, 2)
    assert metrics.top_k_accuracy(logits_NK, labels_N, 3) == 1


def test_cross_entropy_survives_extreme_logits() -> None:
    logits_NK = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    assert metrics.cross_entropy(logits_NK, torch.tensor([0, 0])) == pytest.approx(500)


def test_class_scores_are_ratios_of_the_confusion_matrix() -> None:
    logits_NK, labels_N = random_case(400, 7)
    confusion = metrics.confusion_matrix(logits_NK, labels_N).double()
    scores = metrics.class_scores(logits_NK, labels_N)
    for k, score in enumerate(scores):
        hits = float(confusion[k, k])
        assert score.support == int((labels_N == k).sum())
        assert score.precision == pytest.approx(hits / float(confusion[:, k].sum()))
        assert score.recall == pytest.approx(hits / float(confusion[k].sum()))
        assert score.f1 == pytest.approx(2 * hits / float(confusion[:, k].sum() + confusion[k].sum()))
    predicted = logits_NK.argmax(1).numpy()
    assert metrics.macro_f1(scores) == pytest.approx(reference.f1_score(labels_N.numpy(), predicted, average="macro"))


def test_what_was_not_measured_is_nan_and_not_zero() -> None:
    # class 0: there and found; 1: there, never named; 2: named, not there; 3: neither
    scores = metrics.class_scores(logits_for([0, 0, 2], 4), torch.tensor([0, 0, 1]))
    assert scores[0] == metrics.ClassScores(support=2, precision=1, recall=1, f1=1)
    assert math.isnan(scores[1].precision)
    assert (scores[1].support, scores[1].recall, scores[1].f1) == (1, 0, 0)
    assert math.isnan(scores[2].recall)
    assert (scores[2].support, scores[2].precision, scores[2].f1) == (0, 0, 0)
    assert scores[3].support == 0
    assert math.isnan(scores[3].f1)
    assert metrics.macro_f1(scores) == pytest.approx(1 / 3)


def calibrated_case(num_images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary predictions whose confidence is the probability of being right."""
    generator = torch.Generator().manual_seed(1)
    confidence_N = 0.5 + torch.rand(num_images, generator=generator, dtype=torch.float64) / 2
    labels_N = (torch.rand(num_images, generator=generator) >= confidence_N).long()
    return torch.stack([confidence_N, 1 - confidence_N], 1), labels_N


def test_calibrated_predictions_have_no_calibration_error() -> None:
    table = metrics.reliability_table(*calibrated_case(200_000))
    assert metrics.expected_calibration_error(table) < 0.005


def test_calibration_error_of_a_known_construction_is_exact() -> None:
    # 10 predictions at 0.9 of which 6 are right, 30 at 0.6 of which 27 are right
    confidence_N = torch.tensor([0.9] * 10 + [0.6] * 30, dtype=torch.float64)
    labels_N = torch.tensor([0] * 6 + [1] * 4 + [0] * 27 + [1] * 3)
    table = metrics.reliability_table(torch.stack([confidence_N, 1 - confidence_N], 1), labels_N)
    assert metrics.expected_calibration_error(table) == pytest.approx((10 * 0.3 + 30 * 0.3) / 40, abs=1e-12)
    filled = [row for row in table if row.count]
    assert [(row.count, row.accuracy) for row in filled] == [(30, 0.9), (10, 0.6)]
    assert [row.confidence for row in filled] == pytest.approx([0.6, 0.9])


def test_reliability_table_agrees_with_the_definition() -> None:
    logits_NK, labels_N = random_case(2000, 4)
    probabilities_NK = logits_NK.double().softmax(1)
    table = metrics.reliability_table(probabilities_NK, labels_N, num_bins=15)
    confidence, predicted = probabilities_NK.max(1)
    error = 0.0
    for m in range(15):
        inside = [i for i in range(2000) if m / 15 < confidence[i] <= (m + 1) / 15]
        assert table[m].count == len(inside)
        if inside:
            right = np.mean([int(predicted[i] == labels_N[i]) for i in inside])
            error += len(inside) / 2000 * abs(right - np.mean([float(confidence[i]) for i in inside]))
        else:
            assert math.isnan(table[m].accuracy)
    assert sum(row.count for row in table) == 2000
    assert metrics.expected_calibration_error(table) == pytest.approx(error, abs=1e-12)


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    probabilities_NK = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
    table = metrics.reliability_table(probabilities_NK, torch.tensor([0, 0]), num_bins=2)
    assert [row.count for row in table] == [1, 1]


def test_confident_mistakes_are_wrong_and_sorted() -> None:
    logits_NK, labels_N = random_case(500, 6)
    probabilities_NK = logits_NK.softmax(1)
    mistakes = metrics.confident_mistakes(probabilities_NK, labels_N, limit=20)
    assert len(mistakes) == 20
    confidences = [one.confidence for one in mistakes]
    assert confidences == sorted(confidences, reverse=True)
    for one in mistakes:
        assert one.label == int(labels_N[one.index]) != one.predicted
        assert one.confidence == float(probabilities_NK[one.index, one.predicted])
    wrong = probabilities_NK.argmax(1) != labels_N
    listed = torch.tensor([one.index for one in mistakes])
    wrong[listed] = False
    assert float(probabilities_NK.max(1).values[wrong].max()) <= confidences[-1]


def test_a_perfect_model_has_neither_mistakes_nor_confusions() -> None:
    logits_NK, labels_N = logits_for([0, 1, 1], 3), torch.tensor([0, 1, 1])
    assert metrics.confident_mistakes(logits_NK.softmax(1), labels_N) == []
    assert metrics.frequent_confusions(metrics.confusion_matrix(logits_NK, labels_N)) == []


def test_frequent_confusions() -> None:
    confusion_KK = torch.tensor([[8, 2, 0], [5, 5, 0], [0, 1, 9]])
    assert metrics.frequent_confusions(confusion_KK, limit=2) == [
        metrics.Confusion(label=1, predicted=0, count=5, share=0.5),
        metrics.Confusion(label=0, predicted=1, count=2, share=0.2),
    ]
    assert confusion_KK[0, 0] == 8  # the caller's matrix stays as it was
