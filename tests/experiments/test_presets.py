"""Presets: valid, about what they say they are about, and fair where they claim to be."""

import dataclasses
import shlex
from pathlib import Path

import pytest
from tests.experiments.workers import ONE_OF_EACH

from cifarlab.cli_arguments import TrainArguments
from cifarlab.cli_tools import parse
from cifarlab.commands.doctor import training_work
from cifarlab.config import AugmentConfig, Config
from cifarlab.config_yaml import config_to_dict
from cifarlab.errors import UsageError
from cifarlab.experiments.ablation import ablation_arms
from cifarlab.experiments.arms import check_spec
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.page import flag
from cifarlab.experiments.presets import PRESETS, preset_spec
from cifarlab.experiments.study import trial_config
from cifarlab.recipes import RECIPES, load_recipe

ROOT = Path(__file__).resolve().parents[2]


def configs(spec):
    return {arm.label: trial_config(spec, arm, 0) for arm in spec.arms}


NETWORKS = ["conv-pool-conv", "deeper convnet", "mixconv", "resnet20", "speednet"]
OPTIMISERS = {"sgd": (0.02, 0.05, 0.125), "adamw": (0.001, 0.0025, 0.006), "muon": (0.05, 0.125, 0.3)}
ARMS = {
    "architectures": [f"{name} (3 epochs)" for name in NETWORKS]
    + [f"{name} (equal compute)" for name in NETWORKS if name != "deeper convnet"],
    "activations": ["relu", "gelu", "silu", "tanh", "sigmoid"],
    "regularisers": ["none", "weight decay", "dropout", "batch norm", "label smoothing", "augmentation", "all"],
    "optimisers": [f"{name} lr={rate:g}" for name, rates in OPTIMISERS.items() for rate in rates],
    "batch-size": ["64, lr=0.025", "128, lr=0.05", "256, lr=0.1", "512, lr=0.2", "1024, lr=0.4"],
    "learning-rate": ["lr=0.003", "lr=0.01", "lr=0.03", "lr=0.1", "lr=0.3"],
    "seeds": ["fast70"],
    "ablation": [
        "fast90 as it is",
        "without low resolution",
        "without label smoothing",
        "without weight decay",
        "without flip",
        "without shifts",
        "without a schedule",
        "flips by coin",
        "SGD instead of Muon",
        "whitening bias never frozen",
    ],
}
SEEDS = {"architectures": 4, "optimisers": 3, "seeds": 20}


@pytest.mark.parametrize("name", ARMS)
def test_every_preset_has_the_arms_and_seeds_that_the_documentation_tells(name):
    spec = preset_spec(name)
    assert [arm.label for arm in spec.arms] == ARMS[name]
    assert spec.seeds == SEEDS.get(name, 5)
    rows = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8").splitlines()
    (row,) = (row for row in rows if row.startswith(f"| `{name}` |"))
    assert row.endswith(f"| {len(spec.arms)} x {spec.seeds} |")


def test_every_preset_is_told_of_above():
    assert set(ARMS) == set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_trained_as_it_is(name):
    spec = preset_spec(name)
    check_spec(spec)
    assert spec.name == name
    assert spec.question.endswith("?")
    assert spec.base.data.val_fraction == 0.1, "fewer validation images would blur the arms"
    own, recipe = spec.base, load_recipe(PRESETS[name].recipe)
    changed = (own.train.epochs, own.data.image_size, own.data.train_limit) != (
        recipe.train.epochs,
        recipe.data.image_size,
        recipe.data.train_limit,
    )
    assert changed == bool(PRESETS[name].shortened), "what is shortened is said, and nothing else"


@pytest.mark.parametrize("name", PRESETS)
def test_the_flags_a_page_shows_are_understood_by_train(name):
    spec = preset_spec(name)
    names = [field.name for field in dataclasses.fields(Config)]
    base = TrainArguments(**{field: getattr(spec.base, field) for field in names})
    for arm in spec.arms:
        words = shlex.split(" ".join(flag(*field) for field in arm.overrides.items()))
        found = parse(TrainArguments, "train", [spec.base.recipe, *words], base)
        as_config = Config(**{field: getattr(found, field) for field in names})
        assert config_to_dict(as_config) == config_to_dict(with_values(spec.base, arm.overrides)), arm.label


def test_architectures_at_equal_compute_differ_by_less_than_a_step():
    def pflop(config):
        """What the run will record, of which a step is a thousandth."""
        return training_work(config, 50_000, 10)[0]

    found = configs(preset_spec("architectures"))
    epochs = {config.train.epochs for label, config in found.items() if label.endswith("(3 epochs)")}
    assert epochs == {3.0}
    reference = pflop(found["deeper convnet (3 epochs)"])
    equal = {label: pflop(config) for label, config in found.items() if label.endswith("(equal compute)")}
    assert len(equal) == 4
    assert list(equal.values()) == pytest.approx([reference] * 4, rel=1e-3)
    families = [config.model.name for label, config in found.items() if label.endswith("(3 epochs)")]
    assert families == ["convnet", "convnet", "mixconv", "resnet", "speednet"]
    shared = {repr((c.optimizer, c.schedule, c.augment, c.data)) for c in found.values()}
    assert len(shared) == 1, "architectures differ in nothing but the network and the epochs"


def test_regularisers_add_one_measure_each():
    found = configs(preset_spec("regularisers"))
    none, everything = found["none"], found["all"]

    def fields(config):
        net = config.model.convnet
        return {
            "weight decay": config.optimizer.weight_decay,
            "dropout": net.dropout,
            "batch norm": net.norm,
            "label smoothing": config.train.label_smoothing,
            "augmentation": (config.augment.flip, config.augment.translate),
        }

    for label, config in found.items():
        changed = {name for name, value in fields(config).items() if value != fields(none)[name]}
        assert changed == {"none": set(), "all": set(fields(none))}.get(label, {label})
    assert everything.model.convnet.norm == "batch"


def test_the_learning_rate_grows_with_the_batch():
    found = configs(preset_spec("batch-size")).values()
    rates = [config.optimizer.lr / config.train.batch_size for config in found]
    assert rates == pytest.approx([0.05 / 128] * 5, rel=0.01)


@pytest.mark.parametrize("name", RECIPES)
def test_without_regularisers_there_is_none_whatever_the_recipe(name):
    base = load_recipe(name)
    if base.model.name in ("speednet", "resnet"):  # whose normalisation cannot be left out
        with pytest.raises(UsageError, match="preset regularisers does not fit"):
            preset_spec("regularisers", recipe=base)
        return
    spec = preset_spec("regularisers", recipe=base)
    check_spec(spec)
    config = configs(spec)["none"]
    network = getattr(config.model, config.model.name)
    assert network.dropout == getattr(network, "block_dropout", 0) == 0
    assert getattr(network, "head_dropout", -1) == -1  # as the other
    assert getattr(network, "norm", "none") == "none"
    assert dataclasses.replace(config.augment, flip="none") == AugmentConfig(flip="none") == config.augment
    assert config.train.label_smoothing == config.train.ema == config.optimizer.weight_decay == 0


@pytest.mark.parametrize("name", RECIPES)
def test_architectures_can_be_compared_in_the_way_of_every_recipe(name):
    spec = preset_spec("architectures", recipe=load_recipe(name))
    check_spec(spec)
    assert not any(config.train.low_resolution for config in configs(spec).values())


@pytest.mark.parametrize("name", RECIPES)
def test_an_ablation_finds_every_dropout_and_a_warm_up(name):
    base = load_recipe(name)
    spec = preset_spec("ablation", recipe=base)
    network = getattr(base.model, base.model.name)
    rates = [getattr(network, field, 0) for field in ("dropout", "head_dropout", "block_dropout")]
    found = configs(spec)
    assert ("without dropout" in found) == (max(rates) > 0)
    if "without dropout" in found:
        left = getattr(found["without dropout"].model, base.model.name)
        assert max(getattr(left, field, 0) for field in ("dropout", "head_dropout", "block_dropout")) <= 0
    assert ("without warm-up" in found) == (base.schedule.warmup > 0 and base.schedule.name != "one_cycle")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_ablation_leaves_out_one_thing_at_a_time(name):
    base = load_recipe(name)
    arms = ablation_arms(base)
    assert arms[0].overrides == {}
    check_spec(dataclasses.replace(preset_spec("ablation", recipe=base), name="x"))
    for arm in arms[1:]:
        assert len(arm.overrides) == 1 or arm.label in ("SGD instead of Muon", "without dropout")


def test_a_preset_takes_another_recipe_as_long_as_it_is():
    spec = preset_spec("activations", recipe=load_recipe("fast90"), settings={"train.epochs": 2.0})
    assert (spec.name, spec.base.train.epochs, spec.base.data.image_size) == ("activations-fast90", 2.0, 32)
    assert spec.arms[0].overrides == {"model.speednet.activation": "relu"}


def test_a_preset_that_does_not_fit_a_recipe_says_so():
    with pytest.raises(UsageError, match="preset regularisers does not fit the recipe fast90: "):
        preset_spec("regularisers", recipe=load_recipe("fast90"))
    with pytest.raises(UsageError, match=r"unknown preset 'activation'; did you mean activations\?"):
        preset_spec("activation")
