"""Optimisers: SGD with Nesterov momentum, AdamW, and Muon for filters with SGD for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from cifarlab.config import OptimizerConfig

# The quintic of the published record: it does not converge to 1, it drives every singular value near it in few steps.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 3


def orthogonalize(matrices_BMN: torch.Tensor, steps: int = _NEWTON_SCHULZ_STEPS) -> torch.Tensor:
    """Replace every matrix by one with about the same singular vectors and singular values near 1.

    Args:
        matrices_BMN: B matrices of M x N, floating point.
        steps: Newton-Schulz iterations.

    Returns:
        bf16, B x M x N.

    References:
        K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024).
    """
    a, b, c = _NEWTON_SCHULZ
    x: torch.Tensor = matrices_BMN.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)  # largest singular value at most 1
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose step is orthogonalised, for filters followed by a normalisation.

    Every filter tensor is kept at the Frobenius norm sqrt(C_out), so the learning rate is relative to the weights and
    there is no weight decay.

    References:
        KellerJordan/cifar10-airbench, airbench94_muon.py.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all filters; those of one shape are orthogonalised together."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffer = state["momentum_buffer"]
                buffer.mul_(group["momentum"]).add_(parameter.grad)
                update = parameter.grad.add(buffer, alpha=group["momentum"])
                by_shape.setdefault(parameter.shape, []).append((parameter, update))
            for pairs in by_shape.values():
                updates = orthogonalize(torch.stack([update.flatten(1) for _, update in pairs]))
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
                    parameter.add_(update.view(parameter.shape).to(parameter.dtype), alpha=-group["lr"])


def build_optimizers(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Return the optimisers that together cover every trainable parameter once.

    Every parameter group remembers its peak learning rate as ``peak_lr``.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    filters = [parameter for parameter in trainable if parameter.ndim == 4]
    matrices = [parameter for parameter in trainable if parameter.ndim in (2, 3)]
    vectors = [parameter for parameter in trainable if parameter.ndim < 2]
    decay, plain = {"weight_decay": config.weight_decay}, {"weight_decay": 0.0}
    optimizers: list[torch.optim.Optimizer]
    if config.name == "muon":
        groups = [
            {"params": matrices, "lr": config.head_lr, **decay},
            {"params": vectors, "lr": config.bias_lr, **plain},
        ]
        optimizers = [Muon(filters, lr=config.lr, momentum=config.momentum)] if filters else []
        optimizers.append(_sgd([group for group in groups if group["params"]], config))
    else:
        groups = [{"params": filters + matrices, **decay}, {"params": vectors, **plain}]
        groups = [group for group in groups if group["params"]]
        if config.name == "adamw":
            optimizers = [torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, config.beta2))]
        else:
            optimizers = [_sgd(groups, config)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _sgd(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.SGD:
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def set_learning_rate(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to its peak times ``factor``."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
