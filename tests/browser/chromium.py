"""A headless Chromium, spoken to over its DevTools pipe: a real browser for tests, without a port or a further package.

    python tests/browser/chromium.py report.html --width 390 --dark --screenshot page.png --pdf page.pdf

References:
    https://chromedevtools.github.io/devtools-protocol/ (the messages), and Chromium's --remote-debugging-pipe (file
    descriptors 3 and 4, JSON ended by a zero byte).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # tests run as root in containers; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--font-render-hinting=none",
    "--remote-debugging-pipe",
)
_PATIENCE = 60.0  # seconds, for one answer on a busy machine


def find_chromium() -> str | None:
    """Return the browser named by CIFARLAB_CHROMIUM, or one on the PATH; None where there is none."""
    named = os.environ.get("CIFARLAB_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A running Chromium; use it as a context manager."""

    def __init__(self, binary: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="cifarlab-chromium-", ignore_cleanup_errors=True)
        theirs_in, self._out = _pipe()
        self._in, theirs_out = _pipe()
        # bash puts the pipes where Chromium looks for them; a POSIX shell knows one-digit descriptors only
        command = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", binary, *_FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={self._profile.name}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._number = 0
        self.events: list[dict] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, TimeoutError, RuntimeError):
            self.send("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def send(self, method: str, session: str = "", **values: object) -> dict:
        """Send a command and return its result; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": values} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self.receive(deadline - time.monotonic())
            if answer is None:
                raise TimeoutError(f"Chromium did not answer {method} within {_PATIENCE:.0f} s")
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def receive(self, seconds: float) -> dict | None:
        """Return the next message, events included; None if none came in time."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            chunk = os.read(self._in, 1 << 20)
            if not chunk:
                raise RuntimeError("Chromium ended")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Open a page in a tab of its own and wait until it is loaded."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        page.paint(dark=dark)
        page.load(url)
        return page


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def send(self, method: str, **values: object) -> dict:
        """Send a command to this tab."""
        return self._browser.send(method, self._session, **values)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size; below 600 pixels it is a phone."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def paint(self, *, dark: bool) -> None:
        """Prefer dark or light."""
        value = "dark" if dark else "light"
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def load(self, url: str) -> None:
        """Go to a page and wait until all of it is there."""
        self.send("Page.navigate", url=url)
        deadline = time.monotonic() + _PATIENCE
        while not self._mine("Page.loadEventFired"):
            if self._browser.receive(deadline - time.monotonic()) is None:
                raise TimeoutError(f"{url} did not load within {_PATIENCE:.0f} s")

    def evaluate(self, script: str) -> object:
        """Return the value of a JavaScript expression; promises are waited for."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def sticking_out(self, *, but: str) -> object:
        """Return the first elements that end right of the window, but for those within the named ones (CSS)."""
        return self.evaluate(
            "Array.from(document.querySelectorAll('body *'))"
            f".filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('{but}'))"
            ".slice(0, 5).map(e => e.outerHTML.slice(0, 120))"
        )

    def scrolls_sideways(self) -> object:
        """Return whether the page is wider than the window."""
        return self.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")

    def click(self, x: float, y: float) -> None:
        """Press and release the left button at a point of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the whole page, or of the window."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self, path: Path) -> None:
        """Print to A4."""
        paper = {"paperWidth": 8.27, "paperHeight": 11.69, "marginTop": 0.6, "marginBottom": 0.6}
        sides = {"marginLeft": 0.6, "marginRight": 0.6}
        path.write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=True, **paper, **sides)["data"]))

    def complaints(self) -> list[str]:
        """Return what the console was told: exceptions, errors and warnings."""
        found = [str(event["params"]["exceptionDetails"]) for event in self._mine("Runtime.exceptionThrown")]
        found += [
            str(event["params"]["args"])
            for event in self._mine("Runtime.consoleAPICalled")
            if event["params"]["type"] in ("error", "warning", "assert")
        ]
        entries = (event["params"]["entry"] for event in self._mine("Log.entryAdded"))
        return found + [f"{entry['level']}: {entry['text']}" for entry in entries if entry["level"] != "verbose"]

    def requests(self) -> list[str]:
        """Return the addresses asked for, data within the page left out."""
        urls = [event["params"]["request"]["url"] for event in self._mine("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith("data:")]

    def _mine(self, method: str) -> list[dict]:
        events = self._browser.events
        return [one for one in events if one["method"] == method and one.get("sessionId") == self._session]


def _pipe() -> tuple[int, int]:
    """Return a pipe whose ends do not have the numbers 3 and 4."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return ends[0], ends[1]


def main() -> None:
    """Look at a page from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--screenshot", type=Path)
    parser.add_argument("--window", action="store_true", help="the window only, not the whole page")
    parser.add_argument("--pdf", type=Path)
    arguments = parser.parse_args()
    binary = find_chromium()
    if binary is None:
        sys.exit("no Chromium found; apt-get install chromium, or name one with CIFARLAB_CHROMIUM")
    with Browser(binary) as browser:
        page = browser.open(
            arguments.page.resolve().as_uri(), width=arguments.width, height=arguments.height, dark=arguments.dark
        )
        if arguments.screenshot:
            page.screenshot(arguments.screenshot, whole=not arguments.window)
        if arguments.pdf:
            page.pdf(arguments.pdf)
        for line in page.complaints():
            print(line)


if __name__ == "__main__":
    main()
