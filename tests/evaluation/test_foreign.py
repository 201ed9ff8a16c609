"""Answers of others: every form is read alike, no number is rounded, and what was assumed is told."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from sklearn.metrics import log_loss, roc_auc_score
from tests.evaluation.answers import random_answers, subject
from tests.evaluation.foreign_answers import LABELS, LOGITS, SOFTMAX, load, save_npz, with_one

from cifarlab.errors import DataError
from cifarlab.evaluation.calibration import calibration_section
from cifarlab.evaluation.foreign import read_answers_file
from cifarlab.evaluation.ranking import ranking_section
from cifarlab.evaluation.scores import scores_section
from cifarlab.evaluation.selective import selective_section

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_csv(path: Path, values: np.ndarray, header: str = "", before: list[Any] | None = None) -> Path:
    rows = [",".join(map(str, ([before[n]] if before else []) + row)) for n, row in enumerate(values.tolist())]
    path.write_text("\n".join(([header] if header else []) + rows) + "\n")
    return path


@pytest.mark.parametrize("key", ["logits", "Logits", "scores", "outputs"])
@pytest.mark.parametrize("label_key", ["labels", "y_true", "targets"])
def test_an_archive_of_logits(tmp_path: Path, key: str, label_key: str) -> None:
    path = save_npz(tmp_path / "a.npz", **{key: LOGITS.astype(np.float32), label_key: LABELS, "other": np.ones(3)})
    scored, names = load(path)
    assert scored.logits_NK.dtype == torch.float32
    assert scored.labels_N.dtype == torch.int64
    np.testing.assert_array_equal(scored.logits_NK.numpy(), LOGITS.astype(np.float32))
    np.testing.assert_array_equal(scored.labels_N.numpy(), LABELS)
    assert names is None
    assert scored.images is None


@pytest.mark.parametrize(("kind", "tolerance"), [(np.float16, 2e-3), (np.float32, 1e-6), (np.float64, 1e-6)])
def test_probabilities_are_kept_as_logarithms_and_judged_as_they_are(
    tmp_path: Path, kind: Any, tolerance: float
) -> None:
    path = save_npz(tmp_path / "a.npz", softmax=SOFTMAX.astype(kind), labels=LABELS.astype(np.uint8))
    found = read_answers_file(path)
    assert found.kind == "probabilities"
    logits_NK = found.scored.logits_NK.double().numpy()
    np.testing.assert_allclose(np.exp(logits_NK), SOFTMAX, atol=tolerance)
    np.testing.assert_allclose(np.exp(logits_NK).sum(1), 1, atol=1e-6)
    judged = scores_section(subject((logits_NK, LABELS), split="given")).figures
    assert judged["log_loss"]["value"] == pytest.approx(log_loss(LABELS, SOFTMAX), abs=5 * tolerance)
    assert judged["accuracy"]["value"] == (SOFTMAX.astype(kind).argmax(1) == LABELS).mean()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_arrays_of_every_precision_with_labels_beside_them(tmp_path: Path, kind: Any) -> None:
    np.save(tmp_path / "answers.npy", LOGITS.astype(kind))
    for suffix, kind_of_labels in ((".npy", np.int32), (".npy", np.float64), (".csv", int)):
        place = tmp_path / f"labels{suffix}"
        if suffix == ".npy":
            np.save(place, LABELS.astype(kind_of_labels)[:, None] if kind_of_labels is np.int32 else LABELS * 1.0)
        else:
            place.write_text("label\n" + "\n".join(map(str, LABELS)) + "\n")
        found = read_answers_file(tmp_path / "answers.npy", place)
        assert found.kind == "logits"
        np.testing.assert_array_equal(found.scored.labels_N.numpy(), LABELS)
        np.testing.assert_allclose(found.scored.logits_NK.numpy(), LOGITS.astype(kind).astype(np.float32))


def test_a_table_with_names_and_labels_in_any_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(300)
    lines = ["index,label," + ",".join(CIFAR10)]
    lines += [f"{n},{CIFAR10[LABELS[n]]}," + ",".join(map(repr, SOFTMAX[n].tolist())) for n in order]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    found = read_answers_file(path)
    assert found.class_names == CIFAR10
    np.testing.assert_array_equal(found.scored.labels_N.numpy(), LABELS)
    np.testing.assert_allclose(found.scored.logits_NK.numpy(), np.log(SOFTMAX), rtol=1e-5)


def test_a_table_without_header_and_labels_by_name_beside_it(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", LOGITS)
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(CIFAR10[k] for k in LABELS) + "\n")
    scored, names = load(path, labels)
    assert names is None
    np.testing.assert_array_equal(scored.labels_N.numpy(), LABELS)
    numbered = write_csv(tmp_path / "b.csv", LOGITS, ",".join(f"logit_{k}" for k in range(10)))
    assert load(numbered, labels)[1] is None


def test_columns_sorted_as_text_are_brought_into_the_order_of_their_numbers(tmp_path: Path) -> None:
    logits_NK, labels_N = random_answers(200, 12)
    for first in (0, 1):
        names = [f"logit_{k + first}" for k in range(12)]
        order = sorted(range(12), key=names.__getitem__)
        assert order != list(range(12))
        header = ",".join(names[k] for k in order) + ",label"
        path = write_csv(tmp_path / "a.csv", np.c_[logits_NK[:, order], labels_N], header)
        scored, class_names = load(path)
        np.testing.assert_array_equal(scored.logits_NK.numpy(), logits_NK)
        assert class_names is None


def test_a_header_of_numbers_is_suspected(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", LOGITS, ",".join(map(str, range(1, 11))))
    np.save(tmp_path / "labels.npy", LABELS)
    with pytest.raises(DataError, match=r"301 images \(its first line may be a header of numbers\)"):
        load(path, tmp_path / "labels.npy")


def test_images_told_by_file_are_matched_by_file(tmp_path: Path) -> None:
    files, order = [f"test/{n}.png" for n in range(300)], np.random.default_rng(0).permutation(300)
    path = write_csv(tmp_path / "a.csv", LOGITS[order], "file," + ",".join(CIFAR10), [files[n] for n in order])
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\n" + "\n".join(f"{files[n]},{LABELS[n]}" for n in range(300)) + "\n")
    scored, _ = load(path, labels)
    np.testing.assert_array_equal(scored.labels_N.numpy(), LABELS[order])
    labels.write_text(labels.read_text().replace("test/7.png", "test/x.png"))
    with pytest.raises(DataError, match=r"the file 'test/x.png' is that of no image"):
        load(path, labels)


def test_class_names_of_an_archive(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", logits=LOGITS, labels=np.array(CIFAR10)[LABELS], class_names=np.array(CIFAR10))
    scored, names = load(path)
    assert names == CIFAR10
    np.testing.assert_array_equal(scored.labels_N.numpy(), LABELS)
    for shape in ((1, 10), (10, 1)):  # a row or a column, as some programs save them
        path = save_npz(tmp_path / "b.npz", logits=LOGITS, labels=LABELS, class_names=np.array(CIFAR10).reshape(shape))
        assert load(path)[1] == CIFAR10


def test_names_may_be_saved_as_bytes_and_labels_as_truth_or_as_one_row(tmp_path: Path) -> None:
    names = np.array(CIFAR10).astype(np.bytes_)
    found = load(save_npz(tmp_path / "a.npz", logits=LOGITS, labels=names[LABELS], class_names=names))
    np.testing.assert_array_equal(found[0].labels_N.numpy(), LABELS)
    assert found[1] == CIFAR10
    truth = load(save_npz(tmp_path / "b.npz", logits=LOGITS[:, :2], labels=LABELS > 4))[0]
    np.testing.assert_array_equal(truth.labels_N.numpy(), LABELS > 4)
    np.save(tmp_path / "logits.npy", LOGITS)
    np.save(tmp_path / "row.npy", LABELS[None])
    np.testing.assert_array_equal(load(tmp_path / "logits.npy", tmp_path / "row.npy")[0].labels_N.numpy(), LABELS)


def test_a_few_images_are_too_few_to_suspect_their_order(tmp_path: Path) -> None:
    wrong_NK = np.array([[2.0, -1.0, 0.5], [0.1, -0.2, 0.0]])
    assert notes_on(tmp_path, wrong_NK, np.array([1, 1])) == ""


def test_numbers_at_the_end_of_the_range_are_judged_without_a_warning(tmp_path: Path) -> None:
    """As of classes that were masked out, which may be the true ones."""
    masked_NK = with_one(LOGITS, -np.finfo(np.float32).max.astype(float))
    labels_N = np.where(np.arange(300) == 7, 3, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_answers_file(save_npz(tmp_path / "a.npz", logits=masked_NK, labels=labels_N))
        about = dataclasses.replace(subject((LOGITS, LABELS), val=(LOGITS, LABELS)), judged=found.scored)
        figures = calibration_section(about).figures
    assert found.kind == "logits"
    assert np.isfinite(figures["after"]["log_loss"])


def test_zeros_count_as_the_smallest_probability_and_that_is_told(tmp_path: Path) -> None:
    p_NK = np.array([[1.0, 0.0], [0.75, 0.25], [0.0, 1.0]])
    found = read_answers_file(save_npz(tmp_path / "a.npz", probs=p_NK, labels=np.array([0, 1, 0])))
    logits_NK = found.scored.logits_NK.numpy()
    least = np.finfo(np.float32).eps
    assert np.isfinite(logits_NK).all()
    assert logits_NK[2, 0] == pytest.approx(np.log(least), abs=1e-5)
    assert logits_NK[1].tolist() == pytest.approx(np.log([0.75, 0.25]).tolist())
    assert any(
        "2 probabilities are exactly 0" in note and "1 of them are those of the true" in note for note in found.notes
    )
    halves = np.array([[1.0, 0.0], [0.5, 0.5], [1 - 1e-9, 1e-9]])
    second = read_answers_file(save_npz(tmp_path / "b.npz", probs=halves, labels=np.array([0, 1, 0])))
    assert second.scored.logits_NK[0, 1].item() == pytest.approx(np.log(1e-9), abs=1e-5)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_equal_probabilities_stay_equal_however_many_zeros_stand_beside_them(tmp_path: Path, kind: Any) -> None:
    votes_NVK = np.stack([random_answers(500, 10, seed, skill=0.0)[0] for seed in range(5)], 1)
    votes_NVK += 2 * np.eye(10)[labels_N := random_answers(500, 10)[1]][:, None]
    shares_NK = np.eye(10)[votes_NVK.argmax(2)].mean(1)  # of five votes: 0, 0.2, 0.4, 0.6, 0.8 or 1
    found = read_answers_file(save_npz(tmp_path / "a.npz", probs=shares_NK.astype(kind), labels=labels_N))
    about = dataclasses.replace(subject((shares_NK, labels_N), val="same"), judged=found.scored, val=found.scored)
    rows = ranking_section(about).figures["per_class"]
    areas = [roc_auc_score(labels_N == k, shares_NK[:, k]) for k in range(10)]
    assert [row["auroc"]["value"] for row in rows] == pytest.approx(areas, abs=1e-12)
    curve = selective_section(about).figures["curve"]
    assert {point["threshold"] for point in curve} == set(shares_NK.astype(kind).max(1).tolist())


def test_no_number_is_rounded(tmp_path: Path) -> None:
    logits_NK = np.array([[1.0, 1.0 + 1e-12], [2.0, 1.0]])
    scored, _ = load(save_npz(tmp_path / "a.npz", logits=logits_NK, labels=np.array([1, 0])))
    np.testing.assert_array_equal(scored.logits_NK.numpy(), logits_NK)
    scored, _ = load(save_npz(tmp_path / "b.npz", probs=SOFTMAX, labels=LABELS))
    np.testing.assert_allclose(scored.logits_NK.numpy(), log_softmax(LOGITS, axis=1), rtol=1e-13)
    half = load(save_npz(tmp_path / "c.npz", logits=LOGITS.astype(np.float16), labels=LABELS))[0]
    assert half.logits_NK.dtype == torch.float32  # which holds every number in half precision
    np.testing.assert_array_equal(half.logits_NK.numpy(), LOGITS.astype(np.float16))


def test_what_was_assumed_is_told(tmp_path: Path) -> None:
    called = read_answers_file(save_npz(tmp_path / "a.npz", logits=SOFTMAX, labels=LABELS))
    assert called.kind == "probabilities"
    assert any("called logits, but every row sums to 1" in note for note in called.notes)
    rough = np.round(SOFTMAX, 3)
    rounded = read_answers_file(save_npz(tmp_path / "b.npz", probs=rough, labels=LABELS))
    assert any("scaled to sum to 1" in note for note in rounded.notes)
    shuffled = read_answers_file(save_npz(tmp_path / "c.npz", logits=LOGITS[::-1], labels=np.sort(LABELS)))
    assert any("another order" in note for note in shuffled.notes)
    assert read_answers_file(save_npz(tmp_path / "d.npz", logits=LOGITS, labels=LABELS)).notes == ()


def notes_on(tmp_path: Path, logits_NK: np.ndarray, labels_N: np.ndarray = LABELS) -> str:
    return " ".join(read_answers_file(save_npz(tmp_path / "a.npz", logits=logits_NK, labels=labels_N)).notes)


def test_classes_in_another_order_are_told(tmp_path: Path) -> None:
    swapped = LOGITS[:, [0, 1, 2, 5, 4, 3, 6, 7, 8, 9]]
    right, most = (swapped.argmax(1) == LABELS).mean(), (LOGITS.argmax(1) == LABELS).mean()
    for logits_NK in (swapped, LOGITS[:, ::-1], np.roll(LOGITS, 1, axis=1)):
        found = notes_on(tmp_path, logits_NK)
        assert f"but {100 * most:.1f} % would be with columns exchanged" in found
    found = notes_on(tmp_path, swapped)
    assert f"{100 * right:.1f} % of the answers are right" in found
    assert "such as 3 for 5" in found or "such as 5 for 3" in found
    for skill in (0.3, 1.0):  # poor answers, but in order
        assert "exchanged" not in notes_on(tmp_path, *random_answers(300, 10, seed=4, skill=skill))

    sharp_NK, labels_N = random_answers(300, 10, skill=6.0)
    confused = np.where((np.arange(300) % 10 < 7)[:, None], sharp_NK[:, [0, 1, 2, 5, 4, 3, 6, 7, 8, 9]], sharp_NK)
    assert "exchanged" not in notes_on(tmp_path, confused, labels_N)  # many of both, but not nearly all


def test_labels_without_a_class_0_are_not_refused_for_that(tmp_path: Path) -> None:
    """A poor model may fit the labels a little better with each lowered by one."""
    labels_N, kinds_N = 1 + np.arange(300) % 9, np.arange(300) % 20
    # 30 % right, 35 % one too low, the rest elsewhere
    given_N = np.where(kinds_N < 6, labels_N, np.where(kinds_N < 13, labels_N - 1, (labels_N + 4) % 10))
    path = save_npz(tmp_path / "a.npz", logits=LOGITS / 9 + 9 * np.eye(10)[given_N], labels=labels_N)
    assert read_answers_file(path).scored.labels_N.tolist() == labels_N.tolist()


def test_rows_may_be_off_by_rounding_and_no_more(tmp_path: Path) -> None:
    for factor in (0.992, 1.008):
        found = read_answers_file(save_npz(tmp_path / "a.npz", scores=SOFTMAX * factor, labels=LABELS))
        assert found.kind == "probabilities"
        np.testing.assert_allclose(found.scored.logits_NK.exp().numpy(), SOFTMAX, rtol=1e-9)
    with pytest.raises(DataError, match=r"sums to 0\.985, not to 1"):
        load(save_npz(tmp_path / "b.npz", scores=SOFTMAX * 0.985, labels=LABELS))
    # a class that has all or nothing of every answer is no column of labels
    sure = np.where((LABELS == 3)[:, None], np.eye(10)[3], np.where(np.arange(10) == 3, 0, SOFTMAX))
    sure /= sure.sum(1, keepdims=True)
    assert read_answers_file(save_npz(tmp_path / "c.npz", scores=sure, labels=LABELS)).kind == "probabilities"


def test_answers_given_twice_and_answers_without_doubt_are_told(tmp_path: Path) -> None:
    assert "300 answers repeat another" in notes_on(tmp_path, np.r_[LOGITS, LOGITS], np.r_[LABELS, LABELS])
    assert "gives all to one class" in notes_on(tmp_path, np.eye(10)[LOGITS.argmax(1)])
    assert "rare" in notes_on(tmp_path, expit(LOGITS))


def test_both_files_may_hold_labels_if_they_agree(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", logits=LOGITS, labels=LABELS)
    np.save(tmp_path / "same.npy", LABELS)
    assert load(path, tmp_path / "same.npy")[0].labels_N.tolist() == LABELS.tolist()
    np.save(tmp_path / "other.npy", (LABELS + 1) % 10)
    with pytest.raises(DataError, match="labels that differ"):
        load(path, tmp_path / "other.npy")


def test_logits_and_probabilities_in_one_archive_the_logits_are_taken(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", probs=SOFTMAX, logits=LOGITS, labels=LABELS)
    assert read_answers_file(path).kind == "logits"
