"""The evidence of an evaluation, section by section: a short line and a picture each where it was measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cifarlab.evaluation.sections import SECTIONS
from cifarlab.pages import file_uri
from cifarlab.reporting.measured import evaluate_command
from cifarlab.reporting.sources import Judged

_WHY = {
    "scores": "An average hides which classes are weak.",
    "calibration": "A system can act on a confidence only if it means what it says.",
    "ranking": "It tells whether a class can be told from all others at any threshold.",
    "selective": "Hard images can be left to a person or to another model.",
    "quality": "Copies between training and test images flatter the figure; wrong labels blur it.",
    "unknown": "On the road most of what a camera sees is none of the classes.",
    "corruptions": "Cameras see rain, fog, darkness and blur; the benchmark does not.",
    "shifts": "An object is seldom in the middle of the picture.",
    "shifted_sets": "Every published model loses accuracy on images gathered anew.",
    "attacks": "Someone may change an image on purpose, invisibly to people.",
    "why": "It shows whether it looks at the object or at the background.",
}
_MOST_FINDINGS = 3
_MOST_PICTURES = 1
_SHOWN_ABOVE = ("confusion", "per_class", "reliability", "mistakes")  # these stand in the evidence already
_MOST_MEANINGS = 4  # of a number that stands in a sentence: many figures of a section may round to it
_NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Block:
    """What is known of one question.

    Attributes:
        name: Key of the section.
        title: The question.
        why: Why it matters, in one sentence.
        split: Images it was measured on: 'test' or 'val'; empty where it was not measured.
        findings: Most important first.
        notes: What limits them.
        pictures: Data URI and caption.
        missing: Why there is nothing, where it was tried and skipped.
        command: What measures it.
    """

    name: str
    title: str
    why: str
    split: str
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]
    missing: str
    command: str


def blocks(judged: Judged) -> list[Block]:
    """Return one block for every section there is, measured or not, in the evaluation's order."""
    return [_block(judged, name) for name in SECTIONS]


def _block(judged: Judged, name: str) -> Block:
    command = evaluate_command(judged.run.name, section=name)
    found = {split: judged.sections(split).get(name) or {} for split in ("test", "val")}
    split = next((split for split, section in found.items() if section and not section.get("skipped")), "")
    if not split:
        missing = next((section["skipped"] for section in found.values() if section.get("skipped")), "")
        return Block(name, SECTIONS[name].title, _WHY.get(name, ""), "", (), (), (), missing, command)
    section = found[split]
    pictures = []
    plots = {name: text for name, text in (section.get("plots") or {}).items() if name not in _SHOWN_ABOVE}
    for plot, caption in list(plots.items())[:_MOST_PICTURES]:
        uri = file_uri(judged.run.path / "plots" / f"{plot}_{split}")
        if uri:
            pictures.append((uri, str(caption or SECTIONS[name].title)))
    return Block(
        name,
        SECTIONS[name].title,
        _WHY.get(name, ""),
        split,
        tuple(section.get("findings") or ())[:_MOST_FINDINGS],
        tuple(section.get("notes") or ()),
        tuple(pictures),
        "",
        command,
    )


def section_figures(blocks: Iterable[Block], judged: Judged) -> Iterator[tuple[Block, str, float | int | str]]:
    """Yield what the page says of each section: its sentences, and the figures of evaluation.json that stand in them.

    The rest of a section's figures are in evaluation.json and on its own page; with them the ledger would be ten times
    as long as what it vouches for.

    Yields:
        The block, a dotted name below its section, and the sentence or the figure.
    """
    for block in blocks:
        sentences = (*block.findings, *block.notes)
        for number, sentence in enumerate(sentences, 1):
            yield block, f"sentence.{number}", sentence
        left = dict.fromkeys(_NUMBER.findall(" ".join(sentences)), _MOST_MEANINGS)
        section = judged.sections(block.split).get(block.name) or {}
        for key, value in _leaves(section.get("figures") or {}):
            token = next((token for token in left if left[token] and _is_written(value, token)), None)
            if token is not None:
                left[token] -= 1
                yield block, key, value


def _is_written(value: float, token: str) -> bool:
    """Return whether a number as written is this value, or this share in per cent."""
    text = token.replace(",", "")
    decimals = len(text.partition(".")[2])
    return any(f"{abs(size):.{decimals}f}" == text for size in (value, 100 * value))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | int]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield from _leaves({str(number): item for number, item in enumerate(value)}, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield prefix + str(key), value
