"""What this machine is: processor, memory, GPUs and software, read where Linux and macOS keep it, unknown elsewhere.

What counts is what this process may use: the limits of containers (cgroups, versions 1 and 2) and of CPU affinity are
respected. Readers of system files take ``root``, the folder that stands for /.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

import torch

from cifarlab.device import cpp_compiler, has_python_headers

_ROOT = Path("/")
# those that decide how fast convolutions are; processors of rented machines often hide their model's name
_X86_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_ARM_SETS = ("asimd", "bf16", "sve")


@dataclass(frozen=True)
class Processor:
    """The processor, and how much of it this process may use."""

    name: str
    hardware_threads: int
    """Logical processors of the machine."""
    allowed_threads: int
    """Those of them this process may run on (affinity, cpuset)."""
    allowed_cores: int
    """Physical cores among those; two hardware threads of a core share its arithmetic units."""
    quota: float | None
    """CPU time the container may use, in cores; None if it has no limit."""
    instruction_sets: dict[str, bool]
    """Those that matter to convolutions and whether they are there; empty if unknown."""

    @property
    def usable_cores(self) -> int:
        """Physical cores that can work for this process at once, at least 1."""
        return max(1, min(self.allowed_cores, int(self.quota or self.allowed_cores)))

    @property
    def usable_threads(self) -> int:
        """Threads beyond which they only wait for each other, at least 1."""
        return max(1, min(self.allowed_threads, int(self.quota or self.allowed_threads)))


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes; None where unknown."""

    total: int | None
    available: int | None
    """What can be had without swapping, within the container's limit."""
    limit: int | None
    """The container's limit; None if it has none below the total."""


@dataclass(frozen=True)
class Gpu:
    """One GPU that torch can use."""

    device: str
    """'cuda' (ROCm too) or 'mps'."""
    name: str
    memory: int | None
    """Bytes; for mps, what torch recommends to stay below."""
    capability: str
    """Compute capability, such as '9.0'; empty where there is no such thing."""
    bf16: bool | None
    """Whether it computes in bf16 itself; None if unknown."""


@dataclass(frozen=True)
class Software:
    """Versions and settings on which speed and correctness depend."""

    python: str
    torch: str
    onednn: str
    """Version of the library of torch's CPU convolutions; empty if this build has none."""
    torchvision: str
    """Empty if it is not installed, which is as it should be."""
    compiler: str
    """Path of the C++ compiler torch.compile would take; empty if there is none."""
    python_headers: bool
    """Whether Python.h is there, without which torch.compile cannot build."""
    threads: int
    """Threads torch computes with."""
    thread_variables: dict[str, str]
    """OMP_NUM_THREADS and MKL_NUM_THREADS, where set."""
    nvidia_driver: bool
    """Whether there is an NVIDIA driver, whatever torch was built for."""
    freezing: bool
    """Whether TORCHINDUCTOR_FREEZING is on."""


@dataclass(frozen=True)
class Machine:
    """All of it."""

    platform: str
    processor: Processor
    memory: Memory
    gpus: tuple[Gpu, ...]
    software: Software


def read_machine() -> Machine:
    """Describe the machine this process runs on; nothing is measured."""
    return Machine(platform.platform(), read_processor(), read_memory(), tuple(read_gpus()), read_software())


def cpu_name(root: Path = _ROOT) -> str:
    """Return the name of the processor as its maker gives it, or else the name of its architecture."""
    return (
        _cpuinfo(root).get("model name")
        or _sysctl().get("machdep.cpu.brand_string")
        or platform.processor()
        or platform.machine()
    )


def read_processor(root: Path = _ROOT) -> Processor:
    """Describe the processor."""
    present = os.cpu_count() or 1
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(present))
    return Processor(
        name=cpu_name(root),
        hardware_threads=present,
        allowed_threads=len(allowed),
        allowed_cores=count_cores(allowed, root),
        quota=cpu_quota(root),
        instruction_sets=instruction_sets(root),
    )


def count_cores(cpus: Iterable[int], root: Path = _ROOT) -> int:
    """Count the physical cores to which logical processors belong; where that is unknown, each counts as one."""
    cpus = set(cpus)
    siblings = {
        _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus
    }
    physical = _sysctl().get("hw.physicalcpu", "")
    return min(len(siblings), int(physical)) if physical.isdigit() else len(siblings)


def instruction_sets(root: Path = _ROOT) -> dict[str, bool]:
    """Return which of the instruction sets that matter are there; empty where the system does not tell."""
    cpuinfo, sysctl = _cpuinfo(root), _sysctl()
    if flags := cpuinfo.get("flags", "").split():
        return {name: name in flags for name in _X86_SETS}
    if features := cpuinfo.get("Features", "").split():
        return {name: name in features for name in _ARM_SETS}
    if flags := sysctl.get("machdep.cpu.leaf7_features", "").lower().split():  # macOS on Intel
        return {name: name in flags for name in _X86_SETS[:2]}
    if "hw.optional.arm.FEAT_BF16" in sysctl:  # macOS on Apple's own
        return {"bf16": sysctl["hw.optional.arm.FEAT_BF16"] == "1"}
    return {}


def all_instruction_sets(root: Path = _ROOT) -> str:
    """Return all that the system tells of instruction sets, to tell processors apart that run each other's code or not.

    Those of :func:`instruction_sets` do not suffice: of two processors with AVX-512 one may lack its later parts.
    """
    cpuinfo = _cpuinfo(root)
    names = cpuinfo.get("flags") or cpuinfo.get("Features") or _sysctl().get("machdep.cpu.leaf7_features", "")
    return " ".join(sorted(names.split())) or cpu_name(root)


def cgroup_folders(controller: str, root: Path = _ROOT) -> list[Path]:
    """Return the folders that may hold limits of this process, its own group first, then those around it.

    Args:
        controller: 'cpu' or 'memory'.
        root: Stands for /.
    """
    mounts = root / "sys/fs/cgroup"
    folders: list[Path] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # version 2 has one tree; version 1 one for each controller or for a few, such as cpu,cpuacct
        mount = next((m for m in (mounts / controllers, mounts / controller) if controllers and m.is_dir()), mounts)
        group = PurePosixPath(*(part for part in path.split("/") if part not in ("", "..")))
        folders += [mount / group, *(mount / parent for parent in group.parents)]
    return folders


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return the CPU time the tightest cgroup around this process grants, in cores; None if there is no limit."""
    quotas = []
    for folder in cgroup_folders("cpu", root):
        words = _text(folder / "cpu.max").split()
        words = words or [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):  # neither 'max' nor -1
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def read_memory(root: Path = _ROOT) -> Memory:
    """Read total and available memory, and the limit of the tightest cgroup."""
    lines = (line.split() for line in _text(root / "proc/meminfo").splitlines())
    meminfo = {words[0]: int(words[1]) * 1024 for words in lines if len(words) >= 2 and words[1].isdigit()}
    total, available = meminfo.get("MemTotal:"), meminfo.get("MemAvailable:")
    physical = _sysctl().get("hw.memsize", "")
    if total is None and physical.isdigit():
        total = int(physical)
    limit = None
    for folder in cgroup_folders("memory", root):
        group_limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        if group_limit is None or (total is not None and group_limit >= total):  # version 1 writes no limit as 2^63
            continue
        limit = min(group_limit, limit or group_limit)
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes") or 0
        stat = dict(line.split()[:2] for line in _text(folder / "memory.stat").splitlines())
        # the kernel counts its cache of files as used, and gives up what was not used lately when asked
        cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        left = max(0, group_limit - used + cached)
        available = min(left, available if available is not None else left)
    return Memory(total, available, limit)


def read_gpus() -> list[Gpu]:
    """Describe the GPUs that torch can use."""
    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            with torch.cuda.device(index):
                bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            capability = f"{properties.major}.{properties.minor}"
            gpus.append(Gpu("cuda", properties.name, properties.total_memory, capability, bf16))
    if torch.backends.mps.is_available():
        gpus.append(Gpu("mps", cpu_name(), torch.mps.recommended_max_memory(), "", None))
    return gpus


def read_software() -> Software:
    """Read versions and settings."""
    onednn = re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show())
    try:
        torchvision = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        torchvision = ""
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return Software(
        python=platform.python_version(),
        torch=torch.__version__,
        onednn=onednn[1] if onednn else "",
        torchvision=torchvision,
        compiler=cpp_compiler(),
        python_headers=has_python_headers(),
        threads=torch.get_num_threads(),
        thread_variables={name: os.environ[name] for name in variables if name in os.environ},
        nvidia_driver=Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None,
        freezing=os.environ.get("TORCHINDUCTOR_FREEZING") == "1",
    )


def free_disk(folder: Path) -> int | None:
    """Return the free bytes of the disk a folder is on, or will be on once it is made; None if unknown."""
    try:
        existing = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path())
        return shutil.disk_usage(existing).free
    except OSError:
        return None


def _text(path: Path) -> str:
    """Return what a small system file holds, '' where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(*paths: Path) -> int | None:
    """Return the number in the first of the files that can be read, None if it holds none."""
    text = next((text for path in paths if (text := _text(path))), "")
    return int(text) if text.isdigit() else None


def _cpuinfo(root: Path) -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


@functools.cache
def _sysctl() -> dict[str, str]:
    """Return what macOS tells of its hardware; empty elsewhere."""
    if platform.system() != "Darwin":
        return {}
    try:
        done = subprocess.run(
            ["sysctl", "machdep.cpu", "hw"], capture_output=True, text=True, timeout=5, errors="replace", check=False
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.partition(": ") for line in done.stdout.splitlines())
    return {name: value.strip() for name, _, value in pairs}
