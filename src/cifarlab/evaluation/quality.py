"""Quality: whether images and labels are sound: copies of training images, wrong labels, what people say.

Each question is a part of its own; one that cannot be answered leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from cifarlab.errors import CifarlabError, StoppedError
from cifarlab.evaluation.duplicates import duplicates_section
from cifarlab.evaluation.human_labels import human_labels_section
from cifarlab.evaluation.label_errors import label_errors_section
from cifarlab.evaluation.section import Section, Subject

_PARTS: dict[str, tuple[str, Callable[[Subject], Section]]] = {
    "duplicates": ("Near duplicates", duplicates_section),
    "label_errors": ("Label errors", label_errors_section),
    "human_labels": ("Human labels", human_labels_section),
}


def quality_section(subject: Subject) -> Section:
    """Ask whether images and labels are sound, in three parts.

    Args:
        subject: What is judged, with its images, the training images and people's answers as far as they are at hand.

    Returns:
        Figures by part, a part that was not measured with ``skipped``; why it was not stands in the notes too.

    Raises:
        CifarlabError: If no part could be measured, and one because of something the user can mend.
    """
    parts: dict[str, Section] = {}
    problems: list[CifarlabError] = []
    for name, (_, function) in _PARTS.items():
        try:
            parts[name] = function(subject)
        except StoppedError:
            raise
        except CifarlabError as error:
            subject.notify(f"not measured, {_PARTS[name][0].lower()}: {error}")
            problems.append(error)
            parts[name] = Section(skipped=str(error))
    measured = [part for part in parts.values() if not part.skipped]
    skipped = [f"{_PARTS[name][0]}: {part.skipped}" for name, part in parts.items() if part.skipped]
    if not measured:
        if problems:
            raise problems[0]
        return Section(skipped="; ".join(skipped))
    return Section(
        findings=tuple(sentence for part in measured for sentence in part.findings),
        figures={
            name: {"skipped": part.skipped} if part.skipped else dict(part.figures) for name, part in parts.items()
        },
        tables={name: table for part in measured for name, table in part.tables.items()},
        plots={name: plot for part in measured for name, plot in part.plots.items()},
        notes=(*(note for part in measured for note in part.notes), *(f"Not measured. {line}." for line in skipped)),
        captions={name: caption for part in measured for name, caption in part.captions.items()},
    )
