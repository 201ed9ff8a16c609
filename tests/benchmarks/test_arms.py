"""One measured run: clocks, splits, cuts, and the process of its own; on tiny images."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.conftest import with_fields

from cifarlab.cli import main
from cifarlab.config import Config
from cifarlab.errors import RunError
from cifarlab.run import Run

pytestmark = pytest.mark.usefixtures("without_curves")


@pytest.fixture
def arm(modules, monkeypatch, config, splits):
    """An arm on the tiny images."""
    monkeypatch.setattr(modules.arms, "_load_splits", lambda data: splits)
    return modules.arms.Arm("tiny", with_fields(config, evaluate__views="flip"))


def test_the_train_clock_is_training_and_evaluation(modules, arm):
    measured = modules.arms.measure(arm, 3)
    figures = measured.figures
    run = Run.open("bench-tiny-3")
    result = run.read_json("result.json")
    assert figures["training_seconds"] == result["train_clock_seconds"]
    assert figures["evaluation_seconds"] > 0
    assert figures["train_clock_seconds"] == figures["training_seconds"] + figures["evaluation_seconds"]
    assert run.config.train.seed == figures["seed"] == 3
    assert figures["steps"] == 16
    assert {"accuracy", "accuracy_tta"} <= set(figures)
    curves = figures["curves"]
    assert {len(values) for values in curves.values()} == {4}  # every epoch
    assert curves["val/accuracy"] == pytest.approx([record["val/accuracy"] for record in run.metrics()], abs=1e-5)
    assert curves["train/accuracy"][-1] == pytest.approx(result["train/accuracy"], abs=1e-5)
    assert "curves" not in " ".join(modules.time_to_accuracy.line_parts(figures))
    assert measured.facts == {"num_train": 108, "precision": "fp32"}
    assert len(run.test_reads()) == 1


def test_judged_on_validation_an_arm_has_no_test_split_to_read(modules, arm):
    arm = replace(arm, on_val=True)
    figures = modules.arms.measure(arm, 0).figures
    run = Run.open("bench-tiny-0")
    assert arm.splits.test is None
    assert run.test_reads() == []
    assert figures["accuracy"] == run.read_json("result.json")["val/accuracy"]
    assert figures["accuracy_tta"] == run.read_json("result.json")["val/accuracy_tta"]


def _pretend_process(modules, monkeypatch, *, returncode=0):
    """Let the separate process be one that needs no time; return the commands it was called with."""
    commands = []

    def pretend(command, *, env, **_):
        commands.append(command)
        created = Run.create(Config(), name="timed", root=Path(env["CIFARLAB_RUNS"]))
        recorded = {"precision": "fp32", "seconds_to_first_step": 2.5, "peak_memory_bytes": 10**9, "steps": 7}
        created.write_json("result.json", recorded)
        return SimpleNamespace(returncode=returncode, stderr="a line\nerror: no space left\n")

    monkeypatch.setattr(modules.arms, "subprocess", SimpleNamespace(run=pretend))
    return commands


@pytest.mark.parametrize("overridden", [False, True])
def test_a_process_of_its_own_is_timed_and_its_command_parses(modules, arm, monkeypatch, overridden):
    commands = _pretend_process(modules, monkeypatch)
    arm = replace(arm, recipe="fast90", wall=True, overridden=overridden)
    before = time.time()
    figures = modules.arms.measure(arm, 3).figures
    assert 0 <= figures["wall_clock_seconds"] < time.time() - before
    assert (figures["seconds_to_first_step"], figures["peak_memory_bytes"], figures["steps"]) == (2.5, 10**9, 16)
    python, *module, command = commands[0][:4]
    assert (python, module, command) == (sys.executable, ["-m", "cifarlab"], "train")
    words = commands[0][4:]
    assert words[-4:] == ["--train.seed", "3", "--name", "timed"]
    if overridden:
        assert words[0] == "--config"
    else:
        assert words[0] == "fast90"
        assert main(["train", *words, "--help"]) == 0


def test_a_process_that_fails_or_trains_in_another_precision_gives_no_figures(modules, arm, monkeypatch):
    arm = replace(arm, recipe="fast90", wall=True)
    _pretend_process(modules, monkeypatch, returncode=1)
    with pytest.raises(RunError, match=r"train fast90 .* failed: error: no space left"):
        modules.arms.measure(arm, 0)
    _pretend_process(modules, monkeypatch)
    bf16 = modules.arms.Measurement({}, {"precision": "bf16"})
    monkeypatch.setattr(modules.arms, "_train_and_judge", lambda arm, seed: bf16)
    with pytest.raises(RunError, match="trained in fp32"):
        modules.arms.measure(arm, 0)


def test_a_long_arm_is_cut_at_the_end_of_an_epoch_and_judged_as_it_is(modules, arm, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFARLAB_RUNS", str(tmp_path / "all my runs"))
    whole = modules.arms.measure(arm, 0).figures
    cut = modules.arms.measure(replace(arm, max_minutes=1e-9), 0)
    assert cut.figures["cut"] is True
    assert (cut.figures["epochs"], cut.figures["steps"]) == (1, 4)
    assert cut.figures["training_seconds"] > 0
    # the weights are those after one epoch of the whole run's schedule
    first_epoch = Run.open("bench-tiny-0").metrics()[0]["val/accuracy"]
    assert cut.figures["val/accuracy"] == first_epoch
    assert len(cut.figures["curves"]["val/accuracy"]) == 1
    on_val = modules.arms.measure(replace(arm, max_minutes=1e-9, on_val=True), 0).figures
    assert on_val["accuracy"] == first_epoch
    assert len(Run.open("bench-tiny-0-2").test_reads()) == 1
    # a limit that is not reached cuts nothing
    assert "cut" not in modules.arms.measure(replace(arm, max_minutes=60.0), 0).figures
    assert "cut" not in whole


def test_making_a_batch_is_timed_apart(modules, arm, monkeypatch):
    made = []
    loader = modules.arms.BatchLoader
    monkeypatch.setattr(loader, "batch", lambda self, step: made.append(step))
    seconds = modules.arms.augmentation_seconds(arm)
    assert made == [0, *range(16)]
    assert 0 < seconds < 0.1


def test_warming_up_takes_an_epoch_and_reads_no_test_image(modules, arm, monkeypatch):
    judged = []
    real = modules.arms.judge
    monkeypatch.setattr(modules.arms, "judge", lambda *args: judged.append(args[2]) or real(*args))
    modules.arms.warm_up(arm)
    run = Run.open("bench-tiny-warm-up")
    assert run.read_json("result.json")["epochs"] == 1
    assert run.test_reads() == []
    # as many images as test has, taken from the training images
    assert len(judged[0]) == len(arm.splits.test)
    assert judged[0].images_NCHW.equal(arm.splits.train.images_NCHW[: len(judged[0])])
