"""Ablation: a recipe, and the recipe minus one ingredient at a time, as far as fields of Config can express it."""

from __future__ import annotations

from typing import Any

from cifarlab.config import Config
from cifarlab.experiments.fields import value_of
from cifarlab.experiments.study import Arm

_WITHOUT: tuple[tuple[str, str, Any], ...] = (
    ("low resolution", "train.low_resolution", []),
    ("label smoothing", "train.label_smoothing", 0.0),
    ("weight averaging", "train.ema", 0.0),
    ("weight decay", "optimizer.weight_decay", 0.0),
    ("gradient clipping", "optimizer.grad_clip", 0.0),
    ("flip", "augment.flip", "none"),
    ("shifts", "augment.translate", 0),
    ("resized crops", "augment.crop_scale", 1.0),
    ("rotation", "augment.rotate", 0.0),
    ("cutout", "augment.cutout", 0),
    ("mixup", "augment.mixup", 0.0),
    ("CutMix", "augment.cutmix", 0.0),
    ("colour jitter", "augment.color_jitter", 0.0),
    ("a schedule", "schedule.name", "constant"),
    ("normalisation", "model.{family}.norm", "none"),
)
"""Name of an ingredient, its field, and the value that stands for its absence."""

_DROPOUTS = {"dropout": (0.0,), "head_dropout": (0.0, -1.0), "block_dropout": (0.0,)}
"""Fields of the networks, and the values at which they add nothing of their own."""

_SGD_INSTEAD_OF_MUON = {"optimizer.name": "sgd", "optimizer.momentum": 0.9, "optimizer.lr": 0.1}
"""A usual rate for networks with batch norm; it was not tuned, so this arm may lose more than it has to."""


def ablation_arms(config: Config) -> tuple[Arm, ...]:
    """Return the recipe as it is, and an arm for every ingredient that it has and can be left out.

    Whitening and the initialisation of speednet are part of the network, so no arm is without them; where the bias of
    the whitening layer is frozen early, one arm trains it throughout.
    """
    arms = [Arm(f"{config.recipe} as it is", {})]
    for name, template, absent in _WITHOUT:
        field = template.format(family=config.model.name)
        if _has(config, field) and value_of(config, field) != absent:
            arms.append(Arm(f"without {name}", {field: absent}))
    dropouts = {f"model.{config.model.name}.{name}": absent for name, absent in _DROPOUTS.items()}
    present = [name for name, absent in dropouts.items() if _has(config, name) and value_of(config, name) not in absent]
    if present:
        arms.append(Arm("without dropout", dict.fromkeys(present, 0.0)))
    if config.schedule.warmup and config.schedule.name != "one_cycle":  # where it is the position of the peak
        arms.append(Arm("without warm-up", {"schedule.warmup": 0.0}))
    if config.augment.flip == "alternating":
        arms.append(Arm("flips by coin", {"augment.flip": "random"}))
    if config.optimizer.name == "muon":
        arms.append(Arm("SGD instead of Muon", dict(_SGD_INSTEAD_OF_MUON)))
    if config.model.name == "speednet" and config.train.freeze_whitening < config.train.epochs:
        arms.append(Arm("whitening bias never frozen", {"train.freeze_whitening": config.train.epochs}))
    return tuple(arms)


def _has(config: Config, field: str) -> bool:
    try:
        value_of(config, field)
    except KeyError:
        return False
    return True
