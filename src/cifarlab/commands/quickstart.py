"""Quickstart: the main job from nothing to a report, by calling the other commands in order.

It adds nothing of its own but the order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cifarlab.commands.evaluate import Evaluation, evaluate
from cifarlab.commands.explore import explore
from cifarlab.commands.report import Report, write_report
from cifarlab.commands.train import train
from cifarlab.config import Config
from cifarlab.data import load_splits
from cifarlab.decision import VENDOR, Verdict, judge_against_claim, recommend
from cifarlab.errors import StoppedError
from cifarlab.run import Run
from cifarlab.training.loop import Hooks


@dataclass(frozen=True)
class Quickstart:
    """What the main job produced.

    Attributes:
        run: The finished run.
        exploration: The page on the data.
        report: The report.
        evaluation: Figures on the test split.
        verdict: Our accuracy against the vendor's claim.
        recommendation: What follows from it and from the costs, in one sentence.
        seconds: Duration of each stage.
    """

    run: Run
    exploration: Path
    report: Path
    evaluation: Evaluation
    verdict: Verdict
    recommendation: str
    seconds: dict[str, float]


def quickstart(
    config: Config,
    *,
    name: str = "quickstart",
    hooks: Hooks | None = None,
    stage: Callable[[str], None] = lambda title: None,
    notify: Callable[[str], None] = lambda line: None,
) -> Quickstart:
    """Explore, train, evaluate and report; the data has been fetched before.

    Args:
        config: The recipe.
        name: Name of the run.
        hooks: Progress of training, and the stop request.
        stage: Called with a title when a stage begins.
        notify: Takes one-line notices.

    Raises:
        CifarlabError: As the commands do; StoppedError before the next stage too, if a stop was requested.
    """
    seconds: dict[str, float] = {}
    clock = time.monotonic()
    begin = partial(_begin, hooks or Hooks(), stage)

    def close(stage_name: str) -> None:
        nonlocal clock
        now = time.monotonic()
        seconds[stage_name], clock = now - clock, now

    begin("Explore the data")
    splits = load_splits(config.data)
    exploration = explore(config.data, out=Path("exploration"))
    close("explore")
    begin(f"Train recipe {config.recipe}")
    run = train(config, name=name, splits=splits, hooks=hooks, notify=notify)
    close("train")
    way_on = f"; the run is trained, go on with: cifarlab evaluate {run.quoted} --split test"
    begin("Evaluate on validation images, then once on the test split", way_on)
    if splits.val is not None:  # on which the report finds what a mix with the vendor would cost
        evaluate(run, split="val")
    evaluation = evaluate(run, split="test", reason="quickstart")
    close("evaluate")
    begin("Write the report", f"; go on with: cifarlab report {run.quoted}")
    written = write_report([run])
    close("report")
    headline = evaluation.accuracy_tta or evaluation.accuracy
    correct = round(headline.value * evaluation.num_images)
    verdict = judge_against_claim(correct, evaluation.num_images, VENDOR.accuracy)
    advice = _advice(written, verdict, run)
    return Quickstart(run, exploration.page, written.page, evaluation, verdict, advice, seconds)


def _begin(hooks: Hooks, stage: Callable[[str], None], title: str, way_on: str = "") -> None:
    """Announce a stage, unless a stop was requested in the one before it."""
    if number := hooks.stop_signal():
        raise StoppedError(f"stopped before the next stage: {title}{way_on}", number)
    stage(title)


def _advice(written: Report, verdict: Verdict, run: Run) -> str:
    """Return what to do; of images of one's own the vendor states nothing, so there accuracy alone decides."""
    if written.analysis is not None:
        return written.analysis.advice.headline
    return recommend(verdict, run.read_json("result.json")["diagnosis"]["verdict"]).sentence
