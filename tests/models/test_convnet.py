"""Convnet: structure, sizes, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import ConvnetConfig
from cifarlab.errors import ConfigError
from cifarlab.models.convnet import build_convnet
from cifarlab.models.layers import ACTIVATIONS, MONOTONE, Dropout


def test_conv_pool_conv_is_what_it_says() -> None:
    config = ConvnetConfig(stages=((1, 8), (1, 12)), norm="none", pool_last=False, hidden=())
    net = build_convnet(config, 10, 32)
    kinds = [type(m) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d, nn.Linear))]
    assert kinds == [nn.Conv2d, nn.MaxPool2d, nn.Conv2d, nn.Linear]
    assert net.head[0].in_features == 12 * 16 * 16


def test_stack_of_three_convolutions_with_sigmoid_and_dropout() -> None:
    config = ConvnetConfig(stages=((3, 64), (3, 128), (3, 256)), activation="sigmoid", dropout=0.1)
    with torch.device("meta"):
        net = build_convnet(config, 10, 32)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [64] * 3 + [128] * 3 + [256] * 3
    block = [nn.Conv2d, nn.BatchNorm2d, nn.Sigmoid]
    last = [nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Sigmoid, Dropout]  # the larger sigmoid is that of the larger
    assert [type(m) for m in net.stages[0]] == [*block, *block, *last]
    dropouts = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
    assert dropouts == [0.1] * 4  # three stages, one hidden layer
    assert all(c.bias is None for c in convs)  # batch norm brings one


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_pooling_first_changes_no_value(activation: str) -> None:
    torch.manual_seed(0)
    net = build_convnet(ConvnetConfig(stages=((2, 8),), activation=activation), 10, 16)
    kinds = [type(m) for m in net.stages[0]][-3:-1]
    assert (kinds == [nn.MaxPool2d, ACTIVATIONS[activation]]) == (activation in MONOTONE)
    x = torch.randn(4, 3, 16, 16)
    conv1, norm1, act1, conv2, norm2 = net.stages[0][:5]
    as_described = F.max_pool2d(act1(norm2(conv2(act1(norm1(conv1(x)))))), 2)
    assert torch.equal(net.stages(x), as_described)


def test_stride_halves_in_the_last_convolution_of_a_stage() -> None:
    net = build_convnet(ConvnetConfig(stages=((2, 4), (3, 4)), pool="stride"), 10, 16)
    assert [m.stride[0] for m in net.modules() if isinstance(m, nn.Conv2d)] == [1, 2, 1, 1, 2]
    assert not any(isinstance(m, (nn.MaxPool2d, nn.AvgPool2d)) for m in net.modules())


def test_forward_is_the_textbook_computation() -> None:
    torch.manual_seed(0)
    config = ConvnetConfig(stages=((1, 4), (1, 6)), norm="none", activation="tanh", pool="average", hidden=(5,))
    net = build_convnet(config, 3, 8).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    state = net.state_dict()
    expected = x
    for stage in range(2):
        weight, bias = state[f"stages.{stage}.0.weight"], state[f"stages.{stage}.0.bias"]
        expected = F.avg_pool2d(torch.tanh(F.conv2d(expected, weight, bias, padding=1)), 2)
    expected = torch.tanh(expected.reshape(2, -1) @ state["head.0.weight"].T + state["head.0.bias"])
    expected = expected @ state["head.3.weight"].T + state["head.3.bias"]
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("pool", ["max", "average", "stride"])
@pytest.mark.parametrize("pool_last", [True, False])
def test_flattening_head_fits_every_size(pool: str, pool_last: bool) -> None:
    config = ConvnetConfig(stages=((1, 2), (2, 3), (1, 2)), pool=pool, pool_last=pool_last, hidden=())
    smallest = 8 if pool_last else 4
    for size in range(smallest, 40):
        assert build_convnet(config, 4, size)(torch.randn(2, 3, size, size)).shape == (2, 4)
    with pytest.raises(ConfigError, match=rf"{smallest - 1} pixels are too few"):
        build_convnet(config, 4, smallest - 1)


def test_larger_kernels_keep_the_size() -> None:
    config = ConvnetConfig(stages=((2, 4),), kernel_size=5, hidden=())
    assert build_convnet(config, 2, 12).head[0].in_features == 4 * 6 * 6


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_is_used_everywhere(activation: str) -> None:
    net = build_convnet(ConvnetConfig(stages=((2, 4), (1, 4)), activation=activation, hidden=(4, 4)), 2, 8)
    assert sum(type(m) is ACTIVATIONS[activation] for m in net.modules()) == 5


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    net = build_convnet(ConvnetConfig(stages=((1, 8),), norm="none", dropout=0.5), 10, 8)
    x = torch.randn(2, 3, 8, 8)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_average_head_sees_no_positions() -> None:
    net = build_convnet(ConvnetConfig(stages=((1, 6),), head="average", hidden=()), 4, 16)
    assert net.head[0].in_features == 6


def test_deep_sigmoid_stack_with_batch_norm_learns() -> None:
    torch.manual_seed(0)
    net = build_convnet(ConvnetConfig(stages=((3, 8), (3, 16), (3, 32)), activation="sigmoid", dropout=0.1), 2, 16)
    images, labels = torch.randn(64, 3, 16, 16), torch.arange(64) % 2
    images[:, :, ::2] += 2 * labels.view(-1, 1, 1, 1)  # one class has stripes
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    first_conv = next(net.parameters())
    for step in range(40):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            last_conv = next(m for m in reversed(list(net.modules())) if isinstance(m, nn.Conv2d)).weight
            assert first_conv.grad.norm() > 1e-3 * last_conv.grad.norm()  # nine sigmoids do not kill the gradient
        optimizer.step()
    net.eval()
    with torch.no_grad():
        assert (net(images).argmax(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("pool", ["max", "average", "stride"])
@pytest.mark.parametrize(("kernel_size", "padding"), [(3, 0), (3, 2), (5, 1), (5, 0), (1, 0)])
def test_flattening_head_fits_every_padding(pool: str, kernel_size: int, padding: int) -> None:
    config = ConvnetConfig(stages=((1, 2), (2, 3)), kernel_size=kernel_size, padding=padding, pool=pool, hidden=())
    fitting = 0
    for size in range(4, 40):
        try:
            net = build_convnet(config, 4, size)
        except ConfigError:
            assert fitting == 0  # once an image is large enough, every larger one is
            continue
        fitting += 1
        assert net(torch.randn(2, 3, size, size)).shape == (2, 4)
    assert fitting > 10


def test_an_image_that_the_convolutions_use_up_is_refused() -> None:
    config = ConvnetConfig(stages=((2, 4), (2, 4)), padding=0, pool_last=False, hidden=())
    build_convnet(config, 2, 14)  # 14 - 4, halved, 5 - 4
    with pytest.raises(ConfigError, match=r"padding 0 nothing is left of images of 13 pixels"):
        build_convnet(config, 2, 13)


def test_pooling_after_chosen_stages_lets_widths_grow_between_two_poolings() -> None:
    config = ConvnetConfig(stages=((1, 4), (1, 6), (2, 8)), pool_after=(2, 3), pool_last=False, hidden=())
    net = build_convnet(config, 10, 32)
    kinds = [type(m) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.MaxPool2d))]
    assert kinds == [nn.Conv2d, nn.Conv2d, nn.MaxPool2d, nn.Conv2d, nn.Conv2d, nn.MaxPool2d]
    assert net.head[0].in_features == 8 * 8 * 8


def test_hidden_layers_can_drop_out_on_their_own() -> None:
    net = build_convnet(ConvnetConfig(stages=((1, 4),), dropout=0.1, head_dropout=0.5, hidden=(6, 5)), 10, 8)
    assert [m.p for m in net.stages.modules() if isinstance(m, nn.Dropout)] == [0.1]
    assert [m.p for m in net.head if isinstance(m, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"padding": 3}, "padding must be -1, or below kernel_size"),
        ({"pool_after": (4,)}, "pool_after names no stage"),
        ({"pool_after": (0,)}, "pool_after names no stage"),
        ({"head_dropout": -0.5}, "head_dropout must be -1 or lie in"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ConvnetConfig(**setting)
