"""Shifts: accuracy when the picture is moved, turned, made larger or smaller, or cropped, by a little.

Shape suffixes: N images, M chosen images, G ways of one group, H height, W width.

References:
    Engstrom, Tran, Tsipras, Schmidt and Madry (2019), "Exploring the landscape of spatial robustness",
    arXiv 1712.02779: translation and rotation, and the worst of several.
    Azulay and Weiss (2019), "Why do deep convolutional networks generalize so poorly to small image transformations?",
    arXiv 1805.12177: the share of answers that change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.evaluation.arrays import images_of
from cifarlab.evaluation.intervals import proportion, share_text
from cifarlab.evaluation.probing import (
    NO_MODEL,
    PLAIN,
    bootstrap_means,
    measured_on,
    model_and_images,
    plain_answers,
    stratified,
)
from cifarlab.evaluation.resampling import sample_bilinear
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.phrases import per_cent
from cifarlab.plots.robustness import Level, shifts_figure

_NOTE = "What comes into view at the border is the image's own reflection; pixels are interpolated bilinearly."
_CAPTION = "Line: accuracy, mean over the ways of the same size; band: 95 % interval. Dashed: images right in all ways."
_AT_ONCE = 500  # images, so that positions and pixels stay small


@dataclass(frozen=True)
class Way:
    """One way to move a picture: a pixel is read at ``inverse @ (position - middle) + middle + offset``.

    Attributes:
        name: In words.
        inverse: 2 x 2, of (row, column).
        offset: Rows and columns, in pixels.
    """

    name: str
    inverse: tuple[tuple[float, float], tuple[float, float]]
    offset: tuple[float, float]


@dataclass(frozen=True)
class Group:
    """Ways of one kind and size.

    Attributes:
        kind: 'translation', 'rotation', 'scale' or 'crop'.
        amount: Pixels, degrees, factor, or share of the side that is kept.
        title: In words.
        ways: G ways.
    """

    kind: str
    amount: float
    title: str
    ways: tuple[Way, ...]


def groups_for(side: int) -> tuple[Group, ...]:
    """Return what is measured, for images of so many pixels a side."""
    groups = []
    for pixels in (1, 2, 3, 4):
        steps = {"right": (0, -pixels), "left": (0, pixels), "down": (-pixels, 0), "up": (pixels, 0)}
        ways = tuple(Way(f"{pixels} px {where}", _scaling(1), offset) for where, offset in steps.items())
        groups.append(Group("translation", pixels, f"moved by {pixels} px", ways))
    for degrees in (5, 10, 20, 30):
        ways = tuple(Way(f"{sign * degrees:+d} degrees", _turning(sign * degrees), (0, 0)) for sign in (1, -1))
        groups.append(Group("rotation", degrees, f"turned by {degrees} degrees", ways))
    for factor in (0.8, 0.9, 1.1, 1.2):
        way = Way(f"scale {factor}", _scaling(factor), (0, 0))
        groups.append(Group("scale", factor, f"scaled to {100 * factor:.0f} % of its size", (way,)))
    for kept in (7 / 8, 3 / 4):
        rest = side * (1 - kept) / 2  # the middle of a corner's crop lies so far from the image's
        corners = {"upper left": (-1, -1), "upper right": (-1, 1), "lower left": (1, -1), "lower right": (1, 1)}
        ways = tuple(
            Way(f"{kept:.3g} of the side, {where}", _scaling(1 / kept), (down * rest, right * rest))
            for where, (down, right) in corners.items()
        )
        groups.append(Group("crop", kept, f"cropped at a corner to {100 * kept:.3g} % of its sides", ways))
    return tuple(groups)


def _scaling(factor: float) -> tuple[tuple[float, float], tuple[float, float]]:
    return (1 / factor, 0), (0, 1 / factor)


def _turning(degrees: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return what turns a picture anticlockwise as it is seen, rows counted downwards."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (cosine, sine), (-sine, cosine)


def moved(images_NCHW: torch.Tensor, way: Way) -> torch.Tensor:
    """Return images moved in one way: uint8, N x C x H x W, as they came."""
    height, width = images_NCHW.shape[2:]
    middle = torch.tensor([(height - 1) / 2, (width - 1) / 2])
    rows_HW, columns_HW = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places_HW2 = torch.stack([rows_HW, columns_HW], 2) - middle
    sources_HW2 = places_HW2 @ torch.tensor(way.inverse).T.to(places_HW2) + middle + torch.tensor(way.offset)
    # what is meant to be a whole number stays one, so that a translation copies pixels
    sources_HW2 = (sources_HW2 * 1024).round() / 1024
    rows_1HW, columns_1HW = sources_HW2[None, :, :, 0], sources_HW2[None, :, :, 1]
    parts = [
        sample_bilinear(part.float(), rows_1HW, columns_1HW).round().clamp(0, 255).to(torch.uint8)
        for part in torch.split(images_NCHW, _AT_ONCE)
    ]
    return torch.cat(parts)


def shifts_section(subject: Subject) -> Section:
    """Measure accuracy when the picture is moved, turned, scaled or cropped, on a stratified subset of the split.

    Args:
        subject: With model and images; options.num_corrupted and seed count.

    Returns:
        For every way accuracy; for the ways of one size together their mean, the images right in all of them, and the
        answers that change.
    """
    at_hand = model_and_images(subject)
    if at_hand is None:
        return Section(skipped=NO_MODEL)
    classifier, images = at_hand
    chosen_M = stratified(images.labels_N, subject.options.num_corrupted, subject.options.seed, "shifts")
    plain_MCHW, labels_M = images.images_NCHW[chosen_M], images.labels_N[chosen_M].numpy()
    before_M = plain_answers(classifier, plain_MCHW)
    groups = groups_for(min(plain_MCHW.shape[2:]))
    answers = []
    for group in groups:
        answers.append(np.stack([plain_answers(classifier, moved(plain_MCHW, way)) for way in group.ways]))
        subject.notify(f"{group.title}: {per_cent((answers[-1] == labels_M).mean(), 1)} right")
    figures = shift_figures(groups, before_M, answers, labels_M, subject.options.seed)
    return Section(
        findings=_findings(figures, subject.split),
        figures=figures,
        tables=_tables(groups, figures),
        plots={"shifts": shifts_figure(_levels(figures), figures["clean"]["value"], "Accuracy of moved pictures")},
        notes=(_NOTE, PLAIN, *measured_on(subject.split, len(chosen_M), len(images))),
        captions={"shifts": _CAPTION},
    )


def shift_figures(
    groups: tuple[Group, ...],
    before_M: NDArray[np.int64],
    answers: list[NDArray[np.int64]],
    labels_M: NDArray[np.int64],
    seed: int,
) -> dict[str, Any]:
    """Return all figures of the section.

    Args:
        groups: What was done.
        before_M: Answers to the images as they are.
        answers: Of each group, the answers in each way: G x M.
        labels_M: True classes.
        seed: Of the bootstrap.

    Returns:
        images, clean, right_in_all_translations, and of each group kind, amount, title, accuracy (mean over its ways,
        bootstrap interval over images), right_in_all (Wilson), changed (answers that differ from those to the image as
        it is, bootstrap), ways.
    """
    num = len(labels_M)
    columns = [(answers_GM == labels_M).mean(0) for answers_GM in answers]
    columns += [(answers_GM != before_M).mean(0) for answers_GM in answers]
    means = bootstrap_means(np.stack(columns, axis=1), seed, "shifts/means")
    clean_M = before_M == labels_M
    steadfast_M = clean_M.copy()
    told = []
    for number, (group, answers_GM) in enumerate(zip(groups, answers, strict=True)):
        right_GM = answers_GM == labels_M
        if group.kind == "translation":
            steadfast_M &= right_GM.all(0)
        shares = [proportion(int(right_M.sum()), num) for right_M in right_GM]
        told.append(
            {
                "kind": group.kind,
                "amount": group.amount,
                "title": group.title,
                "accuracy": means[number],
                "right_in_all": proportion(int(right_GM.all(0).sum()), num),
                "changed": means[len(groups) + number],
                "ways": {way.name: one for way, one in zip(group.ways, shares, strict=True)},
            }
        )
    return {
        "images": num,
        "clean": proportion(int(clean_M.sum()), num),
        "right_in_all_translations": proportion(int(steadfast_M.sum()), num),
        "groups": told,
    }


def _findings(figures: dict[str, Any], split: str) -> tuple[str, ...]:
    groups = figures["groups"]
    worst = min(groups, key=lambda group: float(group["accuracy"]["value"]))
    largest = [group for group in groups if group["kind"] == "translation"][-1]
    ways = sum(len(group["ways"]) for group in groups if group["kind"] == "translation")
    return (
        f"Moved by {largest['amount']} pixels, {share_text(largest['accuracy'])} of the pictures are still recognised, "
        f"against {share_text(figures['clean'])} of the same {images_of(split, figures['images'])} as they are.",
        f"{share_text(figures['right_in_all_translations'])} are right as they are and in all {ways} translations.",
        f"Of the changes tried, a picture {worst['title']} fares worst: {share_text(worst['accuracy'])} are right.",
    )


def _levels(figures: dict[str, Any]) -> dict[str, list[Level]]:
    """Return what the plot shows, by kind."""
    kinds: dict[str, list[Level]] = {}
    for group in figures["groups"]:
        accuracy, in_all = group["accuracy"], group["right_in_all"]["value"]
        level = Level(group["amount"], accuracy["value"], accuracy["interval"], in_all)
        kinds.setdefault(group["kind"], []).append(level)
    return kinds


def _tables(groups: tuple[Group, ...], figures: dict[str, Any]) -> dict[str, Table]:
    rows, ways = [], []
    for group, told in zip(groups, figures["groups"], strict=True):
        accuracy, in_all, changed = told["accuracy"], told["right_in_all"], told["changed"]
        row = [group.title, len(group.ways), accuracy["value"], accuracy["interval"]]
        rows.append([*row, in_all["value"], in_all["interval"], changed["value"], changed["interval"]])
        for name, one in told["ways"].items():
            ways.append([group.kind, name, one["images"], one["count"], one["value"], one["interval"]])
    return {
        "shifts": Table(
            title="Accuracy of moved pictures",
            header=(
                "picture",
                "ways",
                "accuracy",
                "95 % interval",
                "right in all ways",
                "95 % interval of it",
                "answers changed",
                "95 % interval of them",
            ),
            rows=rows,
            kinds=("text", "count", "fraction", "interval", "fraction", "interval", "fraction", "interval"),
        ),
        "shift_ways": Table(
            title="Accuracy in every way",
            header=("kind", "way", "images", "right", "accuracy", "95 % interval"),
            rows=ways,
            kinds=("text", "text", "count", "count", "fraction", "interval"),
        ),
    }
