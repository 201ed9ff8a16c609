"""Presets: studies that answer the questions people bring, each small enough for two CPU cores.

Every preset says what it asks, on which recipe, and what was shortened so that all its trials together take at most
about 40 minutes on two cores. Settings that shorten count for the preset's own recipe only: with another recipe
(``cifarlab study --preset activations fast90``) the arms are the same and the recipe stays as long as it is.

The classic course network ``convnet`` is trained here on images of 24 pixels, where it costs half as much as at 32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cifarlab.config import Config
from cifarlab.errors import ConfigError, UsageError
from cifarlab.experiments.ablation import ablation_arms
from cifarlab.experiments.arms import expand_grid, make_arm, study_base
from cifarlab.experiments.fields import idle_reason, resolve_name, value_of, with_values
from cifarlab.experiments.study import Arm, StudySpec
from cifarlab.recipes import load_recipe

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Preset:
    """A study by name.

    Attributes:
        question: What it answers.
        shortened: What was shortened, in words; '' for nothing.
        recipe: Recipe it is made for.
        seeds: Trials of each arm.
        arms: From the base configuration to what is compared.
        settings: Plain values by full field name that its own recipe gets.
    """

    question: str
    shortened: str
    recipe: str
    seeds: int
    arms: Callable[[Config], tuple[Arm, ...]]
    settings: Fields = field(default_factory=dict)


def _vary(name: str, *values: Any) -> Callable[[Config], tuple[Arm, ...]]:
    return lambda config: expand_grid([(resolve_name(name, config), values)], config)


def _listed(arms: Mapping[str, Fields]) -> Callable[[Config], tuple[Arm, ...]]:
    return lambda config: tuple(make_arm(label, dict(fields), config) for label, fields in arms.items())


_SMALL: Fields = {"data.image_size": 24}

_NO_REGULARISER: Fields = {
    "optimizer.weight_decay": 0.0,
    "model.dropout": 0.0,
    "model.norm": "none",
    "train.label_smoothing": 0.0,
    "augment.flip": "none",
    "augment.translate": 0,
}
_REGULARISERS: dict[str, Fields] = {
    "weight decay": {"optimizer.weight_decay": 5e-4},
    "dropout": {"model.dropout": 0.1},
    "batch norm": {"model.norm": "batch"},
    "label smoothing": {"train.label_smoothing": 0.1},
    "augmentation": {"augment.flip": "random", "augment.translate": 2},
}


_OTHER_REGULARISERS: Fields = {
    "model.convnet.head_dropout": -1.0,  # as after the stages
    "model.mixconv.block_dropout": 0.0,
    "train.ema": 0.0,
    "augment.crop_scale": 1.0,
    "augment.rotate": 0.0,
    "augment.cutout": 0,
    "augment.mixup": 0.0,
    "augment.cutmix": 0.0,
    "augment.color_jitter": 0.0,
}
"""What no arm adds, and every arm is without where the recipe has it."""


def _regularisers(config: Config) -> tuple[Arm, ...]:
    others = {
        name: absent
        for name, absent in _OTHER_REGULARISERS.items()
        if not idle_reason(name, config) and value_of(config, name) != absent
    }
    none = {**_NO_REGULARISER, **others}
    everything = {name: value for fields in _REGULARISERS.values() for name, value in fields.items()}
    chosen = {"none": {}, **_REGULARISERS, "all": everything}
    return _listed({label: {**none, **fields} for label, fields in chosen.items()})(config)


_OPTIMIZERS: dict[str, tuple[tuple[float, ...], Fields]] = {
    "sgd": ((0.02, 0.05, 0.125), {"optimizer.momentum": 0.9, "optimizer.weight_decay": 5e-4}),
    "adamw": ((0.001, 0.0025, 0.006), {"optimizer.momentum": 0.9, "optimizer.weight_decay": 0.05}),
    "muon": (
        (0.05, 0.125, 0.3),
        {
            "optimizer.momentum": 0.6,
            "optimizer.sgd_momentum": 0.9,
            "optimizer.head_lr": 0.05,
            "optimizer.bias_lr": 0.05,
            "optimizer.weight_decay": 5e-4,
        },
    ),
}
"""Peak rates a factor of 2.5 apart around each optimiser's usual one, and its other settings."""


def _optimizers(config: Config) -> tuple[Arm, ...]:
    return tuple(
        make_arm(f"{name} lr={rate:g}", {"optimizer.name": name, "optimizer.lr": rate, **fields}, config)
        for name, (rates, fields) in _OPTIMIZERS.items()
        for rate in rates
    )


def _batch_sizes(config: Config) -> tuple[Arm, ...]:
    """Scale the learning rate with the batch, from the pair the configuration has."""
    rate = config.optimizer.lr / config.train.batch_size
    sizes = (64, 128, 256, 512, 1024)
    return tuple(
        Arm(f"{size}, lr={rate * size:.2g}", {"train.batch_size": size, "optimizer.lr": float(f"{rate * size:.2g}")})
        for size in sizes
    )


def _learning_rates(config: Config) -> tuple[Arm, ...]:
    """Half-decades around the configuration's learning rate."""
    rates = [float(f"{config.optimizer.lr * factor:.1g}") for factor in (0.06, 0.2, 0.6, 2.0, 6.0)]
    return expand_grid([("optimizer.lr", rates)], config)


_ARCHITECTURES: dict[str, Fields] = {
    "conv-pool-conv": {"model.name": "convnet", "model.stages": [[1, 32], [1, 64]], "model.pool_last": False},
    "deeper convnet": {"model.name": "convnet", "model.stages": [[2, 32], [2, 64], [2, 128]]},
    "mixconv": {"model.name": "mixconv", "model.widths": [32, 64, 128]},
    "resnet20": {"model.name": "resnet", "model.variant": "resnet20"},
    "speednet": {"model.name": "speednet", "model.widths": [32, 128, 128], "model.activation": "silu"},
}
_REFERENCE = "deeper convnet"


def _architectures(config: Config) -> tuple[Arm, ...]:
    """Give every network the configuration's epochs, and then as many as the reference's compute pays for.

    What a recipe has that not all of these networks can take is left out.
    """
    epochs = config.train.epochs
    equal = [
        make_arm(f"{label} ({epochs:g} epochs)", {**fields, **_cleared(fields["model.name"], config)}, config)
        for label, fields in _ARCHITECTURES.items()
    ]
    flops = dict(zip(_ARCHITECTURES, (_flops_per_image(config, arm) for arm in equal), strict=True))
    same_compute = [
        Arm(f"{label} (equal compute)", {**arm.overrides, "train.epochs": round(epochs * flops[_REFERENCE] / own, 3)})
        for (label, own), arm in zip(flops.items(), equal, strict=True)
        if label != _REFERENCE  # it is the same at both
    ]
    return (*equal, *same_compute)


def _cleared(family: str, config: Config) -> dict[str, Any]:
    """Return the fields of a recipe that would not go with an arm's network, at their defaults."""
    names = ["train.low_resolution"]  # a head for one size cannot take it
    if family == "convnet":  # they belong to the recipe's own stages
        names += ["model.convnet.kernel_size", "model.convnet.padding", "model.convnet.pool_after"]
    defaults = {name: value_of(Config(), name) for name in names}
    return {name: default for name, default in defaults.items() if value_of(config, name) != default}


def _flops_per_image(config: Config, arm: Arm) -> float:
    import torch

    from cifarlab.models import build_model
    from cifarlab.models.compute import freeze_as_trained, mean_over_run, training_flops_per_image

    own = with_values(config, arm.overrides)
    with torch.device("meta"):
        model = build_model(own.model, 10, own.data.image_size)
    freeze_as_trained(model, own.train)
    return mean_over_run(own.train, own.data.image_size, lambda size: training_flops_per_image(model, size))


PRESETS: dict[str, Preset] = {
    "architectures": Preset(
        question="Which network learns most from the same number of epochs, and which from the same compute?",
        shortened="images of 24 pixels, 3 epochs; all networks share one optimiser, schedule and augmentation",
        recipe="convnet",
        seeds=4,
        arms=_architectures,
        settings={**_SMALL, "train.epochs": 3.0},
    ),
    "activations": Preset(
        question="Which activation function is best in the classic network?",
        shortened="images of 24 pixels, 5 epochs",
        recipe="convnet",
        seeds=5,
        arms=_vary("model.activation", "relu", "gelu", "silu", "tanh", "sigmoid"),
        settings={**_SMALL, "train.epochs": 5.0},
    ),
    "regularisers": Preset(
        question="What helps most against overfitting on few images: each measure alone, or all together?",
        shortened="images of 24 pixels; 25 epochs of 5,000 training images, because few images are overfitted soonest",
        recipe="convnet",
        seeds=5,
        arms=_regularisers,
        # without normalisation the usual rate diverges, and all arms have to share one
        settings={
            **_SMALL,
            "data.train_limit": 5000,
            "train.epochs": 25.0,
            "train.checkpoint_epochs": 5,
            "optimizer.lr": 0.01,
            "optimizer.grad_clip": 1.0,
        },
    ),
    "optimisers": Preset(
        question="Which optimiser is best, each at the best of three learning rates?",
        shortened="images of 24 pixels, 4 epochs, 3 seeds; three rates for each, for with one rate it is luck who wins",
        recipe="convnet",
        seeds=3,
        arms=_optimizers,
        settings={**_SMALL, "train.epochs": 4.0},
    ),
    "batch-size": Preset(
        question="What does a larger batch cost in accuracy, when the learning rate grows with it?",
        shortened="images of 24 pixels, 5 epochs",
        recipe="convnet",
        seeds=5,
        arms=_batch_sizes,
        settings={**_SMALL, "train.epochs": 5.0},
    ),
    "learning-rate": Preset(
        question="How sensitive is the accuracy to the learning rate?",
        shortened="images of 24 pixels, 5 epochs",
        recipe="convnet",
        seeds=5,
        arms=_learning_rates,
        settings={**_SMALL, "train.epochs": 5.0},
    ),
    "seeds": Preset(
        question="How much does the accuracy of one recipe vary from seed to seed?",
        shortened="",
        recipe="fast70",
        seeds=20,
        arms=lambda config: (Arm(config.recipe, {}),),
    ),
    "ablation": Preset(
        question="Which ingredient of the recipe matters: what is lost without each of them?",
        shortened="3 of 5 epochs; 10 % held out for validation instead of 2 %",
        recipe="fast90",
        seeds=5,
        arms=ablation_arms,
        settings={"train.epochs": 3.0, "data.val_fraction": 0.1},
    ),
}


def preset_spec(name: str, *, recipe: Config | None = None, settings: Fields | None = None) -> StudySpec:
    """Return the study of a preset.

    Args:
        name: Name of the preset.
        recipe: Configuration to use instead of the preset's own, which is taken as it is.
        settings: Plain values by full field name that win over the preset's.

    Raises:
        UsageError: If there is no such preset, or it does not fit the recipe.
    """
    import difflib

    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"unknown preset {name!r}; {hint}presets are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    base = with_values(load_recipe(preset.recipe), preset.settings) if recipe is None else recipe
    base, _ = study_base(with_values(base, settings or {}))
    try:
        arms = preset.arms(base)
    except ConfigError as error:
        raise UsageError(f"preset {name} does not fit the recipe {base.recipe}: {error}") from error
    full_name = name if recipe is None else f"{name}-{base.recipe}"
    return StudySpec(name=full_name, question=preset.question, base=base, arms=arms, seeds=preset.seeds)
