"""The official corruptions: what is in the archive is what is read, and nothing else in it does anything."""

from __future__ import annotations

import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifarlab.data.cifar10_c import CIFAR10_C, FOLDER, NAMES, open_cifar10_c
from cifarlab.errors import DataError, IntegrityError

pytestmark = pytest.mark.usefixtures("alone")

NUM = 3


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    labels = {"labels.npy": np.tile(np.array([3, 8, 0], np.uint8), 5)}
    return labels | {f"{name}.npy": draw.integers(0, 256, (5 * NUM, 32, 32, 3), dtype=np.uint8) for name in NAMES}


def archive(path: Path, contents: dict[str, Any]) -> Path:
    """Write a tar archive; values are bytes, or whole members with their content."""
    with tarfile.open(path, "w") as file:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            if isinstance(content, bytes):
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
            else:
                file.addfile(*content)
    return path


def files(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: npy(array) for name, array in arrays.items()}


def opened(folder: Path) -> Any:
    return open_cifar10_c(str(folder), num_images=NUM)


def test_images_of_a_corruption_and_severity(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    archive(tmp_path / "CIFAR-10-C.tar", files(arrays))
    official = opened(tmp_path)
    assert official.labels_N.tolist() == [3, 8, 0]
    images = official.images("fog", 4, np.array([2, 0]))
    expected = arrays["fog.npy"].reshape(5, NUM, 32, 32, 3)[3, [2, 0]]
    np.testing.assert_array_equal(images.numpy(), expected.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("below", ["", FOLDER])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_unpacked_files_are_the_same(
    below: str, version: tuple[int, int], arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    place = tmp_path / "there" / below
    place.mkdir(parents=True)
    for name, array in arrays.items():
        (place / name).write_bytes(npy(array, version))
    official = opened(tmp_path / "there")
    for name in NAMES:
        np.testing.assert_array_equal(official.arrays[name], arrays[f"{name}.npy"])


def test_found_where_data_is_kept(
    arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_cifar10_c() is None
    monkeypatch.setenv("CIFARLAB_DATA", str(tmp_path))
    path = archive(tmp_path / "CIFAR-10-C.tar", files(arrays))
    file = replace(CIFAR10_C.files[0], num_bytes=path.stat().st_size)
    official = open_cifar10_c(publication=replace(CIFAR10_C, files=(file,)), num_images=NUM)
    assert official is not None
    assert official.source == str(path)
    # an archive of another size is not the published one, and is passed over
    assert open_cifar10_c(num_images=NUM) is None


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Any:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return (member,)


def plain(name: str, content: bytes) -> Any:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, io.BytesIO(content)


def test_other_members_are_passed_over_and_written_nowhere(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    hostile = {
        "1": plain("../escaped", b"x"),
        "2": plain(str(tmp_path / "absolute"), b"x"),
        "3": plain(f"{FOLDER}/../../escaped", b"x"),
        "4": link("outside", "/etc/passwd"),
        "5": link(f"{FOLDER}/extra.npy", "/etc/passwd"),
        "6": plain("elsewhere/fog.npy", b"not an array"),
        "7": plain(f"{FOLDER}/deeper/fog.npy", b"not an array"),
    }
    archive(inside / "CIFAR-10-C.tar", {**hostile, **files(arrays)})
    official = opened(inside)
    np.testing.assert_array_equal(official.arrays["fog"], arrays["fog.npy"])
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["CIFAR-10-C.tar"]


class Harm:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path("trace").touch, ()


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Harm()], object), allow_pickle=True)
    return file.getvalue()


def headed(header: bytes, length: int | None = None) -> bytes:
    """A file in numpy's format, version 2, with any header, which may claim any length."""
    claimed = len(header) if length is None else length
    return b"\x93NUMPY\x02\x00" + claimed.to_bytes(4, "little") + header


WRONG = {
    "brackets without end": (lambda a: {"fog.npy": headed(b"((((")}, "not an array in numpy's format"),
    "keys that have no order": (lambda a: {"fog.npy": headed(b"{1: 2, 'a': 3}")}, "not an array in numpy's format"),
    "no type": (lambda a: {"fog.npy": npy(a["fog.npy"]).replace(b"|u1", b"|,1")}, "not an array in numpy's format"),
    "a symbolic link": (lambda a: {"fog.npy": link(f"{FOLDER}/fog.npy", "/etc/passwd")}, "no plain file"),
    "a hard link": (lambda a: {"fog.npy": link(f"{FOLDER}/fog.npy", "x", tarfile.LNKTYPE)}, "no plain file"),
    "twice": (lambda a: {"again": plain(f"{FOLDER}/fog.npy", npy(a["fog.npy"]))}, "duplicate"),
    "objects": (lambda a: {"fog.npy": pickled()}, "is object"),
    "a bare pickle": (lambda a: {"fog.npy": pickle.dumps(Harm())}, "not an array in numpy's format"),
    "other numbers": (lambda a: {"fog.npy": npy(a["fog.npy"].astype(np.int16))}, "int16"),
    "other shape": (lambda a: {"fog.npy": npy(a["fog.npy"][:-1])}, r"uint8 \(14, 32, 32, 3\)"),
    "column order": (lambda a: {"fog.npy": npy(np.asfortranarray(a["fog.npy"]))}, "not uint8"),
    "too short": (lambda a: {"fog.npy": npy(a["fog.npy"])[:-1]}, "bytes, not"),
    "too long": (lambda a: {"fog.npy": npy(a["fog.npy"]) + b"x"}, "bytes, not"),
    "other labels": (lambda a: {"labels.npy": npy(np.arange(15, dtype=np.uint8) % 10)}, "same ten classes"),
    "label out of range": (lambda a: {"labels.npy": npy(np.full(15, 10, np.uint8))}, "same ten classes"),
}


def test_no_header_makes_more_than_its_start_be_read(
    arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (files(arrays) | {"gaussian_noise.npy": headed(b" " * 100_000, 90_000)}).items():
        (tmp_path / name).write_bytes(content)
    asked: list[int] = []

    class Watched(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(-1 if size is None else size)
            return super().read(size)

    monkeypatch.setattr(Path, "open", lambda path, mode: Watched(io.FileIO(path, mode)))
    with pytest.raises(IntegrityError, match="not an array in numpy's format"):
        opened(tmp_path)
    assert asked
    assert all(0 < size <= 1024 for size in asked)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_member_is_refused(wrong: str, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    change, reason = WRONG[wrong]
    archive(tmp_path / "CIFAR-10-C.tar", {**files(arrays), **change(arrays)})
    with pytest.raises(IntegrityError, match=reason) as caught:
        opened(tmp_path)
    (line,) = str(caught.value).splitlines()
    assert line.endswith("cifarlab fetch cifar10-c brings the published files")
    assert not Path("trace").exists()


def test_a_missing_member_is_named(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    rest = files(arrays)
    del rest["snow.npy"]
    archive(tmp_path / "CIFAR-10-C.tar", rest)
    with pytest.raises(IntegrityError, match=r"holds no CIFAR-10-C/snow\.npy"):
        opened(tmp_path)


def test_a_truncated_archive_is_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = archive(tmp_path / "CIFAR-10-C.tar", files(arrays))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(IntegrityError):
        opened(tmp_path)


@pytest.mark.parametrize("size", [2**63 - 1, 2**70])
def test_a_member_of_a_size_beyond_any_file_is_refused(
    size: int, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = archive(tmp_path / "CIFAR-10-C.tar", {"1": plain("first", b""), **files(arrays)})
    member = tarfile.TarInfo("first")
    member.size = size
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + path.read_bytes()[512:])
    with pytest.raises(IntegrityError, match=r"not a complete tar archive|holds no CIFAR-10-C/labels\.npy"):
        opened(tmp_path)


def test_an_archive_of_countless_members_is_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    many = {str(number): plain(f"x{number}", b"") for number in range(200)}
    archive(tmp_path / "CIFAR-10-C.tar", {**many, **files(arrays)})
    with pytest.raises(IntegrityError, match="more than 100 members"):
        opened(tmp_path)


def test_a_compressed_or_other_file_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C.tar").write_bytes(b"\x1f\x8b" + bytes(2000))
    with pytest.raises(IntegrityError, match="not a complete tar archive"):
        opened(tmp_path)


def test_a_folder_without_the_files_says_what_brings_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cifarlab fetch cifar10-c"):
        opened(tmp_path)


def test_a_folder_with_some_of_the_files_names_the_first_that_lacks(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    (tmp_path / "labels.npy").write_bytes(npy(arrays["labels.npy"]))
    with pytest.raises(IntegrityError, match=r"gaussian_noise\.npy is missing"):
        opened(tmp_path)


def test_the_published_size_is_that_of_the_members_it_must_have() -> None:
    """19 corruptions and the labels, each with a header of 512 bytes and filled up to 512; the tar to 10,240."""

    def member(num_bytes: int) -> int:
        return 512 + -(-num_bytes // 512) * 512

    total = 512 + 19 * member(50_000 * 3072 + 128) + member(50_000 + 128) + 1024
    assert CIFAR10_C.files[0].num_bytes == -(-total // 10_240) * 10_240
