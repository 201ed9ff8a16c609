"""Figures of the benchmark of time to accuracy: summaries, ratios, file names, the hash of what trains."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest
from scipy import stats as scipy_stats
from tests.conftest import with_fields

from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields


def test_changed_fields_are_exactly_what_differs():
    config = with_fields(Config(), train__epochs=3.0, augment__cutout=4)
    assert changed_fields(replace(config, recipe="x"), Config()) == {"train.epochs": 3.0, "augment.cutout": 4}
    assert changed_fields(config, config) == {}


def test_summary_is_that_of_numpy_and_scipy(modules):
    values = [0.9401, 0.9387, 0.9412, 0.9395]
    runs = [{"seed": i, "accuracy": v, "cut": True, "time": "now"} for i, v in enumerate(values)]
    runs[0]["wall_clock_seconds"] = 3.0
    summary = modules.figures.summarise(runs)
    assert set(summary) == {"accuracy", "wall_clock_seconds"}
    low, high = scipy_stats.t.interval(0.95, 3, loc=statistics.fmean(values), scale=scipy_stats.sem(values))
    assert summary["accuracy"] == {
        "mean": pytest.approx(statistics.fmean(values)),
        "sd": pytest.approx(statistics.stdev(values)),
        "interval": pytest.approx([low, high]),
        "min": 0.9387,
        "max": 0.9412,
        "n": 4,
    }
    assert summary["wall_clock_seconds"] == {"mean": 3.0, "sd": None, "interval": None, "min": 3.0, "max": 3.0, "n": 1}


def clocks(*seconds, **more):
    return [{"seed": seed, "train_clock_seconds": value, **more} for seed, value in enumerate(seconds)]


def test_ratio_is_the_geometric_mean_with_students_interval_of_the_logarithms(modules):
    first, second = (210.0, 214.0, 205.0, 221.0), (640.0, 633.0, 655.0, 629.0)
    compared = modules.figures.compare_clocks(list(reversed(clocks(*first))), clocks(*second))
    product = math.prod(a / b for a, b in zip(first, second, strict=True))
    assert compared["ratio"]["geometric_mean"] == pytest.approx(product ** (1 / 4))
    differences = [math.log(a) - math.log(b) for a, b in zip(first, second, strict=True)]
    # the interval is what a paired t-test of the logarithms gives
    reference = scipy_stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert [math.log(end) for end in compared["ratio"]["interval"]] == pytest.approx(list(reference))
    assert [one["seed"] for one in compared["rounds"]] == [0, 1, 2, 3]


def test_what_slows_a_whole_round_leaves_the_ratio_alone(modules):
    compare = modules.figures.compare_clocks
    calm = compare(clocks(10.0, 10.1), clocks(20.0, 20.0))["ratio"]
    busy = compare(clocks(10.0, 17.17), clocks(20.0, 34.0))["ratio"]
    assert [busy["geometric_mean"], *busy["interval"]] == pytest.approx([calm["geometric_mean"], *calm["interval"]])


def test_figures_without_spread_have_no_interval(modules):
    """Every run of a recipe has the same number of steps; that is no measurement of no width."""
    summary = modules.figures.summarise([{"steps": 1000, "lr": 0.1 + 0.2}, {"steps": 1000, "lr": 0.3}])
    assert [summary[name]["sd"] for name in ("steps", "lr")] == [0, 0]
    assert [summary[name]["interval"] for name in ("steps", "lr")] == [None, None]
    assert modules.figures.compare_clocks(clocks(10.0, 17.0), clocks(20.0, 34.0))["ratio"]["interval"] is None


def test_a_round_that_was_stopped_between_its_runs_is_not_compared(modules):
    """As where one arm was measured before a break and the other after it: the machine may have changed its pace."""
    first, second = clocks(10.0, 11.0, 12.0), clocks(20.0, 20.0, 20.0)
    for minute, run in zip((0, 2, 30), first, strict=True):
        run["time"] = f"2026-11-21T20:{minute:02}:00+00:00"
    for minute, run in zip((1, 1, 20), second, strict=True):
        run["time"] = f"2026-11-21T20:{minute:02}:00+00:00"
    compared = modules.figures.compare_clocks(first, second)
    assert [one["seed"] for one in compared["rounds"]] == [0, 1]
    assert compared["apart"] == [2]
    assert compared["ratio"]["n"] == 2
    assert modules.figures.compare_clocks(first[2:], second[2:])["rounds"] == []


def test_only_whole_rounds_are_compared(modules):
    compare = modules.figures.compare_clocks
    single = compare(clocks(10.0, 11.0), clocks(20.0))["ratio"]
    assert single == {"geometric_mean": pytest.approx(0.5), "interval": None, "n": 1}
    assert compare(clocks(10.0), [])["rounds"] == []
    assert compare(clocks(10.0), clocks(20.0, cut=True))["rounds"] == []


@pytest.mark.parametrize(
    ("environment", "device", "expected"),
    [
        ({"cpu": "AMD EPYC 9R14 96-Core Processor", "gpu": None}, "cpu", "cpu-amd-epyc-9r14-96-core"),
        ({"cpu": "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", "gpu": None}, "cpu", "cpu-intel-core-i7-8650u"),
        ({"cpu": "AMD EPYC", "gpu": "NVIDIA H200"}, "cuda", "nvidia-h200"),
        ({"cpu": "arm", "gpu": None}, "mps", "mps"),
    ],
)
def test_hardware_is_named_in_file_names(modules, environment, device, expected):
    assert modules.figures.device_slug({"instruction_sets": ["avx2"], **environment}, device) == expected


def test_the_hash_of_the_code_is_that_of_the_files_training_consists_of(modules, monkeypatch, tmp_path):
    figures = modules.figures
    before = figures.code_sha256()
    monkeypatch.setattr(figures.cifarlab, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "device.py").write_text("a = 1\n")
    one = figures.code_sha256()
    (tmp_path / "export.py").write_text("has no part in training\n")
    assert figures.code_sha256() == one
    (tmp_path / "device.py").write_text("a = 2\n")
    assert len({before, one, figures.code_sha256()}) == 3


def test_everything_training_imports_is_in_the_hash_or_decides_nothing(modules):
    code = "import sys, cifarlab.commands.train; print(*(m for m in sys.modules if m.startswith('cifarlab.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in done.stdout.split()}
    hashed = {name.removesuffix(".py").split("/")[0] for name in modules.figures._TRAINING_CODE}
    describe = {
        "config_yaml",
        "diagnosis",
        "environment",
        "errors",
        "machine",
        "metrics",
        "plots",
        "ranks",
        "run",
        "strict_yaml",
    }
    assert rooms - hashed <= describe
