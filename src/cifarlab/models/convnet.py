"""The classic course network: stages of convolutions and pooling, then fully connected layers.

Shape suffixes: N images, C channels, H height, W width, F features, K classes.
"""

from __future__ import annotations

import torch
from torch import nn

from cifarlab.config import ConvnetConfig
from cifarlab.errors import ConfigError
from cifarlab.models.layers import ACTIVATIONS, MONOTONE, Dropout, build_head, init_weights, make_norm, require_size

_POOLS: dict[str, type[nn.MaxPool2d] | type[nn.AvgPool2d]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


def _padding(config: ConvnetConfig) -> int:
    """Return the zeros on each side of a convolution's input."""
    return config.kernel_size // 2 if config.padding < 0 else config.padding


def _size_after_stage(size: int, convs: int, halve: bool, config: ConvnetConfig) -> int:
    """Return the height and width that a stage leaves of its input's; below 1 if nothing."""
    lost = config.kernel_size - 1 - 2 * _padding(config)
    size -= convs * lost
    # pooling rounds odd sizes down, a stride rounds them up
    return (size + (config.pool == "stride")) // 2 if halve else size


def _build_stage(width_in: int, width: int, convs: int, halve: bool, config: ConvnetConfig) -> nn.Sequential:
    """Build convolutions, each with norm and activation, then pooling and dropout."""
    layers: list[nn.Module] = []
    for index in range(convs):
        last = index == convs - 1
        conv = nn.Conv2d(
            width_in if index == 0 else width,
            width,
            config.kernel_size,
            stride=2 if halve and last and config.pool == "stride" else 1,
            padding=_padding(config),
            bias=config.norm == "none",  # a norm has its own
        )
        init_weights(conv, config.activation)
        layers += [conv, make_norm(config.norm, width), ACTIVATIONS[config.activation]()]
    if halve and config.pool != "stride":
        pool_first = config.pool == "max" and config.activation in MONOTONE  # the same values from less work
        layers.insert(len(layers) - pool_first, _POOLS[config.pool](2))
    return nn.Sequential(*layers, Dropout(config.dropout))


class Convnet(nn.Module):
    """Stages of convolutions, then a head on all positions or on their average."""

    def __init__(self, config: ConvnetConfig, num_classes: int, image_size: int) -> None:
        super().__init__()
        num_stages = len(config.stages)
        pooled = config.pool_after or range(1, num_stages + config.pool_last)
        halved = [number in pooled for number in range(1, num_stages + 1)]
        require_size("convnet", image_size, sum(halved))
        widths = (3, *(width for _, width in config.stages))
        self.stages = nn.Sequential(
            *(
                _build_stage(widths[i], width, convs, halved[i], config)
                for i, (convs, width) in enumerate(config.stages)
            )
        )
        self.average = config.head == "average"
        self.image_size = image_size
        for (convs, _), halve in zip(config.stages, halved, strict=True):
            image_size = _size_after_stage(image_size, convs, halve, config)
            if image_size < 1:
                raise ConfigError(
                    f"with model.convnet.padding {config.padding} nothing is left of images of {self.image_size} "
                    "pixels: take fewer stages, more padding or a larger data.image_size"
                )
        features = widths[-1] * (1 if self.average else image_size**2)
        dropout = config.dropout if config.head_dropout < 0 else config.head_dropout
        self.head = build_head(features, config.hidden, num_classes, config.activation, dropout)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Return logits, N x K, for normalised images.

        Args:
            images_NCHW: Float, N x 3 x S x S; S is free with an averaging head and fixed with a flattening one.

        Raises:
            ConfigError: If a flattening head meets images of another size than it was built for.
        """
        if not self.average and images_NCHW.shape[-1] != self.image_size:
            raise ConfigError(
                f"this convnet was built for images of {self.image_size} pixels, not {images_NCHW.shape[-1]}; "
                "set model.convnet.head to average for a network that takes several sizes"
            )
        x_NCHW: torch.Tensor = self.stages(images_NCHW)
        features_NF = x_NCHW.mean((2, 3)) if self.average else x_NCHW.flatten(1)
        logits_NK: torch.Tensor = self.head(features_NF)
        return logits_NK


def build_convnet(config: ConvnetConfig, num_classes: int, image_size: int) -> Convnet:
    """Build the network with fresh weights, drawn to suit its activation.

    Args:
        config: Stages, activation, norm, pooling, head.
        num_classes: K, at least 2.
        image_size: Height and width of the images in pixels.

    Raises:
        ConfigError: If the image is too small for the number of poolings.
    """
    return Convnet(config, num_classes, image_size)
