"""Report: build or buy, on one page a manager can decide by; made of what run folders hold, without model or image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cifarlab.decision import Analysis, analyse, default_yaml, ledger_json, load_inputs, workbook_bytes
from cifarlab.errors import UsageError
from cifarlab.reporting.card import model_card
from cifarlab.reporting.measured import evidence_of
from cifarlab.reporting.page import Material, all_entries, render_report, report_command, show
from cifarlab.reporting.sources import load_run, load_sources
from cifarlab.run import Run, durable_file, write_text


@dataclass(frozen=True)
class Report:
    """What a report consists of.

    Attributes:
        page: report.html: one file that loads nothing from anywhere.
        ledger: report.json: every figure of the page with its origin.
        spreadsheet: report.xlsx: the costs with live formulas; None where no costs are compared.
        card: README.md of the run, the model card.
        analysis: The decision; None for images of which the vendor states nothing.
    """

    page: Path
    ledger: Path
    spreadsheet: Path | None
    card: Path
    analysis: Analysis | None


def report(
    run: Run | Path | str,
    *others: Run | Path | str,
    decision: Path | None = None,
    vendor_predictions: Path | None = None,
    transfer: Run | Path | str | None = None,
    out: Path | None = None,
) -> Path:
    """Write the report of a run and return the path of report.html; see :func:`write_report`."""
    sources = (run, *others)
    return write_report(
        sources, decision=decision, vendor_predictions=vendor_predictions, transfer=transfer, out=out
    ).page


def write_report(
    given: Sequence[Run | Path | str],
    *,
    decision: Path | None = None,
    vendor_predictions: Path | None = None,
    transfer: Run | Path | str | None = None,
    out: Path | None = None,
) -> Report:
    """Write report.html, report.json and report.xlsx, and README.md, the model card, into the run's folder.

    Of a study the model card goes to the run that is judged, for it is the model's.

    Args:
        given: A run that was evaluated on its test split, several runs of one recipe, or a study.
        decision: decision.yaml over the defaults; None for the defaults.
        vendor_predictions: The vendor's answers to the same test images (docs/predictions-file.md).
        transfer: A run that was fine-tuned on images of one's own and evaluated on its test split.
        out: Folder for the report; by default that of the run, or of the study.

    Raises:
        CifarlabError: If a run is missing, not finished, not evaluated or damaged; if runs are of several recipes; if
            the run of one's own images is of others; if decision.yaml or the predictions cannot be read; if the folder
            cannot be written or holds a README.md of somebody's.
    """
    material = _material(given, decision, vendor_predictions, transfer)
    sources = material.sources
    shown = show(sources, material.transfer)
    folder = out or sources.folder
    page, ledger = folder / "report.html", folder / "report.json"
    card = (out or sources.main.run.path) / "README.md"
    if out is not None:
        _spare_other_readme(card)
    write_text(page, render_report(material, shown))
    write_text(ledger, ledger_json(all_entries(material, shown)))
    place = "in this folder" if folder == card.parent else f"in {sources.given[0]}"
    write_text(card, model_card(sources.main, shown, f"report.html {place}"))
    spreadsheet = None
    if material.analysis is not None:
        spreadsheet = folder / "report.xlsx"
        with durable_file(spreadsheet) as temporary:
            temporary.write_bytes(workbook_bytes(material.inputs, material.evidence, material.analysis))
    return Report(page, ledger, spreadsheet, card, material.analysis)


def _spare_other_readme(card: Path) -> None:
    """Refuse to write the model card over a README of somebody's, as a folder that is named may hold one.

    Raises:
        UsageError: If there is one that is no model card of this package.
    """
    if not card.is_file():
        return
    if b"library_name: cifarlab" not in card.read_bytes()[:4096]:
        raise UsageError(f"{card} is no model card and is left as it is; name another folder with --out")


def _material(
    given: Sequence[Run | Path | str],
    decision: Path | None,
    vendor_predictions: Path | None,
    transfer: Run | Path | str | None,
) -> Material:
    """Read everything the report is made of, and decide."""
    inputs = load_inputs(decision)
    if decision is not None:  # its name alone: where it lies is nobody's business
        inputs = replace(inputs, source=decision.name)
    sources = load_sources(given)
    own = None if transfer is None else load_run(transfer if isinstance(transfer, Run) else Run.open(transfer))
    if own is not None and not own.own_images:
        raise UsageError(
            f"--transfer takes a run on images of your own, and {own.run.name} was trained on {own.data_name}; "
            "train one with: cifarlab train --data.folder"
        )
    evidence = evidence_of(sources, vendor_predictions)
    # of other images the vendor states nothing, so there is nothing to compare until it has answered them
    comparable = sources.main.is_cifar10 or vendor_predictions is not None
    options = [
        ("--decision", decision.name if decision else ""),
        ("--vendor-predictions", vendor_predictions.name if vendor_predictions else ""),
        ("--transfer", f"runs/{own.run.name}" if own else ""),
    ]
    analysis = analyse(inputs, evidence) if comparable else None
    return Material(sources, inputs, evidence, analysis, own, report_command(sources.given, options))


def write_decision(path: Path) -> Path:
    """Write the commented default decision.yaml, to be edited.

    Raises:
        UsageError: If the file exists: somebody's figures are not overwritten.
        RunError: If it cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path} exists and is left as it is; name another file, or edit that one")
    write_text(path, default_yaml())
    return path
