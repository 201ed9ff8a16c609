"""Tables of the systems this project succeeds: what was published, what was measured here, from docs/results/*.json.

docs/predecessors.md tells where the published figures stand and what differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from time_table import Result, headline, is_current, made_on, name_cell, percent, pflop, seconds, table

from cifarlab.config import Config
from cifarlab.recipes_predecessors import PREDECESSORS

NOT_YET = "not measured yet"


@dataclass(frozen=True, kw_only=True)
class System:
    """A published system."""

    name: str
    published: float
    """Published accuracy on test images, a fraction."""
    published_train: float | None = None
    """Published accuracy on training images; None where none was."""
    described: tuple[tuple[str, str], ...]
    """Recipes that train it as described, the most faithful first, each with how it was shortened, '' if not."""
    today: str
    """Recipe that trains the same network with today's means."""
    today_how: str = ""
    """How that network was made smaller, '' if it was not."""


SYSTEMS = (
    System(
        name="frobbygunawan/Custom-Image-Classifier-for-CIFAR-10",
        published=0.716,
        described=(("predecessor_lenet", ""),),
        today="lenet_today",
    ),
    System(
        name="mp-balaji/CIFAR-10-Image-Classification-using-PyTorch",
        published=0.8851,
        published_train=0.9598,
        described=(
            ("predecessor_parallel5", ""),
            ("predecessor_parallel5_short", "1/8 of the width, 1/7 of the epochs: 1/414 of the compute"),
        ),
        today="parallel5_today",
        today_how="1/8 of the width",
    ),
    System(
        name="InnocentKisoka/Image-Classification-on-the-CIFAR-10-Dataset-Using-Convolutional-Neural-Networks",
        published=0.7802,
        described=(("predecessor_sixconv", ""),),
        today="sixconv_today",
    ),
    System(
        name="sruthisivakumar16/CIFAR10-Img-Classification-Neural-Networks, as programmed",
        published=0.8733,
        published_train=0.9036,
        described=(("predecessor_parallel3", ""), ("predecessor_parallel3_short", "1/5 of the epochs")),
        today="parallel3_today",
    ),
    System(
        name="the same, as its README describes it",
        published=0.8733,
        published_train=0.9036,
        described=(("predecessor_sigmoid", ""), ("predecessor_sigmoid_short", "1/5 of the epochs")),
        today="sigmoid_today",
    ),
    System(
        name="tobi-199/CIFAR-10_Image_Classifier",
        published=0.81,
        published_train=0.824,
        described=(("predecessor_threeconv", ""),),
        today="threeconv_today",
    ),
)


def is_predecessor(result: Result) -> bool:
    """Return whether a result belongs to one of the systems, so that it stands in tables of its own."""
    return result["recipe"] in PREDECESSORS


def predecessors_table(results: list[Result]) -> str:
    """Return one row a system: published, as described, with today's training; by recipes as they are today."""
    header = ["system", "published, test", "train", "as described, test", "train", "clock, compute"]
    header += ["today's training of the same network, test", "clock, compute", "machine"]
    rows = []
    for system in SYSTEMS:
        then, how = _first_measured(results, system.described)
        today, _ = _first_measured(results, ((system.today, ""),))
        rows.append(
            [
                system.name,
                percent({"mean": system.published, "sd": None}),
                percent({"mean": system.published_train, "sd": None}) if system.published_train else "not told",
                _cell(then, system.described[0][0], how),
                percent(then["summary"].get("train/accuracy")) if then else "-",
                _clock(then),
                _cell(today, system.today, system.today_how),
                _clock(today),
                "; ".join(dict.fromkeys(made_on(one) for one in (then, today) if one)) or "-",
            ]
        )
    return table(header, rows)


def _first_measured(results: list[Result], recipes: tuple[tuple[str, str], ...]) -> tuple[Result | None, str]:
    """Return the result of the first recipe that has one, that of most runs, and what is said of the recipe."""
    for recipe, how in recipes:
        measured = [one for one in results if one["recipe"] == recipe and is_current(one)]
        if measured:
            return max(measured, key=lambda one: len(one["runs"])), how
    return None, ""


def _cell(result: Result | None, recipe: str, how: str) -> str:
    if result is None:
        return f"{NOT_YET} (`{recipe}`)"
    notes = [f"`{result['recipe']}`", f"n = {len(result['runs'])}"]
    notes += ["with test-time views"] if "accuracy_tta" in result["summary"] else []
    notes += [how] if how else []
    notes += ["cut"] if any(run.get("cut") for run in result["runs"]) else []
    return f"{percent(headline(result))} ({', '.join(notes)})"


def _clock(result: Result | None) -> str:
    if result is None:
        return "-"
    clock = result["summary"].get("train_clock_seconds")
    return f"{seconds(clock)}, {pflop(result)}" if clock else pflop(result)


def curves_parts(results: list[Result]) -> list[str]:
    """Return, for every measured recipe of a system, accuracy after every epoch: mean over its runs."""
    parts = []
    for result in filter(is_predecessor, results):
        curves = [run["curves"] for run in result["runs"] if "curves" in run]
        if not curves:
            continue
        num_epochs = min(len(one["train/accuracy"]) for one in curves)
        planned = result["config"].get("train.epochs", Config().train.epochs)
        rows = [
            [f"{min(epoch + 1, planned):g}", *(_mean(curves, f"{split}/accuracy", epoch) for split in ("train", "val"))]
            for epoch in range(num_epochs)
        ]
        note = f"mean of {len(curves)} run{'s' if len(curves) > 1 else ''}, {made_on(result)}"
        parts.append(f"{name_cell(result)}, {note}:\n\n{table(['epoch', 'train', 'val'], rows)}")
    return parts


def _mean(curves: list[dict[str, Any]], name: str, epoch: int) -> str:
    values = [one[name][epoch] for one in curves if name in one]
    return f"{100 * sum(values) / len(values):.2f} %" if values else "-"
