"""What a section of an evaluation gets and gives.

Shape suffixes: N images, K classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from cifarlab.data.imageset import ImageSet
from cifarlab.evaluation.options import Options
from cifarlab.inference import Classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Notify", "Options", "Scored", "Section", "Subject", "Table"]

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Scored:
    """Answers to images whose true classes are known.

    Attributes:
        logits_NK: float32, or float64 of a file that needs it; logits, or logarithms of probabilities where only those
            are known. They are the run's answer, averaged over test-time views where it has any.
        labels_N: int64.
        images: The images themselves, in the same order; None where only answers are at hand.
        probabilities_NK: float64; probabilities as a file has them, where it has some. Of these equal ones are equal,
            which the way there and back by logarithms would not leave so.
    """

    logits_NK: torch.Tensor
    labels_N: torch.Tensor
    images: ImageSet | None = None
    probabilities_NK: torch.Tensor | None = None


@dataclass(frozen=True)
class Subject:
    """A model on one split, as the sections see it.

    Attributes:
        split: 'val', 'test', or 'given' for answers from a file.
        class_names: K names in label order.
        judged: The split's answers.
        val: Answers to the validation split, on which everything that is fitted or chosen is; None where there is none.
            The same object as judged where val is what is judged.
        classifier: The model; None where only answers are at hand.
        train: Returns the training images; None where they are not at hand. Loaded when called.
        options: What the user asked for besides.
        notify: Takes progress lines.
    """

    split: str
    class_names: tuple[str, ...]
    judged: Scored
    val: Scored | None
    classifier: Classifier | None
    train: Callable[[], ImageSet] | None
    options: Options
    notify: Notify = lambda line: None


@dataclass(frozen=True)
class Table:
    """A table for the page and for a CSV file.

    Attributes:
        title: What it shows.
        header: Column names, with units.
        rows: Plain values; None where nothing was measured. Fractions are formatted by the page, see ``kinds``.
        kinds: For each column how the page writes it: 'text', 'count', 'fraction' (as per cent), 'interval' (a pair of
            fractions, as per cent), 'number', 'points' (a difference of fractions), 'seconds'.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """What a section found.

    Attributes:
        findings: One to four sentences in plain words, most important first, with units and intervals, for a manager.
        figures: Plain values for evaluation.json; fractions, not per cent. Every proportion with its interval.
        tables: By file name without suffix, e.g. 'per_class'.
        plots: By file name without suffix.
        notes: What limits the figures: subsets, assumptions, regenerated data.
        skipped: Why nothing was measured, in one line that says what to do; '' where it was.
        captions: What a reader should know of a plot, by its name; one or two sentences.
    """

    findings: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    plots: Mapping[str, Figure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
