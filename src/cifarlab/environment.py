"""Where a run was made: versions, hardware, commit, command; what is needed to judge and repeat its figures."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import cifarlab
from cifarlab.machine import cpu_name, instruction_sets


def describe_environment() -> dict[str, Any]:
    """Return versions, hardware, git commit, command line and time, as plain values."""
    return {
        "cifarlab": cifarlab.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "instruction_sets": [name for name, there in instruction_sets().items() if there],
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git_commit": _git_commit(),
        "command": shlex.join([_program(), *map(_without_password, sys.argv[1:])]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _program() -> str:
    name = Path(sys.argv[0]).name
    return "cifarlab" if name == "__main__.py" else name  # python -m cifarlab


def _without_password(word: str) -> str:
    """Return a word of a command without the password of an address in it: commands are shown on pages."""
    word = re.sub(r"(://[^/@:\s]*:)[^/\s]*@", r"\1***@", word)
    return re.sub(r"(://.*[?&]password=)[^&\s]*", r"\1***", word)


def process_start() -> float:
    """Return when this process began, in seconds of time.monotonic(); now, where the system does not tell."""
    try:
        after_name = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        since_boot = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic()


def peak_memory() -> int | None:
    """Return the most main memory this process has held at once, in bytes; None where the system does not tell."""
    # not getrusage: there a process started by a large one begins with that one's peak
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _git_commit() -> str | None:
    """Return the commit of the source tree this package runs from; None where it is not a checkout."""
    file = Path(__file__).resolve()
    try:
        # installed in the virtual environment of a project, this file lies within that project's checkout
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _git(file.parent, "rev-parse", "HEAD") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
