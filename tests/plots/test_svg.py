import itertools
from xml.etree import ElementTree as Xml

import pytest

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
from cifarlab.plots.svg import chart, free_place, letters, scale, shortened, spread, ticks, wrap


def drawings(markup):
    """The wide and the narrow drawing, parsed."""
    wide, narrow = Xml.fromstring(f"<r>{markup}</r>")[0]
    assert (wide.get("class"), narrow.get("class")) == ("wide", "narrow")
    return wide, narrow


def of_class(drawing, css):
    return [node for node in drawing if css in (node.get("class") or "").split()]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.644, 1.0), (-380_000, 1_210_000), (0, 7), (0.00012, 0.00047)])
@pytest.mark.parametrize("about", [3, 5, 8])
def test_ticks_are_round_equally_far_and_within(low, high, about):
    found = ticks(low, high, about)
    assert 1 <= len(found) <= 2 * about + 1
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert steps == pytest.approx([steps[0]] * len(steps)) if steps else True
    for step in steps[:1]:
        mantissa = float(f"{step:e}".partition("e")[0])
        assert min(abs(mantissa - round_one) for round_one in (1, 2, 5, 10)) < 1e-6


def test_ticks_of_no_range_and_of_a_tiny_one():
    assert ticks(0.0, 0.0) == [0.0]
    assert ticks(2.5, 2.5) == [2.5]
    assert ticks(0.0, 4e-14, 4) == pytest.approx([0, 1e-14, 2e-14, 3e-14, 4e-14])


def test_scales_are_linear_and_end_at_the_border():
    place = scale(10, 20, 100, 300)
    assert [place(v) for v in (10, 15, 20, 5, 40)] == [100, 200, 300, 100, 300]


def test_labels_are_moved_apart_and_keep_their_order():
    moved = spread([50, 10, 12, 11], 15)
    assert sorted(moved) == [10, 25, 40, 55]
    assert [moved.index(v) for v in sorted(moved)] == [1, 3, 2, 0]
    assert spread([0, 100], 15) == [0, 100]


def test_labels_break_at_spaces():
    assert wrap("Sending images to the vendor", 16) == ["Sending images", "to the vendor"]
    assert wrap("unbreakablyshort", 4) == ["unbreakablyshort"]


def test_labels_are_never_longer_than_asked_for():
    assert shortened("Sending images to the vendor", 16, 2) == ["Sending images", "to the vendor"]
    assert shortened("Sending images to the vendor", 16, 1) == ["Sending images…"]
    for words in ("x" * 90, "Rindfleischetikettierungsüberwachung again", "日本語の長い名前" * 5, "e\u0301" * 40):
        for most, lines in ((32, 2), (20, 1), (8, 1)):
            found = shortened(words, most, lines)
            assert len(found) <= lines
            assert all(letters(line) <= most for line in found)
            assert "…" in "".join(found) or words.split()[0] in found[0]
    assert letters("日") > letters("W") > letters("V") > letters("x") > letters("i") > 0
    assert letters("e\u0301") == letters("e")
    assert letters("Share of the vendor's errors that adaptation removes") == pytest.approx(52, rel=0.1)


def test_names_and_figures_of_any_length_stay_within_the_drawing():
    rows = [
        Row("x" * 90, 0.5, text="93.83 %"),
        Row("日本語の名前" * 9, 0.4, text="1,470,000"),
        Row("a", 0.3, text="1 %"),
    ]
    for drawing in drawings(interval_chart(rows, str, "-")):
        for text in drawing.iter("text"):
            bold = 9.0 if "value" in (text.get("class") or "") else 7.4
            width, x = bold * letters(text.text), float(text.get("x"))
            start = {"end": x - width, "middle": x - width / 2}.get(text.get("text-anchor"), x)
            assert start >= -12
            assert start + width <= float(drawing.get("width")) + 12


def test_words_beside_a_point_stand_where_no_line_runs():
    # four lines of a cost chart that meet near the point
    lines = [[(10, 150), (300, 90)], [(10, 200), (300, 20)], [(10, 120), (300, 80)], [(10, 185), (300, 40)]]
    at, width = (150, 117), 120
    start, foot = free_place(at, width, lines, (10, 20, 320, 230))
    for (x1, y1), (x2, y2) in lines:
        heights = [y1 + (y2 - y1) * (start + width * k / 50 - x1) / (x2 - x1) for k in range(51)]
        assert not any(foot - 11 < height < foot + 3 for height in heights)
    assert start >= 10
    assert start + width <= 320
    assert 20 <= foot <= 230


def test_texts_are_escaped():
    markup = chart(lambda canvas: canvas.text(0, 0, "<b>&"), 'a "quoted" <alt>')
    wide, _ = drawings(markup)
    assert wide[0].text == "<b>&"
    assert wide.get("aria-label") == 'a "quoted" <alt>'


def test_marks_and_bars_stand_where_the_figures_are():
    rows = [Row("a", 0.5, (0.4, 0.7)), Row("b", 0.9, kind="quoted")]
    for drawing in drawings(interval_chart(rows, lambda v: f"{v:.1f}", "-", ends=(0.0, 1.0))):
        grid = {float(t.text): float(t.get("x")) for t in of_class(drawing, "tick")}
        (low, x0), (high, x1) = min(grid.items()), max(grid.items())

        def value(x, low=low, high=high, x0=x0, x1=x1):
            return low + (float(x) - x0) * (high - low) / (x1 - x0)

        (dot,), (band,) = of_class(drawing, "measured")[1:], of_class(drawing, "band")
        assert value(dot.get("cx")) == pytest.approx(0.5, abs=0.03)  # the last tick's text may be moved into the chart
        start, width = float(band.get("x")), float(band.get("width"))
        assert [value(start), value(start + width)] == pytest.approx([0.4, 0.7], abs=0.03)
        assert len(of_class(drawing, "quoted")) == 1


def test_a_line_goes_through_its_points():
    line = Series("x", [(0.0, 0.0), (5.0, 10.0), (10.0, 5.0)], 0)
    axis = Axis("x", str, (0.0, 10.0))
    wide, _ = drawings(line_chart([line], axis, axis, "-"))
    (path,) = of_class(wide, "series")
    points = [tuple(map(float, step.split())) for step in path.get("d").removeprefix("M").split(" L")]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y1) == pytest.approx(2 * (y2 - y1), abs=0.3)  # up is less


def test_histogram_bars_are_as_tall_as_their_counts_and_hollow_below_zero():
    markup = histogram_chart([-2, -1, 0, 1, 2], [1, 2, 4, 0], str, "-", ("dear", "cheap"))
    for drawing in drawings(markup):
        heights = [float(bar.get("height")) for bar in of_class(drawing, "bar")]
        assert heights == pytest.approx([heights[-1] / 4, heights[-1] / 2, heights[-1]], abs=0.2)
        assert len(of_class(drawing, "minus")) == 2
        assert len(of_class(drawing, "plus")) == 1


def test_tornado_bars_begin_at_the_base():
    markup = tornado_chart([Lever("price", -50, 150, "1", "3")], 50, str, "-")
    for drawing in drawings(markup):
        (base,) = of_class(drawing, "base")
        low, high = (of_class(drawing, css)[0] for css in ("at-low", "at-high"))
        assert float(low.get("x")) + float(low.get("width")) == pytest.approx(float(base.get("x1")), abs=0.2)
        assert float(high.get("x")) == pytest.approx(float(base.get("x1")), abs=0.2)
        assert float(low.get("width")) == pytest.approx(float(high.get("width")), abs=0.2)


def test_on_a_phone_no_line_runs_through_the_names_of_a_tornado():
    markup = tornado_chart([Lever("price of a call", -50, 150, "1", "3"), Lever("pay", -9, 9, "1", "3")], 50, str, "-")
    _, narrow = drawings(markup)
    lines = [*of_class(narrow, "zero"), *of_class(narrow, "base")]
    names = [text for text in narrow.iter("text") if text.text in ("price of a call", "pay")]
    assert len(names) == 2
    for line in lines:
        for name in names:
            assert not float(line.get("y1")) < float(name.get("y")) - 4 < float(line.get("y2"))


def test_parts_carry_the_number_of_the_legend():
    rows = [("a", [("x", 3.0), ("y", 1.0), ("z", 0.0)]), ("b", [("x", 0.0), ("y", 2.0), ("z", 0.001)])]
    for drawing in drawings(bar_chart(rows, str, "-")):
        texts = [text.text for text in drawing.iter("text")]
        assert {"1 x", "2 y", "3 z"} <= set(texts)
        assert [text.text for text in of_class(drawing, "number")] == ["1", "2", "2"]  # what is too narrow has none


def test_parts_of_a_bar_add_up_to_it():
    rows = [("a", [("x", 3.0), ("y", 1.0)]), ("b", [("x", 0.0), ("y", 2.0)])]
    for drawing in drawings(bar_chart(rows, str, "-")):
        legend, bars = of_class(drawing, "part")[:2], of_class(drawing, "part")[2:]
        assert [one.get("width") for one in legend] == ["12", "12"]
        a_x, a_y, b_y = (float(bar.get("width")) for bar in bars)
        assert a_x / a_y == pytest.approx(3, abs=0.05)
        assert b_y / a_y == pytest.approx(2, abs=0.05)


def test_equal_figures_give_equal_bytes():
    rows = [Row("a", 1 / 3, (0.3, 0.4)), Row("b", 2 / 3)]
    first, second = (interval_chart(rows, str, "-") for _ in range(2))
    assert first == second
