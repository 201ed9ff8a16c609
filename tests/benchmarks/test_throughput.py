"""The benchmark of inference on a tiny run: what it measures, what it reads, and its table."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.conftest import with_fields

from cifarlab.commands.train import train
from cifarlab.errors import RunError, UsageError

pytestmark = [pytest.mark.xdist_group("onnx"), pytest.mark.usefixtures("without_curves")]

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def modules():
    """Benchmark and table, found as python finds them when it runs their programs."""
    folders = [str(ROOT / "benchmarks"), str(ROOT / "docs")]
    sys.path[:0] = folders
    try:
        names = ("throughput", "throughput_table")
        return SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path[:] = [folder for folder in sys.path if folder not in folders]


@pytest.fixture
def bench(modules):
    return modules.throughput


def arm_of(bench, predict):
    return bench.Arm("arm", predict, predict, rates=[3.0, 1.0, 2.0], latencies_ms=[float(n) for n in range(1, 101)])


def test_figures_of_an_arm_against_counting(bench):
    generator = torch.Generator().manual_seed(0)
    labels, reference, found = torch.randint(3, (3, 500), generator=generator)
    figures = bench.describe(arm_of(bench, None), found, reference, labels)
    lost = gained = changed = 0
    for right, before, after in zip(labels.tolist(), reference.tolist(), found.tolist(), strict=True):
        lost += before == right != after
        gained += after == right != before
        changed += before != after
    assert (figures["only_reference_right"], figures["only_this_right"]) == (lost, gained)
    assert figures["disagreements"] == changed
    assert figures["points_lost"] == pytest.approx(100 * (lost - gained) / 500)
    assert figures["images_per_second"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    expected = np.percentile(range(1, 101), [50, 99])
    assert [figures["latency_ms"][name] for name in ("p50", "p99")] == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_answers_come_in_full_batches_and_for_every_image_once(bench, count):
    sizes = []

    def predict(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return torch.eye(256)[images[:, 0, 0, 0].long()]

    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    found = bench.answers(arm_of(bench, predict), images, batch_size=8)
    assert found.tolist() == list(range(count))
    assert set(sizes) == {8}


def test_rounds_alternate_and_begin_with_another_arm_each(bench, monkeypatch):
    order = []
    monkeypatch.setattr(bench, "measure_round", lambda arm, images, args: order.append(arm.name))
    arms = [replace(arm_of(bench, None), name=name) for name in "abc"]
    bench.measure(arms, torch.zeros(1), SimpleNamespace(rounds=3))
    assert "".join(order) == "abcbcacab"


@pytest.mark.parametrize("count", [5, 32, 100, 999])
def test_every_batch_that_is_timed_is_a_whole_one(bench, count):
    images = torch.arange(count).view(-1, 1, 1, 1)
    timed = bench.whole_batches(images, batch_size=32)
    assert [len(batch) for batch in timed.split(32)] == [32] * 8
    assert timed.flatten().unique().tolist() == list(range(min(count, 256)))


def test_one_file_is_not_written_over_for_a_second_device(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["throughput.py", "no-such-run", "--out", str(tmp_path / "one.json")])
    with pytest.raises(UsageError, match="add --device cpu or --device cuda"):
        bench.main()


@pytest.mark.parametrize("option", ["batch_size", "slice_size", "rounds", "seconds", "calibration"])
def test_numbers_with_which_nothing_is_measured_are_refused(bench, monkeypatch, option):
    monkeypatch.setattr(sys, "argv", ["throughput.py", "no-such-run", f"--{option}", "0"])
    with pytest.raises(UsageError, match=f"--{option} must be above 0"):
        bench.main()


@pytest.mark.parametrize("change", [{"cpu": "AMD EPYC"}, {"threads": 3}, {"instruction_sets": ["avx2"]}, "recipe"])
def test_figures_of_another_machine_or_recipe_are_not_written_over(bench, monkeypatch, tmp_path, change):
    here = {"cpu": "Xeon", "instruction_sets": ["amx_bf16"], "cpu_count": 2, "threads": 2, "gpu": None}
    monkeypatch.setattr(bench, "describe_environment", lambda: here | {"time": "later"})
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    run = SimpleNamespace(config=SimpleNamespace(recipe="fast94"))
    path = tmp_path / "throughput_cpu.json"
    assert bench.choose_file("cpu", run, None) == path
    path.write_text(json.dumps({"recipe": "fast94", "environment": here}))
    assert bench.choose_file("cpu", run, None) == path  # measured again
    environment, recipe = (here, "fast90") if change == "recipe" else (here | change, "fast94")
    path.write_text(json.dumps({"recipe": recipe, "environment": environment}))
    with pytest.raises(RunError, match="--device cpu --out FILE"):
        bench.choose_file("cpu", run, None)
    assert bench.choose_file("cpu", run, path) == path


@pytest.fixture
def measured(bench, config, splits, tmp_path, monkeypatch):
    """A tiny run, measured where torch.compile finds no compiler; and the images int8 was calibrated on."""
    run = train(with_fields(config, train__epochs=2), name="tiny", splits=splits)
    calibrated = []

    def quantize(fp32, int8, images):
        calibrated.append(images)
        int8.write_bytes(fp32.read_bytes())

    def no_compiler(*args, **kwargs):
        raise RuntimeError("no C++ compiler\nanywhere")

    monkeypatch.setattr(bench, "quantize_onnx", quantize)
    monkeypatch.setattr(bench.torch, "compile", no_compiler)
    monkeypatch.setattr(bench, "load_splits", lambda config: splits)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    options = "--device cpu --batch_size 32 --slice_size 10 --rounds 2 --seconds 0.02 --calibration 40"
    monkeypatch.setattr(sys, "argv", ["throughput.py", str(run.path), *options.split()])
    bench.main()
    return run, tmp_path / "results", torch.cat(calibrated)


def test_a_run_is_measured_in_every_way_this_machine_has_and_test_is_read_once(measured, splits, modules):
    run, folder, calibrated = measured
    content = json.loads((folder / "throughput_cpu.json").read_text())
    assert (content["kind"], content["split"], content["num_images"]) == ("throughput", "test", len(splits.test))
    arms = {arm["name"]: arm for arm in content["arms"]}
    assert {"eager fp32", "ONNX Runtime fp32", "ONNX Runtime int8"} <= set(arms)
    assert content["skipped"]["compiled fp32"] == "no C++ compiler anywhere"
    for name, arm in arms.items():
        assert len(arm["images_per_second_rounds"]) == 2
        assert 0 < arm["latency_ms"]["p50"] <= arm["latency_ms"]["p99"]
        if "fp32" in name:
            assert (arm["disagreements"], arm["points_lost"]) == (0, 0)
    lines = modules.throughput_table.inference_parts(folder)
    assert "speednet 8/8/8; 2 rounds; accuracy on 60 test images; int8 calibrated on 40 training images" in lines[3]
    for name in arms:
        assert f"| {name} | " in lines[4]
    assert "Not measured: compiled fp32: no C++ compiler anywhere." in lines

    assert len(run.test_reads()) == 1
    # int8 sees training images only
    assert len(calibrated) == 40
    train_images = {image.numpy().tobytes() for image in splits.train.images_NCHW}
    assert all(image.numpy().tobytes() in train_images for image in calibrated)


def test_aims_for_two_cores_are_not_set_beside_more(measured, modules):
    path = measured[1] / "throughput_cpu.json"
    content = json.loads(path.read_text())
    for threads, judged in ((2, True), (16, False)):
        path.write_text(json.dumps(content | {"environment": content["environment"] | {"threads": threads}}))
        assert any(part.startswith("Aims") for part in modules.throughput_table.inference_parts(path.parent)) == judged


def test_no_table_where_nothing_was_measured(modules, tmp_path):
    assert modules.throughput_table.inference_parts(tmp_path) == []


def arm_figures(name, rate, p50, lost):
    return {
        "name": name,
        "images_per_second": {"median": rate, "min": rate, "max": rate},
        "latency_ms": {"p50": p50, "p99": p50},
        "points_lost": lost,
    }


def test_aims_are_met_by_an_arm_that_reaches_all_of_them(modules):
    arms = [
        arm_figures("slow", 3999, 1.0, 0),
        arm_figures("late", 9000, 1.6, 0),
        arm_figures("wrong", 9000, 1.0, 0.31),
    ]
    sentence = modules.throughput_table._aims({"arms": arms})
    assert "**not met**" in sentence
    assert "images/s come from late (9,000), the lowest p50 from slow (1.00 ms)" in sentence
    assert modules.throughput_table._aims({"arms": [*arms, arm_figures("good", 4000, 1.5, 0.3)]}).endswith(
        "met by: good."
    )
