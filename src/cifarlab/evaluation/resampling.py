"""Images read at positions between their pixels.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Literal

import torch

Border = Literal["reflect", "symmetric"]
"""What follows a row of pixels a b c: with 'reflect' b a, with 'symmetric' c b a; and likewise before it."""


def fold(index: torch.Tensor, length: int, border: Border) -> torch.Tensor:
    """Return which pixel of a line an index beyond its ends stands for.

    Args:
        index: int64, any shape and range.
        length: Pixels of the line, at least 1.
        border: What lies beyond.

    Returns:
        int64, range 0..length-1.
    """
    if border == "symmetric":
        index = index.remainder(2 * length)
        return torch.minimum(index, 2 * length - 1 - index)
    if length == 1:
        return torch.zeros_like(index)
    index = index.remainder(2 * length - 2)
    return torch.minimum(index, 2 * length - 2 - index)


def sample_bilinear(
    pixels_NCHW: torch.Tensor, rows_NHW: torch.Tensor, columns_NHW: torch.Tensor, border: Border = "reflect"
) -> torch.Tensor:
    """Return images whose every pixel is read at a position of the given ones, by bilinear interpolation.

    Args:
        pixels_NCHW: Floating point, N x C x H x W.
        rows_NHW: Floating point, N (or 1) x H' x W'; 0 is the middle of the first row of pixels.
        columns_NHW: Likewise.
        border: What lies beyond the border.

    Returns:
        N x C x H' x W', of the dtype of the pixels.
    """
    num, channels, height, width = pixels_NCHW.shape
    shape = (num, *rows_NHW.shape[1:])
    top_NHW, left_NHW = rows_NHW.floor(), columns_NHW.floor()
    down_NHW, right_NHW = (rows_NHW - top_NHW), (columns_NHW - left_NHW)
    flat_NCP = pixels_NCHW.flatten(2)
    total = torch.zeros(num, channels, shape[1] * shape[2], dtype=pixels_NCHW.dtype)
    for step_down, share_down in ((0, 1 - down_NHW), (1, down_NHW)):
        rows = fold(top_NHW.long() + step_down, height, border) * width
        for step_right, share_right in ((0, 1 - right_NHW), (1, right_NHW)):
            index_NHW = rows + fold(left_NHW.long() + step_right, width, border)
            index_NCP = index_NHW.expand(shape).flatten(1)[:, None].expand(-1, channels, -1)
            share_N1P = (share_down * share_right).expand(shape).flatten(1)[:, None].to(pixels_NCHW.dtype)
            total += share_N1P * flat_NCP.gather(2, index_NCP)
    return total.view(num, channels, *shape[1:])
