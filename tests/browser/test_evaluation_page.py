"""The page of an evaluation in a real browser: silent, alone, and no wider than the window."""

import numpy as np
import pytest
from tests.browser.chromium import Browser, find_chromium

from cifarlab.commands.evaluate import evaluate_answers

BINARY = find_chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BINARY is None, reason="no Chromium found (Debian: apt-get install chromium)"),
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    root = tmp_path_factory.mktemp("judged")
    generator = np.random.default_rng(0)
    labels_N = generator.integers(0, 5, 600)
    names = np.array(["cat", "a class with a very long name indeed", "ship", "truck", "x" * 60])
    logits_NK = generator.normal(size=(600, 5)) + 2 * np.eye(5)[labels_N]
    np.savez(root / "theirs.npz", logits=logits_NK, labels=labels_N, class_names=names)
    evaluate_answers(root / "theirs.npz", out=root, sections=("quick", "why"))
    return root / "evaluation" / "given.html"


@pytest.fixture(scope="module")
def page(page_file):
    with Browser(BINARY) as browser:
        yield browser.open(page_file.as_uri())


def test_the_console_is_silent_and_nothing_is_asked_of_any_network(page, page_file):
    assert page.complaints() == []
    assert page.requests() == [page_file.as_uri()]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_does_not_scroll_sideways(page, width):
    page.resize(width)
    assert page.sticking_out(but=".scroll, pre, figure") == []
    assert not page.scrolls_sideways()
    page.resize(1280)


def test_every_link_leads_to_a_section_that_is_there(page):
    lost = page.evaluate(
        "Array.from(document.querySelectorAll('a[href^=\"#\"]')).map(a => a.getAttribute('href').slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert lost == []
    assert page.evaluate("document.querySelectorAll('nav a').length") == 4


def test_a_table_sorts_by_the_keyboard(page):
    page.evaluate("document.querySelector('table.sortable th.number button').focus()")
    column = (
        "(() => { const t = document.querySelector('table.sortable');"
        " const k = Array.from(t.tHead.rows[0].cells).findIndex(c => c.classList.contains('number'));"
        " return Array.from(t.tBodies[0].rows, r => Number(r.cells[k].dataset.sort)); })()"
    )
    for text, expected in (("\r", True), (" ", False)):
        key = {"\r": "Enter", " ": " "}[text]
        for kind in ("keyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key=key, text=text, windowsVirtualKeyCode=ord(text))
        figures = page.evaluate(column)
        assert figures == sorted(figures, reverse=expected)
    assert page.complaints() == []


def test_in_print_everything_folded_is_open(page):
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
