"""Mixconv: one convolution equals the sum of many, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import MixconvConfig
from cifarlab.errors import ConfigError
from cifarlab.models.mixconv import MixBlock, MixedConv2d, build_mixconv


def naive_mix(conv: MixedConv2d, x: torch.Tensor) -> torch.Tensor:
    """The definition: image by image, branch by branch."""
    outputs = []
    for image in x:
        scores = conv.attention.weight @ image.mean((1, 2)) + conv.attention.bias
        if conv.mixing == "softmax":
            weights = scores.exp() / scores.exp().sum()
        else:
            weights = 1 / (1 + (-scores).exp()) if conv.mixing == "sigmoid" else scores
        branches = [
            F.conv2d(image[None], filters, bias, stride=conv.conv.stride, padding=conv.conv.padding)
            for filters, bias in zip(conv.conv.weight.split(x.shape[1], dim=1), conv.bias, strict=True)
        ]
        assert len(branches) == len(weights)
        outputs.append(sum(weight * branch for weight, branch in zip(weights, branches, strict=True)))
    return torch.cat(outputs)


def make_conv(mixing: str, stride: int = 1, kernel_size: int = 3, branches: int = 4) -> MixedConv2d:
    torch.manual_seed(0)
    config = MixconvConfig(branches=branches, mixing=mixing, kernel_size=kernel_size)
    conv = MixedConv2d(3, 5, config, stride).double()
    nn.init.normal_(conv.bias)
    nn.init.normal_(conv.attention.bias)
    return conv


@pytest.mark.parametrize("mixing", ["softmax", "sigmoid", "raw"])
@pytest.mark.parametrize(("stride", "kernel_size"), [(1, 3), (2, 3), (1, 1), (2, 5)])
def test_equals_the_naive_sum_in_values_and_gradients(mixing: str, stride: int, kernel_size: int) -> None:
    conv = make_conv(mixing, stride, kernel_size)
    x = torch.randn(6, 3, 9, 9, dtype=torch.float64, requires_grad=True)
    wanted = [x, *conv.parameters()]
    fast, naive = conv(x), naive_mix(conv, x)
    torch.testing.assert_close(fast, naive, atol=1e-12, rtol=1e-10)
    upstream = torch.randn_like(fast)
    fast_gradients = torch.autograd.grad(fast, wanted, upstream)
    naive_gradients = torch.autograd.grad(naive, wanted, upstream)
    for fast_gradient, naive_gradient in zip(fast_gradients, naive_gradients, strict=True):
        assert naive_gradient.abs().max() > 0
        torch.testing.assert_close(fast_gradient, naive_gradient, atol=1e-11, rtol=1e-9)


def test_mixing_weights_depend_on_the_channel_means_alone() -> None:
    conv = make_conv("softmax")
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    weights = conv.mixing_weights(x)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, dtype=torch.float64))
    assert not torch.allclose(weights[0], weights[1])
    torch.testing.assert_close(conv.mixing_weights(x.flip(2, 3)), weights)
    torch.testing.assert_close(conv.mixing_weights(x.mean((2, 3), keepdim=True)), weights)


def test_sigmoid_weights_are_independent_and_raw_ones_unbounded() -> None:
    x = 50 * torch.randn(8, 3, 4, 4, dtype=torch.float64)
    sigmoid, raw = make_conv("sigmoid").mixing_weights(x), make_conv("raw").mixing_weights(x)
    assert 0 <= sigmoid.min() <= sigmoid.max() <= 1
    assert sigmoid.sum(1).std() > 0.1
    assert raw.min() < 0
    assert raw.max() > 1


def test_one_branch_with_softmax_is_an_ordinary_convolution() -> None:
    conv = make_conv("softmax", branches=1)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.conv.weight, conv.bias[0], padding=1))


@pytest.mark.parametrize("mixing", ["softmax", "sigmoid", "raw"])
def test_fresh_block_keeps_the_scale_of_its_input(mixing: str) -> None:
    torch.manual_seed(0)
    conv = MixedConv2d(64, 64, MixconvConfig(mixing=mixing, branches=4))
    x = torch.randn(8, 64, 12, 12)
    out = conv(x)[:, :, 1:-1, 1:-1]  # the border sees zeros
    # He's rule doubles the variance for relu; L branches at weight 1/L (sigmoid: 1/2) are summed at full-weight scale
    assert 0.7 * 2 < out.var() < 1.4 * 2


def test_channels_last_order_is_kept() -> None:
    conv = make_conv("softmax").to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    assert conv(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("width_out", "stride"), [(6, 1), (9, 1), (6, 2)])
def test_residual_adds_the_input_before_the_activation(width_out: int, stride: int) -> None:
    torch.manual_seed(0)
    block = MixBlock(6, width_out, MixconvConfig(residual=True, norm="group", activation="elu"), stride).double()
    x = torch.randn(2, 6, 8, 8, dtype=torch.float64)
    shortcut = x
    if (width_out, stride) == (6, 1):
        assert isinstance(block.shortcut, nn.Identity)
    else:
        shortcut = F.conv2d(x, block.shortcut.weight, block.shortcut.bias, stride)
    torch.testing.assert_close(block(x), F.elu(block.norm(naive_mix(block.conv, x)) + shortcut))


@pytest.mark.parametrize(("pool", "sizes"), [("max", [17, 8, 4]), ("stride", [17, 9, 5]), ("none", [17, 17, 17])])
def test_image_is_halved_between_blocks(pool: str, sizes: list[int]) -> None:
    net = build_mixconv(MixconvConfig(widths=(4, 4, 4), branches=2, pool=pool), 10, 17)
    seen: list[int] = []
    for module in net.modules():
        if isinstance(module, MixBlock):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[-1]))
    net(torch.randn(2, 3, 17, 17))
    assert seen == sizes


def test_output_block_is_average_pooling_and_linear_layers_with_dropout_before_each() -> None:
    net = build_mixconv(MixconvConfig(widths=(4,), hidden=(6, 5), dropout=0.3), 10, 8)
    kinds = [type(module) for module in net.output]
    linear = [nn.Dropout, nn.Linear]
    assert kinds == [nn.AdaptiveAvgPool2d, nn.Flatten, *linear, nn.ReLU, *linear, nn.ReLU, *linear]


def test_too_small_an_image_is_refused() -> None:
    config = MixconvConfig(widths=(4, 4, 4, 4, 4))
    build_mixconv(config, 2, 16)
    with pytest.raises(ConfigError, match=r"model.mixconv halves the image 4 times"):
        build_mixconv(config, 2, 15)
