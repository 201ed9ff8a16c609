"""evaluate: what it writes agrees with the predictions it stored, and every reading of test is on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as reference
from tests.commands.run_to_evaluate import (  # noqa: F401 fixtures
    NAMES,
    _plots_cost_seconds,
    _run,
    _splits,
    make_run,
    page_of,
    rows,
    strict_json,
)

from cifarlab.commands import evaluate as module
from cifarlab.commands.evaluate import evaluate, evaluate_answers
from cifarlab.data import ImageSet, Splits
from cifarlab.errors import GateError, IntegrityError, RunError, UsageError
from cifarlab.evaluation import writing
from cifarlab.evaluation.conduct import enforce
from cifarlab.evaluation.sections import QUICK
from cifarlab.inference import Classifier
from cifarlab.run import Run
from cifarlab.stats import wilson_interval


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


def test_validation_images_are_judged_unless_test_is_asked_for(run: Run) -> None:
    evaluation = evaluate(run, sections=(), device="cpu")
    assert (evaluation.split, evaluation.num_images) == ("val", 20)
    assert run.test_reads() == []
    assert not (run.path / "predictions" / "test.safetensors").exists()


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
