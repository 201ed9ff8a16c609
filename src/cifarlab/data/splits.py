"""Train, val and test: stratified, seeded, hashed."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from cifarlab.config import DataConfig
from cifarlab.data.imageset import ImageSet, SourceData, Splits
from cifarlab.errors import DataError


def stratified_split(labels_N: torch.Tensor, share: float, seed: int, what: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Split positions 0..N-1 in two, each class in proportion.

    Args:
        labels_N: int64, N.
        share: Share of the second part, in (0, 1).
        seed: Seed of the draw.
        what: Name of the second part, for messages.

    Returns:
        Positions of the first and of the second part, both ascending, int64.

    Raises:
        DataError: If a class has too few images to be in both parts.
    """
    labels = labels_N.numpy()
    size = round(share * len(labels))
    counts = np.unique(labels, return_counts=True)[1]
    if min(size, len(labels) - size) < len(counts) or counts.min() < 2:
        setting = "data.train_limit" if what == "training" else "data.val_fraction or data.test_fraction"
        raise DataError(
            f"cannot split {len(labels)} images of {len(counts)} classes to hold out {size} for {what}; "
            f"add images, or change {setting}"
        )
    # the same draw as scikit-learn's train_test_split, whose import would be a fifth of the way to the first step
    random = np.random.RandomState(seed)
    second = np.zeros(len(labels), dtype=bool)
    for label, num in zip(np.unique(labels), _proportional(counts, size), strict=True):
        positions = np.flatnonzero(labels == label)
        second[positions[random.permutation(len(positions))[len(positions) - num :]]] = True
    return torch.from_numpy(np.flatnonzero(~second)), torch.from_numpy(np.flatnonzero(second))


def _proportional(counts_K: np.ndarray, size: int) -> np.ndarray:
    """Divide a number among classes in proportion to their counts, the largest remainders being rounded up."""
    exact_K = counts_K * (size / counts_K.sum())
    numbers_K: np.ndarray = np.floor(exact_K).astype(np.int64)
    most = np.argsort(numbers_K - exact_K, kind="stable")[: size - numbers_K.sum()]
    numbers_K[most] += 1
    return numbers_K


def make_splits(source: SourceData, config: DataConfig) -> Splits:
    """Complete what the source brings: hold out test and val where it has none, and limit train."""
    positions = torch.arange(len(source.train))
    train, val, test = source.train, source.val, source.test
    digest = hashlib.sha256()
    if test is None and config.test_fraction > 0:
        keep, held = stratified_split(train.labels_N, config.test_fraction, config.split_seed, "test")
        train, test = train.subset(keep), train.subset(held)
        digest.update(b"test" + positions[held].numpy().tobytes())
        positions = positions[keep]
    if val is None and config.val_fraction > 0:
        keep, held = stratified_split(train.labels_N, config.val_fraction, config.split_seed, "validation")
        train, val = train.subset(keep), train.subset(held)
        digest.update(b"val" + positions[held].numpy().tobytes())
        positions = positions[keep]
    limited = 0 < config.train_limit < len(train)
    if limited:
        share = config.train_limit / len(train)
        _, keep = stratified_split(train.labels_N, share, config.split_seed, "training")
        train, positions = train.subset(keep), positions[keep]
    digest.update(b"train" + positions.numpy().tobytes())
    _check(train, limited=limited)
    return Splits(train=train, val=val, test=test, origin=source.origin, sha256=digest.hexdigest())


def _check(train: ImageSet, *, limited: bool) -> None:
    if not len(train):
        raise DataError("no image is left for training; lower data.val_fraction and data.test_fraction")
    empty = [train.class_names[k] for k in (train.class_counts == 0).nonzero().flatten().tolist()]
    if empty:
        way_out = "raise data.train_limit" if limited else "add images or remove the class"
        raise DataError(f"no training image for class {', '.join(empty)}; {way_out}")
