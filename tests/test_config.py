import dataclasses
import re

import pytest
import yaml

from cifarlab.config import Config, ConvnetConfig, DataConfig, ModelConfig, TrainConfig, ignored_sections
from cifarlab.config_yaml import config_from_dict, config_to_dict, config_to_yaml, load_config
from cifarlab.errors import ConfigError
from cifarlab.recipes import RECIPES, load_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_yaml_gives_the_same_config_back(name):
    config = load_recipe(name)
    assert config_from_dict(yaml.safe_load(config_to_yaml(config))) == config


def test_yaml_is_complete():
    def leaves(section):
        return sum(leaves(v) if isinstance(v, dict) else 1 for v in section.values())

    def count(kind):
        return sum(
            count(field.default_factory) if dataclasses.is_dataclass(field.default_factory) else 1
            for field in dataclasses.fields(kind)
        )

    assert leaves(config_to_dict(Config())) == count(Config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trian": {}}, "unknown field trian; did you mean train?"),
        ({"train": {"epoch": 3}}, "unknown field train.epoch; did you mean epochs?"),
        ({"train": {"epochs": "many"}}, "train.epochs must be of type float"),
        ({"train": {"epochs": True}}, "train.epochs must be of type float"),
        ({"train": {"seed": 1.5}}, "train.seed must be of type int"),
        ({"train": {"compile": 1}}, "train.compile must be of type bool"),
        ({"model": {"name": "vgg"}}, "model.name must be one of speednet"),
        ({"model": {"speednet": {"widths": [8, 8]}}}, "model.speednet.widths must have 3 values"),
        ({"model": {"convnet": {"stages": [[1, 2, 3]]}}}, "model.convnet.stages must have 2 values"),
        ({"train": 3}, "train must hold fields and values"),
        ({"model": {"convnet": {"hidden": [8, 0]}}}, "model.convnet.hidden must be positive numbers, not (8, 0)"),
        ({"model": {"convnet": {"kernel_size": -1}}}, "model.convnet.kernel_size must be odd and positive, not -1"),
        ({"model": {"mixconv": {"widths": [8, -2]}}}, "model.mixconv.widths and hidden must be positive numbers"),
        ({"model": {"mixconv": {"hidden": [0]}}}, "model.mixconv.widths and hidden must be positive"),
        ({"model": {"mixconv": {"kernel_size": -3}}}, "model.mixconv.kernel_size must be odd and positive"),
        ({"optimizer": {"head_lr": -1}}, "optimizer.head_lr and optimizer.bias_lr must not be negative"),
        ({"optimizer": {"bias_lr": float("nan")}}, "optimizer.head_lr and optimizer.bias_lr must not be negative"),
        ({"train": {"epochs": float("inf")}}, "train.epochs must be positive and finite"),
        ({"train": {"checkpoint_epochs": -1}}, "train.checkpoint_epochs must not be negative"),
        ({"train": {"low_resolution": [[50, 16]]}}, "train.low_resolution takes shares of the run in rising order"),
        ({"train": {"low_resolution": [[0.5, 16], [0.2, 24]]}}, "in rising order, in (0, 1], not [0.5, 0.2]"),
        ({"data": {"val_fraction": 1.5}}, "data.val_fraction must lie in"),
    ],
)
def test_a_wrong_field_is_named(values, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        config_from_dict(values)


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "x.yaml"
    with pytest.raises(ConfigError, match=r"cannot read.*x\.yaml"):
        load_config(path)
    path.write_text("train: {epochs: [")
    with pytest.raises(ConfigError, match=r"x\.yaml: not YAML"):
        load_config(path)
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="must hold fields"):
        load_config(path)
    path.write_text("")
    assert load_config(path) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epochs: 5}\ntrain: {seed: 1}\n", "the field train stands twice"),
        ("train:\n  epochs: 5\n  epochs: 6\n", "the field epochs stands twice"),
        ("recipe: 2024-13-45", "not YAML"),
        (f"train: {{seed: {'9' * 5000}}}", "not YAML"),
        ("[" * 3000, "not YAML"),
        ("recipe: !!bool x", "not YAML"),
        (f"optimizer: {{lr: {'9' * 400}}}", "optimizer.lr must be of type float"),
        ("optimizer: {lr: fast}", "optimizer.lr must be of type float"),
        ("optimizer: {lr: 1e999}", "optimizer.lr must be of type float"),
    ],
    ids=lambda text: text[:20],
)
def test_what_yaml_would_take_or_trip_over_is_refused(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"x\.yaml.*{message}"):
        load_config(path)


def test_a_rate_may_be_written_as_people_do(tmp_path):
    """To YAML 1.1 a number needs a dot before its exponent."""
    path = tmp_path / "x.yaml"
    path.write_text("optimizer: {lr: 1e-3, weight_decay: 5E-4}\nmodel: &same {name: resnet}\ndata: {folder: 1e5/}\n")
    config = load_config(path)
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.data.folder) == (0.001, 0.0005, "1e5/")


def test_merged_fields_may_be_changed(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("train: {<<: {epochs: 5, seed: 1}, seed: 2}\n")
    assert load_config(path).train == TrainConfig(epochs=5, seed=2)


@pytest.mark.parametrize("fields", [{"keep": "best"}, {"early_stopping": 3}], ids=["keep", "early_stopping"])
def test_what_needs_validation_says_so(fields):
    with pytest.raises(ConfigError, match="needs a validation split"):
        Config(data=DataConfig(val_fraction=0), train=TrainConfig(**fields))


def test_settings_of_another_model_are_reported():
    model = ModelConfig(name="resnet", convnet=ConvnetConfig(activation="tanh"))
    assert ignored_sections(Config(model=model), Config()) == ["model.convnet"]
    assert ignored_sections(Config(model=model), Config(model=model)) == []
