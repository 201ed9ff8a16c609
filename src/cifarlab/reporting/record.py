"""The record of a run as the report shows it: classes, mistakes, pictures, how and where it was trained."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

from cifarlab.errors import RunError
from cifarlab.pages import file_uri, moment
from cifarlab.plots.curves import plot_curves
from cifarlab.plots.decision import Row, interval_chart
from cifarlab.plots.style import save_figure
from cifarlab.reporting.sources import Judged
from cifarlab.reporting.words import ABSENT, percent, share_tick
from cifarlab.run import Run
from cifarlab.stats import wilson_interval

_ROWS_SHOWN = 8
_MOST_DRAWN = 20  # classes; of more a chart is as long as its table
_VIEWS = {
    "flip": "the image and its mirror image",
    "flip_translate": "the image, its mirror image, and both shifted by a pixel",
}
# environment keys in the order a reader asks for them; whatever else is recorded follows under its own name
_ENVIRONMENT_LABELS = {
    "cpu": "Processor",
    "cpu_count": "Processor cores",
    "threads": "Threads used",
    "gpu": "GPU",
    "platform": "Operating system",
    "python": "Python",
    "torch": "PyTorch",
    "cifarlab": "cifarlab",
    "git_commit": "Commit of the code",
    "time": "Time of the training",
    "data_origin": "Origin of the data",
    "data_sha256": "SHA-256 of the training images",
    "split_sha256": "SHA-256 of the split",
    "num_train": "Training images",
    "num_val": "Validation images",
    "num_test": "Test images",
    "instruction_sets": "Instruction sets of the processor",
    "world_size": "Processes of the training",
}


def record(judged: Judged) -> dict[str, Any]:
    """Return what the templates of the report and of the model card show of a run.

    Raises:
        RunError: If the curves are missing and cannot be drawn.
    """
    test, result = judged.test, judged.result
    classes = _classes(test)
    return {
        "name": judged.run.name,
        "config": judged.config,
        "data_name": judged.data_name,
        "started_from": judged.started_from,
        "result": result,
        "diagnosis": result.get("diagnosis") or {"verdict": "unknown", "sentence": ABSENT},
        "test": test,
        "val": judged.val,
        "headline": judged.headline,
        "with_views": judged.with_views,
        "views": _VIEWS.get(test.get("views") or judged.config.evaluate.views, ""),
        "accuracies": _accuracies(test, judged.val),
        "classes": classes,
        "class_chart": _class_chart(classes),
        "classes_text": _classes_text(test["class_names"]),
        "top3_interval": _top3_interval(test),
        "confidence": _mean_confidence(test),
        "confusions": _with_names(test, "confusions"),
        "mistakes": _with_names(test, "mistakes"),
        "pictures": _pictures(judged.run),
        "reads": judged.run.test_reads(),
        "recorded": judged.recorded,
        "environment_rows": _environment_rows(judged.recorded),
    }


def _accuracies(test: dict[str, Any], val: dict[str, Any] | None) -> list[dict[str, Any]]:
    rows = []
    for split, scores in (("test", test), ("val", val)):
        for key, how in (("accuracy", "image as it is"), ("accuracy_tta", "averaged over views")):
            if scores and scores.get(key):
                rows.append({"split": split, "how": how, "num_images": scores["num_images"], **scores[key]})
    return rows


def _classes(test: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the per-class scores, each recall with its Wilson interval where one exists."""
    rows = []
    for row in test.get("per_class") or []:
        support, recall = int(row.get("support") or 0), row.get("recall")
        known = support > 0 and recall is not None
        interval = wilson_interval(round(recall * support), support) if known else None
        rows.append({"precision": None, "f1": None, **row, "recall": recall, "support": support, "interval": interval})
    return rows


def _class_chart(classes: list[dict[str, Any]]) -> Markup | None:
    known = [row for row in classes if row["interval"]]
    if not known or len(known) > _MOST_DRAWN:
        return None
    rows = [
        Row(str(row["name"]), row["recall"], row["interval"], text=percent(row["recall"], 1))
        for row in sorted(known, key=lambda row: float(row["recall"]), reverse=True)
    ]
    lowest = min(row.ends[0] for row in rows if row.ends)
    best, worst = rows[0], rows[-1]
    alt = f"Share of each class that is recognised, from {best.name} with {best.text} to {worst.name} with {worst.text}"
    return interval_chart(rows, share_tick, alt, ends=(max(0.0, lowest - 0.02), 1.0))


def _classes_text(names: list[str]) -> str:
    shown = ", ".join(map(str, names[:20]))
    return f"{len(names)} classes ({shown}{', …' if len(names) > 20 else ''})"


def _top3_interval(test: dict[str, Any]) -> tuple[float, float] | None:
    share, total = test.get("top3"), int(test["num_images"])
    return None if share is None else wilson_interval(round(share * total), total)


def _mean_confidence(test: dict[str, Any]) -> float | None:
    """Return the mean confidence of all predictions, from the bins of the reliability diagram."""
    bins = [one for one in test.get("reliability") or [] if one["count"]]
    total = sum(one["count"] for one in bins)
    return sum(one["count"] * one["confidence"] for one in bins) / total if total else None


def _with_names(test: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the first recorded confusions or mistakes, with the names of their classes in place of positions."""
    names = test["class_names"]
    rows = (test.get(key) or [])[:_ROWS_SHOWN]
    return [{**row, "label": names[row["label"]], "predicted": names[row["predicted"]]} for row in rows]


def _pictures(run: Run) -> dict[str, str | None]:
    """Return the run's plots as data URIs; the curves are drawn now if they are missing."""
    records = run.metrics()
    if records and not (run.path / "plots" / "curves.png").is_file():
        try:
            save_figure(plot_curves(records), run.path / "plots" / "curves")
        except OSError as error:
            raise RunError(f"cannot write {run.path}/plots: {error.strerror or error}") from error
    names = ("curves", "confusion_test", "reliability_test", "per_class_test", "mistakes_test")
    return {name: file_uri(run.path / "plots" / name) for name in names}


def _environment_rows(recorded: dict[str, Any]) -> list[tuple[str, str]]:
    rest = [key for key in recorded if key not in _ENVIRONMENT_LABELS and key != "command"]
    rows = []
    for key in (*_ENVIRONMENT_LABELS, *rest):
        value = recorded.get(key)
        # a machine without a GPU is recorded as null; that is a finding, not an omission
        absent = "none" if key == "gpu" and "gpu" in recorded else ABSENT
        label = _ENVIRONMENT_LABELS.get(key, key.replace("_", " "))
        rows.append((label, absent if value is None else _plain(key, value)))
    return rows


def _plain(key: str, value: object) -> str:
    if isinstance(value, str):
        return moment(value) if key == "time" else value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)
