"""The queue of a study: set up once, extended, joined; every result entered once."""

import dataclasses

import optuna
import pytest
import sqlalchemy
from tests.experiments.workers import CONTEXT, open_queue_and_report, start, starts_processes, tiny_spec

from cifarlab import device
from cifarlab.errors import StoppedError, UsageError
from cifarlab.experiments import storage as storage_module
from cifarlab.experiments import study_queue
from cifarlab.experiments.leases import Leases
from cifarlab.experiments.storage import create_or_join, open_leases, open_storage
from cifarlab.experiments.study import current_trials, load_study, planned_trials
from cifarlab.experiments.study_queue import count, fail, finish, give_back, let_go, open_queue, take

FIGURES = {"val/accuracy": 0.5, "wall_clock_seconds": 2.0, "train_clock_seconds": 1.0}


@pytest.fixture
def spec(photos):
    return tiny_spec(photos)


@pytest.fixture
def join(sqlite):
    def opened(spec, **keywords):
        return open_queue(spec, open_storage(sqlite), open_leases(sqlite), **keywords)

    return opened


def test_trials_are_taken_in_a_balanced_order(spec, join):
    queue = join(spec)
    taken = [take(queue) for _ in range(4)]
    assert [(work.arm, work.seed) for work in taken] == [("relu", 0), ("tanh", 0), ("relu", 1), ("tanh", 1)]
    assert take(queue) is None
    assert [work.config.train.seed for work in taken] == [0, 0, 1, 1]
    assert [work.config.model.convnet.activation for work in taken] == ["relu", "tanh", "relu", "tanh"]


def test_two_workers_get_different_trials_and_a_finished_one_never_again(spec, join):
    one, other = join(spec), join(spec)
    first, second = take(one), take(other)
    assert (first.arm, second.arm) == ("relu", "tanh")
    assert finish(one, first, "runs/a", FIGURES)
    assert {(work.arm, work.seed) for work in (take(one), take(other))} == {("relu", 1), ("tanh", 1)}
    assert take(one) is None
    counts = count(other)
    assert (counts.complete, counts.running, counts.waiting, counts.total) == (1, 3, 0, 4)


@starts_processes
@pytest.mark.parametrize("processes", [2])
def test_processes_that_start_at_once_set_a_study_up_once(storage_url, spec, processes):
    go, report = CONTEXT.Event(), CONTEXT.Queue()
    workers = [start(open_queue_and_report, spec, storage_url, go, report) for _ in range(processes)]
    go.set()
    assert [report.get(timeout=100) for _ in workers] == [2] * processes
    for worker in workers:
        worker.join()
    study = open_queue(spec, open_storage(storage_url), open_leases(storage_url)).study
    assert [(t.user_attrs["arm"], t.user_attrs["seed"]) for t in study.trials] == [
        (arm.label, seed) for arm, seed in planned_trials(spec)
    ]


def test_more_seeds_extend_a_study_and_fewer_change_nothing(spec, join, sqlite):
    queue = join(spec)
    while work := take(queue):
        finish(queue, work, "runs/a", FIGURES)
    extended = join(dataclasses.replace(spec, seeds=3))
    again = join(dataclasses.replace(spec, seeds=1))
    assert extended.spec == again.spec == dataclasses.replace(spec, seeds=3)
    assert [(work.arm, work.seed) for work in (take(extended), take(again))] == [("relu", 2), ("tanh", 2)]
    assert [trial.state for trial in load_study("tiny", open_storage(sqlite)).trials] == ["complete"] * 4 + [
        "running"
    ] * 2


def test_the_first_worker_decides_the_precision_of_all(photos, join, monkeypatch):
    """The check on a busy machine may come out otherwise a minute later."""
    answers = iter([("bf16", ""), ("fp32", "")])
    monkeypatch.setattr(device, "choose_precision", lambda requested, on: next(answers))
    spec = tiny_spec(photos, train__precision="auto")
    queues = [join(spec), join(spec)]
    assert [queue.spec.base.train.precision for queue in queues] == ["bf16", "bf16"]
    assert take(queues[1]).config.train.precision == "bf16"
    with pytest.raises(UsageError, match=r"with another train\.precision already"):
        join(tiny_spec(photos, train__precision="fp32"))


def test_who_was_killed_before_it_wrote_what_the_study_does_leaves_the_decision_to_the_next(
    photos, join, sqlite, monkeypatch
):
    monkeypatch.setattr(device, "choose_precision", lambda requested, on: ("bf16", ""))
    optuna.create_study(storage=open_storage(sqlite), study_name="tiny")
    assert join(tiny_spec(photos, train__precision="auto")).spec.base.train.precision == "bf16"


@pytest.mark.parametrize("with_trials", [False, True])
def test_nothing_is_written_into_a_search_or_somebody_else_s_study(spec, join, sqlite, with_trials):
    foreign = create_or_join("tiny", open_storage(sqlite), attributes={} if with_trials else {"cifarlab_search": {}})
    if with_trials:
        foreign.add_trial(optuna.trial.create_trial(value=1.0))
    before = foreign.user_attrs
    for must_exist in (False, True):
        with pytest.raises(UsageError, match="holds something else by the name 'tiny'; choose another --name"):
            join(spec, must_exist=must_exist)
    assert foreign.user_attrs == before
    assert len(foreign.trials) == with_trials


def test_another_study_of_the_name_is_refused(spec, join, photos):
    join(spec)
    with pytest.raises(UsageError, match=r"'tiny' with another train.epochs already; choose another --name"):
        join(tiny_spec(photos, train__epochs=4.0))
    with pytest.raises(UsageError, match="with other arms already"):
        join(dataclasses.replace(spec, arms=spec.arms[:1]))


def test_joining_creates_nothing(spec, join, sqlite):
    with pytest.raises(UsageError, match="there is no study 'tiny' to join"):
        join(spec, must_exist=True)
    assert open_storage(sqlite).get_all_studies() == []
    assert join(spec).spec == join(spec, must_exist=True).spec


def test_a_trial_given_back_is_the_first_to_be_taken(spec, join):
    one, other = join(spec), join(spec)
    work = take(one)
    study_queue.note_run(one, work, "runs/begun")
    give_back(one, work)
    again = take(other)
    assert (again.number, again.run, again.claim.previous) == (work.number, "runs/begun", "nobody")


def silence(one: Leases, other, key):
    assert other.leases.take_over(other.leases.held()[key])


def test_a_trial_that_was_lost_and_given_back_is_taken_again(spec, join):
    one, other = join(spec), join(spec)
    work = take(one)
    silence(one, other, work.claim.key)
    give_back(other, work)
    let_go(one, work)
    assert take(one).number == work.number


def break_off(monkeypatch, leases, times=1):
    """The database carries a release out, but is gone before it says so."""
    monkeypatch.setattr(storage_module.time, "sleep", lambda seconds: None)
    release, left = leases.release, [None] * times

    def broken(key):
        release(key)
        if left:
            left.pop()
            raise sqlalchemy.exc.OperationalError("DELETE", {}, Exception("server closed the connection"))

    monkeypatch.setattr(leases, "release", broken)


@pytest.mark.parametrize("failed", [False, True])
def test_an_entry_whose_answer_was_lost_on_its_way_counts(spec, join, sqlite, monkeypatch, failed):
    queue = join(spec)
    work = take(queue)
    break_off(monkeypatch, queue.leases)
    assert fail(queue, work, "nan") if failed else finish(queue, work, "runs/a", FIGURES)
    assert load_study("tiny", open_storage(sqlite)).trials[0].state == ("failed" if failed else "complete")


def test_setting_up_goes_on_where_the_database_broke_off(spec, sqlite, monkeypatch):
    leases = open_leases(sqlite)
    with monkeypatch.context() as patch:
        patch.setattr(leases, "release", lambda key: break_now())
        patch.setattr(storage_module.time, "sleep", lambda seconds: patch.undo())
        queue = open_queue(spec, open_storage(sqlite), leases)
    assert len(queue.study.trials) == 4
    assert leases.held() == {}


def break_now():
    raise sqlalchemy.exc.OperationalError("DELETE", {}, Exception("server closed the connection"))


def test_who_waits_for_a_study_to_be_set_up_can_be_stopped(spec, join, sqlite):
    setting_up = open_leases(sqlite)
    assert setting_up.acquire("setup/tiny")
    with pytest.raises(StoppedError):
        join(spec, stop_signal=lambda: 2)
    assert setting_up.release("setup/tiny")
    assert join(spec, stop_signal=lambda: 2).spec == spec, "nobody had to be waited for"


def test_other_workers_are_counted_without_this_one(spec, join):
    """So that the time left is shared among as many before the end of a trial as after it, when its lease is gone."""
    one, other = join(spec), join(spec)
    work, _ = take(one), take(other)
    assert [len(count(queue).workers) for queue in (one, other)] == [1, 1]
    finish(one, work, "runs/a", FIGURES)
    assert [len(count(queue).workers) for queue in (one, other)] == [1, 0]


def test_who_lost_a_trial_enters_nothing(spec, join, sqlite):
    one, other = join(spec), join(spec)
    work = take(one)
    silence(one, other, work.claim.key)
    assert not finish(one, work, "runs/late", FIGURES)
    assert not fail(one, work, "late")
    give_back(one, work)
    assert load_study("tiny", open_storage(sqlite)).trials[0].state == "running"
    assert finish(other, work, "runs/heir", {**FIGURES, "val/accuracy": 0.75})
    trial = load_study("tiny", open_storage(sqlite)).trials[0]
    assert (trial.run.name, trial.figures["val/accuracy"]) == ("heir", 0.75)


def test_a_worker_halted_just_before_its_entry_changes_nothing_afterwards(spec, join, sqlite, monkeypatch):
    one, other = join(spec), join(spec)
    work = take(one)
    silence(one, other, work.claim.key)
    assert finish(other, work, "runs/same", FIGURES)
    monkeypatch.setattr(one.leases, "beat", lambda key: True)  # the answer it had before it was halted
    finish(one, work, "runs/late", {**FIGURES, "val/accuracy": 0.1})
    trial = load_study("tiny", open_storage(sqlite)).trials[0]
    assert (trial.run.name, trial.figures["val/accuracy"], trial.state) == ("same", 0.5, "complete")


def test_failed_trials_are_done_again_when_asked_for(spec, join, sqlite):
    queue = join(spec)
    while work := take(queue):
        if work.arm == "tanh":
            fail(queue, work, "the loss became nan")
        else:
            finish(queue, work, "runs/a", FIGURES)
    assert take(join(spec)) is None
    assert [trial.error for trial in load_study("tiny", open_storage(sqlite)).trials] == ["", "the loss became nan"] * 2
    again, too = join(spec, retry_failed=True), join(spec, retry_failed=True)
    assert [(work.arm, work.seed) for work in (take(again), take(too))] == [("tanh", 0), ("tanh", 1)]
    assert take(again) is None
    assert len(current_trials(again.study)) == 4


def test_a_trial_added_twice_counts_once(spec, join):
    """As by a worker that was halted while it set the study up, and went on after another had done it."""
    queue = join(spec)
    for trial in queue.study.get_trials():
        queue.study.add_trial(trial)
    taken = [take(queue) for _ in range(5)]
    assert [work and work.number for work in taken] == [0, 1, 2, 3, None]
