"""Inference speed of a finished run: images a second in large batches, latency of single images, accuracy kept.

    python benchmarks/throughput.py runs/fast94

Run it on an idle machine; on two cores it takes about four minutes. Every arm gets uint8 images in host memory and
ends with float32 logits in host memory, so preprocessing and transfers count. Test-time views are not used. The arms
are measured in alternation, several rounds, in one process. Nothing is chosen here: int8 is calibrated on training
images, and the test split is read once, to state what each arm loses against eager fp32.
docs/results/throughput_<device>.json holds the figures.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields, config_to_dict
from cifarlab.data import Splits, load_splits
from cifarlab.device import autocast, choose_device, choose_precision, keep_freed_memory
from cifarlab.environment import describe_environment
from cifarlab.errors import CifarlabError, RunError, UsageError
from cifarlab.export import export_onnx, onnx_logits, open_onnx, quantize_onnx
from cifarlab.inference import load_model
from cifarlab.run import Run

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
REFERENCE = "eager fp32"
PAUSE_SECONDS = 0.05  # threads of the arm before, which wait busily for more work, have gone to sleep by then
_PLACE = ("cpu", "instruction_sets", "cpu_count", "threads", "gpu")  # of an environment: what tells machines apart
# Compiled for the CPU, weights become constants in the layout and precision the kernels want, batch norms folded in;
# on a GPU one CUDA graph saves the launches. As an argument of torch.compile freezing would come too late to work.
INDUCTOR_CONFIG: dict[str, dict[str, Any]] = {"cpu": {"freezing": True}, "cuda": {"triton.cudagraphs": True}}

Predict = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Arguments:
    """Throughput, latency and accuracy of a run in every way it can be asked."""

    run: tyro.conf.Positional[str]
    """Run folder."""
    device: Literal["all", "cpu", "cuda"] = "all"
    """Where to measure; all takes cuda too where there is one."""
    batch_size: int = 256
    """Images of a large batch."""
    slice_size: int = 32
    """ONNX Runtime: a large batch is cut into slices of so many images, which fit caches, and threads share them."""
    rounds: int = 7
    """How often each arm is measured, in turn with the others."""
    seconds: float = 1.0
    """Time of one measurement in large batches; single images get half of it."""
    calibration: int = 512
    """Training images, evenly spaced, from which int8 takes its ranges."""
    out: Path | None = None
    """JSON file; by default docs/results/throughput_<device>.json."""


@dataclass
class Arm:
    """One way to compute logits, and what was measured of it."""

    name: str
    predict: Predict
    """Logits (float32, N x K) of N images (uint8, N x 3 x S x S); both in host memory."""
    predict_one: Predict
    """The same for one image."""
    setup_seconds: float = 0.0
    """Compilation, or export and quantisation."""
    size_bytes: int | None = None
    """Size of the model's file where it has one of its own."""
    rates: list[float] = field(default_factory=list)
    """Images a second, one of each round."""
    latencies_ms: list[float] = field(default_factory=list)
    """Every call with one image."""


def torch_arm(name: str, run: Run, precision: str, device: torch.device, args: Arguments) -> Arm:
    """Build an arm that asks the run's own model, compiled where the name says so."""
    model = load_model(run)[0].to(device, memory_format=torch.channels_last)

    def forward(images_NCHW: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            return torch.as_tensor(model(images_NCHW).float())

    compiled = name.startswith("compiled")
    # one variant for each batch size: fixed shapes are faster
    compute = torch.compile(forward, dynamic=False) if compiled else forward

    def predict(images_NCHW: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return compute(images_NCHW.to(device)).cpu()

    size, start = model.preprocess.image_size, time.perf_counter()
    with torch._inductor.config.patch(INDUCTOR_CONFIG[device.type]):
        for batch_size in (args.batch_size, 1):
            predict(torch.zeros(batch_size, 3, size, size, dtype=torch.uint8))
    return Arm(name, predict, predict, time.perf_counter() - start if compiled else 0.0)


def onnx_arm(name: str, path: Path, setup_seconds: float, args: Arguments) -> Arm:
    """Build an arm of ONNX Runtime: slices side by side for large batches, all threads for a single image."""
    threads = torch.get_num_threads()
    session, session_one = open_onnx(path, threads=1), open_onnx(path, threads=threads)
    pool = ThreadPoolExecutor(threads)

    def predict(images_NCHW: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(pool.map(partial(onnx_logits, session), images_NCHW.split(args.slice_size))))

    return Arm(name, predict, partial(onnx_logits, session_one), setup_seconds, path.stat().st_size)


def onnx_arms(run: Run, splits: Splits, folder: Path, args: Arguments) -> Iterator[Arm]:
    """Export the run, quantise it on training images, and build an arm of each file."""
    images_NCHW = splits.train.images_NCHW
    sample = images_NCHW[:: max(1, len(images_NCHW) // args.calibration)][: args.calibration]
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    start = time.perf_counter()
    export_onnx(run, fp32, images_NCHW=sample[:64])
    yield onnx_arm("ONNX Runtime fp32", fp32, time.perf_counter() - start, args)
    start = time.perf_counter()
    quantize_onnx(fp32, int8, sample)
    yield onnx_arm("ONNX Runtime int8", int8, time.perf_counter() - start, args)


def build_arms(
    run: Run, splits: Splits, device: torch.device, folder: Path, args: Arguments
) -> tuple[list[Arm], dict[str, str]]:
    """Build every arm this machine can run, and say why it cannot run the others."""
    arms, skipped = [], {}
    precisions = ["fp32"]
    precision, note = choose_precision("bf16", device)
    if precision == "bf16":
        precisions.append(precision)
    else:
        skipped["bf16"] = note
    for kind, precision in itertools.product(("eager", "compiled"), precisions):
        name = f"{kind} {precision}"
        try:
            arms.append(torch_arm(name, run, precision, device, args))
        except Exception as error:  # whatever torch.compile lacks here, a C++ compiler for one
            if name == REFERENCE:
                raise
            skipped[name] = " ".join(str(error).split())[:200]
        print(f"{name}: {skipped.get(name, 'ready')}", file=sys.stderr)
    if device.type == "cpu":
        try:
            for arm in onnx_arms(run, splits, folder, args):
                arms.append(arm)
                print(f"{arm.name}: ready", file=sys.stderr)
        except CifarlabError as error:
            skipped["ONNX Runtime"] = str(error)
    return arms, skipped


def whole_batches(images_NCHW: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Return eight whole batches, for each counts as one; of a small train set some images come again."""
    return images_NCHW[torch.arange(8 * batch_size) % len(images_NCHW)]


def measure_round(arm: Arm, images_NCHW: torch.Tensor, args: Arguments) -> None:
    """Measure one arm once: large batches, then single images; the first call of each is not timed."""
    batches = itertools.cycle(images_NCHW.split(args.batch_size))
    time.sleep(PAUSE_SECONDS)
    arm.predict(next(batches))
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < args.seconds:
        arm.predict(next(batches))
        calls += 1
    arm.rates.append(calls * args.batch_size / elapsed)
    singles = itertools.cycle(images_NCHW.split(1))
    arm.predict_one(next(singles))
    stop = time.perf_counter() + args.seconds / 2
    while (start := time.perf_counter()) < stop:
        arm.predict_one(next(singles))
        arm.latencies_ms.append(1000 * (time.perf_counter() - start))


def measure(arms: list[Arm], images_NCHW: torch.Tensor, args: Arguments) -> None:
    """Measure all arms in alternation; each round begins with another one."""
    for number in range(args.rounds):
        shift = number % len(arms)
        for arm in arms[shift:] + arms[:shift]:
            measure_round(arm, images_NCHW, args)
        print(f"round {number + 1}/{args.rounds} done", file=sys.stderr)


def answers(arm: Arm, images_NCHW: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Return the arm's classes, int64, N; the last batch is filled up, for compiled arms know one size only."""
    missing = -len(images_NCHW) % batch_size
    filled = torch.cat([images_NCHW, images_NCHW[:1].expand(missing, -1, -1, -1)])
    return torch.cat([arm.predict(batch).argmax(1) for batch in filled.split(batch_size)])[: len(images_NCHW)]


def describe(arm: Arm, found_N: torch.Tensor, reference_N: torch.Tensor, labels_N: torch.Tensor) -> dict[str, Any]:
    """Return the figures of one arm."""
    right_N, reference_right_N = found_N == labels_N, reference_N == labels_N
    percentiles = statistics.quantiles(arm.latencies_ms, n=100, method="inclusive")
    return {
        "name": arm.name,
        "images_per_second": {"median": statistics.median(arm.rates), "min": min(arm.rates), "max": max(arm.rates)},
        "images_per_second_rounds": arm.rates,
        "latency_ms": {"p50": percentiles[49], "p99": percentiles[98], "calls": len(arm.latencies_ms)},
        "accuracy": right_N.double().mean().item(),
        "points_lost": 100 * (reference_right_N.double().mean() - right_N.double().mean()).item(),
        "disagreements": int((found_N != reference_N).sum()),
        "only_reference_right": int((reference_right_N & ~right_N).sum()),
        "only_this_right": int((right_N & ~reference_right_N).sum()),
        "setup_seconds": arm.setup_seconds,
        "size_bytes": arm.size_bytes,
    }


def print_table(figures: list[dict[str, Any]], skipped: dict[str, str], split: str, args: Arguments) -> None:
    """Print one line an arm."""
    print(
        f"{'arm':20}{f'images/s, batch {args.batch_size} (min-max)':>34}{'batch 1: p50':>14}{'p99 ms':>8}"
        f"{split + ' accuracy':>16}{'points lost':>13}{'differ':>8}{'setup':>9}"
    )
    for arm in figures:
        rate, latency = arm["images_per_second"], arm["latency_ms"]
        print(
            f"{arm['name']:20}{rate['median']:17,.0f} ({rate['min']:6,.0f}-{rate['max']:6,.0f})"
            f"{latency['p50']:15.3f}{latency['p99']:8.3f}{arm['accuracy']:15.2%}{arm['points_lost']:14.2f}"
            f"{arm['disagreements']:8}{arm['setup_seconds']:7.1f} s"
        )
    for name, reason in skipped.items():
        print(f"not measured: {name}: {reason}")


def benchmark(run: Run, splits: Splits, device: torch.device, args: Arguments) -> dict[str, Any]:
    """Measure every arm on one device and return the content of its JSON file."""
    name, judged = ("test", splits.test) if splits.test is not None else ("validation", splits.val)
    if judged is None:
        raise RunError(f"{run.path} has neither test nor validation images to state accuracy on")
    with tempfile.TemporaryDirectory() as folder:
        arms, skipped = build_arms(run, splits, device, Path(folder), args)
    measure(arms, whole_batches(splits.train.images_NCHW, args.batch_size), args)
    if name == "test":
        run.log_test_read(shlex.join(sys.argv), "accuracy of faster ways of inference against eager fp32")
    found = [answers(arm, judged.images_NCHW, args.batch_size) for arm in arms]
    figures = [describe(arm, found_N, found[0], judged.labels_N) for arm, found_N in zip(arms, found, strict=True)]
    print_table(figures, skipped, name, args)
    model_config = run.config.model
    return {
        "kind": "throughput",
        "recipe": run.config.recipe,
        "config": changed_fields(replace(run.config, train=replace(run.config.train, seed=0)), Config()),
        "device": device.type,
        "network": {"name": model_config.name, **config_to_dict(getattr(model_config, model_config.name))},
        "image_size": run.config.data.image_size,
        "environment": describe_environment(),
        "libraries": {
            package: importlib.metadata.version(package)
            for package in ("onnx", "onnxruntime")
            if importlib.util.find_spec(package)
        },
        "split": name,
        "num_images": len(judged),
        "batch_size": args.batch_size,
        "slice_size": args.slice_size,
        "rounds": args.rounds,
        "calibration_images": min(args.calibration, len(splits.train)),
        "arms": figures,
        "skipped": skipped,
    }


def check_arguments(args: Arguments) -> None:
    """Refuse numbers with which nothing would be measured.

    Raises:
        UsageError: If one is not positive.
    """
    for name in ("batch_size", "slice_size", "rounds", "seconds", "calibration"):
        if not getattr(args, name) > 0:
            raise UsageError(f"--{name} must be above 0, not {getattr(args, name)}")


def choose_file(device_type: str, run: Run, out: Path | None) -> Path:
    """Return where the figures of a device go; those of another machine or recipe are not written over unasked.

    Raises:
        RunError: If such figures stand where they would go by default.
    """
    path = RESULTS / f"throughput_{device_type}.json"
    if out is not None or not path.is_file():
        return out or path
    old, here = json.loads(path.read_text(encoding="utf-8")), describe_environment()
    if old["recipe"] != run.config.recipe or any(old["environment"].get(key) != here[key] for key in _PLACE):
        raise RunError(
            f"{path} holds figures of {old['recipe']} on {old['environment']['cpu']}, not of this run and machine; "
            f"name another file: --device {device_type} --out FILE (this one, to write over it)"
        )
    return path


def main() -> None:
    """Run the benchmark on every device asked for, print its tables, write its JSON files."""
    args = tyro.cli(Arguments)
    check_arguments(args)
    devices = ["cpu", "cuda"] if args.device == "all" and torch.cuda.is_available() else [args.device]
    if args.out is not None and len(devices) > 1:
        raise UsageError("--out names the file of one device; add --device cpu or --device cuda")
    run = Run.open(args.run)
    run.require_finished()
    # before any work, not after it
    kinds = [choose_device("cpu" if name == "all" else name).type for name in devices]
    files = {kind: choose_file(kind, run, args.out) for kind in kinds}
    splits = load_splits(run.config.data)
    keep_freed_memory()
    torch.compiler.config.force_disable_caches = True  # or the time stated for compilation would not be all of it
    for kind, out in files.items():
        content = benchmark(run, splits, torch.device(kind), args)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(f"written: {out}")


if __name__ == "__main__":
    try:
        main()
    except CifarlabError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from error
