"""Exports: a study as CSV, one row a trial, and as JSON, everything that the page says."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cifarlab.experiments.caveats import Sentence
from cifarlab.experiments.fields import value_of
from cifarlab.experiments.findings import Findings, Pair
from cifarlab.experiments.study import StudyRecord, spec_to_dict

FORMAT_VERSION = 1
# what tells where and from what the trials were made, in the order a reader asks for it
ENVIRONMENT_KEYS = {
    "cpu": "Processor",
    "threads": "Threads used",
    "gpu": "GPU",
    "platform": "Operating system",
    "python": "Python",
    "torch": "PyTorch",
    "cifarlab": "cifarlab",
    "git_commit": "Commit of the code",
    "data_origin": "Origin of the data",
    "num_train": "Training images",
    "num_val": "Validation images",
    "data_sha256": "SHA-256 of the training images",
    "split_sha256": "SHA-256 of the split",
}


def study_csv(record: StudyRecord, test: Mapping[str, Mapping[str, float]]) -> str:
    """Return one row a trial: arm, seed, state, run, every field that an arm sets, every figure, the error if any.

    A field that an arm does not set is given with its value in the base configuration. Lists are written as JSON; what
    is not known is left empty.

    Args:
        record: The study.
        test: Accuracies on test by name of the run folder, where runs were evaluated there.
    """
    fields = list(dict.fromkeys(field for arm in record.spec.arms for field in arm.overrides))
    overrides = {arm.label: arm.overrides for arm in record.spec.arms}
    base = {field: value_of(record.spec.base, field) for field in fields}
    flat = [dict(_flat(trial.figures)) | dict(test.get(trial.run.name, {})) for trial in record.trials]
    figures = list(dict.fromkeys(key for row in flat for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", "state", "run", *fields, *figures, "error"])
    for trial, row in zip(record.trials, flat, strict=True):
        values = base | overrides[trial.arm]
        cells = [values[field] for field in fields] + [row.get(key) for key in figures]
        writer.writerow([trial.arm, trial.seed, trial.state, trial.run.name, *map(_cell, cells), trial.error])
    return text.getvalue()


def study_dict(record: StudyRecord, findings: Findings, sentences: Sequence[Sentence]) -> dict[str, Any]:
    """Return a study and what it shows as plain values that JSON can hold; what is not known is null."""
    environments = findings.evidence.environments
    content = {
        "format": FORMAT_VERSION,
        "name": record.spec.name,
        "question": record.spec.question,
        "finished": {"trials": sum(arm.n for arm in findings.arms), "of": findings.planned},
        "sentences": [dataclasses.asdict(sentence) for sentence in sentences],
        "judged_by": "accuracy on val, with test-time views where a run has them",
        "val_images": findings.evidence.num_images or None,
        "arms": [dataclasses.asdict(arm) | {"n": arm.n} for arm in findings.arms],
        "groups": findings.groups,
        "pairs": [_pair(pair) for pair in findings.pairs],
        "effects": _effects(findings),
        "pooled_sd": findings.pooled_sd,
        "variance": {label: dataclasses.asdict(parts) for label, parts in findings.variance.items()},
        "trials": [
            # a folder's name only: where it lies is this machine's business
            {**dataclasses.asdict(trial), "run": trial.run.name, "test": findings.evidence.test.get(trial.run.name)}
            for trial in record.trials
        ],
        "made": made(environments),
        "test_reads": findings.evidence.test_reads,
        "spec": spec_to_dict(record.spec),
    }
    plain: dict[str, Any] = _plain(content)
    return plain


def made(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return where the trials were made: the different values of every key, first and last time, and commands."""
    found: dict[str, Any] = {
        key: distinct(environment[key] for environment in environments if environment.get(key) is not None)
        for key in ENVIRONMENT_KEYS
    }
    times = sorted(str(environment["time"]) for environment in environments if environment.get("time"))
    found["first"], found["last"] = (times[0], times[-1]) if times else (None, None)
    found["commands"] = distinct(one["command"] for one in environments if one.get("command"))
    return found


def distinct(values: Iterable[Any]) -> list[Any]:
    """Return the different values in the order of their first coming."""
    kept: list[Any] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return kept


def _pair(pair: Pair) -> dict[str, Any]:
    values = dataclasses.asdict(pair)
    return {**{key: value for key, value in values.items() if key != "result"}, **values["result"]}


def _effects(findings: Findings) -> dict[str, Any] | None:
    effects = findings.effects
    if effects is None:
        return None
    return {
        "levels": [dataclasses.asdict(level) for level in effects.levels],
        "pairs": {name: [_pair(pair) for pair in pairs] for name, pairs in effects.pairs.items()},
        "p_interaction": effects.p_interaction,
    }


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
