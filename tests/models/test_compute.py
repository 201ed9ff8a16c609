"""Counting operations: against numbers worked out by hand and published ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cifarlab.config import ConvnetConfig, MixconvConfig, ModelConfig, ResnetConfig, SpeednetConfig, TrainConfig
from cifarlab.models import build_model
from cifarlab.models.compute import training_flops_per_image, training_pflop
from cifarlab.models.speednet import build_speednet

# multiply-adds of one forward pass for 8 x 8 images
FIRST = 8 * 8 * 4 * (3 * 9)
SECOND = 4 * 4 * 5 * (4 * 9)
HEAD = (5 * 4 * 4) * 2


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(5 * 4 * 4, 2),
    )


def test_forward_and_both_gradients_but_none_to_the_image() -> None:
    multiply_adds = 3 * (FIRST + SECOND + HEAD) - FIRST
    assert training_flops_per_image(small_network(), 8) == 2 * multiply_adds


def test_frozen_layers_cost_their_forward_pass_only() -> None:
    network = small_network()
    network[0].requires_grad_(False)
    assert training_flops_per_image(network, 8) == 2 * (FIRST + 2 * SECOND + 3 * HEAD)
    network[0].bias.requires_grad_(True)  # a bias needs the gradient to its output, and no products of its own
    assert training_flops_per_image(network, 8) == 2 * (FIRST + 3 * SECOND + 3 * HEAD)


MODELS = [
    ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 16, 16))),
    ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((2, 8), (1, 12)), hidden=(9,), norm="group")),
    ModelConfig(name="mixconv", mixconv=MixconvConfig(widths=(8, 12), branches=3)),
    ModelConfig(name="mixconv", mixconv=MixconvConfig(widths=(8, 12), branches=3, mix_after="norm")),
    ModelConfig(name="resnet", resnet=ResnetConfig(variant="resnet20")),
    ModelConfig(name="resnet", resnet=ResnetConfig(variant="wrn28", width_factor=1)),
]


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.name)
@pytest.mark.parametrize("frozen", [0, 1, 5])
def test_count_is_that_of_torchs_own_counter_over_forward_and_backward(config: ModelConfig, frozen: int) -> None:
    network = build_model(config, 10, 32).network
    for parameter in list(network.parameters())[:frozen]:
        parameter.requires_grad_(False)
    network.train()
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert training_flops_per_image(network, 32) == counter.get_total_flops() / 2


def test_counting_needs_no_gradients_switched_on() -> None:
    with torch.no_grad():
        counted = training_flops_per_image(small_network(), 8)
    assert counted == training_flops_per_image(small_network(), 8)


def test_speednet_at_airbench_settings_takes_its_published_compute() -> None:
    network = build_speednet(SpeednetConfig(), 10, 32)
    whiten = 31 * 31 * 24 * 12
    convs = 9 * (31**2 * 24 * 64 + 15**2 * (64 * 64 + 64 * 256) + 7**2 * 2 * 256 * 256 + 3**2 * 256 * 256)
    head = 256 * 10
    assert whiten + convs + head == 118_147_360  # 118.1 million
    flops = training_flops_per_image(network, 32)
    assert flops == 2 * (whiten + 3 * convs + 3 * head)
    assert flops * 50_000 * 8 / 1e15 == pytest.approx(0.29, abs=0.01)
    network.whiten.bias.requires_grad_(False)
    saved = 2 * 31**2 * 9 * 24 * 64  # the first trainable convolution passes no gradient on
    assert training_flops_per_image(network, 32) == flops - saved


def test_count_is_the_networks_at_the_size_asked_for_and_leaves_the_model_alone() -> None:
    model = build_model(ModelConfig(speednet=SpeednetConfig(widths=(8, 8, 8))), 10, 32).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert training_flops_per_image(model, 24) == training_flops_per_image(model.network, 24)
    assert training_flops_per_image(model, 24) < training_flops_per_image(model, 32)
    assert not model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_mixing_branches_multiplies_the_work_by_their_number() -> None:
    def flops(branches: int) -> int:
        config = ModelConfig(name="mixconv", mixconv=MixconvConfig(widths=(32, 32), branches=branches))
        return training_flops_per_image(build_model(config, 10, 32), 32)

    assert flops(8) / flops(2) == pytest.approx(4, rel=0.01)


def test_each_resolution_of_a_run_counts_for_its_share() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    flops_at_8 = 2 * 2 * FIRST  # forward and the gradient of the filters
    train = TrainConfig(low_resolution=((0.25, 16), (0.75, 24)))
    expected = flops_at_8 * (0.25 * 4 + 0.5 * 9 + 0.25 * 16) * 1000 / 1e15  # pixels of 16, 24 and 32 against 8
    assert training_pflop(network, train, 32, 1000) == pytest.approx(expected)
    assert training_pflop(network, TrainConfig(), 8, 1000) == pytest.approx(flops_at_8 * 1000 / 1e15)
