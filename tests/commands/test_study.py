"""``cifarlab study`` as a user meets it: a grid on a small image folder, failures, signals, plans, mistakes."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.experiments.workers import write_images

from cifarlab.cli import main
from cifarlab.experiments.storage import open_storage
from cifarlab.experiments.study import load_study
from cifarlab.run import Run, runs_root


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def words(photos):
    settings = {
        "data.folder": photos,
        "data.image_size": 16,
        "data.val_fraction": 0.2,
        "model.stages": "[[1,8]]",
        "model.hidden": "[]",
        "train.epochs": 2,
        "train.batch_size": 12,
        "train.precision": "fp32",
    }
    flags = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return ["study", "convnet", *flags]


def record(name):
    return load_study(name, open_storage())


def test_a_grid_becomes_runs_a_record_and_a_page(words, capsys):
    vary = ["--vary", "activation=relu,tanh", "--vary", "augment.flip=none,random"]
    assert main([*words, *vary, "--seeds", "1", "--name", "grid", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert Path(result["page"]).is_file()
    assert captured.err.count("val accuracy") == 4, "no terminal: one line a trial"
    assert "4/4" in captured.err
    assert "\x1b" not in captured.err
    for trial in record("grid").trials:
        run = Run.open(trial.run)
        assert (run.finished, run.test_reads()) == (True, [])
        assert f"activation={run.config.model.convnet.activation}, flip={run.config.augment.flip}" == trial.arm
        assert not (run.path / "checkpoint").exists()
    before = sorted(runs_root().iterdir())
    assert main([*words, *vary, "--seeds", "1", "--name", "grid"]) == 0
    assert capsys.readouterr().err == "", "nothing was left to do"
    assert sorted(runs_root().iterdir()) == before


def test_test_is_read_once_for_every_run_and_only_when_asked_for(words, capsys):
    command = [*words, "--vary", "activation=relu,tanh", "--seeds", "1", "--name", "t", "--test"]
    for _ in range(2):
        assert main(command) == 0
    for trial in record("t").trials:
        [read] = Run.open(trial.run).test_reads()
        assert read["reason"] == "study t"
    capsys.readouterr()


def test_a_trial_whose_loss_explodes_fails_alone(words, capsys):
    command = [*words, "--vary", "optimizer.lr=0.05,1e30", "--seeds", "1", "--name", "hot"]
    assert main(command) == 1
    captured = capsys.readouterr()
    error = captured.err.strip().splitlines()[-1]
    assert error.startswith("error: 1 of 2 trials failed, first lr=1e+30, seed 0: the loss became")
    assert "--retry-failed" in captured.err
    assert "page: " in captured.out
    assert [trial.state for trial in record("hot").trials] == ["complete", "failed"]
    assert "the loss became" in record("hot").trials[1].error
    assert main(command) == 1
    assert capsys.readouterr().err.count("val accuracy") == 0, "it is not tried again unasked"
    assert main([*command, "--retry-failed"]) == 1
    assert "lr=1e+30, seed 0  failed" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_gives_the_trial_back_and_the_same_command_goes_on(words, capsys, number):
    command = [*words, "--set", "train.epochs=30", "--vary", "activation=relu,tanh", "--seeds", "1", "--name", "s"]
    program = [sys.executable, "-m", "cifarlab", *map(str, command)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = runs_root() / "s-relu-s0"
    until = time.monotonic() + 100
    while not (first / "metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + number
    assert "stopped with 0 of 2 trials complete" in errors
    assert "Traceback" not in errors
    assert [trial.state for trial in record("s").trials] == ["waiting", "waiting"]
    assert list((first / "checkpoint").iterdir())
    with sqlite3.connect(runs_root() / "experiments.db") as database:
        assert database.execute("SELECT count(*) FROM cifarlab_leases").fetchone() == (0,)
    assert main(["study", "--join", "--name", "s"]) == 0
    assert [trial.state for trial in record("s").trials] == ["complete", "complete"]
    steps = [entry["step"] for entry in Run(first).metrics()]
    assert steps == sorted(set(steps))
    assert len(steps) == 30
    capsys.readouterr()


def test_a_plan_trains_nothing_and_creates_nothing(words, capsys):
    command = [*words, "--vary", "activation=relu,tanh", "--plan", "0.002"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "22 seeds of each arm show a difference of 0.2 points" in text
    assert "assumed" in text
    assert "not known before a first trial" in text
    assert not runs_root().exists()
    assert main([*command, "--sd", "0.002", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["seeds"], plan["num_trials"], plan["seconds"]) == (17, 34, None)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ([], 2, "say what to study: cifarlab study convnet --vary"),
        (["convnet", "--vary", "model.activaton=relu,gelu"], 2, "did you mean model.convnet.activation?"),
        (["convnet", "--vary", "lr=0.1,-1"], 2, "arm 'lr=-1': optimizer.lr must be positive, not -1.0"),
        (["convnet", "--vary", "lr=0.1,x"], 2, "optimizer.lr must be of type float, not 'x'"),
        (["convnet", "--vary", "lr=0.1,0.2", "--preset", "seeds"], 2, "--preset, --vary and --arms exclude each other"),
        (["convnet", "--arms", "none.yaml"], 2, "cannot read the arms none.yaml"),
        (["convnet", "--set", "train.epochs=0"], 2, "train.epochs must be positive"),
        (["convnet", "--seeds", "-1"], 2, "--seeds must be at least 1, not -1"),
        (["convnet", "--name", "a/b"], 2, "a study's name is made of letters"),
        (["--preset", "activation"], 2, "unknown preset 'activation'; did you mean activations?"),
        (["resnet8"], 2, "unknown recipe 'resnet8'"),
        (["--join", "--name", "x"], 2, "there is no study 'x' in the storage; studies are none yet"),
        (["convnet", "--join", "--name", "x"], 2, "there is no study 'x' to join"),
        (["convnet", "--storage", "nosuch://x"], 2, "nosuch://x is no storage"),
        (["convnet", "--storage", "postgresql://u:secret@127.0.0.1:1/x"], 1, "cannot open the storage postgresql"),
        (["convnet", "--plan", "3"], 2, "--plan is a fraction"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_with_its_exit_code(more, code, message, capsys, tmp_path, monkeypatch, photos):
    if "postgresql" in " ".join(more):
        pytest.importorskip("psycopg", reason="PostgreSQL needs the extra 'postgres'")
    monkeypatch.chdir(tmp_path)
    images = ["--set", f"data.folder={photos}"] if more and more[0] == "convnet" else []
    assert main(["study", *more, *images]) == code
    captured = capsys.readouterr()
    error = captured.err.strip().splitlines()
    assert error[-1].startswith("error: ")
    assert message in error[-1]
    assert "secret" not in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_without_optuna_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["study", "convnet"]) == 3
    assert "pip install 'cifarlab[tune]'" in capsys.readouterr().err


def test_missing_data_gives_the_trial_back(words, capsys, photos, tmp_path):
    """What is wrong with this machine is not the trial's fault: another machine may have the images."""
    gone = tmp_path / "photos"
    photos.rename(gone)
    try:
        assert main([*words, "--vary", "activation=relu,tanh", "--seeds", "1", "--name", "d"]) == 3
    finally:
        gone.rename(photos)
    assert "there is no folder" in capsys.readouterr().err
    assert {trial.state for trial in record("d").trials} == {"waiting"}
    assert os.environ["CIFARLAB_RUNS"]
