"""The benchmark of time to accuracy, with a trainer that only pretends: order, files, refusals, arithmetic."""

from __future__ import annotations

import json
import statistics
import sys
from types import SimpleNamespace

import pytest
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
    for place, (_, arm) in enumerate(bench.turns(["a", "b", "c"], range(4))):
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


def test_two_processes_add_to_one_file(bench, monkeypatch):
    other = bench.Arguments(recipes=("fast90",), seeds=3, first_seed=2, clocks=False)
    ours, theirs = Trainer(bench), Trainer(bench)

    def train_while_the_other_does(arm, seed):
        if seed == 0:
            with monkeypatch.context() as patch:
                patch.setattr(bench, "measure", theirs)
                bench.benchmark(other, lambda line: None)
        return ours(arm, seed)

    run(bench, monkeypatch, "fast90", seeds=3, clocks=False, trainer=train_while_the_other_does)
    assert (ours.order, theirs.order) == ([("fast90", 0), ("fast90", 1)], [("fast90", 2)])
    found = content(bench, "fast90")
    assert [one["seed"] for one in found["runs"]] == [0, 1, 2]
    assert found["summary"]["accuracy"]["mean"] == pytest.approx(0.91)


def test_processes_that_train_in_different_precisions_do_not_share_a_file(bench, monkeypatch):
    ours = Trainer(bench)

    def train_while_the_other_does(arm, seed):
        with monkeypatch.context() as patch:
            patch.setattr(bench, "measure", Trainer(bench, precision="fp32"))
            bench.benchmark(bench.Arguments(recipes=("fast90",), seeds=2, first_seed=1, clocks=False), str)
        return ours(arm, seed)

    with pytest.raises(RunError, match="precision: fp32 -> bf16"):
        run(bench, monkeypatch, "fast90", seeds=2, clocks=False, trainer=train_while_the_other_does)
    assert [one["seed"] for one in content(bench, "fast90")["runs"]] == [1]


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
        ({"seeds": 3, "first_seed": 3, "clocks": False}, "a seed below --seeds 3, not 3"),
        ({"seeds": 3, "first_seed": 1}, "add --no-clocks"),
        ({"seeds": 3, "first_seed": 1, "clocks": False, "fresh": True}, "leave --fresh out"),
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
