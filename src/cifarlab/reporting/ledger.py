"""The run's part of the ledger: every figure of the page that is not one of the decision's."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from typing import Any

from cifarlab.decision import Entry
from cifarlab.reporting.measured import evaluate_command
from cifarlab.reporting.sections import Block, section_figures
from cifarlab.reporting.sources import Judged, Seeds

QUOTED_LOSS = ("quoted.newly_collected_loss", 0.03, 0.15)
QUOTED_SEED_SD = ("quoted.seed_sd", 0.002)
_TRAINING = {
    "train_clock_seconds": ("Training time, data in memory to final weights", "s"),
    "wall_clock_seconds": ("Time from the start of the process to the result on disk", "s"),
    "compute_pflop": ("Compute of the training", "PFLOP"),
    "num_parameters": ("Parameters of the network", "parameters"),
    "epochs": ("Epochs trained", "epochs"),
    "steps": ("Steps trained", "steps"),
}
_SCORES = {
    "top3": ("Right class among the first three answers", "share"),
    "macro_f1": ("Mean F1 over the classes", "share"),
    "loss": ("Cross-entropy", "nats"),
    "ece": ("Expected calibration error", "share"),
    "views_share": ("Share of the images that were asked several times", "share"),
    "seconds": ("Time to evaluate the test split", "s"),
}


def run_entries(judged: Judged, seeds: Seeds | None, shown: dict[str, Any]) -> list[Entry]:
    """Return the entries of a run, in a stable order.

    Args:
        judged: The run.
        seeds: All runs of its recipe; None for one run.
        shown: What :func:`cifarlab.reporting.record.record` says of it.
    """
    book = _Book(judged)
    book.scores(shown)
    book.training(shown)
    book.environment()
    for block, key, value in section_figures(shown["measured_blocks"], judged):
        book.section(block, key, value)
    if seeds is not None:
        book.seeds(seeds)
    return [*book.entries, *_quoted()]


def transfer_entries(judged: Judged) -> list[Entry]:
    """Return the entries of a run on one's own images."""
    book = _Book(judged)
    headline = judged.headline
    label = f"Accuracy of the fine-tuned model on {judged.data_name}"
    book.add("transfer.accuracy", label, headline["value"], "share", ends=headline["interval"])
    book.add("transfer.num_images", f"Test images of {judged.data_name}", judged.num_images, "images")
    return book.entries


class _Book:
    """Takes entries of one run; all are measured and written in its folder."""

    def __init__(self, judged: Judged) -> None:
        self.entries: list[Entry] = []
        self._judged = judged
        self._judged_on = str(judged.test.get("time") or "")[:10]
        self._trained_on = str(judged.recorded.get("time") or "")[:10]

    def add(
        self,
        name: str,
        label: str,
        value: float | int | str | None,
        unit: str,
        *,
        ends: Iterable[float] | None = None,
        file: str = "evaluation.json",
        command: str = "",
        run: str = "",
    ) -> None:
        """Add one figure, of another run where one is named; none that was not recorded, for a ledger holds figures."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return
        low, high = ends or (None, None)
        trained = file in ("result.json", "environment.json", "config.yaml")
        again = command or (_train_command(self._judged) if trained else evaluate_command(self._judged.run.name))
        date = self._trained_on if trained else self._judged_on
        if run and run != self._judged.run.name:
            date = ""
        source = f"{run or self._judged.run.name}/{file}"
        self.entries.append(Entry(name, label, value, low, high, unit, "measured", source, date, again))

    def scores(self, shown: dict[str, Any]) -> None:
        """Add accuracies, scores, classes, confusions and mistakes."""
        for row in shown["accuracies"]:
            how = "views" if "views" in row["how"] else "plain"
            label = f"Accuracy on {row['split']}, {row['how']}"
            command = evaluate_command(self._judged.run.name, row["split"])
            name = f"run.accuracy.{row['split']}.{how}"
            self.add(name, label, row["value"], "share", ends=row["interval"], command=command)
            self.add(f"{name}.images", f"Images of {row['split']}", row["num_images"], "images", command=command)
        for key, (label, unit) in _SCORES.items():
            ends = shown["top3_interval"] if key == "top3" else None
            self.add(f"run.{key}", label, self._judged.test.get(key), unit, ends=ends)
        self.add("run.confidence", "Mean confidence of its answers", shown["confidence"], "share")
        self.add("run.classes", "Number of classes", len(self._judged.test["class_names"]), "classes")
        for row in shown["classes"]:
            name = f"class.{row['name']}"
            self.add(f"{name}.images", f"Test images of {row['name']}", row["support"], "images")
            self.add(f"{name}.recall", f"Recall of {row['name']}", row["recall"], "share", ends=row["interval"])
            self.add(f"{name}.precision", f"Precision of {row['name']}", row["precision"], "share")
            self.add(f"{name}.f1", f"F1 of {row['name']}", row["f1"], "share")
        for number, row in enumerate(shown["confusions"], 1):
            label = f"{row['label']} taken for {row['predicted']}"
            self.add(f"confusion.{number}.images", label, row["count"], "images")
            self.add(f"confusion.{number}.share", f"{label}, share of the class", row["share"], "share")
        for number, row in enumerate(shown["mistakes"], 1):
            self.add(f"mistake.{number}", f"Confidence of wrong answer {number}", row["confidence"], "share")
            if not row.get("name"):
                self.add(f"mistake.{number}.image", f"Test image of wrong answer {number}", row["index"], "position")

    def training(self, shown: dict[str, Any]) -> None:
        """Add clocks, sizes, and how often test was read."""
        for key, (label, unit) in _TRAINING.items():
            self.add(f"training.{key}", label, shown["result"].get(key), unit, file="result.json")
        said = shown["diagnosis"]["sentence"]
        self.add("training.diagnosis", "What the curves of the training say", said, "sentence", file="result.json")
        config = self._judged.config
        self.add("training.seed", "Seed of the training", config.train.seed, "seed", file="config.yaml")
        self.add("training.split_seed", "Seed of the split", config.data.split_seed, "seed", file="config.yaml")
        self.add(
            "run.test_reads", "Readings of the test split", len(shown["reads"]), "readings", file="test_reads.jsonl"
        )

    def environment(self) -> None:
        """Add what environment.json holds, such as cores, images and versions."""
        for key, value in self._judged.recorded.items():
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                self.add(f"environment.{key}", key.replace("_", " "), value, "", file="environment.json")

    def section(self, block: Block, key: str, value: float | int | str) -> None:
        """Add a sentence of a section of the evaluation, or a figure that stands in one."""
        label = block.title if isinstance(value, str) else f"{block.title} {key.replace('.', ', ').replace('_', ' ')}"
        command = evaluate_command(self._judged.run.name, block.split, block.name)
        unit = "sentence" if isinstance(value, str) else ""
        self.add(f"evaluation.{block.split}.{block.name}.{key}", label, value, unit, command=command)

    def seeds(self, seeds: Seeds) -> None:
        """Add what several trainings reached."""
        ends = None if math.isnan(seeds.interval[0]) else seeds.interval
        images = f"on {seeds.split} images"
        self.add("seeds.number", "Trainings of the recipe", len(seeds.runs), "runs")
        self.add("seeds.mean", f"Mean accuracy of the trainings {images}", seeds.mean, "share", ends=ends)
        self.add("seeds.sd", f"Standard deviation of the trainings {images}", seeds.sd, "share")
        for name, seed, value in seeds.runs:
            command = evaluate_command(name, seeds.split)
            label = f"Accuracy with seed {seed} {images}"
            self.add(f"seeds.{seed}", label, value, "share", command=command, run=name)


def _train_command(judged: Judged) -> str:
    return f"cifarlab train --config {shlex.quote(f'runs/{judged.run.name}/config.yaml')}"


def _quoted() -> list[Entry]:
    """Return what the page quotes besides the claims."""
    name, low, high = QUOTED_LOSS
    source = "Recht et al. (2019), Do ImageNet Classifiers Generalize to ImageNet?, arXiv:1902.10811"
    label = "Accuracy that published CIFAR-10 models lose on newly collected images"
    loss = Entry(name, label, None, low, high, "share", "quoted", source, "2019-02-13", "")
    name, sd = QUOTED_SEED_SD
    source = "Picard (2021), Torch.manual_seed(3407) is all you need, arXiv:2109.08203"
    label = "Standard deviation of accuracy between seeds of a CIFAR-10 network"
    return [loss, Entry(name, label, sd, None, None, "share", "quoted", source, "2021-09-16", "")]
