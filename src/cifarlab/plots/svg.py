"""Drawings as SVG text that stands inside a page.

Unlike a picture in a data URI they take the colours of the page, so they follow its dark mode and its print style, and
their letters are letters: they can be selected, searched and read in a PDF. Every drawing is made twice, for a desk and
for a phone, and the stylesheet (templates/charts.css) shows one of them; scaled to the other width its letters could
not be read. Equal input gives equal bytes.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

WIDE, NARROW = 720.0, 340.0
LETTER = 7.4
"""Width of a letter of the charts' text in pixels, on average; labels are laid out by it."""
BOLD = 9.0
"""The same of a bold figure."""


class Canvas:
    """An SVG drawing of a width that grows downwards.

    Attributes:
        width: Pixels.
        height: Pixels; set it before :meth:`markup`.
    """

    def __init__(self, width: float, height: float = 0.0) -> None:
        self.width = width
        self.height = height
        self._parts: list[str] = []

    @property
    def narrow(self) -> bool:
        """Whether this is the drawing for a phone."""
        return self.width <= NARROW

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """Draw a straight line."""
        self._parts.append(f'<line class="{css}" x1="{_px(x1)}" y1="{_px(y1)}" x2="{_px(x2)}" y2="{_px(y2)}"/>')

    def rect(self, x: float, y: float, width: float, height: float, css: str) -> None:
        """Draw a filled rectangle, at least one pixel wide."""
        size = f'width="{_px(max(width, 1))}" height="{_px(height)}"'
        self._parts.append(f'<rect class="{css}" x="{_px(x)}" y="{_px(y)}" {size}/>')

    def path(self, points: Sequence[tuple[float, float]], css: str, *, closed: bool = False) -> None:
        """Draw a line through points, or the area within them."""
        steps = " L".join(f"{_px(x)} {_px(y)}" for x, y in points)
        self._parts.append(f'<path class="{css}" d="M{steps}{"Z" if closed else ""}"/>')

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "start") -> None:
        """Write a line of text with its foot at y; anchor is 'start', 'middle' or 'end'."""
        end = "" if anchor == "start" else f' text-anchor="{anchor}"'
        name = f' class="{css}"' if css else ""
        self._parts.append(f'<text{name} x="{_px(x)}" y="{_px(y)}"{end}>{escape(words)}</text>')

    def mark(self, x: float, y: float, kind: str, css: str) -> None:
        """Draw a mark; each kind of figure has a shape of its own, so that none is told by colour alone."""
        if kind == "quoted":
            self.path([(x, y - 6.5), (x + 6.5, y), (x, y + 6.5), (x - 6.5, y)], f"mark {kind} {css}", closed=True)
        elif kind == "assumed":
            self.rect(x - 5, y - 5, 10, 10, f"mark {kind} {css}")
        elif kind == "computed":
            self.path([(x, y - 6), (x + 6, y + 5), (x - 6, y + 5)], f"mark {kind} {css}", closed=True)
        else:
            place = f'cx="{_px(x)}" cy="{_px(y)}"'
            self._parts.append(f'<circle class="mark {kind} {css}" {place} r="5"/>')

    def markup(self, alt: str) -> str:
        """Return the drawing; ``alt`` says in words what it shows."""
        size = (
            f'viewBox="0 0 {_px(self.width)} {_px(self.height)}" width="{_px(self.width)}" height="{_px(self.height)}"'
        )
        name = "narrow" if self.narrow else "wide"
        return f'<svg class="{name}" {size} role="img" aria-label="{escape(alt)}">{"".join(self._parts)}</svg>'


def chart(draw: Callable[[Canvas], None], alt: str) -> Markup:
    """Return a drawing for both widths; ``draw`` is called with a canvas of each and sets its height."""
    drawings = []
    for width in (WIDE, NARROW):
        canvas = Canvas(width)
        draw(canvas)
        drawings.append(canvas.markup(alt))
    return Markup('<div class="chart">' + "".join(drawings) + "</div>")  # noqa: S704 texts are escaped above


def _px(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0") if text != "-0.0" else "0"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round values within [low, high]: multiples of 1, 2 or 5 times a power of ten.

    Args:
        low: Lower end.
        high: Upper end.
        about: How many are wanted, more or less.

    Returns:
        Ascending; ``low`` alone where there is no range, as where every cost is zero.
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{k * step:.12g}") + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1)]


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return the function that takes a value to its place in pixels; values outside are drawn at the border."""
    span = (high - low) or 1.0
    return lambda value: start + (end - start) * min(1.0, max(0.0, (value - low) / span))


def spread(places: Sequence[float], least: float) -> list[float]:
    """Move places apart, down the page, until neighbours are ``least`` away from each other; order is kept."""
    moved: list[float] = []
    order = sorted(range(len(places)), key=lambda i: places[i])
    where = dict.fromkeys(order, 0.0)
    for i in order:
        moved.append(max(places[i], moved[-1] + least) if moved else places[i])
        where[i] = moved[-1]
    return [where[i] for i in range(len(places))]


def free_place(
    at: tuple[float, float],
    width: float,
    lines: Sequence[Sequence[tuple[float, float]]],
    frame: tuple[float, float, float, float],
) -> tuple[float, float]:
    """Return where words beside a point begin: of the places around it the first that the fewest lines run through.

    Args:
        at: The point, pixels.
        width: Of the words, pixels.
        lines: What is drawn, pixels.
        frame: Left, top, right and bottom of what may be written on.
    """
    left, top, right, bottom = frame
    x, y = at
    beside = (x + 10, x - 10 - width) if x < (left + right) / 2 else (x - 10 - width, x + 10)
    starts = [max(left + 4, min(start, right - width)) for start in beside]
    feet = [foot for foot in (y - 9, y + 21, y - 26, y + 38, y - 44, y + 56) if top + 12 <= foot <= bottom - 4]
    places = [(start, foot) for foot in feet or [y - 9] for start in starts]
    drawn = [point for line in lines for point in _close_together(line)]

    def crossed(place: tuple[float, float]) -> int:
        start, foot = place
        return sum(start - 4 < px < start + width + 4 and foot - 14 < py < foot + 6 for px, py in drawn)

    return min(places, key=crossed)


def _close_together(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points along a line, some two pixels apart."""
    points = list(line[-1:])
    for (x1, y1), (x2, y2) in itertools.pairwise(line):
        steps = max(1, int(math.hypot(x2 - x1, y2 - y1) / 2))
        points += [(x1 + (x2 - x1) * k / steps, y1 + (y2 - y1) * k / steps) for k in range(steps)]
    return points


def letters(words: str) -> float:
    """Return how many average letters a text is wide, as those of common sans-serif fonts are."""
    return sum(map(_letter, words))


def _letter(one: str) -> float:
    if unicodedata.combining(one):
        return 0.0
    if unicodedata.east_asian_width(one) in "WF":  # Chinese, Japanese, Korean, pictographs
        return 1.8
    if one in "mwMW@%":
        return 1.6
    if one in "fijlrtI.,:;'!|()[] \u00a0-":
        return 0.65
    return 1.25 if one.isupper() else 1.08


def wrap(words: str, most: int) -> list[str]:
    """Break a label into lines of at most ``most`` letters, at spaces where there are any."""
    lines = [""]
    for word in words.split():
        if lines[-1] and letters(lines[-1]) + 1 + letters(word) > most:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def shortened(words: str, most: int, lines: int) -> list[str]:
    """Break a label like :func:`wrap` into so many lines at most; what is left out is shown by an ellipsis."""
    whole = wrap(words, most)
    kept = whole if len(whole) <= lines else [*whole[: lines - 1], f"{whole[lines - 1]} …"]
    return [_cut(line, most) for line in kept]


def _cut(line: str, most: int) -> str:
    """Return a line without what goes beyond ``most`` letters, as a name without any space may."""
    if letters(line) <= most:
        return line
    kept = line.removesuffix(" …")
    while kept and letters(kept) > most - 1:
        kept = kept[:-1]
    return f"{kept.rstrip()}…"
