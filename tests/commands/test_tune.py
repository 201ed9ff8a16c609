"""cifarlab tune: trials really train with their values, test is out of reach, and what comes of it can be used."""

import dataclasses
import json
import re

import pytest
from tests.conftest import make_images, with_fields
from tests.experiments.pretend import Pretender, draw_nothing, serve_images
from torch import nn

from cifarlab.commands import train as train_module
from cifarlab.commands.study import study
from cifarlab.commands.train import train
from cifarlab.commands.tune import confirm, tune
from cifarlab.config import Config, ConvnetConfig, DataConfig, EvaluateConfig, ModelConfig, OptimizerConfig, TrainConfig
from cifarlab.config_yaml import changed_fields, load_config
from cifarlab.data import SourceData
from cifarlab.data.splits import make_splits
from cifarlab.errors import RunError, UsageError
from cifarlab.experiments import search_page
from cifarlab.experiments.arms import check_spec
from cifarlab.experiments.search import SearchSpec, check_search
from cifarlab.experiments.search_record import latest_confirmation
from cifarlab.experiments.space import parse_space
from cifarlab.experiments.storage import create_or_join, open_storage
from cifarlab.experiments.study import SPEC_KEY, StudyRecord, StudyTrial, planned_trials, spec_to_dict
from cifarlab.run import Run, runs_root
from cifarlab.training import loop

optuna = pytest.importorskip("optuna")

CONFIG = Config(
    recipe="tiny",
    data=DataConfig(image_size=16),
    model=ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 4),), hidden=(8,))),
    optimizer=OptimizerConfig(lr=0.02),
    schedule=dataclasses.replace(Config().schedule, name="constant"),
    train=TrainConfig(epochs=2, batch_size=27, precision="fp32", device="cpu"),
    evaluate=EvaluateConfig(views="flip"),
)


def search(*texts, config=CONFIG, **settings):
    return SearchSpec(name="hunt", recipe=config, space=parse_space(texts, config), **settings)


@pytest.fixture(autouse=True)
def images(monkeypatch, source):
    serve_images(monkeypatch, source)
    return source


@pytest.fixture(autouse=True)
def draw(monkeypatch):
    """Draw nothing, which takes longer than all trials; the function draws after all."""
    return draw_nothing(monkeypatch)


class OutOfReach:
    """A test split that cannot even be asked for its size."""

    def __getattribute__(self, name):
        raise AssertionError(f"the test split was asked for its {name}")

    def __len__(self):
        raise AssertionError("the test split was asked for its size")


@pytest.fixture
def seen(monkeypatch):
    """What optimiser, network and loss of every run that is trained had."""
    found = []

    def spy(config, state, splits, *rest):
        losses = set()
        original = loop.F.cross_entropy

        def cross_entropy(*arguments, **keywords):
            losses.add(keywords.get("label_smoothing"))
            return original(*arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(loop.F, "cross_entropy", cross_entropy)
            loop.fit(config, state, splits, *rest)
        groups = [group for optimizer in state.optimizers for group in optimizer.param_groups]
        modules = list(state.model.modules())
        found.append(
            {
                "lr": {group["lr"] for group in groups},
                "momentum": {group["momentum"] for group in groups},
                "weight_decay": max(group["weight_decay"] for group in groups),
                "dropout": {module.p for module in modules if isinstance(module, nn.modules.dropout._DropoutNd)},
                "activation": {type(module).__name__ for module in modules} & {"ReLU", "GELU", "Tanh"},
                "hidden": [module.out_features for module in modules if isinstance(module, nn.Linear)],
                "smoothing": max(value for value in losses if value is not None),
                "steps": state.progress.step,
            }
        )

    monkeypatch.setattr(train_module, "fit", spy)
    return found


def test_the_values_of_a_trial_reach_optimiser_model_loss_and_batches(seen):
    """Every trial of a search with equal runs would look like a search without an effect."""
    texts = (
        "optimizer.lr=log:0.001:0.1",
        "optimizer.momentum=0.1:0.9",
        "optimizer.weight_decay=log:1e-5:1e-2",
        "model.dropout=0.05:0.5",
        "model.activation=relu,gelu,tanh",
        "model.hidden=[16],[8, 8]",
        "train.label_smoothing=0.05:0.2:0.05",
        "train.batch_size=12,27,54",
    )
    result = tune(search(*texts), train=train, trials=5)
    names = {"relu": "ReLU", "gelu": "GELU", "tanh": "Tanh"}
    assert len(seen) == len(result.record.trials) == 5
    for trial, found in zip(result.record.trials, seen, strict=True):
        values = trial.values
        assert found["lr"] == {values["optimizer.lr"]}
        assert found["momentum"] == {values["optimizer.momentum"]}
        assert found["weight_decay"] == values["optimizer.weight_decay"]
        assert found["dropout"] == {values["model.convnet.dropout"]}
        assert found["activation"] == {names[values["model.convnet.activation"]]}
        assert found["hidden"] == [*values["model.convnet.hidden"], 3]
        assert found["smoothing"] == values["train.label_smoothing"]
        assert found["steps"] == 2 * (108 // values["train.batch_size"])
    assert len({str(found) for found in seen}) == 5


def test_tuning_cannot_read_test(monkeypatch, source):
    serve_images(monkeypatch, dataclasses.replace(source, test=OutOfReach()))
    result = tune(search("optimizer.lr=log:0.001:0.1"), train=train, trials=3)
    for trial in result.record.trials:
        (path,) = trial.runs
        assert Run(path).read_json("environment.json")["num_test"] == 0
        assert not (path / "test_reads.jsonl").exists()
        assert [file.name for file in (path / "predictions").iterdir()] == ["val.safetensors"]
        assert not [name for name in Run(path).read_json("result.json") if "test" in name]
    assert result.record.count("complete") + result.record.count("pruned") == 3
    text = result.page.json.read_text()
    assert json.loads(text)["test_reads"] == 0
    assert "test/" not in text


def test_the_split_a_trial_was_judged_on_is_that_of_its_configuration(source):
    result = tune(search("optimizer.lr=0.01,0.02", sampler="grid"), train=train, trials=2)
    run = Run(result.record.best.runs[0])
    assert run.read_json("environment.json")["split_sha256"] == make_splits(source, run.config.data).sha256
    predictions = run.load_predictions("val")
    share = (predictions.logits_tta_NK.argmax(1) == predictions.labels_N).double().mean().item()
    assert result.record.best.accuracy == pytest.approx(share)  # the recipe has views, so they count


def test_a_learning_rate_without_bounds_fails_its_trial_only(monkeypatch):
    found = tune(search("optimizer.lr=0.02,1e30", sampler="grid", config=CONFIG), train=train, trials=2).record
    by_lr = {trial.values["optimizer.lr"]: trial for trial in found.trials}
    assert by_lr[0.02].state == "complete"
    assert by_lr[1e30].state == "failed"
    assert "the loss became" in by_lr[1e30].error
    assert "lower --optimizer.lr" in by_lr[1e30].error


def test_the_run_that_trials_start_from_is_known_by_its_whole_path():
    """Runs record it so, and one that was finished but not recorded is known by its configuration."""
    source = Run.create(CONFIG, name="pretrained").path.resolve()
    fine_tuned = with_fields(CONFIG, model__init="pretrained")
    hunt = search("optimizer.lr=0.01,0.02", config=fine_tuned, sampler="grid")
    trained = tune(hunt, train=(train := Pretender()), trials=1)
    assert [config.model.init for config in train.trained] == [str(source)]
    assert trained.record.spec.recipe.model.init == str(source)
    choices = tune(
        dataclasses.replace(search("model.init='',pretrained", sampler="grid"), name="choices"), train=Pretender()
    )
    assert {trial.values["model.init"] for trial in choices.record.trials} == {"", str(source)}


def test_a_run_to_start_from_that_is_not_there_is_missed_before_the_first_trial():
    lost = search("optimizer.lr=0.01,0.02", config=with_fields(CONFIG, model__init="lost"))
    for wanted in (lost, search("model.init='',lost")):
        with pytest.raises(RunError, match="lost is not a run folder"):
            tune(wanted, train=lambda *_, **__: pytest.fail("a trial"))


def test_the_result_is_the_recipe_with_the_chosen_values_and_trains_by_one_command():
    lonely = dataclasses.replace(CONFIG, data=DataConfig(image_size=16, val_fraction=0))
    result = tune(search("optimizer.lr=log:0.01:1", "model.dropout=0:0.5", config=lonely), train=Pretender(), trials=8)
    best = load_config(result.page.best)
    assert result.page.best == runs_root() / "hunt" / "best.yaml"
    assert best.recipe == "tiny"
    assert changed_fields(best, lonely) == result.record.best.values  # val_fraction and checkpoints are the recipe's
    assert result.page.best.read_text().startswith("# Tuned from the recipe tiny by cifarlab tune hunt: t")
    assert "optimistic" in result.page.best.read_text()


def test_more_trials_go_on_with_a_search_and_keep_what_is_there():
    first = tune(search("optimizer.lr=log:0.01:1"), train=Pretender(), trials=3)
    train_rest = Pretender()
    second = tune("hunt", train=train_rest, trials=5)
    assert second.record.trials[:3] == first.record.trials
    assert len(train_rest.trained) == 2
    assert tune("hunt", train=Pretender(), trials=3).record == second.record


def test_who_joins_without_a_number_does_as_many_trials_as_were_asked_for():
    space = "optimizer.lr=log:0.01:1"
    tune(search(space), train=Pretender(), trials=3, minutes=1e-9)
    assert len(tune("hunt", train=Pretender()).record.trials) == 3
    tune("hunt", train=Pretender(), trials=4)
    assert len(tune(search(space), train=Pretender()).record.trials) == 4


def test_no_trial_begins_after_the_time_is_up():
    said = []
    result = tune(search("optimizer.lr=log:0.01:1"), train=Pretender(), trials=5, minutes=1e-9, notify=said.append)
    assert result.record.trials == ()
    assert result.page.best is None
    assert "the time is up; no further trial is begun" in said
    assert "nothing to choose from" in result.page.html.read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"trials": 0}, "at least one trial"), ({"minutes": 0}, "--minutes must be positive")],
)
def test_numbers_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        tune(search("optimizer.lr=log:0.01:1"), train=Pretender(), **settings)


def test_a_search_does_not_write_into_a_run():
    Run.create(CONFIG, name="hunt")
    with pytest.raises(UsageError, match="is a run; choose another --name"):
        tune(search("optimizer.lr=log:0.01:1"), train=Pretender(), trials=1)


def pretended_study(accuracy):
    """A study whose trials have the accuracies that ``accuracy(label, seed)`` says."""

    def work(spec):
        trials = tuple(
            StudyTrial(arm.label, seed, runs_root() / "x", "complete", {"val/accuracy": accuracy(arm.label, seed)})
            for arm, seed in planned_trials(spec)
        )
        return StudyRecord(spec, trials)

    return work


@pytest.fixture(scope="module")
def hunted(tmp_path_factory):
    source = SourceData(train=make_images(120, seed=1), val=None, test=None, origin="tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFARLAB_RUNS", str(tmp_path_factory.mktemp("hunted")))
        patch.setattr(search_page, "search_figures", lambda record: {})
        serve_images(patch, source)
        return tune(search("optimizer.lr=log:0.01:1", "model.dropout=0:0.5"), train=Pretender(), trials=8)


def test_confirming_trains_recipe_and_best_on_seeds_the_search_has_not_seen(hunted):
    asked = []

    def work(spec):
        asked.append(spec)
        return pretended_study(lambda label, seed: 0.5)(spec)

    confirm(hunted, study=work, seeds=4, top=2)
    (spec,) = asked
    best = [trial.label for trial in hunted.record.ranked if not trial.is_recipe][:2]
    assert [arm.label for arm in spec.arms] == ["recipe", *best]
    by_label = {trial.label: trial.values for trial in hunted.record.trials}
    assert [arm.overrides for arm in spec.arms] == [{}, *(by_label[label] for label in best)]
    seeds = {seed for _, seed in planned_trials(spec)}
    assert len(seeds) == 4
    assert not seeds & {0}


def test_the_best_mean_over_fresh_seeds_is_chosen_not_the_best_trial(hunted):
    second = [trial for trial in hunted.record.ranked if not trial.is_recipe][1]
    means = {"recipe": 0.70, second.label: 0.75}
    study_of = pretended_study(lambda label, seed: means.get(label, 0.72) + 0.001 * (seed % 3))
    result = confirm(hunted, study=study_of, seeds=5, top=3)
    assert result.record.chosen[0] == second.label != result.record.best.label
    assert changed_fields(load_config(result.page.best), CONFIG) == second.values
    verdict = json.loads(result.page.json.read_text())["verdict"]
    assert f"{second.label} has the highest mean" in verdict
    assert "better than the recipe on these images: +5.00 points" in verdict


def test_where_nothing_is_better_the_recipe_is_chosen_and_the_page_says_so(hunted):
    study_of = pretended_study(lambda label, seed: (0.8 if label == "recipe" else 0.79) + 0.001 * (seed % 2))
    result = confirm(hunted, study=study_of, seeds=3, top=3)
    assert load_config(result.page.best) == CONFIG
    assert "the search found nothing that is better, and best.yaml is the recipe" in result.page.best.read_text()


def test_what_cannot_be_told_apart_is_not_called_better(hunted):
    leader = next(trial for trial in hunted.record.ranked if not trial.is_recipe).label

    def accuracy(label, seed):
        return 0.8 + 0.02 * ((seed * 7) % 5) + (0.001 if label == leader else 0.0)

    result = confirm(hunted, study=pretended_study(accuracy), seeds=5, top=3)
    verdict = json.loads(result.page.json.read_text())["verdict"]
    assert f"{leader} has the highest mean" in verdict
    assert "cannot be told apart from the recipe" in verdict
    assert "It is better" not in verdict


def test_a_search_without_a_better_trial_needs_no_confirmation():
    only = tune(search("optimizer.lr=log:0.01:1"), train=Pretender(), trials=1)
    assert confirm(only, study=lambda spec: pytest.fail("nothing to confirm"), seeds=3, top=3) == only


def test_the_confirmation_of_a_search_over_networks_can_be_trained():
    """A trial carries the values of all networks' fields, also of those it did not choose."""
    space = ("model.name=convnet,resnet", "model.convnet.dropout=0.1,0.2", "optimizer.lr=0.01,0.02")
    better = Pretender(accuracy=lambda config: 0.5 + 0.1 * (config.model.name == "resnet") + config.optimizer.lr)
    found = tune(search(*space, sampler="grid"), train=better)
    asked = []
    confirm(found, study=lambda spec: asked.append(spec) or pretended_study(lambda *_: 0.5)(spec), seeds=1, top=1)
    assert asked[0].arms[1].overrides["model.name"] == "resnet"
    check_spec(asked[0])


def test_a_confirmation_of_many_trials_has_a_name_that_fits_and_is_found_again(hunted):
    record, name = hunted.record, "h" * 80
    many = dataclasses.replace(
        record,
        spec=dataclasses.replace(record.spec, name=name),
        trials=tuple(dataclasses.replace(trial, number=trial.number + 1000) for trial in record.trials),
    )
    check_search(many.spec)
    asked = []
    for top in (2, 3, 4):
        confirm(
            dataclasses.replace(hunted, record=many),
            study=lambda spec: asked.append(spec) or pretended_study(lambda *_: 0.5)(spec),
            seeds=1,
            top=top,
        )
    for spec in asked:
        check_spec(spec)
    names = [spec.name for spec in asked]
    assert len(set(names)) == 3
    storage = open_storage()
    create_or_join(names[-1], storage, attributes={SPEC_KEY: spec_to_dict(asked[-1])})
    assert latest_confirmation(name, storage).spec == asked[-1]


@pytest.mark.slow
def test_a_confirmation_is_a_study_and_is_found_again(monkeypatch, source):
    from cifarlab.commands import study as study_module

    monkeypatch.setattr(study_module, "load_splits", lambda data: make_splits(source, data))
    result = tune(search("optimizer.lr=log:0.001:0.1"), train=train, trials=4)
    confirmed = confirm(result, study=study, seeds=2, top=1)
    recipe, best = confirmed.record.confirmed
    assert recipe.label == "recipe"
    assert len(recipe.accuracies) == len(best.accuracies) == 2
    for one in (recipe, best):
        configs = [Run(path).config for path in one.runs]
        assert [config.train.seed for config in configs] == [1000, 1001]
        assert [config.optimizer.lr for config in configs] == [one.values.get("optimizer.lr", CONFIG.optimizer.lr)] * 2
        assert not any((path / "test_reads.jsonl").exists() for path in one.runs)
    again = tune("hunt", train=train, trials=4)
    assert again.record == confirmed.record
    assert again.page.best.read_text() == confirmed.page.best.read_text()


def test_the_page_loads_nothing_from_elsewhere_and_links_to_every_run(draw):
    draw()

    def accuracy(config):
        if config.optimizer.lr > 0.5:
            raise ValueError("<b>the loss</b> & more")
        return 0.9 - abs(config.optimizer.lr - 0.1)

    result = tune(
        search("optimizer.lr=log:0.01:1", "model.dropout=0:0.5"), train=Pretender(accuracy=accuracy), trials=20
    )
    page = result.page.html.read_text()
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    links = re.findall(r'<a href="([^"]+)"', page)
    assert len(links) == 20
    for link in links:
        assert ((result.page.html.parent / link).resolve() / "config.yaml").is_file()
    assert result.record.count("failed") > 0
    assert "&lt;b&gt;the loss&lt;/b&gt; &amp; more" in page
    assert "<b>the loss" not in page
    for heading in ("How far to believe it", "How the search went", "What matters", "All trials"):
        assert heading in page
    assert "the highest of" in page.lower()
    rows = result.page.csv.read_text().splitlines()
    assert rows[0].startswith("trial,state,val/accuracy,optimizer.lr,model.convnet.dropout")
    assert len(rows) == 21
