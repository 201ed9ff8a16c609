"""Duplicates: those made here are found, unrelated pictures are not, and blocks do not matter."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.nn import functional as F

from cifarlab.data import audit
from cifarlab.data.audit import exact_duplicates, near_duplicates, registered_similarity


@functools.lru_cache(maxsize=4)
def _drawn(count: int, seed: int, side: int) -> torch.Tensor:
    """Unrelated textures whose power falls with frequency and whose channels go together, as in photographs.

    Returns:
        uint8, count x 3 x side x side.
    """
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, side, side)
    for cells in (4, 8, 16, 32):
        noise = torch.randn(count, 1, cells, cells, generator=generator)
        noise = noise + 0.3 * torch.randn(count, 3, cells, cells, generator=generator)
        total += F.interpolate(noise, (side, side), mode="bicubic", align_corners=False) * (4 / cells) ** 0.7
    return (128 + 40 * total).clamp(0, 255).to(torch.uint8)


def pictures(count: int, seed: int = 0, side: int = 32) -> torch.Tensor:
    """Pictures of one's own to change, which many tests begin with."""
    return _drawn(count, seed, side).clone()


def pairs(found) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in found.pairs_P2}


def similarities(found) -> dict[tuple[int, int], float]:
    assert found.complete
    return dict(zip(map(tuple, found.pairs_P2.tolist()), found.similarity_P.tolist(), strict=True))


def window(images: torch.Tensor, top: int, left: int, side: int = 32) -> torch.Tensor:
    return images[..., top : top + side, left : left + side]


# of pictures with a margin of four pixels on every side
CHANGES = {
    "exact": lambda x: window(x, 4, 4),
    "brighter": lambda x: (window(x, 4, 4) + 25).clamp(0, 255),
    "less contrast": lambda x: 128 + (window(x, 4, 4) - 128) * 0.6,
    "grey": lambda x: window(x, 4, 4).mean(1, keepdim=True).expand(-1, 3, -1, -1),
    "one pixel right": lambda x: window(x, 4, 3),
    "two pixels down, one left": lambda x: window(x, 2, 5),
    "zoomed by a tenth": lambda x: F.interpolate(window(x, 5, 6, 29), (32, 32), mode="bilinear", antialias=True),
    "noisy": lambda x: window(x + 6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5)), 4, 4),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("count", [60, 900], ids=["all pairs", "by descriptor"])
def test_changed_copies_are_found_and_nothing_else(change, count):
    scenes = pictures(count, side=40)
    copies = change(scenes[:20].float()).round().clamp(0, 255).to(torch.uint8)
    found = near_duplicates(torch.cat([window(scenes, 4, 4), copies]))
    expected = {(i, count + i) for i in range(20)}
    assert found.complete
    assert len(pairs(found) & expected) >= 19
    assert pairs(found) <= expected
    assert found.similarity_P.tolist() == sorted(found.similarity_P.tolist(), reverse=True)


def test_a_common_coarse_structure_does_not_make_duplicates():
    sky_above_ground = torch.linspace(220, 40, 32).view(1, 1, 32, 1)
    images = (sky_above_ground + (pictures(60).float() - 128) * 0.15).round().clamp(0, 255).to(torch.uint8)
    assert torch.corrcoef(images[:2].flatten(1).float())[0, 1] > 0.95
    assert len(near_duplicates(images).pairs_P2) == 0


def test_blocks_change_nothing(monkeypatch):
    images = pictures(700)
    images = torch.cat([images, images[::7]])
    whole = near_duplicates(images)
    monkeypatch.setattr(audit, "_BLOCK", 96)
    monkeypatch.setattr(audit, "_PAIR_BLOCK", 7)
    parts = near_duplicates(images)
    assert len(whole.pairs_P2) >= 100
    assert torch.equal(whole.pairs_P2.sort(0).values, parts.pairs_P2.sort(0).values)


@pytest.mark.parametrize("count", [60, 900], ids=["all pairs", "by descriptor"])
@pytest.mark.parametrize("block", [96, 1024])
def test_pairs_across_two_sets_are_those_of_all_pairs_that_lie_across(count, block, monkeypatch):
    monkeypatch.setattr(audit, "_BLOCK", block)
    images = pictures(count)
    images = torch.cat([images, images[::9], images[::6]])  # copies within the second set, too, and within the first
    images[1] = images[0]
    everything, across = (similarities(near_duplicates(images, across=first)) for first in (0, count))
    lying_across = {pair: value for pair, value in everything.items() if pair[0] < count <= pair[1]}
    assert 0 < len(lying_across) < len(everything)
    assert across == pytest.approx(lying_across, abs=1e-5)


def test_pairs_within_a_set_do_not_crowd_out_those_across(monkeypatch):
    """Of fifty equal pictures in one set there are more pairs than are looked at; across there is one of each."""
    monkeypatch.setattr(audit, "_CANDIDATE_LIMIT", 200)
    monkeypatch.setattr(audit, "_ALL_PAIRS", 10)
    images = pictures(120)
    images[:50] = images[50]
    found = near_duplicates(torch.cat([images, images[60:61]]), across=120)
    assert pairs(found) == {(60, 120)}
    assert found.complete


def test_too_many_candidates_are_cut_and_reported(monkeypatch):
    monkeypatch.setattr(audit, "_CANDIDATE_LIMIT", 300)
    images = pictures(650)
    found = near_duplicates(torch.cat([images, images[:1].expand(50, -1, -1, -1)]))
    assert not found.complete
    assert 0 < len(found.pairs_P2) <= 300


def test_flat_pictures_are_exact_but_never_near_duplicates():
    images = torch.cat([pictures(700), torch.full((5, 3, 32, 32), 90, dtype=torch.uint8)])
    assert exact_duplicates(images) == [[700, 701, 702, 703, 704]]
    assert len(near_duplicates(images).pairs_P2) == 0
    assert len(near_duplicates(images[-5:]).pairs_P2) == 0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_sets(count):
    images = pictures(count)
    assert exact_duplicates(images) == []
    assert near_duplicates(images).pairs_P2.shape == (0, 2)


def test_other_sizes_are_compared_too():
    for side in (8, 64):
        images = pictures(30, side=max(side, 32))
        images = F.interpolate(images.float(), (side, side), mode="area").to(torch.uint8)
        found = near_duplicates(torch.cat([images, images[:3]]))
        assert {(0, 30), (1, 31), (2, 32)} <= pairs(found)


def test_exact_duplicates_are_grouped_in_order():
    images = pictures(6)
    images[4] = images[1]
    images[5] = images[1]
    images[3] = images[0]
    assert exact_duplicates(images) == [[0, 3], [1, 4, 5]]
    images[5, 0, 0, 0] += 1
    assert exact_duplicates(images) == [[0, 3], [1, 4]]


def test_similarity_is_that_of_plain_correlation_when_nothing_is_to_register():
    images = pictures(8)
    noisy = (images.float() + 10 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 255)
    noisy = noisy.to(torch.uint8)

    def details(batch):
        grey = batch.float().mean(1, keepdim=True)
        return (audit._blur(grey, 0.6) - audit._blur(grey, 2.5)).flatten(1)

    expected = [torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(details(images), details(noisy), strict=True)]
    torch.testing.assert_close(registered_similarity(images, noisy), torch.stack(expected), atol=0.02, rtol=0)


def test_progress_rises_to_one():
    shares: list[float] = []
    images = pictures(700)
    near_duplicates(torch.cat([images, images]), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
