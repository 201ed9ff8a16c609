"""Augmentation of whole batches, on the device the batch lies on: pure functions of images and drawn numbers.

:func:`augment_batch` draws the numbers and calls the others in order.

Shape suffixes: N images, C channels, H height, W width, K classes, R rows of all images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from cifarlab.config import AugmentConfig


def place_batch(
    images_NCHW: torch.Tensor, flip_N: torch.Tensor | None = None, shift_N2: torch.Tensor | None = None
) -> torch.Tensor:
    """Mirror left-right the images where flip_N is true, then shift every image by its own rows and columns.

    Borders are reflected without being repeated. Rows are copied whole and columns gathered within them, which is five
    times as fast as indexing pixel by pixel.

    Args:
        images_NCHW: Any dtype.
        flip_N: bool.
        shift_N2: int64, rows and columns, each smaller than the image; a positive shift takes pixels from below and
            from the right.
    """
    if flip_N is None and shift_N2 is None:
        return images_NCHW
    num, channels, height, width = images_NCHW.shape
    device = images_NCHW.device
    placed = images_NCHW
    columns_NW = torch.arange(width, device=device).expand(num, width)
    if shift_N2 is not None:
        rows_NH = _reflected(torch.arange(height, device=device) + shift_N2[:, :1], height)
        plane_NC = torch.arange(num * channels, device=device).view(num, channels) * height
        rows_R = (plane_NC[:, :, None] + rows_NH[:, None]).flatten()
        placed = images_NCHW.reshape(-1, width).index_select(0, rows_R).view(images_NCHW.shape)
        columns_NW = _reflected(columns_NW + shift_N2[:, 1:], width)
    if flip_N is not None:
        columns_NW = torch.where(flip_N[:, None], width - 1 - columns_NW, columns_NW)
    return placed.gather(3, columns_NW[:, None, None].expand_as(placed))


def _reflected(position: torch.Tensor, size: int) -> torch.Tensor:
    """Fold positions beyond 0 .. size-1 back in without repeating the border."""
    position = position.abs()
    return torch.where(position < size, position, 2 * (size - 1) - position)


def warp_batch(
    images_NCHW: torch.Tensor, angle_N: torch.Tensor, scale_N: torch.Tensor, offset_N2: torch.Tensor
) -> torch.Tensor:
    """Rotate and crop every image by its own figures, in one bilinear resampling, borders reflected.

    Args:
        images_NCHW: Floating point.
        angle_N: Radians, counter-clockwise.
        scale_N: Side of the window taken, as a share of the image's side.
        offset_N2: Centre of the window (x, y), in units of half the image's side, from the image's centre.
    """
    cos, sin = torch.cos(angle_N) * scale_N, torch.sin(angle_N) * scale_N
    rows = [torch.stack([cos, -sin, offset_N2[:, 0]], 1), torch.stack([sin, cos, offset_N2[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1).to(images_NCHW), list(images_NCHW.shape), align_corners=False)
    return F.grid_sample(images_NCHW, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def jitter_batch(images_NCHW: torch.Tensor, brightness_N: torch.Tensor, contrast_N: torch.Tensor) -> torch.Tensor:
    """Scale every image's contrast about its own mean, then its brightness; images in [0, 1], factors around 1."""
    mean = images_NCHW.mean((1, 2, 3), keepdim=True)
    contrasted = mean + (images_NCHW - mean) * contrast_N.view(-1, 1, 1, 1)
    return (contrasted * brightness_N.view(-1, 1, 1, 1)).clamp(0, 1)


def box_mask(size_HW: tuple[int, int], centre_N2: torch.Tensor, sides_2: tuple[int, int]) -> torch.Tensor:
    """Return N x 1 x H x W, true inside a box of the given sides around every centre (row, column); cut at borders."""
    height, width = size_HW
    rows = torch.arange(height, device=centre_N2.device) - (centre_N2[:, :1] - sides_2[0] // 2)
    columns = torch.arange(width, device=centre_N2.device) - (centre_N2[:, 1:] - sides_2[1] // 2)
    inside_rows = (rows >= 0) & (rows < sides_2[0])
    inside_columns = (columns >= 0) & (columns < sides_2[1])
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).unsqueeze(1)


def cutout_batch(images_NCHW: torch.Tensor, centre_N2: torch.Tensor, side: int) -> torch.Tensor:
    """Set one square of every image to the batch's mean colour.

    References:
        DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", arXiv 1708.04552.
    """
    mask = box_mask((images_NCHW.shape[2], images_NCHW.shape[3]), centre_N2, (side, side))
    return torch.where(mask, images_NCHW.mean((0, 2, 3), keepdim=True), images_NCHW)


def mixup_batch(
    images_NCHW: torch.Tensor, targets_NK: torch.Tensor, partner_N: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend every image and target with its partner's: share of its own, the rest of the partner's.

    References:
        Zhang et al., "mixup: beyond empirical risk minimization", arXiv 1710.09412.
    """
    images = torch.lerp(images_NCHW[partner_N], images_NCHW, share)
    return images, torch.lerp(targets_NK[partner_N], targets_NK, share)


def cutmix_batch(
    images_NCHW: torch.Tensor, targets_NK: torch.Tensor, partner_N: torch.Tensor, centre_2: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste one box of the partner into every image; targets are mixed by the area that remains.

    The box has the image's proportions and, before it is cut at the border, the area 1 - share. Its centre lies in main
    memory, where its area can be had without waiting for a GPU.

    References:
        Yun et al., "CutMix: regularization strategy to train strong classifiers", arXiv 1905.04899.
    """
    height, width = images_NCHW.shape[-2:]
    side = math.sqrt(1 - share)
    mask = box_mask((height, width), centre_2.view(1, 2), (round(height * side), round(width * side)))
    kept = 1 - mask.float().mean().item()
    images = torch.where(without_waiting(mask, images_NCHW.device), images_NCHW[partner_N], images_NCHW)
    return images, torch.lerp(targets_NK[partner_N], targets_NK, kept)


def without_waiting(numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy drawn numbers from main memory to a device.

    To a GPU from memory that the system cannot move: from any other the processor would wait until the GPU has done all
    it was told before, at every step.
    """
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)


@dataclass(frozen=True)
class Part:
    """Which rows of a batch of how many images."""

    rows: slice
    batch_size: int


def looks_at_whole_batch(config: AugmentConfig) -> bool:
    """Return whether what becomes of an image depends on the others: on partners, or on the batch's mean colour."""
    return bool(config.cutout or config.mixup or config.cutmix)


def augment_batch(
    images_NCHW: torch.Tensor,
    labels_N: torch.Tensor,
    flip_N: torch.Tensor | None,
    config: AugmentConfig,
    num_classes: int,
    generator: torch.Generator,
    part: Part | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment one training batch, or a part of one to what it would be in the whole.

    Args:
        images_NCHW: uint8, on the device of the run.
        labels_N: int64.
        flip_N: bool, which images to mirror, where the order of epochs decides it; None otherwise.
        config: What to do.
        num_classes: K.
        generator: CPU generator; all numbers are drawn from it, in a fixed order.
        part: Where the images lie in a larger batch, if they do; not for what :func:`looks_at_whole_batch`.

    Returns:
        Images, float32 in [0, 1], and targets: labels (int64, N), or where images are mixed probabilities (float32,
        N x K).
    """
    device, part = images_NCHW.device, part or Part(slice(None), len(images_NCHW))

    def uniform(*shape: int) -> torch.Tensor:
        return without_waiting(torch.rand(part.batch_size, *shape, generator=generator)[part.rows], device)

    if config.flip == "random":
        flip_N = uniform() < 0.5
    shift_N2 = None
    if config.translate:
        shift = torch.randint(-config.translate, config.translate + 1, (part.batch_size, 2), generator=generator)
        shift_N2 = without_waiting(shift[part.rows], device)
    images = place_batch(images_NCHW, flip_N, shift_N2).float() / 255
    if config.crop_scale < 1 or config.rotate:
        angle = (2 * uniform() - 1) * math.radians(config.rotate)
        scale = (config.crop_scale + (1 - config.crop_scale) * uniform()).sqrt()
        images = warp_batch(images, angle, scale, (2 * uniform(2) - 1) * (1 - scale).unsqueeze(1))
    if config.color_jitter:
        factors = 1 + (2 * uniform(2) - 1) * config.color_jitter
        images = jitter_batch(images, factors[:, 0], factors[:, 1])
    if config.cutout:
        size_2 = without_waiting(torch.tensor(images.shape[-2:]), device)
        images = cutout_batch(images, (uniform(2) * size_2).long(), config.cutout)
    if config.mixup or config.cutmix:
        return _mix(images, F.one_hot(labels_N, num_classes).float(), config, generator)
    return images, labels_N


def _mix(
    images: torch.Tensor, targets: torch.Tensor, config: AugmentConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply mixup or CutMix to the whole batch, one of them by coin where both are set."""
    coin = torch.rand((), generator=generator).item()
    use_cutmix = config.cutmix > 0 and (config.mixup == 0 or coin < 0.5)
    share = _draw_beta(config.cutmix if use_cutmix else config.mixup, generator)
    partner = without_waiting(torch.randperm(len(images), generator=generator), images.device)
    if not use_cutmix:
        return mixup_batch(images, targets, partner, share)
    size = torch.tensor(images.shape[-2:])
    centre = (torch.rand(2, generator=generator) * size).long()
    return cutmix_batch(images, targets, partner, centre, share)


def _draw_beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha) as a ratio of two Gamma draws, the only form that takes a generator."""
    first, second = torch._standard_gamma(torch.tensor([alpha, alpha], dtype=torch.float64), generator).tolist()
    return first / (first + second) if first + second > 0 else 0.5
