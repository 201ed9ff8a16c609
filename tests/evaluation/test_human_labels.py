"""Human labels: every figure agrees with a count by hand, and answers to other images are refused."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cifarlab.errors import DataError
from cifarlab.evaluation.human_labels import HumanLabels, human_figures, human_labels_section, read_human_labels
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.section import Scored, Subject
from cifarlab.plots.style import save_figure

NAMES = ("cat", "dog", "frog")


def people(count: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Counts of twenty answers to each image, mostly right ones, and the labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    right = generator.uniform(0.4, 1, count)
    chances = np.full((count, 3), (1 - right[:, None]) / 2)
    chances[np.arange(count), labels] = right
    return np.array([generator.multinomial(20, row) for row in chances]), labels


def model(labels: np.ndarray, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(labels), 3)) + 2 * np.eye(3)[labels]


def subject(path: Path | str, logits: np.ndarray, labels: np.ndarray, split: str = "test") -> Subject:
    scored = Scored(torch.from_numpy(logits).float(), torch.from_numpy(labels).long())
    return Subject(split, NAMES, scored, scored, None, None, Options(human_labels=str(path)))


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def test_figures_agree_with_counting_by_hand():
    counts, labels = people()
    logits = model(labels)
    found = human_figures(HumanLabels(counts / 20, np.full(90, 20.0)), logits, labels)
    alone = given = ties = 0
    person, agrees, cross, entropy, agreed, differed = [], [], [], [], [], []
    for row, label, answer in zip(counts.tolist(), labels.tolist(), logits, strict=True):
        said, best = int(np.argmax(answer)), max(row)
        alone += row[label] == best and row.count(best) == 1
        ties += row.count(best) > 1
        given += row[said] == best
        person.append(row[label] / 20)
        agrees.append(row[said] / 20)
        total = math.log(sum(math.exp(x) for x in answer))
        cross.append(-sum(n / 20 * (x - total) for n, x in zip(row, answer, strict=True)))
        entropy.append(-sum(n / 20 * math.log(n / 20) for n in row if n))
        (agreed if best >= 18 else differed).append(said == label)
    assert (found["majority_accuracy"]["count"], found["ties"]) == (alone, ties)
    assert found["model_gives_majority"]["count"] == given
    assert found["person_accuracy"]["value"] == pytest.approx(np.mean(person))
    assert found["model_agrees_with_person"]["value"] == pytest.approx(np.mean(agrees))
    assert found["cross_entropy_to_people"]["value"] == pytest.approx(np.mean(cross))
    assert found["entropy_of_people"]["value"] == pytest.approx(np.mean(entropy))
    assert found["divergence_from_people"]["value"] == pytest.approx(np.mean(cross) - np.mean(entropy))
    for part, key in ((agreed, "accuracy_where_people_agree"), (differed, "accuracy_where_people_differ")):
        assert (found[key]["count"], found[key]["images"]) == (sum(part), len(part))
    right = logits.argmax(1) == labels
    assert found["model_less_person"]["value"] == pytest.approx(right.mean() - np.mean(person))
    half = 1.987 * np.std(right - np.array(person), ddof=1) / math.sqrt(90)  # Student's t with 89 degrees of freedom
    middle = found["model_less_person"]["value"]
    assert found["model_less_person"]["interval"] == pytest.approx([middle - half, middle + half], abs=1e-4)


def test_a_model_that_gives_peoples_own_shares_does_not_diverge_from_them():
    counts, labels = people()
    shares = (counts + 1) / (counts + 1).sum(1, keepdims=True)
    found = human_figures(HumanLabels(shares, None), np.log(shares), labels)
    assert found["divergence_from_people"]["value"] == pytest.approx(0, abs=1e-12)
    assert found["cross_entropy_to_people"]["value"] == pytest.approx(found["entropy_of_people"]["value"])


def test_a_tie_is_not_the_label():
    counts = np.array([[5, 5, 0], [10, 0, 0], [0, 0, 10]])
    labels = np.array([0, 0, 2])
    found = human_figures(HumanLabels(counts / 10, None), np.array([[0, 9, 0], [9, 0, 0], [0, 0, 9]]) * 1.0, labels)
    assert found["ties"] == 1
    assert found["majority_accuracy"]["count"] == 2
    assert found["model_gives_majority"]["count"] == 3  # either of two equally frequent answers is what people say


def test_every_image_is_in_one_group_of_agreement(tmp_path: Path):
    counts, labels = people(300)
    logits = model(labels)
    found = human_labels_section(subject(save(tmp_path / "counts.npy", counts), logits, labels))
    table = found.tables["human_agreement"]
    assert sum(row[1] for row in table.rows) == 300
    edges = {"below 50 %": (0, 10), "50 to 60 %": (10, 12), "60 to 70 %": (12, 14), "70 to 80 %": (14, 16)}
    edges |= {"80 to 90 %": (16, 18), "90 % or more": (18, 20), "all": (20, 21)}
    best = counts.max(1)
    for name, images, accuracy, _, person in table.rows:
        low, high = edges[name]
        chosen = (best >= low) & (best < high)
        assert images == chosen.sum()
        assert accuracy == pytest.approx((logits.argmax(1) == labels)[chosen].mean())
        assert person == pytest.approx((counts[np.arange(300), labels] / 20)[chosen].mean())
    assert found.figures["people_per_image"] == 20
    assert "about 20 people" in found.findings[0]
    save_figure(found.plots["human_agreement"], tmp_path / "agreement")


def test_shares_say_the_same_as_counts_but_for_the_number_of_people(tmp_path: Path):
    counts, labels = people()
    first = read_human_labels(save(tmp_path / "counts.npy", counts), NAMES)
    second = read_human_labels(save(tmp_path / "shares.npy", counts / 20), NAMES)
    assert np.allclose(first.shares_NK, second.shares_NK)
    assert first.people_N is not None
    assert first.people_N.tolist() == [20] * len(labels)
    assert second.people_N is None


def test_columns_of_a_csv_file_may_stand_in_any_order_below_their_names(tmp_path: Path):
    counts, _ = people()
    expected = read_human_labels(save(tmp_path / "counts.npy", counts), NAMES).shares_NK
    for name, order, header in (("named", [2, 0, 1], ["frog", "cat", "dog"]), ("bare", [0, 1, 2], None)):
        path = tmp_path / f"{name}.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(([header] if header else []) + counts[:, order].tolist())
        assert np.allclose(read_human_labels(path, NAMES).shares_NK, expected)


def test_answers_in_another_order_are_refused(tmp_path: Path):
    counts, labels = people(300)
    shuffled = counts[np.random.default_rng(3).permutation(300)]
    with pytest.raises(DataError, match="another order"):
        human_labels_section(subject(save(tmp_path / "counts.npy", shuffled), model(labels), labels))


def test_answers_to_another_number_of_images_are_passed_over_and_it_is_said_what_is_expected(tmp_path: Path):
    counts, labels = people()
    path = save(tmp_path / "counts.npy", counts)
    found = human_labels_section(subject(path, model(labels)[:80], labels[:80], "val"))
    assert "90 images" in found.skipped
    assert "80 validation images" in found.skipped
    assert "10,000 test images" in found.skipped
    assert "--human-labels" in human_labels_section(subject("", model(labels), labels)).skipped


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([[1, 2, 3], [0, 0, 0]], "entry 1"),
        ([[1, 2, 3], [1, -1, 3]], "entry 1"),
        ([[1, math.nan, 3], [1, 1, 3]], "entry 0"),
        ([[1, 2], [3, 4]], "2 columns"),
        ([0, 1], "one column"),
    ],
)
def test_rows_that_are_no_answers_are_named(tmp_path: Path, array: list, message: str):
    with pytest.raises(DataError, match=message):
        read_human_labels(save(tmp_path / "counts.npy", np.array(array)), NAMES)


def test_a_file_that_is_missing_or_could_run_code_is_not_read(tmp_path: Path):
    with pytest.raises(DataError, match="there is no file"):
        read_human_labels(tmp_path / "none.npy", NAMES)
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="no array of numbers"):
        read_human_labels(tmp_path / "pickle.npy", NAMES)


def test_people_who_all_agree_leave_no_group_empty(tmp_path: Path):
    labels = np.arange(30) % 3
    counts = 10 * np.eye(3, dtype=int)[labels]
    found = human_labels_section(subject(save(tmp_path / "counts.npy", counts), model(labels), labels))
    assert found.figures["accuracy_where_people_differ"]["value"] is None
    assert [row[0] for row in found.tables["human_agreement"].rows] == ["all"]
    assert "fewer agree" not in found.findings[1]
