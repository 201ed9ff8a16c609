"""Explore: what is in a data set, before any model; one page, its pictures, and the same figures as JSON.

Test images are looked at for counts, statistics and duplicates only: nothing that is chosen later depends on them.

Shape suffixes: N images, C channels, B values of a pixel, H height, W width, K classes, P pairs.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from cifarlab import pages
from cifarlab.config import DataConfig
from cifarlab.data import ImageSet, load_source
from cifarlab.data.audit import (
    NEAR_THRESHOLD,
    NearDuplicates,
    Overlap,
    count_overlaps,
    exact_duplicates,
    near_duplicates,
)
from cifarlab.data.folders import SkippedImagesWarning
from cifarlab.data.splits import make_splits
from cifarlab.errors import DataError, RunError
from cifarlab.plots import exploration as plots
from cifarlab.plots.style import figure_bytes
from cifarlab.run import durable_file, write_text

_CHUNK = 512
_HISTOGRAM_IMAGES = 5000  # 5 million pixels a channel at 32 x 32 draw the same curve as all of them
_PAIRS_SHOWN = 18
_CLASSES_SHOWN = 100
_PAIR_PICTURES = {"across", "within", "disagreeing"}


@dataclass(frozen=True)
class SetSummary:
    """One split in figures; pixel values are in units of [0, 1], channels in the order red, green, blue."""

    images: int
    class_counts: list[int]
    channel_mean: list[float]
    channel_std: list[float]
    sha256: str


@dataclass(frozen=True)
class FoundPair:
    """Two nearly equal pictures: split, position in it, label and file (if there are files) of both."""

    first: tuple[str, int, int, str]
    second: tuple[str, int, int, str]
    similarity: float


@dataclass(frozen=True)
class Exploration:
    """What ``explore`` found, and the files it wrote.

    Attributes:
        origin: Where the images come from.
        image_size: Height and width in pixels.
        class_names: K names.
        split_sha256: Hash of which image is in which split; empty if the images cannot be split.
        sets: Figures of every split.
        imbalance: Images of the largest class over those of the smallest, all splits together.
        brightness_by_class: Share of the variance of the training images' brightness that lies between classes, 0..1.
        overlaps: Duplicates within and between splits.
        near_threshold: Similarity from which two pictures count as nearly equal.
        near_complete: False if there were too many candidates to look at all of them.
        pairs: Every pair of nearly equal pictures, most similar first.
        notes: What the reader must know: images skipped, splits that could not be made.
        page: Path of exploration.html.
        json: Path of exploration.json.
    """

    origin: str
    image_size: tuple[int, int]
    class_names: tuple[str, ...]
    split_sha256: str
    sets: dict[str, SetSummary]
    imbalance: float
    brightness_by_class: float
    overlaps: list[Overlap]
    near_threshold: float
    near_complete: bool
    pairs: list[FoundPair]
    notes: list[str]
    page: Path
    json: Path


def explore(config: DataConfig, *, out: Path, progress: Callable[[str, float], None] | None = None) -> Exploration:
    """Describe a data set and look for duplicates within and across its splits.

    Args:
        config: Which images, and how they are split.
        out: Folder for exploration.json, exploration.html (a single file that loads nothing from anywhere) and
            plots/*.png; it is made where it is missing.
        progress: Told the stage and the share of it that is done, 0..1.

    Returns:
        The figures and the paths written.

    Raises:
        DataError: If the images are missing or damaged.
        RunError: If ``out`` cannot be written.
    """
    report = progress or (lambda stage, share: None)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create the folder {out}: {error.strerror}; choose another with --out") from error
    report("reading", 0.0)
    sets, origin, split_sha256, notes = _load(config)
    train = sets["train"]
    report("statistics", 0.0)
    summaries = {name: _summarize(images) for name, images in sets.items()}
    brightness_N, contrast_N = _brightness_and_contrast(train.images_NCHW)
    pictures = torch.cat([images.images_NCHW for images in sets.values()])
    near = near_duplicates(pictures, progress=lambda share: report("duplicates", share))
    totals = np.sum([summary.class_counts for summary in summaries.values()], axis=0)
    result = Exploration(
        origin=origin,
        image_size=(pictures.shape[2], pictures.shape[3]),
        class_names=train.class_names,
        split_sha256=split_sha256,
        sets=summaries,
        imbalance=float(totals.max() / totals.min()),
        brightness_by_class=_share_between_classes(brightness_N, train.labels_N),
        overlaps=count_overlaps(sets, exact_duplicates(pictures), near),
        near_threshold=NEAR_THRESHOLD,
        near_complete=near.complete,
        pairs=_found_pairs(sets, near),
        notes=notes,
        page=out / "exploration.html",
        json=out / "exploration.json",
    )
    report("page", 0.0)
    _write(result, _figures(train, summaries, brightness_N, contrast_N) | _pair_figures(sets, result.pairs))
    report("page", 1.0)
    return result


def _load(config: DataConfig) -> tuple[dict[str, ImageSet], str, str, list[str]]:
    """Return the splits by name, their origin and hash, and notes; data too small to split is taken as it comes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = load_source(config)
    # Pillow warns too, of metadata that nobody reads here, without naming the image
    notes = [str(warning.message) for warning in caught if warning.category is SkippedImagesWarning]
    try:
        splits = make_splits(source, config)
        train, val, test, sha256 = splits.train, splits.val, splits.test, splits.sha256
    except DataError as error:
        train, val, test, sha256 = source.train, source.val, source.test, ""
        notes.append(f"The images are shown as they come, because they cannot be split: {error}")
    named = {"train": train, "val": val, "test": test}
    return {name: images for name, images in named.items() if images is not None}, source.origin, sha256, notes


def _summarize(images: ImageSet) -> SetSummary:
    total = torch.zeros(2, 3, dtype=torch.float64)
    for chunk in torch.split(images.images_NCHW, _CHUNK):
        pixels = chunk.float().div_(255)
        total += torch.stack([pixels.sum((0, 2, 3)), pixels.square_().sum((0, 2, 3))])
    mean, square = total / (images.images_NCHW.numel() / 3)
    return SetSummary(
        images=len(images),
        class_counts=images.class_counts.tolist(),
        channel_mean=mean.tolist(),
        channel_std=(square - mean**2).clamp_min(0).sqrt().tolist(),
        sha256=images.sha256(),
    )


def _brightness_and_contrast(images_NCHW: torch.Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return mean and standard deviation of every image's grey values: float32, N each, in units of [0, 1]."""
    grey = [chunk.float().mean(1).flatten(1) / 255 for chunk in torch.split(images_NCHW, _CHUNK)]
    brightness = torch.cat([chunk.mean(1) for chunk in grey])
    return brightness.numpy(), torch.cat([chunk.std(1, correction=0) for chunk in grey]).numpy()


def _share_between_classes(values_N: np.ndarray[Any, Any], labels_N: torch.Tensor) -> float:
    """Return the correlation ratio (eta squared): variance between class means over total variance."""
    labels, values = labels_N.numpy(), values_N.astype(np.float64)
    counts = np.bincount(labels)
    means = np.bincount(labels, values) / np.maximum(counts, 1)
    total = ((values - values.mean()) ** 2).sum()
    return float((counts * (means - values.mean()) ** 2).sum() / total) if total > 0 else 0.0


def _found_pairs(sets: dict[str, ImageSet], near: NearDuplicates) -> list[FoundPair]:
    where = [(name, n) for name, images in sets.items() for n in range(len(images))]
    labels = {name: images.labels_N.tolist() for name, images in sets.items()}

    def side(position: int) -> tuple[str, int, int, str]:
        name, n = where[position]
        return name, n, labels[name][n], sets[name].names[n] if sets[name].names else ""

    pairs = zip(near.pairs_P2.tolist(), near.similarity_P.tolist(), strict=True)
    return [FoundPair(side(first), side(second), round(similarity, 4)) for (first, second), similarity in pairs]


def _figures(
    train: ImageSet, summaries: dict[str, SetSummary], brightness: np.ndarray[Any, Any], contrast: np.ndarray[Any, Any]
) -> dict[str, Figure]:
    labels = train.labels_N.numpy()
    members = [torch.from_numpy(np.flatnonzero(labels == k)) for k in range(train.num_classes)]
    shown = range(min(train.num_classes, _CLASSES_SHOWN))
    names = train.class_names[: len(shown)]
    per_class = 10 if train.num_classes <= 20 else 4
    grids = [train.images_NCHW[members[k][:per_class]] for k in shown]
    means = torch.stack([_mean_image(train.images_NCHW, members[k]) for k in shown])
    sample = train.images_NCHW[:: -(-len(train) // _HISTOGRAM_IMAGES)].transpose(0, 1).flatten(1).numpy()
    histogram_CB = np.stack([np.bincount(channel, minlength=256) for channel in sample])
    counts = {name: summary.class_counts for name, summary in summaries.items()}
    values = ([array[m.numpy()] for m in members] for array in (brightness, contrast))
    return {
        "balance": plots.plot_class_balance(train.class_names, counts),
        "grid": plots.plot_image_grid(names, grids),
        "means": plots.plot_mean_images(names, means),
        "distributions": plots.plot_distributions(train.class_names, *values),
        "channels": plots.plot_channels(histogram_CB),
    }


def _mean_image(images_NCHW: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(images_NCHW.shape[1:], dtype=torch.float64)
    for chunk in torch.split(positions, _CHUNK):
        total += images_NCHW[chunk].float().sum(0)
    return (total / len(positions)).round().to(torch.uint8)


def _pair_figures(sets: dict[str, ImageSet], pairs: list[FoundPair]) -> dict[str, Figure]:
    """Draw the most similar pairs across splits, within train, and those whose labels disagree; no picture twice."""
    groups = {
        "across": [pair for pair in pairs if pair.first[0] != "test" and pair.second[0] == "test"],
        "within": [pair for pair in pairs if pair.first[0] == pair.second[0] == "train"],
        "disagreeing": [pair for pair in pairs if pair.first[2] != pair.second[2]],
    }
    figures = {}
    for name, group in groups.items():
        shown: list[plots.Pair] = []
        seen: set[tuple[str, int]] = set()
        for pair in group:
            ends = {pair.first[:2], pair.second[:2]}
            if not ends & seen and len(shown) < _PAIRS_SHOWN:  # thirty copies of one car would hide everything else
                shown.append(_drawn(sets, pair))
                seen |= ends
        if shown:
            figures[name] = plots.plot_pairs(shown)
    return figures


def _drawn(sets: dict[str, ImageSet], pair: FoundPair) -> plots.Pair:
    first, second = (sets[name].images_NCHW[n] for name, n, _, _ in (pair.first, pair.second))
    names = [next(iter(sets.values())).class_names[label][:14] for _, _, label, _ in (pair.first, pair.second)]
    differ = pair.first[2] != pair.second[2]
    places = f"{pair.first[0]} {pair.first[1]} | {pair.second[0]} {pair.second[1]}"
    return plots.Pair(first, second, f"{' | '.join(names) if differ else names[0]}\n{places}", differ)


def _write(result: Exploration, figures: dict[str, Figure]) -> None:
    pictures = {name: figure_bytes(figure, "png") for name, figure in figures.items()}
    for name, content in pictures.items():
        with durable_file(result.page.parent / "plots" / f"{name}.png") as temporary:
            temporary.write_bytes(content)
    for name in _PAIR_PICTURES - pictures.keys():  # of the images that were here before
        (result.page.parent / "plots" / f"{name}.png").unlink(missing_ok=True)
    values = {key: value for key, value in dataclasses.asdict(result).items() if key not in ("page", "json")}
    write_text(result.json, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    uris = {name: pages.data_uri(png, ".png") for name, png in pictures.items()}
    context = {**vars(result), "pictures": uris, "css": pages.stylesheet()}
    write_text(result.page, pages.render("explore.html.j2", context))
