"""Recipes of the systems this project succeeds: as their authors described them, and with today's training.

docs/predecessors.md tells where every setting comes from, what was published, and what differs here. All of them hold
out the standard tenth of the training images; the published ones trained on all and looked at test every epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cifarlab.config import (
    AugmentConfig,
    Config,
    ConvnetConfig,
    EvaluateConfig,
    MixconvConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

_LENET = ModelConfig(
    name="convnet",
    convnet=ConvnetConfig(stages=((1, 20), (1, 50)), kernel_size=5, padding=1, norm="none", hidden=(512, 256, 128)),
)
_SIXCONV = ModelConfig(
    name="convnet",
    convnet=ConvnetConfig(
        stages=((1, 32), (1, 64), (1, 128), (1, 256), (1, 256), (1, 512)),
        pool_after=(2, 4, 6),
        activation="gelu",
        hidden=(512, 256, 128),
        head_dropout=0.5,
    ),
)
_PARALLEL3 = ModelConfig(
    name="mixconv",
    mixconv=MixconvConfig(
        widths=(64, 128, 256),
        branches=3,
        mixing="sigmoid",
        mix_after="norm",
        pool_last=True,
        block_dropout=0.1,
        hidden=(),
    ),
)
_SIGMOID = ModelConfig(
    name="convnet",
    convnet=ConvnetConfig(stages=((3, 64), (3, 128), (3, 256)), activation="sigmoid", dropout=0.1, hidden=()),
)
_THREECONV = ModelConfig(
    name="convnet",
    convnet=ConvnetConfig(
        stages=((1, 32), (1, 64), (1, 128)),
        padding=0,
        pool_after=(2, 3),
        norm="none",
        hidden=(1024, 256),
        head_dropout=0.2,
    ),
)
# with neither momentum nor weight decay AdamW is RMSprop, whose averages it corrects in the first steps
_RMSPROP = OptimizerConfig(name="adamw", lr=1e-3, momentum=0.0, beta2=0.99, weight_decay=0.0)
_MUON = OptimizerConfig(name="muon", lr=0.1, momentum=0.6, head_lr=0.05, bias_lr=0.05, sgd_momentum=0.9)
_VIEWS = EvaluateConfig(views="flip_translate")


def _parallel5(width: int) -> ModelConfig:
    """Return five blocks of five branches, each branch with norm, activation and pooling of its own."""
    return ModelConfig(
        name="mixconv",
        mixconv=MixconvConfig(
            widths=(width,) * 5,
            branches=5,
            mix_after="pool",
            activation="leaky_relu",
            pool_last=True,
            hidden=(width,) * 3,
        ),
    )


def predecessor_lenet() -> Config:
    """Train the LeNet of Custom-Image-Classifier-for-CIFAR-10 as its notebook does; published: 71.6 %.

    Command: cifarlab train predecessor_lenet

    Measured: test accuracy 68.58 % (n = 3 seeds), 2026-11-22: docs/results/predecessor_lenet_cpu-intel-xeon-amx.json.

    References:
        frobbygunawan/Custom-Image-Classifier-for-CIFAR-10, CIFAR-10_Image_Classifier-STARTER.ipynb and README.md.
    """
    return Config(
        recipe="predecessor_lenet",
        model=_LENET,
        optimizer=OptimizerConfig(name="sgd", lr=0.005, momentum=0.9, weight_decay=0.0),
        schedule=ScheduleConfig(name="constant"),
        augment=AugmentConfig(flip="none", color_jitter=0.2),
        train=TrainConfig(epochs=10, batch_size=64),
    )


def lenet_today() -> Config:
    """Train the network of predecessor_lenet, for half as long, with today's means.

    Command: cifarlab train lenet_today

    Measured: test accuracy 74.75 % (n = 3 seeds) with test-time views, 2026-11-22:
    docs/results/lenet_today_cpu-intel-xeon-amx.json.
    """
    return Config(
        recipe="lenet_today",
        model=_LENET,
        optimizer=OptimizerConfig(name="sgd", lr=0.03),
        schedule=ScheduleConfig(name="one_cycle"),
        augment=AugmentConfig(flip="alternating", translate=2),
        train=TrainConfig(epochs=5, batch_size=128, label_smoothing=0.1),
        evaluate=_VIEWS,
    )


def predecessor_parallel5() -> Config:
    """Train the five blocks of parallel convolutions of mp-balaji as its notebook does; published: 88.51 %.

    Command: cifarlab train predecessor_parallel5

    Not measured yet: 38 PFLOP, a day or more on two CPU cores; predecessor_parallel5_short is the same, shorter.

    References:
        mp-balaji/CIFAR-10-Image-Classification-using-PyTorch, PyTorch_Code.ipynb (Advanced_Model), Summary_Report.pdf.
    """
    return Config(
        recipe="predecessor_parallel5",
        model=_parallel5(512),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.01),
        schedule=ScheduleConfig(name="constant"),
        augment=AugmentConfig(flip="random", translate=4),
        train=TrainConfig(epochs=35, batch_size=64),
    )


def predecessor_parallel5_short() -> Config:
    """Train predecessor_parallel5 at an eighth of its width for a seventh of its epochs: a 414th of its compute.

    Command: cifarlab train predecessor_parallel5_short

    Measured: test accuracy 73.68 % (n = 3 seeds), 2026-11-22:
    docs/results/predecessor_parallel5_short_cpu-intel-xeon-amx.json.
    """
    full = predecessor_parallel5()
    return replace(
        full, recipe="predecessor_parallel5_short", model=_parallel5(64), train=replace(full.train, epochs=5)
    )


def parallel5_today() -> Config:
    """Train the network of predecessor_parallel5_short, for half as long, with today's means.

    Command: cifarlab train parallel5_today

    Measured: test accuracy 83.45 % (n = 3 seeds) with test-time views, 2026-11-22:
    docs/results/parallel5_today_cpu-amd-epyc.json.
    """
    return Config(
        recipe="parallel5_today",
        model=_parallel5(64),
        optimizer=_MUON,
        schedule=ScheduleConfig(name="one_cycle"),
        augment=AugmentConfig(flip="alternating", translate=2),
        train=TrainConfig(epochs=2.5, batch_size=128, label_smoothing=0.1),
        evaluate=_VIEWS,
    )


def predecessor_sixconv() -> Config:
    """Train the improved ConvNet of InnocentKisoka as its program does; published: 78.02 %, asked for: 65 to 70 %.

    Command: cifarlab train predecessor_sixconv

    Measured: test accuracy 74.42 % (n = 3 seeds), 2026-11-22:
    docs/results/predecessor_sixconv_cpu-intel-xeon-amx.json.

    References:
        InnocentKisoka/Image-Classification-on-the-CIFAR-10-Dataset-Using-Convolutional-Neural-Networks, CNNs on
        CIFAR-10.py (ImprovedConvNet), CNNs on CIFAR-10_REPORT.pdf, README.md.
    """
    return Config(
        recipe="predecessor_sixconv",
        model=_SIXCONV,
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=1e-4),
        schedule=ScheduleConfig(name="constant"),
        augment=AugmentConfig(flip="none"),
        train=TrainConfig(epochs=6, batch_size=64),
    )


def sixconv_today() -> Config:
    """Train the network of predecessor_sixconv, for half as long, with today's means; no dropout for so few epochs.

    Command: cifarlab train sixconv_today

    Measured: test accuracy 81.33 % (n = 3 seeds) with test-time views, 2026-11-22:
    docs/results/sixconv_today_cpu-intel-xeon-amx.json.
    """
    return Config(
        recipe="sixconv_today",
        model=replace(_SIXCONV, convnet=replace(_SIXCONV.convnet, head_dropout=0.0)),
        optimizer=OptimizerConfig(name="sgd", lr=0.05),
        schedule=ScheduleConfig(name="one_cycle"),
        augment=AugmentConfig(flip="alternating", translate=2),
        train=TrainConfig(epochs=3, batch_size=128, label_smoothing=0.1),
        evaluate=_VIEWS,
    )


def predecessor_parallel3() -> Config:
    """Train CIFAR10-Img-Classification-Neural-Networks' improved network as its notebook does; published: 87.33 %.

    Command: cifarlab train predecessor_parallel3

    Not measured yet; predecessor_parallel3_short is the same, shorter.

    References:
        sruthisivakumar16/CIFAR10-Img-Classification-Neural-Networks, NNmodel.ipynb (ImprovedNN).
    """
    return Config(
        recipe="predecessor_parallel3",
        model=_PARALLEL3,
        optimizer=_RMSPROP,
        schedule=ScheduleConfig(name="plateau", decay=0.1, patience=5),
        augment=AugmentConfig(flip="random", translate=4, rotate=10.0),
        train=TrainConfig(epochs=50, batch_size=128),
    )


def predecessor_parallel3_short() -> Config:
    """Train predecessor_parallel3 for a fifth of its epochs; the rate drops at nine tenths, as in the published run.

    Command: cifarlab train predecessor_parallel3_short

    Measured: test accuracy 78.35 % (n = 3 seeds), 2026-11-22:
    docs/results/predecessor_parallel3_short_cpu-intel-xeon-amx.json.
    """
    return _short(predecessor_parallel3(), epochs=10)


def parallel3_today() -> Config:
    """Train the network of predecessor_parallel3, for a twentieth of its epochs, with today's means.

    Command: cifarlab train parallel3_today

    Measured: test accuracy 81.83 % (n = 3 seeds) with test-time views, 2026-11-22:
    docs/results/parallel3_today_cpu-amd-epyc.json.
    """
    return Config(
        recipe="parallel3_today",
        model=replace(_PARALLEL3, mixconv=replace(_PARALLEL3.mixconv, block_dropout=0.0)),
        optimizer=_MUON,
        schedule=ScheduleConfig(name="one_cycle"),
        augment=AugmentConfig(flip="alternating", translate=2),
        train=TrainConfig(epochs=2.5, batch_size=128, label_smoothing=0.1),
        evaluate=_VIEWS,
    )


def predecessor_sigmoid() -> Config:
    """Train CIFAR10-Img-Classification-Neural-Networks' improved network as its README tells; published: 87.33 %.

    Command: cifarlab train predecessor_sigmoid

    Not measured yet; predecessor_sigmoid_short is the same, shorter. Its notebook, from which the published figure
    comes, has another network: predecessor_parallel3.

    References:
        sruthisivakumar16/CIFAR10-Img-Classification-Neural-Networks, README.md; the rates are those of NNmodel.ipynb.
    """
    return replace(predecessor_parallel3(), recipe="predecessor_sigmoid", model=_SIGMOID)


def predecessor_sigmoid_short() -> Config:
    """Train predecessor_sigmoid for a fifth of its epochs; the rate drops at nine tenths.

    Command: cifarlab train predecessor_sigmoid_short

    Measured: test accuracy 67.19 % (n = 3 seeds), 2026-11-22:
    docs/results/predecessor_sigmoid_short_cpu-intel-xeon-amx.json.
    """
    return _short(predecessor_sigmoid(), epochs=10)


def sigmoid_today() -> Config:
    """Train the network of predecessor_sigmoid, for a twentieth of its epochs, with today's means.

    Command: cifarlab train sigmoid_today

    Measured: test accuracy 77.49 % (n = 3 seeds) with test-time views, 2026-11-22:
    docs/results/sigmoid_today_cpu-amd-epyc.json.
    """
    return Config(
        recipe="sigmoid_today",
        model=replace(_SIGMOID, convnet=replace(_SIGMOID.convnet, dropout=0.0)),
        optimizer=_MUON,
        schedule=ScheduleConfig(name="one_cycle"),
        augment=AugmentConfig(flip="alternating", translate=2),
        train=TrainConfig(epochs=2.5, batch_size=128, label_smoothing=0.1),
        evaluate=_VIEWS,
    )


def predecessor_threeconv() -> Config:
    """Train the network of CIFAR-10_Image_Classifier as its notebook does; published: 81.0 %, to beat: 70 %.

    Command: cifarlab train predecessor_threeconv

    Measured: test accuracy 81.53 % (n = 3 seeds), 2026-11-22:
    docs/results/predecessor_threeconv_cpu-intel-xeon-amx.json.

    References:
        tobi-199/CIFAR-10_Image_Classifier, CIFAR-10_Image_Classifier-STARTER_revised.ipynb and README.md.
    """
    return Config(
        recipe="predecessor_threeconv",
        model=_THREECONV,
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.0),
        schedule=ScheduleConfig(name="constant"),
        augment=AugmentConfig(flip="random", translate=4),
        train=TrainConfig(epochs=20, batch_size=32),
    )


def threeconv_today() -> Config:
    """Train the network of predecessor_threeconv, for half as long, with today's means.

    Command: cifarlab train threeconv_today

    Measured: test accuracy 82.72 % (n = 3 seeds) with test-time views, 2026-11-22:
    docs/results/threeconv_today_cpu-intel-xeon-amx.json.
    """
    return Config(
        recipe="threeconv_today",
        model=_THREECONV,
        optimizer=OptimizerConfig(name="sgd", lr=0.03),
        schedule=ScheduleConfig(name="one_cycle"),
        augment=AugmentConfig(flip="alternating", translate=2),
        train=TrainConfig(epochs=10, batch_size=128, label_smoothing=0.1),
        evaluate=_VIEWS,
    )


def _short(full: Config, epochs: int) -> Config:
    """Return a run of fewer epochs whose rate drops once, where it did in the published run: after 45 of 50 epochs."""
    return replace(
        full,
        recipe=f"{full.recipe}_short",
        schedule=ScheduleConfig(name="step", step_at=(0.9,), decay=0.1),
        train=replace(full.train, epochs=epochs),
    )


PREDECESSORS: dict[str, Callable[[], Config]] = {
    "predecessor_lenet": predecessor_lenet,
    "lenet_today": lenet_today,
    "predecessor_parallel5": predecessor_parallel5,
    "predecessor_parallel5_short": predecessor_parallel5_short,
    "parallel5_today": parallel5_today,
    "predecessor_sixconv": predecessor_sixconv,
    "sixconv_today": sixconv_today,
    "predecessor_parallel3": predecessor_parallel3,
    "predecessor_parallel3_short": predecessor_parallel3_short,
    "parallel3_today": parallel3_today,
    "predecessor_sigmoid": predecessor_sigmoid,
    "predecessor_sigmoid_short": predecessor_sigmoid_short,
    "sigmoid_today": sigmoid_today,
    "predecessor_threeconv": predecessor_threeconv,
    "threeconv_today": threeconv_today,
}
