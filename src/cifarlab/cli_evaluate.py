"""``cifarlab evaluate``: from its arguments to what is printed of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifarlab import console
from cifarlab.cli_arguments import EvaluateArguments
from cifarlab.cli_tools import parse
from cifarlab.errors import UsageError
from cifarlab.phrases import duration, number, per_cent

if TYPE_CHECKING:
    from cifarlab.evaluation.headline import Evaluation
    from cifarlab.run import Run

_WEAKEST = 3
_TOP = 3


def run_evaluate(argv: Sequence[str]) -> None:
    """``cifarlab evaluate``."""
    arguments: EvaluateArguments = parse(EvaluateArguments, "evaluate", argv)
    _check(arguments)
    from cifarlab.evaluation.conduct import enforce, enforce_sections
    from cifarlab.evaluation.page import page_path

    if arguments.answers is None:
        from cifarlab.commands.evaluate import evaluate
        from cifarlab.run import Run

        run = Run.open(arguments.run)
        folder = run.path
        result = evaluate(
            run, split=arguments.split, reason=arguments.reason, device=arguments.device, **_common(arguments)
        )
        following = _next(run, result)
    else:
        folder, result = _evaluate_answers(arguments)
        following = ""
    if arguments.json:
        console.print_json(result.as_dict())
    else:
        for notice in result.notices:
            console.notify(notice)
        print_evaluation(result)
        console.print_line(f"page: {page_path(folder, result.split)}")
        console.print_line(f"figures: {folder / 'evaluation.json'}")
        if following:
            console.print_line(f"next: {following}")
    enforce(result, arguments.require)
    enforce_sections(result, arguments.sections)


def _check(arguments: EvaluateArguments) -> None:
    """Refuse what cannot be followed, before anything is computed.

    Raises:
        UsageError: If it cannot.
    """
    if bool(arguments.run) == (arguments.answers is not None):
        raise UsageError(
            "name a run, as in cifarlab evaluate runs/fast90, or somebody's answers with --answers FILE, not both"
            if arguments.run
            else "name what to judge: a run, as in cifarlab evaluate runs/fast90, or --answers FILE"
        )
    if arguments.answers is None:
        for name in ("labels", "val_answers", "val_labels", "out"):
            if getattr(arguments, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} goes with --answers; a run knows its images")
    elif arguments.val_labels is not None and arguments.val_answers is None:
        raise UsageError("--val-labels goes with --val-answers; name the answers whose true classes these are")
    elif arguments.out is None:
        raise UsageError("name a folder for the figures and the page with --out FOLDER")
    elif arguments.split != "val" or arguments.reason or arguments.device != "auto":
        raise UsageError("--split, --reason and --device go with a run, not with --answers")
    if not 0 <= arguments.require < 1:
        raise UsageError(f"--require takes an accuracy as a fraction, such as 0.9, not {arguments.require:g}")


def _common(arguments: EvaluateArguments) -> dict[str, Any]:
    return {"sections": arguments.sections, "options": arguments.options, "notify": console.notify}


def _evaluate_answers(arguments: EvaluateArguments) -> tuple[Path, Evaluation]:
    from cifarlab.commands.evaluate import evaluate_answers

    assert arguments.answers is not None
    assert arguments.out is not None
    result = evaluate_answers(
        arguments.answers,
        out=arguments.out,
        labels=arguments.labels,
        val_answers=arguments.val_answers,
        val_labels=arguments.val_labels,
        **_common(arguments),
    )
    return arguments.out, result


def _next(run: Run, result: Evaluation) -> str:
    if result.split == "test":
        return f"cifarlab report {run.quoted}"
    return f"cifarlab evaluate {run.quoted} --split test   (once, when all choices are made; then cifarlab report)"


def print_evaluation(result: Evaluation) -> None:
    """Print the headline figures, and what every section found in one line."""
    for label, share in (("accuracy", result.accuracy), ("accuracy with test-time views", result.accuracy_tta)):
        if share is not None:
            low, high = share.interval
            console.print_line(
                f"{result.split} {label} {per_cent(share.value)} "
                f"(95 % interval {number(100 * low)} to {per_cent(high)}, n = {result.num_images:,})",
                style="bold" if share is result.best else "",
            )
    top3 = f"top-3 {per_cent(result.top3)}, " if len(result.class_names) > _TOP else ""  # of three classes it is all
    console.print_line(
        f"loss {result.loss:.3f}, {top3}macro F1 {per_cent(result.macro_f1)}, calibration error {per_cent(result.ece)}"
    )
    known = sorted((one for one in result.per_class if one.recall == one.recall), key=lambda one: one.recall)
    weakest = ", ".join(f"{one.name} {per_cent(one.recall, 1)}" for one in known[:_WEAKEST])
    console.print_line(f"weakest classes (recall): {weakest}")
    rows = [(name, _found(entry), duration(entry["seconds"])) for name, entry in result.sections.items()]
    if rows:
        console.print_summary(("section", "what it found", "time"), rows)


def _found(entry: Mapping[str, Any]) -> str:
    if entry["skipped"]:
        return f"skipped: {entry['skipped']}"
    return str(entry["findings"][0]) if entry["findings"] else ""
