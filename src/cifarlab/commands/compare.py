"""Compare: which of several models or recipes is better, from their stored answers; a page, its plots, and JSON.

No model runs, and no reading of the test split is added to the runs' records: ``evaluate`` wrote one down when it made
the predictions that are compared here. What a comparison on test is used for is another matter, and the page says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cifarlab.answers import Answers, Views, load_answers
from cifarlab.comparison import Comparison, compare_answers
from cifarlab.comparison_page import write_page
from cifarlab.data import load_source
from cifarlab.data.imageset import ImageSet
from cifarlab.data.splits import make_splits
from cifarlab.errors import DataError, RunError
from cifarlab.run import runs_root, write_text

_FORMAT = 1
_LONGEST_NAME = 80
_HASH_DIGITS = 6
_OF_THE_SPLIT = {
    "test": "These are test images. A choice made by this comparison is made on the test set, and the accuracy of the "
    "winner is then no longer that on an untouched set: choose on val (--split val).",
    "val": "A model whose settings were chosen on these validation images is flattered by them.",
}


@dataclass(frozen=True)
class Compared:
    """A comparison, what it is of, and the files written.

    Attributes:
        comparison: Figures and findings.
        answers: What was compared.
        notes: What the reader should know besides.
        page: Path of comparison.html, a single file that loads nothing from anywhere.
        json: Path of comparison.json.
    """

    comparison: Comparison
    answers: Answers
    notes: tuple[str, ...]
    page: Path
    json: Path

    def as_dict(self) -> dict[str, Any]:
        """Return plain values fit for JSON, as in comparison.json."""
        answers = self.answers
        return {
            "format": _FORMAT,
            "split": answers.split,
            "with_views": answers.with_views,
            "sources": dict(zip((one.name for one in answers.candidates), answers.sources, strict=True)),
            "class_names": list(answers.class_names),
            "notes": list(self.notes),
            **self.comparison.as_dict(),
        }


def compare(
    sources: Sequence[str],
    *,
    split: Literal["auto", "test", "val"] = "auto",
    views: Views = "auto",
    labels: str = "",
    dataset: Literal["", "cifar10", "cifar100"] = "",
    out: Path | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Compared:
    """Compare the stored answers of runs, and those of others' models, to the same images.

    Args:
        sources: Run folders and files of predictions, at least two.
        split: Which images; auto is test where every run holds predictions on it, else val.
        views: Answers averaged over test-time views: where all runs have them (auto), in any case, or never.
        labels: File of true classes, where there is no run.
        dataset: Public data set whose labels are true, where there is no run.
        out: Folder for comparison.html, comparison.json and plots/; by default one below the runs folder that is named
            after the sources, images and views, where an older comparison of the same is replaced.
        progress: Told what is being fetched, bytes so far, and bytes in all.
        notify: Told one-line notices while images are fetched.

    Raises:
        UsageError: If the sources cannot be compared as asked.
        RunError: If a run is missing, unfinished or without predictions, or ``out`` cannot be written.
        DataError: If a file does not fit, or two sources speak of different images.
    """
    answers = load_answers(sources, split=split, views=views, labels=labels, dataset=dataset)
    if len(answers.labels_N) < 2:
        raise DataError("answers to one image show no difference; compare answers to several")
    comparison = compare_answers(answers.candidates, answers.labels_N, answers.class_names)
    if answers.split in _OF_THE_SPLIT:
        comparison = replace(comparison, cautions=[*comparison.cautions, _OF_THE_SPLIT[answers.split]])
    folder = runs_root() / _folder_name(comparison, answers) if out is None else out
    if (folder / "config.yaml").exists():
        raise RunError(f"{folder} is a run; name another folder with --out")
    images, missing = None, ""
    if any(side.positions for side in comparison.sides):
        images, missing = _images(answers, progress, notify)
    notes = (*answers.notes, missing) if missing else answers.notes
    result = Compared(comparison, answers, notes, folder / "comparison.html", folder / "comparison.json")
    content = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **result.as_dict()}
    write_text(result.json, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_page(result.page, comparison, answers, notes, images)
    return result


def _images(
    answers: Answers,
    progress: Callable[[str, int, int | None], None] | None,
    notify: Callable[[str], None] | None,
) -> tuple[ImageSet | None, str]:
    """Return the split's images; None with a note that says why where they cannot be had: pictures are no evidence."""
    if answers.data is None:
        return None, "There are no pictures, for only the labels of the images are known."
    try:
        splits = make_splits(load_source(answers.data, progress=progress, notify=notify), answers.data)
    except (DataError, OSError) as error:
        return None, f"Pictures are left out, for the images cannot be had: {str(error).splitlines()[0]}"
    images = splits.test if answers.split == "test" else splits.val
    if images is None or not np.array_equal(images.labels_N.numpy(), answers.labels_N):
        return None, "Pictures are left out, for the images have changed since the answers were given."
    return images, ""


def _folder_name(comparison: Comparison, answers: Answers) -> str:
    """Return a name to read, with a hash that tells comparisons of other sources, images or views apart."""
    plain = (re.sub(r"[^\w.]+", "-", Path(name).name).strip("-.") for name in sorted(comparison.rivals))
    sources = sorted(str(Path(source).resolve()) for source in answers.sources)
    compared = json.dumps([sources, answers.split, answers.with_views, answers.labels_N.tolist()])
    digest = hashlib.sha256(compared.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{'-'.join(['compare', *plain])[:_LONGEST_NAME].rstrip('-.')}-{digest}"
