"""Moved pictures: what moves where, against torch's own; and what is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.evaluation.models import coloured, subject
from torch.nn import functional as F

from cifarlab.evaluation.shifts import Way, groups_for, moved, shift_figures, shifts_section

GROUPS = groups_for(32)
WAYS = {way.name: way for group in GROUPS for way in group.ways}
IMAGES = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_what_is_measured() -> None:
    found = {(group.kind, group.amount): len(group.ways) for group in GROUPS}
    assert found == {
        **{("translation", pixels): 4 for pixels in (1, 2, 3, 4)},
        **{("rotation", degrees): 2 for degrees in (5, 10, 20, 30)},
        **{("scale", factor): 1 for factor in (0.8, 0.9, 1.1, 1.2)},
        **{("crop", kept): 4 for kept in (0.875, 0.75)},
    }
    assert len(WAYS) == sum(found.values())


@pytest.mark.parametrize(("where", "shift"), [("right", (0, 3)), ("left", (0, -3)), ("down", (3, 0)), ("up", (-3, 0))])
def test_a_translation_copies_pixels_and_reflects_the_border(where: str, shift: tuple[int, int]) -> None:
    padded = F.pad(IMAGES.float(), (3, 3, 3, 3), mode="reflect").to(torch.uint8)
    top, left = 3 - shift[0], 3 - shift[1]
    assert torch.equal(moved(IMAGES, WAYS[f"3 px {where}"]), padded[:, :, top : top + 32, left : left + 32])


def test_a_quarter_turn_is_that_of_torch() -> None:
    quarter = Way("", ((0, 1), (-1, 0)), (0, 0))  # as _turning gives it for 90 degrees
    assert torch.equal(moved(IMAGES, quarter), torch.rot90(IMAGES, 1, (2, 3)))


@pytest.mark.parametrize("degrees", [5, -20, 30])
def test_a_rotation_turns_anticlockwise_as_affine_grid_says(degrees: int) -> None:
    radians = torch.tensor(degrees * torch.pi / 180)
    # affine_grid maps output to input in (x, y); its y points down, too
    turn = torch.stack([torch.stack([radians.cos(), -radians.sin()]), torch.stack([radians.sin(), radians.cos()])])
    # a picture turned anticlockwise is read at places turned clockwise
    matrix = torch.cat([turn, torch.zeros(2, 1)], 1).expand(5, 2, 3)
    grid = F.affine_grid(matrix, [5, 3, 32, 32], align_corners=False)
    expected = F.grid_sample(IMAGES.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    got = moved(IMAGES, WAYS[f"{degrees:+d} degrees"]).float()
    inside = slice(10, 22)  # where no turn reads beyond the border
    assert (got - expected)[:, :, inside, inside].abs().max() <= 1.0


def test_a_dot_on_the_right_goes_up_when_turned_anticlockwise() -> None:
    dot = torch.zeros(1, 1, 33, 33, dtype=torch.uint8)
    dot[0, 0, 16, 28] = 255
    turned = moved(dot, WAYS["+30 degrees"])[0, 0]
    row, column = divmod(int(turned.argmax()), 33)
    assert row < 13
    assert 24 <= column < 28


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.2])
def test_scaling_is_that_of_interpolation_around_the_middle(factor: float) -> None:
    matrix = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]]).expand(5, 2, 3)
    grid = F.affine_grid(matrix, [5, 3, 32, 32], align_corners=False)
    expected = F.grid_sample(IMAGES.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    got = moved(IMAGES, WAYS[f"scale {factor}"]).float()
    assert (got - expected)[:, :, 6:26, 6:26].abs().max() <= 1.0


@pytest.mark.parametrize(("kept", "side"), [(0.875, 28), (0.75, 24)])
@pytest.mark.parametrize("where", ["upper left", "lower right", "upper right"])
def test_a_crop_is_that_corner_made_as_large_as_the_image(kept: float, side: int, where: str) -> None:
    rows = slice(0, side) if "upper" in where else slice(32 - side, 32)
    columns = slice(0, side) if "left" in where else slice(32 - side, 32)
    corner = IMAGES[:, :, rows, columns].float()
    expected = F.interpolate(corner, size=(32, 32), mode="bilinear", align_corners=False)
    got = moved(IMAGES, WAYS[f"{kept:.3g} of the side, {where}"]).float()
    assert (got - expected)[:, :, 2:30, 2:30].abs().max() <= 1.0


def test_scaling_by_one_changes_nothing() -> None:
    assert torch.equal(moved(IMAGES, Way("", ((1, 0), (0, 1)), (0, 0))), IMAGES)


def test_figures_against_counting_by_hand() -> None:
    groups = GROUPS[3:5]  # 4 px in four ways, 5 degrees in two
    labels = np.array([0, 1, 2, 2])
    before = np.array([0, 1, 2, 0])
    four = np.array([[0, 1, 2, 0], [0, 1, 1, 2], [0, 0, 2, 2], [0, 1, 2, 0]])
    two = np.array([[0, 1, 2, 2], [0, 1, 2, 2]])
    figures = shift_figures(groups, before, [four, two], labels, 0)
    assert figures["clean"]["count"] == 3
    first, second = figures["groups"]
    assert first["accuracy"]["value"] == pytest.approx(12 / 16)
    assert first["right_in_all"]["count"] == 1
    assert first["changed"]["value"] == pytest.approx(4 / 16)
    assert first["ways"]["4 px down"]["count"] == 3
    assert second["accuracy"]["value"] == 1
    assert second["right_in_all"]["count"] == 4
    assert second["changed"]["value"] == pytest.approx(2 / 8)
    # right as they are, and in all translations: the rotation does not count
    assert figures["right_in_all_translations"]["count"] == 1


def test_a_model_of_average_colour_does_not_mind() -> None:
    section = shifts_section(subject(coloured(30), num_corrupted=15))
    assert section.figures["images"] == 15
    assert [group["accuracy"]["value"] for group in section.figures["groups"]] == [1] * 14
    assert section.figures["right_in_all_translations"]["value"] == 1
    assert any("15 of 30" in note for note in section.notes)
    for table in section.tables.values():
        assert all(len(row) == len(table.header) == len(table.kinds) for row in table.rows)
    assert len(section.tables["shift_ways"].rows) == 36


class Corner(torch.nn.Module):
    """Looks at the two uppermost rows only."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW[:, :, :2].float().mean((2, 3))


def test_a_model_that_looks_at_one_edge_minds_one_direction() -> None:
    images = coloured(30)
    images.images_NCHW[:, :, 2:] = images.images_NCHW[:, :, 2:].flip(1)  # elsewhere the classes are exchanged
    section = shifts_section(subject(images, Corner()))
    ways = section.figures["groups"][3]["ways"]  # 4 px
    assert ways["4 px left"]["value"] == ways["4 px right"]["value"] == 1
    assert ways["4 px up"]["value"] < 0.8
