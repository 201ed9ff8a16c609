"""Gains, norms and the size check."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cifarlab.errors import ConfigError
from cifarlab.models.layers import ACTIVATIONS, activation_gain, build_head, init_weights, make_norm, require_size


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
    assert [type(m) for m in head] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [m.weight.shape for m in head if isinstance(m, nn.Linear)] == [(5, 6), (4, 5), (3, 4)]


def test_size_check_says_what_to_do() -> None:
    require_size("convnet", 16, 4)
    with pytest.raises(ConfigError, match=r"model.convnet halves the image 4 times.*15 pixels.*at least 16"):
        require_size("convnet", 15, 4)
