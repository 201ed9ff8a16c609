"""The page of the report: everything the templates show, put together from what the other modules of this room give."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from cifarlab.decision import Analysis, Entry, Evidence, Gate
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.pages import own_file
from cifarlab.phrases import count
from cifarlab.plots.decision import Row, interval_chart
from cifarlab.reporting import charts
from cifarlab.reporting.glossary import GLOSSARY
from cifarlab.reporting.ledger import run_entries, transfer_entries
from cifarlab.reporting.measured import coverage
from cifarlab.reporting.record import record
from cifarlab.reporting.sections import blocks
from cifarlab.reporting.sources import Judged, Seeds, Sources
from cifarlab.reporting.words import percent, report_environment, share_tick
from cifarlab.stats import wilson_interval

ANSWER_WORDS = {
    "nothing": "Do nothing",
    "buy": "Buy",
    "adapt": "Buy and adapt",
    "build": "Build",
    "hybrid": "Build, with the vendor as a fallback",
    "measure first": "Measure first",
}
_DOTS = {"low": 1, "moderate": 2, "high": 3}
_ROBUSTNESS = ("corruptions", "shifts", "shifted_sets", "attacks")


@dataclass(frozen=True)
class Material:
    """What a report is made of.

    Attributes:
        sources: The run and its seeds.
        inputs: What decision.yaml says.
        evidence: What was measured, as the decision takes it.
        analysis: The decision; None where nothing is to be compared, as for other images than the vendor's claim.
        transfer: A run on one's own images; None where there is none.
        command: What makes this report again.
    """

    sources: Sources
    inputs: DecisionInputs
    evidence: Evidence
    analysis: Analysis | None
    transfer: Judged | None
    command: str = ""


def render_report(material: Material, shown: dict[str, Any]) -> str:
    """Return report.html."""
    return report_environment().get_template("report.html.j2").render(page_context(material, shown))


def show(sources: Sources, transfer: Judged | None) -> dict[str, Any]:
    """Return what both the page and the model card show of a run.

    Raises:
        RunError: If the curves are missing and cannot be drawn.
    """
    every = blocks(sources.main)
    measured, missing = [one for one in every if one.split], [one for one in every if not one.split]
    known = {one.name for one in measured}
    unmeasured = ["robustness"] if not known & set(_ROBUSTNESS) else []
    unmeasured += ["latency in service"]
    unmeasured += [] if sources.seeds else ["variance between trainings"]
    unmeasured += [] if transfer or sources.main.own_images else ["images of one's own"]
    return {
        **record(sources.main),
        "measured_blocks": measured,
        "missing_blocks": missing,
        "unmeasured": unmeasured,
        "seeds": sources.seeds,
        "transfer": transfer,
        "is_cifar10": sources.main.is_cifar10,
        "own_images": sources.main.own_images,
    }


def page_context(material: Material, shown: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows besides."""
    sources, analysis = material.sources, material.analysis
    context: dict[str, Any] = {
        **shown,
        "charts_css": own_file("charts.css"),
        "report_css": own_file("report.css"),
        "analysis": analysis,
        "paired": material.evidence.paired,
        "vendor_name": material.inputs.vendor,
        "notes": sources.notes,
        "seed_chart": _seed_chart(sources.seeds, sources.main) if sources.seeds else None,
        "glossary": GLOSSARY,
        "split_names": {"test": "test", "val": "validation"},
        "command": material.command,
        "analysis_has_own_prices": False,
        "charts": {},
    }
    if analysis is None:
        return context
    points, split = coverage(sources.main)
    prices = [one for key, one in analysis.amounts.items() if key.startswith("vendor.price")]
    return context | {
        "verdict_sentence": (analysis.comparisons[0] if material.evidence.paired else analysis.verdict).sentence,
        "claimed_on": material.inputs.facts["vendor.claim_images"],
        "years": count(analysis.horizon_years, "year"),
        "cost_alone": analysis.option("build").present_cost,
        "answer_words": ANSWER_WORDS,
        "confidence_dots": _DOTS[analysis.advice.confidence],
        "option_labels": {option.key: option.label for option in analysis.options},
        "requirements": _requirements(analysis),
        "num_draws": len(analysis.simulation.costs_SO),
        "share_cheaper": charts.share_cheaper(analysis),
        "coverage_split": split,
        "analysis_has_own_prices": any(one.users and one.origin != "assumed" for one in prices),
        "charts": {
            "accuracy": charts.accuracy_chart(analysis, sources.main),
            "options": charts.option_chart(analysis),
            "parts": charts.parts_chart(analysis.options),
            "volume": charts.volume_chart(material.inputs, material.evidence, analysis),
            "tornado": charts.tornado(analysis),
            "chance": charts.chance_chart(analysis),
            "hybrid": charts.hybrid_chart(analysis),
            "coverage": charts.coverage_chart(points, analysis.hybrid.point if analysis.hybrid else None),
        },
    }


def _requirements(analysis: Analysis) -> list[tuple[str, list[Gate | None]]]:
    """Return one row a requirement: its name, and its state for each option; None where it does not apply."""
    found = {(gate.name, gate.option): gate for gate in analysis.gates}
    names = list(dict.fromkeys((gate.name, gate.must) for gate in analysis.gates))
    return [
        (f"{name.capitalize()}{' (must)' if must else ''}", [found.get((name, one.key)) for one in analysis.options])
        for name, must in names
    ]


def _seed_chart(seeds: Seeds, judged: Judged) -> Markup:
    scores = judged.test if seeds.split == "test" else judged.val or {}
    total = int(scores.get("num_images") or 0)
    rows = [
        Row(name, value, wilson_interval(round(value * total), total) if total else None, percent(value))
        for name, _, value in seeds.runs
    ]
    ends = None if math.isnan(seeds.interval[0]) else seeds.interval
    rows.append(Row("mean", seeds.mean, ends, percent(seeds.mean), "computed", strong=True))
    alt = "Accuracy of each training. " + " ".join(f"{row.name}: {row.text}." for row in rows)
    return interval_chart(rows, share_tick, alt)


def all_entries(material: Material, shown: dict[str, Any]) -> tuple[Entry, ...]:
    """Return the whole ledger: the decision's entries, then the run's, then those of one's own images."""
    analysis, sources = material.analysis, material.sources
    entries: list[Entry] = []
    if analysis is not None:
        entries += [*analysis.ledger, *_extra(analysis, material.command)]
    entries += run_entries(sources.main, sources.seeds, shown)
    if material.transfer is not None:
        entries += transfer_entries(material.transfer)
    return tuple(entries)


def _extra(analysis: Analysis, command: str) -> list[Entry]:
    """Return what the page says beyond the decision's own ledger: the lead over the claim, draws of a pair, risks."""
    verdict = analysis.verdict
    low, high = (100 * (end - verdict.claim) for end in verdict.interval)
    label = "Our accuracy less the claim, the claim taken as it stands"
    rule = "Wilson's interval of ours, less the claim"
    entries = []
    if not math.isnan(verdict.difference_points):  # NaN: the claim is about other images
        lead = verdict.difference_points
        entries.append(Entry("page.lead", label, lead, low, high, "points", "computed", rule, "", command))
    share = charts.share_cheaper(analysis)
    if share is not None and analysis.tornado is not None:
        label = f"Share of the draws in which {analysis.tornado.first} is cheaper than {analysis.tornado.second}"
        source = "cifarlab.reporting.charts.share_cheaper"
        entries.append(Entry("page.share_cheaper", label, share, None, None, "share", "computed", source, "", command))
    for number, switch in enumerate(analysis.switches, 1):
        if switch.expected:
            label = f"{switch.label}: how far {switch.value:.4g} is from the expected value"
            source, far = "switching value over mean of the draws, less one", switch.value / switch.expected - 1
            name = f"page.switch.{number}.distance"
            entries.append(Entry(name, label, far, None, None, "share", "computed", source, "", command))
    for number, risk in enumerate(analysis.risks, 1):
        label, unit, source = (
            f"{risk.name}: {risk.why} {risk.mitigation}",
            "probability times impact, 1 to 9",
            risk.source,
        )
        entries.append(Entry(f"page.risk.{number}", label, risk.score, None, None, unit, "assumed", source, "", ""))
    return entries


def report_command(given: Sequence[str], options: Sequence[tuple[str, str]]) -> str:
    """Return the command that makes a report again; files go by their names: where they lie is nobody's business."""
    words = ["cifarlab", "report", *given]
    for flag, value in options:
        words += [flag, value] if value else []
    return shlex.join(words)
