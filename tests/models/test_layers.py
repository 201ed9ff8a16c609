"""Gains, norms and the size check."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cifarlab.errors import ConfigError
from cifarlab.models.layers import (
    ACTIVATIONS,
    MONOTONE,
    Dropout,
    activation_gain,
    build_head,
    init_weights,
    make_norm,
    require_size,
)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu", "elu"])
def test_gain_undoes_what_the_activation_does_to_the_second_moment(activation: str) -> None:
    points, weights = np.polynomial.hermite_e.hermegauss(200)
    values = ACTIVATIONS[activation]()(torch.from_numpy(points)).numpy()
    second_moment = (weights * values**2).sum() / weights.sum()
    assert activation_gain(activation) == pytest.approx(second_moment**-0.5, rel=1e-3)


def test_sigmoid_gain_is_one_over_its_slope_at_zero() -> None:
    x = torch.zeros((), requires_grad=True)
    torch.sigmoid(x).backward()
    assert x.grad is not None
    assert activation_gain("sigmoid") == 1 / x.grad.item()


def test_every_activation_has_a_gain() -> None:
    assert all(activation_gain(name) >= 1 for name in ACTIVATIONS)


@pytest.mark.parametrize(
    ("activation", "variance"),
    [("relu", 2 / 72), ("linear", 1 / 72), ("tanh", 2 * (5 / 3) ** 2 / (72 + 1152)), ("sigmoid", 2 * 16 / (72 + 1152))],
)
def test_initial_variance_follows_he_and_glorot(activation: str, variance: float) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 128, 3)  # fan-in 8 x 9 = 72, fan-out 128 x 9 = 1152
    init_weights(conv, activation)
    assert conv.weight.var().item() == pytest.approx(variance, rel=0.05)  # 9,216 draws: standard error 1.5 %
    assert conv.bias is not None
    assert not conv.bias.any()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu", "elu", "tanh"])
def test_signal_keeps_its_scale_through_nine_layers(activation: str) -> None:
    # as deep as three stages of three. silu and gelu drift, as their fixed point is unstable: the scale stays within a
    # factor of three, where torch's default weights shrink it more than ten-thousandfold
    torch.manual_seed(0)
    x = torch.randn(64, 256)
    for _ in range(9):
        linear = nn.Linear(256, 256)
        init_weights(linear, activation)
        x = ACTIVATIONS[activation]()(linear(x))
    assert 1 / 3 < x.square().mean().sqrt() < 3


@pytest.mark.parametrize(("width", "groups"), [(128, 32), (64, 16), (12, 3), (7, 1), (4, 1), (1, 1)])
def test_group_norm_takes_up_to_32_groups_of_at_least_four_channels(width: int, groups: int) -> None:
    norm = make_norm("group", width)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


def test_norms_standardise_over_their_own_axes() -> None:
    x = torch.randn(6, 8, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2
    batch, group, layer, none = (make_norm(name, 8)(x) for name in ("batch", "group", "layer", "none"))
    torch.testing.assert_close(batch.mean((0, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(group.unflatten(1, (2, 4)).mean((2, 3, 4)), torch.zeros(6, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.mean((1, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.var((1, 2, 3), correction=0), torch.ones(6), atol=1e-4, rtol=0)
    assert torch.equal(none, x)


def test_head_has_dropout_after_each_hidden_layer_only() -> None:
    head = build_head(6, (5, 4), 3, "relu", 0.5)
    assert [type(m) for m in head] == [nn.Linear, nn.ReLU, Dropout, nn.Linear, nn.ReLU, Dropout, nn.Linear]
    assert [m.weight.shape for m in head if isinstance(m, nn.Linear)] == [(5, 6), (4, 5), (3, 4)]


def test_monotone_activations_are_those_that_never_fall() -> None:
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    assert {name for name, build in ACTIVATIONS.items() if build()(x).diff().min() >= 0} == set(MONOTONE)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_dropout_drops_each_value_by_itself_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(64, 32, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    y = Dropout(p)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    kept = (y.detach() != 0).double()
    torch.testing.assert_close(y.detach(), (kept / (1 - p)).float(), rtol=1e-4, atol=0)
    five_sigma = 5 * (p * (1 - p) / kept.numel()) ** 0.5
    assert abs(kept.mean() - (1 - p)) < five_sigma
    in_memory = kept.permute(0, 2, 3, 1).reshape(-1, 4)  # four values share a draw
    assert (in_memory.mean(0) - (1 - p)).abs().max() < 2 * five_sigma
    together = torch.corrcoef(torch.cat([in_memory[:-1], in_memory[1:]], 1).T) - torch.eye(8, dtype=torch.float64)
    assert together.abs().max() < 5 / len(in_memory) ** 0.5
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_dropout_follows_the_seed_and_rests_in_eval_mode() -> None:
    x = torch.randn(8, 4, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    dropout = Dropout(0.5)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(dropout(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert results[0].dtype == torch.bfloat16
    assert torch.equal(dropout.eval()(x), x)


def test_dropout_of_nothing_of_everything_and_of_odd_sizes() -> None:
    torch.manual_seed(0)
    x = torch.ones(3, 5, 7)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
    assert set(Dropout(0.5)(x).unique().tolist()) == {0.0, 2.0}
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)


def test_size_check_says_what_to_do() -> None:
    require_size("convnet", 16, 4)
    with pytest.raises(ConfigError, match=r"model.convnet halves the image 4 times.*15 pixels.*at least 16"):
        require_size("convnet", 15, 4)
