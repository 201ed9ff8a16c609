"""One's own images: a folder with a folder for every class, or a CSV file.

``root/<class>/*.jpg``, or ``root/train``, ``root/val`` (also ``valid``, ``validation``) and ``root/test`` with class
folders in each. Images may lie deeper inside a class folder. Names that begin with a dot are passed over, as are files
without an image's suffix. Everything is taken in the order of names, so that one folder gives one data set on every
machine.
"""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from cifarlab.data.images import SUFFIXES, Resize, read_image
from cifarlab.data.imageset import ImageSet, SourceData
from cifarlab.errors import DataError

Corrupt = Literal["refuse", "skip"]

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_BEYOND = "cells beyond the header"
_NAMED = 3  # unreadable files named in a message; the rest is counted


class SkippedImagesWarning(UserWarning):
    """Images that cannot be read were left out, as the user chose."""


@dataclass(frozen=True)
class _Entry:
    """One image to read: its split, its name relative to the root (with slashes), its class, its path."""

    split: str
    name: str
    label: str
    path: Path


def load_folder(path: str | Path, *, image_size: int, resize: Resize, corrupt: Corrupt) -> SourceData:
    """Read a folder of images.

    Args:
        path: The folder; see the module's text for its layouts.
        image_size: Height and width in pixels to which every image is brought.
        resize: How; see :func:`cifarlab.data.images.read_image`.
        corrupt: ``refuse`` the folder if an image cannot be read, or ``skip`` such images with a warning.

    Returns:
        The images, with names relative to the folder; val and test are None where the folder has none.

    Raises:
        DataError: If the folder is missing, has no or only one class, a class without image, a class in val or test
            that train lacks, a name that is not UTF-8, or an image that cannot be read.
    """
    root = Path(path)
    try:
        entries = list(_folder_entries(root))
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}; permit it, or move it elsewhere") from error
    if not entries:
        raise DataError(f"{root} holds no class folder; put the images of each class in a folder of its own")
    return _load(entries, str(root), image_size, resize, corrupt)


def _folder_entries(root: Path) -> Iterable[_Entry]:
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; give data.folder a folder with one folder of images per class")
    for split, folder in _split_folders(root).items():
        for class_folder in _subfolders(folder):
            files = list(_image_files(class_folder))
            if not files:
                kinds = " ".join(SUFFIXES)
                raise DataError(f"no image in {class_folder} ({kinds}); add some or remove the folder")
            for file in files:
                yield _Entry(split, file.relative_to(root).as_posix(), class_folder.name, file)


def load_csv(path: str | Path, *, image_size: int, resize: Resize, corrupt: Corrupt) -> SourceData:
    """Read the images a CSV file lists.

    The first line names the columns: ``path`` (relative to the CSV file's folder, or absolute), ``label``, and, if
    wanted, ``split`` (train, val or test). Other columns are passed over; the order of the lines does not matter.

    Args:
        path: The CSV file, UTF-8.
        image_size: Height and width in pixels to which every image is brought.
        resize: How; see :func:`cifarlab.data.images.read_image`.
        corrupt: ``refuse`` the data if an image is missing or cannot be read, or ``skip`` such images with a warning.

    Returns:
        The images, with names as they stand in the column ``path``.

    Raises:
        DataError: If the file cannot be read, lacks a column, holds an empty or unknown value, an image twice or
            nothing at all, or for the reasons of :func:`load_folder`.
    """
    source = Path(path)
    try:
        # utf-8-sig: spreadsheets begin their CSV files with a byte order mark
        with source.open(newline="", encoding="utf-8-sig") as file:
            entries = list(_csv_entries(source, csv.DictReader(file, restkey=_BEYOND)))
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror}; give data.csv a file") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{source} is not a CSV file in UTF-8: {error}") from error
    if not entries:
        raise DataError(f"{source} lists no image; add lines below the header path,label")
    return _load(entries, str(source), image_size, resize, corrupt)


def _csv_entries(source: Path, reader: csv.DictReader[str]) -> Iterable[_Entry]:
    columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        raise DataError(f"{source} has no column {' and no column '.join(missing)}; its first line must be: path,label")
    line_of: dict[str, int] = {}
    for row in reader:
        name, label = ((row[columns[key]] or "").strip() for key in ("path", "label"))
        if any(cell.strip() for cell in row.get(_BEYOND, ())):
            problem = f"{source}, line {reader.line_num} has more cells than the first line"
            raise DataError(f"{problem}; put what holds a comma in quotes")
        if not name or not label:
            raise DataError(f"{source}, line {reader.line_num}: path or label is empty; fill it in or remove the line")
        split = (row[columns["split"]] or "").strip().lower() if "split" in columns else "train"
        if split not in _SPLITS:
            raise DataError(f"{source}, line {reader.line_num}: split must be train, val or test, not {split!r}")
        first = line_of.setdefault(os.path.normpath(source.parent / name), reader.line_num)
        if first != reader.line_num:
            both = f"{source}, line {reader.line_num}: {name} stands in line {first} too"
            raise DataError(f"{both}, and could be trained on and tested on; keep one of them")
        yield _Entry(_SPLITS[split], name, label, source.parent / name)


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split; a root whose folders are all named like splits is taken for split."""
    folders = _subfolders(root)
    splits = [folder for folder in folders if folder.name.lower() in _SPLITS]
    if not splits or len(splits) < len(folders):
        return {"train": root}
    by_split: dict[str, Path] = {}
    for folder in splits:
        first = by_split.setdefault(_SPLITS[folder.name.lower()], folder)
        if first != folder:
            raise DataError(f"{first} and {folder} are the same split; keep one of them")
    if "train" not in by_split:
        raise DataError(f"{root} has {', '.join(folder.name for folder in splits)} but no train; add {root / 'train'}")
    return {split: by_split[split] for split in ("train", "val", "test") if split in by_split}


def _subfolders(folder: Path) -> list[Path]:
    names = (entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name != "__MACOSX")
    return sorted(entry for entry in names if entry.is_dir())


def _image_files(folder: Path) -> Iterable[Path]:
    def refuse(error: OSError) -> None:
        raise error  # os.walk itself would pass over what it cannot read

    # links to folders inside a class are not followed: they may form a loop
    for directory, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(directory, name)


def _load(entries: list[_Entry], origin: str, image_size: int, resize: Resize, corrupt: Corrupt) -> SourceData:
    """Check names and classes, read the images, and put the sets together."""
    for entry in entries:
        if any("\ud800" <= character <= "\udfff" for character in str(entry.path)):  # bytes that are not UTF-8
            raise DataError(f"the name {str(entry.path)!r} is not UTF-8, so no page can hold it; rename file or folder")
    class_names = tuple(sorted({entry.label for entry in entries if entry.split == "train"}))
    strange = sorted({entry.label for entry in entries} - set(class_names))
    if strange:
        raise DataError(f"{origin}: no training image for class {', '.join(strange)}; add some or remove the class")
    if len(class_names) < 2:
        raise DataError(f"{origin} has one class only, {class_names[0]}; a classifier needs two or more")
    entries = sorted(entries, key=lambda entry: entry.name)
    pictures, problems = _read_all(entries, image_size, resize)
    _report(problems, origin, corrupt)
    label_of = {name: label for label, name in enumerate(class_names)}
    sets: dict[str, ImageSet | None] = {}
    for split in ("train", "val", "test"):
        kept = [n for n, entry in enumerate(entries) if entry.split == split and n not in problems]
        labels = torch.tensor([label_of[entries[n].label] for n in kept], dtype=torch.int64)
        names = tuple(entries[n].name for n in kept)
        images = pictures if len(kept) == len(entries) else pictures[torch.tensor(kept, dtype=torch.int64)]
        if not kept and split != "train" and any(entry.split == split for entry in entries):
            # without a set of its own, one would be held out of the training images
            raise DataError(f"{origin}: no {split} image can be read; mend or replace them, or take them all away")
        sets[split] = ImageSet(images, labels, class_names, names) if kept else None
    train = sets["train"]
    if train is None or int(train.class_counts.min()) == 0:
        counts = train.class_counts.tolist() if train else [0] * len(class_names)
        empty = ", ".join(name for name, count in zip(class_names, counts, strict=True) if not count)
        raise DataError(f"{origin}: no training image of class {empty} can be read; mend or replace them")
    return SourceData(train, sets["val"], sets["test"], origin)


def _read_all(entries: list[_Entry], image_size: int, resize: Resize) -> tuple[torch.Tensor, dict[int, DataError]]:
    """Read all images; return them (uint8, N x 3 x S x S) and the problems by position."""
    try:
        pictures = torch.empty(len(entries), 3, image_size, image_size, dtype=torch.uint8)
    except RuntimeError as error:
        size = len(entries) * 3 * image_size**2 / 1e9
        raise DataError(f"{len(entries)} images need {size:.0f} GB of memory; lower data.image_size") from error

    def read(position: int) -> DataError | None:
        try:
            pictures[position] = read_image(entries[position].path, image_size=image_size, resize=resize)
        except DataError as error:
            return error
        return None

    # Pillow releases the interpreter's lock while it decodes, so threads are enough
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        results = list(pool.map(read, range(len(entries))))
    return pictures, {n: error for n, error in enumerate(results) if error is not None}


def _report(problems: dict[int, DataError], origin: str, corrupt: Corrupt) -> None:
    if not problems:
        return
    named = "; ".join(str(error) for error in list(problems.values())[:_NAMED])
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    if corrupt == "refuse":
        raise DataError(f"{named}{more}. Mend or remove such files, or leave them out with --data.corrupt skip")
    plural = "image" if len(problems) == 1 else "images"
    warnings.warn(f"{origin}: {len(problems)} {plural} skipped: {named}{more}", SkippedImagesWarning, stacklevel=4)
