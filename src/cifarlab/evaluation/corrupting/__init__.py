"""The 15 corruptions of CIFAR-10-C at five severities, made anew for images of about 32 x 32 pixels.

The severities are the published constants; the code is our own. What is drawn at random is drawn for each image from
its position in the split, so that the corruption of one image does not depend on those made with it. Images made here
are not those of the official files, digit by digit: other random numbers, and frost without its photographs.

Shape suffixes: N images, C channels, H height, W width.

References:
    Hendrycks and Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
    arXiv 1903.12261; the constants for 32 x 32 pixels are those of make_cifar_c.py in github.com/hendrycks/robustness.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cifarlab.evaluation.corrupting import blur, digital, noise, weather
from cifarlab.evaluation.corrupting.draws import Pixels, generators

__all__ = ["CORRUPTIONS", "FAMILIES", "NUM_SEVERITIES", "Corruption", "corrupt"]

NUM_SEVERITIES = 5
FAMILIES = ("noise", "blur", "weather", "digital")

_AT_ONCE = 500  # images, so that what is computed stays in the processor's cache
_ROUNDING = 2e-3  # of a level: pixels are cut off to whole levels, as the official ones are, but not by rounding errors


@dataclass(frozen=True)
class Corruption:
    """One corruption.

    Attributes:
        name: That of its official file.
        title: In words.
        family: One of FAMILIES.
        apply: From pixels (float32 in [0, 1], N x C x H x W), a severity (1..5) and N generators to pixels, which may
            lie a little outside of [0, 1].
    """

    name: str
    title: str
    family: str
    apply: Callable[[Pixels, int, Sequence[np.random.Generator]], Pixels]


CORRUPTIONS = (
    Corruption("gaussian_noise", "Gaussian noise", "noise", noise.gaussian_noise),
    Corruption("shot_noise", "shot noise", "noise", noise.shot_noise),
    Corruption("impulse_noise", "impulse noise", "noise", noise.impulse_noise),
    Corruption("defocus_blur", "defocus blur", "blur", blur.defocus_blur),
    Corruption("glass_blur", "glass blur", "blur", blur.glass_blur),
    Corruption("motion_blur", "motion blur", "blur", blur.motion_blur),
    Corruption("zoom_blur", "zoom blur", "blur", blur.zoom_blur),
    Corruption("snow", "snow", "weather", weather.snow),
    Corruption("frost", "frost", "weather", weather.frost),
    Corruption("fog", "fog", "weather", weather.fog),
    Corruption("brightness", "brightness", "weather", weather.brightness),
    Corruption("contrast", "low contrast", "digital", digital.contrast),
    Corruption("elastic_transform", "elastic distortion", "digital", digital.elastic_transform),
    Corruption("pixelate", "coarse pixels", "digital", digital.pixelate),
    Corruption("jpeg_compression", "JPEG compression", "digital", digital.jpeg_compression),
)


def corrupt(
    images_NCHW: torch.Tensor, corruption: Corruption, severity: int, *, seed: int, positions_N: Sequence[int]
) -> torch.Tensor:
    """Return images under a corruption.

    Args:
        images_NCHW: uint8, N x 3 x H x W; H and W at least 8.
        corruption: Which.
        severity: 1 (mild) to 5.
        seed: Of what is drawn at random.
        positions_N: The images' positions in their split; the draws for an image depend on its own alone.

    Returns:
        uint8, N x 3 x H x W.
    """
    assert 1 <= severity <= NUM_SEVERITIES
    done = []
    for start in range(0, len(images_NCHW), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        pixels_NCHW = images_NCHW[part].numpy().astype(np.float32) / np.float32(255)
        draws = generators(seed, corruption.name, severity, positions_N[part])
        corrupted_NCHW = corruption.apply(pixels_NCHW, severity, draws)
        levels_NCHW = np.clip(corrupted_NCHW, 0, 1) * np.float32(255) + np.float32(_ROUNDING)
        done.append(torch.from_numpy(levels_NCHW.astype(np.uint8)))
    return torch.cat(done)
