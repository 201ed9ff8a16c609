"""Which image an entry is of, where images are told by their files. Shape suffix: N images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError
from cifarlab.predictions_file.columns import Table

_Parts = tuple[str, ...]


def match_names(table: Table, image_names: Sequence[str]) -> NDArray[np.int64]:
    """Return which entry of a file each image of a split has: int64, N.

    A file may be told by any part of its path that ends it, such as 'cat/7.png' or '7' for 'test/cat/7.png', or by a
    longer path that ends in it, as long as just one image is meant.

    Args:
        table: What the file holds, with a file for each of N entries.
        image_names: The file of each image, N.

    Raises:
        DataError: If an entry means no image, or several, or two entries mean the same; one line.
    """
    whole: dict[_Parts, int | None] = {}
    ends: dict[_Parts, int | None] = {}
    for n, name in enumerate(image_names):
        parts = _parts(name)
        for spelt in (parts, (*parts[:-1], PurePosixPath(parts[-1]).stem)):
            whole[spelt] = None if whole.get(spelt, n) != n else n
            for end in _ends(spelt):
                ends[end] = None if ends.get(end, n) != n else n
    order_N = np.full(len(image_names), -1, dtype=np.int64)
    for entry, (row, file) in enumerate(zip(table.rows, table.files or (), strict=True)):
        image = _find(_parts(file), whole, ends)
        if image is None:
            raise DataError(f"{table.path}, {row}: the file {str(file)!r} is {_complaint(_parts(file), ends)}")
        if order_N[image] >= 0:
            raise DataError(f"{table.path}, {row}: the image {image_names[image]} is there twice; give each image once")
        order_N[image] = entry
    return order_N


def _find(parts: _Parts, whole: dict[_Parts, int | None], ends: dict[_Parts, int | None]) -> int | None:
    if parts in ends:
        return ends[parts]
    return next((whole[end] for end in _ends(parts) if end in whole), None)


def _complaint(parts: _Parts, ends: dict[_Parts, int | None]) -> str:
    if parts in ends:
        return "that of several images; give more of its path"
    return "that of no image of the split"


def _parts(name: Any) -> _Parts:
    parts = tuple(part for part in str(name).strip().replace("\\", "/").split("/") if part not in ("", "."))
    return parts or ("",)


def _ends(parts: _Parts) -> Iterator[_Parts]:
    """Return what a path ends in, the longest first."""
    return (parts[first:] for first in range(len(parts)))
