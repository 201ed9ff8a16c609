"""evaluate: what sections find is written, one skipped loses no other, and wrong settings are told before reading."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.commands.run_to_evaluate import (  # noqa: F401 fixtures
    NAMES,
    _answers,
    _plots_cost_seconds,
    _run,
    _splits,
    add_section,
    found,
    rows,
    strict_json,
)

from cifarlab.commands.evaluate import evaluate, evaluate_answers
from cifarlab.data import cifar10_c
from cifarlab.data.cifar import CIFAR10
from cifarlab.errors import DataError, UsageError
from cifarlab.evaluation.conduct import enforce_sections
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.section import Section, Subject
from cifarlab.evaluation.sections import QUICK, require_files
from cifarlab.run import Run


def test_a_section_gets_the_answers_and_what_it_finds_is_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Subject] = []
    add_section(monkeypatch, "well", lambda subject: seen.append(subject) or found(subject))
    evaluation = evaluate(run, split="test", sections=("well",), options=Options(seed=3), device="cpu")
    (subject,) = seen
    stored = run.load_predictions("test")
    assert torch.equal(subject.judged.logits_NK, stored.logits_tta_NK)
    assert torch.equal(subject.judged.labels_N, stored.labels_N)
    assert subject.judged.images is not None
    assert subject.val is not None
    assert len(subject.val.labels_N) == 20
    assert (subject.split, subject.class_names, subject.options.seed) == ("test", NAMES, 3)
    assert subject.train is not None
    assert len(subject.train()) == 60
    entry = strict_json(run.path / "evaluation.json")["splits"]["test"]["sections"]["well"]
    assert entry == evaluation.as_dict()["sections"]["well"]
    assert entry["figures"] == {"share": {"value": 0.5, "interval": [0.25, 0.75]}, "nothing": None}
    assert entry["findings"] == ["It is <b>well</b>."]
    assert entry["tables"]["well"]["rows"] == [["a", 0.5, [0.25, 0.75]], ["b", None, None]]
    assert (entry["skipped"], entry["options"]) == ("", {"seed": 3})
    assert entry["seconds"] >= 0
    header = ["class", "share", "95 % interval, low", "95 % interval, high"]
    assert rows(run.path / "evaluation" / "well_test.csv") == [header, ["a", "0.5", "0.25", "0.75"], ["b", "", "", ""]]


def test_what_is_judged_on_val_is_also_what_is_fitted_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Subject] = []
    add_section(monkeypatch, "well", lambda subject: seen.append(subject) or found(subject))
    evaluate(run, sections=("well",), device="cpu")
    assert seen[0].val is seen[0].judged


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stored_answers_to_val_serve_where_training_computed_as_evaluation_does(
    run: Run, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    evaluate(run, split="val", sections=(), device="cpu")
    right = run.load_predictions("val")
    run.save_predictions("val", dataclasses.replace(right, logits_tta_NK=torch.zeros_like(right.logits_NK)))
    run.write_json("result.json", {"precision": precision})
    seen: list[Subject] = []
    add_section(monkeypatch, "well", lambda subject: seen.append(subject) or found(subject))
    evaluate(run, split="test", sections=("well",), device="cpu")
    assert seen[0].val is not None
    used = seen[0].val.logits_NK
    expected = torch.zeros_like(used) if precision == "fp32" else right.logits_tta_NK
    torch.testing.assert_close(used, expected)


def test_a_section_the_user_can_mend_is_skipped_and_loses_none_of_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(subject: Subject) -> Section:
        raise DataError("no file; fetch it")

    lines: list[str] = []
    add_section(monkeypatch, "ill", missing)
    add_section(monkeypatch, "well", found)
    evaluation = evaluate(run, sections=("well", "ill"), device="cpu", notify=lines.append)
    assert evaluation.sections["ill"]["skipped"] == "no file; fetch it"
    assert evaluation.sections["well"]["findings"]
    assert "skipped ill: no file; fetch it" in lines
    page = (run.path / "evaluation" / "val.html").read_text(encoding="utf-8")
    assert "no file; fetch it" in page
    enforce_sections(evaluation, ("quick", "well"))
    with pytest.raises(DataError, match="section ill was skipped: no file; fetch it"):
        enforce_sections(evaluation, ("ill",))


def test_an_unexpected_error_ends_the_command_and_keeps_what_was_found(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_section(monkeypatch, "well", found)

    def broken(subject: Subject) -> Section:
        raise ZeroDivisionError("our own mistake")

    add_section(monkeypatch, "broken", broken)
    add_section(monkeypatch, "never", found)
    with pytest.raises(ZeroDivisionError):
        evaluate(run, sections=("well", "broken", "never"), device="cpu")
    entry = strict_json(run.path / "evaluation.json")["splits"]["val"]
    assert list(entry["sections"]) == ["well"]
    assert entry["num_images"] == 20
    assert (run.path / "evaluation" / "well_val.csv").is_file()
    assert (run.path / "evaluation" / "val.html").is_file()


def test_sections_of_an_earlier_evaluation_stay_until_the_answers_change(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_section(monkeypatch, "well", found)
    add_section(monkeypatch, "other", found)
    evaluate(run, sections=("well",), device="cpu")
    assert list(evaluate(run, sections=("other",), device="cpu").sections) == ["well", "other"]
    tensors, metadata = run.load_model()
    tensors["network.head.weight"].neg_()
    run.save_model(tensors, metadata)
    told: list[str] = []
    assert list(evaluate(run, sections=("other",), device="cpu", notify=told.append).sections) == ["other"]
    assert [line.partition("; ")[2] for line in told if "left out" in line] == ["measure it again with --sections well"]


def test_a_setting_that_no_chosen_section_heeds_is_refused_before_anything_is_read(run: Run, answers: Path) -> None:
    with pytest.raises(UsageError, match="--human-labels is for the section quality; ask for it: --sections quality"):
        evaluate(run, split="test", options=Options(human_labels="people.npy"), device="cpu")
    with pytest.raises(UsageError, match="--num-corrupted is for the section corruptions or shifts"):
        evaluate_answers(answers, out=answers.parent / "judged", options=Options(num_corrupted=5))
    assert run.test_reads() == []
    assert not (answers.parent / "judged").exists()


@pytest.mark.parametrize(
    ("setting", "section", "message"),
    [
        ("costs", "scores", "holds 1 lines of 1 costs, but there are 3 classes"),
        ("human_labels", "quality", "holds people's answers to 7 images, but here are 50 test images"),
        ("cifar10_c", "corruptions", "there is no folder .*, which --cifar10-c names"),
        ("unknown", "unknown", "there is no folder .*, which --unknown names"),
    ],
)
def test_a_wrong_file_of_the_users_is_told_before_anything_is_read(
    run: Run, tmp_path: Path, setting: str, section: str, message: str
) -> None:
    np.save(tmp_path / "human_labels.npy", np.ones((7, 3)))
    (tmp_path / "costs").write_text(",a\nb,1\n", encoding="utf-8")
    options = Options(**{setting: str(tmp_path / (setting + (".npy" if setting == "human_labels" else "")))})
    with pytest.raises(DataError, match=message):
        evaluate(run, split="test", sections=(section,), options=options, device="cpu")
    assert run.test_reads() == []
    assert not (run.path / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("setting", "section", "message"),
    [("cifar10_c", "corruptions", "labels.npy and the 15 .npy files"), ("unknown", "unknown", "no image in")],
)
def test_a_folder_without_what_is_wanted_is_told_before_anything_is_read(
    run: Run, tmp_path: Path, setting: str, section: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    options = Options(**{setting: str(tmp_path / "empty")})
    with pytest.raises(DataError, match=message):
        evaluate(run, split="test", sections=(section,), options=options, device="cpu")
    assert run.test_reads() == []


def test_official_files_hold_the_labels_of_test_and_are_not_opened_for_val(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10_c, "open_cifar10_c", lambda folder: pytest.fail("opened"))
    require_files(Options(cifar10_c=str(tmp_path)), CIFAR10.class_names, "val", cifar10_c.NUM_IMAGES)


def test_a_section_that_files_were_named_for_may_not_be_skipped_silently() -> None:
    sections = {
        "corruptions": {"skipped": "fog.npy is missing", "options": {"cifar10_c": "official"}},
        "attacks": {"skipped": "no model", "options": {"seed": 3}},
    }
    evaluation: Any = type("Judged", (), {"sections": sections})()
    enforce_sections(evaluation, ("quick",))
    with pytest.raises(DataError, match=r"section corruptions was skipped: fog\.npy is missing"):
        enforce_sections(evaluation, ("all",))
    sections.pop("corruptions")
    enforce_sections(evaluation, ("all",))
    part = {
        "human_labels": {"skipped": "they are in another order"},
        "duplicates": {},
        "label_errors": {"skipped": "x"},
    }
    sections["quality"] = {"skipped": "", "figures": part, "options": {}}
    enforce_sections(evaluation, ("quality",))
    sections["quality"]["options"] = {"human_labels": "people.npy"}
    with pytest.raises(DataError, match="section quality was skipped: they are in another order"):
        enforce_sections(evaluation, ("all",))


def test_an_unknown_section_is_refused_before_anything_is_read(run: Run) -> None:
    with pytest.raises(UsageError, match="no section is called 'scoers'; there are scores"):
        evaluate(run, split="test", sections=("scoers",), device="cpu")
    assert run.test_reads() == []


def test_the_quick_sections_need_no_model_and_are_all_written(run: Run) -> None:
    evaluation = evaluate(run, device="cpu")
    assert tuple(evaluation.sections) == QUICK
    assert all(entry["findings"] for entry in evaluation.sections.values())
    assert strict_json(run.path / "evaluation.json")["splits"]["val"] == evaluation.as_dict()
