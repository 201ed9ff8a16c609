"""Conduct: from answers to everything an evaluation leaves in its folder; what was found before a failure is kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from cifarlab.errors import DataError, GateError
from cifarlab.evaluation.headline import Evaluation
from cifarlab.evaluation.page import About, write_page
from cifarlab.evaluation.section import Subject
from cifarlab.evaluation.sections import SECTIONS, choose, run_section
from cifarlab.evaluation.writing import earlier_sections, store, write_mistakes, write_section, write_tables
from cifarlab.phrases import number, per_cent

_MOST_DIGITS = 10  # of a percentage
_FILES = frozenset({"costs", "human_labels", "cifar10_c", "unknown"})  # settings that name some


def conduct(folder: Path, evaluation: Evaluation, subject: Subject, names: Sequence[str], about: About) -> Evaluation:
    """Run the sections, and write figures, tables, plots and the page of one split.

    A section that cannot be run for a reason the user can mend is skipped, and says why.

    Args:
        folder: The run's folder, or the one for answers from a file.
        evaluation: The headline figures.
        subject: What the sections are given.
        names: Sections, in the order in which they are to be run.
        about: What the page says of where this comes from; its clock has been running since the command began.

    Returns:
        The evaluation with its sections and its duration.

    Raises:
        RunError: If the folder cannot be written.
    """
    entries, outdated = earlier_sections(folder, evaluation)
    if lost := [name for name in outdated if name not in names]:
        subject.notify(
            "the answers differ from those of the evaluation before, so what it found is left out; measure it again "
            f"with --sections {' '.join(lost)}"
        )
    write_tables(folder, evaluation, subject.judged)
    try:
        for name in names:
            if not SECTIONS[name].quick:
                subject.notify(f"{name}: {SECTIONS[name].title} (about {SECTIONS[name].cost})")
            outcome = run_section(name, subject)
            entries[name] = write_section(folder, evaluation.split, name, outcome, subject.options)
            if outcome.section.skipped:
                subject.notify(f"skipped {name}: {outcome.section.skipped}")
    finally:  # an unexpected error, or an interrupt, loses nothing that was found before
        ordered = {name: entries[name] for name in SECTIONS if name in entries}
        if not any("mistakes" in entry["plots"] for entry in ordered.values()):
            write_mistakes(folder, evaluation, subject.judged)
        seconds = time.perf_counter() - about.started
        evaluation = dataclasses.replace(evaluation, sections=ordered, seconds=seconds)
        store(folder, evaluation)
        write_page(folder, evaluation.as_dict(), about)
    return evaluation


def enforce(evaluation: Evaluation, require: float) -> None:
    """Hold an evaluation to a required accuracy.

    The lower end of the 95 % Wilson interval must reach it, not the accuracy itself: a model that truly is just as good
    as required would otherwise pass every second time, and one that is a little worse nearly as often.

    Args:
        evaluation: The figures.
        require: A fraction; 0 asks for nothing.

    Raises:
        GateError: If it is not reached.
    """
    share = evaluation.best
    low, digits = share.interval[0], 2
    if low >= require:
        return
    while round(100 * low, digits) >= round(100 * require, digits) and digits < _MOST_DIGITS:
        digits += 1  # what lies below may not look equal
    raise GateError(
        f"accuracy {per_cent(share.value)} on {evaluation.num_images:,} {evaluation.split} images is not shown to "
        f"reach the required {number(100 * require, digits)} %: the lower end of its 95 % Wilson interval, "
        f"{per_cent(low, digits)}, lies below; train a better model or judge it on more images"
    )


def enforce_sections(evaluation: Evaluation, wanted: Sequence[str]) -> None:
    """Make sure that no section was skipped that was asked for by its own name, or by naming files for it.

    Args:
        evaluation: With its sections.
        wanted: What was asked for; 'quick' and 'all' ask for none by name.

    Raises:
        DataError: If one was skipped, for want of data or of an optional library.
    """
    for name in choose(wanted):
        entry = evaluation.sections.get(name, {})
        files = _FILES.intersection(entry.get("options", ()))
        why = entry.get("skipped") if name in wanted or files else ""
        for part in files & set(entry.get("figures", ())):  # a part of a section goes by the name of its setting
            why = why or entry["figures"][part].get("skipped")
        if why:
            raise DataError(f"section {name} was skipped: {why}")
