"""The benchmark of time to accuracy, with a trainer that only pretends: order, files, refusals, arithmetic."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from scipy import stats as scipy_stats
from tests.conftest import with_fields

from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields
from cifarlab.errors import RunError, UsageError
from cifarlab.recipes import load_recipe

MACHINE = {
    "cpu": "Intel(R) Xeon(R) Processor",
    "instruction_sets": ["avx512_bf16", "amx_bf16"],
    "cpu_count": 2,
    "threads": 2,
    "gpu": None,
    "torch": "2.13.0",
    "python": "3.11.7",
    "command": "time_to_accuracy.py",
    "time": "2026-11-21T00:00:00+00:00",
}


@pytest.fixture
def bench(modules, monkeypatch, tmp_path):
    """The program on an imagined machine, its results folder in tmp_path."""
    program = modules.time_to_accuracy
    monkeypatch.setattr(program, "describe_environment", lambda: dict(MACHINE))
    monkeypatch.setattr(program, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(program, "augmentation_seconds", lambda arm: 0.01)
    # where the tests run does not matter here
    monkeypatch.setattr(modules.arms, "choose_device", lambda name: SimpleNamespace(type="cpu"))
    return program


class Trainer:
    """Pretends to train; remembers the order, and fails before a given run."""

    def __init__(self, program, *, fail_at: int | None = None, precision: str = "bf16") -> None:
        self.program, self.fail_at, self.precision = program, fail_at, precision
        self.order: list[tuple[str, int]] = []

    def __call__(self, arm, seed):
        if len(self.order) == self.fail_at:
            raise KeyboardInterrupt
        self.order.append((arm.recipe, seed))
        training = (10.0 if arm.recipe == "fast90" else 20.0) + 0.5 * seed**2
        figures = {
            "seed": seed,
            "train_clock_seconds": training + 2,
            "training_seconds": training,
            "evaluation_seconds": 2.0,
            "accuracy": 0.9 + seed / 100,
            "steps": 100,
        }
        return self.program.Measurement(figures, {"num_train": 49_000, "precision": self.precision})


def run(bench, monkeypatch, *recipes, trainer=None, **arguments):
    trainer = trainer or Trainer(bench)
    monkeypatch.setattr(bench, "measure", trainer)
    said: list[str] = []
    bench.benchmark(bench.Arguments(recipes=recipes, **arguments), said.append)
    return trainer, said


def content(bench, name):
    return json.loads((bench.RESULTS / f"{name}_cpu-intel-xeon-amx.json").read_text())


def test_arms_alternate_and_every_other_round_goes_backwards(bench, monkeypatch):
    trainer, _ = run(bench, monkeypatch, "fast90", "convnet", seeds=3)
    assert trainer.order == [
        ("fast90", 0),
        ("convnet", 0),
        ("convnet", 1),
        ("fast90", 1),
        ("fast90", 2),
        ("convnet", 2),
    ]


def test_over_an_even_number_of_rounds_no_arm_comes_earlier_on_average(bench):
    places = {}
    for place, (_, arm) in enumerate(bench.turns(["a", "b", "c"], 4)):
        places.setdefault(arm, []).append(place)
    assert {arm: statistics.fmean(at) for arm, at in places.items()} == {"a": 5.5, "b": 5.5, "c": 5.5}


def test_beside_other_work_no_time_is_written_down(bench, monkeypatch):
    _, said = run(bench, monkeypatch, "fast90", "convnet", seeds=2, clocks=False)
    found = content(bench, "fast90")
    assert [one["accuracy"] for one in found["runs"]] == [0.9, 0.91]
    assert not [name for name in {*found["summary"], *found["runs"][0]} if name.endswith("seconds")]
    assert "augmentation_share" not in found
    assert not list(bench.RESULTS.glob("compare_*"))
    assert not [line for line in said if "clock" in line or "seconds" in line]


def test_timed_runs_and_others_are_not_mixed(bench, monkeypatch):
    run(bench, monkeypatch, "fast90", seeds=1, clocks=False)
    with pytest.raises(RunError, match="clocks: False -> None"):
        run(bench, monkeypatch, "fast90", seeds=2)


def test_whole_runs_cannot_be_timed_without_clocks(bench, monkeypatch):
    with pytest.raises(UsageError, match="--no-clocks"):
        run(bench, monkeypatch, "fast90", seeds=1, clocks=False, wall=True)


def test_files_hold_what_was_measured(bench, monkeypatch):
    run(bench, monkeypatch, "fast90", "convnet", seeds=3)
    fast = content(bench, "fast90")
    assert (fast["kind"], fast["recipe"], fast["split"]) == ("recipe", "fast90", "test")
    assert (fast["num_train"], fast["precision"]) == (49_000, "bf16")
    assert fast["config"] == changed_fields(load_recipe("fast90"), Config())
    assert [one["seed"] for one in fast["runs"]] == [0, 1, 2]
    assert fast["summary"]["train_clock_seconds"]["mean"] == pytest.approx((12 + 12.5 + 14) / 3)
    # a batch takes 0.01 s, a step (10 + 10.5 + 12) / 300 s
    assert fast["augmentation_share"] == pytest.approx(0.01 / (32.5 / 300))
    compared = content(bench, "compare_fast90_convnet")
    assert (compared["kind"], compared["first"], compared["second"]) == ("comparison", "fast90", "convnet")
    assert [one["ratio"] for one in compared["rounds"]] == pytest.approx([12 / 22, 12.5 / 22.5, 14 / 24])


def test_stopped_and_called_again_it_measures_what_is_missing(bench, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(bench, monkeypatch, "fast90", "convnet", seeds=2, trainer=Trainer(bench, fail_at=3))
    assert [len(content(bench, name)["runs"]) for name in ("fast90", "convnet")] == [1, 2]
    trainer, _ = run(bench, monkeypatch, "fast90", "convnet", seeds=3)
    assert trainer.order == [("fast90", 1), ("fast90", 2), ("convnet", 2)]
    assert content(bench, "fast90")["summary"]["accuracy"]["n"] == 3
    trainer, said = run(bench, monkeypatch, "fast90", "convnet", seeds=3)
    assert trainer.order == []
    assert "nothing is left" in said[0]


def test_stopped_after_the_last_run_it_still_measures_the_share_of_augmentation(bench, monkeypatch):
    def stop(arm):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench, "augmentation_seconds", stop)
        with pytest.raises(KeyboardInterrupt):
            run(bench, monkeypatch, "fast90", seeds=1)
    assert "augmentation_share" not in content(bench, "fast90")
    trainer, _ = run(bench, monkeypatch, "fast90", seeds=1)
    assert trainer.order == []
    assert content(bench, "fast90")["augmentation_share"] == pytest.approx(0.01 / (10 / 100))
    monkeypatch.setattr(bench, "augmentation_seconds", stop)  # it is there, and is not measured again
    run(bench, monkeypatch, "fast90", seeds=1)


def test_fresh_begins_anew(bench, monkeypatch):
    run(bench, monkeypatch, "fast90", seeds=2)
    trainer, _ = run(bench, monkeypatch, "fast90", seeds=1, fresh=True)
    assert trainer.order == [("fast90", 0)]
    assert len(content(bench, "fast90")["runs"]) == 1


def _other_machine(bench, monkeypatch):
    other = MACHINE | {"instruction_sets": ["amx_bf16"], "threads": 1}
    monkeypatch.setattr(bench, "describe_environment", lambda: other)
    return {"recipes": ("fast90",)}, "threads: 2 -> 1"


def _other_config(bench, monkeypatch):
    changed = with_fields(load_recipe("fast90"), train__epochs=3.0)
    monkeypatch.setattr(sys.modules["arms"], "load_recipe", lambda name: changed)
    return {"recipes": ("fast90",)}, "config"


def _other_code(bench, monkeypatch):
    monkeypatch.setattr(bench, "code_sha256", lambda: "0" * 64)
    return {"recipes": ("fast90",)}, "code_sha256"


def _other_arms(bench, monkeypatch):
    return {"recipes": ("fast90", "convnet")}, "arms: fast90 -> fast90, convnet"


def _other_cut(bench, monkeypatch):
    return {"recipes": ("fast90",), "max_minutes": 5.0}, "max_minutes: 0.0 -> 5.0"


@pytest.mark.parametrize("change", [_other_machine, _other_config, _other_code, _other_arms, _other_cut])
def test_runs_of_different_measurements_are_not_mixed(bench, monkeypatch, change):
    run(bench, monkeypatch, "fast90", seeds=2)
    before = content(bench, "fast90")
    arguments, reason = change(bench, monkeypatch)
    with pytest.raises(RunError, match="runs are not mixed") as error:
        run(bench, monkeypatch, *arguments.pop("recipes"), seeds=3, **arguments)
    assert reason in str(error.value)
    assert content(bench, "fast90") == before


def test_a_damaged_file_is_not_written_over(bench, monkeypatch):
    run(bench, monkeypatch, "fast90", seeds=1)
    path = bench.RESULTS / "fast90_cpu-intel-xeon-amx.json"
    path.write_text("{")
    with pytest.raises(RunError, match="cannot be continued"):
        run(bench, monkeypatch, "fast90", seeds=2)
    assert path.read_text() == "{"


def test_another_machine_gets_another_file(bench, monkeypatch):
    run(bench, monkeypatch, "fast90", seeds=1)
    monkeypatch.setattr(bench, "describe_environment", lambda: MACHINE | {"cpu": "AMD EPYC", "instruction_sets": []})
    run(bench, monkeypatch, "fast90", seeds=1)
    assert {path.name for path in bench.RESULTS.iterdir()} == {
        "fast90_cpu-intel-xeon-amx.json",
        "fast90_cpu-amd-epyc.json",
    }


def test_a_run_in_another_precision_is_refused(bench, monkeypatch):
    run(bench, monkeypatch, "fast90", seeds=1)
    with pytest.raises(RunError, match="precision is fp32, in earlier runs it was bf16"):
        run(bench, monkeypatch, "fast90", seeds=2, trainer=Trainer(bench, precision="fp32"))
    assert len(content(bench, "fast90")["runs"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"set": ("train.epochs=7",)}, "--set needs --val or --out"),
        ({"set": ("train.epochs=7",), "out": "results"}, "--set needs --val or --out"),
        ({"val": True, "out": "results"}, "figures on the test split"),
        ({"wall": True, "max_minutes": 3.0}, "--wall times whole runs"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"recipes": ("fast90", "fast90")}, "each recipe once"),
        ({"recipes": ("fast99",)}, "unknown recipe"),
        ({"val": True, "set": ("train.epoch=7",)}, "no field train.epoch"),
        ({"val": True, "set": ("train=7",)}, "must hold fields"),
        ({"val": True, "set": ("train.epochs=many",)}, "train.epochs must be of type float"),
        ({"val": True, "set": ("train.epochs",)}, "takes section.field=value"),
        ({"val": True, "set": ("data.val_fraction=0",)}, "needs a validation split"),
    ],
)
def test_what_would_make_figures_doubtful_is_a_usage_error(bench, monkeypatch, arguments, message):
    arguments = {"recipes": ("fast90",), **arguments}
    if arguments.get("out") == "results":
        arguments["out"] = bench.RESULTS
    trainer = Trainer(bench)
    with pytest.raises(UsageError, match=message):
        run(bench, monkeypatch, *arguments.pop("recipes"), trainer=trainer, **arguments)
    assert trainer.order == []
    assert not bench.RESULTS.exists()


def test_validation_writes_only_where_it_is_told(bench, monkeypatch, tmp_path):
    run(bench, monkeypatch, "fast90", seeds=1, val=True)
    assert not bench.RESULTS.exists()
    run(bench, monkeypatch, "fast90", seeds=1, val=True, set=("train.epochs=7",), out=tmp_path / "elsewhere")
    written = json.loads((tmp_path / "elsewhere" / "fast90_cpu-intel-xeon-amx.json").read_text())
    assert written["split"] == "val"
    assert written["config"]["train.epochs"] == 7.0
    assert written["config"].get("data.val_fraction", 0.1) == 0.1  # a tenth, though the recipe holds out less
    assert not bench.RESULTS.exists()


def test_fields_are_set_with_their_types(modules):
    settings = ("train.low_resolution=[[0.5, 16]]", "optimizer.lr=5e-4", "model.name=convnet", "train.compile=true")
    changed = modules.arms.set_fields(Config(), settings)
    assert changed == with_fields(
        Config(),
        train__low_resolution=((0.5, 16),),
        optimizer__lr=5e-4,
        model__name="convnet",
        train__compile=True,
    )


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
    # the configuration is compared as such, the others only describe
    describe = {
        "config",
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
