"""Search page: a search as one HTML file, as CSV and as JSON, and the configuration it chose as a recipe file."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shlex
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cifarlab import pages, phrases
from cifarlab.comparison.results import plain
from cifarlab.config_yaml import config_to_yaml
from cifarlab.errors import RunError
from cifarlab.experiments.search import search_to_dict
from cifarlab.experiments.search_findings import caveats, changes, short, verdict
from cifarlab.experiments.search_record import SearchRecord, SearchTrial, position, tuned_config
from cifarlab.experiments.space import Dimension, label
from cifarlab.plots import tuning as plots
from cifarlab.plots.style import figure_bytes, save_figure
from cifarlab.run import Run, runs_root, write_text

_FORMAT = 1
_TRIALS_SHOWN = 200


@dataclass(frozen=True)
class SearchPage:
    """The files of a search.

    Attributes:
        html: index.html, a single file that loads nothing from anywhere.
        csv: tune.csv, one row a trial.
        json: tune.json, everything the page says.
        best: best.yaml, which ``cifarlab train --config`` takes; None while no trial is complete.
    """

    html: Path
    csv: Path
    json: Path
    best: Path | None


@dataclass(frozen=True)
class _Seen:
    """What the run folders of the trials hold besides their figures."""

    num_val: int
    test_reads: int


def write_search_page(record: SearchRecord, out: Path) -> SearchPage:
    """Write what a search shows, and the configuration it chose, into a folder.

    Args:
        record: The search; it need not be complete.
        out: The folder; it is made where it is missing.

    Raises:
        RunError: If the folder cannot be written.
    """
    seen, figures = _look(record), search_figures(record)
    try:
        for name, figure in figures.items():
            save_figure(figure, out / "plots" / name)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}; free space or choose another folder") from error
    best = _write_best(record, out / "best.yaml", seen)
    page = SearchPage(out / "index.html", out / "tune.csv", out / "tune.json", best)
    content = search_dict(record, seen.num_val, seen.test_reads)
    write_text(page.json, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(page.csv, search_csv(record))
    pictures = {name: pages.data_uri(figure_bytes(figure, "png"), ".png") for name, figure in figures.items()}
    write_text(page.html, _render(record, out, content, pictures))
    return page


def _look(record: SearchRecord) -> _Seen:
    """Read the trials' folders; one that is missing, as on another machine's disk, counts as not read."""
    num_val = reads = 0
    runs = [*(one.runs for one in record.trials), *(one.runs for one in record.confirmed)]
    for path in chain.from_iterable(runs):
        try:
            run = Run(path)
            reads += len(run.test_reads())
            num_val = num_val or int(run.read_json("environment.json")["num_val"])
        except (RunError, KeyError):
            continue
    return _Seen(num_val, reads)


def _write_best(record: SearchRecord, path: Path, seen: _Seen) -> Path | None:
    """Write the chosen configuration with a head that says how it came about; nothing while there is none."""
    config = tuned_config(record)
    if config is None or record.chosen is None:
        return None
    head = [
        f"Tuned from the recipe {record.spec.recipe.recipe} by cifarlab tune {record.spec.name}: {record.chosen[0]}.",
        verdict(record, seen.num_val),
        f"Train it with: cifarlab train --config {shlex.quote(str(path))}",
    ]
    write_text(path, "".join(f"# {line}\n" for line in head) + config_to_yaml(config))
    return path


def search_dict(record: SearchRecord, num_val: int, test_reads: int) -> dict[str, Any]:
    """Return everything a search shows as plain values fit for JSON; what is NaN or infinite becomes None."""
    content = {
        "format": _FORMAT,
        "search": search_to_dict(record.spec),
        "verdict": verdict(record, num_val),
        "caveats": caveats(record, test_reads),
        "chosen": None if record.chosen is None else {"label": record.chosen[0], "values": record.chosen[1]},
        "num_val": num_val,
        "test_reads": test_reads,
        "importances": record.importances,
        "confirmation": record.confirmation,
        "confirmed": [
            {
                "label": one.label,
                "values": one.values,
                "accuracies": list(one.accuracies),
                "planned": one.planned,
                "mean": one.mean,
                "sd": one.sd,
                "p_adjusted": one.p_adjusted,
                "against_recipe": None if one.against_recipe is None else asdict(one.against_recipe),
            }
            for one in record.confirmed
        ],
        "trials": [_trial_dict(trial) for trial in record.trials],
    }
    return {key: plain(value) for key, value in content.items()}


def _trial_dict(trial: SearchTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state,
        "values": trial.values,
        "accuracy": trial.accuracy,
        "accuracies": list(trial.accuracies),
        "by_epoch": {str(epoch): value for epoch, value in trial.by_epoch.items()},
        "seconds": trial.seconds,
        "runs": [str(path) for path in trial.runs],
        "error": trial.error,
        "is_recipe": trial.is_recipe,
    }


def search_csv(record: SearchRecord) -> str:
    """Return one row a trial: its values by dotted field name, accuracy as a fraction, seconds, and its runs."""
    fields = [dimension.field for dimension in record.spec.space]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "val/accuracy", *fields, "epochs", "seconds", "runs", "error"])
    for trial in record.trials:
        values = [label(trial.values[field]) if field in trial.values else "" for field in fields]
        figures = [plain(trial.accuracy), *values, max(trial.by_epoch, default=""), plain(trial.seconds)]
        writer.writerow([trial.number, trial.state, *figures, " ".join(map(str, trial.runs)), trial.error])
    return text.getvalue()


def search_figures(record: SearchRecord) -> dict[str, Figure]:
    """Draw what there is to draw; nothing of the space before two trials are complete."""
    complete = sorted(record.ranked, key=lambda trial: trial.number)
    if not complete:
        return {}
    numbers, accuracies = [trial.number for trial in complete], [trial.accuracy for trial in complete]
    given_up = {t.number: t.by_epoch[max(t.by_epoch)] for t in record.trials if t.state == "pruned" and t.by_epoch}
    failed = [trial.number for trial in record.trials if trial.state == "failed"]
    recipe = record.recipe_trial.accuracy if record.recipe_trial else math.nan
    figures = {"history": plots.history_figure(numbers, accuracies, given_up, failed, recipe)}
    followed = [trial for trial in record.trials if len(trial.by_epoch) and trial.state in ("complete", "pruned")]
    if any(len(trial.by_epoch) > 1 for trial in followed):
        curves = [trial.by_epoch for trial in followed]
        figures["epochs"] = plots.epochs_figure(curves, [trial.state == "complete" for trial in followed])
    if record.importances:
        figures["importances"] = plots.importances_figure(record.importances)
    if len(complete) > 1:
        axes = [_axis(dimension, complete) for dimension in record.spec.space]
        chosen = record.chosen[0] if record.chosen else ""
        marked = [trial.label for trial in complete].index(chosen) if chosen in [t.label for t in complete] else -1
        figures["slices"] = plots.slices_figure(axes, accuracies, marked)
        if len(axes) > 1:
            figures["parallel"] = plots.parallel_figure(axes, accuracies)
    return figures


def _axis(dimension: Dimension, trials: list[SearchTrial]) -> plots.SearchAxis:
    positions = tuple(position(dimension, trial.values[dimension.field]) for trial in trials)
    return plots.SearchAxis(dimension.field, axis_ticks(dimension), positions)


def axis_ticks(dimension: Dimension) -> tuple[tuple[float, str], ...]:
    """Return positions in [0, 1] and texts: every value of a list, both ends of a range and its middle."""
    if dimension.kind == "list":
        values: tuple[Any, ...] = dimension.choices
    else:
        low, high = dimension.corners
        middle = math.sqrt(low * high) if dimension.log else (low + high) / 2
        values = (low, round(middle) if dimension.kind == "int" else float(f"{middle:.2g}"), high)
    return tuple({position(dimension, value): label(short(value)) for value in values}.items())


def _link_if_there(path: Path, out: Path) -> str:
    return os.path.relpath(path, out) if path.is_file() else ""


def _render(record: SearchRecord, out: Path, content: dict[str, Any], pictures: dict[str, str]) -> str:
    environment = pages.environment()
    environment.filters |= {
        "per_cent": phrases.per_cent,
        "points": phrases.points,
        "number": phrases.number,
        "seen": phrases.seen_interval,
        "p": phrases.p_value,
        "duration": phrases.duration,
    }
    ranked = record.ranked + [trial for trial in record.trials if trial.state != "complete"]
    rows = [
        {
            "trial": trial,
            "values": [
                label(short(trial.values[d.field])) if d.field in trial.values else "" for d in record.spec.space
            ],
            "links": [(path.name, os.path.relpath(path, out)) for path in trial.runs],
        }
        for trial in ranked[:_TRIALS_SHOWN]
    ]
    context = {
        **content,
        "record": record,
        "spec": record.spec,
        "changes": changes(record),
        "rows": rows,
        "hidden": len(ranked) - len(rows),
        "best_yaml": shlex.quote(str(out / "best.yaml")),
        "confirmation_page": _link_if_there(runs_root() / "studies" / record.confirmation / "index.html", out),
        "pictures": pictures,
        "css": pages.stylesheet(),
    }
    return environment.get_template("tune.html.j2").render(context)
