"""Images of none of a model's classes: noise and flat colours that are drawn here, CIFAR-100, a folder of the user's.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from cifarlab.data.cache import cache_file, data_places, read_cache
from cifarlab.data.cifar import CIFAR100, CifarArrays
from cifarlab.data.images import SUFFIXES, Resize, read_image
from cifarlab.errors import DataError, IntegrityError
from cifarlab.seeding import derive_generator

NUM_DRAWN = 500
"""Images of each kind that is drawn."""
NUM_PICTURES = 2000
"""Pictures taken of CIFAR-100 or a folder, at random where there are more."""
_GREY, _SPREAD = 127.5, 64.0  # of gaussian noise; one value in twenty lies outside 0..255 and is cut off
_BLOBS = 6  # across a picture of smooth noise


@dataclass(frozen=True)
class UnknownSet:
    """Images of one kind that show none of the classes.

    Attributes:
        name: For files and figures, such as 'flat_colours'.
        title: In words.
        images_NCHW: uint8, N x 3 x H x W, N at least 1.
    """

    name: str
    title: str
    images_NCHW: torch.Tensor


def drawn_sets(size: int, seed: int, count: int = NUM_DRAWN) -> list[UnknownSet]:
    """Draw noise and colours; equal arguments give equal images.

    Args:
        size: Height and width in pixels.
        seed: Of the draws.
        count: Images of each kind.
    """
    makers: dict[str, tuple[str, Callable[[int, int, torch.Generator], torch.Tensor]]] = {
        "uniform_noise": ("uniform noise", _uniform_noise),
        "gaussian_noise": ("gaussian noise", _gaussian_noise),
        "smooth_noise": ("smooth noise", _smooth_noise),
        "flat_colours": ("flat colours", _flat_colours),
    }
    return [
        UnknownSet(name, title, make(count, size, derive_generator(seed, f"unknown/{name}")))
        for name, (title, make) in makers.items()
    ]


def _uniform_noise(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Return pixels of which every value of every channel is equally likely."""
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def _gaussian_noise(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Return normally distributed pixels around middle grey."""
    return _pixels(_GREY + _SPREAD * torch.randn(count, 3, size, size, generator=generator))


def _smooth_noise(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Return coloured clouds, each channel of each image with the mean and contrast of gaussian noise."""
    coarse = torch.randn(count, 3, _BLOBS, _BLOBS, generator=generator)
    clouds = F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)
    clouds = clouds - clouds.mean((2, 3), keepdim=True)
    return _pixels(_GREY + _SPREAD * clouds / clouds.std((2, 3), correction=0, keepdim=True).clamp_min(1e-6))


def _flat_colours(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Return images of one colour each."""
    colours = torch.randint(256, (count, 3, 1, 1), dtype=torch.uint8, generator=generator)
    return colours.expand(-1, -1, size, size).contiguous()


def _pixels(values: torch.Tensor) -> torch.Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def cifar100_set(class_names: Iterable[str], seed: int) -> tuple[UnknownSet | None, str]:
    """Take test images of CIFAR-100 whose class is none of the model's; nothing is downloaded.

    Args:
        class_names: The model's classes; those of CIFAR-100 with the same name are left out.
        seed: Of the choice.

    Returns:
        The images, or None where CIFAR-100 is not in the cache; and what the reader should know.
    """
    arrays = _cached_cifar100()
    if arrays is None:
        return None, "CIFAR-100 is not in the cache; cifarlab fetch cifar100 brings it."
    ours = {_plain(name) for name in class_names}
    common = [k for k, name in enumerate(arrays.class_names) if _plain(name) in ours]
    labels_N = torch.as_tensor(arrays.test_labels_N).to(torch.int64)
    foreign_M = (~torch.isin(labels_N, torch.tensor(common, dtype=torch.int64))).nonzero().flatten()
    if not len(foreign_M):
        return None, "All classes of CIFAR-100 are classes of the model, so none of its images is unknown."
    chosen = foreign_M[_choice(len(foreign_M), seed, "unknown/cifar100")]
    left_out = f", without the {len(common)} of a name that the model knows" if common else ""
    note = f"{len(chosen):,} test images of CIFAR-100 were taken at random{left_out}."
    return UnknownSet("cifar100", "CIFAR-100", torch.as_tensor(arrays.test_images_NCHW)[chosen]), note


def _cached_cifar100() -> CifarArrays | None:
    for place in data_places():
        path = cache_file(CIFAR100, place)
        if path.is_file():
            try:
                return read_cache(path, CIFAR100)
            except (IntegrityError, OSError):
                continue  # fetch sets a damaged file aside and says so
    return None


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ")


def folder_set(path: Path, *, image_size: int, resize: Resize, seed: int) -> tuple[UnknownSet, str]:
    """Read images from a folder and the folders in it, however they are named.

    Args:
        path: The folder.
        image_size: Height and width in pixels to which they are brought.
        resize: How; see :func:`cifarlab.data.images.read_image`.
        seed: Of the choice where there are many.

    Returns:
        The images, and what the reader should know; empty if nothing.

    Raises:
        DataError: If there is no such folder, or it holds no image that can be read.
    """
    files = image_files(path)
    chosen = _choice(len(files), seed, "unknown/folder").tolist()
    images, problems = [], []
    for position in chosen:
        try:
            images.append(read_image(files[position], image_size=image_size, resize=resize))
        except DataError as error:
            problems.append(str(error))
    if not images:
        raise DataError(f"none of the images in {path} can be read: {problems[0]}")
    notes = []
    if len(chosen) < len(files):
        notes.append(f"{len(chosen):,} of the {len(files):,} images in {path} were taken at random.")
    if problems:
        notes.append(f"{len(problems):,} of the images in {path} could not be read: {problems[0]}.")
    return UnknownSet("folder", shown_name(path), torch.stack(images)), " ".join(notes)


def image_files(path: Path) -> list[Path]:
    """Return the images in a folder and the folders in it, by name, in ascending order.

    Raises:
        DataError: If there is no such folder, or no image in it.
    """
    if not path.is_dir():
        raise DataError(f"there is no folder {path}; name a folder of images that show none of the classes")
    files = sorted(_image_files(path))
    if not files:
        raise DataError(f"no image in {path} ({' '.join(SUFFIXES)}); add images that show none of the classes")
    return files


def shown_name(path: Path) -> str:
    """Return the folder's own name for a table; a path without one as it stands."""
    return path.resolve().name or str(path)


def _image_files(root: Path) -> Iterable[Path]:
    for folder, subfolders, names in os.walk(root):  # which enters no links, for these may form a loop
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(folder, name)


def _choice(count: int, seed: int, purpose: str) -> torch.Tensor:
    """Return all positions below ``count``, or NUM_PICTURES of them drawn at random; int64, ascending."""
    if count <= NUM_PICTURES:
        return torch.arange(count)
    return torch.randperm(count, generator=derive_generator(seed, purpose))[:NUM_PICTURES].sort().values
