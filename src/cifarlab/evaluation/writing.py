"""What an evaluation leaves in a folder: evaluation.json, CSV tables and plots; all names end with the split.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cifarlab import metrics
from cifarlab.errors import RunError
from cifarlab.evaluation.headline import Evaluation, finite
from cifarlab.evaluation.section import Options, Scored, Table
from cifarlab.evaluation.sections import SECTIONS, Outcome
from cifarlab.run import EVALUATION_FORMAT_VERSION, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS = 500
"""Of a table within evaluation.json; its CSV file holds them all."""
_LINE = 120  # characters of evaluation.json


def read_splits(folder: Path) -> dict[str, Any]:
    """Return what evaluation.json holds of every split; nothing where there is no such file.

    Raises:
        RunError: If it is damaged, or of a newer format.
    """
    path = folder / "evaluation.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, splits = content.get("format", 1), dict(content["splits"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged: {error}; remove it and evaluate again") from error
    if version > EVALUATION_FORMAT_VERSION:
        raise RunError(f"{path} was written by a newer cifarlab; update this one")
    return splits


def store(folder: Path, evaluation: Evaluation) -> None:
    """Write an evaluation into evaluation.json; what the file holds of other splits stays."""
    splits = {**read_splits(folder), evaluation.split: evaluation.as_dict()}
    content = {"format": EVALUATION_FORMAT_VERSION, "splits": splits}
    write_text(folder / "evaluation.json", json_text(content) + "\n")


def json_text(value: Any, indent: str = "") -> str:
    """Return JSON in which what fits on a line stands on one, and so does any list of numbers.

    Args:
        value: Plain values without NaN.
        indent: Of the line on which it begins.
    """
    flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + "  "
    if len(indent) + len(flat) <= _LINE or not isinstance(value, (dict, list)):
        return flat
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {json_text(item, inner)}" for key, item in value.items()]
        opening, closing = "{}"
    elif any(isinstance(item, (dict, list)) for item in value) or all(isinstance(item, str) for item in value):
        parts = [json_text(item, inner) for item in value]
        opening, closing = "[]"
    else:
        return flat
    lines = ",\n".join(inner + part for part in parts)
    return f"{opening}\n{lines}\n{indent}{closing}"


def earlier_sections(folder: Path, evaluation: Evaluation) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the sections of an earlier evaluation of the split, if its answers were the same as far as can be told.

    Returns:
        The sections, and the names of those that are left out because the answers are others now.
    """
    earlier = read_splits(folder).get(evaluation.split) or {}
    now = evaluation.as_dict()
    told = ("num_images", "class_names", "accuracy", "accuracy_tta", "loss")
    same = all(earlier.get(key) == now[key] for key in told)
    held = {name: entry for name, entry in (earlier.get("sections") or {}).items() if name in SECTIONS}
    return (held, ()) if same else ({}, tuple(held))


def write_tables(folder: Path, evaluation: Evaluation, judged: Scored) -> None:
    """Write per_class, confusion and predictions as CSV files into evaluation/."""
    place, split, names = folder / "evaluation", evaluation.split, evaluation.class_names
    header = ("class", "support", "precision", "recall", "f1")
    plain = evaluation.as_dict()["per_class"]  # NaN becomes None, and None an empty cell
    rows: Iterable[Sequence[object]] = [[one["name"], *(one[column] for column in header[1:])] for one in plain]
    write_text(place / f"per_class_{split}.csv", csv_text(header, rows))
    confusion_KK = metrics.confusion_matrix(judged.logits_NK, judged.labels_N)
    rows = [[name, *counts] for name, counts in zip(names, confusion_KK.tolist(), strict=True)]
    write_text(place / f"confusion_{split}.csv", csv_text(("true \\ predicted", *names), rows))
    confidence_N, predicted_N = judged.logits_NK.double().softmax(1).max(1)
    image_names = judged.images.names if judged.images is not None else ()
    columns = zip(judged.labels_N.tolist(), predicted_N.tolist(), confidence_N.tolist(), strict=True)
    rows = (
        (i, image_names[i] if image_names else "", names[y], names[p], f"{c:.6f}")
        for i, (y, p, c) in enumerate(columns)
    )
    header = ("index", "name", "label", "predicted", "confidence")
    write_text(place / f"predictions_{split}.csv", csv_text(header, rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return CSV with a header line; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def write_section(folder: Path, split: str, name: str, outcome: Outcome, options: Options) -> dict[str, Any]:
    """Write a section's tables and plots, and return what evaluation.json says of it.

    Args:
        folder: The run's folder, or that of an evaluation of answers from a file.
        split: Which images.
        name: A key of SECTIONS.
        outcome: What running it led to.
        options: With what settings.

    Raises:
        RunError: If the folder cannot be written.
    """
    section = outcome.section
    for table_name, table in section.tables.items():
        assert table_name != "predictions", "predictions_<split>.csv is every evaluation's own"
        write_text(folder / "evaluation" / f"{table_name}_{split}.csv", _table_csv(table))
    save_plots(folder, split, section.plots)
    return {
        "title": SECTIONS[name].title,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": outcome.seconds,
        "findings": list(section.findings),
        "figures": finite(section.figures),
        "notes": list(section.notes),
        "skipped": section.skipped,
        "tables": {table_name: _table_dict(table) for table_name, table in section.tables.items()},
        "plots": {plot: section.captions.get(plot, "") for plot in section.plots},
        "options": _changed(options, SECTIONS[name].options),
    }


def _table_csv(table: Table) -> str:
    """Return a table as CSV; an interval takes two columns."""
    header: list[str] = []
    for column, kind in zip(table.header, table.kinds, strict=True):
        header += [f"{column}, low", f"{column}, high"] if kind == "interval" else [column]

    def cells(row: Sequence[Any]) -> list[Any]:
        flat: list[Any] = []
        for value, kind in zip(finite(row), table.kinds, strict=True):
            flat += (value or [None, None]) if kind == "interval" else [value]
        return flat

    return csv_text(header, map(cells, table.rows))


def _table_dict(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "header": list(table.header),
        "kinds": list(table.kinds),
        "num_rows": len(table.rows),
        "rows": [finite(row) for row in table.rows[:_MOST_ROWS]],
    }


def _changed(options: Options, heeded: Collection[str]) -> dict[str, Any]:
    """Return the settings that a section heeds and that differ from their defaults."""
    usual = Options()
    return {key: getattr(options, key) for key in heeded if getattr(options, key) != getattr(usual, key)}


def write_mistakes(folder: Path, evaluation: Evaluation, judged: Scored) -> None:
    """Draw the most confident mistakes, where the images are at hand.

    Args:
        folder: Where.
        evaluation: The figures.
        judged: The answers.

    Raises:
        RunError: If the folder cannot be written.
    """
    from cifarlab.plots.evaluation import mistakes_figure

    if judged.images is None:
        return
    wrong = torch.tensor([one.index for one in evaluation.mistakes], dtype=torch.int64)
    title = f"Most confident mistakes ({evaluation.split} split, {evaluation.num_images:,} images)"
    pictures = judged.images.images_NCHW[wrong]
    figure = mistakes_figure(pictures, evaluation.mistakes, evaluation.class_names, title)
    save_plots(folder, evaluation.split, {"mistakes": figure})


def save_plots(folder: Path, split: str, figures: Mapping[str, Figure]) -> None:
    """Write figures into plots/, as PNG and as SVG.

    Raises:
        RunError: If the folder cannot be written.
    """
    from cifarlab.plots.style import save_figure

    try:
        for name, figure in figures.items():
            save_figure(figure, folder / "plots" / f"{name}_{split}")
    except OSError as error:
        problem = error.strerror or error
        raise RunError(f"cannot write the plots in {folder}: {problem}; free space or choose another folder") from error
