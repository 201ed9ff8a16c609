"""Findings: what the trials of a study show, as figures and tests; wording.py says them in words.

Everything here is a pure function of the record and of what the run folders hold (evidence.py). An arm is judged by the
accuracy on val that its runs would be shipped with: averaged over test-time views where the run has views.

The rule for a claim: the Welch p-value of the pair, corrected by Holm for all pairs, is below 5 %. Where the arms form
a grid the 5 % are shared: half for the arms, half for the effects of single fields and whether they depend on each
other, so that a study without any true difference makes a false claim in at most 5 % of cases.

Accuracies and differences are fractions. Shape suffixes: S seeds, N images.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from cifarlab.differences import (
    SeedDifference,
    VarianceParts,
    compare_seeds,
    holm,
    letter_groups,
    new_images_interval,
    variance_parts,
)
from cifarlab.experiments.evidence import Correct, Evidence, finished
from cifarlab.experiments.factors import Grid, averaged, find_grid, interaction_p
from cifarlab.experiments.study import StudyRecord, headline
from cifarlab.stats import accuracy_interval, mean_and_sd

ALPHA = 0.05


@dataclass(frozen=True)
class ArmSummary:
    """One arm over its finished seeds; every figure is NaN where nothing is known.

    Attributes:
        label: Name of the arm.
        seeds: Finished seeds, ascending.
        values: The accuracy on val that each is judged by.
        mean: Of the values.
        sd: Sample standard deviation between seeds.
        interval: 95 % t-interval of the mean, within [0, 1]; NaN also where no spread was seen.
        lowest: The worst seed's accuracy.
        highest: The best seed's accuracy.
        plain: Mean accuracy on val without test-time views.
        views: Mean accuracy on val with test-time views.
        pflop: Mean compute of one run.
        train_clock_seconds: Mean train clock of one run.
        epochs: Mean number of epochs run, a part of one too.
        train_accuracy: Mean accuracy on augmented training images in the last epoch.
        gap: Mean of train_accuracy less plain; positive where val is worse.
        test: Mean accuracy on test, with views where the runs have them, if every finished seed was evaluated there.
        test_sd: Its standard deviation between seeds.
        unfinished: How many trials of the arm are in every other state.
    """

    label: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    sd: float
    interval: tuple[float, float]
    lowest: float
    highest: float
    plain: float
    views: float
    pflop: float
    train_clock_seconds: float
    epochs: float
    train_accuracy: float
    gap: float
    test: float
    test_sd: float
    unfinished: dict[str, int]

    @property
    def n(self) -> int:
        """Number of finished seeds."""
        return len(self.values)


@dataclass(frozen=True)
class Pair:
    """Two arms, or two values of a factor, compared; the first has the higher mean.

    Attributes:
        first: Name of the one with the higher mean (of equal ones, the earlier).
        second: Name of the other.
        seeds: Seeds of the first and of the second.
        result: Tests and effect sizes.
        p_adjusted: Welch's p-value after correction; the permutation test's where neither arm varies.
        p_permutation_adjusted: The permutation test's after the same correction.
        supported: Whether p_adjusted is below 5 %.
        new_images: 95 % interval of the difference for other images of the same kind as well as other seeds; None where
            predictions are missing or show no spread.
    """

    first: str
    second: str
    seeds: tuple[int, int]
    result: SeedDifference
    p_adjusted: float
    p_permutation_adjusted: float
    supported: bool
    new_images: tuple[float, float] | None = None


@dataclass(frozen=True)
class Level:
    """One value of a factor, averaged over the other factors of the grid.

    Attributes:
        factor: Dotted field name.
        value: Its value as text.
        n: Seeds that every arm of the grid finished.
        mean: Accuracy; NaN without such a seed.
        sd: Between seeds.
        interval: 95 % t-interval of the mean, within [0, 1]; NaN also where no spread was seen.
    """

    factor: str
    value: str
    n: int
    mean: float
    sd: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Effects:
    """Effects of single fields in a grid.

    Attributes:
        grid: The crossing.
        levels: Every value of every factor, in the order of the grid.
        pairs: Pairs of values of one factor, by factor.
        p_interaction: Corrected p-value of "the effect of one field depends on another"; NaN where it cannot be tested.
    """

    grid: Grid
    levels: tuple[Level, ...]
    pairs: dict[str, tuple[Pair, ...]]
    p_interaction: float

    @property
    def interacts(self) -> bool:
        """Whether it is shown that the effect of one field depends on another."""
        return self.p_interaction < ALPHA


@dataclass(frozen=True)
class Findings:
    """What a study shows.

    Attributes:
        arms: Those with a finished seed, best mean first, then the others.
        pairs: Every pair of arms with two seeds or more, by rank of the first, then of the second.
        groups: Names of those arms; within a group no two are told apart, and an arm may be in several.
        pooled_sd: Standard deviation between seeds within arms; NaN where no arm has two seeds.
        variance: Where the variance of each arm comes from, where its predictions are stored.
        effects: Of single fields; None where the arms form no grid.
        planned: Trials the study was to have.
        evidence: What the run folders hold.
    """

    arms: tuple[ArmSummary, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[tuple[str, ...], ...]
    pooled_sd: float
    variance: dict[str, VarianceParts]
    effects: Effects | None
    planned: int
    evidence: Evidence

    @property
    def judged(self) -> list[ArmSummary]:
        """Arms with at least one finished seed, best first."""
        return [arm for arm in self.arms if arm.n]


def find(record: StudyRecord, evidence: Evidence) -> Findings:
    """Summarise and compare the arms of a study.

    Args:
        record: The study; trials that are not finished are counted, not judged.
        evidence: What the folders of the finished trials hold.
    """
    arms = [_summarize(record, arm.label, evidence.test) for arm in record.spec.arms]
    arms.sort(key=lambda arm: -arm.mean if arm.n else math.inf)  # stable: of equal means the first named comes first
    grid = find_grid({arm.label: arm.overrides for arm in record.spec.arms})
    families = 1 if grid is None else 2
    values = {arm.label: arm.values for arm in arms if arm.n > 1}
    pairs = _compare(list(combinations(values, 2)), values, families)
    ranked = letter_groups(list(values), [(pair.first, pair.second) for pair in pairs if pair.supported])
    return Findings(
        arms=tuple(arms),
        pairs=tuple(_with_new_images(pair, evidence.correct_SN) for pair in pairs),
        groups=tuple(tuple(group) for group in ranked),
        pooled_sd=pooled_sd(values.values()),
        variance={label: variance_parts(correct) for label, correct in evidence.correct_SN.items()},
        effects=None if grid is None else _effects(grid, arms, families),
        planned=len(record.spec.arms) * record.spec.seeds,
        evidence=evidence,
    )


def pooled_sd(samples: Sequence[Sequence[float]] | Any) -> float:
    """Return the standard deviation within samples, pooled by degrees of freedom; NaN where none has two values."""
    samples = [sample for sample in samples if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = sum((len(sample) - 1) * mean_and_sd(sample)[1] ** 2 for sample in samples)
    return math.sqrt(squares / freedom) if freedom else math.nan


def _summarize(record: StudyRecord, label: str, test: Mapping[str, Mapping[str, float]]) -> ArmSummary:
    trials = finished(record, label)
    values = tuple(headline(trial.figures) for trial in trials)
    mean, sd = mean_and_sd(values) if values else (math.nan, math.nan)
    others = Counter(str(t.state) for t in record.trials if t.arm == label and not t.finished)
    others["waiting"] += max(0, record.spec.seeds - len(trials) - others.total())
    figures = [trial.figures for trial in trials]
    gaps = [_gap(one) for one in figures]
    tested = [test.get(trial.run.name, {}) for trial in trials]
    on_test = [one.get("test/accuracy_tta", one["test/accuracy"]) for one in tested if "test/accuracy" in one]
    test_mean, test_sd = mean_and_sd(on_test) if values and len(on_test) == len(values) else (math.nan, math.nan)
    return ArmSummary(
        label=label,
        seeds=tuple(trial.seed for trial in trials),
        values=values,
        mean=mean,
        sd=sd,
        interval=accuracy_interval(values) if values else (math.nan, math.nan),
        lowest=min(values, default=math.nan),
        highest=max(values, default=math.nan),
        plain=_mean_of(figures, "val/accuracy"),
        views=_mean_of(figures, "val/accuracy_tta"),
        pflop=_mean_of(figures, "compute_pflop"),
        train_clock_seconds=_mean_of(figures, "train_clock_seconds"),
        epochs=_epochs(record, label, figures),
        train_accuracy=_mean_of(figures, "train/accuracy"),
        gap=math.fsum(gaps) / len(gaps) if gaps and not any(map(math.isnan, gaps)) else math.nan,
        test=test_mean,
        test_sd=test_sd,
        unfinished={state: amount for state, amount in others.items() if amount},
    )


def _epochs(record: StudyRecord, label: str, figures: Sequence[Mapping[str, Any]]) -> float:
    """Return the mean number of epochs; runs count those begun, so that the configured fraction is the truth."""
    overrides = next(arm.overrides for arm in record.spec.arms if arm.label == label)
    configured = float(overrides.get("train.epochs", record.spec.base.train.epochs))
    return _mean_of([{"epochs": min(float(one["epochs"]), configured)} for one in figures if "epochs" in one], "epochs")


def _gap(figures: Mapping[str, Any]) -> float:
    train, val = figures.get("train/accuracy"), figures.get("val/accuracy")
    return math.nan if train is None or val is None else float(train) - float(val)


def _mean_of(figures: Sequence[Mapping[str, Any]], key: str) -> float:
    """Return the mean of a figure that all runs have, else NaN."""
    values = [one.get(key) for one in figures]
    known = [float(value) for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else math.nan


def _compare(
    names: Sequence[tuple[str, str]], values: Mapping[str, Sequence[float]], families: int, extra: Sequence[float] = ()
) -> list[Pair]:
    """Compare pairs of one family; ``extra`` are p-values of other tests that are corrected along with them."""
    means = {name: mean_and_sd(values[name])[0] for pair in names for name in pair}
    ordered = [(a, b) if means[a] >= means[b] else (b, a) for a, b in names]
    results = [compare_seeds(values[a], values[b]) for a, b in ordered]
    adjusted = _adjust([result.p_value() for result in results] + list(extra), families)
    permuted = _adjust([result.p_value("permutation") for result in results] + list(extra), families)
    return [
        Pair(a, b, (len(values[a]), len(values[b])), result, p, p_permuted, p < ALPHA)
        for (a, b), result, p, p_permuted in zip(ordered, results, adjusted[: len(results)], permuted, strict=False)
    ]


def _adjust(p_values: Sequence[float], families: int) -> list[float]:
    """Correct by Holm's method within a family, and by Bonferroni's for the number of families."""
    return [p if math.isnan(p) else min(1.0, families * p) for p in holm(p_values)]


def _effects(grid: Grid, arms: Sequence[ArmSummary], families: int) -> Effects:
    by_seed = {arm.label: dict(zip(arm.seeds, arm.values, strict=True)) for arm in arms}
    samples: dict[tuple[str, str], list[float]] = {}
    for number, (factor, factor_values) in enumerate(zip(grid.factors, grid.values, strict=True)):
        for value in factor_values:
            samples[factor, value] = averaged(grid, number, value, by_seed)
    levels = []
    for (factor, value), sample in samples.items():
        mean, sd = mean_and_sd(sample) if sample else (math.nan, math.nan)
        interval = accuracy_interval(sample) if sample else (math.nan, math.nan)
        levels.append(Level(factor, value, len(sample), mean, sd, interval))
    names = {f"{factor} {value}": sample for (factor, value), sample in samples.items()}
    couples = [
        (f"{factor} {a}", f"{factor} {b}")
        for factor, factor_values in zip(grid.factors, grid.values, strict=True)
        for a, b in combinations(factor_values, 2)
        if len(samples[factor, a]) > 1
    ]
    raw = interaction_p(grid, {arm.label: arm.values for arm in arms})
    tested = _compare(couples, names, families, extra=[raw])
    together = _adjust([*(pair.result.p_value() for pair in tested), raw], families)
    pairs = {f: tuple(pair for pair in tested if pair.first.startswith(f"{f} ")) for f in grid.factors}
    return Effects(grid, tuple(levels), pairs, together[-1])


def _with_new_images(pair: Pair, correct_SN: Mapping[str, Correct]) -> Pair:
    """Add the interval for new images, where the answers are known."""
    if pair.first not in correct_SN or pair.second not in correct_SN:
        return pair
    ends = new_images_interval(correct_SN[pair.first], correct_SN[pair.second], pair.result.interval)
    return pair if math.isnan(ends[0]) else replace(pair, new_images=ends)
