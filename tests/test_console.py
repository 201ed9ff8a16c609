"""How figures are said, and where long texts break."""

import os
import subprocess
import sys

import pytest

from cifarlab.console import format_bytes, format_roughly, print_facts, print_json, print_line


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


@pytest.mark.parametrize(
    ("stream", "code", "still_said"),
    [
        ("stderr", "console.notify('x'); console.notify('y'); console.print_line('done')", b"done\n"),
        ("stdout", "", b""),
    ],
)
def test_a_reader_that_has_gone_is_no_failure(stream, code, still_said):
    """Progress goes on unread; a command whose results nobody reads ends, and its code is that of success."""
    reading, writing = os.pipe()
    os.close(reading)
    code = f"import sys; from cifarlab import cli, console; {code or 'sys.exit(cli.main([]))'}"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    done = subprocess.run([sys.executable, "-c", code], check=False, **streams)
    os.close(writing)
    assert done.returncode == 0
    assert (done.stdout or b"") + (done.stderr or b"") == still_said


def main_of(what, encoding="utf-8", **streams):
    """Run a command that does ``what``; return the finished process."""
    code = f"import sys; from cifarlab import cli, console; cli.COMMANDS['x'] = lambda argv: {what}, ''; "
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", f"{code} sys.exit(cli.main(['x']))"],
        env={**environment, "PYTHONIOENCODING": encoding},
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    )


def test_figures_for_a_reader_that_has_gone_are_no_failure():
    reading, writing = os.pipe()
    os.close(reading)
    done = main_of("console.print_json({})", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_cannot_be_printed_is_escaped(encoding):
    done = main_of(r"(console.print_line('a\udcff'), console.print_json('\xfc\udcff'))", encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b'a\\udcff\n"\\u00fc\\udcff"\n'


def test_without_any_stdout_results_go_nowhere_and_nothing_fails(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    print_line("as words")
    print_json({"as": "figures"})
