"""Costs of mistakes: the file, the two ways of deciding, and every mistake a user can make in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.answers import calibrated_answers, random_answers, subject

from cifarlab.errors import DataError
from cifarlab.evaluation.costs import cost_figures, least_cost_answers, read_costs
from cifarlab.evaluation.scores import scores_section

NAMES = ("cat", "dog", "ship")


def softmax(logits_NK: np.ndarray) -> np.ndarray:
    powers = np.exp(logits_NK)
    return powers / powers.sum(1, keepdims=True)


def test_rows_and_columns_are_brought_into_the_order_of_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("true,ship, dog,cat\n\ndog,7,0,1\nship,0,6,5\ncat,3,2,0\n", encoding="utf-8-sig")
    assert read_costs(path, NAMES).tolist() == [[0, 2, 3], [1, 0, 7], [5, 6, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (",cat,dog\ncat,0,1\ndog,1,0\n", "2 lines of 2 costs, but there are 3 classes"),
        (",cat,dog,ship\ncat,0,1,2\ndog,1,0,2\n", "2 lines of 3 costs"),
        (";cat;dog;ship\ncat;0;1;2\ndog;1;0;2\nship;1;1;0\n", "3 lines of 0 costs, .* commas between them"),
        (",cat,dog,boat\ncat,0,1,2\ndog,1,0,2\nship,1,1,0\n", "'boat' in the header is no class; 'ship' is missing"),
        (",cat,dog,ship\ncat,0,1,2\ncat,1,0,2\nship,1,1,0\n", "'cat' stands twice in the first column"),
        (",cat,dog,ship\ncat,0,1,2\ndog,1,-3,2\nship,1,1,0\n", "line 3: '-3' is no cost"),
        (",cat,dog,ship\ncat,0,1,nan\ndog,1,0,2\nship,1,1,0\n", "line 2: 'nan' is no cost"),
        (",cat,dog,ship\ncat,0,1,2\ndog,1,0,inf\nship,1,1,0\n", "line 3: 'inf' is no cost"),
        (",cat,dog,ship\ncat,0,1e308,2\ndog,1,0,2\nship,1,1,0\n", r"'1e308' is no cost; .* 0 to 1e\+15"),
        (",cat,dog,ship\ncat,0,1,2\ndog,1,,2\nship,1,1,0\n", "line 3: '' is no cost"),
        (",cat,dog,ship\ncat,0,1,2\ndog,1,0\nship,1,1,0\n", "line 3: 2 costs, but 3 are needed"),
    ],
)
def test_every_fault_of_the_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as raised:
        read_costs(path, NAMES)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_costs(tmp_path / "missing.csv", NAMES)
    with pytest.raises(DataError, match="cannot read"):
        read_costs(tmp_path, NAMES)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80\x81")
    with pytest.raises(DataError, match="not text in UTF-8"):
        read_costs(tmp_path / "binary.csv", NAMES)


def test_the_answer_of_least_cost_is_that_of_a_loop() -> None:
    generator = np.random.default_rng(0)
    p_NK, costs_KK = generator.dirichlet(np.ones(5), 300), generator.uniform(0, 9, (5, 5))
    expected = [min(range(5), key=lambda j: sum(p[k] * costs_KK[k, j] for k in range(5))) for p in p_NK]
    assert least_cost_answers(p_NK, costs_KK).tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_costs_are_means_over_the_images_and_their_intervals_cover(seed: int) -> None:
    logits_NK, labels_N = random_answers(2000, 4, seed)
    costs_KK = np.random.default_rng(seed).uniform(0, 5, (4, 4)) * (1 - np.eye(4))
    p_NK = softmax(logits_NK)
    found = cost_figures(p_NK, labels_N, costs_KK, seed=0)
    first_N = costs_KK[labels_N, p_NK.argmax(1)]
    second_N = costs_KK[labels_N, least_cost_answers(p_NK, costs_KK)]
    for name, each_N in (("most_probable", first_N), ("least_cost", second_N), ("saving", first_N - second_N)):
        assert found[name]["value"] == pytest.approx(each_N.mean())
        half_width = 1.96 * each_N.std(ddof=1) / np.sqrt(2000)
        expected = [each_N.mean() - half_width, each_N.mean() + half_width]
        assert found[name]["interval"] == pytest.approx(expected, abs=0.25 * half_width)


def test_equal_costs_of_all_mistakes_are_the_error_rate_and_change_no_answer() -> None:
    logits_NK, labels_N = random_answers(500, 5)
    found = cost_figures(softmax(logits_NK), labels_N, 1 - np.eye(5), seed=0)
    error = float((logits_NK.argmax(1) != labels_N).mean())
    assert found["most_probable"]["value"] == pytest.approx(error)
    assert found["least_cost"]["value"] == pytest.approx(error)
    assert found["num_changed"] == 0
    assert found["saving"]["interval"] is None


def test_a_rule_that_does_harm_or_nothing_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(",class a,class b\nclass a,0,1e6\nclass b,2e6,0\n")
    unsure = np.tile([[0.1, 0.0]], (400, 1)), np.repeat([0, 1], [390, 10])  # it says 52 %, and is right in 97 %
    section = scores_section(subject(unsure, costs=str(path)))
    assert section.figures["costs"]["saving"]["value"] == pytest.approx((10 * 2e6 - 390 * 1e6) / 400)
    assert "an image costs 50,000 (95 % interval " in section.findings[-1]
    assert "the most probable adds 925,000 (95 % interval " in section.findings[-1]
    path.write_text(",class a,class b\nclass a,0,1e-6\nclass b,1e-6,0\n")
    section = scores_section(subject(unsure, costs=str(path)))
    assert "costs 0.00000002500 (95 % interval " in section.findings[-1]
    assert "No answer changes" in section.findings[-1]


def test_rounding_of_large_costs_is_no_spread() -> None:
    logits_NK, labels_N = random_answers(300, 3)
    found = cost_figures(softmax(logits_NK), labels_N, np.full((3, 3), 1e9 / 7), seed=0)
    assert found["most_probable"]["value"] == pytest.approx(1e9 / 7)
    assert found["most_probable"]["interval"] is None


@pytest.mark.parametrize("seed", range(4))
def test_of_calibrated_answers_the_rule_of_least_cost_saves(seed: int) -> None:
    logits_NK, labels_N = calibrated_answers(20_000, 4, seed)
    costs_KK = np.random.default_rng(seed).uniform(0.1, 9, (4, 4)) * (1 - np.eye(4))
    assert cost_figures(softmax(logits_NK), labels_N, costs_KK, seed)["saving"]["interval"][0] > 0


def test_the_section_tells_costs_and_that_right_answers_are_charged(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text(",class a,class b\nclass a,0.5,1\nclass b,20,0\n")
    section = scores_section(subject(random_answers(400, 2), costs=str(path)))
    assert section.figures["costs"]["least_cost"]["value"] < section.figures["costs"]["most_probable"]["value"]
    saving, mean = section.figures["costs"]["saving"], section.figures["costs"]["most_probable"]
    low, high = saving["interval"]
    assert section.findings[-1].startswith(f"By the given costs an image costs {mean['value']:.3f} (95 % interval ")
    assert f"saves {saving['value']:.3f} (95 % interval {low:.3f} to {high:.3f}) an image" in section.findings[-1]
    assert any("charges right answers too: class a" in note for note in section.notes)
