"""Weather: snow, frost, fog, brightness.

Shape suffixes: N images, T textures, C channels, H height, W width, S side of a square map.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cifarlab.evaluation.corrupting.blur import move, zoom
from cifarlab.evaluation.corrupting.draws import Pixels, normals, uniforms

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""How much red, green and blue count in grey, ITU-R BT.601."""


def snow(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Whiten the image and let flakes fall over it: noise, of which the brightest is left, blurred downwards."""
    loc, scale, size, threshold, radius, sigma, kept = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    height, width = pixels_NCHW.shape[2:]
    flakes_N1HW = zoom(normals(draws, 1, height, width) * np.float32(scale) + np.float32(loc), size)
    flakes_N1HW[flakes_N1HW < threshold] = 0
    falling_N1HW = move(np.clip(flakes_N1HW, 0, 1), radius, sigma, uniforms(draws, -135, -45))
    grey_N1HW = np.einsum("nchw,c->nhw", pixels_NCHW, _LUMA)[:, None]
    whitened_NCHW = np.maximum(pixels_NCHW, grey_N1HW * np.float32(1.5) + np.float32(0.5))
    mixed_NCHW = np.float32(kept) * pixels_NCHW + np.float32(1 - kept) * whitened_NCHW
    snowed: Pixels = mixed_NCHW + falling_N1HW + np.rot90(falling_N1HW, 2, (2, 3))
    return snowed


_NUM_TEXTURES = 5
_TEXTURE_SIDE = 256
_TEXTURE_SEED = 2019
_RIDGES = ((48, 3.0, 0.5), (20, 2.5, 0.35), (9, 2.0, 0.25))  # wavelength in pixels, stretch, weight
_DARK, _BRIGHT = (0.12, 0.18, 0.26), (0.94, 0.97, 1.0)  # bluish shade, and white with a touch of blue


def frost(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Lay a piece of an icy texture over the image.

    The published images lay photographs of frost over it, which are not ours to give away: the textures are made here.
    """
    kept, laid_over = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    height, width = pixels_NCHW.shape[2:]
    textures_TCSS = frost_textures(max(_TEXTURE_SIDE, 2 * height, 2 * width))
    side = textures_TCSS.shape[2]
    pieces = []
    for draw in draws:
        texture = draw.integers(len(textures_TCSS))
        top, left = draw.integers(0, (side - height, side - width))
        pieces.append(textures_TCSS[texture, :, top : top + height, left : left + width])
    return np.float32(kept) * pixels_NCHW + np.float32(laid_over) * np.stack(pieces)


@functools.lru_cache(maxsize=1)
def frost_textures(side: int) -> NDArray[np.float32]:
    """Return textures of ice needles: sharp bright ridges at three scales, stretched in a direction of each its own.

    Args:
        side: S, in pixels.

    Returns:
        float32 in [0, 1], T x 3 x S x S; the same at every call.
    """
    textures = []
    for number in range(_NUM_TEXTURES):
        draw = np.random.default_rng((_TEXTURE_SEED, number))
        ice_SS = np.zeros((side, side))
        for wavelength, stretch, weight in _RIDGES:
            field_SS = _waves(draw, side, wavelength, stretch)
            ice_SS += weight * np.exp(-2 * np.abs(field_SS))  # bright where the field crosses zero: thin lines
        low, high = np.percentile(ice_SS, [5, 95])  # frost is rich in contrast: a tenth is all shade or all white
        ice_SS = np.clip((ice_SS - low) / (high - low), 0, 1)
        channels = [dark + (bright - dark) * ice_SS for dark, bright in zip(_DARK, _BRIGHT, strict=True)]
        textures.append(np.stack(channels))
    return np.stack(textures).astype(np.float32)


def _waves(draw: np.random.Generator, side: int, wavelength: float, stretch: float) -> NDArray[np.float64]:
    """Return smooth noise of unit variance whose waves have about one length, more along one direction."""
    across, along = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))
    angle = draw.uniform(0, np.pi)
    turned_x = (np.cos(angle) * across + np.sin(angle) * along) * stretch
    turned_y = np.cos(angle) * along - np.sin(angle) * across
    frequency = np.hypot(turned_x, turned_y) * wavelength
    strength = np.exp(-((frequency - 1) ** 2) / 0.18)
    noise_SS = draw.standard_normal((side, side))
    field_SS = np.fft.ifft2(np.fft.fft2(noise_SS) * strength).real
    return np.asarray(field_SS / field_SS.std())


def fog(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Add a cloudy map and darken the whole, so that the brightest pixel could stay as bright as it was."""
    amount, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    height, width = pixels_NCHW.shape[2:]
    side = 1 << (max(height, width) - 1).bit_length()
    clouds_N1HW = plasma(draws, side, decay)[:, None, :height, :width]
    brightest_N = pixels_NCHW.max((1, 2, 3), keepdims=True)
    fogged: Pixels = (pixels_NCHW + np.float32(amount) * clouds_N1HW) * brightest_N / (brightest_N + np.float32(amount))
    return fogged


def plasma(draws: Sequence[np.random.Generator], side: int, decay: float) -> NDArray[np.float32]:
    """Return cloudy maps by the diamond-square algorithm, opposite edges joined.

    A grid of points is made finer step by step: each new point is the mean of its four neighbours plus a random number
    whose range shrinks by ``decay`` squared with each step.

    Args:
        draws: N generators.
        side: S, a power of two.
        decay: At least 1; the larger, the smoother.

    Returns:
        float32, N x S x S, each map from 0 to 1.
    """
    # 1/4 + 1/2 of all points at the last step, a quarter as many at the one before, and so on: S x S - 1 in all
    noise_NP = uniforms(draws, -1, 1, side * side).astype(np.float64)
    map_NSS = np.zeros((len(draws), side, side))
    taken, step, reach = 0, side, 100.0
    while step >= 2:
        half, count = step // 2, side // step
        fresh_N3CC = noise_NP[:, taken : taken + 3 * count**2].reshape(-1, 3, count, count) * reach**2
        taken += 3 * count**2
        corners = map_NSS[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, 1)
        middles = (rows + np.roll(rows, -1, 2)) / 4 + fresh_N3CC[:, 0]
        map_NSS[:, half::step, half::step] = middles
        above_and_below = middles + np.roll(middles, 1, 1)
        left_and_right = corners + np.roll(corners, -1, 2)
        map_NSS[:, ::step, half::step] = (above_and_below + left_and_right) / 4 + fresh_N3CC[:, 1]
        beside = middles + np.roll(middles, 1, 2)
        over_and_under = corners + np.roll(corners, -1, 1)
        map_NSS[:, half::step, ::step] = (beside + over_and_under) / 4 + fresh_N3CC[:, 2]
        step, reach = half, reach / decay
    map_NSS -= map_NSS.min((1, 2), keepdims=True)
    return np.asarray(map_NSS / map_NSS.max((1, 2), keepdims=True), np.float32)


def brightness(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Raise the value of every pixel, its largest channel, and leave hue and saturation: scale its channels alike."""
    del draws
    amount = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value_N1HW = pixels_NCHW.max(1, keepdims=True)
    raised_N1HW = np.minimum(value_N1HW + np.float32(amount), 1)
    factor_N1HW = raised_N1HW / np.maximum(value_N1HW, np.float32(1e-6))
    # black has no hue: it becomes grey
    brighter: Pixels = np.where(value_N1HW > 0, pixels_NCHW * factor_N1HW, raised_N1HW)
    return brighter
