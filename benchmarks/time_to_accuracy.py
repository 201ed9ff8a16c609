"""Time to accuracy: several seeds of a recipe, each trained and judged on the test split; a table and a JSON file.

    python benchmarks/time_to_accuracy.py fast90 --seeds 5

Run it on an idle machine. Seeds run one after another in one process, so that all see the same machine. The train
clock is the project's own: from uint8 images in memory and a built model to final weights (augmentation,
normalisation and whitening count; per-epoch validation and checkpoints do not), plus the evaluation of the test
split with the recipe's views where the table says so. docs/results/<recipe>_<device>.json holds every single run.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from cifarlab.commands.train import train
from cifarlab.data import Splits, load_splits
from cifarlab.device import choose_device
from cifarlab.environment import describe_environment
from cifarlab.inference import load_model, predict_logits
from cifarlab.metrics import accuracy
from cifarlab.recipes import load_recipe
from cifarlab.run import Run
from cifarlab.stats import mean_and_sd, t_interval

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


@dataclass(frozen=True)
class Arguments:
    """Time to accuracy of a recipe over several seeds."""

    recipe: tyro.conf.Positional[str] = "fast90"
    """Which recipe."""
    seeds: int = 5
    """How many seeds, from 0."""
    out: Path | None = None
    """JSON file; by default docs/results/<recipe>_<device>.json."""


def judge(run: Run, splits: Splits, precision: str, device: torch.device) -> dict[str, float]:
    """Evaluate the test split in the run's own precision, timed."""
    assert splits.test is not None
    settings = run.config.evaluate
    run.log_test_read(shlex.join(sys.argv), "benchmark of a recipe chosen on validation")
    model = load_model(run)[0].to(device)
    start = time.perf_counter()
    logits_NK, logits_tta_NK = predict_logits(
        model,
        splits.test.images_NCHW,
        views=settings.views,
        views_margin=settings.views_margin,
        batch_size=settings.batch_size,
        precision=precision,
        device=device,
    )
    seconds = time.perf_counter() - start
    figures = {"accuracy": accuracy(logits_NK, splits.test.labels_N), "evaluation_seconds": seconds}
    if logits_tta_NK is not None:
        figures["accuracy_tta"] = accuracy(logits_tta_NK, splits.test.labels_N)
    return figures


def run_seed(recipe: str, seed: int, splits: Splits) -> dict[str, float]:
    """Train and judge one seed."""
    config = load_recipe(recipe)
    config = replace(config, train=replace(config.train, seed=seed))
    run = train(config, name=f"bench-{recipe}-{seed}", splits=splits)
    result = run.read_json("result.json")
    figures = judge(run, splits, result["precision"], choose_device(config.train.device))
    return {
        "seed": seed,
        "train_clock_seconds": result["train_clock_seconds"],
        "compute_pflop": result["compute_pflop"],
        "train/accuracy": result["train/accuracy"],
        **({"val/accuracy": result["val/accuracy"]} if "val/accuracy" in result else {}),
        **figures,
    }


def summarise(runs: list[dict[str, float]]) -> dict[str, dict[str, object]]:
    """Return mean, standard deviation and 95 % t-interval of every figure over the runs."""
    summary = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        if name != "seed" and len(values) > 1:
            mean, sd = mean_and_sd(values)
            summary[name] = {"mean": mean, "sd": sd, "interval": t_interval(values)}
    return summary


def main() -> None:
    """Run the benchmark, print its table, write its JSON."""
    arguments = tyro.cli(Arguments)
    config = load_recipe(arguments.recipe)
    device = choose_device(config.train.device)
    splits = load_splits(config.data)
    runs = []
    for seed in range(arguments.seeds):
        runs.append(run_seed(arguments.recipe, seed, splits))
        print("  ".join(f"{name} {value:.4g}" for name, value in runs[-1].items()), flush=True)
    summary = summarise(runs)
    for name, figures in summary.items():
        print(f"{name:22} mean {figures['mean']:.4f}  sd {figures['sd']:.4f}  n {len(runs)}")
    content = {
        "recipe": arguments.recipe,
        "device": device.type,
        "num_train": len(splits.train),
        "environment": describe_environment(),
        "summary": summary,
        "runs": runs,
    }
    out = arguments.out or RESULTS / f"{arguments.recipe}_{device.type}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
