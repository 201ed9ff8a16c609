"""The ledger: every figure of the analysis with its origin, in a stable order, as plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from cifarlab.decision.findings import Analysis, Comparison, Entry
from cifarlab.decision.given import Amount, Evidence, Origin, Written
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.decision.results import BreakEven, OptionResult, Simulation

LEDGER_FORMAT = 1
_DIGITS = 12  # beyond them processors and libraries may differ
_COMMAND = "cifarlab report"
_UNITS = {"latency_p99_ms": "milliseconds", "claim_images": "images", "minimum_accuracy": "share"}  # of facts


def build_ledger(
    inputs: DecisionInputs, evidence: Evidence, analysis: Analysis, *, mistake_weight: float = 1.0
) -> tuple[Entry, ...]:
    """Return every figure of an analysis, in the order of a reader: what goes in, what was measured, what follows.

    Args:
        inputs: Amounts and facts.
        evidence: What was measured.
        analysis: What follows; its own ledger is not read.
        mistake_weight: Mean weight of our mistakes, where kinds of mistakes have weights.
    """
    entries = [
        *_settings(inputs, analysis),
        *_weights(inputs, mistake_weight),
        *(_amount(amount, evidence) for amount in analysis.amounts.values()),
        *_facts(inputs),
        *_accuracy(evidence, analysis),
        *(entry for row in analysis.comparisons for entry in _comparison(row, analysis, evidence)),
        *(entry for option in analysis.options for entry in _option(option, analysis.currency)),
        *_hybrid(analysis, evidence),
        *(_break_even(even) for even in analysis.break_evens),
        *_simulation(analysis.simulation, analysis.currency),
        *_switches(analysis),
        *_tornado(analysis),
        *_gates(analysis),
        *_risks(analysis),
        *_advice(analysis),
    ]
    _require_unique(entries)
    return tuple(entries)


def ledger_json(entries: Sequence[Entry]) -> str:
    """Return a ledger as JSON text; equal entries give equal bytes, and what is not known is null."""
    rows = [{name: _plain(value) for name, value in asdict(entry).items()} for entry in entries]
    document = {"format": LEDGER_FORMAT, "entries": rows}
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def computed(
    name: str, label: str, value: float | str | bool | None, unit: str, source: str, **ends: float | None
) -> Entry:
    """Return a computed figure; keyword arguments low and high are its interval."""
    low, high = _number(ends.get("low")), _number(ends.get("high"))
    return Entry(name, label, _plain(value), low, high, unit, "computed", source, "", _COMMAND)


def _plain(value: float | str | bool | None) -> float | str | bool | None:
    return _number(value) if isinstance(value, float) else value


def _number(value: float | None) -> float | None:
    """Return a figure as JSON holds it: rounded to what all machines agree on, None for what is not defined."""
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _require_unique(entries: Sequence[Entry]) -> None:
    names = [entry.id for entry in entries]
    repeated = {name for name in names if names.count(name) > 1}
    assert not repeated, f"the ledger has more than one {', '.join(sorted(repeated))}"


def _settings(inputs: DecisionInputs, analysis: Analysis) -> Iterator[Entry]:
    for name, label, value, unit in (
        ("currency", "Currency", inputs.currency, ""),
        ("horizon_years", "Years that count", inputs.horizon_years, "years"),
        ("status_quo", "What doing nothing means: images sorted by", inputs.status_quo, ""),
    ):
        yield _given(f"setting.{name}", label, value, unit, inputs, name)
    weights = "given" if inputs.mistake_weights else "all mistakes cost the same"
    yield _given("setting.mistake_weights", "Weights of kinds of mistakes", weights, "", inputs, "mistake_weights")
    yield computed("simulation.seed", "Seed of the draws", analysis.simulation.seed, "", "decision.simulate")
    draws = len(analysis.simulation.costs_SO)
    yield computed("simulation.draws", "Worlds drawn", draws, "draws", "decision.simulate")


def _weights(inputs: DecisionInputs, mean: float) -> Iterator[Entry]:
    """Yield the weight of each kind of mistake, and the mean over the mistakes that were counted."""
    if not inputs.mistake_weights:
        return
    for row, true in enumerate(inputs.mistake_classes):
        for column, answer in enumerate(inputs.mistake_classes):
            if row != column:
                name, label = f"setting.mistake_weights.{row}.{column}", f"Weight of {true} taken for {answer}"
                value = inputs.mistake_weights[row][column]
                yield _given(name, label, value, "times the usual mistake", inputs, "mistake_weights")
    label = "Mean weight of the mistakes our model made"
    yield computed("mistake_weight", label, mean, "times the usual mistake", "decision.options.mistake_weight")


def _given(name: str, label: str, value: object, unit: str, inputs: DecisionInputs, key: str) -> Entry:
    source = (inputs.source or "decision.yaml") if key in inputs.users else "default of cifarlab"
    plain = value if isinstance(value, (int, float, str, bool)) else None
    return Entry(name, label, _plain(plain), None, None, unit, "assumed", source, "", "")


def _amount(amount: Amount, evidence: Evidence) -> Entry:
    command = evidence.written(amount.key).command if amount.origin == "measured" and not amount.users else ""
    low, base, high = _number(amount.low), _number(amount.base), _number(amount.high)
    whose = f"{amount.source} (set by the user)" if amount.users else amount.source
    return Entry(
        f"amount.{amount.key}", amount.label, base, low, high, amount.unit, amount.origin, whose, amount.date, command
    )


def _facts(inputs: DecisionInputs) -> Iterator[Entry]:
    for name, value in inputs.facts.items():
        unit = next((unit for part, unit in _UNITS.items() if part in name and not name.endswith("must")), "")
        yield _given(f"fact.{name}", name.replace("_", " ").replace(".", ": "), value, unit, inputs, name)


def _accuracy(evidence: Evidence, analysis: Analysis) -> Iterator[Entry]:
    verdict = analysis.verdict

    def measured(
        name: str, label: str, value: float | None, unit: str, where: Written | None = None, **ends: float
    ) -> Entry:
        low, high = _number(ends.get("low")), _number(ends.get("high"))
        at = where or evidence.written("ours.accuracy")
        return Entry(name, label, _plain(value), low, high, unit, "measured", at.source, at.date, at.command)

    low, high = verdict.interval
    yield measured("evidence.correct", "Images classified correctly", evidence.correct, "images")
    yield measured("evidence.total", "Images asked", evidence.total, "images")
    yield measured(
        "evidence.accuracy",
        f"Our accuracy, {evidence.dataset}, {evidence.split}",
        verdict.accuracy,
        "share",
        low=low,
        high=high,
    )
    theirs = evidence.written("vendor.accuracy")
    if evidence.vendor_correct is not None:
        right = evidence.vendor_correct
        yield measured("evidence.vendor_correct", "Images the vendor has right", right, "images", theirs)
    if evidence.paired is not None:
        only_a, only_b = evidence.paired.only_a, evidence.paired.only_b
        yield measured("evidence.only_ours", "Images only our model has right", only_a, "images", theirs)
        yield measured("evidence.only_theirs", "Images only the vendor has right", only_b, "images", theirs)
    for place, value in enumerate(evidence.seed_accuracies):
        where = evidence.seeds_written[place] if evidence.seeds_written else None
        yield measured(f"evidence.seed_accuracy.{place}", f"Accuracy of training {place + 1}", value, "share", where)
    yield measured(
        "evidence.latency_p99_ms", "Time of one answer, 99th percentile", evidence.latency_p99_ms, "milliseconds"
    )
    yield computed(
        "verdict.p_value",
        "Chance of so many correct answers if the claim were our accuracy",
        verdict.p_value,
        "probability",
        "decision.claims.judge_against_claim, exact one-sided binomial test",
    )
    yield computed(
        "verdict.claim_images",
        "Smallest number of images of the claim at which the two are told apart",
        verdict.claim_images,
        "images",
        "decision.claims.judge_against_claim, Newcombe's interval",
    )
    yield computed("verdict.outcome", "Ours against the claim", verdict.outcome, "", "decision.claims")


def _comparison(row: Comparison, analysis: Analysis, evidence: Evidence) -> Iterator[Entry]:
    first = row is analysis.comparisons[0]
    name = "vendor" if first else "".join(c if c.isalnum() else "_" for c in row.name.lower()).strip("_")
    low, high = row.interval or (None, None)
    origin: Origin = row.origin
    ends = _number(low), _number(high)
    yield Entry(
        f"comparison.{name}.accuracy",
        f"Accuracy of {row.name}",
        _plain(row.value),
        ends[0],
        ends[1],
        "share",
        origin,
        f"{row.source} {row.url}".strip(),
        row.date,
        evidence.written("vendor.accuracy").command if first and evidence.paired is not None else "",
    )
    low, high = row.difference_interval or (None, None)
    yield computed(
        f"comparison.{name}.difference",
        f"Ours less {row.name}",
        row.difference_points,
        "points",
        row.test,
        low=low,
        high=high,
    )
    yield computed(f"comparison.{name}.p_value", f"p-value, ours and {row.name}", row.p_value, "probability", row.test)


def _option(option: OptionResult, currency: str) -> Iterator[Entry]:
    name, label = f"option.{option.key}", option.label

    def cost(what: str, words: str, value: float, unit: str = currency, **ends: float) -> Entry:
        return computed(f"{name}.{what}", f"{label}: {words}", value, unit, "decision.costs", **ends)

    yield cost("accuracy", "accuracy on images of the use", option.accuracy, "share")
    yield cost(
        "present_cost",
        "present cost, paid and wrong answers",
        option.present_cost,
        low=option.favourable,
        high=option.unfavourable,
    )
    yield cost("present_expenditure", "present cost, paid", option.present_expenditure)
    yield cost("present_errors", "present cost of wrong answers", option.present_errors)
    yield cost("per_1000_images", "paid for 1,000 images, not discounted", option.per_1000_images)
    yield cost("per_correct", "paid for one correct answer, not discounted", option.per_correct)
    for line, years in option.flows.lines.items():
        for year, amount in zip(option.flows.years, years, strict=True):
            yield cost(f"flow.{_slug(line)}.{year}", f"{line}, year {year}", amount)
    for year, amount in zip(option.flows.years, option.flows.errors, strict=True):
        yield cost(f"flow.errors.{year}", f"wrong answers, year {year}", amount)


def _slug(text: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _hybrid(analysis: Analysis, evidence: Evidence) -> Iterator[Entry]:
    if analysis.hybrid is None:
        return
    for place, (point, cost) in enumerate(analysis.hybrid.candidates):
        name = f"hybrid.curve.{place}"
        at = evidence.written("hybrid.coverage")
        where: tuple[Origin, str, str, str] = ("measured", at.source, at.date, at.command)
        ends = _number(point.interval[0]), _number(point.interval[1])
        threshold = f"at confidence {point.threshold:.4g}"
        yield Entry(
            f"{name}.coverage", f"Share answered {threshold}", _plain(point.coverage), None, None, "share", *where
        )
        yield Entry(
            f"{name}.accuracy", f"Accuracy {threshold}", _plain(point.accuracy), ends[0], ends[1], "share", *where
        )
        yield computed(f"{name}.cost", f"Hybrid {threshold}: present cost", cost, analysis.currency, "decision.costs")
    chosen = analysis.hybrid.point.threshold
    yield computed("hybrid.threshold", "Confidence at which the hybrid costs least", chosen, "share", "decision")


def _break_even(even: BreakEven) -> Entry:
    name = f"break_even.{'_'.join(sorted((even.first, even.second), key=lambda key: (key != 'build', key)))}"
    if not even.with_errors:
        name += ".paid_only"
    low, high = even.interval or (None, None)
    source = f"decision.breakeven; {100 * even.share_with:.0f} % of the draws have one on this side"
    return computed(name, even.sentence, even.volume, "images per month", source, low=low, high=high)


def _simulation(simulation: Simulation, currency: str) -> Iterator[Entry]:
    source = "decision.simulate"
    for place, option in enumerate(simulation.options):
        levels = simulation.quantiles[option]
        yield computed(
            f"simulation.{option}.mean",
            f"Expected present cost, {option}",
            simulation.mean_O[place],
            currency,
            source,
            low=levels[0.05],
            high=levels[0.95],
        )
        for level, value in levels.items():
            label = f"{100 * level:.0f} % of the draws of {option} cost less"
            yield computed(f"simulation.{option}.quantile.{level}", label, value, currency, source)
        shares = {
            "cheapest": ("cheapest of all", simulation.probability_cheapest),
            "cheapest_admissible": ("cheapest of those that may be chosen", simulation.probability_cheapest_admissible),
        }
        for name, (words, by_option) in shares.items():
            yield computed(f"simulation.{option}.{name}", f"{option}: {words}", by_option[option], "share", source)
        regret = simulation.expected_regret[option]
        yield computed(f"simulation.{option}.regret", f"Expected regret of {option}", regret, currency, source)
    knowing = simulation.value_of_knowing
    yield computed("simulation.value_of_knowing", "Knowing every amount would save", knowing, currency, source)


def _switches(analysis: Analysis) -> Iterator[Entry]:
    for switch in analysis.switches:
        side = "above" if switch.value > switch.expected else "below"
        where = "within its range" if switch.inside else "outside its range"
        label = f"{switch.label}: {side} it {switch.becomes} costs the least on average ({where})"
        yield computed(f"switch.{switch.key}.{side}", label, switch.value, switch.unit, "decision.breakeven")
    for key, switch in sorted({switch.key: switch for switch in analysis.switches}.items()):
        label = f"{switch.label}: mean over the draws"
        yield computed(f"switch.{key}.expected", label, switch.expected, switch.unit, "decision.simulate.draw")


def _tornado(analysis: Analysis) -> Iterator[Entry]:
    if analysis.tornado is None:
        return
    first, second = analysis.tornado.first, analysis.tornado.second
    label = f"Present cost of {second} less that of {first}"
    yield computed("tornado.base", label, analysis.tornado.base, analysis.currency, "decision.simulate.tornado")
    for bar in analysis.tornado.bars:
        for name, value in (("at_low", bar.at_low), ("at_high", bar.at_high)):
            words = f"{label}, {bar.label} {name.replace('_', ' ')}"
            source = "decision.simulate.tornado"
            yield computed(f"tornado.{bar.key}.{name}", words, value, analysis.currency, source)
        correlation = bar.rank_correlation
        yield computed(f"tornado.{bar.key}.rank", f"Rank correlation, {bar.label}", correlation, "", "Spearman")


def _gates(analysis: Analysis) -> Iterator[Entry]:
    for gate in analysis.gates:
        must = "must be met" if gate.must else "wished"
        yield computed(f"gate.{gate.option}.{gate.name}", f"{gate.sentence} ({must})", gate.state, "", "decision.gates")


def _risks(analysis: Analysis) -> Iterator[Entry]:
    for risk in analysis.risks:
        for name, value in (("probability", risk.probability), ("impact", risk.impact)):
            label = f"{risk.name}: {name}, judged from 1 to 3"
            yield Entry(
                f"risk.{_slug(risk.name)}.{name}", label, value, None, None, "of 3", "assumed", risk.source, "", ""
            )


def _advice(analysis: Analysis) -> Iterator[Entry]:
    advice, test = analysis.advice, analysis.advice.next_test
    yield computed("advice.answer", "Answer", advice.answer, "", "decision.recommend")
    yield computed("advice.confidence", advice.confidence_reason, advice.confidence, "", "decision.recommend")
    yield computed("advice.next_test.images", test.what, test.num_images, "images", "decision.next_test")
    yield computed(
        "advice.next_test.difference",
        "Difference it finds four times in five",
        test.difference_points,
        "points",
        "decision.next_test",
    )
    yield computed("advice.next_test.days", "Its days of work", test.days, "days", "decision.next_test")
    yield computed("advice.next_test.cost", "Its cost", test.cost, analysis.currency, "decision.next_test")
