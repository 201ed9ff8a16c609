"""From all figures to an answer that is never surer than they are.

The rules, all of them:

* An option that fails a requirement that must be met is out. Of the others, the one with the least expected cost over
  all draws is the leaning.
* The answer is "measure first" where no option is left, or where the leaning rests on a model whose accuracy is not
  settled: ours is neither clearly above nor clearly below the vendor's claim, or it is below and its curves do not show
  that its training was finished. A leaning to do nothing that is the cheapest in nine draws of ten stands nevertheless.
* Confidence is high if the leaning is the cheapest in at least 90 % of the draws, every requirement that must be met is
  known to be met, the vendor's prices are not assumed, and the accuracies are told apart on own images; moderate if it
  is the cheapest in at least 70 % and the accuracies are told apart; low otherwise. A share that the draws do not tell
  from the one asked for is said to be that close.
"""

from __future__ import annotations

import math
from typing import Literal

from cifarlab.decision.changes import changes_told, conditions_told
from cifarlab.decision.claims import Verdict, as_stated, percent
from cifarlab.decision.findings import Advice, KeyFigure
from cifarlab.decision.given import Evidence, OptionKey
from cifarlab.decision.grounds import Grounds, cheapest_at_base, find_leaning, runner_up
from cifarlab.decision.options import LABELS
from cifarlab.decision.wording import DOING, about, money, sentence
from cifarlab.phrases import count

HIGH_PROBABILITY = 0.9
MODERATE_PROBABILITY = 0.7
_TRAINED_OUT = ("neither", "overfits")
_ALPHA = 0.05

Confidence = Literal["high", "moderate", "low"]


def accuracy_outcome(verdict: Verdict, evidence: Evidence) -> Literal["better", "worse", "undecided"]:
    """Return whether our accuracy and the vendor's are told apart: by McNemar's test where there is one.

    The claim is for CIFAR-10, so that an accuracy on other images cannot be set against it.
    """
    if evidence.paired is None:
        return verdict.outcome if evidence.meets_claim else "undecided"
    if evidence.paired.p_exact >= _ALPHA:
        return "undecided"
    return "better" if evidence.paired.difference > 0 else "worse"


def advise(grounds: Grounds) -> Advice:
    """Return the recommendation; the rules are those at the top of this module."""
    leaning = find_leaning(grounds.options, grounds.simulation)
    outcome = accuracy_outcome(grounds.verdict, grounds.evidence)
    settled = outcome == "better" or (outcome == "worse" and grounds.evidence.diagnosis in _TRAINED_OUT)
    probability = 0.0 if leaning is None else grounds.simulation.probability_cheapest_admissible[leaning]
    stands = settled or (leaning == "nothing" and probability >= HIGH_PROBABILITY)
    answer = leaning if leaning is not None and stands else "measure first"
    confidence, reason = _confidence(grounds, leaning, probability, settled=settled)
    return Advice(
        answer=answer,
        leaning=leaning,
        headline=_headline(grounds, answer, leaning, confidence, outcome),
        confidence=confidence,
        confidence_reason=reason,
        figures=_three_figures(grounds, leaning, probability),
        reasons=_reasons(grounds, answer, leaning, outcome),
        changes=changes_told(grounds, leaning, outcome),
        next_test=grounds.next_test,
        conditions=conditions_told(grounds, leaning),
    )


def _confidence(
    grounds: Grounds, leaning: OptionKey | None, probability: float, *, settled: bool
) -> tuple[Confidence, str]:
    if leaning is None:
        return "low", "Every option fails a requirement that must be met."
    option = grounds.option(leaning)
    draws = len(grounds.simulation.costs_SO)
    share = f"{sentence(DOING[leaning])} is the cheapest in {_chance(probability, draws)} of {draws:,} draws"
    close = _close_to(probability, draws)
    if close is not None:
        share += f" (so close to {percent(close, 0)} that another seed may tell otherwise)"
    rival = runner_up(grounds.options, grounds.simulation, leaning)
    chance = 0.0 if rival is None else grounds.simulation.probability_cheapest_admissible[rival]
    if rival is not None and chance > probability:
        share += f", {DOING[rival]} in {_chance(chance, draws)}, which costs more on average"
    lacks = []
    if not grounds.evidence.own_images:
        lacks.append("no model was measured on our own images")
    if option.unknown:
        several = len(option.unknown)
        are = "one of its requirements is" if several == 1 else f"{several} of its requirements are"
        lacks.append(f"{are} not known to be met")
    if grounds.prices_assumed:
        lacks.append("the vendor's prices are assumed")
    if not settled:
        lacks.append("the accuracies are not settled")
    if probability >= HIGH_PROBABILITY and not lacks:
        return "high", f"{share}, its requirements are met, and the accuracies are told apart on our own images."
    if probability >= MODERATE_PROBABILITY and settled:
        missing = "; ".join(lacks) or f"high asks for {percent(HIGH_PROBABILITY, 0)}"
        return "moderate", f"{share}, and the accuracies are told apart. Not high: {missing}."
    asked = (
        f", less than the {percent(MODERATE_PROBABILITY, 0)} asked for" if probability < MODERATE_PROBABILITY else ""
    )
    return "low", f"{share}{asked}.{' Besides, ' + '; '.join(lacks) + '.' if lacks else ''}"


def _close_to(probability: float, draws: int) -> float | None:
    """Return the share asked for that these draws do not tell from the one found; None where they do."""
    margin = 2 * math.sqrt(probability * (1 - probability) / draws)
    return next((t for t in (MODERATE_PROBABILITY, HIGH_PROBABILITY) if abs(probability - t) < margin), None)


def _chance(probability: float, draws: int) -> str:
    """Return a share of draws, with a decimal where rounding could lift it over the share asked for."""
    return percent(probability, 0 if _close_to(probability, draws) is None else 1)


def _headline(grounds: Grounds, answer: str, leaning: OptionKey | None, confidence: Confidence, outcome: str) -> str:
    if leaning is None:
        return "Measure first: no option is known to meet what is required."
    if answer == "measure first":
        open_question = "it is not settled whether our model or the vendor's is the better one."
        if outcome == "worse":
            open_question = "our model is below the vendor's, but was not shown to be trained to the end."
        return f"Measure first: {open_question} If it had to be decided today: {LABELS[leaning].lower()}."
    if confidence == "low":
        what = {
            "nothing": "do nothing for now",
            "buy": f"buy {grounds.vendor}'s classifier",
            "adapt": f"buy {grounds.vendor}'s classifier and have it trained on our images",
            "build": "build our own classifier",
            "hybrid": f"build our own classifier and let {grounds.vendor}'s answer where ours is unsure",
        }[answer]
        return f"On balance, {what}; the figures lean that way, and no more."
    if answer == "build" and (outcome != "better" or grounds.evidence.paired is not None):
        return "Build our own classifier: over all draws it costs the least, wrong answers counted."
    return {
        "nothing": "Do nothing for now: no classifier that meets the requirements earns its cost.",
        "buy": f"Buy {grounds.vendor}'s classifier, once it has proved its accuracy on our own images.",
        "adapt": f"Buy {grounds.vendor}'s classifier and have it trained on our images, once a trial shows the gain.",
        "build": "Build our own classifier, and do not buy on the strength of the vendor's claim.",
        "hybrid": f"Build our own classifier and let {grounds.vendor}'s answer where ours is unsure.",
    }[answer]


def _three_figures(grounds: Grounds, leaning: OptionKey | None, probability: float) -> tuple[KeyFigure, ...]:
    return _accuracy_figure(grounds), _cost_figure(grounds, leaning, probability), _break_even_figure(grounds)


def _accuracy_figure(grounds: Grounds) -> KeyFigure:
    against, verdict = grounds.against_vendor, grounds.verdict
    if not grounds.evidence.meets_claim and grounds.evidence.paired is None:
        ours = f"{percent(verdict.accuracy)} ({percent(verdict.interval[0])} to {percent(verdict.interval[1])})"
        text = f"{ours}; the claim of {as_stated(verdict.claim)} is for CIFAR-10 and cannot be set against it"
        return KeyFigure(f"Our accuracy, {grounds.evidence.dataset}", text, "evidence.accuracy", "measured")
    ends = against.difference_interval
    low, high = (100 * (end - verdict.claim) for end in verdict.interval)
    spread = ends or (low, high)
    kind = "95\u00a0% interval" if ends else "95\u00a0% interval of ours, the claim taken as it stands"
    return KeyFigure(
        f"Our accuracy less {grounds.vendor}'s, {grounds.evidence.dataset}",
        f"{against.difference_points:+.1f} points ({kind} {spread[0]:+.1f} to {spread[1]:+.1f})",
        "comparison.vendor.difference",
        "computed",
    )


def _cost_figure(grounds: Grounds, leaning: OptionKey | None, probability: float) -> KeyFigure:
    each = grounds.cost_of_error
    low, high = (money(value, grounds.currency) for value in (each.low, each.high))
    counted = low if low == high else f"{low} to {high}"
    label = f"Cost over {count(grounds.horizon_years, 'year')}, a wrong answer counted as {counted}"
    likeliest = cheapest_at_base(grounds)
    rival = runner_up(grounds.options, grounds.simulation, leaning)
    if leaning is None or rival is None:
        return KeyFigure(label, "no two options meet what is required", "simulation.value_of_knowing", "computed")
    simulation = grounds.simulation
    means = dict(zip(simulation.options, simulation.mean_O, strict=True))
    first, second = (money(means[key], grounds.currency) for key in (leaning, rival))
    draws, chances = len(simulation.costs_SO), simulation.probability_cheapest_admissible
    text = (
        f"{sentence(DOING[leaning])} {first}, {DOING[rival]} {second} on average over the draws; {DOING[leaning]} is "
        f"the cheapest in {_chance(probability, draws)} of them, {DOING[rival]} in {_chance(chances[rival], draws)}"
    )
    if likeliest is not None and likeliest.key != leaning:  # a cheaper option is not left out of this figure
        other, ours = (money(one.present_cost, grounds.currency) for one in (likeliest, grounds.option(leaning)))
        text += f" (at the likeliest values {DOING[likeliest.key]} is: {other} against {ours})"
    return KeyFigure(label, text, f"simulation.{leaning}.mean", "computed")


def _break_even_figure(grounds: Grounds) -> KeyFigure:
    even = grounds.break_even
    if even.volume is None:
        return KeyFigure("Break-even volume, build against buy", even.sentence, "break_even.build_buy", "computed")
    spread = ""
    if even.interval is not None:
        those = "" if even.share_with == 1 else " that have one"
        spread = f" ({about(even.interval[0])} to {about(even.interval[1])} in nine draws of ten{those})"
    text = f"{about(even.volume)} images a month{spread}; {about(even.expected_volume)} are expected"
    return KeyFigure("Break-even volume, build against buy", text, "break_even.build_buy", "computed")


def _reasons(grounds: Grounds, answer: str, leaning: OptionKey | None, outcome: str) -> tuple[str, ...]:
    reasons = []
    if answer == "measure first":
        reasons.append(_why_measure(grounds, leaning, outcome))
    reasons.append(grounds.against_vendor.sentence)
    if leaning is not None:
        option = grounds.option(leaning)
        paid, errors, low, high = (
            money(value, grounds.currency)
            for value in (option.present_expenditure, option.present_errors, option.favourable, option.unfavourable)
        )
        reasons.append(
            f"{option.label}: {paid} paid and {errors} of wrong answers over {count(grounds.horizon_years, 'year')} "
            f"(present value, rounded), between {low} and {high} together."
        )
    likeliest = cheapest_at_base(grounds)
    if likeliest is not None and likeliest.key != leaning:
        reasons.append(f"At the likeliest values {DOING[likeliest.key]} is the cheapest, but not over all draws.")
    reasons += _too_close(grounds, leaning)
    reasons.append(grounds.break_even.sentence)
    reasons += [f"Out: {why}" for option in grounds.options for why in option.rejected]
    reasons.append(_worth_knowing(grounds))
    return tuple(reasons)


def _too_close(grounds: Grounds, leaning: OptionKey | None) -> list[str]:
    """Return a warning where the draws do not tell the two least expected costs apart."""
    simulation = grounds.simulation
    others = [o.key for o in grounds.options if not o.rejected and o.key != leaning]
    if leaning is None or not others:
        return []
    costs_S = {key: simulation.costs_SO[:, place] for place, key in enumerate(simulation.options)}
    second = min(others, key=lambda key: float(costs_S[key].mean()))
    difference_S = costs_S[second] - costs_S[leaning]
    margin = 2 * difference_S.std() / math.sqrt(len(difference_S)) + 1e-9 * abs(costs_S[leaning].mean())
    if difference_S.mean() > margin:
        return []
    return [
        f"{sentence(DOING[leaning])} and {DOING[second]} are expected to cost so nearly the same that "
        f"{len(difference_S):,} draws do not tell them apart; another seed may name the other."
    ]


def _worth_knowing(grounds: Grounds) -> str:
    knowing, test = grounds.simulation.value_of_knowing, grounds.next_test.cost
    told = (
        f"Knowing every amount beforehand would save {money(knowing, grounds.currency)} on average: no study of these "
        "questions is worth more."
    )
    if test <= knowing:
        return told
    return (
        f"{told} The next test costs {money(test, grounds.currency, 2)}, which is more: what speaks for it is what no "
        "sum here holds, such as harm in traffic."
    )


def _why_measure(grounds: Grounds, leaning: OptionKey | None, outcome: str) -> str:
    if leaning is None:
        return "Every option fails a requirement that must be met."
    if outcome == "worse":
        return (
            "Our model is below the vendor's figure, but its curves do not show that its training was finished: this "
            "is not yet the best that we could build. Train a full recipe with a validation split, then judge again."
        )
    if not grounds.evidence.meets_claim and grounds.evidence.paired is None:
        return "The vendor's figure is for CIFAR-10, ours for other images: ask both models on the same images."
    return (
        "No difference in accuracy between our model and the vendor's is shown. Train a stronger recipe or test on "
        "more images, then judge again."
    )
