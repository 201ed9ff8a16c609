"""The published systems: their networks to the last parameter, their optimiser, and which recipes belong together."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from cifarlab.config_yaml import changed_fields
from cifarlab.models import build_model
from cifarlab.models.compute import training_pflop
from cifarlab.recipes import load_recipe
from cifarlab.recipes_predecessors import PREDECESSORS
from cifarlab.training.optim import build_optimizers


def build(name):
    with torch.device("meta"):
        return build_model(load_recipe(name).model, 10, 32)


def conv(width_in, width_out, kernel, *, bias=True):
    return width_out * (width_in * kernel**2 + bias)


def linear(*widths):
    return sum(b * (a + 1) for a, b in pairwise(widths))


# counted from the published layers; a bias before batch norm, which takes it out again, is left out here
PUBLISHED_PARAMETERS = {
    "predecessor_lenet": conv(3, 20, 5) + conv(20, 50, 5) + linear(1800, 512, 256, 128, 10),
    "predecessor_parallel5": sum(
        5 * (conv(width, 512, 3, bias=False) + 2 * 512) + linear(width, 5) for width in (3, 512, 512, 512, 512)
    )
    + linear(512, 512, 512, 512, 10),
    "predecessor_sixconv": sum(
        conv(a, b, 3, bias=False) + 2 * b for a, b in ((3, 32), (32, 64), (64, 128), (128, 256), (256, 256), (256, 512))
    )
    + linear(512 * 4 * 4, 512, 256, 128, 10),
    "predecessor_parallel3": sum(
        3 * (conv(a, b, 3, bias=False) + 2 * b) + linear(a, 3) for a, b in ((3, 64), (64, 128), (128, 256))
    )
    + linear(256, 10),
    "predecessor_threeconv": conv(3, 32, 3) + conv(32, 64, 3) + conv(64, 128, 3) + linear(4608, 1024, 256, 10),
}


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_network_has_the_published_parameters(name):
    assert sum(parameter.numel() for parameter in build(name).parameters()) == PUBLISHED_PARAMETERS[name]


@pytest.mark.parametrize("name", [name for name in PREDECESSORS if name.endswith("_today")])
def test_todays_training_is_of_the_same_network(name):
    described = f"predecessor_{name.removesuffix('_today')}"
    short = f"{described}_short"
    described = short if short in PREDECESSORS else described
    today, then = build(name), build(described)
    assert {key: value.shape for key, value in today.state_dict().items()} == {
        key: value.shape for key, value in then.state_dict().items()
    }
    # for half as long at most: what it gains is not bought with compute
    pflop = [
        training_pflop(model, load_recipe(one).train, 32, int(45_000 * load_recipe(one).train.epochs))
        for model, one in ((today, name), (then, described))
    ]
    assert pflop[0] <= pflop[1] / 2 * 1.001
    assert load_recipe(name).data == load_recipe(described).data


@pytest.mark.parametrize("name", [name for name in PREDECESSORS if name.endswith("_short")])
def test_short_recipes_differ_from_the_full_ones_in_length_and_what_their_docstring_says(name):
    differences = set(changed_fields(load_recipe(name), load_recipe(name.removesuffix("_short"))))
    assert "train.epochs" in differences
    allowed = {"train.epochs", "schedule.name", "schedule.step_at", "model.mixconv.widths", "model.mixconv.hidden"}
    assert differences <= allowed


def test_the_factor_by_which_parallel5_is_shortened_is_the_one_it_tells():
    names = ("predecessor_parallel5", "predecessor_parallel5_short")
    full, short = (
        training_pflop(build(name), load_recipe(name).train, 32, int(45_000 * load_recipe(name).train.epochs))
        for name in names
    )
    assert f"a {full / short:.0f}th of its compute" in PREDECESSORS[names[1]].__doc__
    assert f"{full:.0f} PFLOP" in PREDECESSORS[names[0]].__doc__


def test_adamw_without_momentum_is_rmsprop_but_for_the_correction_of_its_first_steps():
    config = load_recipe("predecessor_parallel3").optimizer
    weights = [torch.nn.Parameter(torch.zeros(7)) for _ in range(2)]
    model = torch.nn.Module()
    model.weight = weights[0]
    ours = build_optimizers(model, config)[0]
    published = torch.optim.RMSprop([weights[1]], lr=1e-3, alpha=0.99, eps=1e-8)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 400):
        before = [weight.detach().clone() for weight in weights]
        gradient = torch.randn(7, generator=generator)
        for weight, optimizer in zip(weights, (ours, published), strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
        moved = [weight.detach() - old for weight, old in zip(weights, before, strict=True)]
        torch.testing.assert_close(moved[0], moved[1] * (1 - 0.99**step) ** 0.5, rtol=1e-3, atol=1e-8)
    assert (1 - 0.99**step) ** 0.5 > 0.99  # one epoch has 352 steps
