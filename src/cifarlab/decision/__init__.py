"""Decision: build or buy, from figures alone; no torch, no run folders, no printing.

The way through, and what each gives (dataclasses stand in ``given``, ``results`` and ``findings``):

* ``load_inputs(path: Path | None) -> DecisionInputs``: decision.yaml over the defaults; ``default_yaml() -> str`` is
  the commented default file. ConfigError names the key.
* ``Evidence(correct, total, coverage, confusion_KK, latency_p99_ms, paired, ...)``: what was measured of our model.
* ``analyse(inputs, evidence, *, seed=0, draws=10_000) -> Analysis``: everything below at once, the ledger too.
* ``Analysis``: amounts, verdict, comparisons, options (``OptionResult`` with ``CashFlows``), hybrid (``HybridChoice``),
  break_evens (``BreakEven``), switches (``Switch``), tornado (``Tornado`` of ``Bar``), simulation (``Simulation``),
  gates (``Gate``), risks (``Risk``), advice (``Advice`` with three ``KeyFigure`` and a ``NextTest``), assumptions,
  ledger (``Entry``).
* ``ledger_json(entries) -> str``: report.json, the same bytes for the same figures.
* ``workbook_bytes(inputs, evidence, analysis) -> bytes``: report.xlsx with live formulas.
* ``claims``: ``judge_against_claim`` and ``recommend`` judge accuracy alone, as for a run without a decision.yaml.
"""

from cifarlab.decision.analysis import analyse
from cifarlab.decision.claims import (
    CONFIDENCE,
    STATE_OF_THE_ART,
    VENDOR,
    Claim,
    Recommendation,
    Verdict,
    judge_against_claim,
    percent,
    recommend,
)
from cifarlab.decision.findings import (
    Advice,
    Analysis,
    Comparison,
    Entry,
    Gate,
    KeyFigure,
    NextTest,
    Risk,
)
from cifarlab.decision.given import Amount, CoveragePoint, Evidence, Written
from cifarlab.decision.inputs import DecisionInputs, default_yaml, load_inputs
from cifarlab.decision.ledger import ledger_json
from cifarlab.decision.results import (
    Bar,
    BreakEven,
    CashFlows,
    HybridChoice,
    OptionResult,
    Simulation,
    Switch,
    Tornado,
)
from cifarlab.decision.spreadsheet import workbook_bytes

__all__ = [
    "CONFIDENCE",
    "STATE_OF_THE_ART",
    "VENDOR",
    "Advice",
    "Amount",
    "Analysis",
    "Bar",
    "BreakEven",
    "CashFlows",
    "Claim",
    "Comparison",
    "CoveragePoint",
    "DecisionInputs",
    "Entry",
    "Evidence",
    "Gate",
    "HybridChoice",
    "KeyFigure",
    "NextTest",
    "OptionResult",
    "Recommendation",
    "Risk",
    "Simulation",
    "Switch",
    "Tornado",
    "Verdict",
    "Written",
    "analyse",
    "default_yaml",
    "judge_against_claim",
    "ledger_json",
    "load_inputs",
    "percent",
    "recommend",
    "workbook_bytes",
]
