"""Our accuracy beside others': the right test for what is at hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import fisher_exact
from tests.decision.made import evidence

from cifarlab.decision import load_inputs
from cifarlab.decision.comparisons import PUBLISHED, compare_with_others, two_proportions
from cifarlab.differences import compare_paired
from cifarlab.stats import wilson_interval

CLAIM = load_inputs().amounts["vendor.accuracy"]


def test_newcombes_interval_from_two_wilson_intervals() -> None:
    (low, high), p_value = two_proportions(56, 70, 48, 80)
    # Newcombe (1998), table II, example (a), method 10
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert p_value == pytest.approx(fisher_exact([[56, 14], [48, 32]])[1])
    a, b = wilson_interval(56, 70), wilson_interval(48, 80)
    assert low == pytest.approx(0.2 - math.hypot(0.8 - a[0], b[1] - 0.6))


def test_without_a_number_of_images_the_claim_has_no_interval_and_no_p_value() -> None:
    row = compare_with_others(evidence(), CLAIM, "Detectocorp", None, published=False)[0]
    assert (row.interval, row.difference_interval, row.p_value) == (None, None, None)
    assert row.origin == "quoted"
    assert "24.0 points above" in row.sentence


def test_with_one_it_is_a_test_of_two_proportions() -> None:
    row = compare_with_others(evidence(), CLAIM, "Detectocorp", 50, published=False)[0]
    expected, p_value = two_proportions(9400, 10_000, 35, 50)
    assert row.difference_interval == pytest.approx((100 * expected[0], 100 * expected[1]))
    assert row.p_value == p_value
    few = compare_with_others(evidence(720, 1000), CLAIM, "Detectocorp", 50, published=False)[0]
    assert "not told apart" in few.sentence


def test_with_predictions_it_is_mcnemars() -> None:
    ours, theirs = np.repeat([True, False], [940, 60]), np.repeat([True, False], [700, 300])
    paired = compare_paired(ours, theirs)
    given = evidence(940, 1000, paired=paired, vendor_correct=700)
    row = compare_with_others(given, CLAIM, "Detectocorp", None, published=False)[0]
    assert row.p_value == paired.p_exact
    assert row.value == 0.7
    assert row.origin == "measured"
    assert row.difference_points == pytest.approx(24)
    assert "McNemar" in row.test


def test_a_claim_on_other_images_is_not_compared() -> None:
    row = compare_with_others(evidence(own_images=True, dataset="cars"), CLAIM, "Detectocorp", 50, published=False)[0]
    assert math.isnan(row.difference_points)
    assert "cannot be compared" in row.sentence
    assert row.p_value is None


def test_published_figures_are_set_beside_ours_only_on_the_same_data() -> None:
    with_them = compare_with_others(evidence(), CLAIM, "Detectocorp", None, published=True)
    assert [row.name for row in with_them[1:]] == [claim.name for claim, _, _ in PUBLISHED]
    assert len(compare_with_others(evidence(), CLAIM, "Detectocorp", None, published=False)) == 1
    gpipe = with_them[1]
    assert "5.0 points below" in gpipe.sentence
    for claim, _, date in PUBLISHED:
        assert claim.url.startswith("https://")
        assert len(date) == 10
