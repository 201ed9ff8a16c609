"""Published files: downloaded, checked, kept; nothing else ever bears their names."""

from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifarlab.cli import main
from cifarlab.commands.fetch import fetch
from cifarlab.data import cifar10_1, published
from cifarlab.data.download import Patience
from cifarlab.data.published import Publication, PublishedFile, check, find, obtain_published
from cifarlab.errors import DataError, DownloadError, IntegrityError

pytestmark = pytest.mark.usefixtures("alone")

CONTENTS = {"a.bin": np.random.default_rng(1).bytes(5000), "b.bin": np.random.default_rng(2).bytes(300)}


def published_file(name: str, content: bytes, folder: str = "set/") -> PublishedFile:
    return PublishedFile(name, f"{folder}{name}", len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def publication(server: Any) -> Publication:
    """Two files, published on the local server."""
    files = tuple(published_file(name, content) for name, content in CONTENTS.items())
    return Publication("pair", files, f"{server.base}/official", "CIFARLAB_CIFAR10_1_URL")


@pytest.fixture
def get(publication: Publication, impatient: Patience) -> Any:
    def call(url: str = "", **options: Any) -> Any:
        return obtain_published(publication, url=url, patience=impatient, **options)

    return call


@pytest.fixture
def folder(alone: Path) -> Path:
    return alone / "user-cache" / "cifarlab"


def serve(server: Any, folder: str = "official") -> dict[str, Any]:
    return {name: server.serve(f"/{folder}/{name}", content) for name, content in CONTENTS.items()}


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "set").glob("*")} if folder.is_dir() else {}


def test_all_files_are_brought_and_kept_and_not_fetched_again(get: Any, server: Any, folder: Path) -> None:
    serve(server)
    obtained = get()
    assert (obtained.source, obtained.path, obtained.skipped) == ("127.0.0.1", folder / "set", ())
    assert kept(folder) == CONTENTS
    assert sorted(path.name for path in folder.iterdir()) == [".pair.lock", "set"]
    assert server.paths() == ["/official/a.bin", "/official/b.bin"]
    again = get()
    assert (again.path, again.source) == (folder / "set", f"{folder / 'set'}, where it already was")
    assert len(server.requests) == 2


def test_only_what_is_missing_is_fetched(get: Any, server: Any, folder: Path) -> None:
    serve(server)
    (folder / "set").mkdir(parents=True)
    (folder / "set" / "a.bin").write_bytes(CONTENTS["a.bin"])
    get()
    assert server.paths() == ["/official/b.bin"]


def test_a_damaged_file_is_set_aside_and_fetched_again(get: Any, server: Any, folder: Path) -> None:
    serve(server)
    damaged = bytes([CONTENTS["a.bin"][0] ^ 1]) + CONTENTS["a.bin"][1:]
    (folder / "set").mkdir(parents=True)
    (folder / "set" / "a.bin").write_bytes(damaged)
    obtained = get()
    assert kept(folder) == {**CONTENTS, "a.bin.damaged": damaged}
    assert len(obtained.skipped) == 1
    assert "SHA-256" in obtained.skipped[0]


def put(folder: Path, content: bytes) -> None:
    (folder / "set").mkdir(parents=True)
    for name, good in CONTENTS.items():
        (folder / "set" / name).write_bytes(content if name == "a.bin" else good)


def test_a_file_that_another_process_has_just_mended_is_not_set_aside(
    get: Any, server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before the lock was had may be the bytes of a file that is gone by now."""
    put(folder, CONTENTS["a.bin"])
    seen: list[Path] = []

    def stale(path: Path, file: PublishedFile) -> None:
        seen.append(path)
        if len(seen) == 1:
            raise IntegrityError("read before it was replaced")
        check(path, file)

    monkeypatch.setattr(published, "check", stale)
    assert get().path == folder / "set"
    assert server.requests == []
    assert kept(folder) == CONTENTS


def test_a_damaged_file_does_not_hide_a_good_one(get: Any, server: Any, folder: Path) -> None:
    put(folder, CONTENTS["a.bin"])
    put(Path("data"), bytes(5000))
    obtained = get()
    assert server.requests == []
    assert (Path("data/set/a.bin.damaged")).read_bytes() == bytes(5000)
    assert "SHA-256" in obtained.skipped[0]


def test_a_damaged_file_that_cannot_be_set_aside_is_named(
    get: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server)
    put(Path("data"), bytes(5000))

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(
        DataError, match=r"data/set/a\.bin is damaged and cannot be set aside \(Permission denied\); remove"
    ):
        get()
    assert server.requests == []


@pytest.mark.parametrize("given_by", ["argument", "environment"])
def test_the_users_own_address_comes_first(
    given_by: str, get: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server)
    serve(server, "mine")
    if given_by == "environment":
        monkeypatch.setenv("CIFARLAB_CIFAR10_1_URL", f"{server.base}/mine/")
    get(f"{server.base}/mine" if given_by == "argument" else "")
    assert server.paths() == ["/mine/a.bin", "/mine/b.bin"]


def test_a_bad_address_of_the_users_own_gives_way_to_the_published_one(get: Any, server: Any, folder: Path) -> None:
    serve(server)
    assert get("http://[bad").skipped == ("no host: is not a valid http or https address",)
    assert kept(folder) == CONTENTS


WRONG = {
    "another content": (lambda route: setattr(route, "content", bytes(5000)), "SHA-256"),
    "shorter": (lambda route: setattr(route, "content", CONTENTS["a.bin"][:-1]), "has 4999 bytes"),
    "longer": (lambda route: setattr(route, "content", CONTENTS["a.bin"] + b"x"), "has 5001 bytes, more than 5000"),
    "a page": (lambda route: setattr(route, "content", b"<html>sorry"), "<html>"),
    "missing": (lambda route: setattr(route, "status", 404), "HTTP 404"),
    "cut off": (lambda route: setattr(route, "cuts", [100, 0, 0]), "the connection"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_gives_way_to_the_published_one(wrong: str, get: Any, server: Any, folder: Path) -> None:
    change, reason = WRONG[wrong]
    change(serve(server, "mine")["a.bin"])
    serve(server)
    obtained = get(f"{server.base}/mine")
    assert kept(folder) == CONTENTS
    assert reason in obtained.skipped[0]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_never_gets_the_final_name(wrong: str, get: Any, server: Any, folder: Path) -> None:
    change, reason = WRONG[wrong]
    change(serve(server)["a.bin"])
    with pytest.raises(DownloadError, match=r"a\.bin is not here") as caught:
        get()
    assert reason in str(caught.value)
    assert "way out 1: put set/a.bin, set/b.bin into ./data" in str(caught.value)
    assert kept(folder) == {}


def test_a_cut_connection_is_continued(get: Any, server: Any, folder: Path) -> None:
    serve(server)["a.bin"].cuts = [2000]
    get()
    assert server.requests[1][1]["Range"] == "bytes=2000-"
    assert kept(folder) == CONTENTS


def test_what_was_received_is_used_by_the_next_attempt(get: Any, server: Any, folder: Path) -> None:
    route = serve(server)["a.bin"]
    route.cuts = [2000, 0]
    with pytest.raises(DownloadError):
        get()
    get()
    assert server.requests[-2][1]["Range"] == "bytes=2000-"
    assert kept(folder) == CONTENTS


def test_nothing_is_fetched_offline(get: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(server)
    monkeypatch.setenv("CIFARLAB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="unset CIFARLAB_OFFLINE"):
        get()
    assert server.requests == []


def test_a_small_disk_is_noticed_before_the_download(get: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(server)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9000, 8000, 1000))
    with pytest.raises(DataError, match=r"no space .* name another folder with CIFARLAB_DATA"):
        get()
    assert server.requests == []


def test_a_cache_that_cannot_be_written_is_one_line(get: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(server)
    monkeypatch.setenv("CIFARLAB_DATA", "/proc/nowhere")
    with pytest.raises(DataError, match="/proc/nowhere cannot be written"):
        get()


def test_a_file_in_data_is_found(publication: Publication, get: Any, server: Any) -> None:
    for file in publication.files:
        path = Path("data") / file.kept_as
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENTS[file.name])
    assert get().path == Path("data/set")
    assert server.requests == []
    assert find(replace(publication.files[0], num_bytes=1)) is None


def test_check_names_what_is_wrong(publication: Publication, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"<!doctype html>")
    with pytest.raises(IntegrityError, match=r"a.bin has 15 bytes and starts with b'<!doctype html>'; 5000 were"):
        check(path, publication.files[0])


def test_large_files_are_announced_before_they_are_checked(
    get: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server)
    get()
    monkeypatch.setattr(published, "_LARGE_BYTES", 1000)
    lines: list[str] = []
    get(notify=lines.append)
    assert [line.startswith("checking ") and line.endswith("a.bin") for line in lines] == [True]


# --- the command


@pytest.fixture
def served(server: Any, monkeypatch: pytest.MonkeyPatch) -> Publication:
    """What the command takes for CIFAR-10.1: the two small files."""
    files = tuple(published_file(name, content, "CIFAR-10.1/") for name, content in CONTENTS.items())
    small = replace(cifar10_1.CIFAR10_1, files=files, url=f"{server.base}/official")
    monkeypatch.setattr(cifar10_1, "CIFAR10_1", small)
    return small


@pytest.mark.usefixtures("served")
def test_fetch_brings_cifar10_1(server: Any, folder: Path) -> None:
    serve(server)
    result = fetch("cifar10.1")
    assert (result.dataset, result.source, result.path) == ("cifar10.1", "127.0.0.1", folder / "CIFAR-10.1")
    assert {path.name for path in (folder / "CIFAR-10.1").iterdir()} == set(CONTENTS)


@pytest.mark.usefixtures("served")
def test_the_command_line_says_what_to_do_where_nothing_delivers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CIFARLAB_OFFLINE", "1")
    assert main(["fetch", "cifar10.1"]) == 3
    assert "way out 2: name the address of a folder that holds them with --url or CIFARLAB_CIFAR10_1_URL" in (
        capsys.readouterr().err
    )
