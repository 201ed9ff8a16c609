"""CIFAR-10.1 is read as published, and only as published."""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path

import numpy as np
import pytest

from cifarlab.data.cifar import CIFAR10
from cifarlab.data.cifar10_1 import CIFAR10_1, VERSIONS, Version, load_cifar10_1
from cifarlab.data.published import PublishedFile
from cifarlab.errors import IntegrityError

pytestmark = pytest.mark.usefixtures("alone")

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
LABELS = np.array([9, 0, 5, 5], np.int32)


def put(name: str, array: np.ndarray) -> PublishedFile:
    """Write a file where data is looked for, and describe it."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    path = Path("data/CIFAR-10.1") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.getvalue())
    return PublishedFile(name, f"CIFAR-10.1/{name}", len(file.getvalue()), hashlib.sha256(file.getvalue()).hexdigest())


def test_images_labels_and_classes() -> None:
    found = load_cifar10_1(Version("v0", 4, put("data.npy", IMAGES), put("labels.npy", LABELS)))
    assert found is not None
    np.testing.assert_array_equal(found.images_NCHW.numpy(), IMAGES.transpose(0, 3, 1, 2))
    assert found.labels_N.tolist() == [9, 0, 5, 5]
    assert found.class_names == CIFAR10.class_names


def test_nothing_there_is_none() -> None:
    assert load_cifar10_1(VERSIONS[0]) is None


def test_a_flipped_bit_is_found() -> None:
    version = Version("v0", 4, put("data.npy", IMAGES), put("labels.npy", LABELS))
    path = Path("data/CIFAR-10.1/data.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"cifarlab fetch cifar10\.1"):
        load_cifar10_1(version)


class Harm:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> object:
        return Path("trace").touch, ()


def test_pickled_objects_are_not_opened() -> None:
    version = Version("v0", 4, put("data.npy", np.array([Harm()], object)), put("labels.npy", LABELS))
    with pytest.raises(IntegrityError, match=r"cifarlab fetch cifar10\.1"):
        load_cifar10_1(version)
    assert not Path("trace").exists()


def test_another_shape_is_refused() -> None:
    version = Version("v0", 5, put("data.npy", IMAGES), put("labels.npy", LABELS))
    with pytest.raises(IntegrityError, match="not uint8"):
        load_cifar10_1(version)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_published_sizes_fit_the_published_shapes(version: Version) -> None:
    assert version.images.num_bytes == 128 + math.prod((version.num_images, 32, 32, 3))
    assert version.labels.num_bytes == 128 + 4 * version.num_images
    assert {version.images, version.labels} <= set(CIFAR10_1.files)
