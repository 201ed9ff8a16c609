"""Which device, and in which precision: both checked, never assumed."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import shutil
import sysconfig
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from cifarlab.errors import UsageError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc
_MAX_RELATIVE_ERROR = 0.02  # bf16 keeps 8 bits: one rounding is 0.4 %, a few of them stay well below this
_MIN_SPEEDUP = 1.15  # less is within the noise of so short a measurement
_ROUNDS = 7
_CPP = "a C++ compiler (g++)"
_HOPELESS_SPEEDUP = 0.5  # no noise turns twice the speed into this; emulated, a round takes a third of a second


def choose_device(name: str) -> torch.device:
    """Return the named device; 'auto' takes cuda, then mps, then cpu.

    Raises:
        UsageError: If this machine does not have the device asked for.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, present in available.items() if present)
    if not available.get(name, False):
        raise UsageError(f"this machine has no {name} device that torch can use; choose auto or cpu instead")
    return torch.device(name)


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks instead of handing them back to the kernel.

    Every batch frees and allocates the same activations; handed back, each of their pages has to be mapped and zeroed
    anew, a third of the time of a training step at batch 2000. Blocks above 32 MiB, which glibc otherwise always maps
    one by one, are therefore taken from the heap too. Other C libraries are left as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def cpp_compiler() -> str:
    """Return the path of the C++ compiler that torch.compile would take; empty if there is none."""
    default = {"Darwin": "clang++", "Windows": "cl"}.get(platform.system(), "g++")
    return shutil.which(os.environ.get("CXX") or default) or ""


def c_compiler() -> str:
    """Return the path of the C compiler that Triton would take, without which no GPU is compiled for; empty if none."""
    named = os.environ.get("CC")
    return next(filter(None, map(shutil.which, [named] if named else ["gcc", "clang"])), "")


def has_python_headers() -> bool:
    """Return whether Python.h is there, without which torch.compile cannot build."""
    return Path(sysconfig.get_paths()["include"], "Python.h").is_file()


def decide_compile(requested: bool, device: torch.device) -> tuple[bool, str]:
    """Decide whether a run compiles.

    Returns:
        Whether to, and a line for the user where that is not what was asked for ('' if it is).
    """
    compiler, what = (c_compiler(), "a C compiler (gcc)") if device.type == "cuda" else (cpp_compiler(), _CPP)
    if not requested or (compiler and has_python_headers()):
        return requested, ""
    missing = "Python.h (python3-dev)" if compiler else what
    return False, f"train.compile needs {missing}, which is not installed; training without it, more slowly"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context in which convolutions and products run in the given precision ('fp32', 'bf16', 'fp16')."""
    return full_fp32(device, precision) if precision == "fp32" else torch.autocast(device.type, _DTYPES[precision])


@contextlib.contextmanager
def full_fp32(device: torch.device, precision: str) -> Iterator[None]:
    """Keep NVIDIA's convolutions and products from rounding fp32 to 10 bits, which torch lets convolutions do.

    Backward passes, which do not lie in :func:`autocast`, need it as well. Nothing is changed in other precisions, in
    which the optimiser's own fp32 may be rounded, nor on other devices.
    """
    if device.type != "cuda" or precision != "fp32":
        yield
        return
    places = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"
    try:
        yield
    finally:
        for place, previous in zip(places, before, strict=True):
            place.fp32_precision = previous


@dataclass(frozen=True)
class Bf16Check:
    """What a convolution and its gradients showed in bf16 next to fp32 on this processor."""

    relative_error: float
    speedup: float

    @property
    def right(self) -> bool:
        """Whether the results are those of fp32 but for rounding."""
        return self.relative_error <= _MAX_RELATIVE_ERROR

    @property
    def passed(self) -> bool:
        """Whether bf16 is right and worth it."""
        return self.right and self.speedup >= _MIN_SPEEDUP


@functools.cache
def check_bf16_on_cpu() -> Bf16Check:
    """Run a small training step in fp32 and in bf16 and compare results and times; about half a second.

    Old versions of torch gave wrong bf16 convolutions, and processors without AVX512_BF16 or AMX emulate the format
    more slowly than fp32, so neither correctness nor speed may be taken for granted.

    References:
        pytorch issues 163347, 169688 (wrong results), 183815 (slow shapes).
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 64, 16, 16, generator=generator).to(memory_format=torch.channels_last)
    filters = torch.randn(64, 64, 3, 3, generator=generator).to(memory_format=torch.channels_last) / 24

    def step(dtype: torch.dtype) -> tuple[list[torch.Tensor], float]:
        x, w = images.clone().requires_grad_(), filters.clone().requires_grad_()
        start = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            y = F.conv2d(F.conv2d(x, w, padding=1), w, padding=1)
        y.float().square().mean().backward()  # type: ignore[no-untyped-call]
        seconds = time.perf_counter() - start
        assert x.grad is not None
        assert w.grad is not None
        return [y.detach().float(), x.grad, w.grad], seconds

    with torch.enable_grad():
        exact, _ = step(torch.float32)
        rounded, _ = step(torch.bfloat16)
        times: list[tuple[float, float]] = []
        while len(times) < _ROUNDS and not (len(times) > 1 and _speedup(times) < _HOPELESS_SPEEDUP):
            times.append((step(torch.float32)[1], step(torch.bfloat16)[1]))
    error = 0.0
    # outputs and both gradients differ in scale, so each is judged against its own size
    for part, reference in zip(rounded, exact, strict=True):
        error = max(error, ((part - reference).norm() / reference.norm()).item())
    return Bf16Check(relative_error=error, speedup=_speedup(times))


def _speedup(times: list[tuple[float, float]]) -> float:
    """Return the fastest fp32 over the fastest bf16."""
    return min(fp32 for fp32, _ in times) / min(bf16 for _, bf16 in times)


def choose_precision(requested: str, device: torch.device) -> tuple[str, str]:
    """Decide the precision of a run.

    bf16 by name is refused where its results are wrong, but not where it is slow, which may be the doing of whatever
    else runs on the machine: the runs that are to be compared with this one were trained in it.

    Args:
        requested: 'auto', 'fp32', 'bf16' or 'fp16'.
        device: Where the run computes.

    Returns:
        The precision, and a line for the user where it is not what was asked for or was found by a check ('' if not).
    """
    if device.type == "cpu" and requested in ("auto", "bf16"):
        check = check_bf16_on_cpu()
        if check.passed or (check.right and requested == "bf16"):
            return "bf16", ""
        figures = f"error {check.relative_error:.2%}, {check.speedup:.2f} times the speed of fp32"
        return "fp32", f"bf16 is not right or not faster on this processor ({figures}); training in fp32"
    if requested == "auto":
        in_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16" if in_bf16 else "fp32"), ""
    if requested == "fp16" and device.type == "cpu":
        return "fp32", "fp16 is slow on processors; training in fp32"
    return requested, ""
