"""Searches: every trial once, whoever does it and whatever happens to him; the same draws however it was stopped."""

import dataclasses
import math
import random
import signal
import time
from collections import Counter

import pytest
import sqlalchemy
import torch
from tests.experiments.pretend import Pretender, bump, search_in_child, serve_images
from tests.experiments.workers import CONTEXT, await_that, starts_processes

from cifarlab import device
from cifarlab.config import Config, ConvnetConfig, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from cifarlab.errors import (
    CifarlabError,
    ConfigError,
    NonFiniteLossError,
    RunError,
    StoppedError,
    TrainingError,
    UsageError,
)
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.search import (
    SearchSpec,
    build_pruner,
    build_sampler,
    check_search,
    open_search,
    search_from_dict,
    search_to_dict,
)
from cifarlab.experiments.search_queue import SearchQueue
from cifarlab.experiments.search_record import load_search
from cifarlab.experiments.search_work import SearchWorker
from cifarlab.experiments.space import parse_space
from cifarlab.experiments.storage import create_or_join, open_leases, open_storage
from cifarlab.run import Run, runs_root
from cifarlab.training.loop import Hooks

optuna = pytest.importorskip("optuna")

CONFIG = Config(
    recipe="tiny",
    data=DataConfig(image_size=16),
    model=ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 4),), hidden=())),
    optimizer=OptimizerConfig(lr=0.02),
    train=TrainConfig(epochs=4, batch_size=27, precision="fp32", device="cpu"),
)


def spec(*dimensions, name="hunt", config=CONFIG, **settings):
    texts = dimensions or ("optimizer.lr=log:0.001:1", "model.dropout=0:0.5")
    return SearchSpec(name=name, recipe=config, space=parse_space(texts, config), **settings)


def opened(search=None, storage=None, **settings):
    """One worker's view of a search."""
    study, found = open_search("hunt", open_storage(storage), search or spec())
    return SearchQueue(study, found, open_leases(storage), **settings)


@pytest.fixture
def work(monkeypatch, source):
    """Do trials of a search as one worker, and return the record."""
    serve_images(monkeypatch, source)

    def do(search, trials, train=None, hooks=None, notify=lambda line: None, storage=None):
        study, found = open_search(search.name, open_storage(storage), search)
        leases = open_leases(storage)
        SearchWorker(SearchQueue(study, found, leases), train or Pretender(), hooks or Hooks(), notify).work(trials)
        leases.close()
        return load_search(study, found)

    return do


def values(record):
    return [trial.values for trial in record.trials]


def test_a_search_begins_with_the_recipe_and_finds_better(work):
    record = work(spec(pruner="none"), 8)
    assert record.trials[0].is_recipe
    assert record.trials[0].values == {"optimizer.lr": 0.02, "model.convnet.dropout": 0.0}
    assert record.best.accuracy > record.trials[0].accuracy


def test_the_sampler_learns_where_the_better_part_of_the_space_is():
    def distances(sampler):
        search = spec(sampler=sampler)
        study = optuna.create_study(direction="maximize", sampler=build_sampler(search))
        for _ in range(50):
            trial = study.ask()
            values = {dimension.field: dimension.suggest(trial) for dimension in search.space}
            study.tell(trial, bump(with_values(CONFIG, values)))
        return [abs(math.log10(trial.params["optimizer.lr"] / 0.1)) for trial in study.trials[10:]]

    # draws that do not learn are 0.83 away on average, with a standard error of 0.09
    assert sum(distances("tpe")) / 40 < 0.5
    assert 0.6 < sum(distances("random")) / 40 < 1.1


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_stopped_and_continued_draws_what_an_uninterrupted_one_draws(work, sampler):
    whole = work(spec(name="whole", sampler=sampler), 13)
    for trials in (1, 6, 6, 13):
        parts = work(spec(name="parts", sampler=sampler), trials)
    assert values(parts) == values(whole)
    assert len({tuple(v.values()) for v in values(whole)}) == 13  # and no point twice


@pytest.mark.parametrize(("sampler", "trials"), [("random", 2), ("tpe", 4), ("tpe", 12)])
def test_a_trial_whose_worker_was_killed_between_two_draws_gets_the_values_it_would_have_had(work, sampler, trials):
    texts = ("optimizer.lr=log:0.001:1", "model.dropout=0:0.5", "optimizer.momentum=0:0.9")
    whole = work(spec(*texts, name="whole", sampler=sampler, pruner="none"), trials)
    search = spec(*texts, sampler=sampler, pruner="none")
    work(search, trials - 1)
    killed = open_search("hunt", open_storage(), search)[0].ask()
    search.space[0].suggest(killed)
    assert values(work(search, trials)) == values(whole)


def test_another_seed_draws_other_points(work):
    other = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, seed=1))
    one, two = (work(spec(name=n, config=c), 4) for n, c in (("one", CONFIG), ("two", other)))
    assert values(one)[1:] != values(two)[1:]


def test_every_trial_is_a_run_named_after_it_with_its_values_in_its_configuration(work):
    record = work(spec(), 3)
    for trial in record.trials:
        run = Run.open(f"hunt-t{trial.number}")
        assert trial.runs == (run.path.resolve(),)
        assert run.config.optimizer.lr == trial.values["optimizer.lr"]
        assert run.config.model.convnet.dropout == trial.values["model.convnet.dropout"]
        assert trial.accuracies == (run.read_json("result.json")["val/accuracy"],)


def test_the_figure_is_the_one_with_views_where_the_recipe_has_them(work):
    record = work(spec(), 1, Pretender(accuracy=lambda config: 0.5, views=0.25))
    assert record.best.accuracy == 0.75
    assert record.best.by_epoch[4] == 0.5


def test_a_trial_of_several_seeds_counts_by_their_mean_and_all_trials_use_the_same_seeds(work):
    train = Pretender(accuracy=lambda config: 0.5 + 0.1 * config.train.seed)
    record = work(spec(seeds_per_trial=3), 2, train)
    assert [trial.accuracy for trial in record.trials] == pytest.approx([0.6, 0.6])
    assert [config.train.seed for config in train.trained] == [0, 1, 2, 0, 1, 2]
    assert [path.name for path in record.trials[1].runs] == ["hunt-t1-s0", "hunt-t1-s1", "hunt-t1-s2"]
    assert list(record.trials[1].by_epoch) == [1, 2, 3, 4]  # of its first run, which is what pruning goes by


def test_a_trial_behind_the_median_at_the_same_epoch_is_given_up_and_recorded(work):
    def accuracy(config):
        return 0.2 if config.optimizer.lr < 0.005 else 0.8

    train = Pretender(accuracy=accuracy)
    record = work(spec("optimizer.lr=log:0.001:1", sampler="random"), 20, train)
    late_and_bad = [trial for trial in record.trials[5:] if trial.values["optimizer.lr"] < 0.005]
    assert late_and_bad
    assert {trial.state for trial in late_and_bad} == {"pruned"}
    assert {len(trial.by_epoch) for trial in late_and_bad} == {2}  # not in the first third of its epochs
    assert not any(Run.open(f"hunt-t{trial.number}").finished for trial in late_and_bad)
    good = [trial for trial in record.trials if trial.values["optimizer.lr"] >= 0.005]
    assert {trial.state for trial in good} == {"complete"}


@pytest.mark.parametrize(("epochs", "first"), [(2, 1), (3, 2), (4, 2), (5, 2), (6, 3), (9, 4)])
def test_nothing_is_given_up_in_the_first_third_of_its_epochs(epochs, first):
    pruner = build_pruner(spec(config=with_values(CONFIG, {"train.epochs": epochs})))
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for value in [0.9] * 5 + [0.1]:
        trial = study.ask()
        given_up = []
        for epoch in range(1, epochs + 1):
            trial.report(value, epoch)
            given_up += [epoch] if trial.should_prune() else []
        study.tell(trial, value)
    assert given_up[0] == first
    assert first > epochs / 3 >= first - 1


def test_hyperband_gives_up_what_lags_and_none_gives_up_nothing(work):
    wide = "optimizer.lr=log:0.00001:1"
    assert work(spec(wide, name="a", pruner="hyperband", sampler="random"), 12).count("pruned") > 0
    assert work(spec(wide, name="b", pruner="none", sampler="random"), 12).count("complete") == 12


def test_a_trial_with_nan_loss_fails_with_its_message_and_the_search_goes_on(work):
    def accuracy(config):
        if config.optimizer.lr > 0.1:
            raise NonFiniteLossError("the loss became nan at step 3")
        return 0.5

    record = work(spec("optimizer.lr=0.01,0.05,0.5,1.0", sampler="grid"), 4, Pretender(accuracy=accuracy))
    assert {t.values["optimizer.lr"]: (t.state, t.error) for t in record.trials} == {
        0.01: ("complete", ""),
        0.05: ("complete", ""),
        0.5: ("failed", "the loss became nan at step 3"),
        1.0: ("failed", "the loss became nan at step 3"),
    }


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


def test_a_grid_takes_every_point_once_and_then_ends(work):
    search = spec("optimizer.lr=0.01,0.1", "model.dropout=0:0.4:0.2", "model.activation=relu,gelu", sampler="grid")
    assert search.grid_size == 12
    record = work(search, search.grid_size)
    assert len({tuple(v.values()) for v in values(record)}) == 12
    assert {v["model.convnet.dropout"] for v in values(record)} == {0.0, 0.2, 0.4}


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
    from cifarlab.experiments import storage

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
    worker = SearchWorker(one, Pretender(), seconds_spent=[10.0, 20.0])
    mine, _ = one.take(9), other.take(9)
    number = mine.trial.number
    assert worker._seconds_left(one.trials(), 9, number) == pytest.approx(9 * 15 / 2)
    one.study.tell(number, 0.5)
    assert worker._seconds_left(one.trials(), 9, number) == pytest.approx(8 * 15 / 2)


def test_the_precision_is_decided_once_for_all_trials_and_is_no_part_of_the_result(monkeypatch):
    answers = iter([("bf16", ""), ("fp32", "")])
    monkeypatch.setattr(device, "choose_precision", lambda requested, on: next(answers))
    search = spec(config=with_values(CONFIG, {"train.precision": "auto"}))
    first, second = opened(search).spec, opened(search).spec
    assert first == second
    assert (first.base.train.precision, first.recipe.train.precision) == ("bf16", "auto")
    assert search_from_dict(search_to_dict(first)) == first
    with pytest.raises(UsageError, match=r"train\.precision auto, now fp16"):
        opened(spec(config=with_values(CONFIG, {"train.precision": "fp16"})))


@pytest.mark.parametrize("with_trials", [False, True])
def test_nothing_is_written_into_a_study_or_somebody_else_s_search(with_trials):
    foreign = create_or_join("hunt", open_storage(), attributes={} if with_trials else {"cifarlab_study": {}})
    if with_trials:
        foreign.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(UsageError, match="holds something else by the name 'hunt'; choose another --name"):
        opened()
    assert "cifarlab_search" not in foreign.user_attrs


def test_a_search_of_other_settings_is_refused_and_can_be_joined_as_it_is(work):
    work(spec(), 1)
    with pytest.raises(UsageError, match=r"space\.optimizer\.lr log:0\.001:1, now 0\.1,0\.2"):
        open_search("hunt", open_storage(), spec("optimizer.lr=0.1,0.2", "model.dropout=0:0.5"))
    with pytest.raises(UsageError, match="sampler tpe, now random"):
        open_search("hunt", open_storage(), spec(sampler="random"))
    assert open_search("hunt", open_storage())[1] == spec()
    with pytest.raises(UsageError, match="there is no search 'hint' in the storage; searches are hunt"):
        open_search("hint", open_storage())


def test_a_search_survives_its_storage_as_it_was():
    search = spec("model.hidden=[],[64]", "optimizer.lr=log:1e-05:1", seeds_per_trial=2, pruner="hyperband")
    assert search_from_dict(search_to_dict(search)) == search


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": ("train.epochs=2:8",)}, "add --pruner none"),
        ({"dimensions": ("optimizer.lr=log:0.1:1",), "sampler": "grid"}, "a grid needs optimizer.lr"),
        (
            {
                "dimensions": ("augment.translate=0:99", "augment.cutout=0:99", "train.batch_size=1:100"),
                "sampler": "grid",
            },
            "a grid of 1,000,000 points",
        ),
        ({"dimensions": ("model.kernel_size=3,5", "model.stages=[[1,4]],[[1,4],[1,8],[1,8],[1,8],[1,8]]")}, "stages"),
        ({"seeds_per_trial": 0}, "at least one seed"),
        ({"name": "a/b"}, "a study's name is made of"),
        ({"name": "x" * 81}, "at most 80 of them"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_first_trial(settings, message):
    search = spec(*settings.pop("dimensions", ()), **settings)
    with pytest.raises(UsageError, match=message):
        check_search(search)


def test_a_recipe_without_validation_images_holds_some_out_for_the_search_only():
    config = dataclasses.replace(CONFIG, data=DataConfig(image_size=16, val_fraction=0))
    search = spec(config=config)
    assert search.base.data.val_fraction == 0.1
    assert search.recipe.data.val_fraction == 0
    with pytest.raises(ConfigError, match="validation images"):
        spec("data.val_fraction=0.1,0.2")


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
@pytest.mark.parametrize(("num_kills", "total"), [(3, 5), pytest.param(20, 30, marks=pytest.mark.slow)])
def test_a_search_killed_at_random_has_every_trial_once(work, num_kills, total):
    """Every second time in a trial, else whenever: while it sets up, asks for a trial, or records one."""
    search, chance, interrupted = spec(pruner="none"), random.Random(0), 0
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
    assert values(record) == values(work(spec(name="whole", pruner="none"), total))
