"""Tables of time to accuracy: targets and whether they are met, all measured figures, ratios, single runs.

Everything comes from docs/results/*.json as benchmarks/time_to_accuracy.py writes them (benchmarks/README.md says what
each figure means); files of another kind are left to others.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields
from cifarlab.recipes import RECIPES

YARDSTICK = "airbench94"
NONE = "-"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a recipe is to reach on one kind of hardware; None where nothing is asked."""

    accuracy: float
    """Mean accuracy over seeds, with the recipe's test-time views, at least this; a fraction."""
    clock_seconds: float
    """Train clock, at most."""
    wall_seconds: float | None = None
    """Wall clock, at most."""
    pflop: float | None = None
    """Compute, at most."""
    yardstick_ratio: float | None = None
    """Train clock as a share of the yardstick's, at most."""

    @property
    def seeds(self) -> int:
        """Seeds asked for: 10 for recipes of seconds, 5 for those of minutes."""
        return 10 if self.clock_seconds <= 10 else 5


# 'cpu': two cores with AVX512_BF16; 'cuda': one H200. Accuracy is the mean on the CIFAR-10 test set.
TARGETS: dict[str, dict[str, Target]] = {
    "cpu": {
        "fast70": Target(accuracy=0.70, clock_seconds=2.0, wall_seconds=8.0, pflop=0.002),
        "fast90": Target(accuracy=0.90, clock_seconds=40.0, pflop=0.04),
        "fast94": Target(accuracy=0.94, clock_seconds=220.0, pflop=0.20, yardstick_ratio=0.35),
        "fast96": Target(accuracy=0.96, clock_seconds=2700.0, pflop=2.0),
    },
    "cuda": {
        "fast90": Target(accuracy=0.90, clock_seconds=0.5, pflop=0.04),
        "fast94": Target(accuracy=0.94, clock_seconds=1.0, pflop=0.20),
        "fast96": Target(accuracy=0.96, clock_seconds=10.0, pflop=2.0),
        "best": Target(accuracy=0.975, clock_seconds=480.0),
    },
}
_PLACES = {"cpu": "Two CPU cores", "cuda": "One GPU (targets: an H200)"}

Result = dict[str, Any]


def load_results(folder: Path) -> tuple[list[Result], list[Result]]:
    """Return recipe results on the test split, in the order of cifarlab.recipes, the fastest first; and comparisons."""
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    contents = [content for content in contents if isinstance(content, dict) and content.get("split") == "test"]
    recipes = [content for content in contents if content.get("kind") == "recipe" and content["runs"]]
    places = {name: place for place, name in enumerate(RECIPES)}
    recipes.sort(key=lambda content: (places.get(content["recipe"], len(places)), _mean_clock(content)))
    return recipes, [content for content in contents if content.get("kind") == "comparison"]


def _mean_clock(result: Result) -> float:
    """Return the mean train clock in seconds; infinite where none was taken."""
    return float(result["summary"].get("train_clock_seconds", {}).get("mean", math.inf))


def is_current(result: Result) -> bool:
    """Return whether a recipe is today what it was when it was measured."""
    name = result["recipe"]
    return name in RECIPES and changed_fields(RECIPES[name](), Config()) == result.get("config")


def worth_showing(results: list[Result]) -> list[Result]:
    """Return the timed results of today's recipes, and older ones of a recipe only where it was not measured since."""
    results = [result for result in results if "train_clock_seconds" in result["summary"]]
    measured = {result["recipe"] for result in results if is_current(result)}
    return [result for result in results if is_current(result) or result["recipe"] not in measured]


def headline(result: Result) -> dict[str, Any]:
    """Return the summary of the accuracy a recipe is judged by: with test-time views where it has them."""
    summary = result["summary"]
    figures: dict[str, Any] = summary.get("accuracy_tta", summary["accuracy"])
    return figures


def machine(result: Result) -> str:
    """Name the hardware; instruction sets too, for names of rented processors tell little."""
    where = result["environment"]
    if result["device"] != "cpu":
        return str(where["gpu"] or result["device"])
    sets = ", ".join(name.upper() for name in where.get("instruction_sets", ()) if "bf16" in name)
    return (
        f"{where['cpu']}{f' ({sets})' if sets else ''}, {where['threads']} thread{'' if where['threads'] == 1 else 's'}"
    )


def made_on(result: Result) -> str:
    """Return hardware, version and date of a result."""
    where = result["environment"]
    return f"{machine(result)}; torch {where['torch']}; {where['time'][:10]}"


def cut_note(result: Result) -> str:
    """Return where a result's runs were cut, '' if they were not."""
    cut = [run for run in result["runs"] if run.get("cut")]
    if not cut:
        return ""
    epochs = sorted({run["epochs"] for run in cut})
    planned = result["config"].get("train.epochs", Config().train.epochs)
    return f"cut after epoch {' or '.join(map(str, epochs))} of {planned:g}"


def notes(result: Result) -> str:
    """Return what must be known about a result's figures, '' if nothing."""
    return ", ".join(note for note in (cut_note(result), "" if is_current(result) else "earlier settings") if note)


def name_cell(result: Result) -> str:
    """Return a recipe's name with its notes."""
    return f"`{result['recipe']}`" + (f" ({notes(result)})" if notes(result) else "")


def percent(figures: dict[str, Any] | None) -> str:
    """Return mean and standard deviation of a share in per cent."""
    if figures is None:
        return "none"
    spread = "" if figures["sd"] is None else f" ± {100 * figures['sd']:.2f}"
    return f"{100 * figures['mean']:.2f}{spread} %"


def seconds(figures: dict[str, Any] | None) -> str:
    """Return mean and standard deviation of a time."""
    if figures is None:
        return NONE
    decimals = 1 if figures["mean"] >= 10 else 2
    spread = "" if figures["sd"] is None else f" ± {figures['sd']:.{decimals}f}"
    return f"{figures['mean']:.{decimals}f}{spread} s"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def headline_table(results: list[Result]) -> str:
    """Return one row per result worth showing, for the README."""
    header = ["recipe", "test accuracy", "with test-time views", "train clock", "of it evaluation"]
    rows = [
        [
            name_cell(result),
            percent(result["summary"]["accuracy"]),
            percent(result["summary"].get("accuracy_tta")),
            seconds(result["summary"]["train_clock_seconds"]),
            seconds({**result["summary"]["evaluation_seconds"], "sd": None}),
            pflop(result),
            str(len(result["runs"])),
            made_on(result),
        ]
        for result in worth_showing(results)
    ]
    return table([*header, "compute", "n", "machine"], rows)


def pflop(result: Result) -> str:
    """Return the compute of a result."""
    figures = result["summary"].get("compute_pflop")
    return f"{figures['mean']:.4f} PFLOP" if figures else NONE


def against(
    value: float | None,
    target: float | None,
    unit: str,
    *,
    factor: float = 1,
    decimals: int = 2,
    at_least: bool = False,
    enough: bool = True,
) -> str:
    """Return a cell: what was measured, what is asked, and whether that is met.

    Args:
        value: The measured mean; None if it was not measured.
        target: What it is to be at most, or at least; None if nothing is asked.
        unit: With the space before it, if any.
        factor: From the value to the unit.
        decimals: Of the measured figure.
        at_least: Whether more is better.
        enough: Whether there are as many seeds as asked for; before that nothing is met for good.
    """
    shown = "unmeasured" if value is None else f"{factor * value:.{decimals}f}{unit}"
    if target is None:
        return NONE if value is None else shown
    asked = f"{shown} ({'≥' if at_least else '≤'} {factor * target:g}{unit})"
    if value is None:
        return asked
    met = value >= target if at_least else value <= target
    return f"{asked}: {'met' if met else '**not met**'}{'' if enough else ' so far'}"


def within_two_cores(result: Result) -> bool:
    """Return whether a result can be held against what is asked of two cores."""
    return bool(result["device"] != "cpu" or result["environment"]["threads"] <= 2)


def find_ratio(comparisons: list[Result], result: Result) -> dict[str, Any] | None:
    """Return the ratio of a result's train clock to the yardstick's, measured in alternation on the same machine."""
    for one in comparisons:
        if one["ratio"]["n"] == 0 or machine(one) != machine(result):
            continue
        ratio: dict[str, Any] = one["ratio"]
        if (one["first"], one["second"]) == (result["recipe"], YARDSTICK) and _has_clocks_of(one, "first", result):
            return ratio
        if (one["second"], one["first"]) == (result["recipe"], YARDSTICK) and _has_clocks_of(one, "second", result):
            ends = ratio["interval"] and [1 / end for end in reversed(ratio["interval"])]
            return {"geometric_mean": 1 / ratio["geometric_mean"], "interval": ends, "n": ratio["n"]}
    return None


def _has_clocks_of(one: Result, place: str, result: Result) -> bool:
    """Return whether a comparison is of a result's own runs, not of runs that were measured anew since."""
    clocks = {run["seed"]: run.get("train_clock_seconds") for run in result["runs"]}
    return all(clocks.get(row["seed"]) == row[f"{place}_seconds"] for row in one["rounds"])


def target_row(name: str, target: Target, result: Result | None, ratio: dict[str, Any] | None) -> list[str]:
    """Return one row of the table of targets; without a result everything asked for is unmeasured."""
    num_seeds = len(result["runs"]) if result else 0

    def mean(figure: str) -> float | None:
        return result["summary"][figure]["mean"] if result and figure in result["summary"] else None

    cell = functools.partial(against, enough=num_seeds >= target.seeds)
    # of an alternation that was stopped, one arm has a run more than there are rounds
    ratio_cell = functools.partial(against, enough=bool(ratio and ratio["n"] >= target.seeds), decimals=3)
    accuracy = headline(result)["mean"] if result else None
    return [
        name_cell(result) if result else f"`{name}`",
        cell(accuracy, target.accuracy, " %", factor=100, at_least=True),
        cell(mean("train_clock_seconds"), target.clock_seconds, " s"),
        cell(mean("wall_clock_seconds"), target.wall_seconds, " s"),
        ratio_cell(ratio["geometric_mean"] if ratio else None, target.yardstick_ratio, ""),
        cell(mean("compute_pflop"), target.pflop, " PFLOP", decimals=4),
        f"{num_seeds} of {target.seeds}",
        made_on(result) if result else NONE,
    ]


def targets_tables(results: list[Result], comparisons: list[Result]) -> str:
    """Return a table of targets for each kind of hardware."""
    header = ["recipe", "accuracy, mean", "train clock", "wall clock", f"of {YARDSTICK}'s clock", "compute"]
    parts = []
    for device, targets in TARGETS.items():
        rows = []
        for name, target in targets.items():
            measured = [
                result
                for result in results
                if (result["device"], result["recipe"]) == (device, name)
                and is_current(result)
                and within_two_cores(result)
            ]
            rows += [target_row(name, target, one, find_ratio(comparisons, one)) for one in measured]
            if not measured:
                rows.append(target_row(name, target, None, None))
        parts.append(f"{_PLACES[device]}:\n\n{table([*header, 'n', 'machine'], rows)}")
    return "\n\n".join(parts)


def measured_table(results: list[Result]) -> str:
    """Return one row of all figures per result."""
    header = ["recipe", "accuracy", "with views", "95 % interval", "lowest", "train clock", "of it evaluation"]
    header += ["wall clock", "to first step", "memory", "augmentation", "n", "machine"]
    rows = []
    for result in results:
        summary, judged = result["summary"], headline(result)
        ends = judged["interval"]
        share = result.get("augmentation_share")
        rows.append(
            [
                name_cell(result),
                percent(summary["accuracy"]),
                percent(summary.get("accuracy_tta")),
                f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f} %" if ends else NONE,
                f"{100 * judged['min']:.2f} %",
                seconds(summary.get("train_clock_seconds")),
                seconds(summary.get("evaluation_seconds")),
                seconds(summary.get("wall_clock_seconds")),
                seconds(summary.get("seconds_to_first_step")),
                memory(result),
                f"{100 * share:.1f} %" if share is not None else NONE,
                str(len(result["runs"])),
                made_on(result),
            ]
        )
    return table(header, rows)


def memory_bytes(result: Result) -> tuple[float | None, bool]:
    """Return the most main memory a run held, None where it was not taken, and whether other runs shared its process.

    What a process held at most after any of its runs bounds what one run of the recipe takes, so the lowest counts.
    """
    figures = result["summary"].get("peak_memory_bytes")
    is_bound = not result.get("wall")
    return (figures["min" if is_bound else "max"] if figures else None), is_bound


def memory(result: Result) -> str:
    """Return the most main memory held, or of a GPU's own."""
    gpu = result["summary"].get("gpu_memory_bytes")
    if gpu:
        return f"{gpu['max'] / 1e9:.2f} GB of the GPU"
    most, is_bound = memory_bytes(result)
    return NONE if most is None else f"{'at most ' if is_bound else ''}{most / 1e9:.2f} GB"


def _age_of_comparison(one: Result, results: list[Result]) -> str:
    """Return whether recipes or their runs are others today than those that were compared, '' if not."""
    compared = [
        result
        for place in ("first", "second")
        for result in results
        if result["recipe"] == one[place] and machine(result) == machine(one) and _has_clocks_of(one, place, result)
    ]
    if len(compared) < 2:
        return " (earlier runs)"
    return "" if all(map(is_current, compared)) else " (earlier settings)"


def comparison_table(comparisons: list[Result], results: list[Result]) -> str:
    """Return one row per comparison; the results are those its rounds came from, if they still stand."""
    rows = []
    for one in comparisons:
        ratio, ends = one["ratio"], one["ratio"]["interval"]
        rows.append(
            [
                f"`{one['first']}` / `{one['second']}`{_age_of_comparison(one, results)}",
                f"{ratio['geometric_mean']:.3f}",
                f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else NONE,
                str(ratio["n"]),
                made_on(one),
            ]
        )
    return table(["train clocks", "ratio, geometric mean", "95 % interval", "rounds", "machine"], rows)


def command(result: Result) -> str:
    """Return the command that measures a result again."""
    flags = ["--wall"] if result.get("wall") else []
    flags += [f"--max-minutes {result['max_minutes']:g}"] if result.get("max_minutes") else []
    flags += [] if result.get("clocks", True) else ["--no-clocks"]
    seeds = len(result["runs"])
    return " ".join(["python benchmarks/time_to_accuracy.py", *result["arms"], f"--seeds {seeds}", *flags])


def runs_section(result: Result) -> str:
    """Return a result's single runs under a heading."""
    runs = sorted(result["runs"], key=lambda run: run["seed"])
    single = [(name, value) for run in runs for name, value in run.items() if not isinstance(value, dict)]
    columns = list(dict.fromkeys(name for name, _ in single if name != "time"))
    rows = [[_figure(name, run.get(name)) for name in columns] for run in runs]
    facts = [f"{result['num_train']:,} training images"]
    facts += [result["precision"]] if "precision" in result else []
    facts += [cut_note(result)] if cut_note(result) else []
    commit = result["environment"].get("git_commit")
    facts += [f"commit {commit[:7]}"] if commit else []
    facts += [] if is_current(result) else ["settings have changed since"]
    return (
        f"## {result['recipe']} on {machine(result)}\n\n"
        f"`{command(result)}`; {', '.join(facts)}; {made_on(result).partition('; ')[2]}.\n\n{table(columns, rows)}"
    )


def _figure(name: str, value: Any) -> str:
    if value is None:
        return NONE
    if name.endswith("_bytes"):
        return f"{value / 1e9:.2f}e9"
    if isinstance(value, (bool, int)):
        return str(value)
    return f"{value:.5g}" if math.isfinite(value) else str(value)
