"""Read CIFAR from any container it comes in: binary batches, python batches, rows of PNG pixels; archive or folder.

Files from elsewhere are not trusted. Archives are read as a stream, only members of an expected name are taken, none
is written to disk, and every size has a limit. Pickles are read by an unpickler that can build no object but
numpy's byte arrays.

Shape suffixes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from cifarlab.data.cifar import CifarArrays, Dataset, Layout, verify
from cifarlab.errors import IntegrityError

_Images = NDArray[np.uint8]
_Labels = NDArray[np.uint8]

_SMALL_FILE_BYTES = 64 * 1024  # lists of names
_SLACK_BYTES = 64 * 1024 * 1024  # what an archive may hold beside the files wanted: readme, type declarations
_READ_AT_ONCE = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
"""Members that only describe others: tarfile reads them whole, before it shows anything that could be refused."""


def read_archive(path: Path, dataset: Dataset) -> CifarArrays:
    """Read a gzipped tar archive of any known layout; which one it is shows in its content, not in its name.

    Args:
        path: The archive.
        dataset: The data set it must hold.

    Returns:
        The arrays, verified.

    Raises:
        IntegrityError: If it is not such an archive, is damaged or holds other data.
        OSError: If it cannot be read from disk.
    """
    if dataset.checksums is None:
        known = {layout.md5 for layout in dataset.layouts}
        if (found := md5(path)) not in known:
            raise IntegrityError(f"MD5 {found} is not that of an official archive; {describe(path)}")
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|gz", tarinfo=_Member) as archive:
            layout, files = _expected_members(archive, dataset)
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:  # the last of hostile headers
        raise IntegrityError(f"not a complete .tar.gz archive ({error}); {describe(path)}") from error
    return parse(files, layout, dataset)


def read_folder(path: Path, layout: Layout, dataset: Dataset) -> CifarArrays:
    """Read an unpacked archive.

    Args:
        path: Folder with the layout's files in it.
        layout: Which files these are.
        dataset: The data set they must hold.

    Returns:
        The arrays, verified.

    Raises:
        IntegrityError: If a file is missing, damaged or too large, or if no checksum is known for the arrays.
        OSError: If it cannot be read from disk.
    """
    if dataset.checksums is None:
        raise IntegrityError(f"no checksums are known for unpacked files; put {layout.archive} beside the folder")
    files = {}
    for name, limit in _file_limits(layout, dataset).items():
        if not (path / name).is_file():
            raise IntegrityError(f"{name} is missing")
        if (size := (path / name).stat().st_size) > limit:
            raise IntegrityError(f"{name} has {size} bytes, more than the {limit} it can need")
        files[name] = (path / name).read_bytes()
    return parse(files, layout, dataset)


def parse(files: Mapping[str, bytes], layout: Layout, dataset: Dataset) -> CifarArrays:
    """Make arrays of a layout's files.

    Args:
        files: Content by file name.
        layout: Which files these are.
        dataset: The data set they must hold.

    Returns:
        The arrays, verified.

    Raises:
        IntegrityError: If a file is missing or holds something else.
    """
    missing = [name for name in _file_limits(layout, dataset) if name not in files]
    if missing:
        raise IntegrityError(f"{missing[0]} is missing")
    splits = []
    for names, labels_name, count in (
        (layout.train, layout.train_labels, dataset.num_train),
        (layout.test, layout.test_labels, dataset.num_test),
    ):
        batches = [_named(name, _batch, files[name], count // len(names), layout, dataset) for name in names]
        images_NCHW = np.concatenate([images for images, _ in batches])
        if labels_name:
            labels_N = _named(labels_name, _json_labels, files[labels_name], count)
        else:
            labels_N = np.concatenate([labels for _, labels in batches])
        splits.append((images_NCHW, labels_N))
    names = dataset.class_names
    if layout.class_names:
        names = _named(layout.class_names, _names, files[layout.class_names], layout)
    arrays = CifarArrays(*splits[0], *splits[1], class_names=names)
    verify(arrays, dataset, dataset.checksums)
    return arrays


def describe(path: Path) -> str:
    """Say in a few words what a file that is not an archive seems to be, for messages."""
    with path.open("rb") as file:
        start = file.read(512)
    size = path.stat().st_size
    text = start.decode("latin1").lstrip().lower()
    if text.startswith(("<!doctype html", "<html")):
        return f"it is an HTML page of {size} bytes"
    if start.startswith(b"\x1f\x8b"):
        return f"it is a gzip file of {size} bytes"
    return f"it has {size} bytes and starts with {start[:16]!r}"


def md5(path: Path) -> str:
    """Return the MD5 of a file as hex: the checksum the official page states, not a protection against an attacker."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _file_limits(layout: Layout, dataset: Dataset) -> dict[str, int]:
    """Files of a layout with the most bytes each can need."""
    limits = {}
    for names, count in ((layout.train, dataset.num_train), (layout.test, dataset.num_test)):
        pixels = count // len(names) * dataset.image_bytes
        limits.update(dict.fromkeys(names, 2 * pixels + 1024 * 1024))
    limits.update({name: 16 * dataset.num_train for name in (layout.train_labels, layout.test_labels) if name})
    if layout.class_names:
        limits[layout.class_names] = _SMALL_FILE_BYTES
    return limits


class _Member(tarfile.TarInfo):
    """A member whose header can neither claim gigabytes of names nor a map of holes."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header, as tarfile does for every block that should be one."""
        member = super().frombuf(buf, encoding, errors)
        if member.type == tarfile.GNUTYPE_SPARSE or (member.type in _READ_AT_ONCE and member.size > _SMALL_FILE_BYTES):
            raise IntegrityError(f"a header of {member.size} bytes or with holes has no place in this archive")
        return member


def _expected_members(archive: tarfile.TarFile, dataset: Dataset) -> tuple[Layout, dict[str, bytes]]:
    """Take from an archive, in one pass, the files of the layout that its first known member belongs to."""
    layout, limits = None, dict[str, int]()
    files = dict[str, bytes]()
    budget = 2 * (dataset.num_train + dataset.num_test) * dataset.image_bytes + _SLACK_BYTES
    for member in archive:
        if member.offset_data + member.size > budget:  # skipping is unpacking too: stop before a gzip bomb goes off
            raise IntegrityError(f"the archive unpacks to more than {budget} bytes")
        folder, _, name = member.name.removeprefix("./").partition("/")
        if layout is None:
            layout = next((each for each in dataset.layouts if _holds(each, folder, name, dataset)), None)
            limits = _file_limits(layout, dataset) if layout else limits
        if layout is None or folder != layout.folder or name not in limits:
            continue
        if name in files or not member.isreg() or member.size > limits[name]:
            raise IntegrityError(f"member {member.name} of {member.size} bytes is a duplicate, too large, or no file")
        content = archive.extractfile(member)
        files[name] = content.read() if content else b""
    if layout is None:
        raise IntegrityError(f"none of its members belongs to {dataset.name}")
    return layout, files


def _holds(layout: Layout, folder: str, name: str, dataset: Dataset) -> bool:
    return folder == layout.folder and name in _file_limits(layout, dataset)


def _named(name: str, read: Callable[..., Any], *arguments: Any) -> Any:
    """Call a reader; whatever hostile content makes it raise becomes one line that names the file."""
    try:
        return read(*arguments)
    except Exception as error:
        raise IntegrityError(f"{name}: {error}") from error


def _batch(content: bytes, count: int, layout: Layout, dataset: Dataset) -> tuple[_Images, _Labels]:
    if layout.kind == "binary":
        return _binary_batch(content, count, layout, dataset)
    if layout.kind == "python":
        return _python_batch(content, count, layout, dataset)
    return _png_batch(content, count, dataset), np.empty(0, np.uint8)


def _binary_batch(content: bytes, count: int, layout: Layout, dataset: Dataset) -> tuple[_Images, _Labels]:
    """Decode records of label bytes followed by pixels."""
    record_bytes = layout.label_bytes + dataset.image_bytes
    if len(content) != count * record_bytes:
        raise IntegrityError(f"{len(content)} bytes, not {count * record_bytes}")
    records = np.frombuffer(content, np.uint8).reshape(count, record_bytes)
    images_NCHW = records[:, layout.label_bytes :].reshape(count, 3, dataset.side, dataset.side)
    return images_NCHW, records[:, layout.label_bytes - 1]


def _python_batch(content: bytes, count: int, layout: Layout, dataset: Dataset) -> tuple[_Images, _Labels]:
    """Decode a pickled dictionary of a byte array and a list of labels."""
    batch = _unpickle(content)
    data, labels = batch[b"data"], batch[layout.labels_key]
    if not isinstance(data, _PickledArray) or len(data.content) != count * dataset.image_bytes:
        raise IntegrityError(f"its data is not an array of {count} x {dataset.image_bytes} bytes")
    images = np.frombuffer(data.content, np.uint8)
    return images.reshape(count, 3, dataset.side, dataset.side), _label_array(labels, count)


def _png_batch(content: bytes, count: int, dataset: Dataset) -> _Images:
    """Decode a PNG file with one image a row, its RGB pixels in row-column order."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        expected = ((dataset.side**2, count), "RGB")
        if (image.size, image.mode) != expected:  # the header is known here, the pixels are not decoded yet
            raise IntegrityError(f"size and mode are {(image.size, image.mode)}, not {expected}")
        pixels = np.asarray(image)
    return np.ascontiguousarray(pixels.transpose(0, 2, 1)).reshape(count, 3, dataset.side, dataset.side)


def _json_labels(content: bytes, count: int) -> _Labels:
    return _label_array(json.loads(content), count)


def _label_array(labels: object, count: int) -> _Labels:
    if not isinstance(labels, list) or len(labels) != count or not all(type(label) is int for label in labels):
        raise IntegrityError(f"its labels are not a list of {count} integers")
    return np.array(labels, np.uint8)


def _names(content: bytes, layout: Layout) -> tuple[str, ...]:
    if layout.kind == "python":
        return tuple(name.decode("ascii") for name in _unpickle(content)[b"fine_label_names"])
    return tuple(content.decode("ascii").split())


class _PickledArray:
    """Stands for a pickled numpy array and keeps its bytes, so that no numpy object is built from foreign data."""

    content: bytes = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, _, dtype, is_fortran, content = state
        if dtype.name not in ("u1", b"u1") or is_fortran or not isinstance(content, bytes):
            raise IntegrityError("its data is not a plain array of bytes")
        self.content = content


class _PickledDtype:
    """Stands for a pickled numpy data type."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name

    def __setstate__(self, _: object) -> None:
        pass


def _latin1(text: str, encoding: str | bytes) -> bytes:
    """Stand for the call by which Python 3 pickles bytes in old protocols."""
    if encoding not in ("latin1", b"latin1"):
        raise IntegrityError(f"encoding {encoding!r} is not admitted")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _latin1,
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows five names, none of which does anything."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise IntegrityError(f"the pickle wants {module}.{name}, which is not admitted; nothing was run") from None


def _unpickle(content: bytes) -> dict[bytes, Any]:
    value = _Unpickler(io.BytesIO(content)).load()
    if not isinstance(value, dict):
        raise IntegrityError(f"holds a {type(value).__name__}, not a dictionary")
    return value
