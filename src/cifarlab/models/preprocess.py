"""What every model does to images before its first layer, so that training, serving and export cannot disagree."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Preprocess(nn.Module):
    """Bring images to [0, 1], to the model's size, and to zero mean and unit variance per channel.

    Attributes:
        image_size: Height and width in pixels the network sees. The training loop lowers it for a while where a
            recipe trains at low resolution.
        mean, std: Buffers, float32, 1 x 3 x 1 x 1, in units of [0, 1]; saved with the weights.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.25))

    def fit(self, images_NCHW: torch.Tensor) -> None:
        """Set mean and std to those of uint8 images, N x 3 x H x W."""
        pixels_CN = images_NCHW.float().div(255).transpose(0, 1).flatten(1)
        self.mean.copy_(pixels_CN.mean(1).view(1, 3, 1, 1))
        self.std.copy_(pixels_CN.std(1).clamp_min(1 / 255).view(1, 3, 1, 1))

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Preprocess a batch.

        Args:
            images_NCHW: uint8 in 0..255 or floating point in [0, 1]; N x 3 x H x W, any H and W.

        Returns:
            float32, N x 3 x image_size x image_size.
        """
        images = images_NCHW.float() / 255 if images_NCHW.dtype == torch.uint8 else images_NCHW.float()
        size = (self.image_size, self.image_size)
        if images.shape[-2:] != size:
            images = _resize(images, self.image_size)
        return (images - self.mean) / self.std


def _resize(images_NCHW: torch.Tensor, size: int) -> torch.Tensor:
    """Resize to size x size by antialiased bilinear interpolation, as two matrix products: four times as fast."""
    with torch.autocast(images_NCHW.device.type, enabled=False):
        rows_SH = _interpolation(images_NCHW.shape[2], size, images_NCHW)
        columns_SW = _interpolation(images_NCHW.shape[3], size, images_NCHW)
        return rows_SH @ (images_NCHW @ columns_SW.T)


def _interpolation(length: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Return the matrix that interpolates a line of pixels: what becomes of every unit vector."""
    unit_vectors = torch.eye(length, dtype=like.dtype, device=like.device).view(1, 1, length, length)
    resized = F.interpolate(unit_vectors, (size, length), mode="bilinear", antialias=True, align_corners=False)
    return resized.view(size, length)
