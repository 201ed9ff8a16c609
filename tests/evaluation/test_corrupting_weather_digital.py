"""Corruptions by weather and by digital means: what each does to pixels, against second implementations."""

from __future__ import annotations

import colorsys
import io
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import fft, ndimage
from tests.evaluation.pictures import SEVERITIES, _images, draws, run  # noqa: F401 fixtures

from cifarlab.evaluation.corrupting import digital, weather

# --- weather


def test_brightness_against_the_standard_library(images: torch.Tensor) -> None:
    pixels = images[:2, :, ::5, ::5].numpy() / np.float32(255)
    pixels[0, :, 0, 0] = 0  # black has no hue
    for severity, amount in zip(SEVERITIES, (0.05, 0.1, 0.15, 0.2, 0.3), strict=True):
        got = weather.brightness(pixels, severity, [])
        for n, y, x in np.ndindex(2, *pixels.shape[2:]):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixels[n, :, y, x].tolist())
            expected = colorsys.hsv_to_rgb(hue, saturation, min(value + amount, 1))
            np.testing.assert_allclose(got[n, :, y, x], expected, atol=1e-5)


def plain_plasma(noise_P: Sequence[float], side: int, decay: float) -> np.ndarray:
    """Diamond-square point by point, in the order in which the map takes its random numbers."""
    grid, numbers, step, reach = np.zeros((side, side)), iter(noise_P), side, 100.0
    while step >= 2:
        half = step // 2
        places = list(itertools.product(range(0, side, step), range(0, side, step)))
        for y, x in places:
            around = [(y, x), (y + step, x), (y, x + step), (y + step, x + step)]
            mean = sum(grid[a % side, b % side] for a, b in around) / 4
            grid[y + half, x + half] = mean + reach**2 * next(numbers)
        for shift_y, shift_x in ((0, half), (half, 0)):
            for y, x in places:
                y_new, x_new = y + shift_y, x + shift_x
                around = [(y_new - half, x_new), (y_new + half, x_new), (y_new, x_new - half), (y_new, x_new + half)]
                mean = sum(grid[a % side, b % side] for a, b in around) / 4
                grid[y_new, x_new] = mean + reach**2 * next(numbers)
        step, reach = half, reach / decay
    grid -= grid.min()
    return grid / grid.max()


@pytest.mark.parametrize("decay", [3, 1.75])
def test_clouds_against_diamond_square_point_by_point(decay: float) -> None:
    maps = weather.plasma(draws(3), 16, decay)
    for one, draw in zip(maps, draws(3), strict=True):
        numbers = (draw.random(256, np.float32) * np.float32(2) - np.float32(1)).tolist()
        np.testing.assert_allclose(one, plain_plasma(numbers, 16, decay), atol=1e-5)
        assert (one.min(), one.max()) == (0, 1)


def test_fog_keeps_within_the_brightest_pixel(images: torch.Tensor) -> None:
    pixels = images.numpy() / np.float32(255)
    for severity, amount in zip(SEVERITIES, (0.2, 0.5, 0.75, 1, 1.5), strict=True):
        fogged = weather.fog(pixels, severity, draws(len(pixels)))
        brightest = pixels.max((1, 2, 3), keepdims=True)
        assert (fogged <= brightest + 1e-6).all()
        # the same cloud lies over all channels
        cloud = fogged * (brightest + amount) / brightest - pixels
        np.testing.assert_allclose(cloud[:, 0], cloud[:, 2], atol=1e-5)
        assert cloud.min() >= -1e-5
        assert cloud.max() <= amount + 1e-5


def test_frost_lays_a_piece_of_a_texture_over_the_image(images: torch.Tensor) -> None:
    pixels = images.numpy() / np.float32(255)
    textures = weather.frost_textures(256)
    assert textures.shape == (5, 3, 256, 256)
    assert textures.min() >= 0
    assert textures.max() <= 1
    assert 0.3 < textures.mean() < 0.7
    assert all(textures[n].std() > 0.05 for n in range(5))
    piece = (weather.frost(pixels, 5, draws(len(pixels))) - 0.75 * pixels) / 0.45
    draw = draws(1)[0]
    texture, (top, left) = draw.integers(5), draw.integers(0, (224, 224))
    np.testing.assert_allclose(piece[0], textures[texture, :, top : top + 32, left : left + 32], atol=1e-5)


def test_snow_brightens_and_its_flakes_are_alike_in_all_channels(images: torch.Tensor) -> None:
    pixels = images.numpy() / np.float32(255)
    for severity, kept in zip(SEVERITIES, (0.95, 0.9, 0.9, 0.85, 0.8), strict=True):
        grey_N1HW = (pixels * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdims=True)
        whitened = kept * pixels + (1 - kept) * np.maximum(pixels, 1.5 * grey_N1HW + 0.5)
        flakes = weather.snow(pixels, severity, draws(len(pixels))) - whitened
        np.testing.assert_allclose(flakes[:, 0], flakes[:, 1], atol=1e-5)
        np.testing.assert_allclose(flakes, flakes[:, :, ::-1, ::-1], atol=1e-5)  # each also falls turned by half
        assert flakes.min() > -1e-5
        assert flakes.max() > 0.01


# --- digital


@pytest.mark.parametrize(("severity", "kept"), list(zip(SEVERITIES, (0.75, 0.5, 0.4, 0.3, 0.15), strict=True)))
def test_contrast_against_plain_arithmetic(severity: int, kept: float, images: torch.Tensor) -> None:
    got = run("contrast", images[:3], severity)
    for image, result in zip(images[:3].double(), got, strict=True):
        for channel, expected in zip(image, result, strict=True):
            mean = float(channel.sum()) / 1024
            cut_off = (channel - mean) * kept + mean - expected.double()
            assert cut_off.min() > -0.01
            assert cut_off.max() < 1


@pytest.mark.parametrize(("severity", "side"), list(zip(SEVERITIES, (30, 28, 27, 24, 20), strict=True)))
def test_pixelate_against_averages_of_boxes(severity: int, side: int, images: torch.Tensor) -> None:
    def boxes(length: int, to: int) -> np.ndarray:
        """A new pixel is the mean of the old ones whose middles lie in its box, of the nearest where none does."""
        matrix = np.zeros((to, length))
        reach = max(length / to, 1) / 2
        for new in range(to):
            middle = (new + 0.5) * length / to
            inside = [old for old in range(length) if middle - reach <= old + 0.5 < middle + reach]
            matrix[new, inside] = 1 / len(inside)
        return matrix

    there, back = boxes(32, side), boxes(side, 32)
    whole = back @ there
    expected = whole @ images[:4].double().numpy() @ whole.T
    got = run("pixelate", images[:4], severity).numpy()
    assert np.abs(got - expected).max() <= 2  # Pillow rounds to whole levels four times


# ITU-T T.81, annex K, table K.1: luminance
_LUMINANCE = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
"""


@pytest.mark.parametrize(("severity", "quality"), list(zip(SEVERITIES, (80, 65, 58, 50, 40), strict=True)))
def test_jpeg_of_grey_images_against_the_transform(severity: int, quality: int, images: torch.Tensor) -> None:
    table = np.array(_LUMINANCE.split(), float).reshape(8, 8)
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = np.clip(np.floor((table * scale + 50) / 100), 1, 255)
    grey_NHW = images[:5, 0].numpy()
    got = run("jpeg_compression", torch.from_numpy(grey_NHW)[:, None].repeat(1, 3, 1, 1), severity)
    blocks = grey_NHW.reshape(5, 4, 8, 4, 8).transpose(0, 1, 3, 2, 4) - 128.0
    rounded = np.rint(fft.dctn(blocks, axes=(-2, -1), norm="ortho") / table) * table
    decoded = np.clip(np.rint(fft.idctn(rounded, axes=(-2, -1), norm="ortho") + 128), 0, 255)
    expected = decoded.transpose(0, 1, 3, 2, 4).reshape(5, 32, 32)
    difference = np.abs(got.numpy() - expected[:, None])
    assert difference.mean() < 0.5  # libjpeg's transform is in integers: it rounds a coefficient the other way at times
    assert (difference <= 1).mean() > 0.9


def test_jpeg_of_colours_is_what_a_file_would_hold(images: torch.Tensor) -> None:
    file = io.BytesIO()
    Image.fromarray(images[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=40)
    expected = np.asarray(Image.open(io.BytesIO(file.getvalue()))).transpose(2, 0, 1)
    np.testing.assert_array_equal(run("jpeg_compression", images[:1], 5)[0].numpy(), expected)


def test_a_tilt_without_reach_reads_every_pixel_where_it_is() -> None:
    rows, columns = digital._tilted(draws(2), 32, 32, 0.0)
    y, x = np.mgrid[:32, :32]
    np.testing.assert_allclose(rows.numpy(), np.broadcast_to(y, (2, 32, 32)), atol=1e-9)
    np.testing.assert_allclose(columns.numpy(), np.broadcast_to(x, (2, 32, 32)), atol=1e-9)


def test_a_tilt_takes_the_moved_points_back() -> None:
    rows, columns = digital._tilted(draws(1), 32, 32, 2.0)
    after = np.array([[26, 26], [26, 6], [6, 6]]) + (
        draws(1)[0].random((3, 2), np.float32) * np.float32(4) - np.float32(2)
    )
    for (x_after, y_after), (x_before, y_before) in zip(after, [(26, 26), (26, 6), (6, 6)], strict=True):
        for grid, before in ((rows[0], y_before), (columns[0], x_before)):
            found = ndimage.map_coordinates(grid.numpy(), [[y_after], [x_after]], order=1)
            assert found[0] == pytest.approx(before, abs=1e-6)


def test_rubber_moves_smoothly_by_the_published_curve() -> None:
    for alike in (0.2, 0.06, 0.03):
        shifts = digital._smooth_shifts(draws(50), 32, 32, alike * 32)
        for got, draw in zip(shifts[:3, 0], draws(3), strict=True):
            field = draw.random((2, 32, 32), np.float32)[0] * 2.0 - 1
            expected = ndimage.gaussian_filter(field.astype(float), alike * 32, mode="reflect", truncate=3)
            np.testing.assert_allclose(got, expected, atol=1e-6)


def test_rubber_is_bent_more_with_severity() -> None:
    """By how much neighbours are moved apart, in pixels."""
    bent = []
    for far, alike in ((0.05, 0.2), (0.08, 0.06), (0.1, 0.04), (0.1, 0.03)):
        shifts = digital._smooth_shifts(draws(50), 32, 32, alike * 32) * far * 32
        bent.append(float(np.abs(np.diff(shifts, axis=3)).mean()))
    assert bent == sorted(bent)
    assert bent[-1] > 5 * bent[0]
