"""Residual networks: ResNet-18/34/50, the CIFAR ResNets of depth 20 and 56, and wide ResNets.

Choices where the literature differs:

* Names and layout of ResNet-18/34/50 are those of torchvision and timm, so their weights load. ResNet-50 has the
  stride in its 3x3 convolution ("v1.5").
* ResNet-20/56 take 1x1 projections where the width changes (option B of the paper) like their larger sisters;
  with option A, zero padding, they would have 2,752 parameters fewer.
* The last batch norm of a residual branch starts at scale one, not zero: with zero the filters before it get no
  gradient in the first step. Zero is meant for very large batches (P. Goyal et al., arXiv 1706.02677).
* The stem fits the image unless the configuration says otherwise: below 96 pixels a 3x3 convolution, else 7x7 with
  stride two and 3x3 max pooling.

References:
    K. He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385. S. Zagoruyko and N. Komodakis,
    "Wide Residual Networks", arXiv 1605.07146. pytorch/vision, torchvision/models/resnet.py, for the names.

Shape suffixes: N images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import ResnetConfig
from cifarlab.models.layers import Dropout

_IMAGENET_STEM_FROM = 96  # pixels


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(width_in, width, stride)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Return the block's output, N x width x H/stride x W/stride."""
        out_NCHW = F.relu(self.bn1(self.conv1(x_NCHW)))
        summed_NCHW: torch.Tensor = self.bn2(self.conv2(out_NCHW)) + self.downsample(x_NCHW)
        return F.relu(summed_NCHW)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; four times as wide outside as inside."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        width_out = width * self.expansion
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width_out)
        self.downsample = _projection(width_in, width_out, stride)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Return the block's output, N x 4 width x H/stride x W/stride."""
        out_NCHW = F.relu(self.bn1(self.conv1(x_NCHW)))
        out_NCHW = F.relu(self.bn2(self.conv2(out_NCHW)))
        summed_NCHW: torch.Tensor = self.bn3(self.conv3(out_NCHW)) + self.downsample(x_NCHW)
        return F.relu(summed_NCHW)


class WideBlock(nn.Module):
    """Norm and activation before each of two 3x3 convolutions, dropout between them, nothing on the shortcut's path."""

    def __init__(self, width_in: int, width: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.projects = width_in != width or stride != 1
        self.shortcut: nn.Module = nn.Identity()
        if self.projects:
            self.shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Return the block's output, N x width x H/stride x W/stride."""
        activated_NCHW = F.relu(self.bn1(x_NCHW))
        out_NCHW: torch.Tensor = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(activated_NCHW)))))
        shortcut_NCHW: torch.Tensor = self.shortcut(activated_NCHW if self.projects else x_NCHW)
        return out_NCHW + shortcut_NCHW


def _projection(width_in: int, width_out: int, stride: int) -> nn.Module:
    """Return what brings a block's input to the shape of its output."""
    if width_in == width_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out))


_RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...], int]] = {
    # block, blocks in each stage, width of the first stage; every later stage is twice as wide
    "resnet18": (BasicBlock, (2, 2, 2, 2), 64),
    "resnet34": (BasicBlock, (3, 4, 6, 3), 64),
    "resnet50": (Bottleneck, (3, 4, 6, 3), 64),
    "resnet20": (BasicBlock, (3, 3, 3), 16),
    "resnet56": (BasicBlock, (9, 9, 9), 16),
}
_WIDE_DEPTHS = {"wrn16": 2, "wrn28": 4, "wrn40": 6}  # blocks in each of three stages: (depth - 4) / 6
_WIDE_STEM = 16  # not widened, as in the paper


def _stem(width: int, imagenet: bool) -> OrderedDict[str, nn.Module]:
    """Return the first convolution; for large images, pooling too."""
    if imagenet:
        return OrderedDict(conv1=nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False))
    return OrderedDict(conv1=nn.Conv2d(3, width, 3, padding=1, bias=False))


def _tail(width: int, num_classes: int, dropout: float) -> OrderedDict[str, nn.Module]:
    """Return global average pooling and the classifier."""
    return OrderedDict(
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        dropout=Dropout(dropout),
        fc=nn.Linear(width, num_classes),
    )


def _plain_layers(config: ResnetConfig, num_classes: int, imagenet: bool) -> OrderedDict[str, nn.Module]:
    """Return the layers of a ResNet in order, named as torchvision names them."""
    block, depths, width = _RESNETS[config.variant]
    width *= config.width_factor
    layers = _stem(width, imagenet)
    layers |= OrderedDict(bn1=nn.BatchNorm2d(width), relu=nn.ReLU())
    if imagenet:
        layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    width_in = width
    for stage, depth in enumerate(depths):
        blocks = []
        for index in range(depth):
            blocks.append(block(width_in, width * 2**stage, stride=2 if stage > 0 and index == 0 else 1))
            width_in = width * 2**stage * block.expansion
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    return layers | _tail(width_in, num_classes, config.dropout)


def _wide_layers(config: ResnetConfig, num_classes: int, imagenet: bool) -> OrderedDict[str, nn.Module]:
    """Return the layers of a wide ResNet in order; as its blocks are pre-activated, a norm stands at the end."""
    layers = _stem(_WIDE_STEM, imagenet)
    if imagenet:
        layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    width_in = _WIDE_STEM
    for stage in range(3):
        width = 16 * config.width_factor * 2**stage
        blocks = []
        for index in range(_WIDE_DEPTHS[config.variant]):
            blocks.append(WideBlock(width_in, width, 2 if stage > 0 and index == 0 else 1, config.dropout))
            width_in = width
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    layers |= OrderedDict(bn=nn.BatchNorm2d(width_in), relu=nn.ReLU())
    return layers | _tail(width_in, num_classes, 0.0)  # its dropout is in the blocks


def build_resnet(config: ResnetConfig, num_classes: int, image_size: int) -> nn.Sequential:
    """Build the network with fresh weights by He's rule.

    Args:
        config: Variant, width factor, stem, dropout. The factor multiplies every width but a wide network's stem;
            in a bottleneck it widens the inside and the outside, unlike torchvision's wide_resnet50_2.
        num_classes: K, at least 2.
        image_size: Height and width of the images in pixels, which decides about the stem; other sizes are accepted.

    Returns:
        A network from normalised images (float, N x 3 x S x S) to logits (N x K).
    """
    imagenet = config.stem == "imagenet" or (config.stem == "auto" and image_size >= _IMAGENET_STEM_FROM)
    build = _wide_layers if config.variant in _WIDE_DEPTHS else _plain_layers
    network = nn.Sequential(build(config, num_classes, imagenet))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
