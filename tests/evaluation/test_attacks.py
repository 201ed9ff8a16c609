"""The section on attacks: who is attacked, what is counted, what is said."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.evaluation.models import Brightest, coloured, subject

from cifarlab.evaluation.attacks import (
    APGD_STEPS,
    PGD_STEPS,
    RADII,
    Assault,
    assault,
    attack_figures,
    attacks_section,
    random_offsets,
)
from cifarlab.evaluation.section import Section


def section_of(margin: int, **options: int) -> Section:
    return attacks_section(subject(coloured(40, margin=margin), **options))


def test_a_model_with_a_known_margin_falls_where_it_must() -> None:
    """Average colours about 12 levels apart: 2 levels of each cannot close that gap, 8 can."""
    figures = section_of(12).figures
    assert figures["clean"]["value"] == 1
    found = {(one["attack"], one["levels"]): one["accuracy"]["value"] for one in figures["attacks"]}
    assert set(found) == {(attack, levels) for attack in ("PGD", "APGD") for levels in RADII}
    assert found["PGD", 2] == found["APGD", 2] == 1
    assert found["PGD", 8] == found["APGD", 8] == 0
    assert figures["under_all"]["2"]["value"] == 1
    assert figures["under_all"]["8"]["value"] == 0
    for one in figures["attacks"]:
        used = one["median_levels_used"]
        assert used is None if one["levels"] == 2 else 4 < used <= 8 + 1e-3


def test_answers_that_were_wrong_before_count_as_wrong_and_are_not_attacked() -> None:
    images = coloured(40, margin=12)
    labels = images.labels_N.clone()
    labels[:10] = (labels[:10] + 1) % 3
    figures = attacks_section(subject(dataclasses.replace(images, labels_N=labels))).figures
    assert figures["clean"]["count"] == 30
    small = figures["attacks"][0]
    assert (small["accuracy"]["count"], small["accuracy"]["images"]) == (30, 40)
    assert (small["turned_over"]["count"], small["turned_over"]["images"]) == (0, 30)


def test_the_subset_and_the_limits_are_stated() -> None:
    section = section_of(12, num_attacked=12)
    assert section.figures["images"] == 12
    assert any("12 of 40" in note for note in section.notes)
    assert any("a failed attack" in note or "an attack that fails proves nothing" in note for note in section.notes)
    assert any("near zero" in finding for finding in section.findings)
    assert any(f"{PGD_STEPS} steps" in note and f"{APGD_STEPS} steps" in note for note in section.notes)
    table = section.tables["attacks"]
    assert len(table.rows) == 5
    assert all(len(row) == len(table.header) == len(table.kinds) for row in table.rows)
    assert set(section.plots) == set(section.captions) == {"attacks"}


def test_it_is_the_same_every_time() -> None:
    assert section_of(9).figures == section_of(9).figures


def test_a_start_is_drawn_for_each_image_from_its_position_alone() -> None:
    """So that figures depend neither on how many are attacked at once nor on who else was right before."""
    pixels = torch.zeros(5, 3, 8, 8)
    together = random_offsets(0, "PGD", 8, [3, 1, 7, 20, 2], pixels)
    apart = random_offsets(0, "PGD", 8, [20, 7], pixels[:2])
    assert torch.equal(apart, together[[3, 2]])
    assert -1 <= together.min() < -0.9
    assert 0.9 < together.max() <= 1
    others = [("PGD", 8, 1), ("APGD", 8, 0), ("PGD", 2, 0)]
    assert all(
        not torch.equal(random_offsets(seed, attack, n, [20, 7], pixels[:2]), apart) for attack, n, seed in others
    )
    assert random_offsets(0, "PGD", 8, [], pixels[:0]).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("margin", [9, 12])
def test_how_many_are_attacked_at_once_changes_no_figure(margin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = section_of(margin).figures
    monkeypatch.setattr("cifarlab.evaluation.attacks._BATCH", 7)
    assert section_of(margin).figures == whole


def test_figures_against_counting_by_hand() -> None:
    def one(attack: str, levels: int, fooled: list[int], used: list[float]) -> Assault:
        return Assault(attack, levels, 20, np.array(fooled, bool), np.array(used))

    nan = np.nan
    figures = attack_figures(
        5,
        4,
        [
            one("PGD", 2, [1, 0, 0, 0], [2, nan, nan, nan]),
            one("APGD", 2, [0, 1, 0, 0], [nan, 1, nan, nan]),
            one("PGD", 8, [1, 1, 1, 0], [8, 5, 7, nan]),
        ],
    )
    assert figures["clean"]["value"] == 4 / 5
    assert [entry["accuracy"]["value"] for entry in figures["attacks"]] == [3 / 5, 3 / 5, 1 / 5]
    assert [entry["turned_over"]["value"] for entry in figures["attacks"]] == [1 / 4, 1 / 4, 3 / 4]
    assert [entry["median_levels_used"] for entry in figures["attacks"]] == [2, 1, 7]
    assert {key: entry["count"] for key, entry in figures["under_all"].items()} == {"2": 2, "8": 1}


def test_nobody_right_is_nobody_attacked() -> None:
    images = coloured(9, size=16)
    wrong = dataclasses.replace(images, labels_N=(images.labels_N + 1) % 3)
    figures = attacks_section(subject(wrong)).figures
    assert figures["clean"]["value"] == 0
    assert all(one["accuracy"]["value"] == 0 for one in figures["attacks"])
    assert all(one["turned_over"]["value"] is None for one in figures["attacks"])


def test_without_a_model_it_is_skipped() -> None:
    assert "answers" in attacks_section(dataclasses.replace(subject(coloured(6)), classifier=None)).skipped


@pytest.mark.parametrize("attack", ["PGD", "APGD"])
def test_batches_are_put_together_in_order(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = coloured(20, size=16, margin=12)
    strong = images.images_NCHW.clone()
    strong[::2] = 0
    strong[torch.arange(0, 20, 2), images.labels_N[::2]] = 255  # every other image cannot be turned
    pixels = strong.float() / 255
    monkeypatch.setattr("cifarlab.evaluation.attacks._BATCH", 6)
    found = assault(Brightest().eval(), pixels, images.labels_N, attack, 8, 20, torch.zeros_like(pixels))
    assert found.fooled_N.tolist() == [False, True] * 10
    assert np.isnan(found.used_N).tolist() == [True, False] * 10
