"""The options as plain tables: every cost line is a product of amounts, so that a spreadsheet can say the same.

A model of the world is a mapping from the key of an amount to its value: a number, or one number a draw (float64, S).
So one function serves the base case, a scenario and ten thousand draws. Shape suffixes: S draws, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifarlab.decision.given import CoveragePoint, OptionKey

Numbers = float | NDArray[np.float64]
Values = Mapping[str, Numbers]
HOURS_PER_YEAR = 8760.0
MONTHS_PER_YEAR = 12.0

LABELS: dict[OptionKey, str] = {
    "nothing": "Do nothing",
    "buy": "Buy",
    "adapt": "Buy and adapt",
    "build": "Build",
    "hybrid": "Hybrid",
}
VOLUME_AND_TIME = ("volume.images_per_month", "volume.growth_per_year", "finance.discount_rate")
"""Amounts that make unit costs into present costs, alike for every option."""
WORLD = (
    *VOLUME_AND_TIME,
    "people.salary_per_year",
    "people.overhead_factor",
    "people.days_per_year",
    "labels.price_per_label",
    "gpu.price_per_hour",
    "errors.cost_per_wrong_answer",
    "transfer.points_lost",
)
"""Amounts that are the same for every option, so that a scenario of one option leaves them alone."""


@dataclass(frozen=True)
class Setting:
    """What is settled beside the amounts.

    Attributes:
        horizon_years: Years that count.
        status_quo: What doing nothing means: images sorted by 'people', or by 'none'.
        own_images: Whether our accuracy was measured on images of the use, so that nothing is lost in transfer.
        vendor_own_images: Whether the vendor's was, from its predictions on them.
        mistake_weight: Mean cost of one of our mistakes, as a multiple of the usual one; taken for every option.
        options: Those that are compared, in order.
    """

    horizon_years: int = 3
    status_quo: Literal["people", "none"] = "people"
    own_images: bool = False
    mistake_weight: float = 1.0
    vendor_own_images: bool = False
    options: tuple[OptionKey, ...] = ("nothing", "buy", "adapt", "build")


@dataclass(frozen=True)
class Line:
    """One line of costs: the product of its factors and its scale.

    Attributes:
        label: In plain words.
        when: 'once' (today), 'yearly' (each year), 'image' (each image), 'end' (at the horizon).
        factors: Keys of amounts or of derived values.
        scale: A constant, such as hours in a year.
    """

    label: str
    when: Literal["once", "yearly", "image", "end"]
    factors: tuple[str, ...]
    scale: float = 1.0


_DAY = "people.day_cost"
_SERVICE = (
    Line("Connecting the vendor's service", "once", ("vendor.integration_days", _DAY)),
    Line("Licence", "yearly", ("vendor.licence_per_year",)),
    Line("Watching the vendor", "yearly", ("vendor.oversight_days_per_year", _DAY)),
    Line("Leaving the vendor", "end", ("vendor.exit_days", _DAY)),
)
_CALLS = (
    Line("Vendor's price by image", "image", ("vendor.price_per_1000_images",), 0.001),
    Line("Sending images", "image", ("vendor.transfer_per_1000_images",), 0.001),
)
_ADAPTING = (
    Line("First adaptation, work", "once", ("adapt.days", _DAY)),
    Line("First adaptation, labels", "once", ("adapt.labels", "labels.price_per_label")),
    Line("First adaptation, training", "once", ("adapt.training_hours_per_round", "adapt.price_per_training_hour")),
    Line("Hosting of the adapted model", "yearly", ("adapt.hosting_per_year",)),
    Line("Later adaptations, work", "yearly", ("adapt.rounds_per_year", "adapt.days_per_round", _DAY)),
    Line(
        "Later adaptations, labels",
        "yearly",
        ("adapt.rounds_per_year", "adapt.labels_per_round", "labels.price_per_label"),
    ),
    Line(
        "Later adaptations, training",
        "yearly",
        ("adapt.rounds_per_year", "adapt.training_hours_per_round", "adapt.price_per_training_hour"),
    ),
)
_OWN = (
    Line("Building, work", "once", ("build.days", _DAY)),
    Line("Connecting the own model", "once", ("build.integration_days", _DAY)),
    Line("First labels", "once", ("build.labels", "labels.price_per_label")),
    Line("GPU time until first use", "once", ("build.gpu_hours", "gpu.price_per_hour")),
    Line("Machines that serve", "yearly", ("serving.nodes", "serving.price_per_node_hour"), HOURS_PER_YEAR),
    Line("Operating", "yearly", ("operation.days_per_year", _DAY)),
    Line("Audits", "yearly", ("operation.audit_per_year",)),
    Line("Retraining, work", "yearly", ("retraining.rounds_per_year", "retraining.days_per_round", _DAY)),
    Line(
        "Retraining, labels",
        "yearly",
        ("retraining.rounds_per_year", "retraining.labels_per_round", "labels.price_per_label"),
    ),
    Line(
        "Retraining, GPU time",
        "yearly",
        ("retraining.rounds_per_year", "retraining.gpu_hours_per_round", "gpu.price_per_hour"),
    ),
)
_JOINT = (
    Line("Letting both models work together", "once", ("hybrid.extra_days", _DAY)),
    Line("Vendor's price by image", "image", ("vendor.price_per_1000_images", "hybrid.vendor_share"), 0.001),
    Line("Sending images", "image", ("vendor.transfer_per_1000_images", "hybrid.vendor_share"), 0.001),
)
_SERVING = (Line("Serving by image", "image", ("serving.price_per_1000_images",), 0.001),)
_BY_HAND = (Line("Sorting by hand", "image", ("status_quo.price_per_1000_images",), 0.001),)

_LINES: dict[OptionKey, tuple[Line, ...]] = {
    "nothing": _BY_HAND,
    "buy": (*_SERVICE, *_CALLS),
    "adapt": (*_SERVICE, *_CALLS, *_ADAPTING),
    "build": (*_OWN, *_SERVING),
    "hybrid": (*_OWN, *_SERVING, *_SERVICE, *_JOINT),
}


def cost_lines(option: OptionKey, setting: Setting) -> tuple[Line, ...]:
    """Return what an option costs, errors apart; doing nothing costs nothing where nobody sorts the images."""
    return () if option == "nothing" and setting.status_quo == "none" else _LINES[option]


def describe(option: OptionKey, vendor: str, setting: Setting) -> str:
    """Return what would be done, in one sentence."""
    if option == "nothing":
        by_hand = "People go on sorting each image by hand."
        return by_hand if setting.status_quo == "people" else "The images stay unsorted."
    return {
        "buy": f"{vendor}'s service answers every image, as it is sold.",
        "adapt": f"{vendor}'s service, trained further on our images, answers every image.",
        "build": "Our own model answers every image, on our machines.",
        "hybrid": f"Our own model answers where it is sure, {vendor}'s service answers the rest.",
    }[option]


def derive(values: Values, setting: Setting) -> dict[str, Numbers]:
    """Return all amounts and what follows from them: a day's cost, accuracies on images of the use, shares.

    Every model loses transfer.points_lost of its CIFAR-10 accuracy; people do not, their accuracy is given for the use.
    """
    derived: dict[str, Numbers] = dict(values)
    derived[_DAY] = values["people.salary_per_year"] * values["people.overhead_factor"] / values["people.days_per_year"]
    lost = values["transfer.points_lost"]
    own_lost = 0.0 if setting.own_images else lost
    bought = _share(values["vendor.accuracy"] - (0.0 if setting.vendor_own_images else lost))
    derived["accuracy.nothing"] = values["status_quo.accuracy"] if setting.status_quo == "people" else 0.0
    derived["accuracy.buy"] = bought
    derived["accuracy.adapt"] = 1 - (1 - bought) * (1 - values["adapt.errors_removed"])
    derived["accuracy.build"] = _share(values["ours.accuracy"] - own_lost)
    if "hybrid" in setting.options:
        kept = _share(values["hybrid.kept_accuracy"] - own_lost)
        share = 1 - values["hybrid.coverage"]
        derived["hybrid.vendor_share"] = share
        derived["accuracy.hybrid"] = values["hybrid.coverage"] * kept + share * values["hybrid.vendor_on_hard"] * bought
    return derived


def _share(value: Numbers) -> Numbers:
    kept: Numbers = np.minimum(1.0, np.maximum(0.0, value))
    return kept


def error_cost_per_image(option: OptionKey, derived: Values, setting: Setting) -> Numbers:
    """Return what wrong answers cost, spread over all images; an image nobody sorts costs what not knowing it costs."""
    if option == "nothing" and setting.status_quo == "none":
        return derived["status_quo.cost_per_1000_unanswered"] * 0.001
    wrong = 1 - derived[f"accuracy.{option}"]
    return wrong * derived["errors.cost_per_wrong_answer"] * setting.mistake_weight


def mistake_weight(confusion_KK: ArrayLike, weights_KK: ArrayLike) -> float:
    """Return the mean weight of the mistakes that were counted; 1 where there was none.

    Args:
        confusion_KK: Counts, rows the true class.
        weights_KK: Cost of each kind of mistake as a multiple of the usual one, same order.

    Raises:
        ValueError: If the two are not of one size.
    """
    counts, weights = np.asarray(confusion_KK, dtype=np.float64), np.asarray(weights_KK, dtype=np.float64)
    if counts.shape != weights.shape or counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"weights of mistakes are {weights.shape}, counts of mistakes {counts.shape}")
    mistakes = counts - np.diag(np.diag(counts))
    total = float(mistakes.sum())
    return float((mistakes * weights).sum()) / total if total else 1.0


def coverage_amounts(point: CoveragePoint, interval: tuple[float, float]) -> dict[str, tuple[float, float, float]]:
    """Return what a threshold fixes, each as low, base, high.

    Args:
        point: The point of the coverage curve.
        interval: Of its coverage.
    """
    return {
        "hybrid.coverage": (interval[0], point.coverage, interval[1]),
        "hybrid.kept_accuracy": (point.interval[0], point.accuracy, point.interval[1]),
    }


def used_keys(option: OptionKey, setting: Setting) -> set[str]:
    """Return the keys of the amounts that an option's cost depends on."""
    factors = {factor for line in cost_lines(option, setting) for factor in line.factors}
    keys = factors | _accuracy_keys(option, setting)
    if _DAY in factors:
        keys |= {"people.salary_per_year", "people.overhead_factor", "people.days_per_year"}
    if "hybrid.vendor_share" in factors:
        keys |= {"hybrid.coverage"}
    keys |= set(VOLUME_AND_TIME)
    return keys - {_DAY, "hybrid.vendor_share"}


def _accuracy_keys(option: OptionKey, setting: Setting) -> set[str]:
    if option == "nothing" and setting.status_quo == "none":
        return {"status_quo.cost_per_1000_unanswered"}
    lost = "transfer.points_lost"
    bought = {"vendor.accuracy"} if setting.vendor_own_images else {"vendor.accuracy", lost}
    own_lost: Sequence[str] = () if setting.own_images else (lost,)
    found: dict[OptionKey, set[str]] = {
        "nothing": {"status_quo.accuracy"},
        "buy": bought,
        "adapt": {*bought, "adapt.errors_removed"},
        "build": {"ours.accuracy", *own_lost},
        "hybrid": {*bought, *own_lost, "hybrid.coverage", "hybrid.kept_accuracy", "hybrid.vendor_on_hard"},
    }
    return {"errors.cost_per_wrong_answer", *found[option]}
