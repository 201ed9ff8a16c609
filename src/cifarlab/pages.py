"""Pages: what every HTML page of the package shares: one jinja environment, its filters, styles and pictures.

A page is one file that loads nothing from anywhere. Templates extend page.html.j2 and take tables, findings, figures
and notes from parts.html.j2. Fractions come in and are written as a person writes them, units kept on the figure's
line; what is None or NaN was not measured and becomes a dash.
"""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from cifarlab import phrases
from cifarlab.plots.style import PNG_DOTS_PER_INCH, figure_bytes

LARGEST_SVG_BYTES = 300_000
"""Beyond it, pixels are smaller."""
_MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
# spaces between a figure and its unit, currency or interval, within an interval, and around a sign
_UNBROKEN = re.compile(
    r"(?<=\d) (?=%|points?\b|seeds?\b|PFLOP|s\b|min\b|h\b|\[)|(?<=%|s) (?=\[)|(?<=\d,) (?=-?\d+\.?\d*\])"
    r"|(?<=\b[A-Z]{3}) (?=-?\d)|(?<=[<=±]) (?=\d)|(?<=\bp) (?=[=<])|(?<=\d) (?=±)"
)
_NUMERIC_KINDS = ("count", "fraction", "interval", "number", "points", "seconds")


def render(template: str, context: Mapping[str, Any]) -> str:
    """Return a template of cifarlab/templates filled in; equal input gives equal text.

    Args:
        template: File name, such as 'evaluation.html.j2'.
        context: What it shows; a name it uses and does not find here is a mistake of ours and raises.
    """
    return environment().get_template(template).render(context)


def environment() -> Environment:
    """Return the jinja environment: everything is escaped, nothing may be undefined, all filters of this module."""
    pages = Environment(
        loader=PackageLoader("cifarlab", "templates"),
        autoescape=True,  # class names, paths and commands are text that anybody may have written
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "per_cent": per_cent,
        "interval": interval,
        "with_interval": with_interval,
        "number": number,
        "count": count,
        "points": points,
        "p": lambda value: unbroken(phrases.p_value(_known(value))),
        "seconds": seconds,
        "moment": moment,
        "cell": cell,
        "sort_key": sort_key,
        "shown_width": shown_width,
        "unbroken": unbroken,
        "markdown_cell": markdown_cell,
        "code_line": code_line,
    }
    pages.filters.update(filters)
    pages.globals["css"] = stylesheet() + own_file("parts.css")
    pages.globals["script"] = own_file("sortable.js")
    pages.globals["is_numeric"] = lambda kind: kind in _NUMERIC_KINDS
    return pages


def stylesheet() -> Markup:
    """Return the styles every page has, for pages that bring the rest of theirs with them."""
    return own_file("base.css")


def own_file(name: str) -> Markup:
    """Return a style sheet or script of cifarlab/templates, to be put into a page as it is."""
    return Markup((files("cifarlab") / "templates" / name).read_text(encoding="utf-8"))  # noqa: S704 our own file


# Pictures


def figure_uri(figure: Figure) -> str:
    """Return a figure as a data URI: SVG, or PNG where that is smaller."""
    content = figure_bytes(figure, "svg")
    if len(content) <= LARGEST_SVG_BYTES:
        return data_uri(content, ".svg")
    return data_uri(figure_bytes(figure, "png"), ".png")


def file_uri(path_without_suffix: Path) -> str | None:
    """Return a plot that was saved as SVG and PNG as a data URI, or None where there is neither."""
    svg, png = (path_without_suffix.with_name(path_without_suffix.name + suffix) for suffix in (".svg", ".png"))
    if svg.is_file() and (svg.stat().st_size <= LARGEST_SVG_BYTES or not png.is_file()):
        return data_uri(svg.read_bytes(), ".svg")
    return data_uri(png.read_bytes(), ".png") if png.is_file() else None


def data_uri(content: bytes, suffix: str) -> str:
    """Return the bytes of an image file as a data URI; the suffix says of what kind they are."""
    return f"data:{_MEDIA_TYPES[suffix]};base64,{base64.b64encode(content).decode('ascii')}"


def shown_width(uri: str) -> int | None:
    """Return how wide a plot is to be shown, in CSS pixels, so that PNG and SVG have letters of one size.

    Args:
        uri: A data URI of this module; SVG says for itself how wide it is, and None is returned.
    """
    head, _, content = uri.partition(",")
    if head != "data:image/png;base64":
        return None
    pixels = int.from_bytes(base64.b64decode(content[:32])[16:20], "big")  # the width in the header chunk
    return round(pixels * 96 / PNG_DOTS_PER_INCH)


# Figures as a person writes them


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def unbroken(text: str) -> str:
    """Keep figures and their units on one line, with spaces that do not break."""
    return _UNBROKEN.sub("\u00a0", text)


def per_cent(value: float | None, digits: int = 2) -> str:
    """Return "71.25 %"."""
    return unbroken(phrases.per_cent(_known(value), digits))


def interval(ends: Sequence[float | None] | None, digits: int | None = None) -> str:
    """Return "[70.35, 72.13]", in per cent."""
    if ends is None:
        return phrases.UNKNOWN
    return unbroken(phrases.interval((_known(ends[0]), _known(ends[1])), digits))


def with_interval(proportion: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Return "71.25 % [70.35, 72.13]" of a proportion as evaluation.json holds it: with ``value`` and ``interval``."""
    if proportion is None or proportion["value"] is None:
        return phrases.UNKNOWN
    ends = proportion.get("interval")
    text = per_cent(proportion["value"], digits)
    return f"{text}\u00a0{interval(ends, digits)}" if ends and None not in ends else text


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Return "1,234.50"."""
    return phrases.number(_known(value), digits, signed=signed)


def count(value: float | None) -> str:
    """Return "10,000"."""
    return phrases.number(_known(value), 0)


def points(value: float | None, ends: Sequence[float] | None = None, *, signed: bool = False) -> str:
    """Return "0.80 points", with an interval "0.80 points [0.32, 1.28]"."""
    if value is None or math.isnan(value):
        return phrases.UNKNOWN
    return unbroken(phrases.points(value, (ends[0], ends[1]) if ends else None, signed=signed))


def seconds(value: float | None) -> str:
    """Return a duration: "2.3 s", "1 min 32 s", "3 h 05 min"."""
    return unbroken(phrases.duration(_known(value)))


def moment(value: str | None) -> str:
    """Return an ISO 8601 time as a person writes it: "2026-01-31 09:15 UTC"."""
    text = value or "at an unknown time"
    return f"{text[:10]} {text[11:16]} UTC" if re.fullmatch(r"[\d-]{10}T[\d:]{8}(\+00:00|Z)", text) else text


def cell(value: Any, kind: str = "text") -> str:
    """Return a value as a table shows it.

    Args:
        value: Plain; None where nothing was measured.
        kind: 'text', 'count', 'fraction' (as per cent), 'interval' (a pair of fractions), 'number' (as many decimals as
            its size asks for), 'points' or 'seconds'.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return phrases.UNKNOWN
    if kind == "number":
        return _number_of_its_size(float(value))
    written: dict[str, Callable[[Any], str]] = {
        "text": str,
        "count": count,
        "fraction": per_cent,
        "interval": interval,
        "points": lambda one: number(100 * one, signed=True),
        "seconds": seconds,
    }
    return written[kind](value)


def _number_of_its_size(value: float) -> str:
    """Return three figures that count, at least: 0.00123, 0.123, 1.23, 12.3, 1,234."""
    size = abs(value)
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    if value == int(value) and size < 1e15:
        return f"{value:,.0f}"
    if size >= 1e6 or size < 1e-4:
        return f"{value:.3g}"
    return number(value, max(0, min(6, 2 - math.floor(math.log10(size)))))


def sort_key(value: Any) -> str:
    """Return by what a table's script sorts a cell: a number, or the text itself; nothing for what is not known."""
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, (int, float)) else str(value)


# Markdown


def code_line(value: object) -> Markup:
    """Return text as one line inside a fenced block of Markdown, which it cannot close."""
    return Markup(" ".join(str(value).split()).replace("`", "'"))  # noqa: S704 HTML is inert in a fence


def markdown_cell(value: object) -> Markup:
    """Return text for a Markdown page that can neither leave its table cell nor become a tag, link or emphasis."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return Markup(re.sub(r"([\\`*_\[\]|~])", r"\\\1", text))  # noqa: S704 escaped in the line above
