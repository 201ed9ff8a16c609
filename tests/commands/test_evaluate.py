"""evaluate: what it writes agrees with the predictions it stored, and every reading of test is on record."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as reference

from cifarlab.commands import evaluate as module
from cifarlab.commands.evaluate import evaluate
from cifarlab.config import Config, DataConfig, EvaluateConfig, ModelConfig, SpeednetConfig
from cifarlab.data import ImageSet, Splits
from cifarlab.errors import IntegrityError, RunError, UsageError
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
        monkeypatch.setattr(module, "_write_plots", lambda run, evaluation, images: None)


def strict_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_figures_agree_with_the_stored_predictions(run: Run) -> None:
    evaluation = evaluate(run, device="cpu")
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
    evaluate(run, split="val", device="cpu")
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
    evaluate(run, split="val", device="cpu")
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
    evaluation = evaluate(run, device="cpu")
    assert (evaluation.headline, evaluation.accuracy_tta) == ("accuracy", None)
    assert run.load_predictions("test").logits_tta_NK is None


def test_evaluation_json_is_strict_json_and_keeps_the_other_split(run: Run) -> None:
    first = evaluate(run, split="val", device="cpu")
    second = evaluate(run, split="test", device="cpu")
    content = strict_json(run.path / "evaluation.json")
    assert content["format"] == 1
    assert content["splits"] == {"val": first.as_dict(), "test": second.as_dict()}
    entry = content["splits"]["test"]
    assert entry["accuracy"]["method"] == "wilson"
    assert entry["accuracy"]["confidence"] == 0.95
    assert entry["per_class"][2]["recall"] is None  # nothing was measured, and that is not zero
    assert entry["seconds"] > 0
    assert entry["time"].endswith("+00:00")
    again = evaluate(run, split="val", device="cpu")
    assert strict_json(run.path / "evaluation.json")["splits"] == {"val": again.as_dict(), "test": second.as_dict()}


def test_tables(run: Run) -> None:
    evaluation = evaluate(run, device="cpu")
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
    evaluate(run, device="cpu")
    for name in ("confusion", "reliability", "per_class", "mistakes"):
        with Image.open(run.path / "plots" / f"{name}_test.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5
        assert (run.path / "plots" / f"{name}_test.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_every_reading_of_test_is_recorded_and_of_val_none(run: Run) -> None:
    evaluate(run, split="val", device="cpu")
    assert run.test_reads() == []
    evaluate(run, reason="final figure", device="cpu")
    evaluate(run, device="cpu")
    assert [read["reason"] for read in run.test_reads()] == ["final figure", ""]
    assert run.test_reads()[0]["command"] == "evaluate --split test"


def test_the_reading_is_recorded_before_it_happens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(module, "predict_logits", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        evaluate(run, device="cpu")
    assert len(run.test_reads()) == 1
    assert not (run.path / "evaluation.json").exists()


@pytest.mark.parametrize("key", ["split_sha256", "data_sha256"])
def test_other_images_than_those_of_the_run_are_refused_unread(run: Run, key: str) -> None:
    recorded = run.read_json("environment.json")
    run.write_json("environment.json", recorded | {key: "other"})
    with pytest.raises(IntegrityError, match="have changed since"):
        evaluate(run, device="cpu")
    assert run.test_reads() == []


def test_other_classes_than_those_of_the_run_are_refused(
    run: Run, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = splits.train
    renamed = ImageSet(images.images_NCHW, images.labels_N, ("a", "b", "c"))
    other = Splits(renamed, splits.val, splits.test, splits.origin, splits.sha256)
    monkeypatch.setattr(module, "load_splits", lambda config: other)
    with pytest.raises(IntegrityError, match="classes a, b, c"):
        evaluate(run, device="cpu")


def test_a_run_that_records_no_split_gives_a_notice(run: Run) -> None:
    run.write_json("environment.json", {"torch": "2"})
    assert "does not record its split" in evaluate(run, device="cpu").notices[0]


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
        evaluate(run, device="cpu")
    assert run.test_reads() == []


def test_weights_gone_bad_give_null_and_still_plots(run: Run) -> None:
    tensors, metadata = run.load_model()
    tensors["network.head.weight"][:] = torch.nan
    run.save_model(tensors, metadata)
    evaluate(run, device="cpu")
    assert strict_json(run.path / "evaluation.json")["splits"]["test"]["loss"] is None
    assert len(list((run.path / "plots").glob("*.png"))) == 4
