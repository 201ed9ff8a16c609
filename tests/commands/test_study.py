"""``cifarlab study`` as a user meets it: a grid on a small image folder, failures, signals, plans, mistakes."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.experiments.workers import await_that, tiny_spec

from cifarlab import cli_study
from cifarlab.cli import main
from cifarlab.commands import study as study_module
from cifarlab.commands.study import judge_on_test, study
from cifarlab.errors import CifarlabError, StoppedError, UsageError
from cifarlab.evaluation import writing
from cifarlab.evaluation.sections import QUICK
from cifarlab.experiments import page as page_module
from cifarlab.experiments.storage import open_leases, open_storage
from cifarlab.experiments.study import load_study
from cifarlab.experiments.study_queue import finish, open_queue, take
from cifarlab.run import Run, runs_root
from cifarlab.training.loop import Hooks

pytestmark = pytest.mark.usefixtures("without_curves")

FIGURES = {"val/accuracy": 0.5, "compute_pflop": 0.1, "wall_clock_seconds": 2.0, "train_clock_seconds": 1.0}


@pytest.fixture
def one_page(monkeypatch):
    """Write the page of a study once only: its figures take longer than its trials."""
    written, write = [], page_module.write_study_page

    def once(record, out):
        written.append(written[0] if written else write(record, out))
        return written[0]

    monkeypatch.setattr(page_module, "write_study_page", once)
    return written


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


def test_a_grid_becomes_runs_a_record_and_a_page(words, capsys, one_page):
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
        assert f"activation={run.config.model.convnet.activation} + flip={run.config.augment.flip}" == trial.arm
        assert not (run.path / "checkpoint").exists()
    before = sorted(runs_root().iterdir())
    assert main([*words, *vary, "--seeds", "1", "--name", "grid"]) == 0
    assert capsys.readouterr().err == "", "nothing was left to do"
    assert sorted(runs_root().iterdir()) == before


def test_test_is_read_once_for_every_run_and_only_when_asked_for(words, capsys, one_page, monkeypatch):
    monkeypatch.setattr(writing, "save_plots", lambda folder, split, figures: None)  # which takes seconds
    command = [*words, "--vary", "activation=relu,tanh", "--seeds", "1", "--name", "t", "--test"]
    for _ in range(2):
        assert main(command) == 0
    for trial in record("t").trials:
        [read] = Run.open(trial.run).test_reads()
        assert read["reason"] == "study t"
        judged = Run.open(trial.run).read_json("evaluation.json")["splits"]["test"]
        assert tuple(judged["sections"]) == QUICK, "as cifarlab evaluate --split test judges it"
    Run.open("t-tanh-s0").path.rename(runs_root().parent / "elsewhere")
    capsys.readouterr()
    assert main(command) == 0, "the page is written without it"
    captured = capsys.readouterr()
    assert "1 of 2 run folders are not on this machine" in captured.err
    assert "page: " in captured.out


@pytest.fixture
def judged(monkeypatch):
    """Names of the runs that were evaluated on test, which takes a moment here."""
    names = []

    def evaluate(run, *, split, reason):
        names.append(run.name)
        time.sleep(0.2)
        run.write_json("evaluation.json", {"splits": {"test": {"accuracy": {"value": 0.5}}}})
        return SimpleNamespace(accuracy=SimpleNamespace(value=0.5), accuracy_tta=None)

    monkeypatch.setattr(study_module, "evaluate", evaluate)
    return names


@pytest.fixture
def trained(photos):
    """A study of two trials that are recorded as complete."""
    spec = tiny_spec(photos, seeds=1)
    queue = open_queue(spec, open_storage(), open_leases())
    while work := take(queue):
        run = Run.create(work.config, name=f"tiny-{work.arm}")
        run.write_json("result.json", figures := FIGURES)
        finish(queue, work, str(run.path.resolve()), figures)
    return load_study("tiny", open_storage())


def test_two_workers_share_the_readings_of_test(trained, judged, monkeypatch):
    monkeypatch.setattr(study_module, "_WAIT_SECONDS", 0.02)
    workers = [threading.Thread(target=judge_on_test, args=(trained,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert sorted(judged) == ["tiny-relu", "tiny-tanh"], "whoever is done finds all readings done"
    assert open_leases().held() == {}


def test_a_reading_of_test_that_was_cut_off_is_done_again(trained, judged):
    """Its worker was killed when the answers were written, and what they are worth was not."""
    (trained.trials[0].run / "predictions").mkdir()
    (trained.trials[0].run / "predictions" / "test.safetensors").touch()
    judge_on_test(trained)
    assert judged == ["tiny-relu", "tiny-tanh"]


def test_a_namesake_that_another_study_left_is_not_judged_for_a_trial_of_another_machine(trained, judged):
    Run(trained.trials[0].run).write_json("result.json", FIGURES | {"val/accuracy": 0.4})
    told = []
    judge_on_test(trained, notify=told.append)
    assert judged == ["tiny-tanh"]
    assert "1 of 2 run folders are not on this machine" in told[0]


def test_a_reading_of_test_by_another_worker_is_waited_for_until_a_stop_is_asked_for(trained, judged, monkeypatch):
    monkeypatch.setattr(study_module, "_WAIT_SECONDS", 0.02)
    assert open_leases().acquire(f"test/tiny/{trained.trials[0].number}")
    polls = iter([0, 0, 0, 0, 2])
    with pytest.raises(StoppedError, match="stopped while reading test"):
        judge_on_test(trained, stop_signal=lambda: next(polls))
    assert judged == ["tiny-tanh"]


def test_a_trial_whose_loss_explodes_fails_alone(words, capsys, one_page):
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


def stop_at(condition):
    """Ask to stop as soon as a condition holds."""
    return Hooks(stop_signal=lambda: signal.SIGTERM if condition() else 0)


@pytest.mark.parametrize("when", ["before", "in", "between"])
def test_a_stop_says_that_a_trial_is_saved_where_one_was_in_work(photos, when):
    """Before the first trial, in its second epoch, or when it has just been recorded."""
    spec, ended = tiny_spec(photos, seeds=1), []
    first = runs_root() / "tiny-relu-s0"
    asked = {"before": lambda: True, "in": (first / "metrics.jsonl").exists, "between": lambda: bool(ended)}
    with pytest.raises(StoppedError) as caught:
        study(spec, hooks=stop_at(asked[when]), on_end=ended.append)
    assert (
        str(caught.value)
        == {
            "before": "stopped with 0 of 2 trials complete; the same command goes on",
            "in": "stopped with 0 of 2 trials complete; the trial in work is saved; the same command goes on",
            "between": "stopped with 1 of 2 trials complete; the same command goes on",
        }[when]
    )
    assert bool(list(first.glob("checkpoint/*"))) == (when == "in")
    assert caught.value.exit_code == 143


def test_who_lost_a_trial_takes_it_again_when_it_is_given_back(photos, monkeypatch):
    """Another worker takes it over, for this one was halted, and is stopped then."""
    spec, begun, other = tiny_spec(photos, seeds=1), [], open_leases()
    until, train = time.monotonic() + 60, study_module.train

    def halted_once(config, *, hooks, **keywords):
        if len(begun) > 1:
            return train(config, hooks=hooks, **keywords)
        (key,) = other.held()
        await_that(lambda: other.take_over(other.held()[key]))
        await_that(hooks.stop_signal)
        other.release(key)
        raise StoppedError("stopped", signal.SIGTERM)

    monkeypatch.setattr(study_module, "train", halted_once)
    record = study(
        spec,
        hooks=stop_at(lambda: time.monotonic() > until),
        on_begin=lambda step: begun.append(step.trial.arm),
        beat_seconds=0.02,
    )
    assert begun == ["relu", "relu", "tanh"]
    assert [trial.state for trial in record.trials] == ["complete", "complete"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered", 710), "accelerator failed"),
        (UsageError("this machine has no cuda device that torch can use"), "no cuda device"),
    ],
)
def test_a_broken_machine_gives_its_trial_back(photos, monkeypatch, error, message):
    def broken(config, **keywords):
        raise error

    monkeypatch.setattr(study_module, "train", broken)
    with pytest.raises(CifarlabError, match=message):
        study(tiny_spec(photos, seeds=1))
    assert [trial.state for trial in record("tiny").trials] == ["waiting", "waiting"]
    assert open_leases().held() == {}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
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
    assert "100 seeds of each arm show a difference of 0.2 point of accuracy" in text
    assert "assumed" in text
    assert "not known before a first trial" in text
    assert not runs_root().exists()
    assert main([*command, "--sd", "0.002", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["seeds"], plan["num_trials"], plan["seconds"]) == (17, 34, None)


def test_a_plan_is_not_made_from_the_trials_of_another_study_of_the_name(trained, capsys):
    """It would count them as done, and its costs could be negative."""
    assert main(["study", "--join", "--name", "tiny", "--plan", "0.3", "--sd", "0.1"]) == 0
    assert "of which 2 are complete" in capsys.readouterr().out
    assert main(["study", "convnet", "--vary", "lr=0.1,0.2", "--name", "tiny", "--plan", "0.3"]) == 2
    assert "there is a study 'tiny' with another" in capsys.readouterr().err


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
        (["convnet", "--name", "a/b"], 2, "at most 100 of them, not 'a/b'; choose one with --name"),
        (["--preset", "activation"], 2, "unknown preset 'activation'; did you mean activations?"),
        (["resnet8"], 2, "unknown recipe 'resnet8'"),
        (["--join", "--name", "x"], 2, "there is no study 'x' in the storage; studies are none yet"),
        (["convnet", "--join", "--name", "x"], 2, "there is no study 'x' to join"),
        (["convnet", "--storage", "nosuch://x"], 2, "nosuch://x is no storage"),
        (["convnet", "--storage", "postgresql://u:secret@127.0.0.1:1/x"], 1, "cannot open the storage postgresql"),
        (["convnet", "--plan", "3"], 2, "--plan is a fraction"),
        (["convnet", "--plan", "0.01", "--vary", f"model.stages=[[1,8]],{[[1, 8]] * 6}"], 2, "arm 'stages="),
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


def test_a_mistake_is_told_before_the_images_are_fetched(capsys, monkeypatch):
    monkeypatch.setattr(cli_study, "fetch_first", lambda data: pytest.fail("a download"))
    assert main(["study", "convnet", "--vary", "model.stages=[[1,8]],[[1,8],[1,8],[1,8],[1,8],[1,8],[1,8]]"]) == 2
    assert "arm 'stages=" in capsys.readouterr().err
    assert main(["study", "convnet", "--arms", "none.yaml"]) == 2


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
    assert open_leases().held() == {}
