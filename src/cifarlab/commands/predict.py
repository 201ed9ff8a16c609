"""Predict: classify image files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from cifarlab.data.images import SUFFIXES, read_image
from cifarlab.errors import DataError, UsageError
from cifarlab.inference import Classifier
from cifarlab.run import Run


@dataclass(frozen=True)
class Prediction:
    """What the run says about one file.

    Attributes:
        path: The file.
        label: Name of the most probable class; None if the file could not be read.
        probability: Its probability; None likewise.
        probabilities: Probability of every class by name, in label order; empty likewise.
        error: Why the file could not be read; None if it could.
    """

    path: Path
    label: str | None
    probability: float | None
    probabilities: dict[str, float]
    error: str | None = None


def predict(run: Run, paths: Sequence[Path], *, device: str = "auto", batch_size: int = 64) -> list[Prediction]:
    """Classify files, and the images in folders and their subfolders.

    Images of any size and mode are brought to the run's image size the way its training images were. No more than
    ``batch_size`` images are in memory at a time.

    Args:
        run: A run with a model.
        paths: Files, taken whatever their name, and folders, of which files with an image's suffix are taken.
        device: 'auto', 'cpu', 'cuda' or 'mps'.
        batch_size: Images per forward pass, at least 1.

    Returns:
        One entry a file, folders in alphabetical order; a file that cannot be read has an error, and the others go on.

    Raises:
        UsageError: If no image is found, or this machine does not have the device.
        RunError: If the run has no model.
    """
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, not {batch_size}")
    files = _find_images(paths)
    if not any(os.path.lexists(file) for file in files):
        named = ", ".join(map(str, paths)) or "an empty list"
        raise UsageError(f"no image found in {named}; name image files, or folders that hold {', '.join(SUFFIXES)}")
    classifier = Classifier.load(run, device)
    return [one for batch in _batches(files, batch_size) for one in _predict_batch(classifier, batch)]


def _find_images(paths: Iterable[Path]) -> list[Path]:
    """Return files as they were named, and image files below folders in alphabetical order; nothing hidden."""
    found: list[Path] = []
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 Path.is_dir raises below a folder that may not be entered
            found.append(path)
            continue
        below: list[Path] = []
        # a folder that cannot be listed is taken for a file, so that its reading fails and says why
        for folder, subfolders, names in os.walk(path, onerror=lambda error: below.append(Path(error.filename))):  # noqa: B023
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            images = (name for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES)
            below += [Path(folder, name) for name in images]
        found += sorted(below)
    return found


def _batches(files: Iterable[Path], batch_size: int) -> Iterator[list[Path]]:
    remaining = iter(files)
    while batch := list(islice(remaining, batch_size)):
        yield batch


def _predict_batch(classifier: Classifier, files: list[Path]) -> list[Prediction]:
    images: dict[int, torch.Tensor] = {}
    errors: dict[int, str] = {}
    for position, file in enumerate(files):
        try:
            images[position] = read_image(file, image_size=classifier.image_size, resize=classifier.resize)
        except DataError as error:
            errors[position] = str(error)
    answers: dict[int, list[float]] = {}
    if images:
        probabilities_NK = classifier.probabilities(torch.stack(list(images.values())))
        answers = dict(zip(images, probabilities_NK.tolist(), strict=True))
    return [
        _failed(file, errors[position])
        if position in errors
        else _answered(file, answers[position], classifier.class_names)
        for position, file in enumerate(files)
    ]


def _failed(path: Path, error: str) -> Prediction:
    return Prediction(path, None, None, {}, error)


def _answered(path: Path, probabilities_K: list[float], class_names: Sequence[str]) -> Prediction:
    best = max(range(len(class_names)), key=probabilities_K.__getitem__)
    return Prediction(
        path, class_names[best], probabilities_K[best], dict(zip(class_names, probabilities_K, strict=True))
    )
