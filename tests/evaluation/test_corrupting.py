"""Corruptions: draws depend on nothing but the image; noise and blur against second implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from tests.evaluation.pictures import BY_NAME, SEVERITIES, _images, draws, pictures, run  # noqa: F401 fixtures

from cifarlab.evaluation.corrupting import CORRUPTIONS, FAMILIES, Corruption, blur, corrupt, noise

RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur"} | {
    "snow",
    "frost",
    "fog",
    "elastic_transform",
}


def grey(level: float, count: int = 4) -> torch.Tensor:
    return torch.full((count, 3, 32, 32), int(level), dtype=torch.uint8)


# --- all of them


def test_there_are_fifteen_in_four_families() -> None:
    assert len(CORRUPTIONS) == len(BY_NAME) == 15
    assert [sum(one.family == family for one in CORRUPTIONS) for family in FAMILIES] == [3, 4, 4, 4]


def test_a_corruption_is_described_in_words() -> None:
    for one in CORRUPTIONS:
        assert isinstance(one, Corruption)
        assert "_" not in one.title


@pytest.mark.parametrize("name", BY_NAME)
def test_bytes_in_bytes_out_the_same_at_every_call_and_changed(name: str, images: torch.Tensor) -> None:
    before = images.clone()
    for severity in SEVERITIES:
        corrupted = run(name, images, severity)
        assert corrupted.dtype == torch.uint8
        assert corrupted.shape == images.shape
        assert torch.equal(corrupted, run(name, images, severity))
        assert not torch.equal(corrupted, images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", BY_NAME)
def test_an_image_is_corrupted_alike_in_any_company(
    name: str, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = run(name, images, 3)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("cifarlab.evaluation.corrupting._AT_ONCE", 7)
    apart = corrupt(images[order], BY_NAME[name], 3, seed=0, positions_N=order.tolist())
    assert torch.equal(apart, together[order])


@pytest.mark.parametrize("name", BY_NAME)
def test_draws_differ_between_seeds_positions_and_severities_where_there_are_any(
    name: str, images: torch.Tensor
) -> None:
    same = images[:1].repeat(6, 1, 1, 1)
    corrupted = run(name, same, 4)
    others = run(name, same, 4, seed=1)
    if name in RANDOM:
        assert not torch.equal(corrupted, others)
        assert len({image.numpy().tobytes() for image in corrupted}) > 1
    else:
        assert torch.equal(corrupted, others)
        assert all(torch.equal(image, corrupted[0]) for image in corrupted)


ORDERED = set(BY_NAME) - {"elastic_transform", "frost", "glass_blur", "motion_blur"}


@pytest.mark.parametrize("name", BY_NAME)
def test_severity_moves_images_further_away(name: str) -> None:
    """Strictly, where every published constant grows with severity; else at least from the first to the last."""
    images = pictures(120, seed=5)
    far = [float((run(name, images, s).float() - images.float()).square().mean()) for s in SEVERITIES]
    if name in ORDERED:
        assert far == sorted(far)
        assert len(set(far)) == 5
    elif name != "elastic_transform":  # whose tilt of the whole becomes smaller as its distortion grows; see below
        assert far[4] > 1.2 * far[0]


@pytest.mark.parametrize("name", BY_NAME)
def test_other_sizes_are_taken_too(name: str) -> None:
    images = torch.randint(0, 256, (2, 3, 20, 27), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert run(name, images, 5).shape == images.shape


# --- noise


@pytest.mark.parametrize(("severity", "sd"), [(1, 0.04), (5, 0.10)])
def test_gaussian_noise_has_the_published_spread(severity: int, sd: float) -> None:
    pixels = np.full((200, 3, 32, 32), 0.5, np.float32)
    added = noise.gaussian_noise(pixels, severity, draws(200)) - 0.5
    assert added.std() == pytest.approx(sd, rel=0.01)
    assert abs(added.mean()) < 5 * sd / math.sqrt(added.size)


@pytest.mark.parametrize(("severity", "white"), [(1, 500), (3, 100), (5, 50)])
@pytest.mark.parametrize("level", [0.1, 0.8])
def test_shot_noise_has_the_variance_of_counted_light(severity: int, white: int, level: float) -> None:
    noisy = noise.shot_noise(np.full((100, 3, 32, 32), level, np.float32), severity, draws(100))
    assert noisy.mean() == pytest.approx(level, rel=0.01)
    assert noisy.var() == pytest.approx(level / white, rel=0.03)
    np.testing.assert_allclose(noisy * white, np.rint(noisy * white), atol=1e-3)


@pytest.mark.parametrize(("severity", "share"), [(1, 0.01), (5, 0.07)])
def test_impulse_noise_changes_the_published_share_half_to_white(severity: int, share: float) -> None:
    noisy = run("impulse_noise", grey(100, 100), severity)
    assert set(noisy.unique().tolist()) == {0, 100, 255}
    for level in (0, 255):
        assert float((noisy == level).double().mean()) == pytest.approx(share / 2, rel=0.05)


# --- blur


@pytest.mark.parametrize(("radius", "smoothing"), [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)])
def test_disk_kernels_sum_to_one_and_are_symmetric(radius: float, smoothing: float) -> None:
    kernel = blur.disk_kernel(radius, smoothing)
    assert kernel.sum() == pytest.approx(1)
    for turned in (kernel.T, kernel[::-1], kernel[:, ::-1]):
        np.testing.assert_allclose(turned, kernel, atol=1e-9)
    # the same by a convolution on a larger field
    offsets = np.arange(-8, 9)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(float)
    curve = np.exp(-np.array([1, 0, 1]) / (2 * smoothing**2))
    expected = ndimage.convolve(disk / disk.sum(), np.outer(curve, curve) / curve.sum() ** 2, mode="constant")
    reach = len(kernel) // 2
    np.testing.assert_allclose(kernel, expected[8 - reach : 9 + reach, 8 - reach : 9 + reach], atol=1e-6)
    assert expected.sum() == pytest.approx(kernel.sum())


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur_against_scipy(severity: int, images: torch.Tensor) -> None:
    radius, smoothing = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    kernel = blur.disk_kernel(radius, smoothing)
    pixels = images[:3].numpy() / np.float32(255)
    expected = ndimage.correlate(pixels, kernel[None, None], mode="mirror")
    np.testing.assert_allclose(blur.defocus_blur(pixels, severity, []), expected, atol=1e-6)


CONSTANT = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast", "elastic_transform", "pixelate")


@pytest.mark.parametrize("name", [*CONSTANT, "jpeg_compression"])
@pytest.mark.parametrize("level", [0, 1, 77, 254, 255])
def test_a_constant_image_stays_as_it_is(name: str, level: int) -> None:
    for severity in SEVERITIES:
        corrupted = run(name, grey(level), severity)
        assert int((corrupted.int() - level).abs().max()) <= (1 if name == "jpeg_compression" else 0)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_against_the_loop_it_stands_for(severity: int, images: torch.Tensor) -> None:
    sigma, rounds = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    pixels = images[:2].numpy() / np.float32(255)
    got = blur.glass_blur(pixels, severity, draws(2))
    for image, draw, result in zip(pixels, draws(2), got, strict=True):
        smoothed = ndimage.gaussian_filter(image, (0, sigma, sigma), mode="nearest", truncate=4.0)
        levels = np.floor(smoothed * 255 + 1e-3).transpose(1, 2, 0).copy()
        for _ in range(rounds):
            steps = draw.integers(-1, 1, (2, 32, 32))
            for h, w in itertools.product(range(31, 1, -1), range(31, 1, -1)):
                there = h + steps[0, h, w], w + steps[1, h, w]
                # meant as a swap; both sides are views of one array, and so it copies
                levels[h, w], levels[there] = levels[there], levels[h, w]
        expected = ndimage.gaussian_filter(levels / 255, (sigma, sigma, 0), mode="nearest", truncate=4.0)
        np.testing.assert_allclose(result.transpose(1, 2, 0), expected, atol=1e-6)


@pytest.mark.parametrize(("radius", "sigma"), [(6, 1), (6, 2), (9, 2.5), (14, 12)])
def test_trails_sum_to_one_and_fade(radius: float, sigma: float) -> None:
    weights = blur.trail_weights(radius, sigma)
    assert weights.sum() == pytest.approx(1)
    assert (np.diff(weights) < 0).all()
    assert len(weights) <= 2 * radius + 1
    full = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    np.testing.assert_allclose(weights, (full / full.sum())[: len(weights)], atol=1e-4)


@pytest.mark.parametrize("degrees", [-45.0, -17.3, 0.0, 30.0, -90.0])
def test_movement_against_plain_loops(degrees: float, images: torch.Tensor) -> None:
    pixels = images[:1, :, :12, :12].numpy() / np.float32(255)
    got = blur.move(pixels, 6, 2, np.array([degrees], np.float32))
    weights = blur.trail_weights(6, 2)
    expected = np.zeros((12, 12))
    for y, x in itertools.product(range(12), range(12)):
        for tap, weight in enumerate(weights):
            down = math.ceil(tap * math.sin(math.radians(degrees)) - 0.5)
            right = math.ceil(tap * math.cos(math.radians(degrees)) - 0.5)
            expected[y, x] += weight * pixels[0, 1, min(max(y + down, 0), 11), min(max(x + right, 0), 11)]
    np.testing.assert_allclose(got[0, 1], expected, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1.02, 1.13, 1.25, 1.75, 2.25])
def test_zoom_against_scipy(factor: float, images: torch.Tensor) -> None:
    image = images[0].numpy() / 255
    kept = math.ceil(32 / factor)
    first = (32 - kept) // 2
    middle = image[:, first : first + kept, first : first + kept]
    drawn_out = ndimage.zoom(middle, (1, factor, factor), order=1, mode="nearest")
    trim = (drawn_out.shape[1] - 32) // 2
    expected = drawn_out[:, trim : trim + 32, trim : trim + 32]
    np.testing.assert_allclose(blur.zoom(image[None].astype(np.float32), factor)[0], expected, atol=1e-5)
    np.testing.assert_allclose(blur.zoom_matrix(32, factor).sum(1), 1, atol=1e-6)
