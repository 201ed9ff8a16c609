"""The verb ``fetch``: have a public data set in the cache, from whichever source delivers it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class FetchResult:
    """What was fetched, and from where."""

    dataset: str
    source: str
    """The source that delivered, in words; the cache file itself if the data was there already."""
    path: Path | None
    """The cache file, or the folder of several; None if the folder cannot be written."""
    seconds: float
    skipped: tuple[str, ...]
    """One line per source that was tried before and failed: its name and why."""


def fetch(
    dataset: Literal["cifar10", "cifar100", "cifar10-c", "cifar10.1"],
    *,
    url: str = "",
    progress: Callable[[str, int, int | None], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> FetchResult:
    """Fetch a public data set into the cache, unless it is there, and verify it.

    Args:
        dataset: CIFAR-10 or CIFAR-100; or CIFAR-10-C or CIFAR-10.1, on which evaluate measures robustness.
        url: Address of an archive (binary, python or npm tarball) to try before the other downloads; of CIFAR-10-C and
            CIFAR-10.1 that of the folder their files lie in.
        progress: Told what is being fetched, bytes done, bytes in all (None if unknown).
        notify: Told one line about whatever the user should know.

    Returns:
        Source, path and time.

    Raises:
        DownloadError: If no source delivers, or CIFARLAB_OFFLINE is set and the data is not there.
        DataError: If the disk is full.
    """
    from cifarlab.data.cifar import DATASETS
    from cifarlab.data.cifar10_1 import CIFAR10_1
    from cifarlab.data.cifar10_c import CIFAR10_C
    from cifarlab.data.published import obtain_published
    from cifarlab.data.sources import obtain

    begin = time.perf_counter()
    published = {publication.name: publication for publication in (CIFAR10_C, CIFAR10_1)}
    delivery = (
        obtain_published(published[dataset], url=url, progress=progress, notify=notify)
        if dataset in published
        else obtain(DATASETS[dataset], url=url, progress=progress, notify=notify)
    )
    seconds = time.perf_counter() - begin
    return FetchResult(dataset, delivery.source, delivery.path, seconds, delivery.skipped)
