"""The report in a real browser: what a person would notice, a test notices first."""

import re
import unicodedata

import pytest
from tests.browser.chromium import Browser, find_chromium
from tests.reporting.made_up import curve, full_run, make_run, scores, section

from cifarlab.commands.report import report
from cifarlab.config import Config, TrainConfig

BINARY = find_chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BINARY is None, reason="no Chromium found (Debian: apt-get install chromium)"),
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(300),
]


def with_curves_to_draw(run):
    """Let a report draw the curves, which are as large as a real run's then."""
    (run.path / "plots" / "curves.png").unlink()
    return run


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    return report(with_curves_to_draw(full_run(tmp_path_factory.mktemp("browser"))))


@pytest.fixture(scope="module")
def browser():
    with Browser(BINARY) as one:
        yield one


@pytest.fixture(scope="module")
def page(browser, page_file):
    return browser.open(page_file.as_uri())


@pytest.fixture(scope="module")
def odd_page(browser, tmp_path_factory):
    """A page of what is legal and unusual: long names, many years, sums of any size."""
    root = tmp_path_factory.mktemp("odd")
    names = ["a class with a very long name indeed", "x" * 70, "日本語のとても長い名前のクラス"]
    val = scores(correct=4500, total=5000, names=names, sections={"selective": section(figures={"curve": curve()})})
    splits = {"test": scores(names=names), "val": {**val, "split": "val"}}
    name = "a-run-of-a-very-long-name-" * 3
    configs = [Config(train=TrainConfig(seed=seed)) for seed in range(2)]
    made = [make_run(root, config, name=f"{name}{config.train.seed}", splits=splits) for config in configs]
    runs = [with_curves_to_draw(run) for run in made]
    (root / "d.yaml").write_text(
        f'horizon_years: 10\nvendor: {{name: "{"Vogon" * 12} & Sons <Ltd>", claim_images: 50}}\n'
        "amounts:\n  volume:\n    images_per_month: {low: 100000, base: 20000000, high: 900000000}\n"
    )
    return browser.open(report(*runs, decision=root / "d.yaml").as_uri())


@pytest.mark.parametrize("width", [390, 1280])
def test_what_is_long_stays_within_the_page(odd_page, width):
    odd_page.resize(width)
    assert odd_page.sticking_out(but=".scroll, pre, svg") == []
    assert not odd_page.scrolls_sideways()
    assert odd_page.evaluate(OVERLAPS) == []


def test_what_is_long_stays_within_the_sheet(odd_page):
    odd_page.resize(718)
    odd_page.send("Emulation.setEmulatedMedia", media="print")
    wide = odd_page.evaluate(WIDE)
    odd_page.send("Emulation.setEmulatedMedia", media="")
    assert wide == []


def test_the_console_is_silent_and_nothing_is_asked_of_any_network(page, page_file):
    assert page.complaints() == []
    assert page.requests() == [page_file.as_uri()]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_does_not_scroll_sideways(page, width):
    page.resize(width)
    assert page.sticking_out(but=".scroll, pre") == []
    assert not page.scrolls_sideways()
    page.resize(1280)


@pytest.mark.parametrize(("width", "shown"), [(390, "narrow"), (1280, "wide")])
def test_each_width_has_its_own_drawing_and_no_letter_of_it_is_tiny(page, width, shown):
    page.resize(width)
    seen = page.evaluate(
        "Array.from(document.querySelectorAll('.chart svg')).filter(e => getComputedStyle(e).display !== 'none')"
        ".map(e => ({kind: e.classList[0], scale: e.getBoundingClientRect().width / e.viewBox.baseVal.width}))"
    )
    assert seen
    assert {one["kind"] for one in seen} == {shown}
    assert min(one["scale"] for one in seen) > 0.9
    page.resize(1280)


def test_letters_of_the_charts_stay_within_them_and_do_not_lie_on_each_other(page):
    for width in (390, 1280):
        page.resize(width)
        bad = page.evaluate(OVERLAPS)
        assert bad == [], width
    page.resize(1280)


OVERLAPS = """
(() => {
  const bad = [];
  for (const svg of document.querySelectorAll('.chart svg')) {
    if (getComputedStyle(svg).display === 'none') continue;
    const frame = svg.getBoundingClientRect();
    const look = (t) => ({ words: t.textContent, box: t.getBoundingClientRect() });
    const texts = Array.from(svg.querySelectorAll('text'), look);
    texts.forEach((a, i) => {
      if (a.box.left < frame.left - 2 || a.box.right > frame.right + 2) bad.push('outside: ' + a.words);
      texts.slice(i + 1).forEach((b) => {
        const across = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
        const down = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
        if (across > 2 && down > 4) bad.push(a.words + ' / ' + b.words);
      });
    });
  }
  return bad;
})()
"""


def test_a_click_on_a_column_sorts_and_a_second_turns_the_order_round(page):
    def column():
        return page.evaluate(
            "Array.from(document.querySelectorAll('#evidence table.sortable tbody'))[1].innerText.split('\\n')"
            ".map(line => line.split('\\t')[0])"
        )

    def click_on(name):
        place = page.evaluate(
            f"(() => {{ const b = Array.from(document.querySelectorAll('#evidence table.sortable')[1]"
            f".querySelectorAll('th button')).find(b => b.innerText.trim() === '{name}');"
            " b.scrollIntoView({block: 'center'}); const r = b.getBoundingClientRect();"
            " return [r.left + r.width / 2, r.top + r.height / 2]; })()"
        )
        page.click(*place)

    assert column() == ["cat", "dog", "ship"]
    click_on("Recall")
    assert column() == ["ship", "dog", "cat"]  # figures from the top: recall rises with the row
    click_on("Recall")
    assert column() == ["cat", "dog", "ship"]
    click_on("Class")
    click_on("Class")
    assert column() == ["ship", "dog", "cat"]
    assert page.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read_against_its_ground(page, dark):
    page.paint(dark=dark)
    faint = page.evaluate(CONTRAST)
    page.paint(dark=False)
    assert faint == []


CONTRAST = """
(() => {
  const parse = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return { rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let e = node; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.alpha > 0.99) return c.rgb;
    }
    return [255, 255, 255];
  };
  const faint = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || e.closest('script, style') || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const ink = parse(e.closest('svg') ? style.fill : style.color).rgb;
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const name = e.tagName + '.' + (e.getAttribute('class') || '');
    if (ratio < 4.5) faint.add([ratio.toFixed(2), name, e.textContent.slice(0, 30)].join(' '));
  }
  return Array.from(faint).slice(0, 10);
})()
"""


def squeezed(text):
    """Text without spaces, and without ligatures, which a PDF may keep."""
    return re.sub(r"\s+|\u00ad", "", unicodedata.normalize("NFKC", text))


def test_on_paper_every_row_of_every_table_is_there_and_whole(page, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    rows = page.evaluate(
        "Array.from(document.querySelectorAll('tbody tr'), row => Array.from(row.cells, cell => cell.textContent))"
    )
    page.pdf(tmp_path / "page.pdf")
    sheets = [squeezed(sheet.extract_text()) for sheet in pypdf.PdfReader(tmp_path / "page.pdf").pages]
    assert len(sheets) > 3
    torn = []
    for cells in rows:
        # a row is whole where its first, middle and last cell stand on one sheet
        parts = [squeezed(cell)[:24] for cell in (cells[0], cells[len(cells) // 2], cells[-1])]
        if not any(all(part in sheet for part in parts) for sheet in sheets):
            torn.append(cells)
    assert torn == []


def test_on_paper_nothing_is_wider_than_the_sheet(browser, page_file):
    page = browser.open(page_file.as_uri(), width=718)  # A4 less the margins, at 96 dots per inch
    page.send("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate(WIDE) == []


WIDE = (
    "Array.from(document.querySelectorAll('table, svg, img, pre'))"
    ".filter(e => getComputedStyle(e).display !== 'none' && e.getBoundingClientRect().right > innerWidth + 1)"
    ".map(e => e.outerHTML.slice(0, 160))"
)


def test_the_first_screen_shows_answer_figures_and_next_test(page):
    page.resize(1280, 800)
    for selector in (".verdict", ".figures", ".columns"):
        bottom = page.evaluate(f"document.querySelector('{selector}').getBoundingClientRect().bottom + scrollY")
        assert bottom <= 800, selector
    page.resize(1280)
