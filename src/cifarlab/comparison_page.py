"""The page of a comparison: the answer first, then what it rests on; one file that loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment
from matplotlib.figure import Figure

from cifarlab import pages
from cifarlab.answers import Answers
from cifarlab.comparison import Comparison
from cifarlab.config_yaml import changed_fields
from cifarlab.data.imageset import ImageSet
from cifarlab.errors import RunError
from cifarlab.phrases import NO_SPREAD, beyond_images, digits_of, interval, number, p_text, p_value, per_cent, points
from cifarlab.plots import comparison as plots
from cifarlab.plots.style import save_figure
from cifarlab.run import Run, write_text

_PICTURES = 12
_MOST_ROWS = 30  # of a plot; the tables hold them all
_MOST_FIELDS = 40


def write_page(
    page: Path, comparison: Comparison, answers: Answers, notes: Sequence[str], images: ImageSet | None
) -> None:
    """Write the page, and its plots as PNG and SVG beside it.

    Args:
        page: Path of the HTML file; plots go to plots/ in its folder.
        comparison: Figures and findings.
        answers: What was compared.
        notes: What the reader should know besides.
        images: The split's images; None leaves pictures out.

    Raises:
        RunError: If the folder cannot be written.
    """
    figures = _figures(comparison) | _picture_figures(comparison, answers, images)
    try:
        pictures = {name: _save(figure, page.parent / "plots" / name) for name, figure in figures.items()}
    except OSError as error:
        raise RunError(f"cannot write {page.parent}: {error.strerror or error}; choose another with --out") from error
    context = {
        "css": pages.stylesheet(),
        "answers": answers,
        "notes": notes,
        "pictures": pictures,
        "shown": _PICTURES,
        "fields": differing_fields(answers)[:_MOST_FIELDS],
        "field_columns": _distinct_recipes(answers),
        "reads": [_test_reads(source) for source in answers.sources],
        "rivals": comparison.rivals,
        "groups_of": comparison.groups_of,
        "most_rows": _MOST_ROWS,
        **vars(comparison),
    }
    write_text(page, _environment().get_template("compare.html.j2").render(context))


def _save(figure: Figure, path: Path) -> str:
    """Write a figure and return it as a data URI: plots as SVG, pictures as PNG."""
    png, svg = save_figure(figure, path)
    chosen = png if path.name.startswith("right_alone") else svg
    return pages.data_uri(chosen.read_bytes(), chosen.suffix)


def _environment() -> Environment:
    environment = pages.environment()
    environment.filters |= {
        "per_cent": per_cent,
        "interval": interval,
        "interval_beside": lambda ends: interval(ends, digits_of(ends)),  # as points() writes the one beside it
        "p": p_value,
        "p_text": p_text,
        "number": number,
        "points": points,
        "difference": lambda pair: points(pair.difference, pair.interval, signed=True),
        "beyond": lambda parts: beyond_images(parts.distribution_seed_sd, few=parts.few_seeds),
    }
    environment.globals["no_spread"] = NO_SPREAD
    return environment


def _figures(comparison: Comparison) -> dict[str, Figure]:
    where = f"{comparison.num_images:,} images"
    accuracy = {one.name: one.accuracy for one in comparison.models}
    if comparison.recipes:
        bars = [
            plots.Bar(one.name, one.mean, one.interval, tuple(accuracy[member] for member in one.members))
            for one in comparison.recipes
        ]
        axis = "accuracy: small dots are seeds; line: 95 % interval of the mean over seeds"
    else:
        models = sorted(comparison.models, key=lambda one: -one.accuracy)
        bars = [plots.Bar(one.name, one.accuracy, one.interval) for one in models]
        axis = "accuracy, with the 95 % interval of each alone"
    figures = {"accuracy": plots.accuracy_figure(bars[:_MOST_ROWS], f"Accuracy ({where})", axis)}
    pairs = [
        plots.Bar(pair.a, pair.seeds.difference, pair.seeds.interval, strong=pair.apart, minus=pair.b)
        for pair in comparison.recipe_pairs
    ] or [
        plots.Bar(pair.a, pair.paired.difference, pair.paired.interval, strong=pair.apart, minus=pair.b)
        for pair in comparison.model_pairs
    ]
    axis = "points, with 95 % interval; blue: told apart by the test, after correction; grey: not"
    if pairs:
        figures["differences"] = plots.difference_figure(pairs[:_MOST_ROWS], f"Differences ({where})", axis)
    if comparison.classes:
        rows = sorted(comparison.classes, key=lambda one: -one.difference)
        shown = rows if len(rows) <= _MOST_ROWS else [*rows[: _MOST_ROWS // 2], *rows[-_MOST_ROWS // 2 :]]
        bars = [plots.Bar(one.name, one.difference, one.interval, strong=one.apart) for one in shown]
        figures["classes"] = plots.difference_figure(bars, f"Differences by class ({where})", axis)
    return figures


def _picture_figures(comparison: Comparison, answers: Answers, images: ImageSet | None) -> dict[str, Figure]:
    figures = {}
    for rank, side in enumerate(comparison.sides):
        if images is None or not side.positions:
            continue
        positions = side.positions[:_PICTURES]
        shown = [
            plots.Answered(answers.class_names[int(answers.labels_N[n])], answers.class_names[answer])
            for n, answer in zip(positions, side.answers, strict=False)
        ]
        pixels = images.images_NCHW[torch.tensor(positions, dtype=torch.int64)]
        alone = len(side.others) == len(comparison.rivals) - 1
        title = f"Right by {side.name} " + ("alone" if alone else f"and not by {side.others[0]}")
        figures[f"right_alone_{rank}"] = plots.pictures_figure(pixels, shown, title)
    return figures


def _distinct_recipes(answers: Answers) -> list[str]:
    pairs = zip(answers.candidates, answers.configs, strict=True)
    return list(dict.fromkeys(one.recipe for one, config in pairs if config))


def differing_fields(answers: Answers) -> list[tuple[str, list[str]]]:
    """Return the fields in which the compared configurations differ, with the value of each recipe, seeds aside.

    One column a distinct recipe, in the order in which they were given; nothing for files alone.
    """
    chosen = {one.recipe: config for one, config in zip(answers.candidates, answers.configs, strict=True) if config}
    configs = [replace(config, train=replace(config.train, seed=0)) for config in chosen.values()]
    fields = dict.fromkeys(field for config in configs for field in changed_fields(config, configs[0]))

    def value(config: Any, field: str) -> str:
        for name in field.split("."):
            config = getattr(config, name)
        return json.dumps(config) if isinstance(config, (tuple, bool)) else str(config)

    return [(field, [value(config, field) for config in configs]) for field in fields]


def _test_reads(source: str) -> int | None:
    """Return how often a run's test split was read; None for a file."""
    path = Path(source)
    return len(Run(path).test_reads()) if (path / "config.yaml").is_file() else None
