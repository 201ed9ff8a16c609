"""One trial: begun, gone on with from what a killed or halted worker left, or found finished."""

import dataclasses

import pytest
from tests.experiments.workers import tiny_spec

from cifarlab.commands.train import resume, train
from cifarlab.data import load_splits
from cifarlab.errors import RunError, StoppedError
from cifarlab.experiments.leases import Claim
from cifarlab.experiments.study import trial_config
from cifarlab.experiments.study_queue import Work
from cifarlab.experiments.trials import Trainer, drop_checkpoints, run_trial
from cifarlab.run import Run, runs_root
from cifarlab.training.loop import Hooks

pytestmark = pytest.mark.usefixtures("without_curves")


@pytest.fixture
def config(photos):
    spec = tiny_spec(photos)
    return trial_config(spec, spec.arms[0], 0)


@pytest.fixture
def go(config):
    """Run the trial as a worker would that found this."""
    calls, notes = [], []

    def noting(name, function):
        def call(*args, **keywords):
            calls.append(name)
            return function(*args, **keywords)

        return call

    trainer = Trainer(noting("train", train), noting("resume", resume), lambda config: load_splits(config.data))

    def run(recorded="", previous="nobody", hooks=None, config=config):
        work = Work("relu", 0, config, 0, 1, Claim("trial/1", previous), recorded)
        del calls[:], notes[:]
        done = run_trial(work, "t", trainer, hooks=hooks or Hooks(), notify=lambda line: None, note=notes.append)
        return done, list(calls), [path.name for path in notes]

    return run


def stop_after(steps):
    seen = []
    return Hooks(on_step=seen.append, stop_signal=lambda: 15 if len(seen) >= steps else 0)


def weights(run):
    return (run.path / "model.safetensors").read_bytes()


@pytest.fixture
def stopped(go):
    """A run that was stopped in its second epoch."""
    with pytest.raises(StoppedError):
        go(hooks=stop_after(6))
    return Run.open("t")


def test_the_folder_is_told_before_it_is_made(go):
    run, calls, notes = go()
    assert (run.path, calls, notes) == (runs_root() / "t", ["train"], ["t"])


def test_a_name_that_is_taken_is_passed_over(go):
    (runs_root() / "t").mkdir(parents=True)
    run, _, notes = go()
    assert (run.name, notes) == ("t-2", ["t-2"])


def test_a_begun_run_is_gone_on_with_in_place(go, stopped):
    run, calls, notes = go(str(stopped.path), "dead")
    assert (run.path, calls, notes) == (stopped.path, ["resume"], [])
    assert weights(run) == weights(go()[0])


def test_after_a_silent_worker_it_is_gone_on_with_in_a_copy(go, stopped):
    before = {path: path.read_bytes() for path in stopped.path.rglob("*") if path.is_file()}
    run, calls, notes = go(str(stopped.path), "silent")
    assert (run.name, calls, notes) == ("t-2", ["resume"], ["t-2"])
    assert {path: path.read_bytes() for path in stopped.path.rglob("*") if path.is_file()} == before
    assert weights(run) == weights(go()[0])


def test_a_finished_run_is_not_trained_again(go):
    done, _, _ = go()
    again, calls, notes = go(str(done.path), "silent")
    assert (again.path, calls, notes) == (done.path, [], [])


@pytest.mark.parametrize("files", [[], ["config.yaml", ".environment.json.9.tmp"]])
def test_a_folder_whose_worker_was_killed_while_it_made_it_is_made_anew(go, files):
    path = runs_root() / "t"
    path.mkdir(parents=True)
    for file in files:
        (path / file).write_text("data: {}")
    run, calls, _ = go(str(path), "dead")
    assert (run.path, calls) == (path, ["train"])
    assert sorted(p.name for p in runs_root().iterdir()) == ["t"]


def test_a_half_made_folder_of_a_silent_worker_is_left_to_it(go):
    path = runs_root() / "t"
    path.mkdir(parents=True)
    run, _, _ = go(str(path), "silent")
    assert run.name == "t-2"
    assert path.is_dir()


def test_a_folder_that_is_not_here_or_holds_another_configuration_is_not_touched(go, config, stopped):
    assert go("/nowhere/run", "silent")[1] == ["train"]
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=5))
    before = sorted(stopped.path.rglob("*"))
    run, calls, _ = go(str(stopped.path), "dead", config=other)
    assert calls == ["train"]
    assert run.path != stopped.path
    assert sorted(stopped.path.rglob("*")) == before


def test_checkpoints_are_dropped_from_finished_runs_only(go, stopped):
    with pytest.raises(RunError, match="is not finished"):
        drop_checkpoints(stopped)
    run, _, _ = go(str(stopped.path))
    assert list((run.path / "checkpoint").iterdir())
    drop_checkpoints(run)
    assert not (run.path / "checkpoint").exists()
    assert run.load_model()
