"""The published constants at every severity, each in a second implementation.

Blur out of focus and glass have theirs in test_corrupting.py; brightness, fog, contrast, coarse pixels and JPEG in
test_corrupting_weather_digital.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from tests.evaluation.pictures import draws, pictures

from cifarlab.evaluation.corrupting import blur, digital, noise, weather

PIXELS = pictures(3, seed=9).numpy() / np.float32(255)
CONSTANT = np.full((100, 3, 32, 32), 0.4, np.float32)


def table(*rows: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("severity", "constants"), list(enumerate(rows, 1)))


@table(0.04, 0.06, 0.08, 0.09, 0.10)
def test_gaussian_noise(severity: int, constants: float) -> None:
    added = noise.gaussian_noise(CONSTANT, severity, draws(100)) - 0.4
    assert added.std() == pytest.approx(constants, rel=0.01)


@table(500, 250, 100, 75, 50)
def test_shot_noise(severity: int, constants: float) -> None:
    assert noise.shot_noise(CONSTANT, severity, draws(100)).var() == pytest.approx(0.4 / constants, rel=0.03)


@table(0.01, 0.02, 0.03, 0.05, 0.07)
def test_impulse_noise(severity: int, constants: float) -> None:
    changed = noise.impulse_noise(CONSTANT, severity, draws(100)) != np.float32(0.4)
    assert changed.mean() == pytest.approx(constants, rel=0.05)


@table((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
def test_motion_blur(severity: int, constants: tuple[float, float]) -> None:
    angles = np.array([draw.random(1, np.float32)[0] * 90 - 45 for draw in draws(3)], np.float32)
    expected = blur.move(PIXELS, *constants, angles)
    np.testing.assert_allclose(blur.motion_blur(PIXELS, severity, draws(3)), expected, atol=1e-6)


@table(1.06, 1.11, 1.16, 1.21, 1.26)
def test_zoom_blur(severity: int, constants: float) -> None:
    total, steps = PIXELS.astype(np.float64), np.arange(1, constants, 0.01)
    for factor in steps:
        kept = int(np.ceil(32 / factor))
        first = (32 - kept) // 2
        middle = PIXELS[:, :, first : first + kept, first : first + kept]
        drawn_out = ndimage.zoom(middle, (1, 1, factor, factor), order=1, mode="nearest")
        trim = (drawn_out.shape[2] - 32) // 2
        total += drawn_out[:, :, trim : trim + 32, trim : trim + 32]
    np.testing.assert_allclose(blur.zoom_blur(PIXELS, severity, []), total / (len(steps) + 1), atol=1e-5)


@table(
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
def test_snow(severity: int, constants: tuple[float, ...]) -> None:
    loc, scale, size, threshold, radius, sigma, kept = constants
    got = weather.snow(PIXELS, severity, draws(3))
    for image_CHW, snowed_CHW, draw in zip(PIXELS, got, draws(3), strict=True):
        layer = blur.zoom(draw.standard_normal((1, 1, 32, 32), np.float32) * scale + loc, size)
        layer = np.where(layer < threshold, 0, np.clip(layer, 0, 1)).astype(np.float32)
        angle = draw.random(1, np.float32) * 90 - 135
        flakes = blur.move(layer, radius, sigma, angle)[0, 0]
        grey = 0.299 * image_CHW[0] + 0.587 * image_CHW[1] + 0.114 * image_CHW[2]
        whitened = kept * image_CHW + (1 - kept) * np.maximum(image_CHW, 1.5 * grey + 0.5)
        np.testing.assert_allclose(snowed_CHW, whitened + flakes + flakes[::-1, ::-1], atol=1e-5)


@table((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
def test_frost(severity: int, constants: tuple[float, float]) -> None:
    kept, laid_over = constants
    got = weather.frost(PIXELS, severity, draws(3))
    for image_CHW, frosted_CHW, draw in zip(PIXELS, got, draws(3), strict=True):
        texture = weather.frost_textures(256)[draw.integers(5)]
        top, left = draw.integers(0, (224, 224))
        piece = texture[:, top : top + 32, left : left + 32]
        np.testing.assert_allclose(frosted_CHW, kept * image_CHW + laid_over * piece, atol=1e-5)


@table((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
def test_elastic_distortion(severity: int, constants: tuple[float, float, float]) -> None:
    """A tilt that takes three moved points back, borders reflected; then rubber, borders repeated."""
    far, alike, corners = (32 * constant for constant in constants)
    got = digital.elastic_transform(PIXELS, severity, draws(3))
    rows, columns = np.mgrid[:32, :32].astype(float)
    for image_CHW, result_CHW, draw in zip(PIXELS, got, draws(3), strict=True):
        before = np.array([[26, 26], [26, 6], [6, 6]], float)
        after = before + (draw.random((3, 2), np.float32) * 2.0 - 1) * corners
        coefficients, *_ = np.linalg.lstsq(np.c_[after, np.ones(3)], before, rcond=None)
        x, y = (columns * c[0] + rows * c[1] + c[2] for c in coefficients.T)
        expected = np.stack([ndimage.map_coordinates(one, [y, x], order=1, mode="mirror") for one in image_CHW])
        if far:
            field = draw.random((2, 32, 32), np.float32) * 2.0 - 1
            down, right = (ndimage.gaussian_filter(one, alike, mode="reflect", truncate=3) * far for one in field)
            places = [rows + down, columns + right]
            expected = np.stack([ndimage.map_coordinates(one, places, order=1, mode="reflect") for one in expected])
        np.testing.assert_allclose(result_CHW, expected, atol=1e-4)
