"""Corruptions: what each does to pixels, against second implementations; that draws depend on nothing but the image."""

from __future__ import annotations

import colorsys
import io
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import fft, ndimage

from cifarlab.evaluation.corrupting import CORRUPTIONS, FAMILIES, Corruption, blur, corrupt, digital, noise, weather
from cifarlab.evaluation.corrupting.draws import generators

SEVERITIES = range(1, 6)
BY_NAME = {one.name: one for one in CORRUPTIONS}
RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur"} | {
    "snow",
    "frost",
    "fog",
    "elastic_transform",
}


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


def grey(level: float, count: int = 4) -> torch.Tensor:
    return torch.full((count, 3, 32, 32), int(level), dtype=torch.uint8)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return pictures(40)


# --- all of them


def test_there_are_fifteen_in_four_families() -> None:
    assert len(CORRUPTIONS) == len(BY_NAME) == 15
    assert [sum(one.family == family for one in CORRUPTIONS) for family in FAMILIES] == [3, 4, 4, 4]


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


def test_a_corruption_is_described_in_words() -> None:
    for one in CORRUPTIONS:
        assert isinstance(one, Corruption)
        assert "_" not in one.title
