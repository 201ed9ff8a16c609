"""The charts of the decision: what stands at their axes and bars."""

import re

import pytest
from tests.reporting.made_up import make_run, scores

from cifarlab.decision import Bar
from cifarlab.reporting import charts
from cifarlab.reporting.record import record
from cifarlab.reporting.sources import load_run
from cifarlab.reporting.words import share_tick, tick


def test_ticks_are_written_exactly():
    assert [tick(value) for value in (1_002_000, 0, -500_000, 0.0125)] == ["1,002,000", "0", "-500,000", "0.0125"]
    assert [share_tick(value) for value in (0.975, 0.98, 0.9955, 1.0)] == [
        "97.5\u00a0%",
        "98\u00a0%",
        "99.55\u00a0%",
        "100\u00a0%",
    ]


def test_no_two_ticks_of_a_narrow_axis_say_the_same(tmp_path):
    test = scores()
    for row in test["per_class"]:
        row["recall"] = 0.999
    shown = record(load_run(make_run(tmp_path, splits={"test": test})))
    for drawing in re.findall(r"<svg.*?</svg>", shown["class_chart"]):
        written = re.findall(r'<text class="tick"[^>]*>([^<]*)<', drawing)
        places = [float(x) for x in re.findall(r'<text class="tick" x="([^"]*)"', drawing)]
        values = [float(text.replace("\u00a0%", "")) for text in written]
        assert len(set(written)) == len(written) >= 3
        steps = [(b - a) / (y - x) for a, b, x, y in zip(values, values[1:], places, places[1:], strict=False)]
        assert steps[:-1] == pytest.approx([steps[0]] * (len(steps) - 1), rel=0.02)


@pytest.mark.parametrize(
    ("label", "unit", "value", "text"),
    [
        ("Cost of one wrong answer", "USD per wrong answer", 0.1, "USD 0.1"),
        ("Operating the own model", "days per year", 100, "100 days"),
        ("Images to classify a month", "images per month", 4e6, "4,000,000"),
        ("Own retrainings a year", "times per year", 12, "12"),
        ("Cost of an engineer as a multiple of pay", "factor", 1.7, "1.7"),
        ("Share of the vendor's errors that adaptation removes", "share", 0.6, "60 %"),
        ("Growth of that number", "share per year", 0.6, "60 %"),
    ],
)
def test_the_ends_of_a_bar_have_a_unit_unless_the_label_says_it(label, unit, value, text):
    bar = Bar("x", label, unit, 0.0, value, 0.0, 1.0, 0.0)
    assert charts._short(bar, value) == text
