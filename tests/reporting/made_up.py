"""A run folder with made-up figures, as training and evaluation would leave it."""

import base64
import json
from html.parser import HTMLParser

import torch

from cifarlab.commands.report import report
from cifarlab.config import Config, TrainConfig
from cifarlab.run import Predictions, Run
from cifarlab.stats import wilson_interval

CLASSES = ["cat", "dog", "ship"]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def proportion(correct, total):
    return {
        "value": correct / total,
        "interval": wilson_interval(correct, total),
        "method": "wilson",
        "confidence": 0.95,
    }


def seeded(seed, recipe="fast90"):
    """A configuration that differs from others of its recipe in the seed."""
    return Config(recipe=recipe, train=TrainConfig(seed=seed))


def curve(total=5000, correct=4500):
    """Accuracy against coverage: the surer, the better."""
    points = []
    for step in range(10):
        kept = total - step * total // 10
        right = min(kept, round(kept * (correct / total + step * 0.009)))
        entry = {"threshold": step / 10, "coverage": kept / total, "accuracy": right / kept, "num_images": kept}
        points.append(entry | {"interval": wilson_interval(right, kept)})
    return points


def section(**changes):
    """A section of evaluation.json as `evaluate` writes it."""
    whole = {"title": "-", "time": "2026-01-02T03:04:05+00:00", "seconds": 1.0, "findings": [], "figures": {}}
    return {**whole, "notes": [], "skipped": "", "tables": {}, "plots": {}, "options": {}, **changes}


def scores(correct=8765, total=10_000, names=CLASSES, *, tta=True, **changes):
    plain = proportion(max(0, correct - 210), total)
    return {
        "split": "test",
        "num_images": total,
        "class_names": names,
        "accuracy": plain if tta else proportion(correct, total),
        "accuracy_tta": proportion(correct, total) if tta else None,
        "headline": "accuracy_tta" if tta else "accuracy",
        "views": "flip_translate" if tta else "none",
        "views_share": 0.25,
        "loss": 0.4321,
        "top3": 0.9876,
        "macro_f1": 0.8712,
        "ece": 0.0312,
        "reliability": [
            {"lower": 0.0, "upper": 0.5, "count": 0, "confidence": None, "accuracy": None},
            {"lower": 0.5, "upper": 1.0, "count": total, "confidence": 0.95, "accuracy": correct / total},
        ],
        "per_class": [
            {
                "name": name,
                "support": 3000 + i,
                "precision": min(1.0, 0.81 + i / 100),
                "recall": min(1.0, 0.8 + i / 50),
                "f1": min(1.0, 0.811 + i / 100),
            }
            for i, name in enumerate(names)
        ],
        "confusion": [[9, 1, 0], [2, 8, 0], [0, 0, 10]],
        "confusions": [{"label": 1, "predicted": 0, "count": 234, "share": 0.078}],
        "mistakes": [{"index": 4711, "label": 0, "predicted": 1, "confidence": 0.987, "name": ""}],
        "time": "2026-01-02T03:04:05+00:00",
        "seconds": 12.5,
        "notices": ["The run does not record its split."],
        **changes,
    }


def make_run(root, config=None, *, splits=None, **changes):
    run = Run.create(config or Config(recipe="fast90"), name=changes.pop("name", "x"), root=root)
    run.write_json("evaluation.json", {"format": 2, "splits": splits or {"test": scores(**changes)}})
    run.write_metrics(
        [
            {"epoch": e, "train/loss": 2 / e, "train/accuracy": 0.5, "val/loss": 2 / e, "val/accuracy": 0.6}
            for e in (1, 2, 3)
        ]
    )
    (run.path / "plots").mkdir()
    (run.path / "plots" / "curves.png").write_bytes(PIXEL)
    run.write_json(
        "environment.json", {"torch": "2.13.0", "command": "cifarlab train fast90", "gpu": None, "num_test": 10_000}
    )
    diagnosis = {"verdict": "neither", "sentence": "The run neither overfits nor underfits: made-up sentence."}
    figures = {"train_clock_seconds": 92.4, "compute_pflop": 0.0214, "num_parameters": 494_128, "diagnosis": diagnosis}
    run.write_json("result.json", {"format": 1, "epochs": 3, "steps": 720, **figures})
    run.log_test_read("evaluate --split test", "the one reading")
    return run


def full_run(root, **changes):
    """A run with validation scores, a coverage curve, measured and skipped sections, and kept predictions."""
    selective = section(
        findings=["Where it may leave the least sure tenth to others, it is right in 90.9 % of the rest."],
        figures={"curve": curve(), "share_left": 0.1, "accuracy_kept": 0.909},
    )
    val = scores(correct=4500, total=5000, sections={"selective": selective})
    calibration = section(
        findings=["Its stated confidence is 3.1 points from the truth on average."],
        figures={"ece": 0.031},
        notes=["The temperature was fitted on validation images."],
        plots={"calibrated": "Confidence before and after."},
    )
    attacks = section(skipped="no attack was run; leave out --num-attacked 0")
    test = scores(sections={"calibration": calibration, "attacks": attacks})
    run = make_run(root, splits={"test": test, "val": {**val, "split": "val"}}, **changes)
    for name in ("confusion_test", "reliability_test", "mistakes_test", "calibrated_test"):
        (run.path / "plots" / f"{name}.png").write_bytes(PIXEL)
    labels_N = torch.arange(10_000) % len(CLASSES)
    logits_NK = torch.nn.functional.one_hot(labels_N, len(CLASSES)).float()
    wrong = torch.arange(10_000) >= 8765
    logits_NK[wrong] = logits_NK[wrong].roll(1, 1)
    run.save_predictions("test", Predictions(logits_NK, labels_N, logits_NK.clone()))
    return run


class Page(HTMLParser):
    """Collects what a page would load, where it links, its tags, and its text; code, charts and the like apart."""

    VOID = ("meta", "img", "br", "link", "hr", "input")
    BLOCKS = ("p", "li", "dt", "dd", "td", "th", "caption", "figcaption", "summary", "h1", "h2", "h3")

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.tags, self.texts, self.ids, self.open = [], [], [], [], set(), []
        self.sections = {}
        self.feed(text)
        self.text = words(self.texts)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append((tag, values))
        self.ids |= {values["id"]} if "id" in values else set()
        self.loads += [values[name] for name in ("src", "srcset", "poster", "data", "background") if name in values]
        if "href" in values:
            (self.links if tag == "a" else self.loads).append(values["href"])

    def handle_endtag(self, tag):
        if tag in self.BLOCKS:  # where one ends, a sentence does
            self.sections.setdefault(self.section(), []).append("\n")
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        inside = [tag for tag, _ in self.open]
        if {"style", "script"} & set(inside):
            return
        self.texts.append(data)
        if not {"svg", "code", "pre", "title"} & set(inside):
            self.sections.setdefault(self.section(), []).append(data)

    def section(self):
        return next((values.get("id", "") for tag, values in self.open if tag == "section"), "")


def words(parts):
    return " ".join(" ".join(parts).replace("\u00a0", " ").split())


def page_of(run, **options):
    """The report of a run, parsed."""
    return Page(report(run, **options).read_text(encoding="utf-8"))


def ledger_of(run):
    """The entries of the ledger that lies beside a report."""
    return json.loads((run.path / "report.json").read_text(encoding="utf-8"))["entries"]
