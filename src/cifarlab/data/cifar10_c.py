"""CIFAR-10-C: the 10,000 test images of CIFAR-10 under 15 corruptions at 5 severities, as their authors published them.

The archive is an uncompressed tar, so nothing is unpacked: its members are mapped into memory where they lie. Only
members of an expected name and of exactly the expected size are looked at. An unpacked folder serves as well.

Shape suffixes: N images, M selected images, C channels, H height, W width.

References:
    Hendrycks and Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
    arXiv 1903.12261; the files are record 2535967 of zenodo.org.
"""

from __future__ import annotations

import io
import math
import tarfile
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.data.cache import data_places
from cifarlab.data.published import Publication, PublishedFile, find
from cifarlab.errors import DataError, IntegrityError

CIFAR10_C = Publication(
    name="cifar10-c",
    files=(
        PublishedFile(
            name="CIFAR-10-C.tar",
            kept_as="CIFAR-10-C.tar",
            num_bytes=2_918_471_680,
            # as TensorFlow Datasets lists it; the record itself states the MD5 56bf5dcef84df0e2308c6dcbcbbd8499
            sha256="c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
        ),
    ),
    url="https://zenodo.org/record/2535967/files",
    variable="CIFARLAB_CIFAR10_C_URL",
)
FOLDER = "CIFAR-10-C"
"""Folder inside the archive, and the name under which an unpacked one is found beside CIFAR-10."""

NAMES = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 corruptions of the benchmark, by the names of their files; four more in the archive are for validation."""
NUM_SEVERITIES = 5
NUM_IMAGES = 10_000

_SIDE = 32
_MAX_HEADER_BYTES = 1024  # of a file in numpy's format
_MAX_MEMBERS = 100  # the archive has 21
_UNREADABLE = (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError)  # from numpy, of hostile headers
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class OfficialCorruptions:
    """The official files, mapped into memory.

    Attributes:
        labels_N: uint8; the true classes of the test images, in their order.
        arrays: By name of the corruption: uint8, 5N x H x W x C, the N test images at severity 1, then at 2, …
        source: Where they lie.
    """

    labels_N: NDArray[np.uint8]
    arrays: Mapping[str, NDArray[np.uint8]]
    source: str

    def images(self, name: str, severity: int, positions_M: NDArray[np.int64]) -> torch.Tensor:
        """Return the test images at the given positions under a corruption: uint8, M x C x H x W."""
        rows_MHWC = self.arrays[name][(severity - 1) * len(self.labels_N) + positions_M]
        return torch.from_numpy(np.ascontiguousarray(rows_MHWC.transpose(0, 3, 1, 2)))


def open_cifar10_c(
    folder: str = "", *, publication: Publication = CIFAR10_C, num_images: int = NUM_IMAGES
) -> OfficialCorruptions | None:
    """Open the official files.

    Args:
        folder: Where they are: the 15 files and labels.npy, or the archive. '' looks where data is kept.
        publication: The archive.
        num_images: N.

    Returns:
        The files; None if ``folder`` is '' and they are not here.

    Raises:
        DataError: If they are not in ``folder``.
        IntegrityError: If a file is missing or is not what it should be.
    """
    try:
        if folder:
            return _open_folder(Path(folder).expanduser(), publication, num_images)
        archive = find(publication.files[0])
        if archive is not None:
            return _open_archive(archive, num_images)
        for place in data_places():
            if (place / FOLDER / "labels.npy").is_file():
                return _open_files(place / FOLDER, num_images)
    except IntegrityError as error:
        raise IntegrityError(f"{error}; cifarlab fetch cifar10-c brings the published files") from error
    return None


def _open_folder(folder: Path, publication: Publication, num_images: int) -> OfficialCorruptions:
    archive = folder / publication.files[0].name
    if archive.is_file():
        return _open_archive(archive, num_images)
    for place in (folder, folder / FOLDER):
        if (place / "labels.npy").is_file():
            return _open_files(place, num_images)
    wanted = f"neither {archive.name} nor labels.npy and the 15 .npy files of CIFAR-10-C"
    raise DataError(f"{folder} holds {wanted}; cifarlab fetch cifar10-c brings them")


def _expected(num_images: int) -> dict[str, tuple[int, ...]]:
    """Shape of every file that is read, by its name."""
    num_rows = NUM_SEVERITIES * num_images
    return {"labels.npy": (num_rows,)} | {f"{name}.npy": (num_rows, _SIDE, _SIDE, 3) for name in NAMES}


def _open_files(folder: Path, num_images: int) -> OfficialCorruptions:
    arrays = {}
    for name, shape in _expected(num_images).items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError(f"{path} is missing")
        arrays[name] = _map(path, 0, path.stat().st_size, shape, name)
    return _assemble(arrays, num_images, str(folder))


def _open_archive(path: Path, num_images: int) -> OfficialCorruptions:
    """Map the members of a tar archive. No name in it becomes a path, and nothing of it is written anywhere."""
    shapes, arrays = _expected(num_images), dict[str, NDArray[np.uint8]]()
    try:
        with tarfile.open(path, "r:") as archive:
            for number, member in enumerate(archive):
                if number >= _MAX_MEMBERS:
                    raise IntegrityError(f"{path} has more than {_MAX_MEMBERS} members; it is not CIFAR-10-C")
                folder, _, name = member.name.removeprefix("./").partition("/")
                if folder != FOLDER or name not in shapes:
                    continue
                if name in arrays or not member.isreg() or member.issparse():
                    raise IntegrityError(f"{path}: member {member.name} is a duplicate or no plain file")
                arrays[name] = _map(path, member.offset_data, member.size, shapes[name], name)
    except (tarfile.TarError, ValueError, OverflowError) as error:  # the last two of sizes beyond any file
        raise IntegrityError(f"{path} is not a complete tar archive ({error})") from error
    if missing := [name for name in shapes if name not in arrays]:
        raise IntegrityError(f"{path} holds no {FOLDER}/{missing[0]}")
    return _assemble(arrays, num_images, str(path))


def _map(path: Path, offset: int, num_bytes: int, shape: tuple[int, ...], name: str) -> NDArray[np.uint8]:
    """Map an array in numpy's format that begins at an offset of a file; no object is ever unpickled."""
    with path.open("rb") as file:
        file.seek(offset)
        start = io.BytesIO(file.read(_MAX_HEADER_BYTES))  # a header may claim to have 4 GB; no more than this is read
    try:
        read_header = _HEADERS[np.lib.format.read_magic(start)]
        found, is_fortran, dtype = read_header(start)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:100]
        raise IntegrityError(f"{path}: {name} is not an array in numpy's format ({reason})") from error
    data_offset = offset + start.tell()
    if (found, is_fortran, dtype) != (shape, False, np.dtype(np.uint8)):
        raise IntegrityError(f"{path}: {name} is {dtype} {found}, not uint8 {shape}")
    if num_bytes != (expected := data_offset - offset + math.prod(shape)):
        raise IntegrityError(f"{path}: {name} has {num_bytes} bytes, not {expected}")
    if offset + num_bytes > path.stat().st_size:
        raise IntegrityError(f"{path} ends within {name}")
    return np.memmap(path, np.uint8, mode="r", offset=data_offset, shape=shape)


def _assemble(arrays: Mapping[str, NDArray[np.uint8]], num_images: int, source: str) -> OfficialCorruptions:
    labels_SN = np.asarray(arrays["labels.npy"]).reshape(NUM_SEVERITIES, num_images)
    if (labels_SN != labels_SN[0]).any() or labels_SN.max() > 9:
        raise IntegrityError(f"{source}: labels.npy does not hold the same ten classes at every severity")
    return OfficialCorruptions(labels_SN[0], {name: arrays[f"{name}.npy"] for name in NAMES}, source)
