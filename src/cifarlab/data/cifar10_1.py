"""CIFAR-10.1: new test images for CIFAR-10, gathered years later as the first ones were, in the same classes.

v4 holds 2,021 images, v6 2,000 with exactly 200 of each class; most images are in both. The files are checked by
SHA-256 whenever they are read.

Shape suffixes: N images, C channels, H height, W width.

References:
    Recht, Roelofs, Schmidt and Shankar (2018), "Do CIFAR-10 Classifiers Generalize to CIFAR-10?", arXiv 1806.00451;
    github.com/modestyachts/CIFAR-10.1. The images come from Torralba, Fergus and Freeman (2008), "80 Million
    Tiny Images".
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch

from cifarlab.data.cifar import CIFAR10
from cifarlab.data.imageset import ImageSet
from cifarlab.data.published import Publication, PublishedFile, check, find
from cifarlab.errors import IntegrityError


@dataclass(frozen=True)
class Version:
    """One version of the data set.

    Attributes:
        name: 'v4' or 'v6'.
        num_images: N.
        images: uint8, N x H x W x C.
        labels: int32, N, in the class order of CIFAR-10.
    """

    name: str
    num_images: int
    images: PublishedFile
    labels: PublishedFile


def _file(name: str, num_bytes: int, sha256: str) -> PublishedFile:
    return PublishedFile(name, f"CIFAR-10.1/{name}", num_bytes, sha256)


# Sizes and checksums as TensorFlow Datasets lists them; those of the labels were computed again from the repository.
VERSIONS = (
    Version(
        "v4",
        2021,
        _file(
            "cifar10.1_v4_data.npy",
            6_208_640,
            "5aaedc268df8f4cffca2ac0cf9e608ae1897a8cddb630c7a850a2ea8f6558e75",
        ),
        _file("cifar10.1_v4_labels.npy", 8_212, "1f9544300ded199539b6662364ce7fe6c2e1ea9f87408f06db4b1a6184cffb18"),
    ),
    Version(
        "v6",
        2000,
        _file(
            "cifar10.1_v6_data.npy",
            6_144_128,
            "2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6",
        ),
        _file("cifar10.1_v6_labels.npy", 8_128, "ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448"),
    ),
)

CIFAR10_1 = Publication(
    name="cifar10.1",
    files=tuple(file for version in VERSIONS for file in (version.images, version.labels)),
    url="https://github.com/modestyachts/CIFAR-10.1/raw/master/datasets",
    variable="CIFARLAB_CIFAR10_1_URL",
)


def load_cifar10_1(version: Version) -> ImageSet | None:
    """Load one version.

    Args:
        version: Which.

    Returns:
        The images in the published order; None if they are not here.

    Raises:
        IntegrityError: If a file is damaged.
    """
    paths = find(version.images), find(version.labels)
    if paths[0] is None or paths[1] is None:
        return None
    arrays = []
    for path, file in ((paths[0], version.images), (paths[1], version.labels)):
        try:
            check(path, file)
            arrays.append(np.load(io.BytesIO(path.read_bytes()), allow_pickle=False))
        except (IntegrityError, ValueError) as error:
            raise IntegrityError(f"{path}: {error}; cifarlab fetch cifar10.1 brings it again") from error
    images_NHWC, labels_N = arrays
    shape = (version.num_images, 32, 32, 3)
    if images_NHWC.dtype != np.uint8 or images_NHWC.shape != shape or labels_N.shape != shape[:1]:
        raise IntegrityError(f"CIFAR-10.1 {version.name} is {images_NHWC.dtype} {images_NHWC.shape}, not uint8 {shape}")
    images_NCHW = torch.from_numpy(np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2)))
    return ImageSet(images_NCHW, torch.from_numpy(labels_N.astype(np.int64)), CIFAR10.class_names)
