"""Does a run overfit or underfit? Simple rules on its learning curves, each with its reason.

What the curves are, and what that means for the rules:

* Train figures are measured while an epoch runs: on augmented images, with dropout, with a model that is still
  changing. They understate how well the final model knows its training images. Train accuracy above val accuracy is
  therefore sound evidence of a gap; train accuracy below it says nothing against one.
* Train loss may hold label smoothing or mixed images, val loss does not. So their levels are never compared, only each
  with its own past.
* A learning rate annealed to zero lifts val accuracy in the last epochs and then stops all movement. So a late plateau
  is no proof that learning had come to its end, and a late rise is partly the schedule's doing.
* Val figures carry sampling error: of accuracy sqrt(p (1 - p) / n); of a mean cross-entropy about 1 / sqrt(n) of
  itself, its spread over images being about as large as its mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Label = Literal["overfits", "underfits", "neither", "unknown"]

FEWEST_EPOCHS = 3
"""Below this many judged epochs there is no curve to speak of."""
LARGE_GAP = 0.05
"""Train above val accuracy by more than this (and three standard errors) is called overfitting."""
LOW_ACCURACY = 0.80
"""Below this even on the training images, a model has not learned them: people label such pictures nearly perfectly."""
_ANNEALED = 0.2  # last rate as a share of the highest; a decay to zero is below it even where an epoch's start counts


@dataclass(frozen=True)
class Diagnosis:
    """What the learning curves of a run say.

    Attributes:
        verdict: The finding in one word; "unknown" where the curves cannot tell.
        sentence: The finding, what it is concluded from, and what to try.
        evidence: The figures it rests on; None where a figure could not be had. Accuracies are fractions.
    """

    verdict: Label
    sentence: str
    evidence: dict[str, float | None] = field(default_factory=dict)


def diagnose(records: Sequence[dict[str, Any]], num_val: int) -> Diagnosis:
    """Say whether a run overfits, underfits or neither.

    Rules, the first that applies:

    1. No val split, or fewer than three epochs judged on it: unknown.
    2. Overfits, if val loss ended clearly above its lowest value (mean of the last two epochs, by a share of
       2 / sqrt(num_val) and at least 2 %), which lies two epochs back or more, while train loss went on falling.
    3. Overfits, if train accuracy ended above val accuracy by over five points and three standard errors.
    4. Underfits, if val accuracy was still rising (last fifth of the run against the fifth before, by two standard
       errors and half a point) and either the learning rate was not annealed or train accuracy was no better than val.
    5. Underfits, if train accuracy was no better than val and both stayed below 80 %.
    6. Neither.

    Args:
        records: Lines of metrics.jsonl, in order: epoch, train/loss, train/accuracy, val/loss, val/accuracy, lr.
        num_val: Images in the val split; 0 without one.
    """
    judged = [record for record in records if record.get("val/accuracy") is not None]
    if not judged or num_val <= 0:
        return Diagnosis(
            "unknown",
            "Whether the run overfits cannot be said: it had no validation split. "
            "Train with --data.val-fraction 0.1 to find out.",
        )
    facts = _facts(judged, num_val)
    if len(judged) < FEWEST_EPOCHS:
        return Diagnosis("unknown", _short_sentence(facts), facts)
    for rule in (_rising_loss, _large_gap, _still_rising, _low_accuracy):
        found = rule(facts)
        if found is not None:
            return found
    return Diagnosis("neither", _neither_sentence(facts), facts)


def _facts(judged: Sequence[dict[str, Any]], num_val: int) -> dict[str, float | None]:
    last = judged[-1]
    accuracy = float(last["val/accuracy"])
    train = last.get("train/accuracy")
    window = max(1, round(len(judged) / 5))
    late = [float(record["val/accuracy"]) for record in judged[-window:]]
    before = [float(record["val/accuracy"]) for record in judged[-2 * window : -window]]
    rates = [float(record["lr"]) for record in judged if record.get("lr") is not None]
    return {
        "epochs": float(last.get("epoch") or len(judged)),
        "num_val": float(num_val),
        "train_accuracy": None if train is None else float(train),
        "val_accuracy": accuracy,
        "accuracy_gap": _difference(train, accuracy),
        # at 0 and 1 the formula says zero; half an image keeps it honest
        "standard_error": math.sqrt(max(accuracy * (1 - accuracy), 0.5 / num_val) / num_val),
        "late_epochs": float(window),
        "late_gain": statistics.fmean(late) - statistics.fmean(before) if before else None,
        "annealed": float(bool(rates) and rates[-1] <= _ANNEALED * max(rates)),
        **_loss_facts(judged),
    }


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else float(one) - float(other)


def _loss_facts(judged: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return where val loss was lowest, where it ended, and how train loss and val accuracy moved in between."""
    with_loss = [record for record in judged if record.get("val/loss") is not None]
    if len(with_loss) < FEWEST_EPOCHS:
        return {}
    best = min(range(len(with_loss)), key=lambda i: float(with_loss[i]["val/loss"]))
    lowest, last = with_loss[best], with_loss[-1]
    return {
        "lowest_val_loss": float(lowest["val/loss"]),
        "lowest_val_loss_epoch": float(lowest.get("epoch") or best + 1),
        "epochs_since_lowest": float(len(with_loss) - 1 - best),
        "final_val_loss": statistics.fmean(float(record["val/loss"]) for record in with_loss[-2:]),
        "train_loss_change": _difference(last.get("train/loss"), lowest.get("train/loss")),
        "val_accuracy_change": _difference(last["val/accuracy"], lowest["val/accuracy"]),
    }


def _loss_rise(facts: dict[str, float | None]) -> float | None:
    """Return by what factor val loss ended above its lowest value plus sampling error; 1 or less is no rise."""
    lowest, final = facts.get("lowest_val_loss"), facts.get("final_val_loss")
    if lowest is None or final is None:
        return None
    return final / (max(lowest, 1e-12) * (1 + max(0.02, 2 / math.sqrt(facts["num_val"] or 1))))


def _rising_loss(facts: dict[str, float | None]) -> Diagnosis | None:
    rise, change = _loss_rise(facts), facts.get("train_loss_change")
    # a lowest value in the last epoch but one is a last epoch that jumped, not a trend
    if rise is None or rise <= 1 or change is None or change >= 0 or (facts["epochs_since_lowest"] or 0) < 2:
        return None
    sentence = (
        f"The run overfits: val loss was lowest in epoch {facts['lowest_val_loss_epoch']:g} "
        f"({facts['lowest_val_loss']:.3f}) and rose to {facts['final_val_loss']:.3f} at the end, "
        "while train loss went on falling."
    )
    if (facts["val_accuracy_change"] or 0) > 2 * (facts["standard_error"] or 0):
        sentence += " Its accuracy still rose meanwhile, so it is the probabilities that suffer."
    return Diagnosis("overfits", sentence + " Try fewer epochs, more augmentation or weight decay.", facts)


def _large_gap(facts: dict[str, float | None]) -> Diagnosis | None:
    gap, error = facts["accuracy_gap"], facts["standard_error"] or 0
    if gap is None or gap <= max(LARGE_GAP, 3 * error):
        return None
    sentence = (
        f"The run overfits: {_both(facts)}, a gap of {100 * gap:.1f} points against a standard error of "
        f"{100 * error:.1f}. Try more augmentation, weight decay, dropout or more images."
    )
    return Diagnosis("overfits", sentence, facts)


def _still_rising(facts: dict[str, float | None]) -> Diagnosis | None:
    gain, error = facts["late_gain"], facts["standard_error"] or 0
    if gain is None or gain <= max(0.005, 2 * error):
        return None
    window = facts["late_epochs"] or 1
    span = "epoch" if window == 1 else f"{window:g} epochs"
    rise = f"val accuracy was still rising ({100 * gain:+.1f} points from the {span} before to the last {span})"
    if not facts["annealed"]:
        return Diagnosis("underfits", f"The run underfits: {rise}. Train for more epochs.", facts)
    if not _no_gap(facts):
        return None
    sentence = (
        f"The run underfits: {rise} and {_both(facts)}, so it has learned nothing by heart. Part of the rise is the "
        "decay of the learning rate: give the whole schedule more epochs, or take a larger network."
    )
    return Diagnosis("underfits", sentence, facts)


def _low_accuracy(facts: dict[str, float | None]) -> Diagnosis | None:
    train, val = facts["train_accuracy"], facts["val_accuracy"] or 0
    if train is None or not _no_gap(facts) or max(train, val) >= LOW_ACCURACY:
        return None
    sentence = (
        f"The run underfits: {_both(facts)}; the model does not even fit the images it trains on. "
        "Try a larger network, a better learning rate or less regularisation."
    )
    return Diagnosis("underfits", sentence, facts)


def _no_gap(facts: dict[str, float | None]) -> bool:
    gap, error = facts["accuracy_gap"], facts["standard_error"] or 0
    return gap is not None and gap <= 2 * error


def _both(facts: dict[str, float | None]) -> str:
    train, val = facts["train_accuracy"], facts["val_accuracy"] or 0
    known = (
        "an unrecorded value on the training images"
        if train is None
        else f"{100 * train:.1f}\u00a0% on the training images (augmented)"
    )
    return f"accuracy ended at {known} and {100 * val:.1f}\u00a0% on val"


def _short_sentence(facts: dict[str, float | None]) -> str:
    epochs = facts["epochs"] or 0
    span = "one epoch" if epochs == 1 else f"{epochs:g} epochs"
    return f"After {span} the curves are too short to tell whether the run overfits or underfits: {_both(facts)}."


def _neither_sentence(facts: dict[str, float | None]) -> str:
    sentence = f"The run neither overfits nor underfits: {_both(facts)}"
    rise = _loss_rise(facts)
    if rise is not None and rise <= 1:
        sentence += f", and val loss stayed near its lowest value ({facts['final_val_loss']:.3f})"
    sentence += "."
    if facts["annealed"]:
        sentence += (
            " The learning rate had been annealed, so a plateau is no proof that a longer schedule would not help."
        )
    return sentence
