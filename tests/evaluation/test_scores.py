"""Scores against scikit-learn, scipy and arithmetic by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from sklearn import metrics as reference
from tests.evaluation.answers import random_answers, subject

from cifarlab import metrics
from cifarlab.errors import DataError
from cifarlab.evaluation import scores
from cifarlab.evaluation.intervals import bootstrap, mean_figure, proportion, share_alone, share_text
from cifarlab.stats import clopper_pearson_interval


def one_hot(answers: list[int], num_classes: int) -> np.ndarray:
    return 9.0 * np.eye(num_classes)[answers]


def probabilities(logits_NK: np.ndarray) -> np.ndarray:
    powers = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("num_classes", [2, 3, 10, 100])
@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_scikit_learn(num_classes: int, seed: int) -> None:
    logits_NK, labels_N = random_answers(1500, num_classes, seed)
    section = scores.scores_section(subject((logits_NK, labels_N)))
    found, names = section.figures, subject((logits_NK, labels_N)).class_names
    p_NK, given_N, classes = probabilities(logits_NK), logits_NK.argmax(1), np.arange(num_classes)
    assert found["accuracy"]["value"] == reference.accuracy_score(labels_N, given_N)
    assert found["log_loss"]["value"] == pytest.approx(reference.log_loss(labels_N, p_NK, labels=classes), rel=1e-9)
    truth_NK = np.eye(num_classes)[labels_N]
    assert found["brier"]["value"] == pytest.approx(((p_NK - truth_NK) ** 2).sum(1).mean(), rel=1e-9)
    assert found["macro_f1"]["value"] == pytest.approx(reference.f1_score(labels_N, given_N, average="macro"))
    assert found["balanced_accuracy"]["value"] == pytest.approx(reference.balanced_accuracy_score(labels_N, given_N))
    assert found["cohens_kappa"]["value"] == pytest.approx(reference.cohen_kappa_score(labels_N, given_N))
    assert found["matthews_correlation"]["value"] == pytest.approx(reference.matthews_corrcoef(labels_N, given_N))
    normalised = reference.confusion_matrix(labels_N, given_N, labels=classes, normalize="true")
    rates = section.tables["confusion_rates"]
    assert (rates.header[1:], tuple(row[0] for row in rates.rows)) == (names, names)
    np.testing.assert_allclose(np.array([row[1:] for row in rates.rows], dtype=float), normalised)
    wrong_KK = reference.confusion_matrix(labels_N, given_N, labels=classes)
    np.fill_diagonal(wrong_KK, 0)
    most = found["most_frequent_mistake"]
    assert most["count"] == wrong_KK.max() == wrong_KK[names.index(most["true"]), names.index(most["given"])]
    assert most["images"] == (labels_N == names.index(most["true"])).sum()
    for one in found["top_k"]:
        if num_classes > 2:
            expected = reference.top_k_accuracy_score(labels_N, p_NK, k=one["k"], labels=classes)
            assert one["value"] == pytest.approx(expected)
    assert [one["k"] for one in found["top_k"]] == [k for k in (1, 2, 3, 5) if k < num_classes]
    columns = reference.precision_recall_fscore_support(labels_N, given_N, labels=classes, zero_division=np.nan)
    for row, precision, recall, f1, support in zip(found["per_class"], *columns, strict=True):
        assert row["support"] == support
        for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
            assert row[name]["value"] == (None if np.isnan(expected) else pytest.approx(expected))


def test_brier_is_the_sum_over_classes() -> None:
    # 0.2² + 0.1² + 0.1² and, of the worst possible answer, 1² + 1²
    p_NK = np.array([[0.8, 0.1, 0.1], [1.0, 0.0, 0.0]])
    assert scores.brier_scores(p_NK, np.array([0, 2])).tolist() == pytest.approx([0.06, 2.0])


@pytest.mark.parametrize(("right", "total"), [(0, 5), (5, 5), (1, 7), (9412, 10_000), (3, 3), (37, 200)])
def test_a_share_has_the_intervals_of_scipy(right: int, total: int) -> None:
    found, exact = proportion(right, total), scipy_stats.binomtest(right, total)
    wilson, clopper = exact.proportion_ci(method="wilson"), exact.proportion_ci(method="exact")
    assert found["interval"] == pytest.approx([wilson.low, wilson.high], abs=1e-12)
    assert found["clopper_pearson"] == pytest.approx([clopper.low, clopper.high], abs=1e-12)
    assert found["clopper_pearson"][0] <= found["value"] <= found["clopper_pearson"][1]


def test_no_interval_reaches_where_no_mean_can_be() -> None:
    losses_N = np.array([0.0] * 9 + [10.0])
    low, high = scipy_stats.ttest_1samp(losses_N, 0).confidence_interval(0.95)
    assert low < 0
    assert mean_figure(losses_N)["interval"] == pytest.approx([low, high])
    assert mean_figure(losses_N, lowest=0)["interval"] == pytest.approx([0, high])
    assert mean_figure(1 - losses_N / 10, lowest=0, highest=1)["interval"] == pytest.approx([1 - high / 10, 1])
    answers = (np.array([[9.0, 0.0]] * 9 + [[0.0, 9.0]]), np.zeros(10, dtype=int))
    assert scores.scores_section(subject(answers)).figures["log_loss"]["interval"][0] == 0
    assert scores.scores_section(subject(answers)).figures["brier"]["interval"][0] == 0


def test_nearly_all_is_not_written_as_all() -> None:
    assert share_text({"value": 0.999998, "interval": [0.99999, 0.999999]}) == (
        "99.9998 % (95 % interval 99.9990 to 99.9999 %)"
    )
    assert share_text(proportion(3, 1_000_000)).startswith("0.0003 % (95 % interval 0.0001 to 0.0009 %)")
    assert share_text(proportion(7, 7)).startswith("100.00 % (95 % interval 64.57 to 100.00 %)")
    assert share_text(proportion(0, 7)).startswith("0.00 %")
    assert [share_alone(share) for share in (0.5, 0.99997, 1.0)] == ["50.00 %", "99.997 %", "100.00 %"]


def test_the_exact_interval_is_where_the_binomial_tails_are_two_and_a_half_per_cent() -> None:
    low, high = clopper_pearson_interval(190, 200)
    assert scipy_stats.binom.sf(189, 200, low) == pytest.approx(0.025)
    assert scipy_stats.binom.cdf(190, 200, high) == pytest.approx(0.025)
    with pytest.raises(ValueError, match="no proportion"):
        clopper_pearson_interval(3, 2)


def test_ranks_are_where_a_stable_order_puts_the_label() -> None:
    generator = np.random.default_rng(0)
    logits_NK = generator.integers(4, size=(500, 6)).astype(float)  # full of ties
    labels_N = generator.integers(6, size=500)
    order_NK = np.argsort(-logits_NK, axis=1, kind="stable")
    expected = [list(row).index(label) for row, label in zip(order_NK, labels_N, strict=True)]
    logits, labels = torch.from_numpy(logits_NK), torch.from_numpy(labels_N)
    assert metrics.label_ranks(logits, labels).tolist() == expected
    assert metrics.accuracy(logits, labels) == expected.count(0) / 500
    for k in (1, 3):  # the headline and the section count ties alike
        assert metrics.top_k_accuracy(logits, labels, k) == np.mean([rank < k for rank in expected])
    found = scores.scores_section(subject((logits_NK, labels_N))).figures["top_k"]
    assert [one["value"] for one in found] == [metrics.top_k_accuracy(logits, labels, k) for k in (1, 2, 3, 5)]


def test_the_order_of_images_and_of_classes_does_not_matter() -> None:
    logits_NK, labels_N = random_answers(400, 5)
    first = scores.scores_section(subject((logits_NK, labels_N))).figures
    images, classes = np.random.default_rng(1).permutation(400), np.random.default_rng(2).permutation(5)
    turned = (logits_NK[images][:, classes], np.argsort(classes)[labels_N[images]])
    second = scores.scores_section(subject(turned)).figures
    for name in ("log_loss", "brier", "macro_f1", "balanced_accuracy", "cohens_kappa", "matthews_correlation"):
        assert second[name]["value"] == pytest.approx(first[name]["value"], rel=1e-12)
    assert second["accuracy"] == first["accuracy"]
    by_class = [first["per_class"][k]["recall"]["value"] for k in classes]
    assert [row["recall"]["value"] for row in second["per_class"]] == by_class


def test_the_interval_of_f1_is_wilsons_of_its_own_proportion_and_covers() -> None:
    confusion_KK = np.array([[80, 20], [10, 90]])
    row = scores.class_figures(confusion_KK, ("a", "b"))[0]
    # of 110 images that are a or called a, 80 are both
    ends = scipy_stats.binomtest(80, 110).proportion_ci(method="wilson")
    assert row["f1"]["value"] == pytest.approx(160 / 190)
    assert row["f1"]["interval"] == pytest.approx([2 * end / (1 + end) for end in (ends.low, ends.high)])
    generator = np.random.default_rng(0)
    truth = 2 * 0.4 / (0.5 + 0.45)  # of the cells' probabilities below
    covered = 0
    for cells in generator.multinomial(200, [0.4, 0.1, 0.05, 0.45], size=600):
        low, high = scores.class_figures(cells.reshape(2, 2), ("a", "b"))[0]["f1"]["interval"]
        covered += low <= truth <= high
    assert 0.925 < covered / 600 < 0.975


def test_resampled_intervals_are_those_of_drawing_the_images_themselves() -> None:
    logits_NK, labels_N = random_answers(300, 4, seed=3)
    found = scores.summary_figures(scores.confusion_counts(labels_N, logits_NK.argmax(1), 4), seed=0)
    given_N, generator = logits_NK.argmax(1), np.random.default_rng(7)
    drawn = []
    for _ in range(500):
        rows = generator.integers(300, size=300)
        f1 = reference.f1_score(labels_N[rows], given_N[rows], average="macro")
        drawn.append((f1, reference.matthews_corrcoef(labels_N[rows], given_N[rows])))
    expected = np.percentile(drawn, [2.5, 97.5], axis=0).T
    assert found["macro_f1"]["interval"] == pytest.approx(expected[0], abs=0.012)
    assert found["matthews_correlation"]["interval"] == pytest.approx(expected[1], abs=0.015)
    assert found == scores.summary_figures(
        scores.confusion_counts(labels_N, given_N, 4), seed=0
    )  # same seed, same bytes
    assert found != scores.summary_figures(scores.confusion_counts(labels_N, given_N, 4), seed=1)


def test_the_bootstrap_of_a_mean_is_as_wide_as_students_interval() -> None:
    counts_M, values_M = np.array([60, 30, 10]), np.array([0.0, 1.0, 5.0])
    (ends,) = bootstrap(counts_M, lambda draws_BM: (draws_BM @ values_M / 100)[:, None], 0, "test")
    expected = mean_figure(np.repeat(values_M, counts_M))["interval"]
    assert ends == pytest.approx(expected, abs=0.06)


def test_classes_without_images_or_answers_are_none_and_not_zero() -> None:
    # class 0 found, class 1 there and never named, class 2 named and not there, class 3 neither
    section = scores.scores_section(subject((one_hot([0, 0, 2], 4), np.array([0, 0, 1]))))
    rows = section.figures["per_class"]
    assert [row["recall"]["value"] for row in rows] == [1, 0, None, None]
    assert [row["precision"]["value"] for row in rows] == [1, None, 0, None]
    assert [row["f1"]["value"] for row in rows] == [1, 0, 0, None]
    assert rows[3]["f1"]["interval"] is None
    assert section.tables["confusion_rates"].rows[2] == ["class c", None, None, None, None]
    assert section.figures["macro_f1"]["value"] == pytest.approx(1 / 3)
    assert section.figures["balanced_accuracy"]["value"] == pytest.approx(0.5)
    assert any("class c and class d." in note for note in section.notes)
    json.dumps(section.figures, allow_nan=False)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong(right: bool) -> None:
    labels_N = np.arange(30) % 3
    section = scores.scores_section(subject((one_hot(list(labels_N if right else (labels_N + 1) % 3), 3), labels_N)))
    found = section.figures
    assert found["accuracy"]["value"] == float(right)
    assert found["macro_f1"]["value"] == float(right)
    assert found["macro_f1"]["interval"] is None  # no resample could differ: no spread was seen
    low, high = found["accuracy"]["interval"]
    assert (high == 1 and low < 1) if right else (low == 0 and high > 0)
    assert len(section.findings) == (1 if right else 3)
    assert (found["most_frequent_mistake"] is None) == right
    json.dumps(found, allow_nan=False)


def test_one_class_alone_leaves_kappa_and_correlation_undefined() -> None:
    found = scores.scores_section(subject((one_hot([0, 0, 0], 2), np.zeros(3, dtype=int)))).figures
    assert found["cohens_kappa"]["value"] is None
    assert found["matthews_correlation"]["value"] is None
    assert found["accuracy"]["value"] == 1


def test_findings_and_tables_say_what_the_figures_say() -> None:
    labels = [0] * 50 + [1] * 50
    section = scores.scores_section(subject((one_hot([0] * 45 + [1] * 5 + [1] * 50, 2), np.array(labels))))
    assert section.findings[0] == (
        "The model gives the right class to 95.00 % (95 % interval 88.82 to 97.85 %) of 100 test images."
    )
    assert "class a: 90.00 % (95 % interval 78.64 to 95.65 %) of its 50 images." in section.findings[1]
    assert "class a taken for class b: 5 of 50 images" in section.findings[2]
    for table in section.tables.values():
        assert len(table.header) == len(table.kinds)
        assert all(len(row) == len(table.header) for row in table.rows)
    assert section.tables["class_scores"].rows[0][:4] == ("class a", 50, 45, 0.9)
    assert set(section.plots) == {"confusion", "per_class"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits, labels: (np.where(np.arange(3) == 1, np.nan, logits), labels), "NaN or infinite, the first"),
        (lambda logits, labels: (logits * np.inf, labels), "NaN or infinite"),
        (lambda logits, labels: (logits, labels + 1), "run from 1 to 3, but 3 classes are 0 to 2"),
        (lambda logits, labels: (logits, labels - 1), "run from -1 to 1, but 3 classes are 0 to 2"),
        (lambda logits, labels: (logits[:2], labels), "one row an image"),
        (lambda logits, labels: (logits[:0], labels[:0]), "one image at least"),
    ],
)
def test_answers_that_cannot_be_judged_are_one_clear_line(change, message: str) -> None:
    answers = change(1 + np.eye(3), np.array([0, 1, 2]))
    with pytest.raises(DataError, match=message) as raised:
        scores.scores_section(subject(answers))
    assert "\n" not in str(raised.value)


def test_ties_for_the_highest_value_are_told() -> None:
    notes = scores.scores_section(subject((np.zeros((4, 3)), np.array([0, 1, 2, 0])))).notes
    assert any("stands twice in 4 answers" in note for note in notes)
