"""The weight gradient from images laid side by side is the weight gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cifarlab.models.convolution import Conv3x3, side_by_side, weight_gradient


@pytest.mark.parametrize(
    ("num", "width_in", "width_out", "size"), [(8, 5, 7, 7), (10, 4, 6, 3), (7, 3, 5, 3), (6, 4, 4, 15)]
)
def test_weight_gradient_equals_that_of_autograd(num: int, width_in: int, width_out: int, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num, width_in, size, size, generator=generator, dtype=torch.float64)
    grad = torch.randn(num, width_out, size, size, generator=generator, dtype=torch.float64)
    weight = torch.randn(width_out, width_in, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(F.conv2d(x, weight, padding=1), weight, grad)
    torch.testing.assert_close(weight_gradient(grad, x, weight), expected)


def test_images_share_a_row_only_where_it_pays_and_divides() -> None:
    assert side_by_side(500, 31) == 1
    assert side_by_side(500, 15) == 1
    assert side_by_side(500, 7) == 5
    assert side_by_side(256, 7) == 4
    assert side_by_side(500, 3) == 10
    assert side_by_side(7, 7) == 1  # 7 images cannot be dealt out in fives
    assert all(500 % side_by_side(500, width) == 0 for width in range(1, 40))


def test_convolution_in_bf16_has_the_gradients_of_an_ordinary_one() -> None:
    torch.manual_seed(0)
    ours = Conv3x3(16, 24).to(memory_format=torch.channels_last)
    x = torch.randn(20, 16, 7, 7).to(memory_format=torch.channels_last).requires_grad_()
    exact = torch.nn.functional.conv2d(x.double(), ours.weight.double(), padding=1)
    expected = [exact, *torch.autograd.grad(exact.square().mean(), [x, ours.weight])]
    dtypes = []
    for forward in (ours, lambda x: torch.nn.Conv2d.forward(ours, x)):
        with torch.autocast("cpu", torch.bfloat16):
            y = forward(x)
        got = [y, *torch.autograd.grad(y.float().square().mean(), [x, ours.weight])]
        dtypes.append([value.dtype for value in got])
        for one, other in zip(got, expected, strict=True):
            # a few roundings of 0.4 %; how many depends on the processor
            torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=0.02 * other.abs().max().item())
    assert dtypes[0] == dtypes[1]


def test_without_autocast_it_is_the_ordinary_convolution() -> None:
    ours, x = Conv3x3(3, 4), torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(ours(x), F.conv2d(x, ours.weight, padding=1))
