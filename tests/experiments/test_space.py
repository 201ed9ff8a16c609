"""Search spaces: what is read, what is refused before the first trial, and what reaches a trial."""

import dataclasses
import random

import pytest
import yaml
from tests.experiments.workers import ONE_OF_EACH

from cifarlab.config import (
    AugmentConfig,
    Config,
    ConvnetConfig,
    MixconvConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)
from cifarlab.errors import ConfigError, UsageError
from cifarlab.experiments.default_spaces import BUILT_IN, choose_space
from cifarlab.experiments.fields import field_types, resolve_field, value_of, with_values
from cifarlab.experiments.space import Dimension, load_space, parse_space, space_from_dict, space_to_dict
from cifarlab.recipes import load_recipe

CONVNET = Config(model=ModelConfig(name="convnet"))


class Stand:
    """A trial that draws at random, and notes what it was asked for."""

    def __init__(self, seed):
        self.random, self.asked = random.Random(seed), {}

    def suggest_int(self, name, low, high, *, step, log):
        self.asked[name] = ("int", low, high, step, log)
        return self.random.randrange(low, high + 1, step)

    def suggest_float(self, name, low, high, *, step, log):
        self.asked[name] = ("float", low, high, step, log)
        return low if step else self.random.uniform(low, high)

    def suggest_categorical(self, name, choices):
        self.asked[name] = ("list", *choices)
        return self.random.choice(choices)


def one(text, config=CONVNET):
    (dimension,) = parse_space([text], config)
    return dimension


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "optimizer.lr=log:0.01:0.5",
            Dimension(field="optimizer.lr", kind="float", low=0.01, high=0.5, log=True),
        ),
        ("train.batch_size=64:512:64", Dimension(field="train.batch_size", kind="int", low=64, high=512, step=64)),
        ("train.batch_size=log:64:512", Dimension(field="train.batch_size", kind="int", low=64, high=512, log=True)),
        ("train.batch_size=128,250", Dimension(field="train.batch_size", kind="list", choices=(128, 250))),
        (
            "train.label_smoothing=0:0.2:0.05",
            Dimension(field="train.label_smoothing", kind="float", low=0.0, high=0.2, step=0.05),
        ),
        (
            "model.activation=relu,gelu",
            Dimension(field="model.convnet.activation", kind="list", choices=("relu", "gelu")),
        ),
        (
            "model.hidden=[],[256, 128]",
            Dimension(field="model.convnet.hidden", kind="list", choices=([], [256, 128])),
        ),
        ("model.init='a, b',c", Dimension(field="model.init", kind="list", choices=("a, b", "c"))),
        ("activation=relu,gelu", Dimension(field="model.convnet.activation", kind="list", choices=("relu", "gelu"))),
        ("optimizer.lr=1e-3,1,0.5", Dimension(field="optimizer.lr", kind="list", choices=(0.001, 1.0, 0.5))),
        ("augment.flip=none,random", Dimension(field="augment.flip", kind="list", choices=("none", "random"))),
        ("train.channels-last=true,false", Dimension(field="train.channels_last", kind="list", choices=(True, False))),
    ],
)
def test_a_dimension_is_typed_by_its_field_and_reads_back_from_its_text(text, expected):
    dimension = one(text)
    assert dimension == expected
    assert one(f"{dimension.field}={dimension.text}") == dimension
    assert [type(v) for v in dimension.corners] == [type(v) for v in expected.corners]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lrr=0.1,0.2", "unknown field 'optimizer.lrr'; did you mean optimizer.lr?"),
        ("lrr=0.1,0.2", "unknown field 'lrr'"),
        ("name=a,b", "name may be"),
        ("model.dropuot=0:0.5", "unknown field"),
        ("optimizer.lr", "write it like optimizer.lr=log:0.01:0.5"),
        ("optimizer.lr=", "write it like"),
        ("optimizer.lr=0.1", "at least two values"),
        ("optimizer.lr=0.1,0.10", "twice"),
        ("optimizer.lr=0.5:0.1", "the lower end comes first"),
        ("optimizer.lr=log:0:1", "above 0"),
        ("optimizer.lr=log:0.1:1:0.1", "a logarithmic range has none"),
        ("optimizer.lr=1:2:3:4", "a range is written"),
        ("optimizer.lr=a:b", "'a' is not a number"),
        ("optimizer.lr=nan:1", "not a number"),
        ("optimizer.lr=fast,slow", "must be of type float"),
        ("optimizer.lr=true,false", "must be of type float"),
        ("train.batch_size=1.5:3", "whole numbers"),
        ("train.batch_size=128,abc", "must be of type int"),
        ("train.batch_size=64:500:64", "steps of 64 end at 448, not 500"),
        ("train.label_smoothing=0:0.2:0.06", "end at 0.18"),
        ("model.activation=relu,glu", "must be one of"),
        ("model.activation=log:1:2", "is not a number, so it has no range"),
        ("model.dropout=0:1", "must lie in"),
        ("optimizer.lr=-1:1", "must be positive"),
        ("train.label_smoothing=0:1", "must lie in"),
        ("model.resnet.dropout=0:0.5", "has no effect with model.name convnet"),
        ("optimizer.bias_lr=log:1:10", "has no effect with optimizer.name sgd"),
        ("optimizer.beta2=0.9,0.99", "has no effect with optimizer.name sgd"),
        ("schedule.step_at=[0.3],[0.5]", "has no effect with schedule.name cosine"),
        ("schedule.decay=0.1:0.5", "has no effect with schedule.name cosine"),
        ("schedule.patience=1:5", "has no effect with schedule.name cosine"),
        ("train.freeze_whitening=0:1", "has no effect with model.name convnet"),
        ("evaluate.views_margin=0.1,0.5", "has no effect with evaluate.views none"),
        ("train.seed=0:10", "best seed is luck"),
        ("data.val_fraction=0.1,0.2", "validation images"),
        ("data.split_seed=0:10", "validation images"),
        ("recipe=a,b", "cannot be searched"),
    ],
)
def test_a_dimension_that_cannot_be_is_refused_in_one_line_that_names_it(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_space([text], CONVNET)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_two_valid_dimensions_that_do_not_go_together_are_refused():
    parse_space(["model.whiten_kernel=2,3"], Config())
    with pytest.raises(ConfigError, match=r"model\.speednet\.whiten_kernel=2 with model\.speednet\.whiten_channels=54"):
        parse_space(["model.whiten_kernel=2,3", "model.whiten_channels=24,54"], Config())


def test_a_dimension_is_judged_beside_the_others_and_not_beside_the_recipe():
    # 54 channels need whitening filters of 3 pixels; the recipe has 2, but the search never takes that
    space = parse_space(["model.whiten_kernel=3,4", "model.whiten_channels=24,54"], Config())
    assert len(space) == 2
    with pytest.raises(ConfigError, match="at most 24"):
        parse_space(["model.whiten_kernel=2,3", "model.whiten_channels=24,54"], Config())


def test_searching_the_family_makes_the_sections_of_the_others_count():
    space = parse_space(["model.name=convnet,resnet", "model.resnet.dropout=0:0.5"], CONVNET)
    assert [dimension.field for dimension in space] == ["model.name", "model.resnet.dropout"]


def test_searching_what_chooses_makes_the_fields_of_each_choice_count():
    space = parse_space(
        ["schedule.name=cosine,step", "schedule.decay=0.1:0.5", "optimizer.name=sgd,adamw", "optimizer.beta2=0.9,0.99"],
        CONVNET,
    )
    assert len(space) == 4


def test_every_value_drawn_makes_a_valid_config_and_lies_in_the_space():
    space = parse_space(
        [
            "optimizer.lr=log:0.01:0.5",
            "train.batch_size=64:512:64",
            "model.hidden=[],[64]",
            "train.label_smoothing=0:0.2:0.05",
        ],
        CONVNET,
    )
    for seed in range(20):
        trial = Stand(seed)
        values = {dimension.field: dimension.suggest(trial) for dimension in space}
        config = with_values(CONVNET, values)
        assert all(dimension.holds(values[dimension.field]) for dimension in space)
        assert config.train.batch_size == values["train.batch_size"]
        assert config.model.convnet.hidden == tuple(values["model.convnet.hidden"])
    assert trial.asked["optimizer.lr"] == ("float", 0.01, 0.5, None, True)
    assert trial.asked["train.batch_size"] == ("int", 64, 512, 64, False)
    assert trial.asked["model.convnet.hidden"] == ("list", "[]", "[64]")  # a storage keeps scalars only


def test_a_space_holds_only_what_it_can_take():
    steps = one("train.label_smoothing=0:0.2:0.05")
    assert steps.holds(0.15)
    assert not steps.holds(0.12)
    assert not steps.holds(0.25)
    flags = one("train.channels_last=true,false")
    assert flags.holds(True)
    assert not flags.holds(1)


def test_a_grid_lists_every_value_and_refuses_a_range_without_steps():
    assert one("train.label_smoothing=0:0.2:0.05").grid() == [0.0, 0.05, 0.1, 0.15, 0.2]
    assert one("augment.translate=0:3").grid() == [0, 1, 2, 3]
    assert one("model.hidden=[],[64]").grid() == ["[]", "[64]"]
    with pytest.raises(ConfigError, match=r"a grid needs optimizer\.lr as a list or in steps"):
        one("optimizer.lr=log:0.01:0.5").grid()


def test_a_file_says_the_same_as_the_command_line(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "optimizer.lr: {low: 0.01, high: 0.5, log: true}\n"
        "train.batch_size: [128, 250]\n"
        "model.dropout: 0:0.5\n"
        "train.label_smoothing: {low: 0, high: 0.2, step: 0.05}\n"
    )
    texts = [
        "optimizer.lr=log:0.01:0.5",
        "train.batch_size=128,250",
        "model.dropout=0:0.5",
        "train.label_smoothing=0:0.2:0.05",
    ]
    space = load_space(path, CONVNET)
    assert space == parse_space(texts, CONVNET)
    assert space_from_dict(yaml.safe_load(yaml.safe_dump(space_to_dict(space), sort_keys=False)), CONVNET) == space


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n", "must hold fields and values"),
        ("", "must hold fields and values"),
        ("a: [", "is not YAML"),
        ("optimizer.lr: {low: 1, hight: 2}\n", "not hight"),
        ("optimizer.lr: {low: 1}\n", "needs low and high"),
        ("optimizer.lr: 0.1\n", "at least two values"),
        ("optimizer.lr: {low: {a: 1}, high: 2}\n", "is not a number"),
        ("model.activation: [relu, {a: b}]\n", "must be one of"),
    ],
)
def test_a_file_that_is_no_space_is_refused_with_its_name(tmp_path, content, message):
    path = tmp_path / "space.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_space(path, CONVNET)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_misspelt_built_in_space_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the search space"):
        choose_space(CONVNET, str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="did you mean regularisers"):
        choose_space(CONVNET, "regularizers")


@pytest.mark.parametrize("recipe", ONE_OF_EACH)
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_space_is_valid_for_every_recipe(recipe, name):
    config = load_recipe(recipe)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, val_fraction=0.1))
    space = choose_space(config, name)
    assert len(space) >= 2
    if name in ("rates", "default"):  # the recipe itself is tried first, so it should be one of the trials
        assert [d.field for d in space if not d.holds(value_of(config, d.field))] == []


def test_a_built_in_space_leaves_out_what_does_not_go_with_the_recipe():
    mixed = ModelConfig(name="mixconv", mixconv=MixconvConfig(mix_after="norm"))  # which has no residual form
    fields = [dimension.field for dimension in choose_space(Config(model=mixed), "architecture")]
    assert "model.mixconv.branches" in fields
    assert "model.mixconv.residual" not in fields


def test_a_recipe_without_decay_is_one_of_the_values_of_its_space():
    plain = Config(model=ModelConfig(name="convnet"), optimizer=OptimizerConfig(weight_decay=0, momentum=0))
    space = {dimension.field: dimension for dimension in choose_space(plain, "rates")}
    assert space["optimizer.weight_decay"].choices == (0.0, 1e-5, 1e-4, 5e-3)
    assert space["optimizer.momentum"].low == 0


def test_the_command_line_replaces_a_dimension_of_a_named_space_and_adds_to_it():
    space = {
        d.field: d.text for d in choose_space(CONVNET, "default", ("optimizer.lr=0.1,0.2", "augment.translate=0:4"))
    }
    assert space["optimizer.lr"] == "0.1,0.2"
    assert space["optimizer.weight_decay"] == "log:1e-05:0.005"
    assert space["augment.translate"] == "0:4"
    assert space["model.convnet.dropout"] == "0:0.5"
    alone = choose_space(CONVNET, "", ("optimizer.lr=0.1,0.2",))
    assert [d.field for d in alone] == ["optimizer.lr"]


def test_every_field_has_a_name_that_sets_it():
    types = field_types()
    assert types["optimizer.lr"] is float
    assert "model.convnet.dropout" in types
    assert "model" not in types
    changed = with_values(CONVNET, {"optimizer.lr": 0.3, "model.convnet.hidden": [7], "augment.mixup": 1})
    assert changed.optimizer.lr == 0.3
    assert changed.model.convnet == dataclasses.replace(ConvnetConfig(), hidden=(7,))
    assert changed.augment == AugmentConfig(mixup=1.0)
    assert changed.train == TrainConfig()


def test_a_short_name_means_the_chosen_family():
    assert resolve_field("model.activation", CONVNET) == "model.convnet.activation"
    assert resolve_field("model.activation", Config()) == "model.speednet.activation"
    assert resolve_field("model.resnet.dropout", CONVNET) == "model.resnet.dropout"
    with pytest.raises(ConfigError, match=r"unknown field 'model\.kernel'"):
        resolve_field("model.kernel", CONVNET)
