"""What computers do to images: lost contrast, distortion, coarse pixels, JPEG.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.evaluation.corrupting.draws import Pixels, uniforms
from cifarlab.evaluation.resampling import sample_bilinear


def contrast(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Draw every channel towards its mean over the image."""
    del draws
    kept = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means_NC11 = pixels_NCHW.mean((2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    drawn_NCHW: Pixels = (pixels_NCHW - means_NC11) * np.float32(kept) + means_NC11
    return drawn_NCHW


def elastic_transform(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Tilt and shear the image a little by chance, then distort it like rubber."""
    # in sides of the image: how far rubber moves, over what distance its movements are alike, how far corners move
    far, alike, corners = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    height, width = pixels_NCHW.shape[2:]
    side = min(height, width)
    rows_NHW, columns_NHW = _tilted(draws, height, width, corners * side)
    pixels = sample_bilinear(torch.from_numpy(pixels_NCHW), rows_NHW, columns_NHW, "reflect")
    if far:
        shifts_N2HW = _smooth_shifts(draws, height, width, alike * side) * far * side
        rows_NHW = torch.arange(height)[:, None] + torch.from_numpy(shifts_N2HW[:, 0])
        columns_NHW = torch.arange(width) + torch.from_numpy(shifts_N2HW[:, 1])
        pixels = sample_bilinear(pixels, rows_NHW, columns_NHW, "symmetric")
    return pixels.numpy()


def _tilted(
    draws: Sequence[np.random.Generator], height: int, width: int, reach: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where every pixel is read, rows and columns (N x H x W), when three points move by up to ``reach``."""
    third = min(height, width) // 3
    middle = np.array([width // 2, height // 2], np.float64)
    before_32 = middle + third * np.array([[1, 1], [1, -1], [-1, -1]])
    after_N32 = before_32 + uniforms(draws, -reach, reach, 3, 2)
    with_one_N33 = np.concatenate([after_N32, np.ones((len(draws), 3, 1))], 2)
    # the affine map that takes the moved points back to where they were: (x, y, 1) @ map = (x, y) of the source
    map_N32 = np.linalg.solve(with_one_N33, np.broadcast_to(before_32, after_N32.shape))
    y_HW, x_HW = np.mgrid[:height, :width]
    places_HW3 = np.stack([x_HW, y_HW, np.ones_like(x_HW)], 2).astype(np.float64)
    sources_NHW2 = torch.from_numpy(np.einsum("hwi,nij->nhwj", places_HW3, map_N32))
    return sources_NHW2[..., 1], sources_NHW2[..., 0]


def _smooth_shifts(draws: Sequence[np.random.Generator], height: int, width: int, sigma: float) -> NDArray[np.float32]:
    """Return noise, N x 2 x H x W, between -1 and 1, blurred by a normal curve; the border is mirrored."""
    from scipy.ndimage import gaussian_filter

    noise_N2HW = uniforms(draws, -1, 1, 2, height, width)
    blurred: NDArray[np.float32] = gaussian_filter(noise_N2HW, (0, 0, sigma, sigma), mode="reflect", truncate=3)
    return blurred


def _one_by_one(pixels_NCHW: Pixels, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Pixels:
    """Apply a function of one image, uint8, H x W x C, to each."""
    levels_NHWC = np.ascontiguousarray(np.rint(pixels_NCHW * 255).astype(np.uint8).transpose(0, 2, 3, 1))
    changed_NHWC = np.stack([change(levels_HWC) for levels_HWC in levels_NHWC])
    return changed_NHWC.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


def pixelate(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Make the image smaller and then as large as it was, both by boxes."""
    from PIL import Image

    del draws
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = pixels_NCHW.shape[2:]
    small = int(width * share), int(height * share)

    def change(levels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        coarse = Image.fromarray(levels_HWC).resize(small, Image.Resampling.BOX)
        return np.asarray(coarse.resize((width, height), Image.Resampling.BOX))

    return _one_by_one(pixels_NCHW, change)


def jpeg_compression(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Store the image as JPEG and read it again."""
    from PIL import Image

    del draws
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def change(levels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        file = io.BytesIO()
        Image.fromarray(levels_HWC).save(file, "JPEG", quality=quality)
        with Image.open(file, formats=("JPEG",)) as image:
            return np.asarray(image)

    return _one_by_one(pixels_NCHW, change)
