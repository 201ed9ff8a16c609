"""Models: plain modules, images in, logits out.

MODELS is the table of families; a network builder takes its section of ModelConfig, the number of classes and the
image size, and returns a module from normalised images (float, N x 3 x S x S) to logits (float, N x K).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cifarlab.config import ModelConfig
from cifarlab.models.convnet import build_convnet
from cifarlab.models.mixconv import build_mixconv
from cifarlab.models.preprocess import Preprocess
from cifarlab.models.resnet import build_resnet
from cifarlab.models.speednet import Speednet, build_speednet

__all__ = ["MODELS", "ImageClassifier", "build_model", "fit_to_images"]

MODELS: dict[str, Callable[[Any, int, int], nn.Module]] = {
    "speednet": build_speednet,
    "convnet": build_convnet,
    "mixconv": build_mixconv,
    "resnet": build_resnet,
}

_IMAGES_TO_FIT = 1000


class ImageClassifier(nn.Module):
    """Preprocessing and a network: uint8 or [0, 1] images of any size in, logits out."""

    def __init__(self, network: nn.Module, image_size: int) -> None:
        super().__init__()
        self.preprocess = Preprocess(image_size)
        self.network = network

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Return logits (N x K) for images (N x 3 x H x W; uint8 in 0..255 or floating point in [0, 1])."""
        logits_NK: torch.Tensor = self.network(self.preprocess(images_NCHW))
        return logits_NK


def build_model(config: ModelConfig, num_classes: int, image_size: int) -> ImageClassifier:
    """Build the configured model with fresh weights drawn from torch's global generator.

    Args:
        config: Which family and its settings.
        num_classes: K, at least 2.
        image_size: Height and width in pixels that the network sees.

    Raises:
        ConfigError: If the network does not fit the image size.
    """
    network = MODELS[config.name](getattr(config, config.name), num_classes, image_size)
    return ImageClassifier(network, image_size)


def fit_to_images(model: ImageClassifier, images_NCHW: torch.Tensor) -> None:
    """Set what is computed from training images rather than learned: channel statistics and whitening filters.

    Up to 1,000 images, evenly spaced, are enough for both.

    Args:
        model: A freshly built model.
        images_NCHW: Training images, uint8, N x 3 x H x W.
    """
    num, wanted = len(images_NCHW), min(len(images_NCHW), _IMAGES_TO_FIT)
    # to the last image, for those of a folder lie class by class
    sample = images_NCHW[torch.arange(wanted, device=images_NCHW.device) * num // wanted]
    with torch.no_grad():
        model.preprocess.fit(sample)
        if isinstance(model.network, Speednet):
            model.network.fit_whitening(model.preprocess(sample))
