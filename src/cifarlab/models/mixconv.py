"""Blocks of parallel convolutions whose outputs are summed with weights computed from the input.

A block computes sum over l of a_l(x) (W_l * x + b_l), where a(x) comes from a fully connected layer on the channel
means of x. It is known as conditionally parameterised or dynamic convolution. Where the branches are summed later, each
of them has a norm, an activation or a pooling of its own.

References:
    B. Yang et al., "CondConv: Conditionally Parameterized Convolutions for Efficient Inference", arXiv 1904.04971
    (sigmoid weights). Y. Chen et al., "Dynamic Convolution: Attention over Convolution Kernels", arXiv 1912.03458
    (softmax weights, near uniform at the start).

Shape suffixes: N images, C channels, H height, W width, L branches, K classes.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import MixconvConfig
from cifarlab.models.layers import ACTIVATIONS, MONOTONE, Dropout, build_head, init_weights, make_norm, require_size

_POOLS: dict[str, type[nn.MaxPool2d] | type[nn.AvgPool2d]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


def _typical_weight(config: MixconvConfig) -> float:
    """Return about what every branch is weighed with at the start."""
    return 0.5 if config.mixing == "sigmoid" else 1 / config.branches


def _init_attention(attention: nn.Linear, config: MixconvConfig) -> None:
    """Draw the layer that gives the mixing weights; raw ones start around the typical weight."""
    init_weights(attention, "linear")
    if config.mixing == "raw":
        nn.init.constant_(attention.bias, _typical_weight(config))


def _mixing_weights(attention: nn.Linear, mixing: str, x_NCHW: torch.Tensor) -> torch.Tensor:
    """Return the weight of every branch for every image, N x L."""
    weights_NL: torch.Tensor = attention(x_NCHW.mean((2, 3)))
    if mixing == "softmax":
        return weights_NL.softmax(1)
    return weights_NL.sigmoid() if mixing == "sigmoid" else weights_NL


class MixedConv2d(nn.Module):
    """L parallel convolutions, summed with weights that depend on the image.

    The filters of branch l are ``conv.weight[:, l * width_in : (l + 1) * width_in]``, its bias is ``bias[l]``.

    Three ways give the same sum; multiply-adds per image, with k^2 C_in C_out H W as the unit:
      1. one convolution to L C_out channels, then the weighted sum: L, and L C_out H W intermediate values;
      2. mix the filters of each image, then a grouped convolution with one group an image: 1 + L / (H W), and
         k^2 C_in C_out values of filters an image, which at 8 x 8 positions is ten times the feature maps;
      3. weigh L copies of the input, then one convolution from L C_in channels: L, and L C_in H W values.
    The third is used. By linearity the weighted sum over branches becomes part of the convolution's own sum, so no
    wide output exists; it needs less memory and time than the first wherever C_in <= C_out, most of all in the first
    block with C_in = 3. The second does the fewest multiply-adds, but its number of groups is the batch size: small
    products run far from peak speed, memory grows with batch times filters, and ONNX, where groups are a constant,
    cannot express it for a free batch size. Forward and backward of the default widths, batch 64, one thread of a busy
    AMD EPYC (Zen 4), torch 2.13, channels last, best of 4: ways 1, 2, 3 took 980, 380, 528 ms in fp32 and 702, 270,
    287 ms in bf16.
    """

    def __init__(self, width_in: int, width_out: int, config: MixconvConfig, stride: int = 1) -> None:
        super().__init__()
        self.branches, self.mixing = config.branches, config.mixing
        self.attention = nn.Linear(width_in, config.branches)
        self.conv = nn.Conv2d(
            config.branches * width_in,
            width_out,
            config.kernel_size,
            stride=stride,
            padding=config.kernel_size // 2,
            bias=False,  # the bias is mixed too, see below
        )
        self.bias = nn.Parameter(torch.zeros(config.branches, width_out))
        _init_attention(self.attention, config)
        # the fan-in counts every branch at full weight; this makes up for weights that start smaller
        init_weights(self.conv, config.activation, scale=1 / _typical_weight(config))

    def mixing_weights(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Return the weight of every branch for every image, N x L."""
        return _mixing_weights(self.attention, self.mixing, x_NCHW)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Return the mixed output, N x C_out x H' x W'."""
        weights_NL = self.mixing_weights(x_NCHW).to(x_NCHW.dtype)
        # cat, unlike a product with broadcasting and flatten, keeps channels-last memory order
        weighted = torch.cat([x_NCHW * weight_N111 for weight_N111 in weights_NL[:, :, None, None, None].unbind(1)], 1)
        mixed_NCHW: torch.Tensor = self.conv(weighted)
        return mixed_NCHW + F.linear(weights_NL, self.bias.T)[:, :, None, None]


class MixBlock(nn.Module):
    """Mixed convolution, norm, activation; with a residual the input is added before the activation."""

    def __init__(self, width_in: int, width_out: int, config: MixconvConfig, stride: int = 1) -> None:
        super().__init__()
        self.conv = MixedConv2d(width_in, width_out, config, stride)
        self.norm = make_norm(config.norm, width_out)
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = Dropout(config.block_dropout)
        self.residual = config.residual
        self.shortcut: nn.Module = nn.Identity()
        if config.residual and (width_in != width_out or stride != 1):
            self.shortcut = nn.Conv2d(width_in, width_out, 1, stride=stride)
            init_weights(self.shortcut, "linear")

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Return the block's output, N x C_out x H' x W'."""
        out_NCHW: torch.Tensor = self.norm(self.conv(x_NCHW))
        if self.residual:
            out_NCHW = out_NCHW + self.shortcut(x_NCHW)
        dropped_NCHW: torch.Tensor = self.dropout(self.activation(out_NCHW))
        return dropped_NCHW


class BranchBlock(nn.Module):
    """A block whose branches have more of their own than a convolution, so that each is computed for itself.

    A norm of its own makes a branch's share in the sum independent of the size of its filters; an activation of its own
    makes the block more than one convolution. With ``pooled`` each branch halves its output too.
    """

    def __init__(
        self, width_in: int, width_out: int, config: MixconvConfig, stride: int = 1, pooled: bool = False
    ) -> None:
        super().__init__()
        self.mixing = config.mixing
        self.attention = nn.Linear(width_in, config.branches)
        _init_attention(self.attention, config)
        self.branches = nn.ModuleList()
        for _ in range(config.branches):
            conv = nn.Conv2d(
                width_in,
                width_out,
                config.kernel_size,
                stride=stride,
                padding=config.kernel_size // 2,
                bias=config.norm == "none",  # a norm has its own
            )
            init_weights(conv, config.activation)
            branch = nn.Sequential(conv, make_norm(config.norm, width_out))
            if config.mix_after != "norm":
                branch.append(ACTIVATIONS[config.activation]())
            if pooled:
                pool_first = config.pool == "max" and config.activation in MONOTONE  # the same values from less work
                branch.insert(len(branch) - pool_first, _POOLS[config.pool](2))
            self.branches.append(branch)
        self.activation = ACTIVATIONS[config.activation]() if config.mix_after == "norm" else nn.Identity()
        self.dropout = Dropout(config.block_dropout)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Return the block's output, N x C_out x H' x W'."""
        weights_NL = _mixing_weights(self.attention, self.mixing, x_NCHW)
        out_NCHW: torch.Tensor | float = 0.0
        for weight_N111, branch in zip(weights_NL[:, :, None, None, None].unbind(1), self.branches, strict=True):
            branch_NCHW = branch(x_NCHW)
            out_NCHW = out_NCHW + weight_N111.to(branch_NCHW.dtype) * branch_NCHW
        dropped_NCHW: torch.Tensor = self.dropout(self.activation(out_NCHW))
        return dropped_NCHW


def build_mixconv(config: MixconvConfig, num_classes: int, image_size: int) -> nn.Sequential:
    """Build K blocks, halving the image between them, and an output block on the channel means.

    Args:
        config: Blocks, branches, how weights are made, what stands between blocks and in the output block.
        num_classes: Number of logits, at least 2.
        image_size: Height and width of the images in pixels; the network also accepts others that are large enough.

    Returns:
        A network with the parts ``blocks`` and ``output``.

    Raises:
        ConfigError: If the image is too small for the number of blocks.
    """
    num_blocks = len(config.widths)
    require_size("mixconv", image_size, 0 if config.pool == "none" else num_blocks - 1 + config.pool_last)
    blocks: list[nn.Module] = []
    for index, (width_in, width_out) in enumerate(zip((3, *config.widths[:-1]), config.widths, strict=True)):
        stride = 2 if index > 0 and config.pool == "stride" else 1
        pooled = config.pool in _POOLS and (index < num_blocks - 1 or config.pool_last)
        if config.mix_after == "conv":
            blocks.append(MixBlock(width_in, width_out, config, stride))
        else:
            blocks.append(BranchBlock(width_in, width_out, config, stride, pooled and config.mix_after == "pool"))
        if pooled and config.mix_after != "pool":
            blocks.append(_POOLS[config.pool](2))
    head = build_head(config.widths[-1], config.hidden, num_classes, config.activation, config.dropout)
    network = nn.Sequential()
    network.add_module("blocks", nn.Sequential(*blocks))
    network.add_module("output", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Dropout(config.dropout), *head))
    return network
