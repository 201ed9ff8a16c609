"""Reading between pixels, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from cifarlab.evaluation.resampling import fold, sample_bilinear


@pytest.mark.parametrize(("border", "scipy_mode"), [("reflect", "mirror"), ("symmetric", "reflect")])
def test_against_scipy_far_beyond_the_border_too(border: str, scipy_mode: str) -> None:
    draw = np.random.default_rng(0)
    images = draw.random((3, 2, 9, 11))
    rows, columns = draw.uniform(-25, 30, (3, 6, 7)), draw.uniform(-30, 35, (3, 6, 7))
    got = sample_bilinear(torch.from_numpy(images), torch.from_numpy(rows), torch.from_numpy(columns), border)
    for n, channel in np.ndindex(3, 2):
        expected = ndimage.map_coordinates(images[n, channel], [rows[n], columns[n]], order=1, mode=scipy_mode)
        np.testing.assert_allclose(got[n, channel].numpy(), expected, atol=1e-12)


def test_one_set_of_positions_serves_all_images() -> None:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 7
    together = sample_bilinear(images, rows, columns)
    apart = torch.cat([sample_bilinear(images[n : n + 1], rows, columns) for n in range(4)])
    assert torch.equal(together, apart)


@pytest.mark.parametrize(("border", "expected"), [("reflect", "cbabcba"), ("symmetric", "baabccb")])
def test_fold_goes_on_as_the_words_say(border: str, expected: str) -> None:
    assert "".join("abc"[i] for i in fold(torch.arange(-2, 5), 3, border).tolist()) == expected


def test_a_line_of_one_pixel_is_that_pixel() -> None:
    for border in ("reflect", "symmetric"):
        assert fold(torch.arange(-3, 4), 1, border).tolist() == [0] * 7
