"""The plot of accuracy against train clock, from the results of one machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from time_table import YARDSTICK, headline, machine, notes, worth_showing

TUTORIAL = "resnet18"
_OURS, _YARDSTICK, _TUTORIAL = "our recipes", "yardstick: published settings", "tutorial baseline"
_TICKS = {1: "1 s", 3: "3 s", 10: "10 s", 30: "30 s", 60: "1 min", 180: "3 min", 600: "10 min", 1800: "30 min"}
_LEVELS = (10, 30, 50, 60, 70, 80, 85, 90, 92, 94, 95, 96, 97, 98, 99)
_TICKS |= {3600: "1 h", 10_800: "3 h", 36_000: "10 h"}


def points(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is drawn: the machine with the most recipes (the one measured last, among equals) and its results.

    Returns:
        'machine', 'date' (the last one), and 'recipes': name, clock (mean train clock in seconds), accuracy (mean,
        low and high of the runs, in per cent), n, note (or ''), cut (whether).
    """
    by_machine: dict[str, list[dict[str, Any]]] = {}
    for result in worth_showing(results):
        by_machine.setdefault(machine(result), []).append(result)
    if not by_machine:
        return {"machine": "", "date": "", "recipes": []}

    def dates(group: list[dict[str, Any]]) -> str:
        return str(max(result["environment"]["time"][:10] for result in group))

    name, group = max(by_machine.items(), key=lambda item: (len(item[1]), dates(item[1])))
    recipes = [
        {
            "name": result["recipe"],
            "clock": result["summary"]["train_clock_seconds"]["mean"],
            "accuracy": [100 * headline(result)[key] for key in ("mean", "min", "max")],
            "n": len(result["runs"]),
            "note": notes(result),
            "cut": any(run.get("cut") for run in result["runs"]),
        }
        for result in group
    ]
    return {"machine": name, "date": dates(group), "recipes": recipes}


def stamp(drawn: dict[str, Any]) -> str:
    """Return a line that changes with what is drawn and how; matplotlib's own bytes differ between its versions."""
    content = json.dumps(drawn, sort_keys=True).encode() + Path(__file__).read_bytes()
    return f"<!-- drawn from sha256 {hashlib.sha256(content).hexdigest()} -->\n"


def draw(drawn: dict[str, Any]) -> str:
    """Return the plot as SVG, with its stamp as the last line."""
    from cifarlab.plots import style

    figure, axes = style.new_figure(7.2, 4.2)
    # colour, marker, and on which side the name stands, so that neighbours do not collide
    kinds: dict[str, tuple[str, str, dict[str, Any]]] = {
        _OURS: (style.BLUE, "o", {"xytext": (8, 5), "va": "bottom"}),
        _YARDSTICK: (style.ORANGE, "D", {"xytext": (8, -5), "va": "top"}),
        _TUTORIAL: (style.PURPLE, "s", {"xytext": (-8, -5), "va": "top", "ha": "right"}),
    }
    for kind, (color, marker, side) in kinds.items():
        chosen = [one for one in drawn["recipes"] if _kind(one["name"]) == kind]
        for number, one in enumerate(chosen):
            mean, low, high = one["accuracy"]
            axes.errorbar(
                one["clock"],
                mean,
                yerr=[[mean - low], [high - mean]],
                color=color,
                marker=marker,
                markersize=7,
                markerfacecolor="white" if one["cut"] else color,
                capsize=3,
                linestyle="none",
                label=kind if number == 0 else None,
            )
            text = f"{one['name']}, {mean:.2f} %" + (f"\n{one['note']}" if one["note"] else "")
            axes.annotate(style.literal(text), (one["clock"], mean), textcoords="offset points", fontsize=9, **side)
    _dress(axes, drawn)
    return style.figure_bytes(figure, "svg").decode("utf-8") + stamp(drawn)


def _kind(name: str) -> str:
    return {YARDSTICK: _YARDSTICK, TUTORIAL: _TUTORIAL}.get(name, _OURS)


def _dress(axes: Any, drawn: dict[str, Any]) -> None:
    """Set scales, labels, title and legend."""
    from matplotlib.ticker import NullLocator

    from cifarlab.plots import style

    clocks = [one["clock"] for one in drawn["recipes"]] or [1.0]
    # room on the right for the last name
    left, right = min(clocks) / 2, max(clocks) * 4
    ticks = [tick for tick in _TICKS if left <= tick <= right]
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_xticks(ticks, [_TICKS[tick] for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("train clock, evaluation with test-time views included")
    # equal steps for equal factors of the error, for the last points are the dear ones
    axes.set_yscale("function", functions=(_by_error, _from_error))
    lows, highs = ([one["accuracy"][i] for one in drawn["recipes"]] or [50.0] for i in (1, 2))
    bottom, top = 100 - 1.5 * (100 - min(lows)), 100 - (100 - max(highs)) / 2
    axes.set_ylim(bottom, top)
    levels = [level for level in _LEVELS if bottom <= level <= top]
    axes.set_yticks(levels, [f"{level:g}" for level in levels])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("test accuracy (%)")
    if drawn["recipes"]:
        numbers = sorted({one["n"] for one in drawn["recipes"]})
        seeds = " to ".join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))
        style.set_title(axes, f"CIFAR-10 on {drawn['machine']}")
        axes.set_title(
            style.literal(f"mean, lowest and highest of {seeds} seeds; {drawn['date']}"),
            loc="right",
            fontsize=8,
            color=style.MUTED,
            y=-0.22,
        )
        axes.legend(loc="upper left", fontsize=8, frameon=False)


def _by_error(accuracy: Any) -> Any:
    import numpy as np

    return -np.log(np.maximum(100 - accuracy, 1e-3))


def _from_error(value: Any) -> Any:
    import numpy as np

    return 100 - np.exp(-value)
