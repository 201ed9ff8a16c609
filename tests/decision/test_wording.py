"""Figures as a person writes them."""

from __future__ import annotations

import math

import pytest

from cifarlab.decision.wording import about, bare, money, sentence, value_with_unit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (771_234.0, "771,000"),
        (1_000_000.0, "1,000,000"),
        (0.0015349, "0.00153"),
        (99.96, "100"),
        (2.5, "2.5"),
        (-12.34, "-12.3"),
        (0.0, "0"),
        (math.nan, "-"),
        (1.2345e21, "1.23e+21"),
    ],
)
def test_three_significant_figures(value: float, text: str) -> None:
    assert about(value) == text


def test_money_bears_its_currency_and_sign() -> None:
    assert money(297_672.6, "USD") == "USD 298,000"
    assert money(-1.5, "EUR") == "-EUR 1.5"
    assert money(math.nan, "USD") == "-"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.7, "share", "70 %"),
        (0.035, "share per year", "3.5 % a year"),
        (1.5, "USD per 1,000 images", "USD 1.5 per 1,000 images"),
        (15.0, "days", "15 days"),
        (1.0, "days", "1 day"),
        (1.0, "times per year", "1 time per year"),
        (1.43, "factor", "1.43 times"),
        (1e6, "images per month", "1,000,000 images per month"),
    ],
)
def test_a_unit_follows_its_figure(value: float, unit: str, text: str) -> None:
    assert value_with_unit(value, unit) == text


def test_without_a_unit_a_share_keeps_its_per_cent() -> None:
    assert bare(0.7, "share") == "70 %"
    assert bare(1.5, "USD per hour") == "1.5"
    assert sentence("building costs") == "Building costs"
