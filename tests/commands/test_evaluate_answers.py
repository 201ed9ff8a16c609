"""evaluate --answers: a file of others' answers is judged by the same figures, and its page repeats the command."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tyro
from sklearn import metrics as reference
from tests.commands.run_to_evaluate import _answers, _plots_cost_seconds, strict_json  # noqa: F401 fixtures

from cifarlab.cli_arguments import EvaluateArguments
from cifarlab.commands.evaluate import evaluate_answers
from cifarlab.errors import UsageError
from cifarlab.evaluation.options import Options
from cifarlab.stats import wilson_interval


def test_answers_of_others_are_judged_by_the_same_figures(answers: Path, tmp_path: Path) -> None:
    held = np.load(answers)
    p, y = held["logits"].argmax(1), held["labels"]
    evaluation = evaluate_answers(answers, out=tmp_path / "judged", sections=("quick", "why"))
    assert evaluation.split == "given"
    assert evaluation.accuracy.value == reference.accuracy_score(y, p)
    assert evaluation.accuracy.interval == wilson_interval(int((p == y).sum()), 200)
    assert evaluation.class_names == ("class 0", "class 1", "class 2", "class 3")
    assert "only answers are at hand" in evaluation.sections["why"]["skipped"]
    assert all(evaluation.sections[name]["findings"] for name in ("scores", "ranking"))
    assert strict_json(tmp_path / "judged" / "evaluation.json")["splits"]["given"] == evaluation.as_dict()
    assert "theirs.npz" in (tmp_path / "judged" / "evaluation" / "given.html").read_text(encoding="utf-8")


def test_labels_and_answers_to_val_may_stand_in_files_of_their_own(answers: Path, tmp_path: Path) -> None:
    held = np.load(answers)
    np.save(tmp_path / "logits.npy", held["logits"][:120])
    np.save(tmp_path / "labels.npy", held["labels"][:120])
    np.savez(tmp_path / "val.npz", logits=held["logits"][120:], labels=held["labels"][120:])
    evaluation = evaluate_answers(
        tmp_path / "logits.npy", out=tmp_path / "o", labels=tmp_path / "labels.npy", val_answers=tmp_path / "val.npz"
    )
    assert evaluation.num_images == 120
    assert not evaluation.sections["calibration"]["skipped"]
    np.savez(tmp_path / "val.npz", logits=held["logits"][120:, :3], labels=held["labels"][120:] % 3)
    with pytest.raises(UsageError, match="3 classes"):
        evaluate_answers(answers, out=tmp_path / "o", val_answers=tmp_path / "val.npz")
    with pytest.raises(UsageError, match=r"logits\.npy holds no labels; .* --val-labels labels\.npy"):
        evaluate_answers(answers, out=tmp_path / "o", val_answers=tmp_path / "logits.npy")


def test_what_is_odd_in_the_answers_to_val_is_told_too(answers: Path, tmp_path: Path) -> None:
    held = np.load(answers)
    np.savez(tmp_path / "val.npz", logits=held["logits"][:, ::-1], labels=held["labels"])
    evaluation = evaluate_answers(answers, out=tmp_path / "o", val_answers=tmp_path / "val.npz", sections=())
    (notice,) = evaluation.notices
    assert notice.startswith("val.npz: ")
    assert "columns exchanged" in notice


def test_the_command_on_the_page_repeats_the_evaluation(answers: Path, tmp_path: Path) -> None:
    options = Options(wanted_accuracy=0.9, seed=3)
    evaluate_answers(
        answers, out=tmp_path / "judged", val_answers=answers, sections=("selective", "scores"), options=options
    )
    page = html.unescape((tmp_path / "judged" / "evaluation" / "given.html").read_text(encoding="utf-8"))
    command = re.search(r"cifarlab evaluate (--answers [^<\n]*)", page)
    assert command
    repeated = tyro.cli(EvaluateArguments, args=shlex.split(command[1]))
    assert repeated.options == options
    assert repeated.sections == ("selective", "scores")
    assert (repeated.answers, repeated.val_answers, repeated.out) == (answers, answers, tmp_path / "judged")
