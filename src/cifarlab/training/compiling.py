"""Compiling where it earns its time: the model on a GPU, by torch.compile, and loops of speednet on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from cifarlab.config import Config
from cifarlab.data.loader import BatchLoader
from cifarlab.device import autocast
from cifarlab.models import ImageClassifier, fused
from cifarlab.models.speednet import Speednet
from cifarlab.training.checkpoint import TrainState
from cifarlab.training.schedule import training_size

_FEW = 8


def compiled(config: Config, model: nn.Module, device: torch.device) -> nn.Module:
    """Return what computes the logits: the model itself, or its compiled form.

    Speednet on a CPU stays as it is but for its pooling, norms and activations.
    """
    assert isinstance(model, ImageClassifier)
    if isinstance(model.network, Speednet) and device.type == "cpu":
        model.network.fuse(config.train.compile)
        return model
    return torch.compile(model) if config.train.compile else model  # type: ignore[return-value]


def will_compile_loops(state: TrainState, device: torch.device, num_ranks: int) -> bool:
    """Return whether speednet's loops, if they are asked for, are not there from an earlier run of this machine.

    Several ranks train without them, and so does an activation that they do not have.
    """
    assert isinstance(state.model, ImageClassifier)
    network = state.model.network
    if not isinstance(network, Speednet) or device.type != "cpu" or num_ranks > 1 or not network.has_loops:
        return False
    return not fused.is_kept(torch.bfloat16 if state.progress.precision == "bf16" else torch.float32)


def warm_up(
    config: Config,
    state: TrainState,
    forward: Callable[[torch.Tensor], torch.Tensor],
    loader: BatchLoader,
    device: torch.device,
) -> None:
    """Have everything compiled, for every resolution, before the clock runs, and put back what that changed.

    Loops on a CPU are the same for every resolution and number of images, so that a few images at one are enough.
    """
    model = state.model
    assert isinstance(model, ImageClassifier)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    loops_only = isinstance(model.network, Speednet) and device.type == "cpu"
    shares = [0.0, *(until for until, _ in config.train.low_resolution if until < 1)]
    for share in shares[-1:] if loops_only else shares:
        model.preprocess.image_size = training_size(config, share)
        images_NCHW, *_ = loader.batch(0)
        images_NCHW = images_NCHW[:_FEW] if loops_only else images_NCHW
        with autocast(device, state.progress.precision):
            logits_NK = forward(images_NCHW)
        logits_NK.float().sum().backward()  # type: ignore[no-untyped-call]
    model.load_state_dict(before)
    model.zero_grad(set_to_none=True)
