"""Our accuracy beside others': the vendor's claim, the best published figure, people."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from cifarlab.decision.claims import STATE_OF_THE_ART, Claim, Verdict, as_stated, judge_against_claim, percent
from cifarlab.decision.findings import Comparison
from cifarlab.decision.given import CLAIMED_DATASET, Amount, Evidence, Origin
from cifarlab.stats import wilson_interval

_ALPHA = 0.05

# images that a published figure was counted on, where the source says so: then it has an interval of its own
PUBLISHED: tuple[tuple[Claim, int | None, str], ...] = (
    (STATE_OF_THE_ART, 10_000, "2018-11-16"),
    (
        Claim(
            name="people (CIFAR-10H)",
            accuracy=0.952,  # counted from the published cifar10h-counts.npy: 486,656 of 511,000 answers
            status="published; 2,571 people, some 51 answers to each of the 10,000 test images, 95.2 % of them right",
            source="Peterson et al. (2019), Human uncertainty makes classification more robust",
            url="https://arxiv.org/abs/1908.07086",
        ),
        None,
        "2019-08-19",
    ),
    (
        Claim(
            name="people (Ho-Phuoc)",
            accuracy=0.939,
            status="published; 60 people, 1,000 test images each",
            source="Ho-Phuoc (2018), CIFAR10 to compare visual recognition performance between deep neural "
            "networks and humans",
            url="https://arxiv.org/abs/1811.07270",
        ),
        None,
        "2018-11-18",
    ),
    (
        Claim(
            name="one person (Karpathy)",
            accuracy=0.94,
            status="published; one person on 400 images",
            source="Karpathy (2011), Lessons learned from manually classifying CIFAR-10",
            url="https://karpathy.github.io/2011/04/27/manually-classifying-cifar10/",
        ),
        400,
        "2011-04-27",
    ),
)


def two_proportions(correct_a: int, total_a: int, correct_b: int, total_b: int) -> tuple[tuple[float, float], float]:
    """Compare two accuracies counted on different images.

    Args:
        correct_a: Right answers of a.
        total_a: Images asked of a, at least 1.
        correct_b: Right answers of b.
        total_b: Images asked of b, at least 1.

    Returns:
        Newcombe's 95 % interval of the difference a - b, fractions, and the two-sided p-value of Fisher's exact test.

    References:
        Newcombe (1998), "Interval estimation for the difference between independent proportions", method 10, Statistics
        in Medicine 17, 873-890; Fisher (1922), J. Royal Stat. Soc. 85, 87-94.
    """
    from scipy.stats import fisher_exact
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(
        correct_a, total_a, correct_b, total_b, method="newcomb", compare="diff", alpha=_ALPHA
    )
    table = [[correct_a, total_a - correct_a], [correct_b, total_b - correct_b]]
    return (float(low), float(high)), float(fisher_exact(table)[1])


def judge(evidence: Evidence, claim: float, against: Comparison) -> Verdict:
    """Return our accuracy against the claim; that it cannot be said where the two are about different images.

    Args:
        evidence: What was measured of our model.
        claim: The vendor's claimed accuracy.
        against: The two side by side; where the claim's number of images is known, its interval decides.
    """
    verdict = judge_against_claim(evidence.correct, evidence.total, claim)
    low, high = (percent(end) for end in verdict.interval)
    ours = f"Our model gets {percent(verdict.accuracy)} of {verdict.total:,} test images"
    if not evidence.meets_claim:
        sentence = (
            f"{ours} of {evidence.dataset} right (95\u00a0% interval {low} to {high}); the claimed {as_stated(claim)} "
            f"is for {CLAIMED_DATASET} and cannot be set against it."
        )
        unknown = math.nan
        return replace(
            verdict,
            outcome="undecided",
            difference_points=unknown,
            p_value=unknown,
            claim_images=None,
            sentence=sentence,
        )
    if evidence.paired is not None or against.difference_interval is None:
        return verdict
    ends = against.difference_interval
    outcome: Literal["better", "worse", "undecided"] = (
        "better" if ends[0] > 0 else "worse" if ends[1] < 0 else "undecided"
    )
    side = "above" if outcome == "better" else "below"
    told = (
        f"with the sampling error of both, the two cannot be told apart ({ends[0]:+.1f} to {ends[1]:+.1f} points)"
        if outcome == "undecided"
        else f"that is {abs(verdict.difference_points):.1f} points {side}, beyond the sampling error of both"
    )
    sentence = f"{ours} right (95\u00a0% interval {low} to {high}); the vendor claims {as_stated(claim)}: {told}."
    return replace(verdict, outcome=outcome, sentence=sentence)


def compare_with_others(
    evidence: Evidence, vendor: Amount, name: str, claim_images: int | None, *, published: bool
) -> tuple[Comparison, ...]:
    """Return our accuracy beside the vendor's and, for CIFAR-10, beside published figures.

    Args:
        evidence: What was measured of our model; with the vendor's predictions on the same images the comparison is a
            paired one.
        vendor: The vendor's claimed accuracy.
        name: Of the vendor.
        claim_images: Number of images the claim rests on; None where it is unknown.
        published: Whether the figures published for CIFAR-10 may be set beside ours.
    """
    rows = [_vendor_row(evidence, vendor, name, claim_images)]
    if published:
        rows += [_row(evidence, claim, images, date) for claim, images, date in PUBLISHED]
    return tuple(rows)


def _vendor_row(evidence: Evidence, vendor: Amount, name: str, claim_images: int | None) -> Comparison:
    if evidence.paired is None or evidence.vendor_correct is None:
        claim = Claim(name, vendor.base, "claimed by the vendor, not measured by us", vendor.source)
        if not evidence.meets_claim:
            return _other_images(evidence, claim, vendor.date, vendor.origin)
        return _row(evidence, claim, claim_images, vendor.date, vendor.origin)
    paired, value = evidence.paired, evidence.vendor_correct / evidence.total
    interval = wilson_interval(evidence.vendor_correct, evidence.total)
    points = 100 * paired.difference
    ends = (100 * paired.interval[0], 100 * paired.interval[1])
    apart = ", a difference beyond chance" if paired.p_exact < _ALPHA else ", which may be chance"
    how = f"{abs(points):.1f} points {'better' if points > 0 else 'worse'} than"
    if points == 0:
        how, apart = "right as often as", ""
    sentence = (
        f"On the same {evidence.total:,} images our model is {how} {name}'s ({ends[0]:+.1f} to {ends[1]:+.1f}){apart}: "
        f"{paired.only_a:,} images only ours has right, {paired.only_b:,} only theirs."
    )
    return Comparison(
        name=name,
        value=value,
        interval=interval,
        origin="measured",
        difference_points=points,
        difference_interval=ends,
        p_value=paired.p_exact,
        test="McNemar, exact, the same images",
        sentence=sentence,
        source=evidence.written("vendor.accuracy").source,
        url="",
        date=evidence.written("vendor.accuracy").date,
    )


def _other_images(evidence: Evidence, claim: Claim, date: str, origin: Origin) -> Comparison:
    ours = evidence.correct / evidence.total
    sentence = (
        f"Our {percent(ours)} were counted on {evidence.dataset}, {claim.name}'s {as_stated(claim.accuracy)} are for "
        "CIFAR-10: the two cannot be compared."
    )
    return Comparison(
        name=claim.name,
        value=claim.accuracy,
        interval=None,
        origin=origin,
        difference_points=math.nan,
        difference_interval=None,
        p_value=None,
        test="none: not the same kind of images",
        sentence=sentence,
        source=claim.source,
        url=claim.url,
        date=date,
    )


def _row(evidence: Evidence, claim: Claim, images: int | None, date: str, origin: Origin = "quoted") -> Comparison:
    ours = evidence.correct / evidence.total
    points = 100 * (ours - claim.accuracy)
    if images is None:
        interval, ends, p_value = None, None, None
        low, high = wilson_interval(evidence.correct, evidence.total)
        told = (low > claim.accuracy) or (high < claim.accuracy)
        test = "interval of ours against the figure as it stands; the number of images behind it cannot be used"
    else:
        theirs = round(claim.accuracy * images)
        interval = wilson_interval(theirs, images)
        difference, p_value = two_proportions(evidence.correct, evidence.total, theirs, images)
        ends = (100 * difference[0], 100 * difference[1])
        told = ends[0] > 0 or ends[1] < 0
        test = "two proportions, taken as counted on different images (Newcombe's interval, Fisher's exact test)"
    side = "above" if points > 0 else "below"
    apart = f"{abs(points):.1f} points {side}" if told else "not told apart from"
    stated = "claimed" if claim.status.startswith("claimed") else "published"
    sentence = f"Our {percent(ours)} is {apart} the {stated} {as_stated(claim.accuracy)} of {claim.name}."
    return Comparison(
        name=claim.name,
        value=claim.accuracy,
        interval=interval,
        origin=origin,
        difference_points=points,
        difference_interval=ends,
        p_value=p_value,
        test=test,
        sentence=sentence,
        source=claim.source,
        url=claim.url,
        date=date,
    )
