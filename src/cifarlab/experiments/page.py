"""Page: a study as one HTML file, as Markdown for a code host, as CSV and as JSON.

Everything comes from the record and the run folders; equal input gives equal bytes, dates are those of the trials.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.figure import Figure

from cifarlab import pages as shared
from cifarlab import phrases
from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields
from cifarlab.differences import letters_of, seeds_needed
from cifarlab.errors import RunError
from cifarlab.experiments.evidence import Evidence, load_evidence
from cifarlab.experiments.exports import ENVIRONMENT_KEYS, made, study_csv, study_dict
from cifarlab.experiments.factors import value_text
from cifarlab.experiments.findings import ArmSummary, Findings, find
from cifarlab.experiments.study import StudyRecord
from cifarlab.experiments.wording import RESOLUTIONS, tell
from cifarlab.plots.study import LABELLED_CURVES, ArmCurve, ArmPoints, plot_arms, plot_compute, plot_learning
from cifarlab.plots.style import save_figure
from cifarlab.run import write_text

_PAIRS_SHOWN = 15  # more are folded away


@dataclass(frozen=True)
class StudyPage:
    """The files of a study's page.

    Attributes:
        html: index.html, a single file that loads nothing from anywhere.
        markdown: study.md, which shows the SVG files beside it.
        csv: study.csv, one row a trial.
        json: study.json, everything the page says.
        plots: PNG and SVG files.
    """

    html: Path
    markdown: Path
    csv: Path
    json: Path
    plots: tuple[Path, ...]


def write_study_page(record: StudyRecord, out: Path) -> StudyPage:
    """Write what a study shows into a folder.

    Args:
        record: The study; it need not be complete.
        out: The folder; it is made where it is missing.

    Raises:
        RunError: If the folder cannot be written.
    """
    evidence = load_evidence(record)
    findings = find(record, evidence)
    sentences = tell(findings)
    figures = _figures(findings, evidence)
    try:
        paths = [path for name, figure in figures.items() for path in save_figure(figure, out / "plots" / name)]
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}; choose another folder with --out") from error
    page = StudyPage(out / "index.html", out / "study.md", out / "study.csv", out / "study.json", tuple(paths))
    write_text(page.csv, study_csv(record, evidence.test))
    content = study_dict(record, findings, sentences)
    write_text(page.json, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    context = _context(record, findings, content) | {"pictures": {n: shared.figure_uri(f) for n, f in figures.items()}}
    pages = _environment()
    write_text(page.html, pages.get_template("study.html.j2").render(context))
    write_text(page.markdown, pages.get_template("study.md.j2").render(context))
    return page


def _figures(findings: Findings, evidence: Evidence) -> dict[str, Figure]:
    """Draw what there is to draw: accuracies, learning curves where a run has epochs, compute where it differs."""
    arms = [ArmPoints(arm.label, arm.values, arm.mean, arm.interval, arm.pflop) for arm in findings.judged]
    if not arms:
        return {}
    what = "accuracy on val (%)"
    figures = {"arms": plot_arms(arms, what)}
    curves = [curve for arm in arms if (curve := learning_curve(arm.label, evidence.curves.get(arm.label, [])))]
    if any(len(curve.epochs) > 1 for curve in curves):
        figures["learning"] = plot_learning(curves)
    known = [arm for arm in arms if arm.pflop > 0]
    if len(known) > 1 and max(arm.pflop for arm in known) > 1.05 * min(arm.pflop for arm in known):
        figures["compute"] = plot_compute(known, what)
    return figures


def _epochs_done(run: Sequence[dict[str, Any]], epoch: int) -> float:
    """Return how many epochs lay behind a run at the end of one of them, which may have been a part."""
    steps = {record["epoch"]: record.get("step", 0) for record in run}
    return min(float(epoch), steps[epoch] / steps[1]) if steps.get(1) else float(epoch)


def learning_curve(label: str, runs: Sequence[Sequence[dict[str, Any]]]) -> ArmCurve | None:
    """Return mean, lowest and highest accuracy on val of an arm's seeds at every epoch that all of them reached.

    A last epoch that is a part of one stands where the run ended.

    Args:
        label: Name of the arm.
        runs: Lines of metrics.jsonl of each seed.

    Returns:
        None where no epoch has a figure of every seed.
    """
    found = [{r["epoch"]: r["val/accuracy"] for r in run if r.get("val/accuracy") is not None} for run in runs]
    epochs = sorted(set.intersection(*map(set, found))) if found else []
    if not epochs:
        return None
    columns = [[one[epoch] for one in found] for epoch in epochs]
    return ArmCurve(
        label=label,
        epochs=tuple(_epochs_done(runs[0], epoch) for epoch in epochs),
        mean=tuple(math.fsum(column) / len(column) for column in columns),
        lowest=tuple(map(min, columns)),
        highest=tuple(map(max, columns)),
    )


def _context(record: StudyRecord, findings: Findings, content: dict[str, Any]) -> dict[str, Any]:
    """Collect everything the templates show."""
    spec = record.spec
    cheapest = min((arm.pflop for arm in findings.judged if arm.pflop > 0), default=math.nan)
    where = made(findings.evidence.environments)
    return {
        "css": shared.stylesheet(),
        "spec": spec,
        "findings": findings,
        "sentences": content["sentences"],
        "letters": {arm.label: letters_of(arm.label, findings.groups) for arm in findings.arms},
        "with_views": any(not math.isnan(arm.views) for arm in findings.judged),
        "with_test": any(not math.isnan(arm.test) for arm in findings.judged),
        "images_counted": any(pair.new_images for pair in findings.pairs),
        "ratios": {arm.label: arm.pflop / cheapest for arm in findings.judged},
        "pairs_folded": len(findings.pairs) > _PAIRS_SHOWN,
        "labelled_curves": LABELLED_CURVES,
        "resolutions": RESOLUTIONS,
        "needed": {arm.label: _needed(arm) for arm in findings.judged},
        "varied": _varied(record),
        "base": {name: value_text(value) for name, value in changed_fields(spec.base, Config()).items()},
        "trials": record.trials,
        "made": where,
        "made_rows": [
            (label, "; ".join(map(str, where[key]))) for key, label in ENVIRONMENT_KEYS.items() if where[key]
        ],
    }


def _needed(arm: ArmSummary) -> list[int | None]:
    return [seeds_needed(arm.sd, step) if arm.sd > 0 else None for step in RESOLUTIONS]


def _varied(record: StudyRecord) -> list[tuple[str, str]]:
    """Return for every arm what it changes of the base configuration, as flags."""
    return [(arm.label, " ".join(flag(*field) for field in arm.overrides.items())) for arm in record.spec.arms]


def flag(name: str, value: Any) -> str:
    """Return a field and its value as ``cifarlab train`` takes them: lists as their numbers, truth values by 'no-'."""
    section, dot, last = name.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        return f"--{section}{dot}{'' if value else 'no-'}{last}"
    return " ".join([f"--{section}{dot}{last}", *map(shlex.quote, _words(value))])


def _words(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [word for item in value for word in _words(item)]
    return [value_text(value)]


def _environment() -> Environment:
    pages = shared.environment()
    filters: dict[str, Callable[..., Any]] = {
        "number": phrases.number,
        "per_cent": phrases.per_cent,
        "interval": phrases.interval,
        "seen": phrases.seen_interval,
        "duration": phrases.duration,
        "beyond": lambda parts: phrases.beyond_images(parts.distribution_seed_sd, few=parts.few_seeds),
        "p": phrases.p_value,
        "unbroken": _unbroken,
        "cell": shared.markdown_cell,
    }
    pages.filters.update(filters)
    return pages


def _unbroken(text: str) -> str:
    """Keep figures and their units on one line, with spaces that do not break."""
    return re.sub(r"(?<=\d|±) (?=%|points?\b|seeds?\b|PFLOP)|(?<=\bp) (?=[=<])|(?<=[=<±]) (?=\d)", "\u00a0", text)
