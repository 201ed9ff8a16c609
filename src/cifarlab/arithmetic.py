"""How fast this machine does the arithmetic of training, and whether it does it right.

Nearly all of a run's operations are 3x3 convolutions, so those are measured as training runs them: forward and both
gradients, channels last, at widths and image sizes of the 94 % network.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.device import autocast, full_fp32
from cifarlab.models.convolution import weight_gradient

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MAX_RELATIVE_ERROR = 0.02  # a few roundings of bf16, 0.4 % each; a wrong kernel is off by tens of per cent
_REPEATS = 7
_PATIENCE_SECONDS = 0.15  # for one figure; a slow machine gets fewer repeats, at least one
_KERNELS = (2, 3)  # of the whitening layer and of all others


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution with padding 1."""

    width_in: int
    width_out: int
    size: int
    """Height and width of its images in pixels."""
    batch_size: int = 250

    @property
    def name(self) -> str:
        """Widths and image size, such as '24 -> 64 at 31x31'."""
        return f"{self.width_in} -> {self.width_out} at {self.size}x{self.size}"

    @property
    def flops(self) -> int:
        """Operations of its forward pass, and of each gradient; a multiply-add counts as two."""
        return 2 * 9 * self.batch_size * self.size**2 * self.width_in * self.width_out


CONVOLUTIONS = (
    Convolution(24, 64, 31),
    Convolution(64, 256, 15),
    Convolution(256, 256, 7),
    Convolution(256, 256, 3),
)
_GROUP = CONVOLUTIONS[0]  # what follows it is timed too


@dataclass(frozen=True)
class Rate:
    """What one convolution reached in one precision, in GFLOP/s."""

    convolution: Convolution
    precision: str
    forward: float
    input_gradient: float
    weight_gradient: float

    @property
    def figures(self) -> tuple[float, float, float]:
        """Forward, input gradient, weight gradient."""
        return self.forward, self.input_gradient, self.weight_gradient


def measure_convolutions(
    precisions: Sequence[str],
    device: torch.device | None = None,
    convolutions: Sequence[Convolution] = CONVOLUTIONS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Rate]:
    """Time convolutions and their gradients with the threads torch is set to; each figure is a median.

    Args:
        precisions: 'fp32', 'bf16'.
        device: Where; the CPU if None.
        convolutions: Which.
        clock: Returns seconds.
    """
    device = device or torch.device("cpu")
    rates = []
    for convolution in convolutions:
        for precision in precisions:
            passes = _passes(convolution, DTYPES[precision], device)
            with full_fp32(device, precision):
                gflops = [convolution.flops / _median_seconds(work, device, clock) / 1e9 for work in passes]
            rates.append(Rate(convolution, precision, *gflops))
    return rates


def combined_rate(rates: Sequence[Rate], precision: str) -> float | None:
    """Return the rate at which all measured convolutions of a precision run one after the other, in GFLOP/s.

    That is their operations over their times, which weighs each by the work it stands for, as in training.
    """
    chosen = [rate for rate in rates if rate.precision == precision]
    if not chosen:
        return None
    passes = [(rate.convolution.flops, figure) for rate in chosen for figure in rate.figures]
    return sum(flops for flops, _ in passes) / sum(flops / figure for flops, figure in passes)


def measure_pointwise(
    precision: str, device: torch.device | None = None, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return how many values a second go through what follows a convolution, forward and backward.

    That is pooling, batch norm and GELU after the first convolution of a group, batch norm and GELU after the second.
    In narrow networks on processors with fast convolutions it takes the larger part of the time.
    """
    device = device or torch.device("cpu")
    width, size = _GROUP.width_out, _GROUP.size
    x = torch.randn(_GROUP.batch_size, width, size, size, generator=torch.Generator().manual_seed(0))
    x = x.to(device, DTYPES[precision]).contiguous(memory_format=torch.channels_last).requires_grad_()
    norms = [nn.BatchNorm2d(width).to(device) for _ in range(2)]

    def group() -> torch.Tensor:
        with autocast(device, precision):
            return F.gelu(norms[1](F.gelu(norms[0](F.max_pool2d(x, 2)))))

    with torch.enable_grad():
        gradient = torch.ones_like(group())
        parameters = [parameter for norm in norms for parameter in norm.parameters()]
        seconds = _median_seconds(lambda: torch.autograd.grad(group(), (x, *parameters), gradient), device, clock)
    return (x.numel() + gradient.numel()) / seconds


def copy_bandwidth(num_bytes: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the memory bandwidth of copying ``num_bytes`` in main memory, in GB/s; bytes read and written count."""
    source = torch.zeros(num_bytes, dtype=torch.uint8)
    target = torch.zeros_like(source)
    seconds = _median_seconds(lambda: target.copy_(source), torch.device("cpu"), clock)
    return 2 * num_bytes / seconds / 1e9


def convolution_error(device: torch.device, precision: str) -> float:
    """Return how far convolutions and their gradients are off, relative to a second way of computing them.

    That way is a matrix product of unfolded patches in double precision on the CPU. Kernels of 2x2 and 3x3 pixels are
    checked; the largest of the relative errors of outputs and gradients counts.

    References:
        pytorch issue 163347: a 2x2 convolution in bf16 that returned a quarter of the right value.
    """
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for kernel in _KERNELS:
        images = torch.randn(8, 16, 9, 9, generator=generator)
        filters = torch.randn(32, 16, kernel, kernel, generator=generator) / (4 * kernel)
        weights = torch.randn(8, 32, 10 - kernel, 10 - kernel, generator=generator)
        images, filters, weights = (t.to(DTYPES[precision]) for t in (images, filters, weights))

        x, w = images.double().requires_grad_(), filters.double().requires_grad_()
        patches = F.unfold(x, kernel)  # N x (channels x kernel x kernel) x positions
        exact = (w.flatten(1) @ patches).view(weights.shape)
        reference = (exact, *torch.autograd.grad(exact, (x, w), weights.double()))

        x, w, g = (t.to(device).contiguous(memory_format=torch.channels_last) for t in (images, filters, weights))
        x, w = x.requires_grad_(), w.requires_grad_()
        with full_fp32(device, precision):
            y = F.conv2d(x, w)
            computed = (y, *torch.autograd.grad(y, (x, w), g))
        for part, right in zip(computed, reference, strict=True):
            error = ((part.cpu().double() - right).norm() / right.norm()).item()
            worst = error if not error <= worst else worst  # keeps a NaN
    return worst


def _passes(convolution: Convolution, dtype: torch.dtype, device: torch.device) -> list[Callable[[], object]]:
    """Return forward pass, input gradient and weight gradient of a convolution, ready to run."""
    c = convolution
    shapes = (
        (c.batch_size, c.width_in, c.size, c.size),
        (c.width_out, c.width_in, 3, 3),
        (c.batch_size, c.width_out, c.size, c.size),
    )
    generator = torch.Generator().manual_seed(0)
    tensors = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
    x, w, g = (tensor.contiguous(memory_format=torch.channels_last) for tensor in tensors)

    one = [1, 1]

    def gradient(which: list[bool]) -> object:
        return torch.ops.aten.convolution_backward(g, x, w, None, one, one, one, False, [0, 0], 1, which)

    def weight_gradient_as_trained() -> object:  # see cifarlab.models.convolution.Conv3x3
        in_bf16_on_cpu = device.type == "cpu" and dtype == torch.bfloat16
        return weight_gradient(g, x, w) if in_bf16_on_cpu else gradient([False, True, False])

    return [lambda: F.conv2d(x, w, padding=1), lambda: gradient([True, False, False]), weight_gradient_as_trained]


def _median_seconds(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Time some repeats of ``work`` after one that is not counted, in which kernels are chosen and prepared."""
    times: list[float] = []
    work()
    _wait_for(device)
    while len(times) < _REPEATS and sum(times) < _PATIENCE_SECONDS:
        begin = clock()
        work()
        _wait_for(device)
        times.append(clock() - begin)
    return statistics.median(times)


def _wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
