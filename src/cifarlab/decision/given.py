"""What goes in: amounts with their range, and what was measured. Plain dataclasses.

Accuracies, shares and rates are fractions. Shape suffix: K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cifarlab.differences import PairedDifference

Origin = Literal["measured", "quoted", "assumed", "computed"]
OptionKey = Literal["nothing", "buy", "adapt", "build", "hybrid"]
CLAIMED_DATASET = "CIFAR-10"  # what the vendor's claim and the published figures are about


@dataclass(frozen=True)
class Amount:
    """One figure that goes in, with its range.

    Attributes:
        key: Dotted name, such as 'vendor.price_per_1000_images'.
        label: In plain words.
        low: Smallest plausible value.
        base: Most likely value.
        high: Largest plausible value; low <= base <= high.
        unit: Such as 'USD per 1,000 images', 'days', 'share'.
        origin: 'measured', 'quoted' or 'assumed'.
        source: Where it comes from, in words.
        date: ISO date of the source; '' where none was given.
        users: True if it is the user's, False if it is a default of this package.
    """

    key: str
    label: str
    low: float
    base: float
    high: float
    unit: str
    origin: Origin
    source: str
    date: str
    users: bool = False


@dataclass(frozen=True)
class CoveragePoint:
    """One point of a measured coverage curve: which images our model answers itself, and how well.

    Attributes:
        threshold: Least confidence at which our model answers.
        coverage: Share of images it answers.
        accuracy: Of those.
        num_images: Images it answered when this was measured.
        interval: 95 % interval of accuracy.
    """

    threshold: float
    coverage: float
    accuracy: float
    num_images: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class Written:
    """Where a measurement stands.

    Attributes:
        source: Where the figure is written, such as 'runs/x/evaluation.json'.
        date: ISO date of the measurement; '' where none is known.
        command: What measures it again.
    """

    source: str
    date: str
    command: str


@dataclass(frozen=True)
class Evidence:
    """What was measured of our model.

    Attributes:
        correct: Images classified correctly.
        total: Images asked.
        dataset: Name of the images, such as 'CIFAR-10'.
        split: Which part of them.
        own_images: True if they are images of the use at hand, so that nothing is lost in transfer.
        seed_accuracies: Accuracies of several trainings of the recipe, where there are any.
        diagnosis: What the run's curves say: 'overfits', 'underfits', 'neither', 'unknown'.
        coverage: Accuracy against coverage, by rising threshold, measured on validation images; empty where it was not.
        confusion_KK: Counts, rows the true class; None where it was not kept.
        class_names: Of its rows; empty where unknown, and then weights of mistakes are taken to be in its order.
        coverage_written: Where the coverage curve stands; None where it is where ours is.
        vendor_written: The same of the vendor's predictions.
        seeds_written: The same of each of ``seed_accuracies``; empty where they are where ours is.
        latency_p99_ms: 99th percentile of the time of one answer on the hardware meant; None where not measured.
        vendor_correct: Images of the same ``total`` that the vendor has right, where its predictions are given.
        paired: Ours (a) against the vendor's (b) on the same images, where its predictions are given.
        source: Where the figures are written, such as 'runs/x/evaluation.json'.
        date: ISO date of the measurement.
        command: What measures it again.
    """

    correct: int
    total: int
    dataset: str = "CIFAR-10"
    split: str = "test"
    own_images: bool = False
    seed_accuracies: tuple[float, ...] = ()
    diagnosis: str = "unknown"
    coverage: tuple[CoveragePoint, ...] = ()
    confusion_KK: NDArray[np.int64] | None = None
    latency_p99_ms: float | None = None
    vendor_correct: int | None = None
    paired: PairedDifference | None = None
    source: str = "evaluation.json"
    date: str = ""
    command: str = ""
    class_names: tuple[str, ...] = ()
    coverage_written: Written | None = None
    vendor_written: Written | None = None
    seeds_written: tuple[Written, ...] = ()

    def written(self, key: str) -> Written:
        """Return where a measured amount stands, by its key such as 'hybrid.coverage'."""
        elsewhere = {"hybrid": self.coverage_written, "vendor": self.vendor_written}.get(key.partition(".")[0])
        return elsewhere or Written(self.source, self.date, self.command)

    @property
    def meets_claim(self) -> bool:
        """Whether our accuracy and the vendor's claim are about the same images, so that one can be set against it."""
        return self.dataset == CLAIMED_DATASET and not self.own_images
