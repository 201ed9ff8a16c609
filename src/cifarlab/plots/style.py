"""The shared look of all plots, and the one way they become files.

Figures are made through matplotlib's object interface: no pyplot, no global state, no display. Every figure is drawn
dark on white, so that it can be pasted in a write-up; pages set it on a white card in dark mode. Equal input gives
equal bytes: no date is written and the identifiers inside an SVG are salted with a constant.

References:
    Wong (2011), "Points of view: Color blindness", Nature Methods 8, 441 (the palette of Okabe and Ito).
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
RED = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
YELLOW = "#F0E442"
BLACK = "#222222"
COLORS: tuple[str, ...] = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK)
"""Eight colours that remain apart under the common kinds of colour blindness; use them in this order."""

INK = "#222222"
MUTED = "#6b7280"
GRID = "#e2e5ea"

PNG_DOTS_PER_INCH = 150
# what matplotlib reads when axes are made or a figure is written; titles have set_title below
_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same letters
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "svg.hashsalt": "cifarlab",
    "svg.fonttype": "path",
}


def color(index: int) -> str:
    """Return the colour of series ``index``, starting again after eight."""
    return COLORS[index % len(COLORS)]


def literal(text: str) -> str:
    """Return text that matplotlib draws as it stands.

    In a class name a dollar sign begins no formula, and an underscore at its beginning hides nothing from a legend.
    """
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def shortened(name: str, length: int = 34) -> str:
    """Return a name, taken literally, of at most so many characters: what is too much is left out of its middle.

    Names of one study or comparison begin alike and differ at their ends.
    """
    if len(name) > length:
        tail = (length - 1) // 2
        name = f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"
    return literal(name)


def set_title(axes: Axes, text: str) -> None:
    """Give axes a title in the shared look: left, bold, taken literally."""
    axes.set_title(literal(text), loc="left", fontsize=10.5, fontweight="bold", color=INK)


def new_figure(width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """Make a figure with one pair of axes in the shared look.

    Args:
        width: Inches.
        height: Inches.

    Returns:
        The figure and its axes.
    """
    figure, axes = new_grid(1, 1, width, height)
    return figure, axes[0, 0]


def new_grid(
    rows: int,
    columns: int,
    width: float = 9.6,
    height: float = 4.0,
    **subplots: Any,
) -> tuple[Figure, np.ndarray[Any, Any]]:
    """Make a figure with rows x columns axes in the shared look.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        width: Inches, of the whole figure.
        height: Inches, of the whole figure.
        subplots: Passed to ``Figure.subplots``, such as ``sharey=True`` or ``width_ratios=[2, 1]``.

    Returns:
        The figure and an array of axes, always rows x columns.
    """
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **subplots)
        for one in axes.flat:  # ticks are made lazily, after the first; make that now, while the look is in force
            one.xaxis.get_major_ticks(1)
            one.yaxis.get_major_ticks(1)
    return figure, axes


def figure_bytes(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """Return a figure as the bytes of a PNG or SVG file; equal figures give equal bytes.

    They are the bytes of ``figure.savefig``, which draws everything twice, the first time for the layout alone; a
    canvas lays out what it draws by itself.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    canvas, dots_per_inch = figure.canvas, figure.dpi
    with matplotlib.rc_context(_RC):
        figure.set_facecolor("white")
        figure.dpi = PNG_DOTS_PER_INCH
        try:
            if kind == "png":
                FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
            else:
                FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
        finally:
            figure.dpi = dots_per_inch
            figure.set_canvas(canvas)
    return buffer.getvalue()


def save_figure(figure: Figure, path_without_suffix: Path) -> tuple[Path, Path]:
    """Write ``<path>.png`` and ``<path>.svg``; neither is ever half written under its final name.

    Both have one layout, that of the PNG: to measure all letters once more for the SVG takes as long as to draw it.

    Args:
        figure: What to write.
        path_without_suffix: Folder and name; the folder is made where it is missing.

    Returns:
        The PNG's and the SVG's path.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    path_without_suffix.parent.mkdir(parents=True, exist_ok=True)
    # with_name, not with_suffix: a name may hold a dot
    png = path_without_suffix.with_name(path_without_suffix.name + ".png")
    svg = path_without_suffix.with_name(path_without_suffix.name + ".svg")
    content_of_png, layout = figure_bytes(figure, "png"), figure.get_layout_engine()
    figure.set_layout_engine("none")
    content_of_svg = figure_bytes(figure, "svg")
    figure.set_layout_engine(layout)
    for path, content in ((png, content_of_png), (svg, content_of_svg)):
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return png, svg
