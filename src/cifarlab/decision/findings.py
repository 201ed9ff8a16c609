"""What comes out as advice: gates, comparisons, risks, the answer, the ledger. Plain dataclasses, no logic.

Accuracies are fractions; money is in the currency of the inputs, at today's prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cifarlab.decision.claims import Verdict
from cifarlab.decision.given import Amount, OptionKey, Origin
from cifarlab.decision.results import BreakEven, HybridChoice, OptionResult, Simulation, Switch, Tornado

State = Literal["met", "failed", "unknown"]


@dataclass(frozen=True)
class Gate:
    """One requirement and one option.

    Attributes:
        name: Of the requirement: 'latency', 'privacy', 'accuracy', 'licence'.
        option: Which option.
        must: Whether an option that fails it is out.
        state: 'met', 'failed' or 'unknown'.
        sentence: What is required, what is known.
    """

    name: str
    option: OptionKey
    must: bool
    state: State
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Our accuracy beside another's.

    Attributes:
        name: Whose.
        value: Accuracy, a fraction.
        interval: 95 % interval; None where the number of images is unknown.
        origin: 'measured', 'quoted' or 'assumed'.
        difference_points: Ours minus theirs, in points; NaN where the images are not of one kind.
        difference_interval: 95 % interval of it, in points; None where theirs has none.
        p_value: Of the test named; None where there is none.
        test: Its name, in words.
        sentence: In plain words.
        source: Where the figure is from.
        url: Where to read it.
        date: ISO date.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    origin: Origin
    difference_points: float
    difference_interval: tuple[float, float] | None
    p_value: float | None
    test: str
    sentence: str
    source: str
    url: str
    date: str


@dataclass(frozen=True)
class Risk:
    """One line of the risk register.

    Attributes:
        name: What could go wrong.
        why: The fact it rests on, with date.
        options: Which options it touches.
        probability: 1 (unlikely), 2 (possible), 3 (likely) over the horizon; judged, not measured.
        impact: 1 (nuisance), 2 (months or a five-figure sum), 3 (stops the product).
        owner: Role that keeps watch.
        mitigation: What to do.
        source: Of the fact.
    """

    name: str
    why: str
    options: tuple[OptionKey, ...]
    probability: int
    impact: int
    owner: str
    mitigation: str
    source: str

    @property
    def score(self) -> int:
        """Return probability times impact, 1..9."""
        return self.probability * self.impact


@dataclass(frozen=True)
class NextTest:
    """The cheapest test that could change the answer.

    Attributes:
        what: In one sentence.
        num_images: Own labelled images to show to the vendor and to us.
        difference_points: True difference, in points, that it finds four times in five (exact McNemar test, 5 %).
        cost: Of labels, calls and the people's days.
        days: Of work.
        sentence: Why so many, and what follows from each outcome.
    """

    what: str
    num_images: int
    difference_points: float
    cost: float
    days: float
    sentence: str


@dataclass(frozen=True)
class KeyFigure:
    """One of the three figures the answer rests on.

    Attributes:
        label: What it is.
        text: The figure with unit and interval, as a person reads it.
        entry: Id of its line in the ledger.
        origin: Of the figure.
    """

    label: str
    text: str
    entry: str
    origin: Origin


@dataclass(frozen=True)
class Advice:
    """What to do, how sure that is, and what would change it.

    Attributes:
        answer: The option, or 'measure first' where the evidence does not carry any.
        leaning: The option that would be chosen if one had to be today; None where every one fails a requirement.
        headline: The answer as one sentence.
        confidence: 'high', 'moderate' or 'low'.
        confidence_reason: The rule that gives this word, applied.
        figures: The three figures it rests on.
        reasons: Why, most important first.
        changes: What would change it: values inside their range at which another option becomes the cheapest first.
        next_test: The cheapest test that could change it.
        conditions: What must hold or be done before it is acted on.
    """

    answer: Literal["nothing", "buy", "adapt", "build", "hybrid", "measure first"]
    leaning: OptionKey | None
    headline: str
    confidence: Literal["high", "moderate", "low"]
    confidence_reason: str
    figures: tuple[KeyFigure, ...]
    reasons: tuple[str, ...]
    changes: tuple[str, ...]
    next_test: NextTest
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
        id: Stable name, such as 'option.build.present_cost'.
        label: In plain words.
        value: The figure; None where it is not known or not defined. Text and truth values stay what they are.
        low: Lower end of its interval or range; None without one.
        high: Upper end.
        unit: Of all three.
        origin: 'measured', 'quoted', 'assumed' or 'computed'.
        source: Where it comes from; for computed ones the function.
        date: ISO date; '' where none is known.
        command: What gives it again; '' for what somebody else stated.
    """

    id: str
    label: str
    value: float | int | str | bool | None
    low: float | None
    high: float | None
    unit: str
    origin: Origin
    source: str
    date: str
    command: str


@dataclass(frozen=True)
class Analysis:
    """Everything the report shows of the decision.

    Attributes:
        currency: Such as 'USD'.
        horizon_years: Years that count.
        amounts: All figures that go in, by key, the measured accuracy among them, in the order of decision.yaml.
        verdict: Our accuracy against the vendor's claim.
        comparisons: Our accuracy beside the vendor's, GPipe's and people's.
        options: All options, in the order do nothing, buy, adapt, build, hybrid (absent without a coverage curve).
        hybrid: Its threshold; None without a coverage curve.
        break_evens: Of build against buy, with and without the cost of errors, and of each other pair with build.
        switches: Nearest value below and above base of each amount that has one; nearest to its base first.
        tornado: Which amounts decide between the best two.
        simulation: The Monte Carlo draws.
        gates: Each requirement for each option.
        risks: The register, highest score first.
        advice: The recommendation.
        assumptions: What the model takes for granted, in sentences.
        ledger: Every figure, in a stable order.
    """

    currency: str
    horizon_years: int
    amounts: Mapping[str, Amount]
    verdict: Verdict
    comparisons: tuple[Comparison, ...]
    options: tuple[OptionResult, ...]
    hybrid: HybridChoice | None
    break_evens: tuple[BreakEven, ...]
    switches: tuple[Switch, ...]
    tornado: Tornado | None
    simulation: Simulation
    gates: tuple[Gate, ...]
    risks: tuple[Risk, ...]
    advice: Advice
    assumptions: tuple[str, ...]
    ledger: tuple[Entry, ...]

    def option(self, key: OptionKey) -> OptionResult:
        """Return one option; KeyError if it was not analysed."""
        found = [option for option in self.options if option.key == key]
        if not found:
            raise KeyError(key)
        return found[0]
