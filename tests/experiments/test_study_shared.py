"""A study shared by processes that are killed, halted, or work side by side: every trial once, to the same bytes."""

import contextlib
import hashlib
import json
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from tests.experiments.workers import await_that, start, starts_processes, tiny_spec, work

from cifarlab.experiments.storage import open_leases, open_storage
from cifarlab.experiments.study import load_study, planned_trials, run_name
from cifarlab.experiments.study_queue import count, open_queue
from cifarlab.run import Run

linux = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="tells killed workers by Linux's /proc")


# processes that start, die and wait for each other take tens of seconds, and minutes where the machine is busy
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), starts_processes]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The runs folder of the workers, and of the test while it reads what they wrote."""
    monkeypatch.setenv("CIFARLAB_RUNS", str(tmp_path / "shared"))
    return tmp_path / "shared"


def digests(runs, spec):
    names = [run_name(spec, arm, seed) for arm, seed in planned_trials(spec)]
    return {name: hashlib.sha256((runs / name / "model.safetensors").read_bytes()).hexdigest() for name in names}


def undisturbed(spec, tmp_path):
    """Digests of the study's models when nothing comes between."""
    alone = tmp_path / "alone"
    worker = start(work, spec, alone, None, tmp_path / "alone.log")
    worker.join()
    assert worker.exitcode == 0
    return digests(alone, spec)


def require_every_trial_once(spec, runs, storage, log):
    record = load_study(spec.name, open_storage(storage))
    assert [(trial.arm, trial.seed, trial.state) for trial in record.trials] == [
        (arm.label, seed, "complete") for arm, seed in planned_trials(spec)
    ]
    queue = open_queue(spec, open_storage(storage), open_leases(storage))
    assert len(queue.study.trials) == len(record.trials)
    assert count(queue).workers == ()
    for trial in record.trials:
        run = Run.open(trial.run)
        assert run.finished
        assert run.read_json("result.json") == trial.figures
        assert run.config.train.seed == trial.seed
        assert run.config.model.convnet.activation == trial.arm
    ends = [line.partition(" end ")[2] for line in log.read_text().splitlines() if " end " in line]
    assert len(ends) == len(set(ends)), "a trial was recorded twice"
    return record


@linux
def test_a_study_killed_at_random_has_every_trial_once(photos, tmp_path, runs):
    """Two workers at a time, one of them killed again and again: while it sets up, trains, writes, records."""
    num_kills, spec, log = 20, tiny_spec(photos, seeds=7), tmp_path / "log"
    rng = random.Random(0)
    workers = [start(work, spec, runs, None, log, 0.01) for _ in range(2)]
    killed = 0
    until = time.monotonic() + 500
    while killed < num_kills and time.monotonic() < until:
        time.sleep(rng.choice([0.02, 0.2, 1.0]) * rng.random() + (0.1 if killed else 0.0))
        victim = rng.randrange(2)
        if not workers[victim].is_alive():
            assert workers[victim].exitcode == 0, log.read_text()
            break
        workers[victim].kill()
        workers[victim].join()
        killed += 1
        workers[victim] = start(work, spec, runs, None, log, 0.01)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, log.read_text()
    assert killed == num_kills, "the study ended before so many kills; give it more seeds"
    require_every_trial_once(spec, runs, None, log)
    names = {path.name for path in runs.iterdir() if path.is_dir()}
    assert names == set(digests(runs, spec)), "a run was left behind"
    assert digests(runs, spec) == undisturbed(spec, tmp_path)


def halt_between_transactions(pid, database):
    """Stop a process where it holds no lock of SQLite's, which would keep all others out while it is stopped."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        with contextlib.closing(sqlite3.connect(database, timeout=0.2)) as connection:
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                continue
            connection.rollback()
            return


def test_a_worker_that_was_halted_comes_back_and_records_nothing(photos, tmp_path, runs):
    spec = tiny_spec(photos, seeds=1, train__epochs=30.0)
    log = tmp_path / "log"
    halted = start(work, spec, runs, None, log, 0.02)
    first = runs / run_name(spec, spec.arms[0], 0)
    await_that((first / "metrics.jsonl").exists)
    halt_between_transactions(halted.pid, runs / "experiments.db")
    heir = start(work, spec, runs, None, log, 0.0, 1.0)
    heir.join()
    assert heir.exitcode == 0
    before = {path: path.read_bytes() for path in sorted(runs.rglob("*")) if path.is_file() and path.suffix != ".db"}
    os.kill(halted.pid, signal.SIGCONT)
    halted.join()
    assert halted.exitcode == 0
    record = require_every_trial_once(spec, runs, None, log)
    assert record.trials[0].run.name == f"{first.name}-2", "the heir goes on in a copy"
    assert not Run(first).finished
    lines = log.read_text()
    assert f"{heir.pid} notice relu, seed 0: taken over from a worker that fell silent" in lines
    assert f"{halted.pid} notice relu, seed 0: this worker was silent for so long" in lines
    assert f"{halted.pid} end" not in lines
    after = {path: path.read_bytes() for path in before if first not in path.parents}
    assert after == {path: content for path, content in before.items() if path in after}
    steps = [record["step"] for record in Run(record.trials[0].run).metrics()]
    assert steps == sorted(set(steps))
    monolith = undisturbed(spec, tmp_path)[first.name]
    assert hashlib.sha256((record.trials[0].run / "model.safetensors").read_bytes()).hexdigest() == monolith


def test_two_workers_share_a_study_on_a_postgresql_server(photos, tmp_path, runs, postgres_url):
    spec = tiny_spec(photos, seeds=3)
    log = tmp_path / "log"
    workers = [start(work, spec, runs, postgres_url, log, 0.02) for _ in range(2)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, log.read_text()
    require_every_trial_once(spec, runs, postgres_url, log)
    assert not (runs / "experiments.db").exists()
    shares = {line.split()[0] for line in log.read_text().splitlines() if " end " in line}
    assert shares == {str(worker.pid) for worker in workers}, "both did some"
    assert digests(runs, spec) == undisturbed(spec, tmp_path)


@linux
def test_a_killed_worker_s_trial_is_taken_over_on_a_postgresql_server(photos, tmp_path, runs, postgres_url):
    spec = tiny_spec(photos, seeds=2, train__epochs=20.0)
    log = tmp_path / "log"
    victim, other = (start(work, spec, runs, postgres_url, log, 0.01) for _ in range(2))
    await_that(lambda: log.exists() and f"{victim.pid} begin" in log.read_text())
    await_that(lambda: list(runs.glob("*/metrics.jsonl")) != [])
    victim.kill()
    other.join()
    assert other.exitcode == 0, log.read_text()
    require_every_trial_once(spec, runs, postgres_url, log)
    assert digests(runs, spec) == undisturbed(spec, tmp_path)


def test_a_server_that_restarts_is_waited_for(photos, tmp_path, runs, postgres, postgres_url):
    spec = tiny_spec(photos, seeds=2, train__epochs=10.0)
    log = tmp_path / "log"
    workers = [start(work, spec, runs, postgres_url, log, 0.01) for _ in range(2)]
    for so_far in (1, 2):
        await_that(lambda so_far=so_far: log.exists() and log.read_text().count(" end ") >= so_far)
        postgres.restart()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, log.read_text()
    require_every_trial_once(spec, runs, postgres_url, log)
    assert digests(runs, spec) == undisturbed(spec, tmp_path)


def test_a_study_on_another_machine_is_read_without_its_folders(photos, tmp_path, runs):
    """Figures stand in the storage; a run folder that is not here is looked for in the runs folder by its name."""
    spec = tiny_spec(photos, seeds=1)
    worker = start(work, spec, runs, None, tmp_path / "log")
    worker.join()
    moved = tmp_path / "moved"
    runs.rename(moved)
    os.environ["CIFARLAB_RUNS"] = str(moved)
    record = load_study(spec.name, open_storage(str(moved / "experiments.db")))
    assert [trial.run.parent for trial in record.trials] == [moved] * 2
    assert all(trial.figures == json.loads((trial.run / "result.json").read_text()) for trial in record.trials)
