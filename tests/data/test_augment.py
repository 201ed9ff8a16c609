"""Augmentation against slow, obvious versions, and by its properties."""

import math

import pytest
import torch
from torch.nn import functional as F

from cifarlab.config import AugmentConfig
from cifarlab.data import augment


@pytest.fixture
def images():
    return torch.randint(0, 256, (12, 3, 10, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_flip_mirrors_exactly_the_chosen(images):
    chosen = torch.arange(12) % 3 == 0
    flipped = augment.place_batch(images, chosen)
    for image, out, flip in zip(images, flipped, chosen, strict=True):
        assert torch.equal(out, image.flip(-1) if flip else image)


def test_translate_equals_padding_and_slicing(images):
    shifts = torch.randint(-3, 4, (12, 2), generator=generator())
    shifted = augment.place_batch(images, shift_N2=shifts)
    padded = F.pad(images.float(), (3, 3, 3, 3), mode="reflect").to(torch.uint8)
    for index, (dy, dx) in enumerate(shifts.tolist()):
        assert torch.equal(shifted[index], padded[index, :, 3 + dy : 13 + dy, 3 + dx : 17 + dx])


def test_mirror_images_are_shifted_after_they_were_mirrored(images):
    shifts = torch.randint(-3, 4, (12, 2), generator=generator())
    chosen = torch.arange(12) % 2 == 0
    both = augment.place_batch(images, chosen, shifts)
    assert torch.equal(both, augment.place_batch(augment.place_batch(images, chosen), shift_N2=shifts))


def test_warp_without_change_is_the_identity(images):
    x = images.float() / 255
    one, zero = torch.ones(12), torch.zeros(12)
    torch.testing.assert_close(augment.warp_batch(x, zero, one, torch.zeros(12, 2)), x, atol=1e-5, rtol=0)


def test_warp_by_a_right_angle_rotates_counter_clockwise():
    x = torch.rand(2, 3, 8, 8, generator=generator())
    turned = augment.warp_batch(x, torch.full((2,), math.pi / 2), torch.ones(2), torch.zeros(2, 2))
    torch.testing.assert_close(turned, torch.rot90(x, 1, (2, 3)), atol=1e-5, rtol=0)


def test_warp_crops_the_window_it_is_told():
    x = torch.rand(1, 1, 8, 8, generator=generator())
    # half the side, centred a quarter of the image to the right and down: the lower right quadrant
    window = augment.warp_batch(x, torch.zeros(1), torch.tensor([0.5]), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(F.avg_pool2d(window, 2)[..., 1:-1, 1:-1], x[..., 5:7, 5:7], atol=0.26, rtol=0)
    assert abs(window.mean() - x[..., 4:, 4:].mean()) < 0.05


def test_jitter_changes_brightness_and_contrast_as_told():
    x = torch.rand(4, 3, 6, 6, generator=generator()) * 0.2 + 0.4
    brightness, contrast = torch.tensor([1.0, 1.2, 1.0, 0.8]), torch.tensor([1.0, 1.0, 0.5, 1.5])
    out = augment.jitter_batch(x, brightness, contrast)
    torch.testing.assert_close(out.mean((1, 2, 3)), x.mean((1, 2, 3)) * brightness)
    torch.testing.assert_close(out.flatten(1).std(1), x.flatten(1).std(1) * brightness * contrast)
    assert torch.equal(
        augment.jitter_batch(torch.ones(1, 3, 2, 2), torch.tensor([2.0]), torch.ones(1)).max(), torch.tensor(1.0)
    )


def test_cutout_covers_one_square_with_the_mean():
    x = torch.rand(5, 3, 9, 9, generator=generator())
    centres = torch.tensor([[4, 4], [0, 0], [8, 8], [2, 6], [4, 4]])
    out = augment.cutout_batch(x, centres, 3)
    changed = (out != x).any(1)
    assert changed.flatten(1).sum(1).tolist() == [9, 4, 4, 9, 9]
    assert changed[0, 3:6, 3:6].all()
    torch.testing.assert_close(out[0, :, 4, 4], x.mean((0, 2, 3)))


def test_mixup_is_linear_in_images_and_targets():
    x, t = torch.rand(6, 3, 4, 4, generator=generator()), torch.eye(6)
    partner = torch.tensor([1, 2, 3, 4, 5, 0])
    images, targets = augment.mixup_batch(x, t, partner, 0.3)
    torch.testing.assert_close(images, 0.3 * x + 0.7 * x[partner])
    torch.testing.assert_close(targets, 0.3 * t + 0.7 * t[partner])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 1.0])
def test_cutmix_mixes_targets_by_the_pixels_that_remain(share):
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 8, 8)
    partner = torch.tensor([1, 2, 3, 4, 5, 0])
    images, targets = augment.cutmix_batch(x, torch.eye(6), partner, torch.tensor([1, 5]), share)
    own = (images == x).float().mean((1, 2, 3))
    torch.testing.assert_close(targets.diagonal(), own)
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    if share == 0.75:
        assert 0.7 <= own[0] < 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_draws_have_the_right_moments(alpha):
    g = generator(7)
    draws = torch.tensor([augment._draw_beta(alpha, g) for _ in range(4000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert draws.min() >= 0
    assert draws.max() <= 1
    assert abs(draws.mean() - 0.5) < 4 * math.sqrt(variance / 4000)
    assert abs(draws.var() - variance) < 0.1 * variance


ALL = AugmentConfig(translate=2, crop_scale=0.5, rotate=20, cutout=4, mixup=0.3, cutmix=1.0, color_jitter=0.3)


def test_batch_depends_on_the_generator_alone(images):
    labels = torch.arange(12) % 3
    first, again, other = (augment.augment_batch(images, labels, None, ALL, 3, generator(s)) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_batch_stays_in_range_and_does_not_touch_its_input(images):
    before, labels = images.clone(), torch.arange(12) % 3
    for seed in range(8):
        out, targets = augment.augment_batch(images, labels, None, ALL, 3, generator(seed))
        assert out.dtype == torch.float32
        assert 0 <= out.min() <= out.max() <= 1
        torch.testing.assert_close(targets.sum(1), torch.ones(12))
    assert torch.equal(images, before)


def test_no_augmentation_only_rescales(images):
    labels = torch.arange(12) % 3
    out, targets = augment.augment_batch(images, labels, None, AugmentConfig(flip="none"), 3, generator())
    assert torch.equal(out, images.float() / 255)
    assert torch.equal(targets, labels)


def test_random_flip_takes_about_half(images):
    many = images[:1].expand(2000, -1, -1, -1)
    labels = torch.zeros(2000, dtype=torch.int64)
    out, _ = augment.augment_batch(many, labels, None, AugmentConfig(flip="random"), 3, generator())
    same = (out == many.float() / 255).flatten(1).all(1)
    assert abs(same.float().mean() - 0.5) < 0.05
