"""What is written down of machine and process."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cifarlab import environment
from cifarlab.commands.train import train
from cifarlab.training.loop import Hooks
from tests.conftest import with_fields


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_peak_memory_sees_what_was_held_and_given_back():
    # in a process of its own: this one may have held more before, and its peak must not be the child's
    code = (
        "from cifarlab.environment import peak_memory as peak; before = peak(); "
        "block = bytearray(200_000_000); del block; print(before, peak())"
    )
    large = bytearray(1_000_000_000)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    del large
    before, after = map(int, done.stdout.split())
    assert 10e6 < before < 900e6
    assert before + 150e6 < after < before + 250e6


def test_a_run_records_when_its_first_step_was_done(config, splits):
    seen = []
    config = with_fields(config, train__epochs=1)
    hooks = Hooks(on_step=lambda report: seen.append(report.step))
    run = train(config, splits=splits, hooks=hooks, started=environment.process_start())
    result = run.read_json("result.json")
    assert seen == [1, 2, 3, 4]
    assert 0 < result["seconds_to_first_step"] < result["wall_clock_seconds"]
    assert result["peak_memory_bytes"] > 50e6


@pytest.mark.parametrize(
    ("program", "shown"), [("/a/bin/cifarlab", "cifarlab"), ("/a/cifarlab/__main__.py", "cifarlab")]
)
def test_the_command_is_one_that_can_be_typed(program, shown, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, "train", "fast70"])
    assert environment.describe_environment()["command"] == f"{shown} train fast70"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@db.example/studies", "postgresql://me:***@db.example/studies"),
        ("postgresql://me:sec@ret@db.example:5/studies", "postgresql://me:***@db.example:5/studies"),
        ("postgresql://db.example/s?user=me&password=secret&a=1", "postgresql://db.example/s?user=me&password=***&a=1"),
        ("postgresql://me@db.example/studies", "postgresql://me@db.example/studies"),
    ],
)
def test_the_command_is_quoted_and_tells_no_password(url, shown, monkeypatch):
    """It is shown on the pages of studies."""
    words = ["study", "convnet", "--set", "model.stages=[[1, 8]]", "--storage"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/cifarlab", *words, url])
    assert shlex.split(environment.describe_environment()["command"]) == ["cifarlab", *words, shown]


def test_the_commit_of_a_project_around_an_installed_package_is_not_taken_for_ours(tmp_path, monkeypatch):
    package = tmp_path / ".venv" / "environment.py"
    package.parent.mkdir()
    package.touch()
    (tmp_path / "theirs.py").touch()

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", "-C", tmp_path, *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", "theirs.py")
    git("commit", "--quiet", "--message", "first")
    monkeypatch.setattr(environment, "__file__", str(package))
    assert environment.describe_environment()["git_commit"] is None
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "theirs.py"))
    assert environment.describe_environment()["git_commit"] == git("rev-parse", "HEAD")
