"""Data: where images come from, how they are split, and what is done to a batch."""

from __future__ import annotations

from collections.abc import Callable

from cifarlab.config import DataConfig
from cifarlab.data.imageset import ImageSet, SourceData, Splits

__all__ = ["ImageSet", "SourceData", "Splits", "load_source", "load_splits"]


def load_source(
    config: DataConfig,
    *,
    progress: Callable[[str, int, int | None], None] | None = None,
    notify: Callable[[str], None] | None = None,
) -> SourceData:
    """Load the images a configuration names, as their source delivers them; a public data set is fetched if need be.

    Args:
        config: Which images.
        progress: Takes what is being fetched, bytes so far, and bytes in all.
        notify: Takes one-line notices.

    Raises:
        DataError: If they are missing or damaged.
    """
    if config.folder or config.csv:
        from cifarlab.data.folders import load_csv, load_folder

        load, path = (load_folder, config.folder) if config.folder else (load_csv, config.csv)
        return load(path, image_size=config.image_size, resize=config.resize, corrupt=config.corrupt)
    from cifarlab.data.sources import load_cifar

    return load_cifar(config.dataset, progress=progress, notify=notify)


def load_splits(config: DataConfig) -> Splits:
    """Load the images a configuration names and split them.

    Raises:
        DataError: If they are missing, damaged or too few.
    """
    from cifarlab.data.splits import make_splits

    return make_splits(load_source(config), config)
