"""Searches: the same draws however a search was stopped, and what is refused before the first trial."""

import dataclasses
import math

import pytest
from tests.experiments.pretend import CONFIG, Pretender, bump, opened, spec, values

from cifarlab import device
from cifarlab.config import DataConfig
from cifarlab.errors import (
    ConfigError,
    NonFiniteLossError,
    UsageError,
)
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.search import (
    build_pruner,
    build_sampler,
    check_search,
    open_search,
    search_from_dict,
    search_to_dict,
)
from cifarlab.experiments.storage import create_or_join, open_storage
from cifarlab.run import Run

optuna = pytest.importorskip("optuna")


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


def test_a_grid_takes_every_point_once_and_then_ends(work):
    search = spec("optimizer.lr=0.01,0.1", "model.dropout=0:0.4:0.2", "model.activation=relu,gelu", sampler="grid")
    assert search.grid_size == 12
    record = work(search, search.grid_size)
    assert len({tuple(v.values()) for v in values(record)}) == 12
    assert {v["model.convnet.dropout"] for v in values(record)} == {0.0, 0.2, 0.4}


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
        (  # each goes with the first value of the other
            {"dimensions": ("data.image_size=32,8", "model.stages=[[1,4]],[[1,4],[1,8],[1,8],[1,8]]")},
            r"no network can be built with data\.image_size=8 with model\.convnet\.stages",
        ),
        (
            {"dimensions": ("train.low_resolution=[],[[0.5,12]]",), "pruner": "none"},
            "train.low_resolution needs a network that takes 12",
        ),
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
