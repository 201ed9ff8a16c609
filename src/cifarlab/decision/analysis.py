"""All of it at once: from inputs and evidence to the analysis that a report shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cifarlab.decision import gates as gating
from cifarlab.decision.breakeven import break_even, switching_values
from cifarlab.decision.claims import as_stated
from cifarlab.decision.comparisons import compare_with_others, judge
from cifarlab.decision.costs import cash_flows, images_by_year, per_image_figures, present_cost, present_costs
from cifarlab.decision.findings import Analysis, Comparison, Gate
from cifarlab.decision.given import CLAIMED_DATASET, Amount, CoveragePoint, Evidence, OptionKey
from cifarlab.decision.grounds import Grounds, find_leaning, runner_up
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.decision.ledger import build_ledger
from cifarlab.decision.next_test import plan_test
from cifarlab.decision.options import LABELS, WORLD, Setting, Values, derive, describe, mistake_weight, used_keys
from cifarlab.decision.recommend import advise
from cifarlab.decision.results import BreakEven, HybridChoice, OptionResult, Simulation, Switch
from cifarlab.decision.risk import risk_register
from cifarlab.decision.simulate import DRAWS, Counted, draw, simulate, tornado
from cifarlab.decision.wording import money
from cifarlab.errors import ConfigError
from cifarlab.stats import accuracy_interval, mean_and_sd, wilson_interval

_PRICES = ("vendor.price_per_1000_images", "vendor.licence_per_year")
_PRICES_OF_ADAPTING = ("adapt.price_per_training_hour", "adapt.hosting_per_year")


def analyse(inputs: DecisionInputs, evidence: Evidence, *, seed: int = 0, draws: int = DRAWS) -> Analysis:
    """Judge every option by costs, requirements and evidence, and say what follows.

    Args:
        inputs: Amounts and facts.
        evidence: What was measured of our model.
        seed: Of the draws; equal input and seed give equal figures.
        draws: Number of worlds drawn.

    Raises:
        ValueError: If the counts of the evidence are no accuracy.
        ConfigError: If mistake_weights do not fit the classes of the evidence.
    """
    setting, amounts, counts, hybrid = prepare(inputs, evidence)
    drawn = draw(amounts, counts, seed, draws)
    best_accuracy = {option: _best_accuracy(option, amounts, setting) for option in setting.options}
    gates = gating.judge_gates(inputs, evidence, setting, best_accuracy)
    options = tuple(_option_result(option, inputs, amounts, setting, gates) for option in setting.options)
    allowed = tuple(option.key for option in options if not option.rejected)
    simulation = simulate(drawn, setting, allowed, seed)
    leaning = find_leaning(options, simulation)
    rival = runner_up(options, simulation, leaning)
    evens = _break_evens(base_values(amounts), setting, drawn)
    comparisons = _comparisons(inputs, evidence)
    switches = switching_values(amounts, drawn, setting, allowed)
    grounds = _grounds(inputs, evidence, (amounts, setting), options, simulation, evens[0], comparisons[0], switches)
    analysis = Analysis(
        currency=inputs.currency,
        horizon_years=inputs.horizon_years,
        amounts=amounts,
        verdict=grounds.verdict,
        comparisons=comparisons,
        options=options,
        hybrid=hybrid,
        break_evens=evens,
        switches=tuple(grounds.switches),
        tornado=tornado(amounts, drawn, setting, leaning, rival) if leaning and rival else None,
        simulation=simulation,
        gates=gates,
        risks=risk_register(inputs, evidence, setting.options),
        advice=advise(grounds),
        assumptions=assumptions(inputs, evidence, setting),
        ledger=(),
    )
    ledger = build_ledger(inputs, evidence, analysis, mistake_weight=setting.mistake_weight)
    return replace(analysis, ledger=ledger)


def _comparisons(inputs: DecisionInputs, evidence: Evidence) -> tuple[Comparison, ...]:
    claim, images = inputs.amounts["vendor.accuracy"], inputs.facts["vendor.claim_images"]
    if images is not None:
        whose = claim.source if claim.users else "the vendor's claim"
        claim = replace(claim, source=f"{whose}, by its own account counted on {images:,} images")
    return compare_with_others(evidence, claim, inputs.vendor, images, published=evidence.meets_claim)


def _prices_assumed(amounts: Mapping[str, Amount], leaning: OptionKey | None) -> bool:
    """Return whether a price of the vendor is nobody's offer; those of adapting count where that is the leaning."""
    prices = (*_PRICES, *_PRICES_OF_ADAPTING) if leaning == "adapt" else _PRICES
    return any(amounts[key].origin == "assumed" for key in prices)


def _grounds(
    inputs: DecisionInputs,
    evidence: Evidence,
    world: tuple[Mapping[str, Amount], Setting],
    options: tuple[OptionResult, ...],
    simulation: Simulation,
    even: BreakEven,
    against_vendor: Comparison,
    switches: tuple[Switch, ...],
) -> Grounds:
    amounts, setting = world
    derived = derive(base_values(amounts), setting)
    compared = evidence.total if evidence.own_images and evidence.paired is not None else 0
    leaning = find_leaning(options, simulation)
    return Grounds(
        currency=inputs.currency,
        horizon_years=inputs.horizon_years,
        vendor=inputs.vendor,
        evidence=evidence,
        verdict=judge(evidence, inputs.amounts["vendor.accuracy"].base, against_vendor),
        against_vendor=against_vendor,
        options=options,
        break_even=even,
        switches=switches,
        simulation=simulation,
        next_test=plan_test(derived, inputs.currency, inputs.vendor, leaning, done=compared),
        prices_assumed=_prices_assumed(amounts, leaning),
        cost_of_error=amounts["errors.cost_per_wrong_answer"],
    )


def prepare(
    inputs: DecisionInputs, evidence: Evidence
) -> tuple[Setting, dict[str, Amount], dict[str, Counted], HybridChoice | None]:
    """Return what is settled, all amounts with the measured ones, their counts, and the hybrid's threshold."""
    setting = Setting(
        horizon_years=inputs.horizon_years,
        status_quo=inputs.status_quo,
        own_images=evidence.own_images,
        mistake_weight=_weight(inputs, evidence),
        vendor_own_images=evidence.own_images and evidence.vendor_correct is not None,
    )
    amounts = dict(inputs.amounts)
    counts = {}
    amounts["ours.accuracy"], counts["ours.accuracy"] = _our_accuracy(evidence)
    claim_images = inputs.facts["vendor.claim_images"]
    if evidence.vendor_correct is not None:
        vendor = amounts["vendor.accuracy"]
        low, high = wilson_interval(evidence.vendor_correct, evidence.total)
        value = evidence.vendor_correct / evidence.total
        counted_on = f"{evidence.vendor_correct:,} of {evidence.total:,} images"
        at = evidence.written("vendor.accuracy")
        amounts["vendor.accuracy"] = replace(
            vendor,
            label=f"Vendor's accuracy on {evidence.dataset}, {evidence.split}",
            low=low,
            base=value,
            high=high,
            origin="measured",
            source=f"its predictions, {counted_on}; the range is Wilson's 95 % interval; {at.source}",
            date=at.date,
            users=False,
        )
        counts["vendor.accuracy"] = Counted(evidence.vendor_correct, evidence.total)
    elif claim_images is not None:
        claim = amounts["vendor.accuracy"]
        correct = round(claim.base * claim_images)
        low, high = wilson_interval(correct, claim_images)
        whose = claim.source if claim.users else "the vendor's claim"
        source = f"{whose}; the range is Wilson's 95 % interval of a count on {claim_images:,} images"
        amounts["vendor.accuracy"] = replace(claim, low=min(low, claim.base), high=max(high, claim.base), source=source)
        counts["vendor.accuracy"] = Counted(correct, claim_images)
    hybrid = None
    if evidence.coverage:
        setting = replace(setting, options=(*setting.options, "hybrid"))
        hybrid = choose_threshold(evidence.coverage, base_values(amounts), setting)
        amounts |= _hybrid_amounts(hybrid.point, evidence)
        kept = hybrid.point
        counts["hybrid.kept_accuracy"] = Counted(kept.accuracy * kept.num_images, kept.num_images)
    return setting, amounts, counts, hybrid


def base_values(amounts: Mapping[str, Amount]) -> dict[str, float]:
    """Return every amount at its base value."""
    return {key: amount.base for key, amount in amounts.items()}


def _weight(inputs: DecisionInputs, evidence: Evidence) -> float:
    if not inputs.mistake_weights:
        return 1.0
    if evidence.confusion_KK is None:
        raise ConfigError(
            "mistake_weights asks for the run's confusion matrix, which its evaluation.json does not hold (it does up "
            "to 100 classes); evaluate the run again on test, or leave mistake_weights out"
        )
    named, size = inputs.mistake_classes, evidence.confusion_KK.shape[0]
    if size != len(named):
        raise ConfigError(f"mistake_weights has {len(named)} classes, the run has {size}")
    order = list(range(size))
    if evidence.class_names:
        if set(named) != set(evidence.class_names):
            other = sorted(set(named) - set(evidence.class_names))
            raise ConfigError(
                f"mistake_weights.classes has {', '.join(other)}; the classes are {', '.join(evidence.class_names)}"
            )
        order = [named.index(name) for name in evidence.class_names]
    return mistake_weight(evidence.confusion_KK, np.asarray(inputs.mistake_weights)[np.ix_(order, order)])


def _our_accuracy(evidence: Evidence) -> tuple[Amount, Counted]:
    """Return our accuracy as an amount: of several seeds where there are any, else of the one run."""
    seeds = evidence.seed_accuracies
    if len(seeds) >= 2:
        value, sd = mean_and_sd(seeds)
        low, high = accuracy_interval(seeds)
        if math.isnan(low):
            low, high = wilson_interval(round(value * evidence.total), evidence.total)
        source = f"mean of {len(seeds)} trainings; the range is Student's 95 % interval of it; {evidence.source}"
        counted = Counted(value * evidence.total, evidence.total, len(seeds), sd)
    else:
        value = evidence.correct / evidence.total
        low, high = wilson_interval(evidence.correct, evidence.total)
        counted_on = f"{evidence.correct:,} of {evidence.total:,} images"
        source = f"{counted_on}; the range is Wilson's 95 % interval; {evidence.source}"
        counted = Counted(evidence.correct, evidence.total)
    label = f"Our accuracy on {evidence.dataset}, {evidence.split}"
    return Amount("ours.accuracy", label, low, value, high, "share", "measured", source, evidence.date), counted


def choose_threshold(coverage: tuple[CoveragePoint, ...], base: Mapping[str, float], setting: Setting) -> HybridChoice:
    """Return the point of the coverage curve at which the hybrid costs least at base values; the first of equals.

    Points at which our model answers everything are left out where there are others: they are no hybrid.
    """
    candidates = []
    for point in [point for point in coverage if point.coverage < 1] or coverage:
        values = {**base, "hybrid.coverage": point.coverage, "hybrid.kept_accuracy": point.accuracy}
        candidates.append((point, float(present_cost("hybrid", values, setting))))
    best, cost = min(candidates, key=lambda candidate: candidate[1])
    return HybridChoice(best, cost, tuple(candidates))


def _hybrid_amounts(point: CoveragePoint, evidence: Evidence) -> dict[str, Amount]:
    total = round(point.num_images / point.coverage) if point.coverage > 0 else evidence.total
    low, high = wilson_interval(min(point.num_images, total), total)
    at = evidence.written("hybrid.coverage")
    source = f"coverage curve at confidence {point.threshold:.3g}, {total:,} images; {at.source}"
    around = {"share": (low, point.coverage, high), "kept": (point.interval[0], point.accuracy, point.interval[1])}
    ends = {name: (min(a, b), b, max(b, c)) for name, (a, b, c) in around.items()}
    share = "Share of images our model answers in the hybrid"
    return {
        "hybrid.coverage": Amount("hybrid.coverage", share, *ends["share"], "share", "measured", source, at.date),
        "hybrid.kept_accuracy": Amount(
            "hybrid.kept_accuracy", "Our accuracy on these", *ends["kept"], "share", "measured", source, at.date
        ),
    }


def _best_accuracy(option: OptionKey, amounts: Mapping[str, Amount], setting: Setting) -> float:
    """Return an option's accuracy on images of the use with every amount at its better end."""
    ends = {key: amount.high for key, amount in amounts.items()}
    ends["transfer.points_lost"] = amounts["transfer.points_lost"].low
    best = float(derive(ends, setting)[f"accuracy.{option}"])
    if option == "hybrid":  # where the vendor is the better one, answering less is the better end
        ends["hybrid.coverage"] = amounts["hybrid.coverage"].low
        best = max(best, float(derive(ends, setting)["accuracy.hybrid"]))
    return best


def _option_result(
    option: OptionKey,
    inputs: DecisionInputs,
    amounts: Mapping[str, Amount],
    setting: Setting,
    gates: tuple[Gate, ...],
) -> OptionResult:
    base = base_values(amounts)
    flows = cash_flows(option, base, setting)
    accuracy = float(derive(base, setting)[f"accuracy.{option}"])
    images = float(images_by_year(base, setting.horizon_years).sum())
    per_1000, per_correct = per_image_figures(flows, images, accuracy)
    paid = float(present_cost(option, base, setting, errors=False))
    cost = float(present_cost(option, base, setting))
    favourable, unfavourable = scenario_costs(option, amounts, setting)
    return OptionResult(
        key=option,
        label=LABELS[option],
        description=describe(option, inputs.vendor, setting),
        accuracy=accuracy,
        flows=flows,
        present_cost=cost,
        present_expenditure=paid,
        present_errors=cost - paid,
        favourable=favourable,
        unfavourable=unfavourable,
        per_1000_images=per_1000,
        per_correct=per_correct,
        rejected=gating.rejected(gates, option),
        unknown=gating.unknown(gates, option),
    )


def scenario_costs(option: OptionKey, amounts: Mapping[str, Amount], setting: Setting) -> tuple[float, float]:
    """Return an option's present cost with all its own amounts at their cheap ends, and at their dear ends.

    Amounts of the world stay at base. Which end is the cheap one is found by moving one amount at a time.
    """
    base = base_values(amounts)
    cheap, dear = dict(base), dict(base)
    for key in used_keys(option, setting) - set(WORLD):
        amount = amounts[key]
        at_low, at_high = (
            float(present_costs({**base, key: end}, setting, (option,))[option]) for end in (amount.low, amount.high)
        )
        cheap[key], dear[key] = (amount.low, amount.high) if at_low <= at_high else (amount.high, amount.low)
    return float(present_cost(option, cheap, setting)), float(present_cost(option, dear, setting))


def _break_evens(base: Values, setting: Setting, drawn: Values) -> tuple[BreakEven, ...]:
    pairs: list[tuple[OptionKey, OptionKey, bool]] = [("build", "buy", True), ("build", "buy", False)]
    pairs += [("build", other, True) for other in setting.options if other not in ("build", "buy")]
    return tuple(break_even(first, second, base, setting, drawn, errors=errors) for first, second, errors in pairs)


def assumptions(inputs: DecisionInputs, evidence: Evidence, setting: Setting) -> tuple[str, ...]:
    """Return what the model takes for granted, in sentences."""
    told = [
        "One-off costs are paid today, running costs at the end of each year, leaving the vendor at the end of "
        f"year {setting.horizon_years}. Money is at today's prices; nothing is worth anything after that.",
        "Every option answers the same images. What an answer is worth is not counted, only what a wrong one costs.",
        _about_errors(inputs),
        _about_claim(inputs, evidence),
        "Amounts vary independently of each other, each between low and high and mostly near its likeliest value (PERT "
        "distribution); accuracies that were counted vary as such counts do.",
    ]
    if not evidence.own_images:
        told.append(
            "Every model loses the same number of points from the test images to images of the use. This is the "
            "weakest point of the analysis; only a test on own images mends it. On newly gathered images less accurate "
            "models lost more (Recht et al. 2019), so that this favours the less accurate one."
        )
    if "hybrid" in setting.options:
        told.append(
            "On images that our model is unsure of, the vendor's accuracy is unknown and assumed to be lower than "
            "usual; the share of such images is that of the test images."
        )
    told.append("Nobody measured how many of the vendor's errors its adaptation to our images would remove.")
    if inputs.mistake_weights:
        told.append("The vendor's mistakes are of the same kinds as ours; which they are nobody knows.")
    if setting.status_quo == "people":
        told.append(
            "Doing nothing means that people sort every image by hand. If nobody sorts them today, that costs nothing "
            "now: set status_quo to none, and what not knowing costs."
        )
        told.append("People answer as accurately on images of the use as published for CIFAR-10.")
    return tuple(told)


def _about_errors(inputs: DecisionInputs) -> str:
    cost = inputs.amounts["errors.cost_per_wrong_answer"]
    low, likely, high = (money(value, inputs.currency) for value in (cost.low, cost.base, cost.high))
    return (
        f"A wrong answer costs {likely} ({low} to {high}). No sum holds what a wrong answer does in traffic: where "
        "answers are to steer a vehicle, all of it has to be counted anew with the cost of a mistake there."
    )


def _about_claim(inputs: DecisionInputs, evidence: Evidence) -> str:
    if evidence.vendor_correct is not None:
        return f"The vendor's accuracy is that of its predictions on the same {evidence.total:,} images."
    claim = as_stated(inputs.amounts["vendor.accuracy"].base)
    if not evidence.meets_claim:
        return (
            f"The vendor's {claim} is for {CLAIMED_DATASET} and is not set against ours; in the sums it stands, less "
            "the points lost, for its accuracy on the images of the use."
        )
    images = inputs.facts["vendor.claim_images"]
    if images is not None:
        return f"The vendor's {claim} is a count on {images:,} images, by its own account; in the draws it varies so."
    return (
        f"The vendor's {claim} is set against ours as it stands, the reading most favourable to it; in the draws it "
        "varies within its range."
    )
