"""Batch norm over a batch that lies on several ranks: the numbers of nn.BatchNorm2d on the whole batch.

nn.SyncBatchNorm does the same on GPUs and refuses processors. This one runs on both.

Shape suffixes: N images of this rank, C channels, H height, W width, R ranks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

_POSITIONS = (0, 2, 3)  # dimensions that one channel's statistics are taken over


class _Normalize(torch.autograd.Function):
    """Normalisation by the mean and variance of all ranks' images, with its gradient.

    All ranks hold equally many values, so statistics of the whole are plain averages over ranks.
    """

    @staticmethod
    def forward(
        ctx: Any, x_NCHW: torch.Tensor, weight_C: torch.Tensor, bias_C: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        exact_NCHW = x_NCHW.to(torch.promote_types(x_NCHW.dtype, torch.float32))
        own_2C = torch.stack(torch.var_mean(exact_NCHW, _POSITIONS, correction=0)).double()
        gathered = [torch.empty_like(own_2C) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, own_2C)
        var_RC, mean_RC = torch.stack(gathered, dim=1)
        # variance within ranks plus variance between them: unlike E[x^2] - E[x]^2 it loses no digits
        mean_C = mean_RC.mean(0)
        var_C = (var_RC + (mean_RC - mean_C).square()).mean(0)
        mean_C, var_C = mean_C.to(exact_NCHW.dtype), var_C.to(exact_NCHW.dtype)
        inverse_C = torch.rsqrt(var_C + eps)
        y_NCHW = torch.addcmul(_wide(bias_C), exact_NCHW - _wide(mean_C), _wide(inverse_C * weight_C))
        ctx.save_for_backward(x_NCHW, weight_C, mean_C, inverse_C)
        ctx.mark_non_differentiable(mean_C, var_C)
        return y_NCHW.to(x_NCHW.dtype), mean_C, var_C

    @staticmethod
    def backward(
        ctx: Any, grad_y_NCHW: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, None]:
        x_NCHW, weight_C, mean_C, inverse_C = ctx.saved_tensors
        grad_NCHW = grad_y_NCHW.to(mean_C.dtype)
        normal_NCHW = (x_NCHW.to(mean_C.dtype) - _wide(mean_C)) * _wide(inverse_C)
        grad_bias_C = grad_NCHW.sum(_POSITIONS)
        grad_weight_C = (grad_NCHW * normal_NCHW).sum(_POSITIONS)
        grad_x_NCHW = None
        if ctx.needs_input_grad[0]:
            means_2C = torch.stack([grad_bias_C, grad_weight_C])
            dist.all_reduce(means_2C)
            means_2C /= dist.get_world_size() * (x_NCHW.numel() // x_NCHW.shape[1])
            centred = grad_NCHW - _wide(means_2C[0]) - normal_NCHW * _wide(means_2C[1])
            grad_x_NCHW = (centred * _wide(inverse_C * weight_C)).to(x_NCHW.dtype)
        # weight's and bias's stay this rank's own: they are averaged with all other parameters' gradients
        return grad_x_NCHW, grad_weight_C, grad_bias_C, None


def _wide(values_C: torch.Tensor) -> torch.Tensor:
    return values_C.view(1, -1, 1, 1)


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose batch, in training, is that of all ranks; running statistics are equal on all of them."""

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        """Normalise this rank's N x C x H x W; every rank must bring as many values."""
        if not self.training:
            return super().forward(x_NCHW)
        assert self.affine
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        y_NCHW, mean_C, var_C = _Normalize.apply(x_NCHW, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        count = x_NCHW.numel() // x_NCHW.shape[1] * dist.get_world_size()
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var_C * (count / (count - 1))).to(self.running_var.dtype), self.momentum)
        return torch.as_tensor(y_NCHW)


@contextlib.contextmanager
def global_batch_norm(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Let the batch norms of a model see all ranks' images while the context lasts.

    They stay the same modules with the same parameters, so optimisers and names of weights do not notice.
    """
    norms = [module for module in model.modules() if enabled and type(module) is nn.BatchNorm2d]
    for norm in norms:
        norm.__class__ = GlobalBatchNorm2d
        # set here, not as a decorator: it loads the compiler
        norm.forward = torch.compiler.disable(norm.forward)  # type: ignore[method-assign, no-untyped-call]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward
            norm.__class__ = nn.BatchNorm2d
