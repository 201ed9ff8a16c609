"""How many images the next test needs, against simulation and enumeration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from tests.decision.made import paired_evidence, world

from cifarlab.decision import analyse, load_inputs
from cifarlab.decision.next_test import FEWEST_IMAGES, images_needed, mcnemar_power, plan_test
from cifarlab.decision.options import derive
from cifarlab.differences import compare_paired


def test_the_power_is_the_sum_over_all_outcomes() -> None:
    size, difference, discordant = 12, 0.4, 0.6
    better, worse = (discordant + difference) / 2, (discordant - difference) / 2
    total = 0.0
    for a in range(size + 1):
        for b in range(size + 1 - a):
            ways = np.prod(range(1, size + 1)) / np.prod(range(1, a + 1)) / np.prod(range(1, b + 1))
            ways /= np.prod(range(1, size - a - b + 1))
            chance = ways * better**a * worse**b * (1 - discordant) ** (size - a - b)
            if a + b and binomtest(a, a + b).pvalue <= 0.05:
                total += chance
    assert mcnemar_power(size, difference, discordant) == pytest.approx(total, rel=1e-9)


def test_simulated_tests_find_the_difference_as_often_as_promised() -> None:
    difference, discordant = 0.08, 0.3
    images = images_needed(difference, discordant)
    assert images is not None
    rng = np.random.default_rng(1)
    shares = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    found = 0
    for a, b, _ in rng.multinomial(images, shares, size=400):
        ours = np.repeat([True, False, True], [a, b, images - a - b])
        theirs = np.repeat([False, True, True], [a, b, images - a - b])
        with np.errstate(all="ignore"):
            found += compare_paired(ours, theirs).p_exact <= 0.05
    assert found / 400 == pytest.approx(0.8, abs=0.06)


def test_a_smaller_difference_needs_more_images_and_more_agreement_fewer() -> None:
    needed = [images_needed(d, 0.4) for d in (0.3, 0.2, 0.1, 0.05)]
    assert needed == sorted(needed)  # type: ignore[type-var]
    assert images_needed(0.1, 0.15) < images_needed(0.1, 0.5)  # type: ignore[operator]
    assert images_needed(0.001, 0.5) is None


@pytest.mark.parametrize(("difference", "discordant"), [(0.0, 0.5), (0.6, 0.5), (0.1, 1.2)])
def test_what_cannot_be_is_refused(difference: float, discordant: float) -> None:
    with pytest.raises(ValueError, match="discordant"):
        images_needed(difference, discordant)


def test_the_plan_costs_what_its_parts_cost() -> None:
    _, setting, base = world()
    derived = derive(base, setting)
    plan = plan_test(derived, "USD", "Detectocorp", "build")
    per_image = base["labels.price_per_label"] + base["vendor.price_per_1000_images"] / 1000
    assert plan.num_images >= FEWEST_IMAGES
    assert plan.cost == pytest.approx(plan.num_images * per_image + plan.days * derived["people.day_cost"])
    half = 50 * (derived["accuracy.build"] - derived["accuracy.buy"])
    assert plan.difference_points == pytest.approx(half)
    assert f"{plan.num_images:,}" in plan.what


def test_what_was_done_already_is_not_asked_for_as_if_it_were_new() -> None:
    _, setting, base = world()
    first = plan_test(derive(base, setting), "USD", "Detectocorp", "build")
    again = plan_test(derive(base, setting), "USD", "Detectocorp", "build", done=10_000)
    assert "newly gathered" in again.what
    assert "newly gathered" not in first.what
    assert "10,000 own images" in again.sentence
    assert again.num_images == first.num_images
    assert "newly gathered" in analyse(load_inputs(), paired_evidence(), draws=50).advice.next_test.what
    elsewhere = replace(paired_evidence(), own_images=False)
    assert "newly gathered" not in analyse(load_inputs(), elsewhere, draws=50).advice.next_test.what


def test_models_that_do_not_differ_need_the_smallest_difference_looked_for() -> None:
    _, setting, base = world()
    derived = {**derive(base, setting), "accuracy.build": 0.7, "accuracy.buy": 0.7}
    plan = plan_test(derived, "USD", "Detectocorp", None)
    assert plan.difference_points == pytest.approx(2)
    assert plan.num_images > 1000
