"""Pieces shared by the network families: activations, norms, initialisation, the check of the image size."""

from __future__ import annotations

from torch import nn

from cifarlab.errors import ConfigError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

# relu, leaky_relu and tanh have theirs in torch. The three smooth ones: 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1), by which
# weights must grow to make up for what the activation takes away. The sigmoid: one over its slope at zero.
_GAINS = {"gelu": 1.5335, "silu": 1.6765, "elu": 1.2452, "sigmoid": 4.0}
_SATURATING = ("tanh", "sigmoid")

_MAX_GROUPS = 32
_MIN_GROUP_WIDTH = 4


def make_norm(norm: str, width: int) -> nn.Module:
    """Build a normalisation of feature maps, N x width x H x W.

    Args:
        norm: ``none``; ``batch``; ``group``, in up to 32 groups of at least 4 channels; or ``layer``, over all channels
            and positions of an image.
        width: Channels.

    References:
        S. Ioffe and C. Szegedy, "Batch Normalization", arXiv 1502.03167. Y. Wu and K. He, "Group Normalization",
        arXiv 1803.08494, of which layer normalisation (J. L. Ba et al., arXiv 1607.06450) is the case of one group.
    """
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "group":
        fitting = (n for n in range(_MAX_GROUPS, 1, -1) if width % n == 0 and width // n >= _MIN_GROUP_WIDTH)
        return nn.GroupNorm(next(fitting, 1), width)
    if norm == "layer":
        return nn.GroupNorm(1, width)
    return nn.Identity()


def activation_gain(activation: str) -> float:
    """Return the factor on weights that keeps the scale of signals through a layer with this activation."""
    return _GAINS.get(activation) or nn.init.calculate_gain(activation)  # type: ignore[arg-type]


def init_weights(module: nn.Module, activation: str, scale: float = 1.0) -> None:
    """Draw the weights of a convolution or linear layer anew; its bias becomes zero.

    He's rule (variance gain^2 / fan-in) before activations that let positive values through, Glorot's
    (2 gain^2 / (fan-in + fan-out)) before those that saturate at both ends.

    Args:
        module: Convolution or linear layer; other modules are left as they are, so ``Module.apply`` may be used.
        activation: What follows the layer; ``linear`` for nothing.
        scale: Extra factor on the weights.

    References:
        K. He et al., "Delving Deep into Rectifiers", arXiv 1502.01852. X. Glorot and Y. Bengio, "Understanding the
        difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    if not isinstance(module, (nn.Conv2d, nn.Linear)):
        return
    gain = activation_gain(activation) * scale
    if activation in _SATURATING:
        nn.init.xavier_normal_(module.weight, gain)
    else:
        nn.init.normal_(module.weight, std=gain * module.weight[0].numel() ** -0.5)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def build_head(
    width_in: int, hidden: tuple[int, ...], num_classes: int, activation: str, dropout: float
) -> nn.Sequential:
    """Build fully connected layers from features (N x width_in) to logits, with dropout after each hidden one."""
    layers: list[nn.Module] = []
    for width in hidden:
        linear = nn.Linear(width_in, width)
        init_weights(linear, activation)
        layers += [linear, ACTIVATIONS[activation](), nn.Dropout(dropout)]
        width_in = width
    classifier = nn.Linear(width_in, num_classes)
    init_weights(classifier, "linear")
    return nn.Sequential(*layers, classifier)


def require_size(family: str, image_size: int, halvings: int) -> None:
    """Check that an image can be halved so often.

    Raises:
        ConfigError: If it is smaller than 2**halvings pixels.
    """
    if image_size < 2**halvings:
        raise ConfigError(
            f"model.{family} halves the image {halvings} times, for which {image_size} pixels are too few: "
            f"take fewer stages or a data.image_size of at least {2**halvings}"
        )
