"""Searches: every trial once, whoever does it and whatever happens to him; the same draws however it was stopped."""

import dataclasses
import math
import random
import signal
import time

import pytest
from tests.experiments.pretend import Pretender, search_in_child, serve_images
from tests.experiments.workers import CONTEXT

from cifarlab.config import Config, ConvnetConfig, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from cifarlab.errors import ConfigError, NonFiniteLossError, RunError, StoppedError, TrainingError, UsageError
from cifarlab.experiments.search import SearchSpec, check_search, open_search, search_from_dict, search_to_dict
from cifarlab.experiments.search_record import load_search
from cifarlab.experiments.search_work import SearchWorker
from cifarlab.experiments.space import parse_space
from cifarlab.experiments.storage import open_leases, open_storage
from cifarlab.experiments.trial_queue import TrialQueue
from cifarlab.run import Run, runs_root
from cifarlab.training.loop import Hooks

optuna = pytest.importorskip("optuna")

CONFIG = Config(
    recipe="tiny",
    data=DataConfig(image_size=16),
    model=ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 4),), hidden=())),
    optimizer=OptimizerConfig(lr=0.02),
    train=TrainConfig(epochs=4, batch_size=27, device="cpu"),
)


def spec(*dimensions, name="hunt", config=CONFIG, **settings):
    texts = dimensions or ("optimizer.lr=log:0.001:1", "model.dropout=0:0.5")
    return SearchSpec(name=name, recipe=config, space=parse_space(texts, config), **settings)


@pytest.fixture
def work(monkeypatch, source):
    """Do trials of a search as one worker, and return the record."""
    serve_images(monkeypatch, source)

    def do(search, trials, train=None, hooks=None, notify=lambda line: None, storage=None):
        study, found = open_search(search.name, open_storage(storage), search)
        leases = open_leases(storage)
        SearchWorker(TrialQueue(study, found, leases), train or Pretender(), hooks or Hooks(), notify).work(trials)
        leases.close()
        return load_search(study, found)

    return do


def values(record):
    return [trial.values for trial in record.trials]


def test_a_search_finds_the_better_part_of_its_space_and_begins_with_the_recipe(work):
    record = work(spec(pruner="none"), 20)
    assert record.trials[0].is_recipe
    assert record.trials[0].values == {"optimizer.lr": 0.02, "model.convnet.dropout": 0.0}
    assert 0.05 < record.best.values["optimizer.lr"] < 0.2
    distances = [abs(math.log10(trial.values["optimizer.lr"] / 0.1)) for trial in record.trials[10:]]
    assert sum(distances) / len(distances) < 0.5  # it learns: draws that do not are 0.83 away on average


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_stopped_and_continued_draws_what_an_uninterrupted_one_draws(work, sampler):
    whole = work(spec(name="whole", sampler=sampler), 13)
    for trials in (1, 6, 6, 13):
        parts = work(spec(name="parts", sampler=sampler), trials)
    assert values(parts) == values(whole)
    assert len({tuple(v.values()) for v in values(whole)}) == 13  # and no point twice


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


def test_trouble_of_the_machine_ends_the_worker_and_leaves_the_trial_to_the_next(work):
    def full(config):
        raise RunError("cannot write: no space left on device")

    with pytest.raises(RunError):
        work(spec(), 3, Pretender(accuracy=full))
    record = work(spec(), 3)
    assert [trial.state for trial in record.trials] == ["complete"] * 3


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
    worker = SearchWorker(TrialQueue(study, found, open_leases()), train, notify=said.append)
    worker.do(worker.queue.take(5), 5)
    assert [trial.state for trial in load_search(study, found).trials] == ["running"]
    assert "trial t0 was taken over by another worker" in said[-1]
    assert worker.queue.take(1) is None  # the other one holds it


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
            {"dimensions": tuple(f"augment.{n}=0:99" for n in ("translate", "cutout", "rotate")), "sampler": "grid"},
            "grid",
        ),
        ({"dimensions": ("model.kernel_size=3,5", "model.stages=[[1,4]],[[1,4],[1,8],[1,8],[1,8],[1,8]]")}, "stages"),
        ({"seeds_per_trial": 0}, "at least one seed"),
        ({"name": "a/b"}, "name"),
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


def start(search, trials, storage=None, pause_seconds=0.02):
    child = CONTEXT.Process(target=search_in_child, args=(search, trials, runs_root(), storage, pause_seconds))
    child.start()
    return child


def check_complete(record, train_folders, total):
    assert [trial.number for trial in record.trials] == list(range(total))
    assert {trial.state for trial in record.trials} == {"complete"}
    assert len({tuple(v.values()) for v in values(record)}) == total
    finished = [path.name for path in train_folders if Run(path).finished]
    assert sorted(finished) == sorted(f"hunt-t{number}" for number in range(total))


def test_workers_share_a_search_and_none_does_a_trial_twice(work):
    search = spec(pruner="none")
    for child in [start(search, 12) for _ in range(3)]:
        child.join()
    record = work(search, 12, Pretender(accuracy=lambda config: pytest.fail("there was a trial left")))
    check_complete(record, list(runs_root().glob("hunt-t*")), 12)


@pytest.mark.slow
def test_workers_share_a_search_on_a_postgresql_server(work, postgres_url):
    search = spec(pruner="none")
    victim, *others = [start(search, 10, postgres_url) for _ in range(3)]
    time.sleep(1.5)
    victim.kill()
    for child in (victim, *others):
        child.join()
    record = work(search, 10, storage=postgres_url)
    check_complete(record, list(runs_root().glob("hunt-t*")), 10)


def test_a_search_killed_at_random_20_times_has_every_trial_once(work):
    search, total, chance = spec(pruner="none"), 8, random.Random(0)
    for _ in range(20):
        child = start(search, total)
        time.sleep(chance.uniform(0.0, 0.5))
        child.kill()
        child.join()
    record = work(search, total)
    check_complete(record, list(runs_root().glob("hunt-t*")), total)
    assert values(record) == values(work(spec(name="whole", pruner="none"), total))
