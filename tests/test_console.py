"""How figures are said, and where long texts break."""

import pytest

from cifarlab.console import format_bytes, format_roughly, print_facts


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "about 1 s"),
        (2.4, "about 2 s"),
        (19.4, "about 19 s"),
        (23, "about 25 s"),
        (88, "about 90 s"),
        (90, "about 2 min"),
        (1812, "about 30 min"),
        (5300, "about 88 min"),
        (5400, "about 2 h"),
        (90_000, "about 25 h"),
    ],
)
def test_an_estimate_is_said_without_false_digits(seconds, said):
    assert format_roughly(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(None, "unknown"), (0, "0 MB"), (512e6, "512 MB"), (1e9, "1.0 GB"), (25_276_502_016, "25.3 GB")],
)
def test_sizes(count, said):
    assert format_bytes(count) == said


def test_long_facts_wrap_beside_their_names(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    print_facts("Facts", [("name", "word " * 20), ("path", "/" + "x" * 60)])
    title, *lines = capsys.readouterr().out.rstrip().splitlines()
    assert title == "Facts"
    assert all(len(line) <= 40 for line in lines)
    assert [line[:8].strip() for line in lines if line[:8].strip()] == ["name", "path"]
    assert "".join(lines).count("word") == 20
    assert "".join(lines).count("x") == 60
