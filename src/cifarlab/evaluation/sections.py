"""The table of sections, and how one is run; a section is imported when it is wanted."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from cifarlab.errors import CifarlabError, DataError, StoppedError, UsageError
from cifarlab.evaluation.options import Options

if TYPE_CHECKING:
    from cifarlab.evaluation.section import Section, Subject


@dataclass(frozen=True)
class Entry:
    """One section.

    Attributes:
        title: What it tells, as a heading.
        module: Where it is, below cifarlab.evaluation.
        quick: Whether it needs no model and at most a second or two; such sections are part of every evaluation.
        cost: About how long it takes, in words.
        options: The settings it heeds.
    """

    title: str
    module: str
    quick: bool
    cost: str
    options: tuple[str, ...] = ()

    @property
    def function(self) -> str:
        """Name of the function in its module."""
        return f"{self.module}_section"


SECTIONS: dict[str, Entry] = {
    "scores": Entry("How often is it right?", "scores", True, "a second", ("costs", "seed")),
    "calibration": Entry("Can its confidence be believed?", "calibration", True, "a second", ("seed",)),
    "ranking": Entry("How well does it tell each class from the rest?", "ranking", True, "a second"),
    "selective": Entry(
        "What if it may leave hard images to others?", "selective", True, "a second", ("wanted_accuracy",)
    ),
    "quality": Entry(
        "Are the images and labels themselves sound?", "quality", False, "a quarter of a minute", ("human_labels",)
    ),
    "unknown": Entry(
        "What does it say to images of none of its classes?", "unknown", False, "half a minute", ("unknown", "seed")
    ),
    "corruptions": Entry(
        "Does it withstand noise, blur, weather and compression?",
        "corruptions",
        False,
        "three minutes",
        ("cifar10_c", "num_corrupted", "seed"),
    ),
    "shifts": Entry(
        "Does it withstand small movements of the picture?", "shifts", False, "a minute", ("num_corrupted", "seed")
    ),
    "shifted_sets": Entry("How does it do on newly gathered images?", "shifted_sets", False, "half a minute"),
    "attacks": Entry(
        "Does it withstand deliberate attack?", "attacks", False, "half a minute", ("num_attacked", "seed")
    ),
    "why": Entry("Why does it answer as it does?", "why", False, "half a minute", ("seed",)),
}
"""In the order in which they are run and shown."""

QUICK = tuple(name for name, entry in SECTIONS.items() if entry.quick)
"""The sections of an evaluation that names none."""
_USUAL = Options()


@dataclass(frozen=True)
class Outcome:
    """What running a section led to.

    Attributes:
        section: What it found; where it could not be run, only why.
        seconds: How long it took.
    """

    section: Section
    seconds: float


def choose(names: Sequence[str], options: Options = _USUAL) -> tuple[str, ...]:
    """Return the sections that are meant, in the order of the table.

    Args:
        names: Sections; 'all' and 'quick' stand for several. None at all means none.
        options: Settings given for them.

    Raises:
        UsageError: For an unknown name, and for a setting that none of them heeds: it would be lost without a word.
    """
    wanted: set[str] = set()
    for name in names:
        if name not in (*SECTIONS, "all", "quick"):
            raise UsageError(f"no section is called {name!r}; there are {', '.join(SECTIONS)}, and quick and all")
        wanted |= set({"all": tuple(SECTIONS), "quick": QUICK}.get(name, (name,)))
    for field in fields(options):
        heeding = [name for name, entry in SECTIONS.items() if field.name in entry.options]
        if getattr(options, field.name) != field.default and wanted.isdisjoint(heeding):
            flag = f"--{field.name.replace('_', '-')}"
            raise UsageError(f"{flag} is for the section {' or '.join(heeding)}; ask for it: --sections {heeding[0]}")
    return tuple(name for name in SECTIONS if name in wanted)


def require_files(options: Options, class_names: Sequence[str], split: str, num_images: int) -> None:
    """Read the files that settings name, so that a wrong one is told before anything is computed, or test is read.

    Args:
        options: The settings.
        class_names: K names in label order.
        split: Which images are judged.
        num_images: How many they are.

    Raises:
        DataError: If a file or folder is missing, cannot be read, holds nothing of use, or is of other classes or
            images.
        IntegrityError: If an official file is damaged.
    """
    from cifarlab.data.cifar10_c import open_cifar10_c
    from cifarlab.evaluation.costs import read_costs
    from cifarlab.evaluation.human_labels import number_misfit, read_human_labels
    from cifarlab.evaluation.unknown_images import image_files

    if options.costs:
        read_costs(Path(options.costs), class_names)
    if path := options.human_labels:
        people = read_human_labels(Path(path), tuple(class_names))
        if misfit := number_misfit(path, people, split, num_images):
            raise DataError(misfit)
    for flag, folder in (("--cifar10-c", options.cifar10_c), ("--unknown", options.unknown)):
        if folder and not Path(folder).expanduser().is_dir():
            raise DataError(f"there is no folder {folder}, which {flag} names")
    if options.cifar10_c and split == "test":  # whose labels they hold
        open_cifar10_c(options.cifar10_c)
    if options.unknown:
        image_files(Path(options.unknown).expanduser())


def run_section(name: str, subject: Subject) -> Outcome:
    """Run one section; what keeps it from running, and the user could mend, becomes the line why it was skipped.

    Args:
        name: A key of SECTIONS.
        subject: The model on its split.

    Raises:
        StoppedError: If a signal ended it.
    """
    from cifarlab.evaluation.section import Section

    entry = SECTIONS[name]
    start = time.perf_counter()
    try:
        function = getattr(importlib.import_module(f"cifarlab.evaluation.{entry.module}"), entry.function)
        found: Section = function(subject)
    except StoppedError:
        raise
    except CifarlabError as error:
        return Outcome(Section(skipped=str(error)), time.perf_counter() - start)
    return Outcome(found, time.perf_counter() - start)
