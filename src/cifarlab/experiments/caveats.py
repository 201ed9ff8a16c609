"""Caveats: what a reader must know before believing a study: cost, exact tests, missing trials, odd spreads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cifarlab.experiments.findings import ALPHA, ArmSummary, Findings, Pair
from cifarlab.phrases import NO_SPREAD, count, listed, p_text, p_value, per_cent, times

_EQUAL_COST = 1.02  # compute that differs by less is called equal: batches are rounded
_UNSTEADY = 4.0  # a spread so many times that of the middle arm is worth a word
_FEWEST_SEEDS = 3  # two show such a spread by chance in every seventh study of equally steady arms
_MOST_SEEDS = 1000
_STATES = {"waiting": "not begun"}


@dataclass(frozen=True)
class Sentence:
    """What is to be said on one matter.

    Attributes:
        kind: The answer to the study's question; a further finding; what remains open; a warning about the figures.
        text: Plain text.
    """

    kind: Literal["answer", "finding", "open", "warning"]
    text: str


def caveats(findings: Findings) -> Iterator[Sentence]:
    """Say what limits the findings: first what supports them after all, then warnings, the gravest first."""
    confirmed, doubted = _permutation(findings)
    equal_cost, cost = _cost(findings)
    yield from (Sentence("finding", text) for text in (confirmed, equal_cost) if text)
    warnings = [*_completeness(findings), *findings.evidence.remarks]
    warnings += [*_spreads(findings), *_guessing(findings), cost, *_machines(findings), doubted]
    yield from (Sentence("warning", text) for text in warnings if text)


def _completeness(findings: Findings) -> Iterator[str]:
    done = sum(arm.n for arm in findings.arms)
    states: Counter[str] = Counter()
    for arm in findings.arms:
        states.update(arm.unfinished)
    failed = states.pop("failed", 0)
    if states:
        told = listed([f"{amount} {_STATES.get(state, state)}" for state, amount in sorted(states.items())])
        yield (
            f"The study is not complete: {done} of {findings.planned} trials are finished ({told}). What is said here "
            "can still change."
        )
    if failed:
        where = [f"{arm.unfinished['failed']} of {arm.label}" for arm in findings.arms if arm.unfinished.get("failed")]
        yield (
            f"{count(failed, 'trial').capitalize()} failed ({listed(where)}). An arm is judged by its other seeds, "
            "which flatters one whose training fails."
        )
    empty = [arm.label for arm in findings.arms if not arm.n]
    if empty and len(empty) < len(findings.arms):
        yield f"No trial of {listed(empty)} is finished: no place in the comparison."
    single = [arm.label for arm in findings.arms if arm.n == 1]
    if single and any(arm.n > 1 for arm in findings.arms):
        yield (
            f"{listed(single)} {'has' if len(single) == 1 else 'have'} one finished seed: shown, but left out of all "
            "comparisons."
        )


def _spreads(findings: Findings) -> Iterator[str]:
    tested = [arm for arm in findings.judged if arm.n > 1]
    lost = _lost(findings)
    still = [arm.label for arm in tested if arm.sd == 0 and arm.label not in lost]
    if still:
        yield (
            f"All seeds of {listed(still)} reached the same accuracy ({NO_SPREAD}, which does not show that there "
            "is none): check that the seed reaches the run, for tests take the trials for independent."
        )
    if len(tested) < 3:
        return
    usual = sorted(arm.sd for arm in tested)[len(tested) // 2]
    for arm in tested:
        if arm.n >= _FEWEST_SEEDS and arm.sd > _UNSTEADY * usual > 0:
            yield (
                f"{arm.label} is unsteady: its seeds range from {per_cent(arm.lowest)} to {per_cent(arm.highest)}. "
                "The tests allow for unequal spreads; a mean says little about such an arm."
            )


def _guessing(findings: Findings) -> Iterator[str]:
    if lost := _lost(findings):
        yield (
            f"No seed of {listed(lost)} did clearly better than answering one class always "
            f"({per_cent(findings.evidence.guessing)})."
        )


def _lost(findings: Findings) -> list[str]:
    """Return the arms of which no seed is beyond what answering the most frequent class gives, but for chance."""
    guessing, total = findings.evidence.guessing, findings.evidence.num_images
    if math.isnan(guessing) or not total:
        return []
    limit = guessing + 2 * math.sqrt(guessing * (1 - guessing) / total)
    return [arm.label for arm in findings.judged if arm.highest <= limit]


def _cost(findings: Findings) -> tuple[str, str]:
    """Return a sentence if the arms cost the same compute, and one if they do not; empty where it is unknown."""
    known = [arm for arm in findings.judged if arm.pflop > 0]
    if len(known) < 2:
        return "", ""
    cheapest, dearest = min(known, key=lambda arm: arm.pflop), max(known, key=lambda arm: arm.pflop)
    ratio = dearest.pflop / cheapest.pflop
    if ratio <= _EQUAL_COST:
        return f"All arms cost the same compute ({dearest.pflop:.2g} PFLOP a run).", ""
    return "", (
        f"The arms did not cost the same: {dearest.label} took {times(ratio)} the compute of {cheapest.label} "
        f"({dearest.pflop:.2g} against {cheapest.pflop:.2g} PFLOP a run){_best_cost(known, cheapest, dearest)}. "
        "A lead may be what the compute bought."
    )


def _best_cost(known: Sequence[ArmSummary], cheapest: ArmSummary, dearest: ArmSummary) -> str:
    best = known[0]
    if best.label in (cheapest.label, dearest.label):
        return ""
    return f"; {best.label}, which has the highest mean, took {times(best.pflop / cheapest.pflop)} the least"


def _machines(findings: Findings) -> Iterator[str]:
    machines = {str(one.get("gpu") or one.get("cpu")) for one in findings.evidence.environments}
    if len(machines) > 1:
        yield f"The trials ran on {count(len(machines), 'kind')} of machine: their clocks cannot be compared."


def _permutation(findings: Findings) -> tuple[str, str]:
    """Return a sentence if the permutation test agrees with all claims, and one if it does not or cannot."""
    families = _families(findings)
    claims = [pair for pairs, _ in families for pair in pairs if pair.supported]
    if not claims:
        return "", ""
    exact = "exact " if all(pair.result.permutation_exact for pair in claims) else ""
    test = f"The {exact}permutation test, which assumes no shape of the distribution of accuracies,"
    doubtful = [pair for pair in claims if pair.p_permutation_adjusted >= ALPHA]
    if not doubtful:
        what = "this" if len(claims) == 1 else f"all {len(claims)} differences told apart"
        return f"{test} confirms {what}, corrected likewise.", ""
    which = "this" if len(claims) == 1 else "these claims"
    if len(doubtful) < len(claims):
        which = f"{len(doubtful)} of the {len(claims)} differences told apart"
    # by how much the smallest of a family's p-values is multiplied
    factor = len(families) * max(tests for pairs, tests in families if any(pair in pairs for pair in doubtful))
    smallest = max(pair.result.smallest_p for pair in doubtful)
    if factor * smallest < ALPHA:
        told = [f"{pair.first} over {pair.second} ({p_text(pair.p_permutation_adjusted)})" for pair in doubtful]
        return "", f"{test} does not confirm {which} after correction: {listed(told, 3)}."
    seeds = next((n for n in range(2, _MOST_SEEDS) if factor * 2 / math.comb(2 * n, n) < ALPHA), _MOST_SEEDS)
    correction = f", {p_value(min(1.0, factor * smallest))} after correction" if factor > 1 else ""
    return "", (
        f"{test} cannot confirm {which} with so few seeds: the smallest p it can give is "
        f"{p_value(smallest)}{correction}; with {count(seeds, 'seed')} an arm it could."
    )


def _families(findings: Findings) -> list[tuple[tuple[Pair, ...], int]]:
    """Return the pairs that are corrected together, with the number of tests they share the correction with."""
    families = [(findings.pairs, len(findings.pairs))]
    if findings.effects is not None:
        pairs = tuple(pair for some in findings.effects.pairs.values() for pair in some)
        interaction = 0 if math.isnan(findings.effects.p_interaction) else 1
        families.append((pairs, len(pairs) + interaction))
    return families
