"""Random numbers of an image, which depend on its position alone.

Shape suffixes: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.seeding import derive_seed

Pixels = NDArray[np.float32]
"""float32, N x C x H x W, in [0, 1]."""


def generators(seed: int, name: str, severity: int, positions_N: Sequence[int]) -> list[np.random.Generator]:
    """Return a generator for each image, seeded by the seed, the corruption, its severity and the image's position."""
    key = derive_seed(seed, f"corruption/{name}", severity)
    return [np.random.default_rng((key, int(position))) for position in positions_N]


def normals(draws: Sequence[np.random.Generator], *shape: int) -> NDArray[np.float32]:
    """Return standard normal numbers: float32, N x shape."""
    return np.stack([draw.standard_normal(shape, np.float32) for draw in draws])


def uniforms(
    draws: Sequence[np.random.Generator], low: float, high: float, *shape: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return numbers between low and high: float32, N x shape."""
    unit = np.stack([draw.random(shape, np.float32) for draw in draws])
    return unit * np.float32(high - low) + np.float32(low)
