"""Presets: valid, about what they say they are about, and fair where they claim to be."""

import dataclasses
import shlex

import pytest
from tests.experiments.workers import ONE_OF_EACH

from cifarlab.cli_arguments import TrainArguments
from cifarlab.cli_tools import parse
from cifarlab.commands.doctor import training_work
from cifarlab.config import Config
from cifarlab.config_yaml import config_to_dict
from cifarlab.errors import UsageError
from cifarlab.experiments.ablation import ablation_arms
from cifarlab.experiments.arms import check_spec
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.page import flag
from cifarlab.experiments.presets import PRESETS, preset_spec
from cifarlab.experiments.study import trial_config
from cifarlab.recipes import load_recipe


def configs(spec):
    return {arm.label: trial_config(spec, arm, 0) for arm in spec.arms}


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
    epochs = {config.train.epochs for label, config in found.items() if label.endswith("3 epochs")}
    assert epochs == {3.0}
    reference = pflop(found["deeper convnet, 3 epochs"])
    equal = {label: pflop(config) for label, config in found.items() if label.endswith("equal compute")}
    assert len(equal) == 4
    assert list(equal.values()) == pytest.approx([reference] * 4, rel=1e-3)
    families = [config.model.name for label, config in found.items() if label.endswith("3 epochs")]
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


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_ablation_leaves_out_one_thing_at_a_time(name):
    base = load_recipe(name)
    arms = ablation_arms(base)
    assert arms[0].overrides == {}
    check_spec(dataclasses.replace(preset_spec("ablation", recipe=base), name="x"))
    for arm in arms[1:]:
        assert len(arm.overrides) == 1 or arm.label == "SGD instead of Muon"


def test_the_ablation_of_fast90_covers_its_ingredients():
    labels = [arm.label for arm in preset_spec("ablation").arms]
    assert labels == [
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
    ]


def test_a_preset_takes_another_recipe_as_long_as_it_is():
    spec = preset_spec("activations", recipe=load_recipe("fast90"), settings={"train.epochs": 2.0})
    assert (spec.name, spec.base.train.epochs, spec.base.data.image_size) == ("activations-fast90", 2.0, 32)
    assert spec.arms[0].overrides == {"model.speednet.activation": "relu"}


def test_a_preset_that_does_not_fit_a_recipe_says_so():
    with pytest.raises(UsageError, match="preset regularisers does not fit the recipe fast90: "):
        preset_spec("regularisers", recipe=load_recipe("fast90"))
    with pytest.raises(UsageError, match=r"unknown preset 'activation'; did you mean activations\?"):
        preset_spec("activation")
