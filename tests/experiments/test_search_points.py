"""Points of a search: no configuration is trained twice, and where all are trained the search is at its end."""

import pytest
from tests.experiments.pretend import CONFIG, Pretender, opened, spec, values

from cifarlab.commands.tune import tune
from cifarlab.errors import NonFiniteLossError
from cifarlab.experiments import search_page
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.search_points import Points
from cifarlab.experiments.search_sampler import build_sampler
from cifarlab.experiments.search_work import SearchWorker

optuna = pytest.importorskip("optuna")

LISTS = ("model.activation=relu,gelu", "train.batch_size=9,12,27")
BY_NETWORK = ("model.name=convnet,resnet", "model.convnet.dropout=0.1,0.2", "optimizer.lr=0.01,0.02")


def different(record):
    return {tuple(map(str, one.values())) for one in values(record)}


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_space_of_lists_is_tried_once_and_the_search_says_so(work, sampler):
    train, said = Pretender(), []
    record = work(spec(*LISTS, sampler=sampler, pruner="none"), 30, train, notify=said.append)
    assert len(train.trained) == len(record.trials) == len(different(record)) == 6
    notes = [line for line in said if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith("note: the space has 6 combinations of values")
    assert notes[0].endswith("the search has 6 trials, not 30")
    assert any(line.startswith("trial t5 (6 of 6)") for line in said)
    assert not work(spec(*LISTS, sampler=sampler, pruner="none"), 60, again := Pretender()).trials[6:]
    assert not again.trained


def test_the_command_s_default_ends_with_the_space(monkeypatch, work):
    monkeypatch.setattr(search_page, "search_figures", lambda record: {})
    steps = []
    found = tune(spec(*LISTS, pruner="none"), train=Pretender(), on_begin=steps.append)
    assert [step.total for step in steps] == [6] * 6
    text = found.page.html.read_text()
    assert "All 6 combinations of values were tried." in text
    assert "The first 10 trials are drawn at random" not in text


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_what_was_given_up_or_failed_is_not_tried_again(work, sampler):
    def accuracy(config):
        if config.optimizer.lr > 0.5:
            raise NonFiniteLossError("the loss became nan")
        return 0.2 if config.optimizer.lr < 0.005 else 0.8

    rates = ",".join(str(k / 1000) for k in (1, 2, 3, 600, 700, 10, 20, 30, 40, 50, 60, 70))
    record = work(spec(f"optimizer.lr={rates}", sampler=sampler), 40, train := Pretender(accuracy=accuracy))
    assert {trial.state for trial in record.trials} == {"complete", "pruned", "failed"}
    assert len(train.trained) == len(record.trials) == len(different(record)) == 12


@pytest.mark.parametrize(
    ("dimensions", "num_points"),
    [
        (("train.batch_size=log:9:20",), 12),
        (("train.batch_size=9:21:3", "model.dropout=0:0.2:0.05"), 25),
        (("model.hidden=[],[8],[8, 8]", "model.pool_last=false,true"), 6),
        (BY_NETWORK, 6),  # a resnet has no dropout of a convnet
        (("model.name=convnet,resnet", "model.resnet.variant=resnet20,resnet56"), 3),
        (("optimizer.name=sgd,adamw", "optimizer.beta2=0.9,0.99", "schedule.name=step,cosine"), 6),
    ],
)
@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_every_point_is_tried_where_they_can_be_counted(work, dimensions, num_points, sampler):
    if "log:" in dimensions[0] and sampler == "grid":
        pytest.skip("no grid")
    search = spec(*dimensions, sampler=sampler, pruner="none")
    points = Points(search)
    assert points.count == num_points
    assert len({points.key(one) for one in points.each()}) == len(list(points.each())) == num_points
    record = work(search, 200, train := Pretender(accuracy=lambda config: 0.5))
    assert len(train.trained) == len(record.trials) == num_points


def test_what_has_no_effect_makes_no_other_training(work):
    search = spec("model.name=convnet,resnet", "model.convnet.dropout=0:0.5", pruner="none")
    assert Points(search).count is None
    record = work(search, 12, Pretender(accuracy=lambda config: 0.5))
    assert [one["model.name"] for one in values(record)].count("resnet") == 1
    assert len(record.trials) == 12


def test_a_step_is_one_value_however_its_last_digit_came_out():
    points = Points(spec("model.dropout=0:0.2:0.05"))
    assert points.key({"model.convnet.dropout": 3 * 0.05}) == points.key({"model.convnet.dropout": 0.15})
    assert 3 * 0.05 != 0.15


@pytest.mark.parametrize("finished", range(1, 6))
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_trial_killed_between_two_draws_goes_on_with_values_that_no_other_has(work, sampler, finished):
    whole = work(spec(*LISTS, name="whole", sampler=sampler, pruner="none"), 6)
    search = spec(*LISTS, sampler=sampler, pruner="none")
    work(search, finished)
    queue = opened(search)
    queue._tell_sampler(queue.trials())
    search.space[0].suggest(queue.study.ask())
    assert values(work(search, 6)) == values(whole)


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_what_was_prescribed_for_a_trial_is_its_own_before_it_is_entered(sampler):
    """Its worker was killed just after Optuna made the trial, on another machine that may still be alive."""
    search = spec(*LISTS, sampler=sampler, config=with_values(CONFIG, {"train.batch_size": 12}))
    killed, *others, late = [opened(search) for _ in range(7)]
    killed._prescribe([])
    trial = killed.study.ask()
    assert killed._claim(trial.number, {})
    taken = [other.take(30) for other in others]
    assert late.take(30) is None
    assert trial.number == 0
    own = killed._chosen(trial, None, begun=False).values
    assert len({str(one) for one in [own, *(one.values for one in taken)]}) == 6


def test_what_an_earlier_version_trained_again_does_not_count_against_the_rest(work):
    search = spec(*LISTS, pruner="none")
    work(search, 2)
    queue = opened(search)
    for _ in range(3):
        queue.study.add_trial(queue.trials()[1])
    assert queue.limited(30) == 6 + 3
    assert queue.limited(7) == 7
    SearchWorker(queue, train := Pretender()).work(30)
    assert len(train.trained) == 4
    assert len({queue.points.key(trial.params) for trial in queue.trials()}) == 6


def test_a_sampler_that_has_found_its_best_draws_what_lies_beside_it():
    """One that only fell back to draws at random would no longer be a search where the space can be counted."""
    search, seen = spec("train.batch_size=1:27", "model.dropout=0:0.5:0.05", pruner="none"), []
    points = Points(search)
    study = optuna.create_study(direction="maximize")
    for _ in range(60):
        study.sampler = build_sampler(search, points, frozenset(points.tried(study.trials)))
        trial = study.ask()
        found = {dimension.field: dimension.suggest(trial) for dimension in search.space}
        seen.append(found["train.batch_size"] / 27 + 2 * found["model.convnet.dropout"])
        study.tell(trial, -seen[-1])
    assert len(set(points.tried(study.trials))) == 60
    assert sum(seen[20:]) / 40 < 0.8  # on average of the space it is 1
