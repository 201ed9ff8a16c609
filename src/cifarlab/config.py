"""Config: everything that decides what a run does, as frozen dataclasses.

A field is a flag is a YAML key: ``Config.optimizer.lr``, ``--optimizer.lr`` and ``optimizer: {lr: …}`` are one thing.
The string below a field is its ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cifarlab.errors import ConfigError

Activation = Literal["relu", "gelu", "silu", "elu", "leaky_relu", "tanh", "sigmoid"]
Norm = Literal["none", "batch", "group", "layer"]
Pool = Literal["max", "average", "stride"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, at what size, and how they are split."""

    dataset: Literal["cifar10", "cifar100"] = "cifar10"
    """Public data set; ignored when folder or csv is given."""
    folder: str = ""
    """Image folder: root/class/*.png, or root/train, root/val and root/test with such folders in them."""
    csv: str = ""
    """CSV file with the columns path and label (and, if wanted, split)."""
    image_size: int = 32
    """Height and width in pixels to which the images of a folder or CSV are brought."""
    resize: Literal["squash", "crop", "letterbox"] = "squash"
    """How an image that is not square becomes so: squash it, crop its centre, or pad it."""
    corrupt: Literal["refuse", "skip"] = "refuse"
    """What to do with an image that cannot be read: refuse the data set, or skip the image and say so."""
    val_fraction: float = 0.1
    """Share of the training images held out for validation, stratified by class; 0 trains on all of them."""
    test_fraction: float = 0.1
    """Share held out as test set where a folder or CSV brings none of its own."""
    split_seed: int = 0
    """Seed of the split; independent of the training seed, so that several seeds share one split."""
    train_limit: int = 0
    """Train on so many images only, stratified by class; 0 means all."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(not (self.folder and self.csv), "data.folder and data.csv exclude each other; give one of them")
        _require(self.image_size >= 8, f"data.image_size must be at least 8 pixels, not {self.image_size}")
        _require(0 <= self.val_fraction < 0.9, f"data.val_fraction must lie in [0, 0.9), not {self.val_fraction}")
        _require(0 <= self.test_fraction < 0.9, f"data.test_fraction must lie in [0, 0.9), not {self.test_fraction}")
        _require(self.train_limit >= 0, f"data.train_limit must not be negative, not {self.train_limit}")


@dataclass(frozen=True, kw_only=True)
class ConvnetConfig:
    """The classic course network: stages of convolutions, pooling, a fully connected head."""

    stages: tuple[tuple[int, int], ...] = ((2, 32), (2, 64), (2, 128))
    """One pair per stage: number of convolutions, width in channels."""
    kernel_size: int = 3
    """Height and width of every filter; odd."""
    padding: int = -1
    """Rows and columns of zeros around the input of every convolution; -1: as many as keep the size."""
    activation: Activation = "relu"
    """Non-linearity after every convolution and hidden layer."""
    norm: Norm = "batch"
    """Normalisation between convolution and activation."""
    dropout: float = 0.0
    """Share of activations zeroed after every stage and hidden layer while training."""
    head_dropout: float = -1.0
    """The same after hidden layers alone; -1: as after the stages."""
    pool: Pool = "max"
    """How a stage halves the image: max or average pooling, or a stride of two in its last convolution."""
    pool_last: bool = True
    """Whether the last stage is pooled too; without it, two stages are 'conv-pool-conv'."""
    pool_after: tuple[int, ...] = ()
    """Stages, counted from 1, after which the image is halved, whatever pool_last says; empty: after every one."""
    head: Literal["flatten", "average"] = "flatten"
    """What reaches the head: all positions, or their average."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the hidden fully connected layers; none for a linear head."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(len(self.stages) > 0, "model.convnet.stages needs at least one pair: convolutions, width")
        _require(min(map(min, self.stages)) >= 1, "model.convnet.stages must be pairs of positive numbers")
        _require(min(self.hidden, default=1) >= 1, f"model.convnet.hidden must be positive numbers, not {self.hidden}")
        odd = self.kernel_size % 2 == 1 <= self.kernel_size
        _require(odd, f"model.convnet.kernel_size must be odd and positive, not {self.kernel_size}")
        _require(-1 <= self.padding < self.kernel_size, "model.convnet.padding must be -1, or below kernel_size")
        _require(0 <= self.dropout < 1, f"model.convnet.dropout must lie in [0, 1), not {self.dropout}")
        right = self.head_dropout == -1 or 0 <= self.head_dropout < 1
        _require(right, f"model.convnet.head_dropout must be -1 or lie in [0, 1), not {self.head_dropout}")
        _require(set(self.pool_after) <= set(range(1, len(self.stages) + 1)), "model.convnet.pool_after names no stage")


@dataclass(frozen=True, kw_only=True)
class MixconvConfig:
    """Blocks of parallel convolutions, summed with weights computed from the input's channel means."""

    widths: tuple[int, ...] = (64, 128, 256)
    """Output channels of each of the K blocks."""
    branches: int = 4
    """L, the number of parallel convolutions in a block."""
    kernel_size: int = 3
    """Height and width of every filter; odd."""
    mixing: Literal["softmax", "sigmoid", "raw"] = "softmax"
    """What turns the fully connected layer's output into mixing weights."""
    mix_after: Literal["conv", "norm", "activation", "pool"] = "conv"
    """Step of a block after which the branches are summed; up to there each has its own norm, activation, pooling."""
    residual: bool = False
    """Add a block's input to its output (through a 1x1 convolution where the widths differ)."""
    norm: Norm = "batch"
    """Normalisation of the mixed output."""
    activation: Activation = "relu"
    """Non-linearity after the normalisation."""
    pool: Literal["max", "average", "stride", "none"] = "max"
    """How the image is halved between blocks."""
    pool_last: bool = False
    """Whether the image is pooled after the last block too, before the average."""
    block_dropout: float = 0.0
    """Share of activations zeroed at the end of every block, before a pooling between blocks, while training."""
    dropout: float = 0.0
    """Share of activations zeroed before every fully connected layer of the output block while training."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the hidden layers of the output block; none for a linear one."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(len(self.widths) > 0, "model.mixconv.widths needs at least one block")
        _require(self.branches >= 1, f"model.mixconv.branches must be at least 1, not {self.branches}")
        _require(min(self.widths + self.hidden) >= 1, "model.mixconv.widths and hidden must be positive numbers")
        odd = self.kernel_size % 2 == 1 <= self.kernel_size
        _require(odd, f"model.mixconv.kernel_size must be odd and positive, not {self.kernel_size}")
        shares = self.dropout, self.block_dropout
        _require(0 <= min(shares) <= max(shares) < 1, f"model.mixconv dropouts must lie in [0, 1), not {shares}")
        _require(not (self.residual and self.mix_after != "conv"), "model.mixconv.residual needs mix_after conv")
        pools = self.pool in ("max", "average") or not (self.pool_last or self.mix_after == "pool")
        _require(pools, "model.mixconv.pool must be max or average where pool_last or mix_after ask for pooling")


@dataclass(frozen=True, kw_only=True)
class ResnetConfig:
    """Residual networks with a stem chosen by input size."""

    variant: Literal["resnet18", "resnet34", "resnet50", "resnet20", "resnet56", "wrn16", "wrn28", "wrn40"] = "resnet18"
    """ResNet-18/34/50 (four stages), ResNet-20/56 (three narrow stages), or a wide ResNet of that depth."""
    width_factor: int = 1
    """Multiplies every width; wrn28 with 10 is WRN-28-10."""
    stem: Literal["auto", "cifar", "imagenet"] = "auto"
    """3x3 without pooling (cifar), 7x7 and pooling (imagenet), or by image size: cifar below 96 pixels."""
    dropout: float = 0.0
    """Dropout between the convolutions of a wide block, before the classifier elsewhere."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(self.width_factor >= 1, f"model.resnet.width_factor must be at least 1, not {self.width_factor}")
        _require(0 <= self.dropout < 1, f"model.resnet.dropout must lie in [0, 1), not {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class SpeednetConfig:
    """The whitened speed-run network."""

    widths: tuple[int, int, int] = (64, 256, 256)
    """Channels of the three groups."""
    convs: Literal[1, 2, 3] = 2
    """Convolutions in a group; with three, the last two form a residual pair."""
    whiten_kernel: int = 2
    """Height and width of the whitening filters."""
    whiten_stride: Literal[1, 2] = 1
    """Step of the whitening filters; with 2 they halve the image and the first group does not pool."""
    whiten_channels: int = 24
    """Output channels of the whitening layer: the strongest patch components and their negatives."""
    activation: Activation = "gelu"
    """Non-linearity."""
    bn_momentum: float = 0.4
    """Weight of the newest batch in the running statistics of batch norm."""
    logit_scale: float = 1 / 9
    """Factor on the logits."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(min(self.widths) >= 8, f"model.speednet.widths must be at least 8 each, not {self.widths}")
        _require(self.whiten_kernel >= 2, f"model.speednet.whiten_kernel must be at least 2, not {self.whiten_kernel}")
        most = 6 * self.whiten_kernel**2
        _require(
            self.whiten_channels % 2 == 0 and 2 <= self.whiten_channels <= most,
            f"model.speednet.whiten_channels must be even and at most {most} for filters of {self.whiten_kernel} "
            f"pixels, not {self.whiten_channels}",
        )
        _require(0 < self.bn_momentum <= 1, f"model.speednet.bn_momentum must lie in (0, 1], not {self.bn_momentum}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network; only the section of the chosen one counts."""

    name: Literal["speednet", "convnet", "mixconv", "resnet"] = "speednet"
    """Network family."""
    init: str = ""
    """Run folder whose weights start this run (fine-tuning); layers whose shape differs start afresh."""
    speednet: SpeednetConfig = field(default_factory=SpeednetConfig)
    convnet: ConvnetConfig = field(default_factory=ConvnetConfig)
    mixconv: MixconvConfig = field(default_factory=MixconvConfig)
    resnet: ResnetConfig = field(default_factory=ResnetConfig)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients become steps."""

    name: Literal["sgd", "adamw", "muon"] = "sgd"
    """SGD with Nesterov momentum, AdamW, or Muon for filters with SGD for the rest."""
    lr: float = 0.1
    """Peak learning rate; for muon, that of the filters."""
    momentum: float = 0.9
    """Momentum of sgd and muon; first beta of adamw."""
    beta2: float = 0.999
    """Second beta of adamw."""
    weight_decay: float = 5e-4
    """L2 penalty of sgd (and of muon's SGD part); decoupled decay of adamw. Norms and biases are exempt."""
    head_lr: float = 0.67
    """Muon only: peak SGD learning rate of the last layer's weights."""
    bias_lr: float = 0.05
    """Muon only: peak SGD learning rate of biases and norms."""
    sgd_momentum: float = 0.6
    """Muon only: Nesterov momentum of its SGD part."""
    grad_clip: float = 0.0
    """Largest global gradient norm; 0 means no clipping."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(self.lr > 0, f"optimizer.lr must be positive, not {self.lr}")
        rates = self.head_lr >= 0 and self.bias_lr >= 0
        _require(rates, "optimizer.head_lr and optimizer.bias_lr must not be negative")
        _require(0 <= self.momentum < 1, f"optimizer.momentum must lie in [0, 1), not {self.momentum}")
        _require(0 <= self.sgd_momentum < 1, f"optimizer.sgd_momentum must lie in [0, 1), not {self.sgd_momentum}")
        _require(0 <= self.beta2 < 1, f"optimizer.beta2 must lie in [0, 1), not {self.beta2}")
        _require(self.weight_decay >= 0, f"optimizer.weight_decay must not be negative, not {self.weight_decay}")
        _require(self.grad_clip >= 0, f"optimizer.grad_clip must not be negative, not {self.grad_clip}")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over time, as a share of its peak."""

    name: Literal["constant", "linear", "cosine", "one_cycle", "step", "plateau"] = "cosine"
    """Shape after the warm-up; linear and cosine end at zero, one_cycle rises and falls, plateau watches val/loss."""
    warmup: float = 0.0
    """Share of all steps in which the rate rises linearly from zero; for one_cycle the position of the peak."""
    step_at: tuple[float, ...] = (0.5, 0.75)
    """Schedule step: shares of the run after which the rate drops."""
    decay: float = 0.1
    """Schedules step and plateau: factor of each drop."""
    patience: int = 5
    """Schedule plateau: epochs without a better val/loss before a drop."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(0 <= self.warmup < 1, f"schedule.warmup must lie in [0, 1), not {self.warmup}")
        _require(0 < self.decay < 1, f"schedule.decay must lie in (0, 1), not {self.decay}")
        _require(self.patience >= 0, f"schedule.patience must not be negative, not {self.patience}")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is done to a training batch before the model sees it."""

    flip: Literal["none", "random", "alternating"] = "random"
    """Mirror left-right: by coin, or by coin in the first epoch and in turn afterwards."""
    translate: int = 0
    """Largest shift in pixels, borders reflected."""
    crop_scale: float = 1.0
    """Smallest area of a random resized crop as a share of the image; 1 means no crop."""
    rotate: float = 0.0
    """Largest rotation in degrees, either way."""
    cutout: int = 0
    """Side in pixels of one square set to the batch mean; 0 means none."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution; 0 means none."""
    cutmix: float = 0.0
    """Alpha of CutMix's Beta distribution; 0 means none. With mixup too, each batch takes one of them by coin."""
    color_jitter: float = 0.0
    """Largest relative change of brightness and of contrast."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(self.translate >= 0, f"augment.translate must not be negative, not {self.translate}")
        _require(0 < self.crop_scale <= 1, f"augment.crop_scale must lie in (0, 1], not {self.crop_scale}")
        _require(0 <= self.rotate <= 180, f"augment.rotate must lie in [0, 180] degrees, not {self.rotate}")
        _require(self.cutout >= 0, f"augment.cutout must not be negative, not {self.cutout}")
        _require(self.mixup >= 0 and self.cutmix >= 0, "augment.mixup and augment.cutmix must not be negative")
        _require(0 <= self.color_jitter < 1, f"augment.color_jitter must lie in [0, 1), not {self.color_jitter}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length, batch, regularisation of the loss, precision, machine."""

    epochs: float = 10.0
    """Passes over the training images; a fraction is allowed."""
    batch_size: int = 256
    """Images per step, those of all processes together."""
    label_smoothing: float = 0.0
    """Probability mass spread evenly over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the loss: equal, or inversely proportional to their frequency."""
    ema: float = 0.0
    """Decay per step of the moving average of the weights, which then is what is judged and kept; 0: no average."""
    freeze_whitening: float = 0.2
    """Speednet: epoch after which the bias of the whitening layer is frozen too."""
    low_resolution: tuple[tuple[float, int], ...] = ()
    """Pairs: until this share of the run, train at this image size; full size afterwards."""
    early_stopping: int = 0
    """Stop after so many epochs without a better val/accuracy; 0 means never."""
    keep: Literal["last", "best"] = "last"
    """Which weights are kept: those of the last epoch, or of the one with the best val/accuracy."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of convolutions and products; weights stay fp32. auto: bf16 where right and faster, else fp32."""
    channels_last: bool = True
    """Keep images and filters in NHWC memory order."""
    compile: bool = False
    """Compile before training: on a GPU the model, on a CPU the loops of speednet that are worth it (needs g++)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto takes cuda, then mps, then cpu."""
    checkpoint_epochs: int = 1
    """Epochs between two checkpoints; 0 saves one only when stopped."""
    seed: int = 0
    """Seed of initialisation, order, augmentation and dropout."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(0 < self.epochs < float("inf"), f"train.epochs must be positive and finite, not {self.epochs}")
        _require(self.batch_size >= 1, f"train.batch_size must be at least 1, not {self.batch_size}")
        _require(0 <= self.label_smoothing < 1, f"train.label_smoothing must lie in [0, 1), not {self.label_smoothing}")
        _require(0 <= self.ema < 1, f"train.ema must lie in [0, 1), not {self.ema}")
        _require(self.early_stopping >= 0, f"train.early_stopping must not be negative, not {self.early_stopping}")
        _require(self.checkpoint_epochs >= 0, "train.checkpoint_epochs must not be negative")
        shares = [share for share, _ in self.low_resolution]
        ordered = shares == sorted(shares) and all(0 < share <= 1 for share in shares)
        _require(ordered, f"train.low_resolution takes shares of the run in rising order, in (0, 1], not {shares}")
        sizes = [size for _, size in self.low_resolution]
        _require(all(size >= 9 for size in sizes), "train.low_resolution sizes must be at least 9 pixels")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How the finished model is asked."""

    views: Literal["none", "flip", "flip_translate"] = "none"
    """Test-time views averaged per image: itself, with its mirror image, or those and two shifts by a pixel."""
    views_margin: float = 1.0
    """Only images whose two highest probabilities differ by at most this get the extra views; 1 means all."""
    batch_size: int = 200
    """Images per forward pass."""

    def __post_init__(self) -> None:
        """Check ranges."""
        _require(0 <= self.views_margin <= 1, f"evaluate.views_margin must lie in [0, 1], not {self.views_margin}")
        _require(self.batch_size >= 1, f"evaluate.batch_size must be at least 1, not {self.batch_size}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a run does."""

    recipe: str = "custom"
    """Name of the recipe this configuration started from."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        no_val = self.data.val_fraction == 0
        large = [size for _, size in self.train.low_resolution if size > self.data.image_size]
        _require(not large, f"train.low_resolution {large} exceeds data.image_size {self.data.image_size}; lower it")
        needs_val = {
            "train.keep best": self.train.keep == "best",
            "train.early_stopping": self.train.early_stopping > 0,
            "schedule.name plateau": self.schedule.name == "plateau",
        }
        for setting, is_set in needs_val.items():
            _require(not (no_val and is_set), f"{setting} needs a validation split; set data.val_fraction above 0")


def ignored_sections(config: Config, base: Config) -> list[str]:
    """Return the model sections that ``config`` changes from ``base`` although another model is chosen."""
    names = ("speednet", "convnet", "mixconv", "resnet")
    changed = [name for name in names if getattr(config.model, name) != getattr(base.model, name)]
    return [f"model.{name}" for name in changed if name != config.model.name]
