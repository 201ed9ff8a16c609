"""``cifarlab report`` on the command line: parse, call, print."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cifarlab import console
from cifarlab.cli_arguments import ReportArguments
from cifarlab.cli_tools import parse

if TYPE_CHECKING:
    from cifarlab.commands.report import Report


def run_report(argv: Sequence[str]) -> None:
    """``cifarlab report``."""
    arguments: ReportArguments = parse(ReportArguments, "report", argv)
    from cifarlab.commands.report import write_decision, write_report

    if arguments.write_decision:
        path = write_decision(arguments.write_decision)
        again = shlex.join(arguments.sources) or "RUN"
        console.print_line(f"decision: {path}")
        console.print_line(f"next: edit it, then cifarlab report {again} --decision {shlex.quote(str(path))}")
        return
    done = write_report(
        arguments.sources,
        decision=arguments.decision,
        vendor_predictions=arguments.vendor_predictions,
        transfer=arguments.transfer or None,
        out=arguments.out,
    )
    if arguments.json:
        console.print_json(_as_dict(done))
        return
    if done.analysis is not None:
        advice = done.analysis.advice
        console.print_line(advice.headline, style="bold")
        console.print_line(f"how sure: {advice.confidence}. {advice.confidence_reason}")
        for figure in advice.figures:
            console.print_line(f"{figure.label}: {figure.text} ({figure.origin})")
    console.print_line(f"report: {done.page}")
    console.print_line(f"figures: {done.ledger}")
    if done.spreadsheet is not None:
        console.print_line(f"spreadsheet: {done.spreadsheet}")
    console.print_line(f"model card: {done.card}")


def _as_dict(done: Report) -> dict[str, object]:
    advice = done.analysis.advice if done.analysis is not None else None
    return {
        "page": str(done.page),
        "ledger": str(done.ledger),
        "spreadsheet": None if done.spreadsheet is None else str(done.spreadsheet),
        "card": str(done.card),
        "answer": None if advice is None else advice.answer,
        "headline": None if advice is None else advice.headline,
        "confidence": None if advice is None else advice.confidence,
    }
