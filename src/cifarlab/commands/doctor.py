"""The verb ``doctor``: what this machine can do, what stands in the way, and which recipe fits it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cifarlab.arithmetic import (
    MAX_RELATIVE_ERROR,
    Rate,
    combined_rate,
    convolution_error,
    copy_bandwidth,
    measure_convolutions,
    measure_pointwise,
)
from cifarlab.config import Config
from cifarlab.console import format_bytes
from cifarlab.data.cache import cache_file, cache_folder, data_places, read_cache
from cifarlab.data.cifar import DATASETS
from cifarlab.device import Bf16Check, check_bf16_on_cpu, choose_device, choose_precision, keep_freed_memory
from cifarlab.errors import IntegrityError
from cifarlab.hazards import Finding, find_in_software, find_in_threads
from cifarlab.machine import Machine, free_disk, read_machine
from cifarlab.models import build_model
from cifarlab.models.compute import (
    convolution_outputs_per_image,
    freeze_as_trained,
    mean_over_run,
    training_pflop,
)
from cifarlab.recipes import RECIPES
from cifarlab.run import runs_root

FOR_CIFAR10 = ("fast70", "fast90", "fast94", "fast96", "best")  # by accuracy; those that exist are proposed
_WORTH_WAITING_SECONDS = 600
_MEMORY_NEEDED = 2.5e9  # what a fast recipe may take
_DISK_NEEDED = 1e9  # CIFAR-10 while it is being fetched; a run with its checkpoints takes less
_COPIED = 2**28  # bytes; more than the caches of most processors


@dataclass(frozen=True)
class Storage:
    """Where data and runs go."""

    data_folder: Path
    data_free: int | None
    """Free bytes of the disk it is on."""
    runs_folder: Path
    runs_free: int | None
    runs_writable: bool
    cifar10: Path | None
    """The verified cache file; None if there is none."""
    damaged: str = ""
    """What is wrong with a cache file that is there, or why it cannot be opened."""


@dataclass(frozen=True)
class Measured:
    """What was tried on the device that training takes; what ``quick`` left out is None or empty."""

    device: str
    precision: str
    """What training takes there by itself; 'auto' where ``quick`` left the check out."""
    bf16: Bf16Check | None = None
    """The self-check of bf16 on a CPU, by which training chooses its precision."""
    errors: dict[str, float] = field(default_factory=dict)
    """Relative error of convolutions and gradients by precision."""
    failure: str = ""
    """Why convolutions cannot be computed at all."""
    rates: tuple[Rate, ...] = ()
    pointwise_per_second: float | None = None
    """Values a second through pooling, norm and activation, in the precision of training."""
    copy_gb_per_second: float | None = None

    @property
    def right_precision(self) -> str:
        """The precision to train in: the one training takes by itself, or fp32 where that one is wrong."""
        return self.precision if self.errors.get(self.precision, 0.0) <= MAX_RELATIVE_ERROR else "fp32"


@dataclass(frozen=True)
class Estimate:
    """What a recipe takes."""

    recipe: str
    compute_pflop: float
    seconds: float | None
    """Training time by the rates measured here, right within a factor of two or so; None where there are none."""


@dataclass(frozen=True)
class Proposal:
    """What to run here."""

    command: str
    precision: str
    """The precision training takes here; 'auto' where that was not checked."""
    estimate: Estimate
    reason: str


@dataclass(frozen=True)
class Checkup:
    """What ``doctor`` found."""

    machine: Machine
    storage: Storage
    measured: Measured
    findings: tuple[Finding, ...]
    estimates: tuple[Estimate, ...]
    proposal: Proposal

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What keeps training from going right; empty on a healthy machine."""
        return tuple(finding for finding in self.findings if finding.level == "problem")

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values; what is not a finite number is None."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: plain(part) for name, part in value.items()}
            if isinstance(value, (list, tuple)):
                return [plain(part) for part in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        figures: dict[str, Any] = plain({"healthy": not self.problems, **asdict(self)})
        return figures


def doctor(*, quick: bool = False, notify: Callable[[str], None] = lambda line: None) -> Checkup:
    """Look at the machine, check and time its arithmetic, and propose a recipe.

    Args:
        quick: Leave out what takes seconds: the self-check of bf16 and all rates.
        notify: Takes one-line notices.

    Returns:
        The checkup; ``problems`` tells whether training would go right.
    """
    machine, storage = read_machine(), read_storage()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # before our own work is part of it
    if not quick:
        notify("measuring this machine, which takes some seconds")
    measured = measure(machine, quick=quick)
    findings = (
        *find_broken(measured),
        *find_in_software(machine.software),
        *find_in_threads(machine),
        *find_in_resources(machine, storage),
        *find_in_bf16(machine, measured),
        *find_in_load(machine, 0.0 if quick else load),
    )
    estimates = estimate(measured)
    proposal = propose(machine, measured, estimates)
    ranks = ("problem", "warning", "note")
    return Checkup(
        machine, storage, measured, tuple(sorted(findings, key=lambda f: ranks.index(f.level))), estimates, proposal
    )


def read_storage() -> Storage:
    """Look at the folders of data and runs, and whether CIFAR-10 is there."""
    dataset = DATASETS["cifar10"]
    cifar10, damaged = None, ""
    for path in (cache_file(dataset, place) for place in data_places()):
        if cifar10 is None and path.is_file():
            try:
                read_cache(path, dataset)
                cifar10 = path
            except (IntegrityError, OSError) as error:
                damaged = f"{path}: {error}"
    runs = runs_root()
    return Storage(
        data_folder=cache_folder(),
        data_free=free_disk(cache_folder()),
        runs_folder=runs,
        runs_free=free_disk(runs),
        runs_writable=_writable(runs),
        cifar10=cifar10,
        damaged=damaged,
    )


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or in the one around it in which it would be made."""
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=existing):  # permissions alone do not tell: a disk may be read-only
            return True
    except OSError:
        return False


def describe(checkup: Checkup) -> list[tuple[str, str]]:
    """Return what was found of the machine as pairs of a name and a line of plain words."""
    machine, storage, measured = checkup.machine, checkup.storage, checkup.measured
    processor, software = machine.processor, machine.software
    cores = f"{processor.usable_cores} usable core{'s' * (processor.usable_cores > 1)}"
    if processor.usable_threads > processor.usable_cores:
        cores += f" ({processor.usable_threads} hardware threads)"
    if processor.quota is not None or processor.allowed_threads < processor.hardware_threads:
        cores += f" of a machine with {processor.hardware_threads} hardware threads"
    sets = processor.instruction_sets
    known = ", ".join(f"{'' if there else 'no '}{name}" for name, there in sets.items()) or "instruction sets unknown"
    memory = f"{format_bytes(machine.memory.total)}, of which {format_bytes(machine.memory.available)} available"
    if machine.memory.limit is not None:
        memory += f"; limit of the container {format_bytes(machine.memory.limit)}"
    if measured.copy_gb_per_second is not None:
        memory += f"; copied at {measured.copy_gb_per_second:.1f} GB/s"
    gpus = [
        f"{gpu.name}, {gpu.device} {gpu.capability}".rstrip()
        + f", memory {format_bytes(gpu.memory)}, bf16 {'unknown' if gpu.bf16 is None else 'yes' if gpu.bf16 else 'no'}"
        for gpu in machine.gpus
    ]
    onednn = f"oneDNN {software.onednn}" if software.onednn else "no oneDNN"
    variables = ", ".join(f"{name}={value}" for name, value in software.thread_variables.items())
    folders = (("data", storage.data_folder, storage.data_free), ("runs", storage.runs_folder, storage.runs_free))
    check = measured.bf16
    bf16 = f"error {check.relative_error:.2%}, {check.speedup:.1f} times the speed of fp32" if check else "not checked"
    return [
        ("processor", f"{processor.name}, {cores}; {known}"),
        ("memory", memory),
        *((name, f"{folder}, free space {format_bytes(free)}") for name, folder, free in folders),
        ("CIFAR-10", f"{storage.cifar10}, verified" if storage.cifar10 else "not in the cache"),
        ("GPU", "; ".join(gpus) or "none that torch can use"),
        ("software", f"python {software.python}, torch {software.torch}, {onednn}"),
        ("compiler", software.compiler or "none for --train.compile"),
        ("threads", f"torch computes with {software.threads}" + (f" ({variables})" if variables else "")),
        ("bf16", bf16 if measured.device == "cpu" else f"training on {measured.device} takes {measured.precision}"),
    ]


def measure(machine: Machine, *, quick: bool) -> Measured:
    """Check and time convolutions on the device that training takes."""
    device = choose_device("auto")
    on_cpu = device.type == "cpu"
    precision, bf16 = "auto", None
    try:
        if not (quick and on_cpu):
            precision, _ = choose_precision("auto", device)
            bf16 = check_bf16_on_cpu() if on_cpu else None
        precisions = ("fp32", "bf16") if precision == "bf16" else ("fp32",)
        errors = {name: convolution_error(device, name) for name in precisions}
        measured = Measured(device.type, precision, bf16, errors)
        if quick:
            return measured
        keep_freed_memory()  # as training does
        available = machine.memory.available
        copied = _COPIED if available is None else max(2**20, min(_COPIED, available // 8))
        return replace(
            measured,
            rates=tuple(measure_convolutions(precisions, device)),
            pointwise_per_second=measure_pointwise(measured.right_precision, device),
            copy_gb_per_second=copy_bandwidth(copied),
        )
    except RuntimeError as error:  # such as a GPU for which this build of torch has no kernels
        failure = str(error).strip().splitlines() or [type(error).__name__]
        return Measured(device.type, precision, bf16, failure=failure[0])


# ---- findings


def find_broken(measured: Measured) -> Iterator[Finding]:
    """Tell where convolutions are wrong or cannot be computed."""
    other_device = "" if measured.device == "cpu" else ", or train with --train.device cpu"
    if measured.failure:
        what = f"torch cannot compute convolutions on {measured.device}: {measured.failure}"
        short = any(words in measured.failure for words in ("out of memory", "allocate memory"))
        remedy = "close other programs that hold its memory" if short else "install a build of torch for this machine"
        yield Finding("problem", what, f"{remedy}{other_device}")
    for precision, error in measured.errors.items():
        if not error <= MAX_RELATIVE_ERROR:  # true for NaN
            what = f"{precision} convolutions on {measured.device} are wrong, by {error:.1%}"
            remedy = "" if precision == "fp32" else ", or train with --train.precision fp32"
            yield Finding("problem", what, f"install another version of torch{remedy or other_device}")


def find_in_resources(machine: Machine, storage: Storage) -> Iterator[Finding]:
    """Tell of too little memory or disk, of data that is not there, and of a GPU that lies idle."""
    available = machine.memory.available
    if available is not None and available < _MEMORY_NEEDED:
        what = (
            f"{format_bytes(available)} of memory are available; a fast recipe may take {format_bytes(_MEMORY_NEEDED)}"
        )
        yield Finding("warning", what, "close other programs, or raise the limit of the container")
    if not storage.runs_writable:
        yield Finding("problem", f"{storage.runs_folder} cannot be written", "name another folder with CIFARLAB_RUNS")
    places = [("CIFARLAB_RUNS", storage.runs_folder, storage.runs_free)]
    if storage.cifar10 is None:
        places.append(("CIFARLAB_DATA", storage.data_folder, storage.data_free))
    for variable, folder, free in places:
        if free is not None and free < _DISK_NEEDED:
            what = f"the disk of {folder} has {format_bytes(free)} left"
            yield Finding("warning", what, f"free 1 GB, or name another folder with {variable}")
    if storage.damaged:
        remedy = "cifarlab fetch; it sets a damaged file aside, and leaves one it may not open where it is"
        yield Finding("warning", f"cache file of no use: {storage.damaged}", remedy)
    if storage.cifar10 is None:
        offline = bool(os.environ.get("CIFARLAB_OFFLINE"))
        what = "CIFAR-10 is not in the cache" + (", and CIFARLAB_OFFLINE keeps it from being fetched" * offline)
        yield Finding("warning" if offline else "note", what, f"{'CIFARLAB_OFFLINE= ' * offline}cifarlab fetch")
    if machine.software.nvidia_driver and not machine.gpus:
        what = f"there is an NVIDIA driver, but torch {machine.software.torch} cannot use a GPU"
        yield Finding("warning", what, "install the build of torch for your CUDA version, from pytorch.org")


def find_in_bf16(machine: Machine, measured: Measured) -> Iterator[Finding]:
    """Tell why training on this CPU takes fp32, where it does."""
    check = measured.bf16
    if check is None or check.passed:
        return
    sets = machine.processor.instruction_sets
    if not check.relative_error <= MAX_RELATIVE_ERROR:
        what = f"bf16 convolutions are wrong, by {check.relative_error:.1%}, so training takes fp32"
        yield Finding("warning", what, "pip install --upgrade torch", "pytorch/pytorch#163347")
        return
    what = f"bf16 ran at {check.speedup:.2f} times the speed of fp32, so training takes fp32"
    if any(sets.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")):
        what = f"this processor has bf16 instructions, but {what}"
        yield Finding("warning", what, "run doctor again when nothing else is computing")
    else:
        yield Finding("note", what)


def find_in_load(machine: Machine, load: float) -> Iterator[Finding]:
    """Tell that others were computing while rates were measured."""
    if load >= max(1, machine.processor.hardware_threads / 2):
        what = f"other programs are computing (load {load:.1f}), so the rates are too low and the times too long"
        yield Finding("warning", what, "run doctor again when they are done")


# ---- proposals


def estimate(measured: Measured) -> tuple[Estimate, ...]:
    """Estimate compute and time of the recipes for CIFAR-10 that exist."""
    rate = combined_rate(measured.rates, measured.right_precision)
    dataset, estimates = DATASETS["cifar10"], []
    for name in FOR_CIFAR10:
        if name in RECIPES:
            pflop, outputs = training_work(RECIPES[name](), dataset.num_train, dataset.num_classes)
            seconds = None
            if rate and measured.pointwise_per_second:
                seconds = pflop * 1e6 / rate + outputs / measured.pointwise_per_second
            estimates.append(Estimate(name, pflop, seconds))
    return tuple(estimates)


def training_work(config: Config, num_images: int, num_classes: int) -> tuple[float, float]:
    """Return the compute in PFLOP that training will record, and how many values its convolutions will put out.

    Args:
        config: The recipe.
        num_images: Images of the train set before validation is split off.
        num_classes: At least 2.
    """
    num_images = config.data.train_limit or round(num_images * (1 - config.data.val_fraction))
    batch_size, image_size = min(config.train.batch_size, num_images), config.data.image_size
    num_images_seen = batch_size * round(config.train.epochs * (num_images // batch_size))
    with torch.random.fork_rng(devices=[]):
        model = build_model(config.model, num_classes, image_size)
    freeze_as_trained(model, config.train)
    pflop = training_pflop(model, config.train, image_size, num_images_seen)
    outputs = mean_over_run(config.train, image_size, lambda size: convolution_outputs_per_image(model, size))
    return pflop, outputs * num_images_seen


def propose(machine: Machine, measured: Measured, estimates: Sequence[Estimate]) -> Proposal:
    """Choose the most accurate recipe that should end within ten minutes, and the settings it needs here."""
    timed = [e for e in estimates if e.seconds is not None]
    if timed:
        fitting = [e for e in timed if e.seconds is not None and e.seconds <= _WORTH_WAITING_SECONDS]
        chosen = fitting[-1] if fitting else timed[0]
        reason = "the most accurate that should end within ten minutes"
        reason = reason if fitting else "the shortest, for none should end within ten minutes"
    else:
        chosen = next((e for e in estimates if e.recipe == "fast90"), estimates[0])
        unknown = "it could not be measured" if measured.failure else "--quick does not measure it"
        reason = f"a good start; the speed of this machine would decide, but {unknown}"
    processor, software = machine.processor, machine.software
    command = f"cifarlab train {chosen.recipe}"
    fits = processor.usable_cores <= software.threads <= processor.usable_threads
    if measured.device == "cpu" and not fits:
        command = f"OMP_NUM_THREADS={processor.usable_cores} {command}"
    precision = measured.right_precision
    if precision != measured.precision:
        command += f" --train.precision {precision}"
    return Proposal(command, precision, chosen, reason)
