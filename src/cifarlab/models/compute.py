"""How much arithmetic a training step takes, independent of the machine.

Reference:
    The figures of KellerJordan/cifar10-airbench follow the same convention: its 94 % network needs 118 million
    multiply-adds for one image forward; times 2 operations, times 3 for forward and backward, times 8 x 50,000
    images, that is 0.28 PFLOP, published as 0.29.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from cifarlab.config import TrainConfig
from cifarlab.models import ImageClassifier
from cifarlab.models.speednet import Speednet

_BATCH = 2


class _Products(TorchFunctionMode):
    """Counts the operations of convolutions and linear layers, and those of their gradients, while they are called.

    torch.utils.flop_counter counts the same, which a test compares; but it loads torch's compiler first, which takes
    a second, and needs a backward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, and count what it takes if it is one of those that count."""
        output = function(*args, **(kwargs or {}))
        if function in (torch.conv2d, F.conv2d, F.linear):
            inputs, weight = args[:2]
            forward = 2 * output.numel() * weight[0].numel()
            # the gradient of the input and that of the filters each take as many products as the output
            self.operations += forward * (1 + inputs.requires_grad + weight.requires_grad)
        return output


def training_flops_per_image(model: nn.Module, image_size: int) -> int:
    """Count floating-point operations of one image in training, forward and backward.

    A multiply-add counts as TWO operations. Convolutions and linear layers are counted, as torch.utils.flop_counter
    does; norms, activations, pooling, preprocessing and the optimiser are not. What is frozen now is taken as frozen:
    no gradient for its filters, and none for layers before the first one that learns.

    Args:
        model: A network, or an ImageClassifier, of which the network counts. It is not changed.
        image_size: Height and width in pixels of the images the network sees.

    Returns:
        Operations for one image; divide by two for multiply-adds. Times the images of a run, divided by 1e15: PFLOP.
    """
    network = model.network if isinstance(model, ImageClassifier) else model
    # two images are soon computed; on the meta device, which computes shapes only, batch norm loads torch's compiler
    device = "meta" if any(parameter.is_meta for parameter in network.parameters()) else "cpu"
    network = copy.deepcopy(network).to(device).eval()  # in eval mode no number is drawn and no average updated
    images_NCHW = torch.zeros(_BATCH, 3, image_size, image_size, device=device)
    counter = _Products()
    with torch.enable_grad(), counter:
        network(images_NCHW)
    return counter.operations // _BATCH


def convolution_outputs_per_image(model: nn.Module, image_size: int) -> int:
    """Count the values that convolutions put out for one image, each of which pooling, norm and activation go through.

    Args:
        model: As for :func:`training_flops_per_image`.
        image_size: Height and width in pixels of the images the network sees.
    """
    network = model.network if isinstance(model, ImageClassifier) else model
    network = copy.deepcopy(network).to("meta")
    counts: list[int] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: counts.append(output.numel()))
    network(torch.empty(_BATCH, 3, image_size, image_size, device="meta"))
    return sum(counts) // _BATCH


def mean_over_run(train: TrainConfig, image_size: int, count: Callable[[int], float]) -> float:
    """Return the mean of ``count(size)`` over the images of a run, some of which may be trained at lower resolution.

    Args:
        train: Its ``low_resolution`` says which share of the run is trained at which size.
        image_size: Height and width in pixels of the images of the rest of the run.
        count: What an image of a given size takes.
    """
    mean, begin = 0.0, 0.0
    for until, size in (*train.low_resolution, (1.0, image_size)):
        mean += (until - begin) * count(size)
        begin = until
    return mean


def freeze_as_trained(model: ImageClassifier, train: TrainConfig) -> None:
    """Freeze what is frozen at the end of a run, when training counts: the bias of speednet's whitening.

    Args:
        model: As it was built.
        train: How it is going to be trained.
    """
    if isinstance(model.network, Speednet) and train.freeze_whitening < train.epochs:
        model.network.train_whitening(False)


def training_pflop(model: nn.Module, train: TrainConfig, image_size: int, num_images_seen: int) -> float:
    """Return the compute of a whole run in PFLOP, each resolution's share of the run counted at its own cost.

    Args:
        model: As for :func:`training_flops_per_image`.
        train: As for :func:`mean_over_run`.
        image_size: As for :func:`mean_over_run`.
        num_images_seen: Images trained on, each counted as often as it is shown.
    """
    flops_per_image = mean_over_run(train, image_size, lambda size: training_flops_per_image(model, size))
    return flops_per_image * num_images_seen / 1e15
