"""Mixconv: one convolution equals the sum of many, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import MixconvConfig
from cifarlab.errors import ConfigError
from cifarlab.models.layers import Dropout
from cifarlab.models.mixconv import BranchBlock, MixBlock, MixedConv2d, build_mixconv


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
    linear = [Dropout, nn.Linear]
    assert kinds == [nn.AdaptiveAvgPool2d, nn.Flatten, *linear, nn.ReLU, *linear, nn.ReLU, *linear]


def test_too_small_an_image_is_refused() -> None:
    config = MixconvConfig(widths=(4, 4, 4, 4, 4))
    build_mixconv(config, 2, 16)
    with pytest.raises(ConfigError, match=r"model.mixconv halves the image 4 times"):
        build_mixconv(config, 2, 15)


@pytest.mark.parametrize("mix_after", ["norm", "activation", "pool"])
def test_branches_summed_later_are_the_sum_image_by_image(mix_after: str) -> None:
    torch.manual_seed(0)
    config = MixconvConfig(branches=3, mix_after=mix_after, mixing="sigmoid", activation="leaky_relu", pool="max")
    block = BranchBlock(3, 5, config, pooled=mix_after == "pool").double().eval()
    for name, value in block.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(value)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    expected = []
    for image in x:
        total = torch.zeros(())
        scores = block.attention.weight @ image.mean((1, 2)) + block.attention.bias
        for score, branch in zip(scores, block.branches, strict=True):
            conv, norm = branch[0], branch[1]
            out = F.conv2d(image[None], conv.weight, padding=1)
            out = F.batch_norm(out, norm.running_mean, norm.running_var, norm.weight, norm.bias)
            if mix_after != "norm":
                out = torch.where(out > 0, out, 0.01 * out)
            if mix_after == "pool":
                out = F.max_pool2d(out, 2)
            total = total + out / (1 + (-score).exp())
        expected.append(torch.where(total > 0, total, 0.01 * total) if mix_after == "norm" else total)
    torch.testing.assert_close(block(x), torch.cat(expected))


def test_without_norm_and_activation_summing_later_changes_nothing() -> None:
    torch.manual_seed(0)
    config = MixconvConfig(branches=2, norm="none", mix_after="norm", activation="relu")
    late = BranchBlock(3, 4, config).double()
    early = MixedConv2d(3, 4, MixconvConfig(branches=2)).double()
    early.attention.load_state_dict(late.attention.state_dict())
    with torch.no_grad():
        early.conv.weight.copy_(torch.cat([branch[0].weight for branch in late.branches], 1))
        for index, branch in enumerate(late.branches):
            nn.init.normal_(branch[0].bias)
            early.bias[index] = branch[0].bias
    x = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(late(x), early(x).relu())


@pytest.mark.parametrize("mix_after", ["conv", "norm", "activation", "pool"])
def test_the_last_block_is_pooled_if_asked(mix_after: str) -> None:
    for pool_last, last in ((False, 4), (True, 2)):
        config = MixconvConfig(widths=(4, 4, 6), branches=2, mix_after=mix_after, pool_last=pool_last)
        net = build_mixconv(config, 10, 17)
        assert net.blocks(torch.randn(2, 3, 17, 17)).shape == (2, 6, last, last)
    with pytest.raises(ConfigError, match="halves the image 3 times"):
        build_mixconv(config, 10, 7)


@pytest.mark.parametrize("mix_after", ["conv", "norm", "activation"])
def test_blocks_drop_out_in_training_after_the_activation_and_before_the_pooling(mix_after: str) -> None:
    torch.manual_seed(0)
    config = MixconvConfig(widths=(40,), block_dropout=0.25, pool_last=True, mix_after=mix_after, activation="sigmoid")
    net = build_mixconv(config, 10, 16)
    assert [type(module) for module in net.blocks][1:] == [nn.MaxPool2d]
    block, x = net.blocks[0], torch.randn(8, 3, 16, 16)
    dropped = block(x)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)  # a sigmoid itself gives no zeros
    kept = dropped != 0
    torch.manual_seed(0)
    block.dropout.p = 0.0
    torch.testing.assert_close(dropped[kept], block(x)[kept] / 0.75)
    block.dropout.p = 0.25
    assert (block.eval()(x) == 0).sum() == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"mix_after": "pool", "pool": "none"}, "pool must be max or average"),
        ({"pool_last": True, "pool": "stride"}, "pool must be max or average"),
        ({"mix_after": "norm", "residual": True}, "residual needs mix_after conv"),
        ({"block_dropout": 1.0}, "dropouts must lie in"),
    ],
)
def test_settings_that_do_not_fit_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixconvConfig(**setting)
