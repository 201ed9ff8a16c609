"""Workers of a search: every trial once, whoever does it and whatever happens to him."""

import datetime
import random
import signal
import time
from collections import Counter

import pytest
import sqlalchemy
import torch
from tests.experiments.pretend import Pretender, opened, search_in_child, serve_images, spec, values
from tests.experiments.workers import CONTEXT, await_that, starts_processes

from cifarlab.errors import (
    CifarlabError,
    NonFiniteLossError,
    RunError,
    StoppedError,
    TrainingError,
    UsageError,
)
from cifarlab.experiments import storage
from cifarlab.experiments.search import (
    open_search,
)
from cifarlab.experiments.search_queue import SearchQueue
from cifarlab.experiments.search_record import load_search
from cifarlab.experiments.search_work import SearchWorker, seconds_left
from cifarlab.experiments.storage import open_leases, open_storage
from cifarlab.run import Run, runs_root
from cifarlab.training.loop import Hooks

optuna = pytest.importorskip("optuna")

LISTS = ("model.activation=relu,gelu", "train.batch_size=9,12,27")


def test_a_search_whose_first_trials_all_fail_ends_with_the_reason(work):
    def accuracy(config):
        raise NonFiniteLossError("the loss became nan")

    with pytest.raises(TrainingError, match="the first 5 trials all failed; the last one: the loss became nan"):
        work(spec(), 20, Pretender(accuracy=accuracy))


def test_a_search_that_began_with_failures_is_given_up_whoever_did_them(work):
    """Another worker's trial may be running when the fifth one fails."""

    def accuracy(config):
        raise NonFiniteLossError("the loss became nan")

    queue = opened()
    assert queue.take(20)
    with pytest.raises(TrainingError, match="the first 5 trials all failed"):
        work(spec(), 20, Pretender(accuracy=accuracy))
    assert [trial.state.name for trial in queue.trials()] == ["RUNNING"] + ["FAIL"] * 5


@pytest.mark.parametrize(
    "error",
    [
        RunError("cannot write: no space left on device"),
        UsageError("this machine has no cuda device that torch can use"),
        torch.AcceleratorError("CUDA error: unspecified launch failure", 719),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    ],
)
def test_trouble_of_the_machine_ends_the_worker_and_leaves_the_trial_to_the_next(work, error):
    def broken(config):
        raise error

    with pytest.raises(CifarlabError, match=r"no space left|no cuda device|accelerator failed \(.*went back"):
        work(spec(), 3, Pretender(accuracy=broken))
    record = work(spec(), 3)
    assert [trial.state for trial in record.trials] == ["complete"] * 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_a_trial_too_large_for_the_memory_or_wrong_in_itself_fails_alone(work, error):
    def accuracy(config):
        if config.optimizer.lr == 0.05:
            raise error
        return 0.5

    record = work(spec("optimizer.lr=0.01,0.05", sampler="grid"), 2, Pretender(accuracy=accuracy))
    assert {t.values["optimizer.lr"]: t.state for t in record.trials} == {0.01: "complete", 0.05: "failed"}


def test_a_stopped_trial_is_begun_again_under_its_own_number(work):
    stop = []

    def accuracy(config):
        if config.optimizer.lr != 0.02:
            stop.append(signal.SIGTERM)
            raise StoppedError("stopped at step 3", signal.SIGTERM)
        return 0.5

    with pytest.raises(StoppedError, match="continue with the same command") as caught:
        work(spec(), 3, Pretender(accuracy=accuracy), Hooks(stop_signal=lambda: stop[0] if stop else 0))
    assert caught.value.exit_code == 143
    record = work(spec(), 3)
    assert [trial.state for trial in record.trials] == ["complete"] * 3
    assert sorted(path.name for path in runs_root().glob("hunt-*")) == ["hunt-t0", "hunt-t1", "hunt-t2"]


def test_a_run_that_was_finished_but_not_recorded_is_taken_as_it_is(work):
    def killed(run):
        raise KeyboardInterrupt

    first, second = Pretender(after=killed), Pretender()
    with pytest.raises(KeyboardInterrupt):
        work(spec(), 2, first)
    record = work(spec(), 2, second)
    assert [trial.state for trial in record.trials] == ["complete", "complete"]
    assert len(first.trained) == len(second.trained) == 1


def test_a_worker_that_lost_its_trial_records_nothing(work, monkeypatch):
    other, said = {}, []

    def taken_over(run):
        if not other:
            other["leases"] = open_leases()
            (lease,) = other["leases"].held().values()
            assert other["leases"].take_over(lease)

    train = Pretender(after=taken_over)
    study, found = open_search("hunt", open_storage(), spec())
    worker = SearchWorker(SearchQueue(study, found, open_leases()), train, notify=said.append)
    worker.do(worker.queue.take(5), 5)
    assert [trial.state for trial in load_search(study, found).trials] == ["running"]
    assert "trial t0 was taken over by another worker" in said[-1]
    assert worker.queue.take(1) is None  # the other one holds it


@pytest.mark.filterwarnings("ignore:The reported value")
def test_a_database_that_breaks_off_is_waited_for_and_loses_nothing(monkeypatch, source):
    """Whatever is asked of it is carried out, but now and then the answer is lost."""
    serve_images(monkeypatch, source)
    monkeypatch.setattr(storage.time, "sleep", lambda seconds: None)
    queue, chance, broken = opened(), random.Random(0), Counter()

    def breaking(owner, name):
        call = getattr(owner, name)

        def breaks(*arguments, **keywords):
            answer = call(*arguments, **keywords)
            if chance.random() < 0.25:
                broken[name] += 1
                raise sqlalchemy.exc.OperationalError(name, {}, Exception("server closed the connection"))
            return answer

        monkeypatch.setattr(owner, name, breaks)

    names = {
        queue.leases: ("held", "acquire", "beat", "release"),
        queue.study: ("get_trials", "tell"),
        optuna.trial.Trial: ("report", "should_prune", "set_user_attr"),
    }
    for owner, methods in names.items():
        for name in methods:
            breaking(owner, name)
    SearchWorker(queue, Pretender()).work(7)
    assert broken.keys() == set().union(*names.values())
    monkeypatch.undo()
    record = load_search(queue.study, queue.spec)
    assert {trial.state for trial in record.trials} <= {"complete", "pruned"}
    assert [path.name for trial in record.trials for path in trial.runs] == [f"hunt-t{number}" for number in range(7)]


def test_who_was_halted_and_lost_the_queue_makes_no_trial_of_his_own(monkeypatch):
    queue, other = opened(), opened()
    trials = queue.study.get_trials

    def halted(**keywords):
        other.leases.take_over(other.leases.held()["hunt/queue"])
        return trials(**keywords)

    monkeypatch.setattr(queue.study, "get_trials", halted)
    assert queue.take(5) is None
    assert trials() == []
    other.leases.release("hunt/queue")
    monkeypatch.undo()
    assert queue.take(5).trial.number == 0


def test_a_trial_that_another_took_meanwhile_is_left_to_it(monkeypatch):
    queue, other = opened(), opened()
    acquire = queue.leases.acquire
    monkeypatch.setattr(queue.leases, "acquire", lambda key: key == "hunt/queue" and acquire(key))
    assert queue.take(5) is None
    assert other.take(5).begun


def test_who_waits_for_the_queue_can_be_stopped():
    holder = open_leases()
    assert holder.acquire("hunt/queue")
    with pytest.raises(StoppedError):
        opened(stop_signal=lambda: 2).take(5)


def test_the_time_left_is_shared_among_this_worker_and_the_others():
    one, other = opened(), opened()
    for seconds in (10.0, 20.0):
        finish(one, seconds)
    mine, _ = one.take(9), other.take(9)
    number = mine.trial.number
    assert seconds_left(one.trials(), 9, number) == pytest.approx(7 * 15 / 2)
    one.study.tell(number, state=optuna.trial.TrialState.FAIL)
    assert seconds_left(one.trials(), 9, number) == pytest.approx(6 * 10 / 2, rel=0.1), "it failed at once"


def finish(queue, seconds):
    """Do a trial whose run says that it took so long."""
    taken = queue.take(9)
    taken.trial.set_user_attr("figures", [{"wall_clock_seconds": seconds, "train_clock_seconds": 1.0}])
    queue.study.tell(taken.trial.number, 0.5)
    queue.release(taken)


def test_who_joins_knows_how_long_the_trials_of_the_others_took(work):
    finish(opened(), 600.0)
    said = []
    worker = SearchWorker(opened(), Pretender(), on_begin=said.append)
    worker.do(worker.queue.take(4), 4)
    assert said[0].seconds_left == pytest.approx(3 * 600)


def test_a_night_in_which_nobody_went_on_is_not_counted():
    queue = opened()
    finish(queue, 60.0)
    night = datetime.timedelta(hours=8)
    began = datetime.datetime(2026, 1, 1)
    queue.study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.PRUNED,
            params=queue.trials()[0].params,
            distributions=queue.trials()[0].distributions,
        )
    )
    trials = queue.trials()
    trials[1].datetime_start, trials[1].datetime_complete = began, began + night
    assert seconds_left(trials, 4, 1) == pytest.approx(2 * 60)


def start(search, trials, storage=None, pause_seconds=0.02, ready=None):
    child = CONTEXT.Process(target=search_in_child, args=(search, trials, runs_root(), storage, pause_seconds, ready))
    child.start()
    return child


def shares():
    """How many trials each worker trained."""
    return Counter(Run(path).read_json("environment.json")["worker"] for path in runs_root().glob("hunt-t*"))


def check_complete(record, train_folders, total):
    assert [trial.number for trial in record.trials] == list(range(total))
    assert {trial.state for trial in record.trials} == {"complete"}
    assert len({tuple(v.values()) for v in values(record)}) == total
    finished = [path.name for path in train_folders if Run(path).finished]
    assert sorted(finished) == sorted(f"hunt-t{number}" for number in range(total))


@starts_processes
def test_workers_share_a_search_and_none_does_a_trial_twice(work):
    search, ready = spec(pruner="none"), CONTEXT.Barrier(3)
    children = [start(search, 12, ready=ready) for _ in range(3)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert len(shares()) > 1
    record = work(search, 12, Pretender(accuracy=lambda config: pytest.fail("there was a trial left")))
    check_complete(record, list(runs_root().glob("hunt-t*")), 12)


@starts_processes
def test_workers_that_share_a_space_of_lists_end_with_it(work):
    search, ready = spec(*LISTS, pruner="none"), CONTEXT.Barrier(3)
    opened(search)
    children = [start(search, 30, ready=ready) for _ in range(3)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    record = work(search, 30, Pretender(accuracy=lambda config: pytest.fail("there was a trial left")))
    check_complete(record, list(runs_root().glob("hunt-t*")), 6)


def unfinished():
    """Whether a trial is in work, or was when its worker was killed."""
    return any(not Run(path).finished for path in runs_root().glob("hunt-t*"))


@pytest.mark.slow
@starts_processes
def test_workers_share_a_search_on_a_postgresql_server(work, postgres_url):
    search, ready = spec(pruner="none"), CONTEXT.Barrier(3)
    victim, *others = [start(search, 30, postgres_url, ready=ready) for _ in range(3)]
    await_that(unfinished)
    victim.kill()
    for child in others:
        child.join()
        assert child.exitcode == 0
    assert len(shares().keys() - {victim.pid}) == 2
    record = work(search, 30, storage=postgres_url)
    check_complete(record, list(runs_root().glob("hunt-t*")), 30)


@starts_processes
@pytest.mark.parametrize(
    ("num_kills", "total", "dimensions"),
    [(3, 5, ()), (3, 6, LISTS), pytest.param(20, 30, (), marks=pytest.mark.slow)],
)
def test_a_search_killed_at_random_has_every_trial_once(work, num_kills, total, dimensions):
    """Every second time in a trial, else whenever: while it sets up, asks for a trial, or records one."""
    search, chance, interrupted = spec(*dimensions, pruner="none"), random.Random(0), 0
    for kill in range(num_kills):
        child = start(search, total, pause_seconds=0.05)
        if kill % 2 == 0:
            await_that(lambda child=child: unfinished() or not child.is_alive())
        time.sleep(chance.uniform(0.0, 0.15))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "the search ended before so many kills; give it more trials"
        interrupted += any(trial.state.name == "RUNNING" for trial in opened(search).trials())
    assert interrupted >= num_kills // 2
    record = work(search, total)
    check_complete(record, list(runs_root().glob("hunt-t*")), total)
    assert values(record) == values(work(spec(*dimensions, name="whole", pruner="none"), total))
