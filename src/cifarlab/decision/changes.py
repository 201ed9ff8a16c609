"""What would change the answer, and what must hold before it is acted on, in words."""

from __future__ import annotations

from cifarlab.decision.given import OptionKey
from cifarlab.decision.grounds import Grounds
from cifarlab.decision.results import Switch
from cifarlab.decision.wording import DOING, about, bare, money, value_with_unit

_MOST_CHANGES = 6


def changes_told(grounds: Grounds, leaning: OptionKey | None, outcome: str) -> tuple[str, ...]:
    """Return what would change the answer: switching values first, then what evidence and requirements may bring.

    Args:
        grounds: What the answer is drawn from.
        leaning: The option that would be chosen today; None where every one fails a requirement.
        outcome: Whether our accuracy and the vendor's are told apart: 'better', 'worse' or 'undecided'.
    """
    changes = _switches_told(grounds, leaning)
    if leaning in ("build", "hybrid"):
        changes.append(f"On our own images {grounds.vendor}'s model proves better than ours in a paired test.")
    if leaning in ("buy", "adapt"):
        changes.append(f"{grounds.vendor} cannot confirm its accuracy on images of our choosing.")
    if outcome == "undecided" and grounds.evidence.meets_claim:
        changes.append("An accuracy clearly above or below the vendor's, from more images or a stronger recipe.")
    elif outcome == "undecided":
        changes.append(f"An accuracy clearly above or below that of {grounds.vendor}'s model on the same images.")
    if leaning is not None:
        for what in grounds.option(leaning).unknown:
            changes.append(f"A requirement turns out not to be met. {what}")
    return tuple(changes)


def _switches_told(grounds: Grounds, leaning: OptionKey | None) -> list[str]:
    """Return the switching values within their ranges, in words."""
    if leaning is None:
        return []
    told = [switch_sentence(switch) for switch in grounds.switches if switch.inside]
    return told[:_MOST_CHANGES] or ["No single amount within its range changes the answer; several together may."]


def switch_sentence(switch: Switch) -> str:
    """Return a switching value in words: amount, value, distance from what is expected, range, and what follows."""
    side, more = ("above", "more") if switch.value > switch.expected else ("below", "less")
    expected, low, high = (bare(value, switch.unit) for value in (switch.expected, switch.low, switch.high))
    away = f", so {about(100 * abs(switch.value / switch.expected - 1), 2)} % {more}" if switch.expected else ""
    return (
        f"{switch.label} {side} {value_with_unit(switch.value, switch.unit)} (expected {expected}{away}; range {low} "
        f"to {high}): then {DOING[switch.becomes]} costs the least on average."
    )


def conditions_told(grounds: Grounds, leaning: OptionKey | None) -> tuple[str, ...]:
    """Return what must hold or be done before the answer is acted on."""
    conditions = []
    if not grounds.evidence.own_images:
        conditions.append(
            "Before anything classified by any model steers a vehicle, all candidates are measured on our own labelled "
            f"camera images. {grounds.evidence.dataset} is not road scenes."
        )
    low, likely, high = (
        money(value, grounds.currency)
        for value in (grounds.cost_of_error.low, grounds.cost_of_error.base, grounds.cost_of_error.high)
    )
    conditions.append(
        f"A wrong answer counts {likely} here ({low} to {high}). Where one can hurt somebody, these sums say nothing, "
        "and all of it has to be counted anew."
    )
    if grounds.evidence.paired is None:
        conditions.append(
            f"{grounds.vendor} is asked for its predictions on the same images, so that both models can be compared "
            "image by image."
        )
    if grounds.prices_assumed:
        conditions.append(f"{grounds.vendor} is asked for a written offer: its prices are assumed here.")
    if leaning is not None:
        conditions += [f"To be found out: {what}" for what in grounds.option(leaning).unknown]
    return tuple(conditions)
