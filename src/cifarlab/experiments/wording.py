"""Wording: findings as sentences that say what the tests support and nothing else; the answer comes first.

"Beats" is written of a supported pair only, and "cannot be told apart" of pairs that were tested and are not supported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from cifarlab.differences import detectable_difference, seeds_needed
from cifarlab.experiments.budgets import equal_budgets
from cifarlab.experiments.caveats import Sentence, caveats
from cifarlab.experiments.findings import ALPHA, ArmSummary, Effects, Findings, Pair, pooled_sd
from cifarlab.phrases import (
    NO_SPREAD,
    beyond_images_clause,
    count,
    interval,
    listed,
    number,
    p_text,
    p_value,
    per_cent,
    points,
    resolution,
    seeds_of,
    short_names,
)

RESOLUTIONS = (0.001, 0.002, 0.005)
"""Differences in accuracy for which the number of seeds is told."""

_CLAIMS = 4  # so many differences are spelt out in one sentence; the tables hold all


def tell(findings: Findings) -> list[Sentence]:
    """Return what a study says, the answer to its question first."""
    if not findings.judged:
        return [Sentence("answer", "No trial is finished, so nothing can be said."), *caveats(findings)]
    if len(findings.arms) == 1:
        return [*_one_arm(findings.judged[0]), *_parts(findings), *caveats(findings)]
    told, compared = [_ranking(findings)], [findings]
    if findings.effects is not None and any(findings.effects.pairs.values()):
        effects = list(_effects(findings.effects))
        # an average over fields that depend on each other answers nothing
        arms_first = findings.effects.interacts
        told = [*told, *effects] if arms_first else [*effects[:-1], f"The arms one by one: {told[0]}", effects[-1]]
    elif budgets := equal_budgets(findings):
        answer = " ".join(f"With {budget.words}: {_ranking(budget.findings)}" for budget in budgets)
        told = [answer, f"All arms together, whatever they cost: {told[0]}"]
        compared = [*(budget.findings for budget in budgets), findings]
    texts = [*told, *_more_findings(findings), *_other_images(compared)]
    sentences = [Sentence("answer", texts[0]), *(Sentence("finding", text) for text in texts[1:])]
    sentences += [Sentence("open", text) for text in _open(findings)]
    return [*sentences, *_parts(findings), *caveats(findings)]


def claims(pairs: Sequence[Pair], names: dict[str, str] | None = None) -> str:
    """Return "silu by 0.80 points [0.32, 1.28] and tanh by …" of pairs with one and the same winner."""
    names = names or {}
    told = [f"{names.get(p.second, p.second)} by {points(p.result.difference, p.result.interval)}" for p in pairs]
    return listed(told, _CLAIMS)


def contenders(findings: Findings) -> tuple[ArmSummary, list[Pair], list[Pair]]:
    """Return the arm with the best mean of those compared, the pairs it wins, and those where nothing is shown."""
    tested = [arm for arm in findings.judged if arm.n > 1]
    of_best = [pair for pair in findings.pairs if pair.first == tested[0].label]
    return tested[0], [p for p in of_best if p.supported], [p for p in of_best if not p.supported]


def _ranking(findings: Findings) -> str:
    """Return what the comparison of all arms says, in one or two sentences."""
    tested = [arm for arm in findings.judged if arm.n > 1]
    if len(tested) < 2:
        top = findings.judged[0]
        few = f"Only {tested[0].label} has two seeds or more" if tested else "One seed"
        text = f"{few}: nothing can be said about differences."
        if len(findings.judged) == 1:
            return f"{text} Its mean is {per_cent(top.mean)}; of the other arms none has a result."
        rest = "the others are single draws" if tested else "the figures are single draws"
        return (
            f"{text} The highest figure is {top.label}'s, {per_cent(top.mean)}, but {rest}, and the order of the arms "
            "may be luck."
        )
    best, won, level = contenders(findings)
    seeds = seeds_of(arm.n for arm in tested)
    if won and not level:
        return f"{best.label} is best{_of_all(len(tested), len(findings.arms))} and beats {claims(won)}."
    names = [pair.second for pair in level]
    if won:
        if _lead([best.label, *names], tested, findings.pairs):
            head = f"{listed([best.label, *names])} lead and cannot be told apart with {seeds}"
            return f"{head}; {best.label} beats {claims(won)}."
        return f"{best.label} beats {claims(won)}; {listed(names)} cannot be told apart from it with {seeds}."
    if shown := _claimed(findings):
        told = "; ".join(f"{pair.first} beats {claims([pair])}" for pair in shown)
        head = f"{best.label} has the highest mean, but cannot be told apart from any other arm with {seeds}"
        return f"{head}. Shown: {told}."
    if len(tested) == 2:
        return (
            f"{best.label} and {names[0]} cannot be told apart with {seeds}: the difference is "
            f"{points(level[0].result.difference, level[0].result.interval)}."
        )
    widest = level[-1]
    return (
        f"With {seeds} no difference between the {len(tested)} arms is shown; the largest, {widest.first} over "
        f"{widest.second}, is {points(widest.result.difference, widest.result.interval)}."
    )


def _lead(names: list[str], tested: Sequence[ArmSummary], pairs: Sequence[Pair]) -> bool:
    """Return whether these arms are the best ones, alike, and each of them told apart from every other arm."""
    below = [arm.label for arm in tested[len(names) :]]
    shown = {(pair.first, pair.second) for pair in pairs if pair.supported}
    alike = not any((one, other) in shown for one in names for other in names)
    apart = all((one, other) in shown for one in names for other in below)
    return [arm.label for arm in tested[: len(names)]] == names and alike and apart


def _of_all(compared: int, arms: int) -> str:
    """Return among how many the best is the best; an arm that could not be compared may be better."""
    if compared < arms:
        return f" of the {compared} compared"
    return f" of {compared}" if compared > 2 else ""


def _more_findings(findings: Findings) -> Iterator[str]:
    shown = [pair for pair in findings.pairs if pair.supported]
    if not shown:
        return
    _, won, _ = contenders(findings)
    total = len(findings.pairs)
    if len(shown) == total > 1:
        yield f"All {total} pairs of arms are told apart; the table of pairs has the differences."
    elif len(shown) > len(won):
        yield f"Of the {total} pairs of arms {len(shown)} are told apart; the table of pairs has all of them."


def _other_images(compared: Sequence[Findings]) -> Iterator[str]:
    """Say whether what is claimed of the arms, all or those of a budget, would hold on other images too."""
    claimed = list(dict.fromkeys(pair for findings in compared for pair in _claimed(findings)))
    counted = [pair for pair in claimed if pair.new_images is not None]
    weak = [pair for pair in counted if pair.new_images and pair.new_images[0] <= 0]
    images = f"{compared[0].evidence.num_images:,} images"
    for pair in weak[:_CLAIMS]:
        assert pair.new_images is not None
        yield (
            f"The difference between {pair.first} and {pair.second} is shown for these {images} of val only: for other "
            f"images of the same kind it may lie anywhere in {interval(pair.new_images)} points."
        )
    if len(weak) > _CLAIMS:
        yield f"So it is with {len(weak) - _CLAIMS} more of the differences; the table of pairs has them."
    if claimed and len(counted) == len(claimed) and not weak:
        one = f"interval of the difference between {claimed[0].first} and {claimed[0].second} still leaves"
        whose = one if len(claimed) == 1 else "intervals of the differences between arms told above still leave"
        yield f"With the choice of the {images} of val counted as chance too, the {whose} zero out."


def _claimed(findings: Findings) -> list[Pair]:
    """Return the pairs of arms that the ranking says are told apart."""
    won = contenders(findings)[1] if findings.pairs else []
    return won or [pair for pair in findings.pairs if pair.supported][:_CLAIMS]


def _open(findings: Findings) -> Iterator[str]:
    """Say what the study leaves open, and what it would take to settle it."""
    if not findings.pairs:
        return
    _, _, level = contenders(findings)
    if level:
        ends = [pair.result.interval for pair in level if not math.isnan(pair.result.interval[0])]
        best, others = level[0].first, "the other" if len(level) == 1 else "one of the others"
        if any(low < 0 for low, _ in ends):
            up, down = max(high for _, high in ends), max(-low for low, _ in ends)
            yield (
                f"Not told apart does not mean equal: {best} may be better than {others} by up to {points(up)}, or "
                f"worse by up to {points(down)} (ends of the 95 % intervals)."
            )
    near = [pair for pair in level if pair.result.p_value() < ALPHA]
    if near:
        told = [f"{p.first} over {p.second} ({p_text(p.result.p_value())} alone, {_adjusted(p)})" for p in near]
        tests = "pair" if len(findings.pairs) == 1 else f"{len(findings.pairs)} pairs"
        yield (
            f"A hint, no finding after the correction for {tests}: {listed(told, 3)}. Seeds added because of a hint "
            "make a second look: judge fresh ones on their own, in a study with another train.seed."
        )
    labels = {pair.second for pair in level} | {level[0].first} if level else {arm.label for arm in findings.arms}
    rivals = [arm for arm in findings.judged if arm.label in labels and arm.n > 1]
    yield from _seeds(pooled_sd([arm.values for arm in rivals]), min(arm.n for arm in rivals), rivals)


def _adjusted(pair: Pair) -> str:
    return f"{p_value(pair.p_adjusted)} corrected"


def _seeds(sd: float, n: int, arms: Sequence[ArmSummary]) -> Iterator[str]:
    """Say how many seeds would show a difference, and what these have shown, given the spread of these arms."""
    if not sd > 0:
        return
    first, *others = [(resolution(step), seeds_needed(sd, step)) for step in RESOLUTIONS]
    more = "; ".join(f"{needed:,} for {step}" for step, needed in others)
    within = f" within {listed([arm.label for arm in arms])}" if len(arms) > 1 else ""
    two = "two arms" if len(arms) > 1 else "two such configurations"
    yield (
        f"Seeds differ by {points(sd)} (standard deviation{within}). To find a true difference of {first[0]} between "
        f"{two}, comparing them alone and in four studies of five, {first[1]:,} seeds each would be needed; {more}. "
        f"{count(n, 'seed').capitalize()} would find one of {points(detectable_difference(sd, n))}."
    )


def _one_arm(arm: ArmSummary) -> Iterator[Sentence]:
    """Say what to expect from one run of a single configuration."""
    if arm.n == 1:
        text = (
            f"One seed of {arm.label} reached {per_cent(arm.mean)}; nothing can be said about the spread of its runs."
        )
        yield Sentence("answer", text)
        return
    if not arm.sd > 0:
        text = f"All {count(arm.n, 'seed')} of {arm.label} reached {per_cent(arm.mean)}: {NO_SPREAD}"
        yield Sentence("answer", f"{text}, so nothing can be said about how far single runs differ.")
        return
    from scipy.stats import chi2, t

    freedom = arm.n - 1
    quantile = float(t.ppf(0.975, freedom))
    half = quantile * arm.sd * math.sqrt(1 + 1 / arm.n)
    low, high = max(0.0, arm.mean - half), min(1.0, arm.mean + half)
    yield Sentence(
        "answer",
        f"Expect {per_cent(arm.mean)} from {arm.label}, and of a single run anything from {number(100 * low)} to "
        f"{per_cent(high)} (95 % of single runs; {count(arm.n, 'seed')}, standard deviation {points(arm.sd)}).",
    )
    ends = tuple(arm.sd * math.sqrt(freedom / float(chi2.ppf(q, freedom))) for q in (0.975, 0.025))
    yield Sentence(
        "finding",
        f"The mean over seeds lies in {interval(arm.interval)} %, the standard deviation between seeds in "
        f"{interval((ends[0], ends[1]))} points (95 % each).",
    )
    two = quantile * math.sqrt(2) * arm.sd
    yield Sentence(
        "finding",
        f"One run tells what the recipe reaches on average to within ± {points(quantile * arm.sd)}. Two single runs of "
        f"this one configuration differ by up to {points(two)} in 95 % of cases, so a smaller difference between two "
        "single runs shows nothing.",
    )
    yield from (Sentence("finding", text) for text in _seeds(arm.sd, arm.n, [arm]))


def _effects(effects: Effects) -> Iterator[str]:
    """Say what each field of a grid does, averaged over the others; last, whether that depends on the others."""
    short = short_names(effects.grid.factors)
    # what is shown comes first
    for name, pairs in sorted(effects.pairs.items(), key=lambda item: not any(pair.supported for pair in item[1])):
        others = [short[other] for other in effects.grid.factors if other != name]
        yield f"{short[name]}, averaged over {listed(others)}: {_levels(effects, name, pairs)}"
    fields, p = listed(list(short.values())), p_text(effects.p_interaction)
    if effects.interacts:
        yield (
            f"The effects of {fields} depend on each other ({p} after correction): the averages hold for no single "
            "combination; look at the arms one by one."
        )
    elif math.isnan(effects.p_interaction):
        yield f"Whether the effects of {fields} depend on each other cannot be tested with these trials."
    else:
        yield f"Whether the effects of {fields} depend on each other remains open ({p} after correction)."


def _levels(effects: Effects, name: str, pairs: Sequence[Pair]) -> str:
    """Return what is shown about the values of one field."""
    levels = sorted((level for level in effects.levels if level.factor == name), key=lambda level: -level.mean)
    named = {f"{name} {level.value}": level.value for level in levels}
    best = levels[0]
    won = [p for p in pairs if named[p.first] == best.value and p.supported]
    won.sort(key=lambda pair: pair.result.difference)
    beaten = {named[pair.second] for pair in won}
    level = [one.value for one in levels[1:] if one.value not in beaten]
    seeds = count(best.n, "seed")
    if won:
        rest = f"; {listed(level)} cannot be told apart from it with {seeds}" if level else ""
        return f"{best.value} beats {claims(won, named)}{rest}."
    shown = [pair for pair in pairs if pair.supported]
    if shown:
        told = "; ".join(f"{named[pair.first]} beats {claims([pair], named)}" for pair in shown[:_CLAIMS])
        return f"{best.value} has the highest mean, but cannot be told apart with {seeds}. Shown: {told}."
    widest = max(pairs, key=lambda pair: pair.result.difference)
    size = points(widest.result.difference, widest.result.interval)
    if len(levels) == 2:
        return f"no difference is shown with {seeds}; {named[widest.first]} less {named[widest.second]} is {size}."
    first, second = named[widest.first], named[widest.second]
    return f"no difference is shown with {seeds}; the largest, {first} over {second}, is {size}."


def _parts(findings: Findings) -> Iterator[Sentence]:
    """Tell chance from the seed and chance from the choice of images apart, for the best arm that allows it."""
    for arm in findings.judged:
        parts = findings.variance.get(arm.label)
        if parts is None or parts.few_seeds:
            continue
        yield Sentence(
            "finding",
            f"Two kinds of chance, as standard deviations of one run of {arm.label}: the seed moves its accuracy on "
            f"these {parts.num_images:,} images by {points(parts.seed_sd)}, the choice of the images by "
            f"{points(parts.sampling_sd)}; {beyond_images_clause(parts.distribution_seed_sd)}.",
        )
        return
