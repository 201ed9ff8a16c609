"""Planning: how many seeds a wanted resolution takes, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cifarlab.differences import seeds_needed
from cifarlab.errors import UsageError
from cifarlab.experiments.factors import find_grid
from cifarlab.experiments.findings import ALPHA, pooled_sd
from cifarlab.experiments.study import StudyRecord, StudySpec, headline

PRIOR_SD = 0.005
"""Standard deviation over seeds where nothing else is known.

That of docs/studies, on 5,000 validation images: 0.48 to 0.73 points pooled, of single arms 0.26 to 0.80.
Longer runs judged on more images differ less: 0.23 points on 10,000 (Picard, arXiv 2109.08203).
"""


@dataclass(frozen=True)
class Plan:
    """What it takes to tell two arms apart.

    Attributes:
        difference: Difference in accuracy that is to be shown, a fraction.
        sd: Standard deviation over seeds that the plan assumes, a fraction.
        source: Where ``sd`` comes from, in words.
        seeds: Seeds of each arm, for a two-sided t-test at 5 % of two arms alone that finds the difference in four
            studies of five.
        seeds_corrected: The same after the correction for all pairs of arms, whatever the other pairs come to.
        num_arms: Arms of the study.
        num_done: Trials that are complete already, among those of the plan.
        pflop: Compute of the trials still to be done; NaN where no trial is complete.
        seconds: Their time, one after another; NaN where no trial is complete.
        seconds_corrected: That of the trials of ``seeds_corrected`` that are still to be done; NaN likewise.
    """

    difference: float
    sd: float
    source: str
    seeds: int
    seeds_corrected: int
    num_arms: int
    num_done: int
    pflop: float
    seconds: float
    seconds_corrected: float

    @property
    def num_trials(self) -> int:
        """All trials of the plan."""
        return self.seeds * self.num_arms

    @property
    def num_trials_corrected(self) -> int:
        """All trials where every pair counts after the correction."""
        return self.seeds_corrected * self.num_arms

    @property
    def num_pairs(self) -> int:
        """Pairs of arms that the study compares."""
        return math.comb(self.num_arms, 2)


def plan_study(spec: StudySpec, difference: float, *, record: StudyRecord | None, sd: float | None = None) -> Plan:
    """Plan a study for a wanted resolution.

    Args:
        spec: The study.
        difference: Difference in accuracy that is to be shown, a fraction such as 0.001 for 0.1 point.
        record: What was done of the study already; None for nothing.
        sd: Standard deviation over seeds, a fraction, where the user knows better; else that of the record, pooled over
            its arms, if any arm has two complete seeds; else :data:`PRIOR_SD`.

    Raises:
        UsageError: If difference or sd is no fraction above 0.
    """
    for name, value in (("--plan", difference), ("--sd", sd)):
        if value is not None and not 0 < value < 1:
            raise UsageError(f"{name} is a fraction, such as 0.001 for 0.1 point of accuracy, not {value}")
    done = [trial for trial in record.trials if trial.finished] if record is not None else []
    values = [[headline(trial.figures) for trial in done if trial.arm == arm.label] for arm in spec.arms]
    measured = pooled_sd(values)
    if sd is not None:
        source = "as given"
    elif measured > 0:
        sd, source = measured, f"of the {len(done)} complete trials of this study, within arms"
    else:
        sd, source = PRIOR_SD, "assumed, anything from 0.25 to 0.8 is usual; two or three seeds tell, or --sd"
    seeds = seeds_needed(sd, difference)
    corrected = seeds_needed(sd, difference, alpha=ALPHA / _most_times(spec))
    first = spec.base.train.seed

    def missing(num_seeds: int) -> int:
        return num_seeds * len(spec.arms) - sum(trial.seed < first + num_seeds for trial in done)

    seconds = _mean([trial.seconds for trial in done])
    return Plan(
        difference=difference,
        sd=sd,
        source=source,
        seeds=seeds,
        seeds_corrected=corrected,
        num_arms=len(spec.arms),
        num_done=seeds * len(spec.arms) - missing(seeds),
        pflop=missing(seeds) * _mean([float(trial.figures["compute_pflop"]) for trial in done]),
        seconds=missing(seeds) * seconds,
        seconds_corrected=missing(corrected) * seconds,
    )


def _most_times(spec: StudySpec) -> int:
    """Return by how much the correction multiplies the smallest p-value of a study's pairs; see findings.py."""
    families = 1 if find_grid({arm.label: arm.overrides for arm in spec.arms}) is None else 2
    return families * max(1, math.comb(len(spec.arms), 2))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
