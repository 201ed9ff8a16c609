"""The page of an evaluation: the answer first, then what each section found; made of evaluation.json and the plots."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cifarlab.evaluation.sections import SECTIONS
from cifarlab.pages import file_uri, render
from cifarlab.run import write_text

_MOST_ROWS = 100  # of a table; its CSV file holds them all
_ROWS_UNFOLDED = 24
_SPLITS = {"val": "validation images", "test": "test images", "given": "images"}
_MISTAKES_CAPTION = (
    "Wrong answers given with the highest confidence. Some may be wrong labels: look before you blame the model."
)


@dataclass(frozen=True)
class About:
    """Where an evaluation comes from, for its page.

    Attributes:
        name: Of the run, or of the file of answers.
        command: The command that makes the page again, as it can be typed.
        run: Path of the run folder as it can be typed; empty for answers from a file.
        facts: Pairs of a name and a text, such as the recipe.
        test_reads: Records of the readings of the test split, oldest first.
        started: When the command began, on time.perf_counter's clock.
    """

    name: str
    command: str
    run: str = ""
    facts: Sequence[tuple[str, str]] = ()
    test_reads: Sequence[Mapping[str, Any]] = ()
    started: float = field(default_factory=time.perf_counter)


def page_path(folder: Path, split: str) -> Path:
    """Return where the page of a split is."""
    return folder / "evaluation" / f"{split}.html"


def write_page(folder: Path, evaluation: dict[str, Any], about: About) -> Path:
    """Write evaluation/<split>.html, one file that loads nothing from anywhere.

    Args:
        folder: Where evaluation.json and the plots are.
        evaluation: What evaluation.json says of the split.
        about: Where it comes from.

    Raises:
        RunError: If the folder cannot be written.
    """
    split, sections = evaluation["split"], evaluation["sections"]
    shown = [_section(folder, split, name, entry) for name, entry in sections.items() if not entry["skipped"]]
    drawn = {plot.name for section in shown for plot in section.plots}
    context = {
        "about": about,
        "one": evaluation,
        "images": _SPLITS[split],
        "share": evaluation[evaluation["headline"]],
        "sections": shown,
        "skipped": [(entry["title"], entry["skipped"]) for entry in sections.values() if entry["skipped"]],
        "missing": [entry.title for name, entry in SECTIONS.items() if name not in sections],
        "weakest": _weakest(evaluation),
        "confusion": _first_confusion(evaluation),
        "mistakes": None if "mistakes" in drawn else file_uri(folder / "plots" / f"mistakes_{split}"),
        "mistakes_caption": _MISTAKES_CAPTION,
    }
    page = page_path(folder, split)
    write_text(page, render("evaluation.html.j2", context))
    return page


def _section(folder: Path, split: str, name: str, entry: dict[str, Any]) -> SimpleNamespace:
    """Return what the page shows of a section; plots are read from their files."""
    plots = [
        SimpleNamespace(
            name=plot,
            caption=caption,
            alt=caption or plot.replace("_", " "),
            uri=file_uri(folder / "plots" / f"{plot}_{split}"),
        )
        for plot, caption in entry["plots"].items()
    ]
    tables = [
        SimpleNamespace(
            title=table["title"],
            header=table["header"],
            kinds=table["kinds"],
            rows=table["rows"][:_MOST_ROWS],
            file=f"{table_name}_{split}.csv",
            num_rows=table["num_rows"],
            folded=table["num_rows"] > _ROWS_UNFOLDED,
        )
        for table_name, table in entry["tables"].items()
    ]
    return SimpleNamespace(
        name=name,
        title=entry["title"],
        findings=entry["findings"],
        notes=entry["notes"],
        seconds=entry["seconds"],
        time=entry["time"],
        options=entry["options"],
        plots=plots,
        tables=tables,
    )


def _weakest(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the classes from the lowest recall to the highest; those without an image are left out."""
    known = [one for one in evaluation["per_class"] if one["recall"] is not None]
    return sorted(known, key=lambda one: float(one["recall"]))


def _first_confusion(evaluation: dict[str, Any]) -> dict[str, Any] | None:
    """Return the pair of classes that is confused most often, by name."""
    if not evaluation["confusions"]:
        return None
    first, names = evaluation["confusions"][0], evaluation["class_names"]
    return {**first, "label": names[first["label"]], "predicted": names[first["predicted"]]}
