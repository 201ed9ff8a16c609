"""What a section of an evaluation gets and gives.

Shape suffixes: N images, K classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from cifarlab.data.imageset import ImageSet
from cifarlab.inference import Classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Scored:
    """Answers to images whose true classes are known.

    Attributes:
        logits_NK: float32; logits, or logarithms of probabilities where only those are known. They are the run's answer:
            averaged over test-time views where it has any.
        labels_N: int64.
        images: The images themselves, in the same order; None where only answers are at hand.
    """

    logits_NK: torch.Tensor
    labels_N: torch.Tensor
    images: ImageSet | None = None


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
class Options:
    """What a user may set for the sections; paths are files or folders of theirs.

    Attributes:
        costs: CSV of what each mistake costs, K x K, rows the true class; '' for none.
        wanted_accuracy: Of the answers that are kept, for the threshold of selective prediction.
        human_labels: Counts of people's answers, N x K, as .npy or .csv (CIFAR-10H); '' for none.
        cifar10_c: Folder of the official CIFAR-10-C files; '' to use the cache, or to regenerate.
        unknown: Folder of images of none of the classes; '' for none.
        num_corrupted: Images of the split under each corruption and severity; 0 for all.
        num_attacked: Images of the split under attack; 0 for all.
        seed: Of everything that is drawn.
    """

    costs: str = ""
    wanted_accuracy: float = 0.99
    human_labels: str = ""
    cifar10_c: str = ""
    unknown: str = ""
    num_corrupted: int = 2000
    num_attacked: int = 500
    seed: int = 0


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
    """

    findings: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    plots: Mapping[str, Figure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: str = ""
