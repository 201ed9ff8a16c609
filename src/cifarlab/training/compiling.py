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
from cifarlab.training.phases import enter_phase, phase_at, phases

_FEW = 8
_MOST_COMPILED = 64


def compiled(config: Config, model: nn.Module, device: torch.device) -> nn.Module:
    """Return what computes the logits: the model itself, or its compiled form.

    Speednet on a CPU stays as it is but for its pooling, norms and activations.
    """
    assert isinstance(model, ImageClassifier)
    if isinstance(model.network, Speednet) and device.type == "cpu":
        model.network.fuse(config.train.compile)
        return model
    if not config.train.compile:
        return model
    import torch._dynamo.config as settings  # loads the compiler: most of a second

    # each phase of each recipe of this process counts; beyond the limit torch would go on without compiling
    settings.recompile_limit = max(settings.recompile_limit, _MOST_COMPILED)
    # batches of another size, of a benchmark's next recipe, are not to be taken for sizes that vary
    return torch.compile(model, dynamic=False)  # type: ignore[return-value]


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
    """Have everything compiled, for every phase of the run, before the clock runs, and put back what that changed.

    Loops on a CPU are the same for every phase and number of images, so that a few images in the last are enough.
    """
    model = state.model
    assert isinstance(model, ImageClassifier)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    loops_only = isinstance(model.network, Speednet) and device.type == "cpu"
    to_come = phases(config, loader.plan)
    for phase in to_come[-1:] if loops_only else to_come:
        enter_phase(model, phase)
        images_NCHW, *_ = loader.batch(0)
        images_NCHW = images_NCHW[:_FEW] if loops_only else images_NCHW
        with autocast(device, state.progress.precision):
            logits_NK = forward(images_NCHW)
        logits_NK.float().sum().backward()  # type: ignore[no-untyped-call]
    model.load_state_dict(before)
    model.zero_grad(set_to_none=True)
    enter_phase(model, phase_at(config, loader.plan, state.progress.step))
    if device.type == "cuda":
        torch.cuda.synchronize(device)
