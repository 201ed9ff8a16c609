"""Make the example in docs/examples and the screenshots in docs/images from a run that was evaluated: a real report.

    make example RUN=runs/fast94

Writes docs/examples/report.html, .json, .xlsx and .pdf, and docs/images/report_1280.png, report_390.png and
report_dark.png. The run folder gets no file. Needs Chromium (Debian: apt-get install chromium).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the browser of the tests

from tests.browser.chromium import Browser, find_chromium  # noqa: E402

from cifarlab.commands.report import write_report  # noqa: E402

EXAMPLES, IMAGES = ROOT / "docs" / "examples", ROOT / "docs" / "images"
SHOTS = {"report_1280": (1280, 900, False), "report_390": (390, 844, False), "report_dark": (1280, 900, True)}


def main() -> None:
    """Write the example."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="a run evaluated on test, seeds of one recipe, or a study")
    parser.add_argument("--decision", type=Path, help="decision.yaml; by default the one shipped")
    arguments = parser.parse_args()
    binary = find_chromium()
    if binary is None:
        sys.exit("no Chromium found; apt-get install chromium, or name one with CIFARLAB_CHROMIUM")
    EXAMPLES.mkdir(exist_ok=True)
    IMAGES.mkdir(exist_ok=True)
    done = write_report(arguments.runs, decision=arguments.decision, out=EXAMPLES)
    with Browser(binary) as browser:
        for name, (width, height, dark) in SHOTS.items():
            page = browser.open(done.page.as_uri(), width=width, height=height, dark=dark)
            page.screenshot(IMAGES / f"{name}.png", whole=False)
        page = browser.open(done.page.as_uri())
        page.pdf(done.page.with_suffix(".pdf"))
        if page.complaints():
            sys.exit("\n".join(page.complaints()))
    for path in (done.page, done.ledger, done.page.with_suffix(".pdf"), *(IMAGES / f"{name}.png" for name in SHOTS)):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
