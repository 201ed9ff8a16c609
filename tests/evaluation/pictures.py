"""Pictures to corrupt, and the draws that corrupt them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from cifarlab.evaluation.corrupting import CORRUPTIONS, corrupt
from cifarlab.evaluation.corrupting.draws import generators

SEVERITIES = range(1, 6)
BY_NAME = {one.name: one for one in CORRUPTIONS}


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Coloured blobs with edges and some texture, uint8, like small photographs more than like noise."""
    draw = np.random.default_rng(seed)
    rough = draw.random((count, 3, 5, 5))
    smooth = ndimage.zoom(rough, (1, 1, 6.4, 6.4), order=1)
    rows, columns = np.mgrid[:32, :32]
    for image in smooth:
        top, left, side = draw.integers(4, 16, 3)
        inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        image[:, inside] = draw.random(3)[:, None]
    smooth += draw.normal(0, 0.04, smooth.shape)
    return torch.from_numpy((np.clip(smooth, 0, 1) * 255).astype(np.uint8))


def run(name: str, images: torch.Tensor, severity: int, seed: int = 0, first: int = 0) -> torch.Tensor:
    return corrupt(images, BY_NAME[name], severity, seed=seed, positions_N=range(first, first + len(images)))


def draws(count: int, name: str = "test") -> list[np.random.Generator]:
    return generators(0, name, 1, range(count))


@pytest.fixture(name="images", scope="module")
def _images() -> torch.Tensor:
    return pictures(40)
