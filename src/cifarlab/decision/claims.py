"""Build or buy: what a measured accuracy says about a claimed one, and what follows from it.

The comparison is of one kind only: our accuracy, counted image by image, against a figure that somebody quotes. The
claim is taken at face value, as the vendor's true accuracy on the same benchmark, because its predictions are not at
hand. That is the reading most favourable to the vendor; it is an assumption and every page says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cifarlab.stats import wilson_interval

CONFIDENCE = 0.95
_MOST_IMAGES = 10**9  # beyond any test set: a difference that needs more is not distinguishable


@dataclass(frozen=True)
class Claim:
    """An accuracy that somebody else states.

    Attributes:
        name: Whose it is.
        accuracy: Fraction in (0, 1).
        status: How far it can be trusted, in words.
        source: Where it is written.
        url: Where to read it; empty where there is no public page.
    """

    name: str
    accuracy: float
    status: str
    source: str
    url: str = ""


VENDOR = Claim(
    name="Detectocorp",
    accuracy=0.70,
    status="claimed by the vendor, not measured by us; number of test images unknown",
    source="the vendor's offer",
)
STATE_OF_THE_ART = Claim(
    name="GPipe",
    accuracy=0.99,
    status="published; an AmoebaNet of 557 million parameters, pre-trained on ImageNet",
    source="Huang et al. (2019), GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism",
    url="https://arxiv.org/abs/1811.06965",
)


@dataclass(frozen=True)
class Verdict:
    """A measured accuracy against a claimed one.

    Attributes:
        outcome: "better" or "worse" where the interval excludes the claim, else "undecided".
        accuracy: Measured, a fraction.
        interval: Wilson 95 % interval of it, fractions.
        total: Images it was counted on.
        claim: The claimed accuracy, a fraction.
        difference_points: Measured minus claimed, in percentage points.
        p_value: Exact one-sided binomial probability of so many correct or more if the true accuracy were the claim.
        claim_images: Smallest number of images the claim must have been measured on for the difference to exceed the
            sampling error of both; None where no number would do.
        sentence: The above in plain words.
    """

    outcome: Literal["better", "worse", "undecided"]
    accuracy: float
    interval: tuple[float, float]
    total: int
    claim: float
    difference_points: float
    p_value: float
    claim_images: int | None
    sentence: str


def judge_against_claim(correct: int, total: int, claim: float) -> Verdict:
    """Compare a counted accuracy with a claim that is taken as a fixed number.

    The outcome follows the two-sided Wilson interval, so it is "better" only where even the interval's lower end
    exceeds the claim. The p-value is that of the exact one-sided test and serves as a second opinion; close to the
    border the two may differ, as approximate and exact methods do.

    Args:
        correct: Images classified correctly, 0..total.
        total: Images asked, at least 1.
        claim: Claimed accuracy, in (0, 1).

    Raises:
        ValueError: If the numbers are no accuracies.

    References:
        Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212.
    """
    if not 0 < claim < 1:
        raise ValueError(f"a claimed accuracy must lie in (0, 1), not {claim}")
    from scipy.stats import binomtest

    low, high = wilson_interval(correct, total, CONFIDENCE)
    outcome: Literal["better", "worse", "undecided"] = "undecided"
    if low > claim:
        outcome = "better"
    elif high < claim:
        outcome = "worse"
    accuracy = correct / total
    p_value = float(binomtest(correct, total, claim, alternative="greater").pvalue)
    images = None if outcome == "undecided" else _claim_images(correct, total, claim)
    points = 100 * (accuracy - claim)
    sentence = _verdict_sentence(outcome, accuracy, (low, high), total, claim)
    return Verdict(outcome, accuracy, (low, high), total, claim, points, p_value, images, sentence)


def _claim_images(correct: int, total: int, claim: float) -> int | None:
    """Return the smallest n at which a claim measured on n images differs from ours beyond both sampling errors.

    Newcombe's interval of a difference of two independent proportions must exclude zero. It shrinks as n grows, so
    bisection finds the smallest n.

    References:
        Newcombe (1998), "Interval estimation for the difference between independent proportions", method 10,
        Statistics in Medicine 17, 873-890.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep

    def distinguishable(images: int) -> bool:
        low, high = confint_proportions_2indep(
            correct, total, claim * images, images, method="newcomb", compare="diff", alpha=1 - CONFIDENCE
        )
        return bool(low > 0 or high < 0)

    too_few, enough = 0, 1
    while not distinguishable(enough):
        too_few, enough = enough, 2 * enough
        if enough > _MOST_IMAGES:
            return None
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if distinguishable(middle) else (middle, enough)
    return enough


def _verdict_sentence(outcome: str, accuracy: float, interval: tuple[float, float], total: int, claim: float) -> str:
    low, high = (percent(end) for end in interval)
    measured = f"Our model gets {percent(accuracy)} of {total:,} test images right (95\u00a0% interval {low} to {high})"
    points = abs(100 * (accuracy - claim))
    if outcome == "undecided":
        return f"{measured}; the interval holds the claimed {as_stated(claim)}, so the two cannot be told apart."
    side = "above" if outcome == "better" else "below"
    return f"{measured}; that is {points:.1f} points {side} the claimed {as_stated(claim)}, beyond sampling error."


def percent(fraction: float, digits: int = 2) -> str:
    """Return a fraction as per cent, with a space that no line break may take."""
    return f"{100 * fraction:.{digits}f}\u00a0%"


def as_stated(fraction: float) -> str:
    """Return somebody else's figure as per cent with all its decimals: rounded, it might change sides with ours."""
    return percent(fraction, 4).replace("\u00a0%", "").rstrip("0").rstrip(".") + "\u00a0%"


@dataclass(frozen=True)
class Recommendation:
    """What to do, why, and what would change it.

    Attributes:
        answer: What to do.
        sentence: The answer as one sentence.
        reasons: Why, most important first.
        conditions: What must hold or be done before the answer is acted on.
        would_change_it: Findings that would overturn it.
    """

    answer: Literal["build", "buy", "measure first"]
    sentence: str
    reasons: tuple[str, ...]
    conditions: tuple[str, ...]
    would_change_it: tuple[str, ...]


_CONDITIONS = (
    "Before anything classified by either model steers a vehicle, both are measured on our own labelled camera images. "
    "CIFAR-10 holds 32 by 32 pixel pictures of ten kinds of things, not road scenes.",
    "Detectocorp is asked for its predictions on the same images, so that the comparison becomes a paired one.",
    "The full costs of both ways (people, data, operation, licence) are compared, with prices of one's own.",
)


def recommend(verdict: Verdict, diagnosis: str = "unknown") -> Recommendation:
    """Turn the comparison into advice.

    A better accuracy never leads to less confidence in building: the order is buy, measure first, build.

    Args:
        verdict: Our model against the vendor's claim.
        diagnosis: What the curves of our run say (cifarlab.diagnosis): where they do not show that it was long enough
            and its model large enough, an accuracy below the claim says little about what we could build, and no
            purchase rests on it.
    """
    trained_out = diagnosis in ("neither", "overfits")
    if verdict.outcome == "better":
        return _recommend_build(verdict)
    if verdict.outcome == "worse" and trained_out:
        return _recommend_buy(verdict)
    return _recommend_measuring(verdict)


def _recommend_build(verdict: Verdict) -> Recommendation:
    room = 100 * (STATE_OF_THE_ART.accuracy - verdict.accuracy)
    reasons = [
        "On the one benchmark for which the vendor gives a figure, our model is "
        f"{verdict.difference_points:.1f} points better: {_errors(verdict.accuracy)} errors in 100 images "
        f"instead of {_errors(verdict.claim)}.",
        "The comparison favours the vendor: its claim is taken at face value, and ours is counted image by image.",
        "We own the weights, the code and the evidence; the run can be repeated with one command.",
    ]
    if verdict.claim_images is not None:
        reasons.insert(
            1,
            f"The vendor does not say on how many images it tested. If {_images(verdict.claim_images)} or more, "
            "the difference is beyond the sampling error of both.",
        )
    if room > 0:
        reasons.append(
            f"There is room to grow: the best published model is {room:.1f} points above ours, with pre-training on "
            "ImageNet and 557 million parameters."
        )
    return Recommendation(
        "build",
        "Build our own classifier, and do not buy on the strength of the vendor's claim.",
        tuple(reasons),
        _CONDITIONS,
        (
            "On our own images, Detectocorp's model proves better than ours in a paired test.",
            "Costs, latency or staffing make operating our own model dearer than the licence, for the accuracy gained.",
            "The vendor's figure turns out to be for a harder task than CIFAR-10's ten classes.",
        ),
    )


def _recommend_buy(verdict: Verdict) -> Recommendation:
    return Recommendation(
        "buy",
        "On accuracy alone, buy, once the vendor has proved its claim; our model does not reach it.",
        (
            f"On CIFAR-10 our model is {-verdict.difference_points:.1f} points below what the vendor claims.",
            "Its curves show no sign that merely training it longer would close the gap.",
        ),
        (
            "The vendor shows its claimed accuracy on images it has not seen before, before a contract is signed.",
            *_CONDITIONS,
        ),
        (
            "A stronger recipe of ours reaches the claim: published models show that CIFAR-10 allows 99\u00a0%.",
            "The vendor's claim cannot be confirmed.",
        ),
    )


def _recommend_measuring(verdict: Verdict) -> Recommendation:
    if verdict.outcome == "worse":
        reason = (
            f"Our model is {-verdict.difference_points:.1f} points below the claim, but its curves do not show that it "
            "was trained out: this is not yet the best that we could build."
        )
        next_step = "Train a full recipe with a validation split, then judge again."
    else:
        reason = (
            f"The interval of our accuracy, from {verdict.total:,} images, holds the claim: no difference is shown."
        )
        next_step = "Train a stronger recipe or test on more images, then judge again."
    return Recommendation(
        "measure first",
        "Measure first: this run does not show whether our model or the vendor's is better.",
        (reason, "A decision on this evidence would rest on chance or on an unfinished model."),
        (next_step, *_CONDITIONS),
        ("An interval that lies wholly above the claim speaks for building, one wholly below it for buying.",),
    )


def _errors(accuracy: float) -> str:
    wrong = 100 * (1 - accuracy)
    return f"{wrong:.0f}" if wrong >= 9.95 else f"{wrong:.1f}"


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number:,} images"
