"""Charts of a decision, drawn as SVG that follows the page: accuracies, costs over a volume, chance, what matters most.

Numbers come in plain; how they are written is handed in. Each chart says in ``alt`` what it shows, for those who cannot
see it. A measured figure is a filled dot with the bar of its interval, a quoted one a hollow diamond, an assumed one a
square, a computed one a triangle; lines differ in their dashes and are named where they end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cifarlab.plots.svg import BOLD, LETTER, Canvas, chart, free_place, letters, scale, shortened, spread, ticks

Write = Callable[[float], str]
_ROW = 34.0
_AXIS = 26.0
_NUMBERED = 13.0  # pixels that a part must be wide to hold its number
_LABEL = 30  # letters of a line of a label beside a chart


@dataclass(frozen=True)
class Row:
    """A figure with its interval.

    Attributes:
        name: What it is of.
        value: The figure.
        ends: Of its interval or range; None where there is none.
        text: As it is written beside the mark.
        kind: 'measured', 'quoted', 'assumed' or 'computed'.
        strong: Whether it is what the chart is about.
    """

    name: str
    value: float
    ends: tuple[float, float] | None = None
    text: str = ""
    kind: str = "measured"
    strong: bool = False


def interval_chart(rows: Sequence[Row], write: Write, alt: str, *, ends: tuple[float, float] | None = None) -> Markup:
    """Draw figures below each other, each with its interval as a bar.

    Args:
        rows: At least one.
        write: Writes a value of the axis.
        alt: The chart in words.
        ends: Of the axis; by default what the rows need.
    """
    values = [value for row in rows for value in (row.value, *(row.ends or ()))]
    low, high = ends or _padded(min(values), max(values))

    def draw(canvas: Canvas) -> None:
        left, right, top = _sides(canvas, rows)
        step = _ROW if not canvas.narrow else _ROW + 18
        place = scale(low, high, left, right)
        bottom = top + step * len(rows)
        _axis(canvas, [(place(t), write(t)) for t in ticks(low, high, 3 if canvas.narrow else 6)], top, bottom)
        for number, row in enumerate(rows):
            middle = top + step * (number + 0.5)
            css = "strong" if row.strong else ""
            if canvas.narrow:
                middle += 10
                most = (canvas.width - BOLD * letters(row.text)) / LETTER - 1
                canvas.text(0, middle - 17, shortened(row.name, max(8, int(most)), 1)[0], css)
                canvas.text(canvas.width, middle - 17, row.text, f"value {css}".strip(), "end")
            else:
                _label(canvas, row.name, left - 14, middle, css)
                canvas.text(canvas.width, middle + 4.5, row.text, f"value {css}".strip(), "end")
            canvas.line(left, middle, right, middle, "guide")
            if row.ends:
                start, end = map(place, row.ends)
                canvas.rect(start, middle - 6, end - start, 12, f"band {row.kind}")
            canvas.mark(place(row.value), middle, row.kind, css)
        canvas.height = bottom + _AXIS

    return chart(draw, alt)


def _sides(canvas: Canvas, rows: Sequence[Row]) -> tuple[float, float, float]:
    """Return the left and right end of the axis and its top."""
    if canvas.narrow:
        return 8.0, canvas.width - 14, 4.0
    label = min(240.0, 18 + LETTER * max(letters(row.name) for row in rows))
    return label, canvas.width - 16 - BOLD * max(letters(row.text) for row in rows), 4.0


def _label(canvas: Canvas, name: str, right: float, middle: float, css: str) -> None:
    lines = shortened(name, _LABEL, 2)
    for number, line in enumerate(lines):
        canvas.text(right, middle + 4.5 + 15 * (number - (len(lines) - 1) / 2), line, css, "end")


def _axis(canvas: Canvas, marks: Sequence[tuple[float, str]], top: float, bottom: float) -> None:
    """Draw vertical lines with what they stand for below; texts that would touch are left out."""
    free = -1e9
    for place, text in marks:
        canvas.line(place, top, place, bottom, "grid")
        half = LETTER * len(text) / 2
        at = min(max(place, half), canvas.width - half)
        if at - half > free:
            canvas.text(at, bottom + 17, text, "tick", "middle")
            free = at + half + 6


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.05 * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: What it is.
        points: (x, y), x ascending.
        style: 0 to 5: colour and dashes of charts.css.
        band: (x, low, high) around it; empty for none.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: int
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """An axis: its name, how its values are written, and its ends."""

    name: str
    write: Write
    ends: tuple[float, float]


def line_chart(
    series: Sequence[Series], x: Axis, y: Axis, alt: str, mark: tuple[float, float, str] | None = None
) -> Markup:
    """Draw lines, each named at its end, or above the chart where there is no room beside it.

    Args:
        series: At least one; values outside the axes are drawn at the border.
        x: Axis from left to right.
        y: Axis from bottom to top.
        alt: The chart in words.
        mark: A point to name: x, y, words.
    """

    def draw(canvas: Canvas) -> None:
        beside = 0.0 if canvas.narrow or len(series) == 1 else 20 + LETTER * max(len(s.name) for s in series)
        written = [y.write(t) for t in ticks(*y.ends)]
        left, right = 10 + LETTER * max(map(len, written)), canvas.width - 14 - beside
        top = 28.0 + (20 * len(series) if canvas.narrow and len(series) > 1 else 0)
        bottom = top + (230 if not canvas.narrow else 200)
        across, up = scale(*x.ends, left, right), scale(*y.ends, bottom, top)
        for value, text in zip(ticks(*y.ends), written, strict=True):
            canvas.line(left, up(value), right, up(value), "zero" if value == 0 else "grid")
            canvas.text(left - 8, up(value) + 4.5, text, "tick", "end")
        _axis(canvas, [(across(t), x.write(t)) for t in ticks(*x.ends, 3 if canvas.narrow else 6)], top, bottom)
        canvas.text(0, 12, y.name, "axis")
        canvas.text(right, bottom + 36, x.name, "axis", "end")
        for one in series:
            _series(canvas, one, across, up)
        _names(canvas, series, up, right, top)
        if mark is not None:
            at, words = (across(mark[0]), up(mark[1])), mark[2]
            lines = [[(across(a), up(b)) for a, b in one.points] for one in series]
            canvas.text(*free_place(at, BOLD * len(words), lines, (left, top, right, bottom)), words, "note")
            canvas.mark(*at, "computed", "strong")
        canvas.height = bottom + 46

    return chart(draw, alt)


def _series(canvas: Canvas, one: Series, across: Write2, up: Write2) -> None:
    if one.band:
        above = [(across(at), up(high)) for at, _, high in one.band]
        below = [(across(at), up(low)) for at, low, _ in reversed(one.band)]
        canvas.path([*above, *below], f"area s{one.style}", closed=True)
    canvas.path([(across(at), up(value)) for at, value in one.points], f"series s{one.style}")


def _names(canvas: Canvas, series: Sequence[Series], up: Write2, right: float, top: float) -> None:
    if len(series) == 1:
        return
    if canvas.narrow:
        for number, one in enumerate(series):
            height = 32 + 20 * number
            canvas.path([(2, height - 4), (34, height - 4)], f"series s{one.style}")
            canvas.text(42, height, one.name)
        return
    places = spread([up(one.points[-1][1]) for one in series], 17)
    overflow = max(0.0, max(places) - (top + 232))
    for one, place in zip(series, places, strict=True):
        canvas.path([(right + 4, up(one.points[-1][1])), (right + 14, place - overflow)], f"leader s{one.style}")
        canvas.text(right + 18, place - overflow + 4.5, one.name, f"name s{one.style}")


Write2 = Callable[[float], float]


def histogram_chart(
    edges: Sequence[float], counts: Sequence[int], write: Write, alt: str, sides: tuple[str, str]
) -> Markup:
    """Draw how often values occurred, with a line at zero and what lies on either side of it in words.

    Args:
        edges: Ascending, one more than counts.
        counts: Draws in each bin.
        write: Writes a value of the axis.
        alt: The chart in words.
        sides: What values below and above zero mean.
    """
    low, high = min(edges[0], 0.0), max(edges[-1], 0.0)

    def draw(canvas: Canvas) -> None:
        left, right, top = 8.0, canvas.width - 8, 40.0
        bottom = top + (150 if not canvas.narrow else 130)
        place, tallest = scale(low, high, left, right), max(counts) or 1
        _axis(canvas, [(place(t), write(t)) for t in ticks(low, high, 3 if canvas.narrow else 7)], top, bottom)
        for start, end, count in zip(edges, edges[1:], counts, strict=False):
            if count:
                height = (bottom - top) * count / tallest
                below = (start + end) / 2 < 0
                x = place(start)
                canvas.rect(x, bottom - height, place(end) - x - 1, height, f"bar {'minus' if below else 'plus'}")
        canvas.line(place(0), top - 6, place(0), bottom, "zero")
        canvas.text(0, 14, f"◀ {sides[0]}", "side")
        canvas.text(canvas.width, 14 if not canvas.narrow else 32, f"{sides[1]} ▶", "side", "end")
        canvas.height = bottom + _AXIS

    return chart(draw, alt)


@dataclass(frozen=True)
class Lever:
    """What a result becomes when one assumption moves.

    Attributes:
        name: The assumption.
        low, high: The result at its low and at its high value.
        low_text, high_text: Those two values of the assumption, as written.
    """

    name: str
    low: float
    high: float
    low_text: str
    high_text: str


def tornado_chart(levers: Sequence[Lever], base: float, write: Write, alt: str) -> Markup:
    """Draw, for each assumption, the range of a result over that assumption's range, the widest first.

    Args:
        levers: In the order in which they are drawn; at least one.
        base: The result where all assumptions have their base values.
        write: Writes a value of the axis.
        alt: The chart in words.
    """
    values = [value for lever in levers for value in (lever.low, lever.high)] + [base, 0.0]
    low, high = _padded(min(values), max(values))

    def draw(canvas: Canvas) -> None:
        label = 0.0 if canvas.narrow else min(250.0, 14 + LETTER * max(letters(one.name) for one in levers))
        edge = LETTER * max(len(text) for one in levers for text in (one.low_text, one.high_text)) + 8
        left, right = label + edge, canvas.width - edge
        step, top = (30.0, 4.0) if not canvas.narrow else (48.0, 4.0)
        place, bottom = scale(low, high, left, right), top + step * len(levers)
        _axis(canvas, [(place(t), write(t)) for t in ticks(low, high, 3 if canvas.narrow else 5)], top, bottom)
        upright = [(place(base), "base"), (place(0), "zero")]
        for x, css in upright if not canvas.narrow else ():
            canvas.line(x, top, x, bottom, css)
        for number, one in enumerate(levers):
            middle = top + step * (number + 0.5) + (9 if canvas.narrow else 0)
            if canvas.narrow:
                canvas.text(0, middle - 15, shortened(one.name, int(canvas.width / LETTER), 1)[0])
                for x, css in upright:  # beside the bars alone: names stand where the lines would run
                    canvas.line(x, middle - 10, x, middle + 10, css)
            else:
                _label(canvas, one.name, label, middle, "")
            _lever(canvas, one, place, base, middle)
        canvas.height = bottom + _AXIS

    return chart(draw, alt)


def _lever(canvas: Canvas, one: Lever, place: Write2, base: float, middle: float) -> None:
    for result, text, css in ((one.low, one.low_text, "at-low"), (one.high, one.high_text, "at-high")):
        start, end = sorted((place(base), place(result)))
        canvas.rect(start, middle - 8, end - start, 16, f"lever {css}")
        rightwards = result > base or (result == base and css == "at-high")
        at = end + 6 if rightwards else start - 6
        canvas.text(at, middle + 4.5, text, "tick", "start" if rightwards else "end")


def bar_chart(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], write: Write, alt: str) -> Markup:
    """Draw stacked bars below each other, such as what each option spends on what.

    Parts carry the number that they have in the legend, since eight colours are too many to be told apart.

    Args:
        rows: Name, and its parts: name and size, none below zero. The same parts in all rows, in one order.
        write: Writes a sum.
        alt: The chart in words.
    """
    drawn = {name for _, parts in rows for name, size in parts if size > 0}
    names = [name for name, _ in rows[0][1] if name in drawn]
    most = max(sum(size for _, size in parts) for _, parts in rows) or 1.0

    def draw(canvas: Canvas) -> None:
        texts = [write(sum(size for _, size in parts)) for _, parts in rows]
        label = 0.0 if canvas.narrow else 14 + LETTER * max(len(name) for name, _ in rows)
        right = canvas.width - 14 - BOLD * max(map(len, texts))
        top = 8 + _legend(canvas, names)
        step = 32.0 if not canvas.narrow else 46.0
        place = scale(0, most, label, right)
        for number, (name, parts) in enumerate(rows):
            middle = top + step * (number + 0.5) + (8 if canvas.narrow else 0)
            canvas.text(
                0 if canvas.narrow else label - 12,
                middle + (4.5 if not canvas.narrow else -14),
                name,
                "",
                "start" if canvas.narrow else "end",
            )
            at = 0.0
            for part, size in parts:
                if size > 0:
                    width, which = place(at + size) - place(at), names.index(part)
                    canvas.rect(place(at), middle - 9, width, 18, f"part p{which}")
                    if width >= _NUMBERED:
                        canvas.text(place(at) + width / 2, middle + 4, str(which + 1), "number", "middle")
                    at += size
            canvas.text(place(at) + 8, middle + 4.5, texts[number], "value")
        canvas.height = top + step * len(rows) + 4

    return chart(draw, alt)


def _legend(canvas: Canvas, names: Sequence[str]) -> float:
    """Draw a square, a number and a name for each part; return how much height they took."""
    across, down = 0.0, 0.0
    for number, name in enumerate(names):
        words = f"{number + 1} {name}"
        width = 30 + LETTER * len(words)
        if across and across + width > canvas.width:
            across, down = 0.0, down + 20
        canvas.rect(across, down + 2, 12, 12, f"part p{number}")
        canvas.text(across + 18, down + 12.5, words)
        across += width
    return down + 20
