"""The cache file: verified, set aside when damaged, shared by processes, done without where it cannot be written."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cifarlab.data.download import Patience
from cifarlab.data.sources import obtain, source_data
from cifarlab.errors import DataError, DownloadError

pytestmark = pytest.mark.usefixtures("alone")

OFFICIAL = "/cifar-10-binary.tar.gz"


def in_child(function: Callable[[], Any]) -> Any:
    """Run a function in a forked process, for what must not happen in this one; return its result."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)

    def run() -> None:
        try:
            writer.send(function())
        except BaseException as error:
            writer.send(error)

    child = context.Process(target=run)
    child.start()
    writer.close()
    result = reader.recv() if reader.poll(30) else TimeoutError()
    child.join(5)
    return result


def test_second_start_needs_nothing_but_the_cache_file(get: Any, mini: Any, server: Any, cache: Path) -> None:
    mini.serve_official(server)
    get()
    count = len(server.requests)
    assert get().source == f"cache file {cache}"
    assert len(server.requests) == count
    assert stat.S_IMODE(cache.stat().st_mode) & 0o444 == 0o444 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_writing_to_the_arrays_does_not_change_the_file(get: Any, mini: Any, server: Any) -> None:
    mini.serve_official(server)
    get()
    source_data(get().arrays, "cifar10").train.images_NCHW.zero_()
    get()  # compares with the original


def damage_bit(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[-200] ^= 16
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [damage_bit, lambda content: content[:-1], lambda _: b"", lambda content: content[8:], lambda _: b"\xff" * 64],
)
def test_damaged_cache_is_set_aside_and_fetched_again(
    damage: Any, get: Any, mini: Any, server: Any, cache: Path
) -> None:
    mini.serve_official(server)
    get()
    cache.write_bytes(damage(cache.read_bytes()))
    lines: list[str] = []
    delivery = get(notify=lines.append)
    assert delivery.source == "127.0.0.1"
    assert lines[0].startswith(f"skipped {cache}, now cifar10.safetensors.damaged: ")
    assert mini.kept(cache.parent) == ["cifar10.safetensors", "cifar10.safetensors.damaged"]
    assert get().source == f"cache file {cache}"


def test_a_cache_that_cannot_be_opened_is_not_called_damaged(
    get: Any, mini: Any, server: Any, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the good one of another user, who was the first in a folder that several share."""
    mini.serve_official(server)
    monkeypatch.setenv("CIFARLAB_DATA", str(open_folder))
    cache = get().path
    good = cache.read_bytes()
    cache.chmod(0o600)
    open_folder.chmod(0o777)
    monkeypatch.chdir(open_folder)
    monkeypatch.setenv("CIFARLAB_OFFLINE", "1")

    def run() -> Any:
        if os.getuid() == 0:
            os.setuid(65534)
        else:
            cache.chmod(0)
        return get()

    error = in_child(run)
    cache.chmod(0o600)
    assert isinstance(error, DownloadError)
    assert str(error).count(f"tried {cache}: ") == 1
    assert "Permission denied" in str(error)
    assert cache.read_bytes() == good


def test_cache_of_other_data_is_not_believed(mini: Any, server: Any, impatient: Patience, cache: Path) -> None:
    """Its recorded checksums agree with its content; they are not those of the data set."""
    other = replace(mini.arrays, train_labels_N=mini.arrays.train_labels_N[::-1].copy())
    dataset = replace(mini.served(server.base), checksums=other.checksums())
    server.serve("/other", mini.npm_tarball_of_other_labels(other.train_labels_N.tolist()))
    obtain(dataset, url=f"{server.base}/other", patience=impatient)
    with pytest.raises(DownloadError, match="wrong SHA-256 of train_labels"):
        obtain(mini.served(server.base), patience=impatient)
    assert not cache.exists()


def test_two_processes_at_once_fetch_once(mini: Any, server: Any, impatient: Patience, cache: Path) -> None:
    mini.serve_official(server, silent_seconds=0.5)
    dataset = mini.served(server.base)
    dataset = replace(dataset, npm_package="", mirrors=())
    context = multiprocessing.get_context("fork")
    results = context.Queue()

    def run() -> None:
        lines: list[str] = []
        delivery = obtain(dataset, notify=lines.append, patience=impatient)
        results.put((delivery.source, delivery.arrays.checksums() == mini.arrays.checksums(), lines))

    children = [context.Process(target=run) for _ in range(2)]
    for child in children:
        child.start()
    (first, second) = sorted((results.get(timeout=20) for _ in children), key=lambda result: len(result[2]))
    for child in children:
        child.join(5)
    assert first == ("127.0.0.1", True, [])
    assert second == (
        f"cache file {cache}",
        True,
        [f"another process is fetching into {cache.parent}; waiting for it"],
    )
    assert server.paths() == [OFFICIAL]


def test_killed_process_leaves_no_lock_and_no_wrong_file(
    get: Any, mini: Any, server: Any, impatient: Patience, cache: Path
) -> None:
    route = mini.serve_official(server, chunk_bytes=200, chunk_seconds=0.1)
    dataset = replace(mini.served(server.base), npm_package="", mirrors=())
    child = multiprocessing.get_context("fork").Process(target=lambda: obtain(dataset, patience=impatient))
    child.start()
    partial = cache.parent / ".cifar10.partial" / "official" / "archive.partial"
    deadline = time.monotonic() + 10
    while not partial.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.join(5)
    assert partial.is_file()
    assert not cache.exists()
    route.chunk_seconds = 0
    assert get().source == "127.0.0.1"
    assert mini.kept(cache.parent) == ["cifar10.safetensors"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="cifarlab-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_read_only_folder_is_used_without_a_cache(
    get: Any, mini: Any, server: Any, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini.serve_official(server)
    get()  # so that the child, which may not read our libraries, finds them imported
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    (open_folder / "cifar-10-binary.tar.gz").write_bytes(mini.archive("binary"))
    (open_folder / "cifar10.safetensors").write_bytes(b"damaged, and not to be moved")
    open_folder.chmod(0o555)
    monkeypatch.setenv("CIFARLAB_DATA", str(open_folder))
    monkeypatch.chdir(open_folder)

    def run() -> Any:
        if os.getuid() == 0:  # root may write anywhere
            os.setuid(65534)
        lines: list[str] = []
        delivery = get(notify=lines.append)
        return delivery.source, delivery.path, lines

    source, path, lines = in_child(run)
    assert (source, path) == (str(open_folder / "cifar-10-binary.tar.gz"), None)
    assert lines[0].startswith(f"skipped {open_folder / 'cifar10.safetensors'}: not a cache file")
    assert lines[1:] == [
        f"{open_folder} cannot be written (Permission denied); cifar10 will not be kept for the next start"
    ]


def test_folder_that_cannot_exist_still_downloads(
    get: Any, mini: Any, server: Any, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (alone / "file").touch()
    monkeypatch.setenv("CIFARLAB_DATA", str(alone / "file" / "below"))
    monkeypatch.setattr(tempfile, "tempdir", str(alone))
    mini.serve_official(server)
    delivery = get()
    assert delivery.path is None
    assert [path.name for path in alone.iterdir() if path.name.startswith("cifarlab-")] == []


@pytest.mark.parametrize("while_doing", ["downloading", "writing the cache file"])
def test_full_disk_is_one_line_and_leaves_nothing(
    while_doing: str, get: Any, mini: Any, server: Any, cache: Path
) -> None:
    """A limit on file size stands for a full disk."""
    archive_bytes = len(mini.serve_official(server).content)
    limit_bytes = 500 if while_doing == "downloading" else archive_bytes
    assert get().path.stat().st_size > limit_bytes
    cache.unlink()

    def run() -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        return get()

    error = in_child(run)
    assert isinstance(error, DataError), error
    assert not isinstance(error, DownloadError)
    assert str(error).startswith(f"no space left in {cache.parent} for cifar10")
    assert "\n" not in str(error)
    assert mini.kept(cache.parent) == []
