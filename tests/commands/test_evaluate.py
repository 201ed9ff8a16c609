"""evaluate: what it writes agrees with the predictions it stored, and every reading of test is on record."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import tyro
from PIL import Image
from sklearn import metrics as reference

from cifarlab.cli_arguments import EvaluateArguments
from cifarlab.cli_evaluate import print_evaluation
from cifarlab.commands import evaluate as module
from cifarlab.commands.evaluate import evaluate, evaluate_answers
from cifarlab.config import Config, DataConfig, EvaluateConfig, ModelConfig, SpeednetConfig
from cifarlab.data import ImageSet, Splits, cifar10_c
from cifarlab.data.cifar import CIFAR10
from cifarlab.errors import DataError, GateError, IntegrityError, RunError, UsageError
from cifarlab.evaluation import conduct, writing
from cifarlab.evaluation.conduct import enforce, enforce_sections
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.evaluation.sections import QUICK, SECTIONS, Entry, require_files
from cifarlab.inference import Classifier, model_metadata
from cifarlab.models import build_model, fit_to_images
from cifarlab.run import Run
from cifarlab.stats import wilson_interval

NAMES = ("plain", "with, comma", "$never$ seen")
SIZE = 12


def squares(count: int, seed: int, *, names: bool = False) -> ImageSet:
    """Noisy images of the first two classes; the third has none."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(count) % 2
    images = torch.randint(120, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    images[torch.arange(count), labels_N] += 60
    return ImageSet(images, labels_N, NAMES, tuple(f"{i}.png" for i in range(count)) if names else ())


@pytest.fixture
def splits() -> Splits:
    return Splits(squares(60, 0), squares(20, 1), squares(50, 2, names=True), "squares", "abc")


def make_run(root: Path, splits: Splits, views: str = "flip", views_margin: float = 0.02) -> Run:
    config = Config(
        data=DataConfig(image_size=SIZE),
        model=ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 8, 8))),
        evaluate=EvaluateConfig(views=views, views_margin=views_margin, batch_size=16),  # type: ignore[arg-type]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(config.model, len(NAMES), SIZE)
    fit_to_images(model, splits.train.images_NCHW)
    run = Run.create(config, name="tiny", root=root)
    run.write_json("environment.json", {"split_sha256": splits.sha256, "data_sha256": splits.train.sha256()})
    run.save_model(model.state_dict(), model_metadata(config, NAMES))
    run.write_json("result.json", {"format": 1})
    return run


@pytest.fixture
def run(tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(module, "load_splits", lambda config: splits)
    return make_run(tmp_path, splits)


@pytest.fixture(autouse=True)
def _plots_cost_seconds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "plots" not in request.node.name:
        monkeypatch.setattr(conduct, "write_mistakes", lambda *arguments: None)
        monkeypatch.setattr(writing, "save_plots", lambda folder, split, figures: None)


def strict_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_figures_agree_with_the_stored_predictions(run: Run) -> None:
    evaluation = evaluate(run, split="test", sections=(), device="cpu")
    stored = run.load_predictions("test")
    assert stored.logits_tta_NK is not None
    y = stored.labels_N.numpy()
    probabilities = stored.logits_tta_NK.double().softmax(1).numpy()
    p = probabilities.argmax(1)
    correct = int((stored.logits_NK.argmax(1).numpy() == y).sum())
    assert (evaluation.split, evaluation.num_images, evaluation.class_names) == ("test", 50, NAMES)
    assert evaluation.accuracy.value == correct / 50
    assert evaluation.accuracy.interval == wilson_interval(correct, 50)
    assert evaluation.accuracy_tta is not None
    assert evaluation.accuracy_tta.value == reference.accuracy_score(y, p)
    assert evaluation.headline == "accuracy_tta"
    assert evaluation.loss == pytest.approx(reference.log_loss(y, probabilities, labels=[0, 1, 2]))
    assert evaluation.top3 == 1
    assert evaluation.confusion == reference.confusion_matrix(y, p, labels=[0, 1, 2]).tolist()
    assert [one.support for one in evaluation.per_class] == [25, 25, 0]
    assert sum(row.count for row in evaluation.reliability) == 50
    assert len(evaluation.mistakes) == min(36, int((y != p).sum()))
    assert all(one.name == f"{one.index}.png" and y[one.index] == one.label for one in evaluation.mistakes)
    assert evaluation.notices == ()


def test_plain_and_view_logits_differ_so_that_the_headline_means_something(run: Run) -> None:
    evaluate(run, split="val", sections=(), device="cpu")
    stored = run.load_predictions("val")
    assert stored.logits_tta_NK is not None
    changed = (stored.logits_tta_NK != stored.logits_NK).any(1)
    top = stored.logits_NK.softmax(1).sort(1, descending=True).values
    assert torch.equal(changed, top[:, 0] - top[:, 1] <= run.config.evaluate.views_margin)
    assert 0 < int(changed.sum()) < len(changed)


def test_what_is_judged_is_what_the_classifier_answers(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_splits", lambda config: splits)
    run = make_run(tmp_path, splits, views="flip_translate", views_margin=0.1)
    evaluate(run, split="val", sections=(), device="cpu")
    assert splits.val is not None
    answers = Classifier.load(run, "cpu").logits(splits.val.images_NCHW)
    stored = run.load_predictions("val").logits_tta_NK
    assert stored is not None
    torch.testing.assert_close(stored, answers, atol=1e-6, rtol=1e-5)


def test_a_run_without_views_has_a_plain_headline(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_splits", lambda config: splits)
    run = make_run(tmp_path, splits, views="none")
    evaluation = evaluate(run, split="test", sections=(), device="cpu")
    assert (evaluation.headline, evaluation.accuracy_tta) == ("accuracy", None)
    assert run.load_predictions("test").logits_tta_NK is None


def test_evaluation_json_is_strict_json_and_keeps_the_other_split(run: Run) -> None:
    first = evaluate(run, split="val", sections=(), device="cpu")
    second = evaluate(run, split="test", sections=(), device="cpu")
    content = strict_json(run.path / "evaluation.json")
    assert content["format"] == 2
    assert content["splits"] == {"val": first.as_dict(), "test": second.as_dict()}
    entry = content["splits"]["test"]
    assert entry["accuracy"]["method"] == "wilson"
    assert entry["accuracy"]["confidence"] == 0.95
    assert entry["per_class"][2]["recall"] is None  # nothing was measured, and that is not zero
    assert entry["seconds"] > 0
    assert entry["time"].endswith("+00:00")
    again = evaluate(run, split="val", sections=(), device="cpu")
    assert strict_json(run.path / "evaluation.json")["splits"] == {"val": again.as_dict(), "test": second.as_dict()}


def test_tables(run: Run) -> None:
    evaluation = evaluate(run, split="test", sections=(), device="cpu")
    folder = run.path / "evaluation"
    per_class = rows(folder / "per_class_test.csv")
    assert per_class[0] == ["class", "support", "precision", "recall", "f1"]
    assert [row[0] for row in per_class[1:]] == list(NAMES)
    assert per_class[3][1:4:2] == ["0", ""]
    confusion = rows(folder / "confusion_test.csv")
    assert [[int(cell) for cell in row[1:]] for row in confusion[1:]] == evaluation.confusion
    predictions = rows(folder / "predictions_test.csv")
    assert predictions[0] == ["index", "name", "label", "predicted", "confidence"]
    assert len(predictions) == 51
    right = sum(row[2] == row[3] for row in predictions[1:])
    assert evaluation.accuracy_tta is not None
    assert right / 50 == evaluation.accuracy_tta.value
    assert predictions[4][:3] == ["3", "3.png", NAMES[1]]


def test_plots(run: Run) -> None:
    evaluate(run, split="test", device="cpu")
    for name in ("confusion", "reliability", "per_class", "roc", "precision_recall", "coverage", "mistakes"):
        with Image.open(run.path / "plots" / f"{name}_test.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5
        assert (run.path / "plots" / f"{name}_test.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_every_reading_of_test_is_recorded_and_of_val_none(run: Run) -> None:
    evaluate(run, split="val", sections=(), device="cpu")
    assert run.test_reads() == []
    evaluate(run, split="test", sections=(), reason="final figure", device="cpu")
    evaluate(run, split="test", sections=(), device="cpu")
    assert [read["reason"] for read in run.test_reads()] == ["final figure", ""]
    assert run.test_reads()[0]["command"] == "evaluate --split test"


def test_the_reading_is_recorded_before_it_happens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(module, "predict_logits", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        evaluate(run, split="test", sections=(), device="cpu")
    assert len(run.test_reads()) == 1
    assert not (run.path / "evaluation.json").exists()


@pytest.mark.parametrize("key", ["split_sha256", "data_sha256"])
def test_other_images_than_those_of_the_run_are_refused_unread(run: Run, key: str) -> None:
    recorded = run.read_json("environment.json")
    run.write_json("environment.json", recorded | {key: "other"})
    with pytest.raises(IntegrityError, match="have changed since"):
        evaluate(run, split="test", sections=(), device="cpu")
    assert run.test_reads() == []


def test_other_classes_than_those_of_the_run_are_refused(
    run: Run, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = splits.train
    renamed = ImageSet(images.images_NCHW, images.labels_N, ("a", "b", "c"))
    other = Splits(renamed, splits.val, splits.test, splits.origin, splits.sha256)
    monkeypatch.setattr(module, "load_splits", lambda config: other)
    with pytest.raises(IntegrityError, match="classes a, b, c"):
        evaluate(run, split="test", sections=(), device="cpu")


def test_a_run_that_records_no_split_gives_a_notice(run: Run) -> None:
    run.write_json("environment.json", {"torch": "2"})
    assert "does not record its split" in evaluate(run, split="test", sections=(), device="cpu").notices[0]


@pytest.mark.parametrize(("split", "other"), [("val", "test"), ("test", "val")])
def test_a_split_without_images_names_the_way_out(
    run: Run, splits: Splits, monkeypatch: pytest.MonkeyPatch, split: str, other: str
) -> None:
    bare = Splits(splits.train, None, None, splits.origin, splits.sha256)
    monkeypatch.setattr(module, "load_splits", lambda config: bare)
    with pytest.raises(
        UsageError, match=f"has no {split} images; take --split {other}, or train with data.{split}_fraction"
    ):
        evaluate(run, split=split, device="cpu")  # type: ignore[arg-type]
    assert run.test_reads() == []


def test_an_unfinished_run_is_refused(run: Run) -> None:
    (run.path / "result.json").unlink()
    with pytest.raises(RunError, match="--resume"):
        evaluate(run, split="test", sections=(), device="cpu")
    assert run.test_reads() == []


def test_weights_gone_bad_give_null_and_say_so(run: Run) -> None:
    tensors, metadata = run.load_model()
    tensors["network.head.weight"][:] = 3e38  # finite, so that it loads; sums of it are not
    run.save_model(tensors, metadata)
    evaluate(run, split="test", device="cpu")
    entry = strict_json(run.path / "evaluation.json")["splits"]["test"]
    assert entry["loss"] is None
    assert all("answers on test are NaN" in entry["sections"][name]["skipped"] for name in QUICK)
    assert "must be trained anew" in page_of(run, "test")


# Sections


def add_section(monkeypatch: pytest.MonkeyPatch, name: str, function: Any) -> None:
    """Put a section into the table, as a module of its own."""
    module_name = f"cifarlab.evaluation.{name}"
    fake = ModuleType(module_name)
    setattr(fake, f"{name}_section", function)
    monkeypatch.setitem(sys.modules, module_name, fake)
    monkeypatch.setitem(SECTIONS, name, Entry(f"Is it {name}?", name, quick=False, cost="no time", options=("seed",)))


def found(subject: Subject) -> Section:
    table = Table("Of <classes>", ("class", "share", "95 % interval"), [("a", 0.5, (0.25, 0.75)), ("b", None, None)],
                  ("text", "fraction", "interval"))  # fmt: skip
    return Section(
        findings=("It is <b>well</b>.",),
        figures={"share": {"value": np.float64(0.5), "interval": (0.25, 0.75)}, "nothing": float("nan")},
        tables={"well": table},
        notes=("Only a test.",),
    )


def test_validation_images_are_judged_unless_test_is_asked_for(run: Run) -> None:
    evaluation = evaluate(run, sections=(), device="cpu")
    assert (evaluation.split, evaluation.num_images) == ("val", 20)
    assert run.test_reads() == []
    assert not (run.path / "predictions" / "test.safetensors").exists()


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


def test_an_evaluation_of_the_first_format_is_kept_beside_the_new_one(run: Run) -> None:
    evaluation = evaluate(run, split="test", sections=(), device="cpu").as_dict()
    del evaluation["sections"]
    run.write_json("evaluation.json", {"format": 1, "splits": {"test": evaluation}})
    evaluate(run, sections=(), device="cpu")
    content = strict_json(run.path / "evaluation.json")
    assert content["format"] == 2
    assert content["splits"]["test"] == evaluation
    assert content["splits"]["val"]["sections"] == {}
    evaluate(run, split="test", sections=(), device="cpu")  # and is judged anew without complaint


@pytest.mark.parametrize(
    ("content", "message"), [('{"format": 3, "splits": {}}', "newer cifarlab"), ('{"format": 2', "is damaged")]
)
def test_an_evaluation_that_cannot_be_read_is_told_in_one_line(run: Run, content: str, message: str) -> None:
    (run.path / "evaluation.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=message):
        evaluate(run, split="test", sections=(), device="cpu")
    assert run.test_reads() == []


def test_what_fits_on_a_line_of_evaluation_json_stands_on_one() -> None:
    value = {
        "share": {"value": 0.5, "interval": [0.25, 0.75]},
        "matrix": [list(range(300)), [0.5, None] * 80],
        "sentences": ["A sentence that is as long as half a line of the file, and of ordinary words."] * 2,
        "deep": [[{"a": [{"name": "é" * 70}] * 2}]],
        "empty": [{}, [], ""],
    }
    text = writing.json_text(value)
    assert json.loads(text) == value
    lines = text.splitlines()
    assert '  "share": {"value": 0.5, "interval": [0.25, 0.75]},' in lines
    assert f"    {list(range(300))}," in lines
    assert sum("A sentence" in line for line in lines) == 2
    assert all(len(line) <= 120 for line in lines if not line.lstrip().startswith(("[0,", "[0.5")))


def test_evaluation_json_grows_with_the_classes_and_not_with_their_square(tmp_path: Path) -> None:
    sizes = {}
    for num_classes in (110, 220):
        generator = np.random.default_rng(0)
        labels_N = np.arange(880) % num_classes
        logits_NK = generator.normal(size=(880, num_classes))
        logits_NK[np.arange(880), labels_N] += 2
        np.savez(tmp_path / "a.npz", logits=logits_NK, labels=labels_N)
        place = tmp_path / str(num_classes)
        evaluation = evaluate_answers(tmp_path / "a.npz", out=place, sections=("scores",))
        sizes[num_classes] = (place / "evaluation.json").stat().st_size
    assert sizes[220] < 2.2 * sizes[110]
    assert evaluation.confusion is None
    expected_KK = reference.confusion_matrix(labels_N, logits_NK.argmax(1))
    whole = [[int(cell) for cell in row[1:]] for row in rows(place / "evaluation" / "confusion_given.csv")[1:]]
    assert whole == expected_KK.tolist(), "the CSV file holds all of it"
    cells = rows(place / "evaluation" / "confusion_cells_given.csv")[1:]
    np.fill_diagonal(expected_KK, 0)
    found = {(int(true[6:]), int(given[6:])): int(times) for true, given, times, *_ in cells}
    assert found == {(k, j): int(expected_KK[k, j]) for k, j in np.argwhere(expected_KK).tolist()}
    counts = [int(row[2]) for row in cells]
    assert counts == sorted(counts, reverse=True)
    assert float(cells[0][3]) == counts[0] / 4
    assert [float(end) for end in cells[0][4:]] == list(wilson_interval(counts[0], 4))


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


# The page


def page_of(run: Run, split: str) -> str:
    return (run.path / "evaluation" / f"{split}.html").read_text(encoding="utf-8")


def test_the_page_is_one_file_that_trusts_no_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    add_section(monkeypatch, "well", found)
    evaluate(run, split="test", sections=("well",), reason="<script>alert(1)</script>", device="cpu")
    text = page_of(run, "test")
    assert "It is &lt;b&gt;well&lt;/b&gt;." in text
    assert "Of &lt;classes&gt;" in text
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text), "nothing is loaded from anywhere"
    targets = re.findall(r'href="#([^"]+)"', text)
    assert targets
    assert all(f'id="{target}"' in text for target in targets)
    assert "were read once" in text
    assert "50.00\u00a0%" in text
    assert "Only a test." in text


def test_the_first_three_of_three_classes_are_no_figure(
    run: Run, answers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = evaluate(run, sections=(), device="cpu")
    many = evaluate_answers(answers, out=run.path / "given", sections=())
    shown = [page_of(run, "val"), (run.path / "given" / "evaluation" / "given.html").read_text(encoding="utf-8")]
    assert ["among the first three" in page for page in shown] == [False, True]
    for evaluation, told in ((few, False), (many, True)):
        print_evaluation(evaluation)
        assert ("top-3" in capsys.readouterr().out) == told


@pytest.mark.parametrize(
    ("margin", "said"), [(1.0, r"averaging over views; on"), (0.02, r"views of the [\d.]+\s% of them")]
)
def test_the_page_says_which_images_got_views(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch, margin: float, said: str
) -> None:
    monkeypatch.setattr(module, "load_splits", lambda config: splits)
    run = make_run(tmp_path, splits, views_margin=margin)
    assert (evaluate(run, sections=(), device="cpu").views_share == 1) == (margin == 1)
    assert re.search(said, page_of(run, "val"))


def test_the_page_of_val_says_how_to_get_the_figure_to_publish(run: Run) -> None:
    evaluate(run, sections=(), device="cpu")
    text = page_of(run, "val")
    assert f"cifarlab evaluate {run.path} --split test" in text
    spaced = Run.open(run.path.rename(run.path.parent / "a run"))
    evaluate(spaced, sections=(), device="cpu")
    assert html.unescape(page_of(spaced, "val")).count(f"cifarlab evaluate '{spaced.path}'") == 3
    run = Run.open(spaced.path.rename(run.path))
    assert "Not asked for" in text
    evaluate(run, split="test", sections=(), device="cpu")
    evaluate(run, split="test", sections=(), device="cpu")
    assert "were read 2 times" in page_of(run, "test")


def test_plots_of_sections_are_on_the_page_and_not_drawn_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cifarlab.plots.style import new_figure

    def drawing(subject: Subject) -> Section:
        return Section(findings=("Drawn.",), plots={"mistakes": new_figure()[0]}, captions={"mistakes": "Only axes."})

    add_section(monkeypatch, "drawing", drawing)
    evaluate(run, sections=("drawing",), device="cpu")
    text = page_of(run, "val")
    assert text.count("data:image/") == 1
    assert "Only axes." in text
    assert [path.name for path in (run.path / "plots").glob("*.png")] == ["mistakes_val.png"]


# A required accuracy


def judged(accuracy: float, low: float) -> Any:
    share = module.Proportion(accuracy, (low, 1.0), "wilson", 0.95)
    return type("Judged", (), {"best": share, "num_images": 100, "split": "val"})()


def test_the_lower_end_of_the_interval_must_reach_what_is_required() -> None:
    enforce(judged(0.95, 0.90), 0.90)
    enforce(judged(0.5, 0.4), 0.0)
    with pytest.raises(
        GateError,
        match=r"accuracy 95\.00 % on 100 val images is not shown to reach the required 90\.00 %.*Wilson.*89\.99",
    ):
        enforce(judged(0.95, 0.8999), 0.90)
    with pytest.raises(GateError, match=r"required 90\.0000 %.* 89\.9999 %, lies below"):
        enforce(judged(0.95, 0.8999992), 0.90)


# Answers from a file


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    labels_N = generator.integers(0, 4, 200)
    logits_NK = generator.normal(size=(200, 4)) + 3 * np.eye(4)[labels_N]
    np.savez(tmp_path / "theirs.npz", logits=logits_NK, labels=labels_N)
    return tmp_path / "theirs.npz"


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
