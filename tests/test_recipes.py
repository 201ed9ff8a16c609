"""Every recipe trains: two real steps on images of CIFAR's size."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cifarlab.cli import COMMANDS, main
from cifarlab.commands.train import train
from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields
from cifarlab.data import ImageSet, SourceData
from cifarlab.data.loader import make_plan
from cifarlab.data.splits import make_splits
from cifarlab.errors import UsageError
from cifarlab.recipes import RECIPES, load_recipe
from tests.conftest import with_fields

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def cifar_like():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (120, 3, 32, 32), generator=generator).to(torch.uint8)
    labels = torch.arange(120) % 10
    return SourceData(ImageSet(images, labels, tuple("abcdefghij")), None, None, "noise")


@pytest.mark.usefixtures("without_curves")
@pytest.mark.parametrize("name", RECIPES)
def test_two_steps_of_every_recipe(name, cifar_like):
    config = load_recipe(name)
    assert config.recipe == name
    # wide layers take ten seconds; narrow ones show as well that the parts of a recipe fit
    mixconv, resnet = config.model.mixconv, config.model.resnet
    mixconv = replace(mixconv, widths=tuple(min(width, 64) for width in mixconv.widths))
    resnet = replace(resnet, width_factor=min(resnet.width_factor, 2))
    config = with_fields(config, model__mixconv=mixconv, model__resnet=resnet)
    config = with_fields(config, train__batch_size=4, data__val_fraction=0.1)
    # compiling takes seconds to minutes; tests/models/test_fused.py and a slow test of the loop do
    config = with_fields(config, train__compile=False)
    splits = make_splits(cifar_like, config.data)
    config = with_fields(config, train__epochs=2 / make_plan(config, len(splits.train)).steps_per_epoch)
    run = train(config, splits=splits)
    result = run.read_json("result.json")
    assert result["steps"] == 2
    assert math.isfinite(result["val/loss"])
    assert run.finished


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_what_it_is_and_its_command(name):
    text = RECIPES[name].__doc__
    assert f"Command: cifarlab train {name}" in text


@pytest.mark.parametrize("name", RECIPES)
def test_figures_in_docstrings_are_those_of_the_committed_results(name):
    results = [json.loads(file.read_text()) for file in (ROOT / "docs" / "results").glob(f"{name}_*.json")]
    # of the recipe as it is today, in full
    results = [
        result
        for result in results
        if result.get("kind") == "recipe"
        and result["config"] == changed_fields(load_recipe(name), Config())
        and not any(run.get("cut") for run in result["runs"])
    ]
    text = RECIPES[name].__doc__
    if not results:
        assert "Not measured yet" in text
    for result in results:
        figures = result["summary"].get("accuracy_tta", result["summary"]["accuracy"])
        assert f"{100 * figures['mean']:.2f} % (n = {len(result['runs'])}" in text
        if result.get("clocks", True):
            clock = result["summary"]["train_clock_seconds"]["mean"]
            assert f"train clock {clock:.{0 if clock >= 10 else 1}f} s" in text
        assert result["environment"]["time"][:10] in text


def test_unknown_recipe_is_a_usage_error():
    with pytest.raises(UsageError, match="unknown recipe 'resnet19'; did you mean resnet18"):
        load_recipe("resnet19")


def test_readme_names_only_commands_that_exist():
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^cifarlab ([a-z]+)", "".join(blocks), flags=re.MULTILINE)
    assert set(commands) == set(COMMANDS) - {"quickstart"}


def test_readme_train_lines_parse(monkeypatch, capsys):
    # --help after the flags makes the parser read and check all of them, then stop before any work
    text = (ROOT / "README.md").read_text()
    for line in re.findall(r"^cifarlab train ([^#\n]*?)\s+#", text, flags=re.MULTILINE):
        assert main(["train", *line.split(), "--help"]) == 0, line
    capsys.readouterr()


def test_readme_files_exist():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
