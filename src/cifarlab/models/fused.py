"""Pooling, batch norm and activation as a few compiled loops, for training on a CPU.

Where a processor multiplies matrices in bf16, convolutions are half of a training step; the other half is passes over
feature maps, each of which reads and writes them once. torch's batch norm and activation take nine such passes,
forward and backward, these loops five, and the pooling here reads no table of positions and zeroes nothing first.
:mod:`cifarlab.models.loops` turns them into C++; compiling the whole network instead was slower than not compiling it
(docs/log.md).

Shape suffixes: N images, C channels, H height, W width, M positions of all images (N x H x W).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import nn

from cifarlab.models.loops import Loop

ACTIVATIONS = ("relu", "gelu", "silu")

_PER_ROOT_2, _PER_ROOT_2PI = 1 / math.sqrt(2), 1 / math.sqrt(2 * math.pi)
_SMALLEST_POOLED = 8
"""Narrowest map whose pooling is worth a call."""
_IMAGES, _HEIGHT, _WIDTH, _CHANNELS = 500, 31, 29, 64
"""A typical batch of maps."""


def _pool(x_NHWC: torch.Tensor) -> tuple[torch.Tensor]:
    height, width = x_NHWC.shape[1] // 2, x_NHWC.shape[2] // 2
    x_NHWC = x_NHWC[:, : 2 * height, : 2 * width]
    upper = torch.maximum(x_NHWC[:, 0::2, 0::2], x_NHWC[:, 0::2, 1::2])
    return (torch.maximum(upper, torch.maximum(x_NHWC[:, 1::2, 0::2], x_NHWC[:, 1::2, 1::2])),)


def _unpool(grad_NHWC: torch.Tensor, pooled_NHWC: torch.Tensor, x_NHWC: torch.Tensor) -> tuple[torch.Tensor]:
    """Give every value that is the largest of its square that square's gradient, and all others zero."""
    height, width = x_NHWC.shape[1:3]
    rows_H = (torch.arange(height) // 2).clamp(max=height // 2 - 1)
    columns_W = (torch.arange(width) // 2).clamp(max=width // 2 - 1)
    in_a_square = (torch.arange(height) < height // 2 * 2)[:, None, None]
    in_a_square = in_a_square & (torch.arange(width) < width // 2 * 2)[:, None]
    is_largest = (x_NHWC == pooled_NHWC[:, rows_H][:, :, columns_W]) & in_a_square
    return (torch.where(is_largest, grad_NHWC[:, rows_H][:, :, columns_W], torch.zeros((), dtype=grad_NHWC.dtype)),)


def _maps(dtype: torch.dtype, *, pooled: bool = False) -> torch.Tensor:
    shrink = 2 if pooled else 1
    return torch.zeros(_IMAGES, _HEIGHT // shrink, _WIDTH // shrink, _CHANNELS, dtype=dtype)


_pool_loop = Loop(_pool, "pool", lambda dtype: (_maps(dtype),))
_unpool_loop = Loop(
    _unpool, "unpool", lambda dtype: (_maps(dtype, pooled=True), _maps(dtype, pooled=True), _maps(dtype))
)


class _MaxPool(torch.autograd.Function):
    """F.max_pool2d(x, 2), but values that share a maximum all receive its gradient, not the first alone."""

    @staticmethod
    def forward(ctx: Any, x_NHWC: torch.Tensor) -> torch.Tensor:
        (pooled_NHWC,) = _pool_loop(x_NHWC)
        ctx.save_for_backward(x_NHWC, pooled_NHWC)
        return pooled_NHWC

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        x_NHWC, pooled_NHWC = ctx.saved_tensors
        (grad_x_NHWC,) = _unpool_loop(grads[0].contiguous(), pooled_NHWC, x_NHWC)
        return grad_x_NHWC


def _normalise(
    x_MC: torch.Tensor, shift_C: torch.Tensor, weight_C: torch.Tensor, bias_C: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the normalised values in fp32, mean and variance.

    A shift near the mean keeps the difference of squares that the variance is from losing digits.
    """
    shifted = x_MC.float() - shift_C
    mean_C = shifted.sum(0) / x_MC.shape[0]
    var_C = ((shifted * shifted).sum(0) / x_MC.shape[0] - mean_C * mean_C).clamp_min(0)
    mean_C = mean_C + shift_C
    return (x_MC.float() - mean_C) * (torch.rsqrt(var_C + eps) * weight_C) + bias_C, mean_C, var_C


def _activate(z: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the activation and its derivative, which saves computing it in the backward."""
    if kind == "relu":
        slope = (z > 0).float()
        return z * slope, slope
    if kind == "silu":
        sigmoid = torch.sigmoid(z)
        y = z * sigmoid
        return y, sigmoid + y * (1 - sigmoid)
    below = 0.5 * (1 + torch.erf(z * _PER_ROOT_2))
    return z * below, below + z * _PER_ROOT_2PI * torch.exp(-0.5 * z * z)


@functools.cache
def _forward_loop(kind: str, eps: float, with_shortcut: bool) -> Loop:
    """Return the loop from x, shift, weight and bias, and a shortcut, to y, its slope, mean and variance."""

    def forward(
        x_MC: torch.Tensor,
        shift_C: torch.Tensor,
        weight_C: torch.Tensor,
        bias_C: torch.Tensor,
        *shortcut_MC: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        z, mean_C, var_C = _normalise(x_MC, shift_C, weight_C, bias_C, eps)
        y, slope = _activate(z + shortcut_MC[0].float() if shortcut_MC else z, kind)
        return y.to(x_MC.dtype), slope.to(x_MC.dtype), mean_C, var_C

    def examples(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        maps = [_maps(dtype).flatten(0, 2) for _ in range(1 + with_shortcut)]
        return maps[0], *(torch.ones(_CHANNELS) for _ in range(3)), *maps[1:]

    return Loop(forward, f"{kind}_{eps:g}{'_shortcut' if with_shortcut else ''}", examples)


def _differentiate(
    grad_MC: torch.Tensor,
    slope_MC: torch.Tensor,
    x_MC: torch.Tensor,
    mean_C: torch.Tensor,
    inverse_C: torch.Tensor,
    weight_C: torch.Tensor,
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of the norm's input, of its bias and of what entered the activation."""
    grad_z = grad_MC.float() * slope_MC.float()
    grad_bias_C = grad_z.sum(0)
    grad_scale_C = (grad_z * (x_MC.float() - mean_C)).sum(0)
    of_grad_C = weight_C * inverse_C
    of_x_C = -of_grad_C * inverse_C.square() * grad_scale_C / x_MC.shape[0]
    constant_C = -of_grad_C * grad_bias_C / x_MC.shape[0] - of_x_C * mean_C
    grad_x = grad_z * of_grad_C + x_MC.float() * of_x_C + constant_C
    return grad_x.to(x_MC.dtype), grad_bias_C, grad_z.to(x_MC.dtype)


def _backward_examples(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    maps = [_maps(dtype).flatten(0, 2) for _ in range(3)]
    return (*maps, *(torch.ones(_CHANNELS) for _ in range(3)))


_backward_loop = Loop(lambda *tensors: _differentiate(*tensors)[:2], "backward", _backward_examples)
_backward_shortcut_loop = Loop(_differentiate, "backward_shortcut", _backward_examples)


class _NormActivate(torch.autograd.Function):
    """Batch norm by the batch's own statistics, a shortcut added where there is one, then the activation."""

    @staticmethod
    def forward(
        ctx: Any,
        x_MC: torch.Tensor,
        shortcut_MC: torch.Tensor | None,
        bias_C: torch.Tensor,
        weight_C: torch.Tensor,
        shift_C: torch.Tensor,
        form: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        eps, kind = form
        ctx.with_shortcut = shortcut_MC is not None
        more = () if shortcut_MC is None else (shortcut_MC,)
        loop = _forward_loop(kind, eps, ctx.with_shortcut)
        y_MC, slope_MC, mean_C, var_C = loop(x_MC, shift_C, weight_C, bias_C, *more)
        ctx.save_for_backward(x_MC, slope_MC, mean_C, torch.rsqrt(var_C + eps), weight_C)
        ctx.mark_non_differentiable(mean_C, var_C)
        return y_MC, mean_C, var_C

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_MC, slope_MC, mean_C, inverse_C, weight_C = ctx.saved_tensors
        loop = _backward_shortcut_loop if ctx.with_shortcut else _backward_loop
        grad_x_MC, grad_bias_C, *more = loop(grads[0].contiguous(), slope_MC, x_MC, mean_C, inverse_C, weight_C)
        return grad_x_MC, more[0] if more else None, grad_bias_C, None, None, None


def is_kept(dtype: torch.dtype) -> bool:
    """Return whether these loops have been compiled on this machine, if only for other activations."""
    return _pool_loop.is_kept(dtype) and _backward_loop.is_kept(dtype)


def can_fuse(x_NCHW: torch.Tensor, norm: nn.Module) -> bool:
    """Return whether these loops compute what ``norm`` would: in training, on a CPU, by this process's own images.

    Subclasses of nn.BatchNorm2d, such as the one that looks at several ranks' images, compute something else.
    """
    return (
        x_NCHW.device.type == "cpu"
        and type(norm) is nn.BatchNorm2d
        and norm.training
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


def max_pool(x_NCHW: torch.Tensor) -> torch.Tensor:
    """Return F.max_pool2d(x, 2), N x C x H x W to N x C x H/2 x W/2, in channels_last order.

    Where values of one square are equal and largest, each receives the whole gradient; F.max_pool2d gives it to the
    first. In bf16 that concerns one value in two thousand.
    """
    if x_NCHW.shape[3] < _SMALLEST_POOLED:
        return nn.functional.max_pool2d(x_NCHW, 2)
    x_NHWC = x_NCHW.permute(0, 2, 3, 1).contiguous()
    pooled_NHWC: torch.Tensor = _MaxPool.apply(x_NHWC)  # type: ignore[no-untyped-call]
    return pooled_NHWC.permute(0, 3, 1, 2)


def norm_activate(
    x_NCHW: torch.Tensor, norm: nn.BatchNorm2d, activation: str, *, shortcut_NCHW: torch.Tensor | None = None
) -> torch.Tensor:
    """Return activation(norm(x) + shortcut) and update the running statistics of ``norm``.

    Args:
        x_NCHW: N x C x H x W in channels_last order, or it is copied.
        norm: A batch norm in training mode whose weight is not trained.
        activation: 'relu', 'gelu' or 'silu'.
        shortcut_NCHW: As x, in x's dtype; None for none.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    assert not norm.weight.requires_grad
    num, channels, height, width = x_NCHW.shape
    # of a single image in another order reshape makes a view whose channels lie apart
    x_MC = x_NCHW.permute(0, 2, 3, 1).reshape(-1, channels).contiguous()
    shortcut_MC = None
    if shortcut_NCHW is not None:
        shortcut_MC = shortcut_NCHW.permute(0, 2, 3, 1).reshape(-1, channels).contiguous()
    y_MC, mean_C, var_C = _NormActivate.apply(  # type: ignore[no-untyped-call]
        x_MC, shortcut_MC, norm.bias, norm.weight, norm.running_mean, (norm.eps, activation)
    )
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean_C, norm.momentum)
        norm.running_var.lerp_(var_C * (len(x_MC) / (len(x_MC) - 1)), norm.momentum)
    y_NCHW: torch.Tensor = y_MC.view(num, height, width, channels).permute(0, 3, 1, 2)
    return y_NCHW
