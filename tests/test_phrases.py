"""Figures as a person writes them, the same everywhere."""

from __future__ import annotations

import math

import pytest

from cifarlab.phrases import (
    beyond_images,
    beyond_images_clause,
    digits_of,
    duration,
    interval,
    listed,
    number,
    p_text,
    p_value,
    per_cent,
    points,
    seen_interval,
)

NONE = (math.nan, math.nan)


def test_differences_have_as_many_digits_as_their_intervals_deserve() -> None:
    assert points(0.031, (0.024, 0.038)) == "3.1 points [2.4, 3.8]"
    assert points(0.0214, (0.017, 0.026), signed=True) == "+2.1 points [1.7, 2.6]"
    assert points(-0.0011, (-0.0031, 0.0009), signed=True) == "-0.11 points [-0.31, 0.09]"
    assert points(0.00051, (0.0004, 0.00062)) == "0.05 points [0.04, 0.06]"
    assert points(0.001, NONE, signed=True) == "+0.10 points"


@pytest.mark.parametrize("end", [0.0004, -0.0004, 0.00004, -0.00004, 0.00001])
def test_on_which_side_of_zero_an_interval_ends_is_never_rounded_away(end: float) -> None:
    for ends in ((end, 0.02), (-0.02, end)):
        written = interval(ends, digits_of(ends))
        values = [float(text) for text in written.strip("[]").split(", ")]
        assert [value > 0 for value in values] == [value > 0 for value in ends], written
        assert [value < 0 for value in values] == [value < 0 for value in ends], written


def test_intervals_and_numbers() -> None:
    assert interval((0.7012, 0.7234)) == "[70.12, 72.34]"
    assert interval(NONE) == seen_interval(NONE, 1) == "-"
    assert seen_interval(NONE, 3) == "no spread seen"
    assert (number(-0.0001), number(0.0, signed=True), per_cent(0.7), per_cent(math.nan)) == (
        "0.00",
        "+0.00",
        "70.00 %",
        "-",
    )
    assert listed(["a", "b", "c", "d"], most=3) == "a, b and 2 more"


def test_p_values_have_one_floor() -> None:
    texts = [p_value(p) for p in (0.0, 0.0004, 0.001, 0.043, 0.6, 1.0, math.nan)]
    assert texts == ["< 0.001", "< 0.001", "0.001", "0.043", "0.60", "1.00", "-"]
    assert [p_text(p) for p in (0.0004, 0.043, 0.6, math.nan)] == [
        "p < 0.001",
        "p = 0.043",
        "p = 0.60",
        "p not defined",
    ]


@pytest.mark.parametrize("p", [0.0496, 0.04996, 0.04999, 0.050004, 0.0503])
def test_on_which_side_of_five_per_cent_a_p_value_lies_is_never_rounded_away(p: float) -> None:
    assert (float(p_value(p)) < 0.05, float(p_value(p)) > 0.05) == (p < 0.05, p > 0.05)
    assert (p_value(0.05), p_value(0.0494), p_value(0.0506)) == ("0.050", "0.049", "0.051")


def test_durations() -> None:
    assert [duration(s) for s in (2.345, 9.96, 42.4, 59.6, 92, 250, 3599.7, 7500, math.nan)] == [
        *("2.3 s", "10 s", "42 s", "1 min 00 s", "1 min 32 s", "4 min 10 s", "1 h 00 min", "2 h 05 min", "-")
    ]


def test_a_spread_that_is_not_seen_is_not_called_zero() -> None:
    assert [beyond_images(sd, few=few) for sd, few in ((0.0012, False), (0.0, False), (0.0012, True))] == [
        *("0.12", "too small to be seen", "too few seeds")
    ]
    assert beyond_images_clause(0.0012).endswith("by about 0.12 points")
    assert beyond_images_clause(0.0).endswith("by too little to be seen here")
