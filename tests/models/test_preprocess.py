"""Preprocessing: scale, size, statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cifarlab.models.preprocess import Preprocess


def random_images(count: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_fit_agrees_with_numpy() -> None:
    images = random_images(20, 16) // torch.tensor([1, 2, 4], dtype=torch.uint8).view(1, 3, 1, 1)
    preprocess = Preprocess(16)
    preprocess.fit(images)
    pixels = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(preprocess.mean.flatten(), pixels.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(preprocess.std.flatten(), pixels.std((0, 2, 3)), rtol=1e-3)


def test_output_is_the_standardised_image() -> None:
    images = random_images(4, 8)
    preprocess = Preprocess(8)
    preprocess.fit(images)
    mean, std = preprocess.mean.numpy(), preprocess.std.numpy()
    np.testing.assert_allclose(preprocess(images), (images.numpy() / 255 - mean) / std, atol=1e-5)
    assert preprocess(images).dtype == torch.float32


def test_constant_channel_does_not_divide_by_zero() -> None:
    preprocess = Preprocess(8)
    images = torch.full((4, 3, 8, 8), 7, dtype=torch.uint8)
    preprocess.fit(images)
    assert preprocess(images).abs().max() < 1e-3


def test_resizing_keeps_the_mean_and_averages_when_shrinking() -> None:
    images = random_images(3, 32)
    shrunk = Preprocess(8)(images)
    assert shrunk.shape == (3, 3, 8, 8)
    torch.testing.assert_close(shrunk.mean((2, 3)), Preprocess(32)(images).mean((2, 3)), atol=0.05, rtol=0)
    # without antialiasing the noise would keep most of its variance; averaging sixteen pixels and more removes it
    assert shrunk.var() < 0.1 * Preprocess(32)(images).var()


def test_image_size_may_be_lowered_for_a_while() -> None:
    preprocess = Preprocess(32)
    preprocess.image_size = 24
    assert preprocess(random_images(2, 32)).shape == (2, 3, 24, 24)


def test_statistics_are_saved_with_the_weights() -> None:
    fitted, fresh = Preprocess(8), Preprocess(8)
    fitted.fit(random_images(4, 8))
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(random_images(2, 8)), fitted(random_images(2, 8)))
    assert not list(fitted.parameters())


@pytest.mark.parametrize("size", [8, 17, 24, 40])
def test_resizing_is_antialiased_bilinear_interpolation(size: int) -> None:
    images = random_images(3, 32)[..., :28]
    preprocess = Preprocess(size)
    preprocess.mean.zero_()
    preprocess.std.fill_(1)
    expected = F.interpolate(images / 255, (size, size), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(preprocess(images), expected, atol=1e-6, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(preprocess(images), expected, atol=1e-6, rtol=1e-5)
