"""The charts of the decision: from an analysis to drawings that follow the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cifarlab.decision import Analysis, Bar, CoveragePoint, Evidence, OptionResult
from cifarlab.decision.analysis import base_values, prepare
from cifarlab.decision.costs import present_costs
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.decision.wording import value_with_unit
from cifarlab.phrases import count
from cifarlab.plots.decision import (
    Axis,
    Lever,
    Row,
    Series,
    bar_chart,
    histogram_chart,
    interval_chart,
    line_chart,
    tornado_chart,
)
from cifarlab.reporting.sources import Judged
from cifarlab.reporting.words import money, percent, share_tick, tick

_MOST_LEVERS = 10
_MOST_PARTS = 7
_BINS = 40
_TAIL = 0.005  # share of the draws beyond either end of the histogram, which are counted in its last bins
_NO_UNIT = ("factor", "times")  # the label says of what
_STYLES = {"nothing": 4, "buy": 1, "adapt": 3, "build": 2, "hybrid": 0}
_TOWERS = 3.0  # an option so many times as dear as the next would press all others against the axis


def accuracy_chart(analysis: Analysis, judged: Judged) -> Markup:
    """Draw our accuracy beside what others state."""
    low, high = judged.headline["interval"]
    ours = Row("Our model", judged.headline["value"], (low, high), percent(judged.headline["value"]), strong=True)
    others = [
        Row(f"{one.name} ({one.origin})", one.value, one.interval, percent(one.value, 1), one.origin)
        for one in analysis.comparisons
    ]
    rows = sorted([ours, *others], key=lambda row: row.value)
    start = max(0.0, min(row.ends[0] if row.ends else row.value for row in rows) - 0.06)
    alt = "Accuracy. " + " ".join(f"{row.name}: {row.text}." for row in rows)
    return interval_chart(rows, share_tick, alt, ends=(start, 1.0))


def option_chart(analysis: Analysis) -> Markup:
    """Draw the present cost of each option: base value, and with everything in its favour or against it."""
    rows = [
        Row(
            option.label,
            option.present_cost,
            (option.favourable, option.unfavourable),
            money(option.present_cost),
            "computed",
            option.key == analysis.advice.leaning,
        )
        for option in analysis.options
    ]
    alt = f"Cost over {count(analysis.horizon_years, 'year')} in {analysis.currency}. "
    alt += " ".join(f"{o.label}: {money(o.favourable)} to {money(o.unfavourable)}." for o in analysis.options)
    most = max(option.unfavourable for option in analysis.options)
    return interval_chart(rows, tick, alt, ends=(0.0, 1.03 * most))


def parts_chart(options: Sequence[OptionResult]) -> Markup:
    """Draw what each option's cost consists of, at base values and discounted; the smallest parts are put together."""
    sums = [_parts(option) for option in options]
    total: dict[str, float] = {}
    for parts in sums:
        for name, size in parts.items():
            total[name] = total.get(name, 0.0) + size
    kept = sorted((name for name in total if total[name] > 0), key=lambda name: -total[name])[:_MOST_PARTS]
    rows = []
    for option, parts in zip(options, sums, strict=True):
        rest = sum(size for name, size in parts.items() if name not in kept)
        rows.append((option.label, [*((name, parts.get(name, 0.0)) for name in kept), ("Other", rest)]))
    alt = "What each option costs. " + " ".join(
        f"{name}: {', '.join(f'{part} {money(size)}' for part, size in row if size > 0)}." for name, row in rows
    )
    return bar_chart(rows, money, alt)


def _parts(option: OptionResult) -> dict[str, float]:
    flows = option.flows
    parts = {name: _present(line, flows.discount) for name, line in flows.lines.items()}
    return {**parts, "Wrong answers": _present(flows.errors, flows.discount)}


def _present(line: Sequence[float], discount: Sequence[float]) -> float:
    return float(sum(paid * factor for paid, factor in zip(line, discount, strict=True)))


def tornado(analysis: Analysis) -> Markup | None:
    """Draw which amounts decide between the two best options; nothing where there is only one."""
    if analysis.tornado is None or not analysis.tornado.bars:
        return None
    bars = [bar for bar in analysis.tornado.bars if bar.swing > 0][:_MOST_LEVERS]
    levers = [
        Lever(bar.label, bar.at_low, bar.at_high, *(_short(bar, end) for end in (bar.low, bar.high))) for bar in bars
    ]
    if not levers:
        return None
    alt = "Difference in cost over the range of each assumption. " + " ".join(
        f"{one.name}: {money(one.low)} at {one.low_text}, {money(one.high)} at {one.high_text}." for one in levers
    )
    return tornado_chart(levers, analysis.tornado.base, tick, alt)


def _short(bar: Bar, value: float) -> str:
    """Return a value for the end of a bar: with its unit, unless the bar's label says what is counted."""
    what = bar.unit.partition(" per ")[0]
    told = what != "share" and (what in _NO_UNIT or what in bar.label.lower())
    return money(value) if told else value_with_unit(value, what)


def chance_chart(analysis: Analysis) -> Markup | None:
    """Draw the difference in cost of the option that is the best and its rival over all draws."""
    if analysis.tornado is None:
        return None
    first, second = analysis.tornado.first, analysis.tornado.second
    difference_S = _difference(analysis)
    low, high = np.quantile(difference_S, [_TAIL, 1 - _TAIL])
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if high <= low:
        return None
    width = (high - low) / _BINS
    # bins that meet at zero, so that none lies on both sides
    below, above = int(np.ceil(-low / width - 1e-9)), int(np.ceil(high / width - 1e-9))
    edges = width * np.arange(-below, above + 1)
    counts, _ = np.histogram(np.clip(difference_S, edges[0], edges[-1]), edges)
    names = {option.key: option.label for option in analysis.options}
    share = float((difference_S > 0).mean())
    alt = f"Out of {len(difference_S):,} draws {percent(share, 0)} make {names[first]} cheaper than {names[second]}"
    sides = (f"{names[second]} is cheaper", f"{names[first]} is cheaper")
    return histogram_chart(edges.tolist(), counts.tolist(), tick, alt, sides)


def _difference(analysis: Analysis) -> NDArray[np.float64]:
    assert analysis.tornado is not None
    simulation = analysis.simulation
    first, second = (simulation.options.index(key) for key in (analysis.tornado.first, analysis.tornado.second))
    difference_S: NDArray[np.float64] = simulation.costs_SO[:, second] - simulation.costs_SO[:, first]
    return difference_S


def share_cheaper(analysis: Analysis) -> float | None:
    """Return in which share of the draws the best option is cheaper than the next; None where there is only one."""
    return None if analysis.tornado is None else float((_difference(analysis) > 0).mean())


def coverage_chart(points: Sequence[CoveragePoint], chosen: CoveragePoint | None) -> Markup | None:
    """Draw accuracy of the answers that are kept, against the share that is kept."""
    kept = sorted((one for one in points if one.coverage > 0), key=lambda one: one.coverage)
    if len(kept) < 2:
        return None
    line = [(one.coverage, one.accuracy) for one in kept]
    band = [(one.coverage, *one.interval) for one in kept if one.num_images >= 30]
    lowest = min([value for _, value in line] + [low for _, low, _ in band])
    mark = (chosen.coverage, chosen.accuracy, f"from confidence {percent(chosen.threshold, 1)}") if chosen else None
    alt = f"Of all answers {percent(line[-1][1])} are right, of the surest tenth {percent(_at(line, 0.1))}"
    return line_chart(
        [Series("our model", line, 2, band)],
        Axis("share of the images our model answers itself", share_tick, (0.0, 1.0)),
        Axis("right among those", share_tick, (max(0.0, lowest - 0.005), 1.0)),
        alt,
        mark,
    )


def _at(line: Sequence[tuple[float, float]], coverage: float) -> float:
    return next((value for share, value in line if share >= coverage), line[-1][1])


def hybrid_chart(analysis: Analysis) -> Markup | None:
    """Draw what the hybrid costs against the share of the images that goes to the vendor."""
    hybrid = analysis.hybrid
    if hybrid is None or len(hybrid.candidates) < 2:
        return None
    line = sorted((1 - point.coverage, cost) for point, cost in hybrid.candidates)
    costs = [cost for _, cost in line]
    room = 0.08 * (max(costs) - min(costs) or max(costs))
    chosen = (1 - hybrid.point.coverage, hybrid.present_cost, f"least: {money(hybrid.present_cost)}")
    alt = f"Cost of the hybrid: least where {percent(1 - hybrid.point.coverage, 0)} of the images go to the vendor"
    return line_chart(
        [Series("hybrid", line, 0)],
        Axis("share of the images sent to the vendor", share_tick, (0.0, max(0.01, line[-1][0]))),
        Axis(_cost_axis(analysis), tick, (min(costs) - room, max(costs) + room)),
        alt,
        chosen,
    )


def _cost_axis(analysis: Analysis) -> str:
    return f"present cost over {count(analysis.horizon_years, 'year')}, {analysis.currency}"


@dataclass(frozen=True)
class VolumeChart:
    """What each option costs at other numbers of images.

    Attributes:
        drawing: The chart.
        left_out: Labels of options that lie far above it.
    """

    drawing: Markup
    left_out: tuple[str, ...]


def volume_chart(inputs: DecisionInputs, evidence: Evidence, analysis: Analysis) -> VolumeChart:
    """Draw the present cost of each option against the images a month, all else at its most likely value."""
    setting, amounts, _, _ = prepare(inputs, evidence)
    base = base_values(amounts)
    even = next((one for one in analysis.break_evens if {one.first, one.second} == {"build", "buy"}), None)
    expected = base["volume.images_per_month"]
    crossing = even.volume if even and even.volume is not None and even.volume < 4 * expected else None
    most = max(2 * expected, 1.4 * (crossing or 0.0)) or 1.0
    ends = [present_costs({**base, "volume.images_per_month": volume}, setting) for volume in (0.0, most)]
    costs = {option.key: (float(ends[0][option.key]), float(ends[1][option.key])) for option in analysis.options}
    names = {option.key: option.label for option in analysis.options}
    kept = sorted(costs, key=lambda key: costs[key][1])
    while len(kept) > 2 and costs[kept[-1]][1] > _TOWERS * costs[kept[-2]][1]:
        kept.pop()
    series = [Series(names[key], list(zip((0.0, most), costs[key], strict=True)), _STYLES[key]) for key in kept]
    top = 1.05 * max(max(costs[key]) for key in kept)
    mark = None
    if crossing is not None and "build" in kept and "buy" in kept:
        start, end = costs["build"]
        mark = (crossing, start + (end - start) * crossing / most, f"break-even: {money(crossing)}")
    alt = f"Cost against images a month, up to {money(most)}. " + " ".join(
        f"{names[key]}: from {money(costs[key][0])} to {money(costs[key][1])}." for key in kept
    )
    across = Axis("images a month, first year", tick, (0.0, most))
    up = Axis(_cost_axis(analysis), tick, (0.0, top))
    left_out = tuple(names[key] for key in costs if key not in kept)
    return VolumeChart(line_chart(series, across, up, alt, mark), left_out)
