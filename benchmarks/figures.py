"""Figures of time to accuracy: summaries and ratios, the files they stand in, and what may stand in one file.

Two kinds of files, told apart by their key "kind": "recipe" holds every single run of one recipe on one machine,
"comparison" the ratio of two recipes' train clocks, round by round. README.md tells what each figure means.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import cifarlab
from cifarlab.errors import RunError
from cifarlab.run import write_text
from cifarlab.stats import mean_and_sd, t_interval

# what decides a run beside its configuration; a change elsewhere does not keep a measurement from being continued
_TRAINING_CODE = (
    "data",
    "models",
    "training",
    "commands/train.py",
    "config.py",  # the defaults: a file holds only what differs from them
    "device.py",
    "inference.py",
    "seeding.py",
)
# what must be equal for two runs to stand in one file, beside the machine
_SAME_WORK = ("recipe", "split", "arms", "wall", "max_minutes", "clocks", "config", "code_sha256")
_SAME_FACTS = ("num_train", "precision")  # once there is a run
_SAME_MACHINE = ("cpu", "instruction_sets", "cpu_count", "threads", "gpu", "torch", "python")

_START_SECONDS = 180  # around a run: loading, compiling, validation, the start of another process


def slug(text: str) -> str:
    """Return text as a part of a file name: small letters and digits, a hyphen between words."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def device_slug(environment: dict[str, Any], device_type: str) -> str:
    """Name the hardware for a file name, such as 'nvidia-h200' or 'cpu-intel-xeon-amx'.

    Args:
        environment: As of describe_environment.
        device_type: 'cpu', 'cuda' or 'mps'.
    """
    if device_type != "cpu":
        return slug(environment["gpu"] or device_type)
    name = re.sub(r"\((r|tm)\)|\bprocessor\b|\bcpu\b|@.*", " ", environment["cpu"], flags=re.IGNORECASE)
    return "-".join(["cpu", slug(name), *(["amx"] if "amx_bf16" in environment["instruction_sets"] else [])])


def code_sha256() -> str:
    """Return the SHA-256 of the source files that training consists of, as hex: a commit does not tell of edits."""
    root = Path(cifarlab.__file__).parent
    digest = hashlib.sha256()
    for name in _TRAINING_CODE:
        path = root / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean, sd, 95 % t-interval, min, max and n of every figure.

    Of one run sd and interval are None; of equal figures the interval is, for no spread seen is not none at all.
    """
    summary: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for run in runs for name in run):
        values = [run[name] for run in runs if name in run]
        if name == "seed" or not all(type(value) in (int, float) for value in values):
            continue
        mean, sd = mean_and_sd(values)
        several = len(values) > 1
        summary[name] = {
            "mean": mean,
            "sd": sd if several else None,
            "interval": list(t_interval(values)) if several and sd > 0 else None,
            "min": min(values),
            "max": max(values),
            "n": len(values),
        }
    return summary


def compare_clocks(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compare the train clocks of two arms round by round: what drifts between rounds cancels out.

    Runs that were cut have no clock to be compared and are left out; so are rounds whose two runs do not follow each
    other, as where the command was stopped between them: what drifted meanwhile does not cancel out.

    Args:
        first: Runs of the first arm.
        second: Runs of the second arm; runs of the same seed belong to the same round.

    Returns:
        'rounds' (seed, both clocks, their ratio first / second) and 'ratio': geometric mean, the 95 % interval that is
        Student's t on the logarithms (None where no two rounds differ), and n; and 'apart', the seeds of the rounds
        left out because they were stopped.
    """
    others = {run["seed"]: run for run in second if "cut" not in run}
    whole = [run for run in sorted(first, key=lambda run: run["seed"]) if run["seed"] in others and "cut" not in run]
    apart = [run["seed"] for run in whole if _lie_apart(run, others[run["seed"]])]
    seconds = {seed: run["train_clock_seconds"] for seed, run in others.items()}
    rounds = [
        {
            "seed": run["seed"],
            "first_seconds": run["train_clock_seconds"],
            "second_seconds": seconds[run["seed"]],
            "ratio": run["train_clock_seconds"] / seconds[run["seed"]],
        }
        for run in whole
        if run["seed"] not in apart
    ]
    logs = [math.log(one["ratio"]) for one in rounds]
    mean, sd = mean_and_sd(logs) if logs else (math.nan, math.nan)
    interval = [math.exp(end) for end in t_interval(logs)] if sd > 0 else None
    geometric_mean = math.exp(mean) if logs else None
    ratio = {"geometric_mean": geometric_mean, "interval": interval, "n": len(rounds)}
    return {"rounds": rounds, "ratio": ratio, "apart": apart}


def _lie_apart(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Return whether between the ends of two runs lies more time than the later one takes, --wall included."""
    if "time" not in first or "time" not in second:
        return False
    ends = [datetime.fromisoformat(run["time"]) for run in (first, second)]
    longest = max(first["train_clock_seconds"], second["train_clock_seconds"])
    return abs((ends[0] - ends[1]).total_seconds()) > 3 * longest + _START_SECONDS


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return 'what: old -> new' for everything that forbids the runs of two recipe files to stand together."""
    pairs = [(key, old.get(key), new.get(key)) for key in _SAME_WORK]
    machines = old["environment"], new["environment"]
    pairs += [(key, machines[0].get(key), machines[1].get(key)) for key in _SAME_MACHINE]
    pairs += [(key, old[key], new[key]) for key in _SAME_FACTS if key in old and key in new]
    changed = [(key, before, after) for key, before, after in pairs if before != after]
    # a configuration or a hash would fill the terminal without saying more
    return [
        key if key in ("config", "code_sha256") else f"{key}: {_short(before)} -> {_short(after)}"
        for key, before, after in changed
    ]


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def begin_or_continue(path: Path, new: dict[str, Any], *, fresh: bool) -> dict[str, Any]:
    """Return the content a recipe file begins with: what stands in it already, if that can be continued.

    Args:
        path: The file.
        new: What a new file would hold.
        fresh: Begin anew whatever stands there.

    Raises:
        RunError: If runs stand in the file that must not be mixed with new ones.
    """
    if fresh or not path.is_file():
        return new
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        changed = differences(old, new)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise RunError(
            f"{path} cannot be continued ({error}); measure anew with --fresh, or elsewhere: --out"
        ) from error
    if changed:
        raise RunError(
            f"{path} holds runs of another measurement ({'; '.join(changed)}); "
            "runs are not mixed: measure anew with --fresh, or elsewhere with --out FOLDER"
        )
    return dict(old)


def write_figures(path: Path, content: dict[str, Any]) -> None:
    """Write a results file durably."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
