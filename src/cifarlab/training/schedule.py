"""The learning rate over time, as a share of its peak: a pure function of progress."""

from __future__ import annotations

import math

from cifarlab.config import Config, ScheduleConfig

_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_PEAK_AT = 0.3


def schedule_factor(config: ScheduleConfig, progress: float) -> float:
    """Return the learning rate's share of its peak.

    Plateau's drops depend on what validation showed; the training loop multiplies them in.

    Args:
        config: Which schedule.
        progress: Steps done over steps planned, in [0, 1).

    Returns:
        A factor in [0, 1].

    References:
        One-cycle: Smith and Topin, "Super-convergence", arXiv 1708.07120.
    """
    if config.name == "one_cycle":
        peak_at = config.warmup or _ONE_CYCLE_PEAK_AT
        if progress < peak_at:
            rise = 0.5 - 0.5 * math.cos(math.pi * progress / peak_at)
            return _ONE_CYCLE_START + (1 - _ONE_CYCLE_START) * rise
        return 0.5 + 0.5 * math.cos(math.pi * (progress - peak_at) / (1 - peak_at))
    if progress < config.warmup:
        return progress / config.warmup
    rest = (progress - config.warmup) / (1 - config.warmup)
    if config.name == "linear":
        return 1 - rest
    if config.name == "cosine":
        return 0.5 + 0.5 * math.cos(math.pi * rest)
    if config.name == "step":
        return config.decay ** sum(progress >= share for share in config.step_at)
    return 1.0


def training_size(config: Config, share: float) -> int:
    """Return the height and width of training images, in pixels, at a share of the run."""
    return next((size for until, size in config.train.low_resolution if share < until), config.data.image_size)
