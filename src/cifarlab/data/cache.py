"""The cache file: one safetensors file with the four arrays, mapped into memory and verified at every start.

It has its name only when it is complete. Whoever fetches holds a lock beside it, so that a second process waits and
then uses what the first has fetched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from cifarlab.data.cifar import Checksums, CifarArrays, Dataset, verify
from cifarlab.errors import IntegrityError

Notify = Callable[[str], None]
"""Called with one line for the user."""

_METADATA_KEY = "cifarlab"
_ARRAYS = {"train_images": "NCHW", "train_labels": "N", "test_images": "NCHW", "test_labels": "N"}


def data_places() -> list[Path]:
    """Return the readable folders in which data is looked for, in order: CIFARLAB_DATA, ./data, the user's cache."""
    places = [cache_folder(), Path("data"), _user_cache()]
    wanted = dict.fromkeys(places if os.environ.get("CIFARLAB_DATA") else places[1:])
    return [place for place in wanted if os.access(place, os.R_OK | os.X_OK)]


def cache_folder() -> Path:
    """Return the folder the cache file is written to: CIFARLAB_DATA, else the user's cache."""
    given = os.environ.get("CIFARLAB_DATA")
    return Path(given).expanduser() if given else _user_cache()


def cache_file(dataset: Dataset, folder: Path) -> Path:
    """Return the name of a data set's cache file in a folder."""
    return folder / f"{dataset.name}.safetensors"


def read_cache(path: Path, dataset: Dataset) -> CifarArrays:
    """Map a cache file into memory and verify it.

    The arrays are private to the process: writing to them does not change the file.

    Args:
        path: The cache file.
        dataset: What it must hold.

    Returns:
        The arrays.

    Raises:
        IntegrityError: If the file is damaged or holds something else.
        OSError: If it cannot be opened.
    """
    from safetensors import SafetensorError, safe_open

    path.open("rb").close()  # safetensors itself calls missing whatever it cannot open
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
            values = {f"{name}_{suffix}": file.get_tensor(name).numpy() for name, suffix in _ARRAYS.items()}
            arrays = CifarArrays(**values, class_names=tuple(note["class_names"]))
            recorded = Checksums(**note["sha256"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"not a cache file of {dataset.name}: {error}") from error
    verify(arrays, dataset, dataset.checksums or recorded)
    return arrays


def write_cache(work: Work, arrays: CifarArrays, dataset: Dataset) -> None:
    """Write a cache file: in the work folder, flushed to disk, then renamed. Nothing is done where none can be.

    Raises:
        OSError: If the disk is full.
    """
    from safetensors.numpy import save

    if work.target is None:
        return
    note = {"dataset": dataset.name, "class_names": arrays.class_names, "sha256": asdict(arrays.checksums())}
    values = {name: getattr(arrays, f"{name}_{suffix}") for name, suffix in _ARRAYS.items()}
    # Serialised in memory, because the library's own file writing reports a full disk as a damaged format.
    content = save(values, {_METADATA_KEY: json.dumps(note, sort_keys=True)})
    temporary = work.folder / work.target.name
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(work.target)


@dataclass(frozen=True)
class Work:
    """Where to put what is unfinished."""

    folder: Path
    """A folder that no other process uses at the same time."""
    target: Path | None
    """Final name of what is fetched, on the same disk; None where nothing can be kept."""


@contextlib.contextmanager
def work_folder(name: str, kept_as: str, folder: Path, notify: Notify) -> Iterator[Work]:
    """Give one process at a time a place for unfinished files, waiting for another process that has it.

    It is kept after a failure, so that the next attempt goes on where this one ended, and removed after success and
    when the disk is full. Where ``folder`` cannot be written, a temporary folder takes its place.

    Args:
        name: Of the data set.
        kept_as: Name of the file or folder in ``folder`` that is to hold it.
        folder: The cache.
        notify: Takes one-line notices.

    Raises:
        OSError: If the disk is full.
    """
    with contextlib.ExitStack() as stack:
        target: Path | None = folder / kept_as
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / f".{name}.lock").open("ab"))
        except OSError as error:
            if disk_is_full(error):
                raise
            notify(f"{folder} cannot be written ({error.strerror}); {name} will not be kept for the next start")
            work, target = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cifarlab-"))), None
        else:
            work = folder / f".{name}.partial"
            if not _locked(lock, notify):  # some network file systems have no locks: then everybody for himself
                work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{work.name}-", dir=folder)))
            work.mkdir(exist_ok=True)
        try:
            yield Work(work, target)
        except OSError as error:
            if disk_is_full(error):
                shutil.rmtree(work, ignore_errors=True)
            raise
        else:
            shutil.rmtree(work, ignore_errors=True)
        finally:
            _remove_if_empty(work)


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder in which nothing is left to go on with."""
    for path in (*folder.glob("*/"), folder):
        with contextlib.suppress(OSError):
            path.rmdir()


def disk_is_full(error: OSError) -> bool:
    """Whether an error says that no more can be written: disk full, quota used up, file size limit reached."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _locked(file: BinaryIO, notify: Notify) -> bool:
    """Lock a file until it is closed, waiting if need be; the system frees it if the process dies."""
    try:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify(f"another process is fetching into {Path(file.name).parent}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return False
    return True


def _user_cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("cifarlab")
