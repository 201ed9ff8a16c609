"""Report: one page a manager can decide by, and the model card; both read from the run folder alone."""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cifarlab.config import Config
from cifarlab.decision import STATE_OF_THE_ART, VENDOR, judge_against_claim, percent, recommend
from cifarlab.errors import RunError
from cifarlab.plots.curves import plot_curves
from cifarlab.plots.style import save_figure
from cifarlab.run import FORMAT_VERSION, Run, write_text
from cifarlab.stats import wilson_interval

ABSENT = "not recorded"
_LARGEST_SVG_BYTES = 300_000  # a matrix of a hundred classes is smaller as pixels
_ROWS_SHOWN = 8
_DATA_NAMES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
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
}


def report(run: Run) -> Path:
    """Write report.html and README.md, the model card, into a run folder.

    Args:
        run: A finished run that was evaluated on its test split.

    Returns:
        Path of report.html, a single file that loads nothing from anywhere.

    Raises:
        RunError: If the run is not finished or not evaluated, or its files are damaged or of a newer format.
    """
    run.require_finished()
    test, val = _load_evaluation(run)
    context = _context(run, test, val)
    pages = _environment()
    page = run.path / "report.html"
    write_text(page, pages.get_template("report.html.j2").render(context))
    header = _card_header(run, context)
    write_text(run.path / "README.md", pages.get_template("model_card.md.j2").render(context, header=header))
    return page


def _load_evaluation(run: Run) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what evaluation.json says of test and, where it was evaluated, of val."""
    evaluation = run.read_json("evaluation.json") if (run.path / "evaluation.json").is_file() else {}
    if evaluation.get("format", FORMAT_VERSION) > FORMAT_VERSION:
        raise RunError(f"{run.path} was evaluated by a newer cifarlab; update this one")
    splits = evaluation.get("splits") or {}
    test = splits.get("test")
    if test is None:
        raise RunError(f"{run.path} was not evaluated on the test split; do it with: cifarlab evaluate {run.path}")
    missing = [key for key in ("num_images", "class_names", "accuracy") if key not in test]
    if missing or not {"value", "interval"} <= set(test["accuracy"]):
        what = missing[0] if missing else "accuracy.interval"
        raise RunError(f"{run.path}/evaluation.json holds no {what}; make it anew with: cifarlab evaluate {run.path}")
    return test, splits.get("val")


def _environment() -> Environment:
    pages = Environment(
        loader=PackageLoader("cifarlab", "templates"),
        autoescape=True,  # class names, paths and commands are text that anybody may have written
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "percent": _percent,
        "number": _number,
        "seconds": _seconds,
        "recorded": _recorded,
        "moment": _moment,
        "cell": _markdown_cell,
        "code_line": _code_line,
    }
    pages.filters.update(filters)
    return pages


def _context(run: Run, test: dict[str, Any], val: dict[str, Any] | None) -> dict[str, Any]:
    """Collect everything the templates show."""
    config, result = run.config, run.read_json("result.json")
    headline = test.get(test.get("headline") or "accuracy") or test["accuracy"]
    recorded = run.read_json("environment.json") if (run.path / "environment.json").is_file() else {}
    return {
        "css": Markup((files("cifarlab") / "templates" / "base.css").read_text(encoding="utf-8")),  # noqa: S704 our own file
        "name": run.name,
        "config": config,
        "data_name": _data_name(config),
        "result": result,
        "diagnosis": result.get("diagnosis") or {"verdict": "unknown", "sentence": ABSENT},
        "test": test,
        "val": val,
        "headline": headline,
        "with_views": headline is not test["accuracy"],
        "views": _VIEWS.get(test.get("views") or config.evaluate.views, ""),
        "accuracies": _accuracies(test, val),
        "classes": _classes(test),
        "classes_text": _classes_text(test["class_names"]),
        "confidence": _mean_confidence(test),
        "confusions": _with_names(test, "confusions"),
        "mistakes": _with_names(test, "mistakes"),
        "pictures": _pictures(run),
        "reads": run.test_reads(),
        "recorded": recorded,
        "environment_rows": _environment_rows(recorded),
        "comparison": _comparison(test, headline, result) if _is_cifar10(config) else None,
        "vendor": VENDOR,
        "frontier": STATE_OF_THE_ART,
    }


def _is_cifar10(config: Config) -> bool:
    return config.data.dataset == "cifar10" and not (config.data.folder or config.data.csv)


def _data_name(config: Config) -> str:
    own = config.data.folder or config.data.csv
    return Path(own).name if own else _DATA_NAMES[config.data.dataset]


def _comparison(test: dict[str, Any], headline: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """Return the judgement against the vendor, the advice, and where to draw the marks of the figure."""
    total = int(test["num_images"])
    verdict = judge_against_claim(round(headline["value"] * total), total, VENDOR.accuracy)
    finding = (result.get("diagnosis") or {}).get("verdict")
    low, high = headline["interval"]
    # the first ten per cent that leave the lowest mark some room
    start = max(0.0, math.floor(10 * (float(min(low, VENDOR.accuracy)) - 0.05)) / 10)

    def place(value: float) -> float:
        return round(100 * (value - start) / (1 - start), 3)

    def mark(kind: str, name: str, status: str, value: float, ends: tuple[float, float]) -> dict[str, Any]:
        left, right = place(ends[0]), place(ends[1])
        marks = {"at": place(value), "left": left, "width": round(right - left, 3)}
        return {"kind": kind, "name": name, "status": status, "value": value, "interval": ends, **marks}

    vendor, best = VENDOR.accuracy, STATE_OF_THE_ART.accuracy
    rows = [
        mark("quoted", VENDOR.name, "quoted", vendor, (vendor, vendor)),
        mark("measured", "Our model", "measured", headline["value"], (low, high)),
        mark("quoted", "State of the art, " + STATE_OF_THE_ART.name, "quoted", best, (best, best)),
    ]
    tens = range(round(10 * start), 11)
    return {
        "verdict": verdict,
        "advice": recommend(verdict, finding or "unknown"),
        "p_value": f"{verdict.p_value:.2g}" if verdict.p_value >= 1e-12 else "below 10\u207b\u00b9\u00b2",
        "rows": rows,
        "from_zero": start == 0,
        "ticks": [{"label": percent(ten / 10, 0), "at": place(ten / 10)} for ten in tens],
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


def _classes_text(names: list[str]) -> str:
    shown = ", ".join(map(str, names[:20]))
    return f"{len(names)} classes ({shown}{', …' if len(names) > 20 else ''})"


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
    return {name: _picture(run.path / "plots", name) for name in names}


def _picture(folder: Path, name: str) -> str | None:
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    if svg.is_file() and svg.stat().st_size <= _LARGEST_SVG_BYTES:
        return f"data:image/svg+xml;base64,{base64.b64encode(svg.read_bytes()).decode('ascii')}"
    if png.is_file():
        return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode('ascii')}"
    return None


def _environment_rows(recorded: dict[str, Any]) -> list[tuple[str, str]]:
    rest = [key for key in recorded if key not in _ENVIRONMENT_LABELS and key != "command"]
    rows = []
    for key in (*_ENVIRONMENT_LABELS, *rest):
        value = recorded.get(key)
        # a machine without a GPU is recorded as null; that is a finding, not an omission
        absent = "none" if key == "gpu" and "gpu" in recorded else ABSENT
        rows.append((_ENVIRONMENT_LABELS.get(key, key), absent if value is None else _plain(key, value)))
    return rows


def _plain(key: str, value: object) -> str:
    if isinstance(value, str):
        return _moment(value) if key == "time" else value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return json.dumps(value, ensure_ascii=False)


def _percent(value: float | None, digits: int = 2) -> str:
    return ABSENT if value is None else percent(value, digits)


def _number(value: float | None, digits: int = 0) -> str:
    return ABSENT if value is None else f"{value:,.{digits}f}"


def _recorded(value: object) -> object:
    return ABSENT if value in (None, "") else value


def _moment(value: object) -> str:
    """Return an ISO 8601 time as a person writes it."""
    text = str(_recorded(value))
    return f"{text[:10]} {text[11:16]} UTC" if re.fullmatch(r"[\d-]{10}T[\d:]{8}(\+00:00|Z)", text) else text


def _code_line(value: object) -> Markup:
    """Return text as one line inside a fenced block of Markdown, which it cannot close."""
    return Markup(" ".join(str(value).split()).replace("`", "'"))  # noqa: S704 HTML is inert in a fence


def _seconds(value: float | None) -> str:
    """Return a duration in seconds as a person would say it."""
    if value is None:
        return ABSENT
    if value < 60:
        return f"{value:.1f}\u00a0s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (seconds, "s"))
    return " ".join(f"{count}\u00a0{unit}" for count, unit in parts if count)


def _markdown_cell(value: object) -> Markup:
    """Return text for a Markdown page that can neither leave its table cell nor become a tag, link or emphasis."""
    text = html.escape(" ".join(str(value).split()))
    return Markup(re.sub(r"([\\`*_\[\]|~])", r"\\\1", text))  # noqa: S704 escaped in the line above


def _card_header(run: Run, context: dict[str, Any]) -> Markup:
    """Return the YAML header of the model card, in the form the Hugging Face Hub reads.

    References:
        https://huggingface.co/docs/hub/model-cards
    """
    config: Config = context["config"]
    public = not (config.data.folder or config.data.csv)
    dataset = f"uoft-cs/{config.data.dataset}" if public else "imagefolder"
    # our licence covers what we made; whoever trains on images of their own decides for themselves
    header: dict[str, Any] = {"license": "apache-2.0"} if public else {"license": "other", "license_name": "not-chosen"}
    header |= {"library_name": "cifarlab", "pipeline_tag": "image-classification"}
    header |= {"datasets": [dataset] if public else [], "metrics": ["accuracy"], "tags": ["image-classification"]}
    title = "Accuracy, test-time views" if context["with_views"] else "Accuracy"
    metric = {"type": "accuracy", "name": title, "value": context["headline"]["value"]}
    task = {"type": "image-classification", "name": "Image classification"}
    source = {"type": dataset, "name": context["data_name"], "split": "test"}
    header["model-index"] = [
        {"name": run.name, "results": [{"task": task, "dataset": source, "metrics": [metric]}]},
    ]
    return Markup(yaml.safe_dump(header, sort_keys=False, allow_unicode=True))  # noqa: S704 YAML does its own quoting
