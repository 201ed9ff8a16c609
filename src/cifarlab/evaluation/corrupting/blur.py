"""Blur: out of focus, through frosted glass, moving, zooming.

Shape suffixes: N images, C channels, H height, W width, K kernel size, T taps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.evaluation.corrupting.draws import Pixels, uniforms

_INVISIBLE = 1e-5  # share of a pixel that changes no level of 255, and is left out


def disk_kernel(radius: float, smoothing: float) -> NDArray[np.float32]:
    """Return the blur of a lens: a disk of pixels, its edge softened by a normal curve over three pixels.

    Args:
        radius: Of the disk, in pixels; below 1 only the middle pixel is inside.
        smoothing: Standard deviation of the curve, in pixels.

    Returns:
        K x K, K = 2 x floor(radius) + 3; sums to 1.
    """
    reach = math.floor(radius) + 1
    offsets = np.arange(-reach, reach + 1)
    disk_KK = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float64)
    curve_3 = np.exp(-(np.arange(-1, 2) ** 2) / (2 * smoothing**2))
    curve_3 /= curve_3.sum()
    soft_KK = np.zeros_like(disk_KK)
    for step_down, weight_down in zip((-1, 0, 1), curve_3, strict=True):
        for step_right, weight_right in zip((-1, 0, 1), curve_3, strict=True):
            # nothing is rolled around the edge, for the disk leaves a margin of one pixel
            soft_KK += weight_down * weight_right * np.roll(disk_KK, (step_down, step_right), (0, 1))
    kernel_KK: NDArray[np.float32] = (soft_KK / disk_KK.sum()).astype(np.float32)
    return kernel_KK


def defocus_blur(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Blur by a disk; beyond the border the image is reflected."""
    del draws
    radius, smoothing = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    kernel_KK = disk_kernel(radius, smoothing)
    margin, (height, width) = len(kernel_KK) // 2, pixels_NCHW.shape[2:]
    padded = np.pad(pixels_NCHW, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="reflect")
    blurred_NCHW = np.zeros_like(pixels_NCHW)
    # so few weights count that sums of shifted images are ten times as fast as torch's convolution of one channel
    for (down, right), weight in np.ndenumerate(kernel_KK):
        if weight > 1e-8:
            blurred_NCHW += weight * padded[:, :, down : down + height, right : right + width]
    return blurred_NCHW


def smooth(pixels_NCHW: Pixels, sigma: float) -> Pixels:
    """Blur by a normal curve with standard deviation ``sigma`` in pixels; beyond the border its pixels go on."""
    from scipy.ndimage import gaussian_filter

    blurred: Pixels = gaussian_filter(pixels_NCHW, (0, 0, sigma, sigma), mode="nearest", truncate=4)
    return blurred


def displace(pixels_NCHW: Pixels, down_NHW: NDArray[np.int64], right_NHW: NDArray[np.int64]) -> Pixels:
    """Return images whose every pixel is that of the given ones so many rows and columns away, within the image."""
    num, channels, height, width = pixels_NCHW.shape
    rows_NHW = np.arange(height)[:, None] + down_NHW
    columns_NHW = np.arange(width) + right_NHW
    index_NHW = torch.from_numpy(rows_NHW * width + columns_NHW)
    index_NCP = index_NHW.flatten(1)[:, None].expand(-1, channels, -1)
    moved_NCP = torch.from_numpy(pixels_NCHW).flatten(2).gather(2, index_NCP)
    return moved_NCP.view(num, channels, height, width).numpy()


def glass_blur(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Blur a little, let every pixel take the place of a neighbour by chance, and blur again.

    The published program goes through the pixels from the lower right and means to swap each with one at most a pixel
    up and to the left; what it does, for its two references are to one array, is to copy that one. All official images
    were made so, and these are: every pixel takes the value of itself or of one of three neighbours.
    """
    sigma, rounds = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    height, width = pixels_NCHW.shape[2:]
    levels_NCHW = np.floor(smooth(pixels_NCHW, sigma) * 255 + np.float32(1e-3)) / np.float32(255)
    for _ in range(rounds):
        steps_N2HW = np.stack([draw.integers(-1, 1, (2, height, width)) for draw in draws])
        steps_N2HW[:, :, :2] = 0  # the published program leaves the first two rows and columns where they are
        steps_N2HW[:, :, :, :2] = 0
        levels_NCHW = displace(levels_NCHW, steps_N2HW[:, 0], steps_N2HW[:, 1])
    return smooth(levels_NCHW, sigma)


def trail_weights(radius: float, sigma: float) -> NDArray[np.float64]:
    """Return the weights of a pixel and of those behind it along the movement: half a normal curve, summing to 1."""
    taps_T = np.arange(2 * math.ceil(radius) + 1)
    weights_T = np.exp(-(taps_T**2) / (2 * sigma**2))
    weights_T = weights_T[weights_T >= _INVISIBLE * weights_T.sum()]
    return np.asarray(weights_T / weights_T.sum())


def move(pixels_NCHW: Pixels, radius: float, sigma: float, degrees_N: NDArray[np.float32]) -> Pixels:
    """Blur along a direction of each image's own, as ImageMagick's motion blur does; border pixels go on.

    Args:
        pixels_NCHW: Images, of any number of channels.
        radius: Half the number of pixels along the movement.
        sigma: Standard deviation of their weights, in pixels.
        degrees_N: Direction, from the right clockwise.
    """
    num, channels, height, width = pixels_NCHW.shape
    flat_NCP = torch.from_numpy(pixels_NCHW).flatten(2)
    total_NCP = torch.zeros_like(flat_NCP)
    radians_N = np.deg2rad(degrees_N.astype(np.float64))
    for tap, weight in enumerate(trail_weights(radius, sigma).tolist()):
        down_N = np.ceil(tap * np.sin(radians_N) - 0.5).astype(np.int64)
        right_N = np.ceil(tap * np.cos(radians_N) - 0.5).astype(np.int64)
        rows_NH = np.clip(np.arange(height) + down_N[:, None], 0, height - 1)
        columns_NW = np.clip(np.arange(width) + right_N[:, None], 0, width - 1)
        index_NP = torch.from_numpy(rows_NH[:, :, None] * width + columns_NW[:, None]).flatten(1)
        total_NCP += weight * flat_NCP.gather(2, index_NP[:, None].expand(-1, channels, -1))
    return total_NCP.view(num, channels, height, width).numpy()


def motion_blur(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Blur along a direction between 45 degrees up and 45 degrees down."""
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    return move(pixels_NCHW, radius, sigma, uniforms(draws, -45, 45))


def zoom_matrix(length: int, factor: float) -> NDArray[np.float32]:
    """Return how the pixels of a line are made of those of its middle, drawn out to the whole by linear interpolation.

    Args:
        length: L, pixels of the line.
        factor: How much larger everything becomes, at least 1.

    Returns:
        L x L; rows sum to 1.
    """
    kept = math.ceil(length / factor)
    drawn_out = round(kept * factor)
    first, trimmed = (length - kept) // 2, (drawn_out - length) // 2
    positions = first + np.arange(trimmed, trimmed + length) * (kept - 1) / (drawn_out - 1)
    distances = np.abs(np.arange(length) - positions[:, None])
    weights_LL: NDArray[np.float32] = np.maximum(0, 1 - distances).astype(np.float32)
    return weights_LL


def zoom(pixels_NCHW: Pixels, factor: float) -> Pixels:
    """Return images whose middle is drawn out to the whole."""
    height, width = pixels_NCHW.shape[2:]
    zoomed = zoom_matrix(height, factor) @ pixels_NCHW @ zoom_matrix(width, factor).T
    return np.asarray(zoomed, np.float32)


def zoom_blur(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Average the image with itself at growing zoom, in steps of one hundredth."""
    del draws
    end = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, end, 0.01).tolist()  # rounding lets this hold the end, or not, as in the published images
    total_NCHW = pixels_NCHW.copy()
    for factor in factors:
        total_NCHW += zoom(pixels_NCHW, factor)
    return total_NCHW / np.float32(len(factors) + 1)
