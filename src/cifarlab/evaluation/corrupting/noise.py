"""Noise: of the amplifier, of counted light, of broken pixels; each colour channel on its own.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cifarlab.evaluation.corrupting.draws import Pixels, normals, uniforms


def gaussian_noise(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Add normal noise of the same standard deviation everywhere."""
    sd = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return pixels_NCHW + np.float32(sd) * normals(draws, *pixels_NCHW.shape[1:])


def shot_noise(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Count photons: Poisson numbers whose mean is the brightness times the count of full white."""
    white = (500, 250, 100, 75, 50)[severity - 1]
    counts = [draw.poisson(pixels_CHW * white) for draw, pixels_CHW in zip(draws, pixels_NCHW, strict=True)]
    return (np.stack(counts) / white).astype(np.float32)


def impulse_noise(pixels_NCHW: Pixels, severity: int, draws: Sequence[np.random.Generator]) -> Pixels:
    """Set a share of the values to black or white, half each."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    lot_NCHW = uniforms(draws, 0, 1, *pixels_NCHW.shape[1:])
    whitened = np.where(lot_NCHW >= 1 - share / 2, np.float32(1), pixels_NCHW)
    return np.where(lot_NCHW < share / 2, np.float32(0), whitened)
