"""doctor: findings and proposals from machines made up here; the command line on this one."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path

import pytest
from tests.conftest import with_fields

from cifarlab.arithmetic import Convolution, Rate
from cifarlab.cli import main
from cifarlab.commands import doctor as module
from cifarlab.commands.doctor import (
    Estimate,
    Measured,
    Storage,
    describe,
    doctor,
    estimate,
    find_broken,
    find_in_bf16,
    find_in_load,
    find_in_resources,
    propose,
    read_storage,
    training_work,
)
from cifarlab.commands.train import train
from cifarlab.config import Config, ModelConfig, SpeednetConfig, TrainConfig
from cifarlab.device import Bf16Check
from cifarlab.machine import Gpu, Machine, Memory, Processor, Software
from cifarlab.recipes import RECIPES

GB = 10**9
SOFTWARE = Software("3.11.7", "2.13.0+cpu", "3.12.0", "", "/usr/bin/g++", True, 2, {}, False, False)
PROCESSOR = Processor("a processor", 2, 2, 2, None, {"avx2": True, "avx512_bf16": True, "amx_bf16": False})
MACHINE = Machine("Linux", PROCESSOR, Memory(24 * GB, 20 * GB, None), (), SOFTWARE)
STORAGE = Storage(Path("data"), 80 * GB, Path("runs"), 80 * GB, True, Path("data/cifar10.safetensors"))
RATES = (Rate(Convolution(8, 8, 8), "fp32", 100, 100, 100), Rate(Convolution(8, 8, 8), "bf16", 300, 300, 300))
MEASURED = Measured("cpu", "bf16", Bf16Check(0.004, 2.0), {"fp32": 1e-7, "bf16": 0.002}, "", RATES, 1e8, 20.0)


def machine(*, processor=None, memory=None, software=None, **changes):
    return dataclasses.replace(
        MACHINE,
        processor=dataclasses.replace(PROCESSOR, **(processor or {})),
        memory=dataclasses.replace(MACHINE.memory, **(memory or {})),
        software=dataclasses.replace(SOFTWARE, **(software or {})),
        **changes,
    )


def measured(**changes):
    return dataclasses.replace(MEASURED, **changes)


# ---- estimates


def test_compute_is_what_training_records(splits, config):
    config = with_fields(config, train__low_resolution=((0.5, 12),), train__epochs=3.5, train__freeze_whitening=1.0)
    run = train(config, splits=splits)
    num_images = len(splits.train) + len(splits.val)
    pflop, _ = training_work(config, num_images, splits.train.num_classes)
    assert pflop == pytest.approx(run.read_json("result.json")["compute_pflop"], rel=1e-12)


def test_convolution_outputs_are_counted_by_hand():
    model = ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 16, 16)))
    half = TrainConfig(epochs=2, batch_size=100, low_resolution=((0.5, 24),))
    config = Config(model=model, train=half)

    def outputs(size):
        a, b, c, d = size - 1, (size - 1) // 2, (size - 1) // 4, (size - 1) // 8
        return 24 * a**2 + 8 * a**2 + 8 * b**2 + 16 * b**2 + 16 * c**2 + 16 * c**2 + 16 * d**2

    _, counted = training_work(config, 1000, 10)  # 900 to train on
    assert counted == 2 * 900 * (outputs(24) + outputs(32)) / 2


def test_time_is_compute_over_the_rate_and_values_over_theirs(monkeypatch):
    monkeypatch.setattr(module, "training_work", lambda *_: (0.003, 5e9))
    for row in estimate(MEASURED):
        assert row.compute_pflop == 0.003
        assert row.seconds == pytest.approx(3000 / 300 + 5e9 / 1e8)  # bf16, which training takes
    for row in estimate(measured(errors={"fp32": 1e-7, "bf16": 0.5})):
        assert row.seconds == pytest.approx(3000 / 100 + 5e9 / 1e8)
    assert {row.seconds for row in estimate(measured(rates=(), pointwise_per_second=None))} == {None}


def test_only_recipes_that_exist_are_estimated_in_order_of_accuracy(monkeypatch):
    monkeypatch.setattr(module, "RECIPES", {"fast94": RECIPES["fast90"], "convnet": RECIPES["convnet"]})
    assert [row.recipe for row in estimate(MEASURED)] == ["fast94"]
    monkeypatch.setattr(module, "RECIPES", {"fast94": RECIPES["fast90"], "fast90": RECIPES["fast90"]})
    assert [row.recipe for row in estimate(MEASURED)] == ["fast90", "fast94"]


# ---- proposals


def rows(**seconds):
    return [Estimate(name, 0.1, value) for name, value in seconds.items()]


@pytest.mark.parametrize(
    ("estimates", "recipe"),
    [
        (rows(fast70=2, fast90=60, fast94=400, fast96=4000), "fast94"),
        (rows(fast70=2, fast90=60), "fast90"),
        (rows(fast70=900, fast90=3000), "fast70"),  # nothing fits: the shortest
        (rows(fast70=None, fast90=None, fast94=None), "fast90"),  # nothing measured: the default
    ],
)
def test_the_most_accurate_recipe_within_ten_minutes_is_proposed(estimates, recipe):
    proposal = propose(MACHINE, MEASURED, estimates)
    assert proposal.command == f"cifarlab train {recipe}"
    assert proposal.estimate in estimates


def test_a_proposal_sets_what_is_not_right_by_itself():
    fast90 = rows(fast90=60)
    starved = machine(software={"threads": 1})
    assert propose(starved, MEASURED, fast90).command == "OMP_NUM_THREADS=2 cifarlab train fast90"
    crowded = machine(processor={"quota": 1.0})
    assert propose(crowded, MEASURED, fast90).command == "OMP_NUM_THREADS=1 cifarlab train fast90"
    on_gpu = measured(device="cuda", bf16=None)
    assert propose(starved, on_gpu, fast90).command == "cifarlab train fast90"
    wrong = propose(MACHINE, measured(errors={"fp32": 1e-7, "bf16": 0.5}), fast90)
    assert (wrong.command, wrong.precision) == ("cifarlab train fast90 --train.precision fp32", "fp32")


def test_a_proposed_command_can_be_given(capsys):
    words = propose(MACHINE, measured(errors={"bf16": math.nan}), rows(fast90=60)).command.split()
    assert main([*words[1:], "--help"]) == 0
    capsys.readouterr()


# ---- findings


def test_a_good_machine_has_no_findings():
    findings = (
        *find_broken(MEASURED),
        *find_in_resources(MACHINE, STORAGE),
        *find_in_bf16(MACHINE, MEASURED),
        *find_in_load(MACHINE, 0.3),
    )
    assert findings == ()


@pytest.mark.parametrize(
    ("changes", "what", "remedy"),
    [
        ({"errors": {"fp32": 0.5}}, "fp32 convolutions on cpu are wrong, by 50.0%", "another version of torch"),
        ({"errors": {"fp32": math.nan}}, "fp32 convolutions on cpu are wrong", "another version of torch"),
        ({"errors": {"fp32": 0, "bf16": 0.75}}, "bf16 convolutions on cpu are wrong", "--train.precision fp32"),
        ({"device": "cuda", "errors": {"fp32": 0.5}}, "on cuda are wrong", "--train.device cpu"),
        ({"device": "cuda", "errors": {}, "failure": "no kernel image"}, "no kernel image", "a build of torch"),
        ({"device": "cuda", "errors": {}, "failure": "no kernel image"}, "no kernel image", "--train.device cpu"),
        ({"device": "cuda", "errors": {}, "failure": "CUDA out of memory. Tried"}, "out of memory", "close other"),
        ({"errors": {}, "failure": "DefaultCPUAllocator: can't allocate memory"}, "can't allocate", "close other"),
    ],
)
def test_wrong_arithmetic_is_a_problem(changes, what, remedy):
    (finding,) = find_broken(measured(**changes))
    assert finding.level == "problem"
    assert what in finding.what
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("here", "storage", "level", "what", "remedy"),
    [
        (machine(memory={"available": 2 * GB}), {}, "warning", "2.0 GB of memory are available", "close"),
        (MACHINE, {"runs_writable": False}, "problem", "runs cannot be written", "CIFARLAB_RUNS"),
        (MACHINE, {"runs_free": GB // 2}, "warning", "the disk of runs has 500 MB left", "CIFARLAB_RUNS"),
        (MACHINE, {"cifar10": None}, "note", "CIFAR-10 is not in the cache", "cifarlab fetch"),
        (machine(software={"nvidia_driver": True}), {}, "warning", "torch 2.13.0+cpu cannot use a GPU", "pytorch.org"),
    ],
)
def test_what_is_short_is_told(here, storage, level, what, remedy):
    (finding,) = find_in_resources(here, dataclasses.replace(STORAGE, **storage))
    assert finding.level == level
    assert what in finding.what
    assert remedy in finding.remedy


def test_what_is_unknown_is_no_finding():
    unknown = dataclasses.replace(STORAGE, data_free=None, runs_free=None)
    assert list(find_in_resources(machine(memory={"total": None, "available": None}), unknown)) == []


def test_disk_for_data_counts_only_while_it_is_not_there(monkeypatch):
    full = dataclasses.replace(STORAGE, data_free=0)
    assert list(find_in_resources(MACHINE, full)) == []
    monkeypatch.setenv("CIFARLAB_OFFLINE", "1")
    findings = list(find_in_resources(MACHINE, dataclasses.replace(full, cifar10=None)))
    assert [finding.level for finding in findings] == ["warning", "warning"]
    assert "CIFARLAB_OFFLINE" in findings[1].what


@pytest.mark.parametrize(
    ("check", "sets", "level", "what"),
    [
        (Bf16Check(0.3, 2.0), {"avx512_bf16": True}, "warning", "wrong, by 30.0%"),
        (Bf16Check(math.nan, 2.0), {}, "warning", "wrong"),
        (Bf16Check(0.004, 1.0), {"avx512_bf16": True}, "warning", "has bf16 instructions, but bf16 ran at 1.00 times"),
        (Bf16Check(0.004, 0.1), {"avx2": True, "avx512_bf16": False}, "note", "bf16 ran at 0.10 times"),
        (Bf16Check(0.004, 0.1), {}, "note", "bf16 ran at 0.10 times"),
    ],
)
def test_why_bf16_is_not_taken(check, sets, level, what):
    here = machine(processor={"instruction_sets": sets})
    (finding,) = find_in_bf16(here, measured(precision="fp32", bf16=check))
    assert finding.level == level
    assert what in finding.what


def test_load_of_others_is_told():
    assert [finding.level for finding in find_in_load(MACHINE, 3.0)] == ["warning"]
    assert list(find_in_load(machine(processor={"hardware_threads": 64}), 3.0)) == []


def test_a_damaged_cache_file_is_told_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFARLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_storage().cifar10 is None
    assert not (tmp_path / "data").exists()
    assert read_storage().data_free > 0
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "cifar10.safetensors"
    path.write_bytes(b"not a cache file")
    storage = read_storage()
    assert storage.cifar10 is None
    assert path.read_bytes() == b"not a cache file"
    levels = [finding.level for finding in find_in_resources(MACHINE, storage)]
    assert levels == ["warning", "note"]


def test_a_cache_file_of_another_user_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(path, dataset):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "read_cache", refuse)
    monkeypatch.setattr(module, "data_places", lambda: [tmp_path])
    (tmp_path / "cifar10.safetensors").write_bytes(b"somebody's")
    warning = next(iter(find_in_resources(MACHINE, read_storage())))
    assert "Permission denied" in warning.what
    assert "damaged" not in warning.what
    assert "leaves one it may not open where it is" in warning.remedy  # as fetch does


def test_a_file_where_runs_should_go_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "runs").write_text("a file")
    monkeypatch.setenv("CIFARLAB_RUNS", str(tmp_path / "runs" / "mine"))
    assert not read_storage().runs_writable
    monkeypatch.setenv("CIFARLAB_RUNS", str(tmp_path / "yet" / "to" / "be" / "made"))
    assert read_storage().runs_writable
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]  # trying leaves nothing behind
    if Path("/proc/self").exists():
        monkeypatch.setenv("CIFARLAB_RUNS", "/proc/runs")  # not even for root
        assert not read_storage().runs_writable


# ---- the whole


_counted = functools.cache(training_work)


@pytest.fixture
def _at_once(monkeypatch):
    """Measure little, and count the work of a recipe once, so that a checkup takes no time."""
    monkeypatch.setattr(module, "training_work", _counted)
    tiny = [Convolution(3, 4, 5, batch_size=2)]
    convolutions = module.measure_convolutions
    monkeypatch.setattr(
        module, "measure_convolutions", lambda precisions, device: convolutions(precisions, device, tiny)
    )
    monkeypatch.setattr(module, "measure_pointwise", lambda precision, device: 1e8)
    monkeypatch.setattr(module, "copy_bandwidth", lambda num_bytes: 10.0)
    monkeypatch.setattr(module, "read_storage", lambda: STORAGE)


@pytest.mark.usefixtures("_at_once")
def test_json_holds_everything_and_notices_go_to_stderr(capsys):
    assert main(["doctor", "--json"]) == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert captured.err.splitlines() == ["measuring this machine, which takes some seconds"]
    assert figures["healthy"] is True
    assert figures["machine"]["processor"]["hardware_threads"] >= 1
    assert all(rate["forward"] > 0 for rate in figures["measured"]["rates"])
    assert [row["recipe"] for row in figures["estimates"]] == [name for name in module.FOR_CIFAR10 if name in RECIPES]
    assert all(row["seconds"] > 0 for row in figures["estimates"])
    assert "cifarlab train fast" in figures["proposal"]["command"]


def test_quick_measures_nothing(capsys, monkeypatch):
    for name in ("measure_convolutions", "measure_pointwise", "copy_bandwidth", "check_bf16_on_cpu"):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("measured"))
    monkeypatch.setattr(module, "choose_device", lambda name: module.torch.device("cpu"))
    monkeypatch.setattr(module, "read_storage", lambda: STORAGE)
    assert main(["doctor", "--quick", "--json"]) == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    assert captured.err == ""
    assert figures["measured"]["rates"] == []
    assert figures["measured"]["precision"] == "auto"
    assert figures["estimates"][0]["compute_pflop"] > 0
    assert figures["estimates"][0]["seconds"] is None


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("columns", [80, 120])
def test_the_screen_shows_what_was_found_within_its_width(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(module, "read_machine", lambda: machine(software={"torchvision": "0.28.0", "threads": 1}))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    for part in ("a processor", "20.0 GB available", "no amx_bf16", "3 -> 4 at 5x5", "fast90", "PFLOP"):
        assert part in text
    assert "pytorch/vision#9085" in text
    assert "do: pip uninstall torchvision" in text
    assert "proposal: OMP_NUM_THREADS=2 cifarlab train fast" in text


@pytest.mark.usefixtures("_at_once")
def test_broken_arithmetic_ends_with_code_1_after_the_report(capsys, monkeypatch):
    monkeypatch.setattr(module, "convolution_error", lambda device, precision: math.nan)
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "proposal:" in captured.out
    assert captured.err.splitlines()[-1].startswith("error: training would not go right here: fp32 convolutions")
    assert main(["doctor", "--json"]) == 1
    figures = json.loads(capsys.readouterr().out)
    assert figures["healthy"] is False
    assert figures["measured"]["errors"]["fp32"] is None  # JSON has no NaN


@pytest.mark.usefixtures("_at_once")
def test_a_device_without_kernels_is_a_problem_not_a_crash(monkeypatch):
    def no_kernels(device, precision):
        raise RuntimeError("CUDA error: no kernel image is available\nmore lines")

    monkeypatch.setattr(module, "convolution_error", no_kernels)
    checkup = doctor()
    assert checkup.measured.failure == "CUDA error: no kernel image is available"
    assert "could not be measured" in checkup.proposal.reason
    assert "--quick" not in checkup.proposal.reason  # which was not asked for
    assert [finding.level for finding in checkup.problems] == ["problem"]
    assert checkup.findings[0] in checkup.problems  # the worst comes first


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize(("available", "copied"), [(0, 2**20), (2**30, 2**27), (2**40, 2**28), (None, 2**28)])
def test_no_more_memory_is_copied_than_there_is(monkeypatch, available, copied):
    asked = []
    monkeypatch.setattr(module, "copy_bandwidth", lambda num_bytes: asked.append(num_bytes) or 10.0)
    module.measure(machine(memory={"available": available}), quick=False)
    assert asked == [copied]


def test_gpus_limits_and_unknowns_are_described():
    gpus = (Gpu("cuda", "Big GPU", 80 * GB, "9.0", True), Gpu("mps", "Small GPU", None, "", None))
    processor = {"hardware_threads": 64, "allowed_threads": 8, "allowed_cores": 4, "instruction_sets": {}}
    here = machine(gpus=gpus, processor=processor, memory={"limit": 8 * GB}, software={"onednn": "", "compiler": ""})
    storage = dataclasses.replace(STORAGE, cifar10=None, data_free=None)
    checkup = module.Checkup(here, storage, measured(device="cuda"), (), (), propose(here, MEASURED, rows(fast90=1)))
    told = dict(describe(checkup))
    assert told["processor"] == (
        "a processor, 4 usable cores (8 hardware threads) of a machine with 64 hardware threads; "
        "instruction sets unknown"
    )
    assert told["GPU"] == ("Big GPU, cuda 9.0, memory 80.0 GB, bf16 yes; Small GPU, mps, memory unknown, bf16 unknown")
    assert "limit of the container 8.0 GB" in told["memory"]
    assert told["data"] == "data, free space unknown"
    assert told["CIFAR-10"] == "not in the cache"
    assert told["bf16"] == "training on cuda takes bf16"
