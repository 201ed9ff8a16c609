"""Attacks: accuracy when images are changed on purpose, by so little that a person hardly sees it.

Shape suffixes: N images, M chosen images, C channels, H height, W width.

References:
    See cifarlab.evaluation.attacking. That a failed attack proves nothing: Athalye, Carlini and Wagner (2018),
    "Obfuscated gradients give a false sense of security", ICML, arXiv 1802.00420.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.evaluation.arrays import images_of
from cifarlab.evaluation.attacking import Attacked, apgd, pgd
from cifarlab.evaluation.intervals import proportion, share_text
from cifarlab.evaluation.probing import NO_MODEL, PLAIN, measured_on, model_and_images, plain_answers, stratified
from cifarlab.evaluation.section import Section, Subject, Table
from cifarlab.plots.robustness import attacks_figure
from cifarlab.seeding import derive_generator

if TYPE_CHECKING:
    from torch import nn

RADII = (2, 8)
"""How much a pixel's channel may change, in levels of 255."""
PGD_STEPS, APGD_STEPS = 20, 40
_PGD_STEP = 0.25  # of the radius

_BATCH = 100  # images under attack at once; gradients need their memory
_EXPECTED = (
    "Accuracy under attack is near zero for any model that was not trained against attacks, unless measured otherwise; "
    "do not rely on it where somebody gains by misleading it."
)
_PROVES_NOTHING = (
    "These figures are upper ends: an attack that fails proves nothing, for a stronger or better informed one may "
    "succeed. A model that seems to resist should be tested with the whole of AutoAttack and with attacks made for it."
)
_RULES = (
    "The attacker knows the model (white box) and may change every channel of every pixel by the radius. Only images "
    "that were right before are attacked; the others count as wrong. Pixels were not rounded to whole levels."
)
_STEPS = (
    f"PGD: {PGD_STEPS} steps of a quarter of the radius from one random start. APGD: {APGD_STEPS} steps from one "
    "random start, cross-entropy only. An image at which the model errs is not attacked further."
)
_CAPTION = "Accuracy with 95 % interval: images as they are, and when every colour value may change by so many levels."


@dataclass(frozen=True)
class Assault:
    """One attack at one radius.

    Attributes:
        attack: 'PGD' or 'APGD'.
        levels: The radius, in levels of 255.
        steps: At most.
        fooled_N: Of the images that were right before, whether the model erred.
        used_N: Largest change of a pixel that it erred at, in levels; NaN where it did not.
    """

    attack: str
    levels: int
    steps: int
    fooled_N: NDArray[np.bool_]
    used_N: NDArray[np.float64]


def attacks_section(subject: Subject) -> Section:
    """Measure accuracy under PGD and APGD at two radii, on a stratified subset of the split.

    Args:
        subject: With model and images; options.num_attacked and seed count.

    Returns:
        Accuracy before and under each attack, and under both.
    """
    at_hand = model_and_images(subject)
    if at_hand is None:
        return Section(skipped=NO_MODEL)
    classifier, images = at_hand
    chosen_M = stratified(images.labels_N, subject.options.num_attacked, subject.options.seed, "attacks")
    images_MCHW, labels_M = images.images_NCHW[chosen_M], images.labels_N[chosen_M]
    right_M = torch.from_numpy(plain_answers(classifier, images_MCHW)) == labels_M
    pixels_NCHW = (images_MCHW[right_M].float() / 255).to(classifier.device)
    labels_N, positions_N = labels_M[right_M].to(classifier.device), chosen_M[right_M].tolist()
    assaults = []
    for levels in RADII:
        for attack, steps in (("PGD", PGD_STEPS), ("APGD", APGD_STEPS)):
            offsets_NCHW = random_offsets(subject.options.seed, attack, levels, positions_N, pixels_NCHW)
            one = assault(classifier.model, pixels_NCHW, labels_N, attack, levels, steps, offsets_NCHW)
            assaults.append(one)
            withstood = int((~one.fooled_N).sum())
            subject.notify(f"{attack} within {levels} of 255 levels: {withstood:,} of {len(labels_N):,} still right")
    figures = attack_figures(len(chosen_M), int(right_M.sum()), assaults)
    return Section(
        findings=_findings(figures, subject.split),
        figures=figures,
        tables={"attacks": _table(figures)},
        plots={"attacks": attacks_figure(_bars(figures), "Accuracy under attack")},
        notes=(_RULES, _STEPS, _PROVES_NOTHING, PLAIN, *measured_on(subject.split, len(chosen_M), len(images))),
        captions={"attacks": _CAPTION},
    )


def random_offsets(
    seed: int, attack: str, levels: int, positions_N: Sequence[int], pixels_NCHW: torch.Tensor
) -> torch.Tensor:
    """Return where attacks start, -1 to 1, like the pixels; that of an image depends on its position alone."""
    generators = (derive_generator(seed, f"attacks/{attack}", levels, position) for position in positions_N)
    offsets_NCHW = torch.empty_like(pixels_NCHW, device="cpu")
    for offsets_CHW, generator in zip(offsets_NCHW, generators, strict=True):
        offsets_CHW.uniform_(-1, 1, generator=generator)
    return offsets_NCHW.to(pixels_NCHW.device)


def assault(
    model: nn.Module,
    pixels_NCHW: torch.Tensor,
    labels_N: torch.Tensor,
    attack: str,
    levels: int,
    steps: int,
    offsets_NCHW: torch.Tensor,
) -> Assault:
    """Attack images in batches.

    Args:
        model: In eval mode.
        pixels_NCHW: float32 in [0, 1], on the model's device.
        labels_N: True classes, which the model gives.
        attack: 'PGD' or 'APGD'.
        levels: Radius, in levels of 255.
        steps: At most.
        offsets_NCHW: Where the attacks start, in units of the radius.
    """
    fooled, used = [np.empty(0, bool)], [np.empty(0)]
    radius = levels / 255
    for start in range(0, len(pixels_NCHW), _BATCH):
        batch = slice(start, start + _BATCH)
        originals, labels = pixels_NCHW[batch], labels_N[batch]
        offsets = offsets_NCHW[batch]
        found: Attacked
        if attack == "PGD":
            length = radius * _PGD_STEP
            found = pgd(model, originals, labels, radius=radius, steps=steps, step_size=length, offsets_NCHW=offsets)
        else:
            found = apgd(model, originals, labels, radius=radius, steps=steps, offsets_NCHW=offsets)
        distance = (found.pixels_NCHW - originals).abs().amax((1, 2, 3)).double() * 255
        fooled.append(found.fooled_N.cpu().numpy())
        used.append(torch.where(found.fooled_N, distance, torch.nan).cpu().numpy())
    return Assault(attack, levels, steps, np.concatenate(fooled), np.concatenate(used))


def attack_figures(num_images: int, num_right: int, assaults: list[Assault]) -> dict[str, Any]:
    """Return all figures of the section.

    Args:
        num_images: M, all chosen images; those that were wrong before count as wrong.
        num_right: N, those that were right before.
        assaults: On these.

    Returns:
        images, clean, attacks (a list), under_all (by radius: right under every attack of it).
    """
    told = []
    under_all: dict[str, NDArray[np.bool_]] = {}
    for one in assaults:
        withstood_N = ~one.fooled_N
        key = str(one.levels)
        under_all[key] = withstood_N & under_all.get(key, np.ones(num_right, bool))
        used = one.used_N[one.fooled_N]
        told.append(
            {
                "attack": one.attack,
                "levels": one.levels,
                "steps": one.steps,
                "accuracy": proportion(int(withstood_N.sum()), num_images),
                "turned_over": proportion(int(one.fooled_N.sum()), num_right),
                "median_levels_used": float(np.median(used)) if len(used) else None,
            }
        )
    return {
        "images": num_images,
        "clean": proportion(num_right, num_images),
        "attacks": told,
        "under_all": {key: proportion(int(kept_N.sum()), num_images) for key, kept_N in under_all.items()},
    }


def _findings(figures: dict[str, Any], split: str) -> tuple[str, ...]:
    small, large = (figures["under_all"][str(levels)] for levels in RADII)
    return (
        f"When each colour value of a pixel may be changed on purpose by {RADII[1]} of 255 levels, "
        f"{share_text(large)} of the answers stay right under both attacks, against {share_text(figures['clean'])} on "
        f"the same {images_of(split, figures['images'])} as they are; by {RADII[0]} levels, {share_text(small)}.",
        _EXPECTED,
    )


def _bars(figures: dict[str, Any]) -> list[tuple[str, float, tuple[float, float]]]:
    """Return name, accuracy and interval of what the plot shows."""
    named = [("as they are", figures["clean"])]
    named += [(f"{one['attack']}, {one['levels']} levels", one["accuracy"]) for one in figures["attacks"]]
    return [(name, one["value"], tuple(one["interval"])) for name, one in named]


def _table(figures: dict[str, Any]) -> Table:
    clean = figures["clean"]
    rows = [["none", 0, None, clean["images"], clean["count"], clean["value"], clean["interval"], None, None]]
    for one in figures["attacks"]:
        accuracy, used = one["accuracy"], one["median_levels_used"]
        row = [one["attack"], one["levels"], one["steps"], accuracy["images"], accuracy["count"], accuracy["value"]]
        rows.append([*row, accuracy["interval"], one["turned_over"]["value"], used])
    return Table(
        title="Accuracy under attack",
        header=(
            "attack",
            "radius, levels of 255",
            "steps",
            "images",
            "right",
            "accuracy",
            "95 % interval",
            "of right answers turned over",
            "median levels used",
        ),
        rows=rows,
        kinds=("text", "count", "count", "count", "count", "fraction", "interval", "fraction", "number"),
    )
