"""Table of what a fast recipe may take on two CPU cores beside its clock: memory, a start, augmentation."""

from __future__ import annotations

from time_table import (
    NONE,
    TARGETS,
    Result,
    against,
    is_current,
    made_on,
    memory_bytes,
    name_cell,
    table,
    within_two_cores,
)

MEMORY_BYTES = 2.5e9
FIRST_STEP_SECONDS = 3.0
AUGMENTATION_SHARE = {"fast94": 0.03}
"""Share of training that may go into making batches, where one is asked for."""


def limits_table(results: list[Result]) -> str:
    """Return one row for every measurement of a fast recipe on at most two cores, by the recipe as it is today."""
    header = ["recipe", "memory", "start to first step", "augmentation", "n", "machine"]
    rows = [_row(one) for name in TARGETS["cpu"] for one in results if one["recipe"] == name and _counts(one)]
    return table(header, rows)


def _counts(result: Result) -> bool:
    return result["device"] == "cpu" and is_current(result) and within_two_cores(result)


def _row(result: Result) -> list[str]:
    first_step = result["summary"].get("seconds_to_first_step", {}).get("mean")
    share = result.get("augmentation_share")
    limit = AUGMENTATION_SHARE.get(result["recipe"])
    return [
        name_cell(result),
        _memory(result),
        against(first_step, FIRST_STEP_SECONDS, " s"),
        against(share, limit, " %", factor=100, decimals=1) if share is not None or limit else NONE,
        str(len(result["runs"])),
        made_on(result),
    ]


def _memory(result: Result) -> str:
    """Return a run's memory against the limit; a bound that lies above it shows nothing."""
    most, is_bound = memory_bytes(result)
    if most is None or not is_bound:
        return against(most, MEMORY_BYTES, " GB", factor=1e-9)
    verdict = "met" if most <= MEMORY_BYTES else "not shown"
    return f"at most {most / 1e9:.2f} GB (≤ {MEMORY_BYTES / 1e9:g} GB): {verdict}"
