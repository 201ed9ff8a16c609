"""Versions and settings known to cost speed or correctness, and what to do about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal

from cifarlab.machine import Machine, Software


@dataclass(frozen=True)
class Finding:
    """Something worth knowing about a machine."""

    level: Literal["problem", "warning", "note"]
    """'problem': training cannot go right. 'warning': it costs time, or may fail. 'note': good to know."""
    what: str
    remedy: str = ""
    """What to do; empty where nothing needs to be done."""
    reference: str = ""
    """Upstream issue, such as 'pytorch/pytorch#163347'."""

    @property
    def text(self) -> str:
        """The finding in a line, and what to do in a second one."""
        reference = f" ({self.reference})" if self.reference else ""
        return f"{self.what}{reference}" + (f"\ndo: {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Hazard:
    """Software known to go wrong."""

    applies: Callable[[Software], bool]
    finding: Finding
    """Its text names fields of Software in braces."""


def _version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: (2, 13, 0) for '2.13.0+cpu', () for ''."""
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3])


HAZARDS = (
    Hazard(
        lambda s: _version(s.torch) < (2, 10),
        Finding(
            "warning",
            "torch {torch} is older than 2.10, the oldest that cifarlab supports; 2.5 gave wrong bf16 convolutions",
            "pip install --upgrade torch",
            "pytorch/pytorch#163347",
        ),
    ),
    Hazard(
        lambda s: _version(s.onednn) == (3, 12, 3),  # in builds of torch 2.14 before and at its release; 3.12.4 is good
        Finding(
            "warning",
            "oneDNN {onednn} multiplies fp16 matrices a thousand times too slowly on processors with AMX",
            "leave --train.precision on auto, which never takes fp16 on a CPU",
            "pytorch/pytorch#193951",
        ),
    ),
    Hazard(
        lambda s: s.torch.startswith("2.13.0.dev"),
        Finding(
            "warning",
            "torch {torch} is a preview in which some bf16 convolutions on CPUs are 4 to 16 times slower",
            "take a release: pip install --upgrade torch",
            "pytorch/pytorch#183815",
        ),
    ),
    Hazard(
        lambda s: bool(s.torchvision) and s.torch.endswith("+cpu") and not s.torchvision.endswith("+cpu"),
        Finding(
            "warning",
            "torchvision {torchvision} is built for CUDA and fails at import beside torch {torch}; cifarlab does "
            "without it, but libraries that look for it fail with it",
            "pip uninstall torchvision",
            "pytorch/vision#9085",
        ),
    ),
    Hazard(
        lambda s: s.freezing,
        Finding(
            "warning",
            "TORCHINDUCTOR_FREEZING=1 can make a compiled model 15 times slower than an uncompiled one on a CPU",
            "unset TORCHINDUCTOR_FREEZING",
            "pytorch/pytorch#190757",
        ),
    ),
    Hazard(
        lambda s: not s.compiler,
        Finding(
            "note", "there is no C++ compiler, which --train.compile needs", "install g++ (Linux) or Xcode (macOS)"
        ),
    ),
    Hazard(
        lambda s: bool(s.compiler) and not s.python_headers,
        Finding(
            "note", "Python.h is missing, which --train.compile needs", "install python3-dev, or what has that file"
        ),
    ),
)


def find_in_software(software: Software) -> Iterator[Finding]:
    """Tell of versions with known hazards, and of what torch.compile lacks."""
    for hazard in HAZARDS:
        if hazard.applies(software):
            yield replace(hazard.finding, what=hazard.finding.what.format(**asdict(software)))


def find_in_threads(machine: Machine) -> Iterator[Finding]:
    """Tell where torch computes with more or fewer threads than there are cores to use."""
    processor, software = machine.processor, machine.software
    cores, threads = processor.usable_cores, software.threads
    for name, value in software.thread_variables.items():
        if not re.fullmatch(r"\s*[1-9]\d*(\s*,\s*[1-9]\d*)*\s*", value):  # OpenMP takes a list, one number a level
            yield Finding("warning", f"{name}={value!r} is not a number of threads", f"set {name}={cores} or unset it")
    if threads > processor.usable_threads:
        what = f"torch computes with {threads} threads, but only {processor.usable_threads} can run at once"
        yield Finding("warning", what, f"set OMP_NUM_THREADS={cores}")
    elif threads < cores:
        named = " and ".join(f"{name}={value}" for name, value in software.thread_variables.items())
        because = f", because of {named}" if named else ""
        yield Finding(
            "warning", f"torch computes with {threads} of {cores} cores{because}", f"set OMP_NUM_THREADS={cores}"
        )
