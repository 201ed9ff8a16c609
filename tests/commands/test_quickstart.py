"""Quickstart chains the commands: everything it promises is on disk, and its figures agree with each other."""

import json

import pytest
from PIL import Image
from tests.conftest import make_images, with_fields

from cifarlab.commands.quickstart import quickstart
from cifarlab.config import DataConfig
from cifarlab.errors import StoppedError
from cifarlab.training.loop import Hooks


@pytest.fixture
def folder(tmp_path):
    images = make_images(150, seed=3)
    for index, (image, label) in enumerate(zip(images.images_NCHW, images.labels_N, strict=True)):
        path = tmp_path / "photos" / images.class_names[label] / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return tmp_path / "photos"


def test_quickstart_leaves_a_judged_run_and_a_report(config, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_fields(config, train__epochs=1)
    config = type(config)(**{**vars(config), "data": DataConfig(folder=str(folder), image_size=16)})
    stages = []
    done = quickstart(config, stage=stages.append)

    assert len(stages) == 4
    assert done.run.finished
    assert done.exploration.is_file()
    assert done.report == done.run.path / "report.html"
    assert done.report.is_file()
    assert set(done.seconds) == {"explore", "train", "evaluate", "report"}

    stored = json.loads((done.run.path / "evaluation.json").read_text())["splits"]["test"]
    headline = stored[stored["headline"]]["value"]
    assert done.verdict.accuracy == headline
    assert done.verdict.total == stored["num_images"] == 15
    assert [read["reason"] for read in done.run.test_reads()] == ["quickstart"]
    assert (done.verdict.outcome == "better") == (done.verdict.interval[0] > 0.7)


@pytest.mark.usefixtures("without_curves")
def test_a_stop_once_training_has_ended_is_heard_before_the_next_stage(config, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = with_fields(config, train__epochs=1, data__folder=str(folder))
    received = []
    hooks = Hooks(on_epoch=lambda record: received.append(15), stop_signal=lambda: received[0] if received else 0)
    stages = []
    with pytest.raises(StoppedError, match=r"go on with: cifarlab evaluate .*quickstart --split test") as caught:
        quickstart(config, hooks=hooks, stage=stages.append)
    assert caught.value.exit_code == 143
    assert len(stages) == 2
