"""Pages: figures as a person writes them, tables that escape what they show, one file that loads nothing."""

import base64
import math
import re
from types import SimpleNamespace

import pytest

from cifarlab import pages
from cifarlab.plots.style import new_figure, save_figure

NB = "\u00a0"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "fraction", "-"),
        (math.nan, "number", "-"),
        (0.71254, "fraction", f"71.25{NB}%"),
        ((0.7035, 0.7213), "interval", f"[70.35,{NB}72.13]"),
        ([None, 0.5], "interval", "-"),
        (10000, "count", "10,000"),
        (-0.0123, "points", "-1.23"),
        (0.0123, "points", "+1.23"),
        (0, "number", "0"),
        (3.0, "number", "3"),
        (0.00123456, "number", "0.00123"),
        (0.123456, "number", "0.123"),
        (1.23456, "number", "1.23"),
        (12.3456, "number", "12.3"),
        (1234.56, "number", "1,235"),
        (1.5e-9, "number", "1.5e-09"),
        (math.inf, "number", "infinite"),
        (92, "seconds", f"1{NB}min 32{NB}s"),
        ("a < b", "text", "a < b"),
    ],
)
def test_cells(value, kind, text):
    assert pages.cell(value, kind) == text


def test_a_proportion_is_written_with_its_interval():
    assert pages.with_interval({"value": 0.5, "interval": [0.4, 0.6]}) == f"50.00{NB}%{NB}[40.00,{NB}60.00]"
    assert pages.with_interval({"value": 0.5, "interval": None}) == f"50.00{NB}%"
    assert pages.with_interval({"value": None, "interval": None}) == pages.with_interval(None) == "-"


def test_figures_stay_with_their_units_and_sentences_still_break():
    text = pages.unbroken("It is right on 94.1 % of 10,000 images in 3 s (p = 0.04), 0.80 points [0.32, 1.28] more")
    assert text == (
        f"It is right on 94.1{NB}% of 10,000 images in 3{NB}s (p{NB}={NB}0.04), 0.80{NB}points{NB}[0.32,{NB}1.28] more"
    )


def test_a_currency_stays_with_its_sum():
    assert pages.unbroken("building costs USD 299,000 (EUR -1.5)") == f"building costs USD{NB}299,000 (EUR{NB}-1.5)"


def table_html(**fields):
    one = SimpleNamespace(
        **{"title": "A <table>", "header": ("name", "share"), "kinds": ("text", "fraction"), "rows": [], **fields}
    )
    macro = '{% from "parts.html.j2" import table %}{{ table(one) }}'
    return pages.environment().from_string(macro).render(one=one)


def test_a_table_escapes_its_cells_and_tells_the_script_by_what_to_sort():
    rows = [("<b>", 0.5), ("c", None), ("d", 0.25)]
    text = table_html(rows=rows)
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "A &lt;table&gt;" in text
    assert re.findall(r'data-sort="([^"]*)"', text) == ["&lt;b&gt;", "0.5", "c", "", "d", "0.25"]
    assert 'class="sortable"' in text
    assert text.count('class="number"') == 1
    assert 'class="sortable"' not in table_html(rows=rows[:2]), "two rows need no sorting"


def test_sort_keys():
    keys = [pages.sort_key(value) for value in (0.5, 3, "a", None, math.nan, (0.2, 0.4), [], True)]
    assert keys == ["0.5", "3.0", "a", "", "", "0.2", "", "1.0"]


def test_what_is_not_given_is_our_mistake():
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        pages.environment().from_string("{{ missing }}").render()


def test_pictures_are_embedded_the_smaller_way(tmp_path, monkeypatch):
    figure, axes = new_figure(2, 2)
    axes.plot([0, 1], [0, 1])
    uri = pages.figure_uri(figure)
    assert uri.startswith("data:image/svg+xml;base64,")
    assert base64.b64decode(uri.partition(",")[2]).rstrip().endswith(b"</svg>")
    save_figure(figure, tmp_path / "a.b")
    assert pages.file_uri(tmp_path / "a.b") == pages.data_uri((tmp_path / "a.b.svg").read_bytes(), ".svg")
    assert pages.file_uri(tmp_path / "nothing") is None
    monkeypatch.setattr(pages, "LARGEST_SVG_BYTES", 10)
    assert pages.figure_uri(figure).startswith("data:image/png;base64,")
    assert pages.file_uri(tmp_path / "a.b").startswith("data:image/png;base64,")


def test_a_page_is_complete_and_carries_its_own_style_and_script():
    template = '{% extends "page.html.j2" %}{% block title %}{{ t }}{% endblock %}{% block body %}x{% endblock %}'
    text = pages.environment().from_string(template).render(t="<T>")
    assert "<title>&lt;T&gt;</title>" in text
    assert "prefers-color-scheme: dark" in text
    assert "table.sortable" in text
    assert not re.search(r"https?://", text)
    assert text.count("<script>") == text.count("</script>") == 1


def test_pixels_are_shown_as_wide_as_the_drawing_they_stand_for(monkeypatch):
    figure, _ = new_figure(5, 2)
    assert pages.shown_width(pages.figure_uri(figure)) is None
    monkeypatch.setattr(pages, "LARGEST_SVG_BYTES", 10)
    assert pages.shown_width(pages.figure_uri(figure)) == 5 * 96


def test_several_notes_are_one_list():
    macro = '{% from "parts.html.j2" import notes %}{{ notes(lines) }}'
    pages_of = [pages.environment().from_string(macro).render(lines=lines) for lines in ([], ["<a>"], ["<a>", "b"])]
    assert [(text.count("<p"), text.count("<li>")) for text in pages_of] == [(0, 0), (1, 0), (0, 2)]
    assert "&lt;a&gt;" in pages_of[2]
