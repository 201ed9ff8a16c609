"""Budgets: the arms of an uneven study that had the same number of epochs, or about the same compute.

Where arms differ in what they cost, the best of all of them may only have had the most. Among arms of one budget it had
not, so a study is answered budget by budget where it has some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cifarlab.experiments.findings import ArmSummary, Findings

_SAME_COMPUTE = 1.2
"""The dearest of the arms that are compared takes at most so many times the compute of the cheapest."""
_FEWEST = 3


@dataclass(frozen=True)
class Budget:
    """Arms that had the same.

    Attributes:
        words: What they had, such as "3 epochs each".
        findings: The study's findings about these arms alone; corrected for all its pairs, as they are there.
    """

    words: str
    findings: Findings


def equal_budgets(findings: Findings) -> list[Budget]:
    """Return the budgets that at least three arms had, with two seeds or more, and others had not.

    Args:
        findings: Of all arms. Where they form a grid, or cost the same, there are no budgets to tell apart.
    """
    tested = sorted((arm for arm in findings.judged if arm.n > 1), key=lambda arm: arm.pflop)
    known = bool(tested) and all(arm.pflop > 0 for arm in tested)
    if findings.effects is not None or not known or tested[-1].pflop <= _SAME_COMPUTE * tested[0].pflop:
        return []
    epochs, amount = Counter(arm.epochs for arm in tested).most_common(1)[0]
    by_epochs = [arm for arm in tested if arm.epochs == epochs] if amount < len(tested) else []
    from_each = (
        [dear for dear in tested[n:] if dear.pflop <= _SAME_COMPUTE * tested[n].pflop] for n in range(len(tested))
    )
    by_compute = max(from_each, key=len)
    ends = [f"{arm.pflop:.2g}" for arm in (by_compute[0], by_compute[-1])]
    pflop = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
    budgets = {f"{epochs:g} {'epoch' if epochs == 1 else 'epochs'} each": by_epochs}
    if {arm.label for arm in by_epochs} == {arm.label for arm in by_compute}:
        budgets.clear()
    budgets[f"about the same compute ({pflop} PFLOP a run)"] = by_compute
    return [Budget(words, _only(findings, arms)) for words, arms in budgets.items() if len(arms) >= _FEWEST]


def _only(findings: Findings, arms: Sequence[ArmSummary]) -> Findings:
    labels = {arm.label for arm in arms}
    return replace(
        findings,
        arms=tuple(arm for arm in findings.arms if arm.label in labels),
        pairs=tuple(pair for pair in findings.pairs if {pair.first, pair.second} <= labels),
    )
