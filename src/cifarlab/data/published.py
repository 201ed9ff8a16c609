"""Published files of known content: downloaded once, kept beside CIFAR-10, believed only by size and SHA-256."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from cifarlab.data.cache import Notify, cache_folder, data_places, disk_is_full, work_folder
from cifarlab.data.download import PATIENCE, Patience, Progress, download
from cifarlab.data.sources import host_of, offline
from cifarlab.errors import DataError, DownloadError, IntegrityError

_LARGE_BYTES = 100_000_000  # a checksum of more takes seconds, in which the user should know what is going on


@dataclass(frozen=True)
class PublishedFile:
    """A file whose content is known.

    Attributes:
        name: Its name where it is published.
        kept_as: Its path below the folders data is kept in.
        num_bytes: Its size.
        sha256: As hex.
    """

    name: str
    kept_as: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Publication:
    """Files that belong together.

    Attributes:
        name: As the command line says it.
        files: All of them.
        url: Address of the folder they lie in.
        variable: Environment variable with the address of another such folder.
    """

    name: str
    files: tuple[PublishedFile, ...]
    url: str
    variable: str


@dataclass(frozen=True)
class Obtained:
    """Where published files are, and how they were had.

    Attributes:
        source: What delivered, in words.
        path: The file, or the folder that holds all of them.
        skipped: One line for everything that was tried before and failed.
    """

    source: str
    path: Path
    skipped: tuple[str, ...]


@dataclass
class _Job:
    """What every step needs to know."""

    publication: Publication
    progress: Progress | None
    notify: Notify
    patience: Patience
    skipped: list[str] = field(default_factory=list)

    def skip(self, what: str, reason: Exception | str) -> None:
        line = f"{what}: {reason}"
        if line not in self.skipped:
            self.skipped.append(line)
            self.notify(f"skipped {line}")


def find(file: PublishedFile) -> Path | None:
    """Return where a file of the right size lies, or None; its content is not read."""
    for place in data_places():
        path = place / file.kept_as
        if path.is_file() and path.stat().st_size == file.num_bytes:
            return path
    return None


def check(path: Path, file: PublishedFile) -> None:
    """Read a file and check that it is the published one.

    Raises:
        IntegrityError: If it is not; the message says what it seems to be.
        OSError: If it cannot be read.
    """
    size = path.stat().st_size
    if size != file.num_bytes:
        with path.open("rb") as content:
            start = content.read(16)
        raise IntegrityError(f"{file.name} has {size} bytes and starts with {start!r}; {file.num_bytes} were expected")
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        raise IntegrityError(f"{file.name} has the SHA-256 {found[:16]}…, not {file.sha256[:16]}…")


def obtain_published(
    publication: Publication,
    *,
    url: str = "",
    progress: Progress | None = None,
    notify: Notify | None = None,
    patience: Patience = PATIENCE,
) -> Obtained:
    """Have all files of a publication, checked; those that are there already are not fetched.

    Args:
        publication: Which files.
        url: Address of a folder to try before the published one.
        progress: Told what is being fetched, bytes done, bytes in all (None if unknown).
        notify: Told one line about whatever the user should know.
        patience: Time-outs.

    Returns:
        Where they are.

    Raises:
        DownloadError: If a file cannot be had, or CIFARLAB_OFFLINE is set and it is not there.
        DataError: If the disk is full or the cache cannot be written.
    """
    job = _Job(publication, progress, notify or (lambda line: None), patience)
    folder = cache_folder()
    try:
        if there := _all_there(job):
            return there
        if offline():
            raise DownloadError(f"{publication.name} is not here, and nothing is fetched while CIFARLAB_OFFLINE is set")
        with work_folder(publication.name, publication.files[0].kept_as, folder, job.notify) as work:
            if work.target is None:
                raise DataError(f"{folder} cannot be written; name another folder with CIFARLAB_DATA")
            source = ""
            for file in _missing(job):
                source = _bring(job, file, url, work.folder, folder)
            if not source and (there := _all_there(job)):  # whoever held the lock before us has fetched them
                return replace(there, skipped=tuple(job.skipped))
            return Obtained(source, _common(publication, folder), tuple(job.skipped))
    except DownloadError as error:
        raise DownloadError("\n".join([str(error), *_ways_out(job)])) from error
    except OSError as error:
        if disk_is_full(error):
            hint = "name another folder with CIFARLAB_DATA"
            raise DataError(f"no space left in {folder} for {publication.name}; {hint}") from error
        raise DataError(f"cannot write {publication.name} to {folder}: {error}") from error


def _all_there(job: _Job) -> Obtained | None:
    """Say where all files are; nothing is changed, for another process may be writing them."""
    paths = [find(file) for file in job.publication.files]
    for path, file in zip(paths, job.publication.files, strict=True):
        if path is None or _damage(job, path, file) is not None:
            return None
    first = paths[0]
    assert first is not None
    place = first if len(paths) == 1 else first.parent
    return Obtained(f"{place}, where it already was", place, ())


def _damage(job: _Job, path: Path, file: PublishedFile) -> IntegrityError | None:
    if file.num_bytes > _LARGE_BYTES:
        job.notify(f"checking {path}")
    try:
        check(path, file)
    except IntegrityError as error:
        return error
    return None


def _missing(job: _Job) -> Iterator[PublishedFile]:
    """Yield the files that have to be fetched, by whoever holds the lock.

    A damaged file is set aside, so that it is neither used nor lost, nor hides a good one in another folder.
    """
    for file in job.publication.files:
        while (path := find(file)) is not None and (damage := _damage(job, path, file)) is not None:
            job.skip(str(path), damage)
            try:
                path.replace(path.with_name(f"{path.name}.damaged"))
            except OSError as error:
                reason = f"is damaged and cannot be set aside ({error.strerror})"
                raise DataError(f"{path} {reason}; remove it: what is fetched would not be found behind it") from error
        if path is None:
            yield file


def _bring(job: _Job, file: PublishedFile, url: str, work: Path, folder: Path) -> str:
    """Download one file from the first folder that delivers it, and return that folder's host."""
    received = sum(path.stat().st_size for path in work.glob("*.partial"))
    free = shutil.disk_usage(work).free
    if free + received < file.num_bytes:
        needed = f"{(file.num_bytes - received) / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free"
        raise DataError(f"no space in {folder} for {file.name}: {needed}; name another folder with CIFARLAB_DATA")
    own = url or os.environ.get(job.publication.variable, "")
    for base in filter(None, (own, job.publication.url)):
        path = work / file.name
        host = host_of(base)
        try:
            download(
                f"{base.rstrip('/')}/{file.name}",
                path,
                limit=job.patience.patient,
                patience=job.patience,
                progress=job.progress,
                max_bytes=file.num_bytes,
            )
            check(path, file)
        except DataError as error:
            path.unlink(missing_ok=True)
            job.skip(host, error)
            continue
        target = folder / file.kept_as
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        return host
    raise DownloadError(f"{file.name} is not here, and no source could deliver it")


def _common(publication: Publication, folder: Path) -> Path:
    first = folder / publication.files[0].kept_as
    return first if len(publication.files) == 1 else first.parent


def _ways_out(job: _Job) -> list[str]:
    publication = job.publication
    kept_as = ", ".join(file.kept_as for file in publication.files)
    again = "unset CIFARLAB_OFFLINE" if offline() else "try again later; what was received so far is kept"
    return [
        *(f"  tried {line}" for line in job.skipped),
        f"  way out 1: put {kept_as} into ./data or into the folder CIFARLAB_DATA names",
        f"  way out 2: name the address of a folder that holds them with --url or {publication.variable}",
        f"  way out 3: {again}",
    ]
