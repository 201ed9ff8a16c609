"""What was measured of the run, in the form the decision takes it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from cifarlab.answers import load_answers
from cifarlab.decision import CoveragePoint, Evidence, Written
from cifarlab.differences import PairedDifference, compare_paired
from cifarlab.reporting.sources import Judged, Sources


def evidence_of(sources: Sources, vendor_predictions: Path | None) -> Evidence:
    """Collect what the decision rests on.

    Args:
        sources: The run, and its seeds where there are several.
        vendor_predictions: The vendor's answers to the same test images; None where there are none.

    Raises:
        DataError: If the predictions cannot be read or are of other images.
        RunError: If predictions are given and the run's own are not kept.
    """
    judged = sources.main
    paired, theirs = _paired(judged, vendor_predictions) if vendor_predictions else (None, None)
    confusion = judged.test.get("confusion")
    seeds = sources.seeds if sources.seeds and sources.seeds.split == "test" else None
    curve, split = coverage(judged)
    return Evidence(
        correct=judged.correct,
        total=judged.num_images,
        dataset=judged.data_name,
        own_images=judged.own_images,
        seed_accuracies=tuple(value for _, _, value in seeds.runs) if seeds else (),
        diagnosis=(judged.result.get("diagnosis") or {}).get("verdict") or "unknown",
        coverage=curve,
        confusion_KK=np.asarray(confusion, dtype=np.int64) if _square(confusion, judged) else None,
        vendor_correct=theirs,
        paired=paired,
        source=f"{judged.run.name}/evaluation.json",
        date=str(judged.test.get("time") or "")[:10],
        command=evaluate_command(judged.run.name),
        class_names=tuple(map(str, judged.test["class_names"])),
        coverage_written=_where_the_curve_is(judged, split) if curve else None,
        vendor_written=_where_they_were_read(judged, vendor_predictions) if vendor_predictions else None,
        seeds_written=tuple(_evaluation_of(name) for name, _, _ in seeds.runs) if seeds else (),
    )


def _where_the_curve_is(judged: Judged, split: str) -> Written:
    source = f"{judged.run.name}/evaluation.json, {'validation' if split == 'val' else 'test'} images"
    date = str(judged.sections(split)["selective"].get("time") or "")[:10]
    return Written(source, date, evaluate_command(judged.run.name, split, "selective"))


def _where_they_were_read(judged: Judged, file: Path) -> Written:
    words = ["cifarlab", "report", f"runs/{judged.run.name}", "--vendor-predictions", file.name]
    return Written(f"{file.name}, set against the labels of {judged.run.name}", "", shlex.join(words))


def _evaluation_of(name: str) -> Written:
    return Written(f"{name}/evaluation.json", "", evaluate_command(name))


def evaluate_command(name: str, split: str = "test", section: str = "") -> str:
    """Return the command that measures a run again, with the folder's name only: where it lies is nobody's business."""
    words = ["cifarlab", "evaluate", f"runs/{name}", "--split", split]
    return shlex.join([*words, "--sections", section] if section else words)


def _square(confusion: Any, judged: Judged) -> bool:
    """Return whether a confusion matrix is one of these classes and images."""
    num_classes = len(judged.test["class_names"])
    shaped = isinstance(confusion, list) and [len(row) for row in confusion] == [num_classes] * num_classes
    return shaped and sum(map(sum, confusion)) == judged.num_images


def coverage(judged: Judged) -> tuple[tuple[CoveragePoint, ...], str]:
    """Return accuracy against coverage, by rising threshold, and the split it was measured on; nothing if it was not.

    It is taken from validation images, because a threshold follows from it. A run without any has only test images.
    """
    for split in ("val", "test"):
        section = judged.sections(split).get("selective") or {}
        curve = (section.get("figures") or {}).get("curve")
        if curve and not section.get("skipped"):
            points = [
                CoveragePoint(
                    one["threshold"], one["coverage"], one["accuracy"], one["num_images"], tuple(one["interval"])
                )
                for one in curve
                if one.get("accuracy") is not None and one.get("num_images")
            ]
            return tuple(sorted(points, key=lambda point: point.threshold)), split
    return (), ""


def _paired(judged: Judged, file: Path) -> tuple[PairedDifference, int]:
    """Compare the run's answers with the vendor's, image by image; return that and how many the vendor has right."""
    answers = load_answers([str(judged.run.path), str(file)], split="test", views="yes" if judged.with_views else "no")
    ours_N, theirs_N = (one.predicted_N == answers.labels_N for one in answers.candidates)
    return compare_paired(ours_N, theirs_N), int(theirs_N.sum())
