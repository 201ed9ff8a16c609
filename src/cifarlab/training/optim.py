"""Optimisers: SGD with Nesterov momentum, AdamW, and Muon for filters with SGD for the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from cifarlab.config import OptimizerConfig

# The quintic of the published record: it does not converge to 1, it drives every singular value near it in few steps.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 3
_SMALL = 2**20  # below so many numbers the calls cost more than the arithmetic


def orthogonalize(matrices_BMN: torch.Tensor, steps: int = _NEWTON_SCHULZ_STEPS) -> torch.Tensor:
    """Replace every matrix by one with about the same singular vectors and singular values near 1.

    Args:
        matrices_BMN: B matrices of M x N, floating point, in whose type it computes.
        steps: Newton-Schulz iterations.

    Returns:
        B x M x N, of the same type.

    References:
        K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024).
    """
    a, b, c = _NEWTON_SCHULZ
    # the largest singular value becomes at most 1
    x: torch.Tensor = matrices_BMN / (matrices_BMN.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose step is orthogonalised, for filters followed by a normalisation.

    Every filter tensor is kept at the Frobenius norm sqrt(C_out), so the learning rate is relative to the weights and
    there is no weight decay.

    Args:
        params: Filters, of 4 dimensions.
        lr: Learning rate, relative to the weights.
        momentum: Of Nesterov.
        dtype: What steps are orthogonalised in; None: the type of the filters. bf16 is enough, but 13 to 47 times
            slower than fp32 on a processor without instructions for it (docs/log.md).

    References:
        KellerJordan/cifar10-airbench, airbench94_muon.py.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all filters; those of one shape are orthogonalised together."""
        assert closure is None
        for group in self.param_groups:
            parameters, gradients = _with_gradients(group)
            if not parameters:
                continue
            updates = _nesterov(self, parameters, gradients, group["momentum"])
            norms = torch._foreach_norm(parameters)
            scales = [len(parameter) ** 0.5 / norm for parameter, norm in zip(parameters, norms, strict=True)]
            torch._foreach_mul_(parameters, scales)
            # the order of a filter's entries does not matter, so they are taken as they lie in memory
            matrices = [_in_memory_order(update).flatten(1).to(self._dtype or update.dtype) for update in updates]
            for indices in _batches([(len(matrix), matrix[0].numel()) for matrix in matrices]):
                steps = _orthogonalize_together([matrices[index] for index in indices])
                for index, step in zip(indices, steps, strict=True):
                    parameter = _in_memory_order(parameters[index])
                    parameter.add_(step.reshape(parameter.shape), alpha=-group["lr"])


class NesterovSGD(torch.optim.Optimizer):
    """SGD with Nesterov momentum, as torch.optim.SGD, which loads the compiler, most of a second, at its first step."""

    def __init__(self, params: Iterable[Any], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters; weight decay is added to their gradients."""
        assert closure is None
        for group in self.param_groups:
            parameters, gradients = _with_gradients(group)
            if not parameters:
                continue
            if group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
            updates = _nesterov(self, parameters, gradients, group["momentum"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])


def _with_gradients(group: dict[str, Any]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the parameters of a group that have a gradient, and their gradients."""
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    return parameters, [parameter.grad for parameter in parameters]


def _nesterov(
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.Tensor],
    gradients: list[torch.Tensor],
    momentum: float,
) -> list[torch.Tensor]:
    """Update the momentum buffers and return the Nesterov steps."""
    for parameter in parameters:
        if not optimizer.state[parameter]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    buffers = [optimizer.state[parameter]["momentum_buffer"] for parameter in parameters]
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, gradients)
    return list(torch._foreach_add(gradients, buffers, alpha=momentum))


def _batches(shapes: list[tuple[int, int]]) -> list[list[int]]:
    """Group matrices, by index, that are orthogonalised in one batch: those of one shape; all, where all are small."""
    largest = max(rows for rows, _ in shapes) * max(columns for _, columns in shapes)
    if len(shapes) * largest <= _SMALL:
        return [list(range(len(shapes)))]
    by_shape: dict[tuple[int, int], list[int]] = {}
    for index, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(index)
    return list(by_shape.values())


def _orthogonalize_together(matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    """Orthogonalise matrices of any shapes in one batch; the rows and columns of zeros that pad them stay zero."""
    rows, columns = (max(matrix.shape[dim] for matrix in matrices) for dim in (0, 1))
    batch_BMN = matrices[0].new_zeros(len(matrices), rows, columns)
    for matrix, place_MN in zip(matrices, batch_BMN, strict=True):
        place_MN[: matrix.shape[0], : matrix.shape[1]] = matrix
    steps_BMN = orthogonalize(batch_BMN)
    return [step_MN[: matrix.shape[0], : matrix.shape[1]] for matrix, step_MN in zip(matrices, steps_BMN, strict=True)]


def _in_memory_order(filters: torch.Tensor) -> torch.Tensor:
    """View filters of 4 dimensions so that flattening all but the first copies nothing."""
    in_nhwc = filters.ndim == 4 and filters.is_contiguous(memory_format=torch.channels_last)
    return filters.permute(0, 2, 3, 1) if in_nhwc else filters


def _leave_compiler_unloaded() -> None:
    """Keep torch's optimisers from loading torch.compile, most of a second, at their first call.

    They do it to keep these methods out of compiled code, and remember the protected form in an attribute; no step is
    compiled here. Should torch name the attribute otherwise one day, only the second is lost (a test tells).
    """
    base = torch.optim.Optimizer
    for method in (base.add_param_group, base.zero_grad, base.state_dict, base.load_state_dict):
        plain = getattr(method, "__wrapped__", None)
        if plain is not None and "torch._dynamo" not in sys.modules:
            plain.__dict__.setdefault("__dynamo_disable", plain)


def build_optimizers(model: nn.Module, config: OptimizerConfig, precision: str = "fp32") -> list[torch.optim.Optimizer]:
    """Return the optimisers that together cover every trainable parameter once.

    Every parameter group remembers its peak learning rate as ``peak_lr``.

    Args:
        model: What they train.
        config: Which they are.
        precision: 'fp32', 'bf16' or 'fp16', of the training; in the last two Muon orthogonalises in bf16.
    """
    _leave_compiler_unloaded()
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
        dtype = None if precision == "fp32" else torch.bfloat16  # in fp16 small gradients would vanish
        optimizers = [Muon(filters, lr=config.lr, momentum=config.momentum, dtype=dtype)] if filters else []
        rest = [group for group in groups if group["params"]]
        optimizers.append(NesterovSGD(rest, lr=config.head_lr, momentum=config.sgd_momentum))
    else:
        groups = [
            {"params": filters + matrices, "lr": config.lr, **decay},
            {"params": vectors, "lr": config.lr, **plain},
        ]
        groups = [group for group in groups if group["params"]]
        if config.name == "adamw":
            # one loop over memory instead of ten: on a CPU a tenth to a twentieth of the time
            fused = all(parameter.device.type in ("cpu", "cuda") for parameter in trainable)
            betas = (config.momentum, config.beta2)
            optimizers = [torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=fused)]
        else:
            optimizers = [NesterovSGD(groups, lr=config.lr, momentum=config.momentum)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's learning rate to its peak times ``factor``."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
