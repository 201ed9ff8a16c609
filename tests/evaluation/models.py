"""Small models with known behaviour, and subjects built on them, for the tests of the sections on robustness."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from cifarlab.data.imageset import ImageSet
from cifarlab.evaluation.section import Options, Scored, Subject

CLASS_NAMES = ("red", "green", "blue")


class Brightest(nn.Module):
    """Says which channel is brightest on average; takes uint8 or [0, 1], as every model here does."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        images = images_NCHW.float() / 255 if images_NCHW.dtype == torch.uint8 else images_NCHW
        return 40 * images.mean((2, 3))


class Linear(nn.Module):
    """Logits that are a linear function of the pixels."""

    def __init__(self, weights_KCHW: torch.Tensor, biases_K: torch.Tensor) -> None:
        super().__init__()
        self.weights, self.biases = nn.Parameter(weights_KCHW), nn.Parameter(biases_K)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        images = images_NCHW.float() / 255 if images_NCHW.dtype == torch.uint8 else images_NCHW
        return torch.einsum("nchw,kchw->nk", images, self.weights) + self.biases


def coloured(count: int, size: int = 32, seed: int = 0, margin: int = 30) -> ImageSet:
    """Noise in whose class's channel everything is brighter by ``margin`` levels."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(0, 3, (count,), generator=generator)
    images = torch.randint(60, 160, (count, 3, size, size), generator=generator)
    images[torch.arange(count), labels_N] += margin
    return ImageSet(images.to(torch.uint8), labels_N, CLASS_NAMES)


def classifier(model: nn.Module) -> Any:
    """What sections use of a Classifier."""
    model.eval()
    device = torch.device("cpu")

    def logits(images_NCHW: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(images_NCHW).float()

    return SimpleNamespace(model=model, device=device, logits=logits)


def subject(images: ImageSet, model: nn.Module | None = None, split: str = "val", **options: Any) -> Subject:
    """A model judged on images."""
    shipped = classifier(model or Brightest())
    judged = Scored(shipped.logits(images.images_NCHW), images.labels_N, images)
    return Subject(split, images.class_names, judged, None, shipped, None, Options(**options))
