"""ImageSet, the one form in which images travel through the package, and the splits made of it.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from cifarlab.errors import DataError


@dataclass(frozen=True)
class ImageSet:
    """Images in memory, with labels.

    Attributes:
        images_NCHW: uint8, N x 3 x H x W, range 0..255.
        labels_N: int64, N, range 0..K-1.
        class_names: K names in label order.
        names: File of every image where there are files; empty for CIFAR.
    """

    images_NCHW: torch.Tensor
    labels_N: torch.Tensor
    class_names: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes and types once, so that nobody downstream has to.

        Raises:
            DataError: If images and labels do not belong together.
        """
        if self.images_NCHW.dtype != torch.uint8 or self.images_NCHW.ndim != 4 or self.images_NCHW.shape[1] != 3:
            raise DataError(f"images must be uint8 of shape N x 3 x H x W, not {tuple(self.images_NCHW.shape)}")
        if self.labels_N.dtype != torch.int64 or self.labels_N.shape != self.images_NCHW.shape[:1]:
            raise DataError(f"{len(self.images_NCHW)} images need as many int64 labels, not {len(self.labels_N)}")
        if len(self.labels_N) and not 0 <= int(self.labels_N.min()) <= int(self.labels_N.max()) < len(self.class_names):
            raise DataError(f"labels must lie in 0..{len(self.class_names) - 1}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels_N)

    @property
    def num_classes(self) -> int:
        """Number of classes, those without an image included."""
        return len(self.class_names)

    @property
    def class_counts(self) -> torch.Tensor:
        """Images per class: int64, K."""
        return torch.bincount(self.labels_N, minlength=self.num_classes)

    def subset(self, indices_M: torch.Tensor) -> ImageSet:
        """Return the images at the given positions (int64, M), in that order."""
        names = tuple(self.names[i] for i in indices_M.tolist()) if self.names else ()
        return ImageSet(self.images_NCHW[indices_M], self.labels_N[indices_M], self.class_names, names)

    def sha256(self) -> str:
        """Return the SHA-256 of pixels (channel-row-column order) and labels (int64), as hex."""
        digest = hashlib.sha256(self.images_NCHW.contiguous().numpy().data)
        digest.update(self.labels_N.contiguous().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class SourceData:
    """What a source delivered: its own train set, and val and test sets where it brings them."""

    train: ImageSet
    val: ImageSet | None
    test: ImageSet | None
    origin: str
    """Where it came from, for environment.json: 'cifar10', or the folder or file."""


@dataclass(frozen=True)
class Splits:
    """The three splits of a run. ``test`` is for evaluation only; each reading of it is recorded in the run."""

    train: ImageSet
    val: ImageSet | None
    test: ImageSet | None
    origin: str
    sha256: str
    """Hash of which image is in which split."""
