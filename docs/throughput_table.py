"""Tables of inference speed, from docs/results/throughput_*.json as benchmarks/throughput.py writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from time_table import made_on, table, within_two_cores

from cifarlab.config import Config
from cifarlab.config_yaml import changed_fields, config_to_dict
from cifarlab.recipes import RECIPES

# Aims on two CPU cores, with the 94 % network; an arm is judged on all three.
AIM_RATE = 4000  # images a second in large batches, at least
AIM_P50_MS = 1.5  # median latency of a single image, at most
AIM_POINTS_LOST = 0.3  # of accuracy, against eager fp32, at most
_MOST_NAMED = 3  # settings in which a run may differ from its recipe and still go by its name

Result = dict[str, Any]


def inference_parts(folder: Path) -> list[str]:
    """Return the parts of docs/results.md on inference; none where nothing was measured."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("throughput_*.json"))]
    if not results:
        return []
    intro = (
        "Every arm takes uint8 images in main memory and ends with float32 logits there, preprocessing included, "
        "without test-time views. Images/s: median of the rounds (lowest to highest), arms in alternation. Points "
        "lost and changed answers: against eager fp32 on the same images; in brackets, of the changed answers, how "
        "many only eager fp32 had right and how many only this arm. Setup: compilation, or export and quantisation."
    )
    return ["## Inference", intro, *(part for result in results for part in _parts(result))]


def _parts(result: Result) -> list[str]:
    batch = result["batch_size"]
    header = ["arm", f"images/s, batch {batch}", "batch 1, p50", "p99", "accuracy", "points lost", "changed", "setup"]
    parts = [
        f"### {result['recipe']} on {result['device']}{_otherwise(result)}",
        f"`python benchmarks/{result['environment']['command']}`; {_network(result['network'])}; "
        f"{result['rounds']} rounds; accuracy on {result['num_images']:,} {result['split']} images; "
        f"int8 calibrated on {result['calibration_images']} training images; {made_on(result)}; {_versions(result)}.",
        table(header, [_row(arm) for arm in result["arms"]]),
    ]
    parts += [f"Not measured: {name}: {reason}." for name, reason in result["skipped"].items()]
    judged = result["device"] == "cpu" and within_two_cores(result)
    return [*parts, *([_aims(result)] if judged else [])]


def _otherwise(result: Result) -> str:
    """Return how the measured run differs from the recipe of its name, '' if it does not.

    Inference knows nothing of how the network was trained, so that a few settings of training may be named; another
    network, or a run whose settings were not kept, is not the recipe's any more.
    """
    if result["recipe"] not in RECIPES or "config" not in result:
        return ", earlier settings"
    ours, theirs = changed_fields(RECIPES[result["recipe"]](), Config()), result["config"]
    changed = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    if len(changed) > _MOST_NAMED or any(name.startswith("model.") for name in changed):
        return ", earlier settings"
    return "".join(f", trained with {name} {theirs.get(name, _default(name))}" for name in changed)


def _default(name: str) -> Any:
    value: Any = config_to_dict(Config())
    for part in name.split("."):
        value = value[part]
    return value


def _network(settings: dict[str, Any]) -> str:
    widths = "/".join(map(str, settings.get("widths", ())))
    return f"{settings['name']} {widths}".strip()


def _versions(result: Result) -> str:
    return ", ".join(f"{name} {version}" for name, version in result["libraries"].items()) or "without ONNX"


def _row(arm: Result) -> list[str]:
    rate, latency = arm["images_per_second"], arm["latency_ms"]
    return [
        arm["name"],
        f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})",
        f"{latency['p50']:.2f} ms",
        f"{latency['p99']:.2f} ms",
        f"{100 * arm['accuracy']:.2f} %",
        f"{arm['points_lost']:.2f}",
        f"{arm['disagreements']} ({arm['only_reference_right']}, {arm['only_this_right']})",
        f"{arm['setup_seconds']:.0f} s",
    ]


def _aims(result: Result) -> str:
    """Say which arms reach all three aims, and otherwise how near the best arm comes to each."""
    aims = f"≥ {AIM_RATE:,} images/s, p50 ≤ {AIM_P50_MS} ms, at most {AIM_POINTS_LOST} points lost"
    kept = [arm for arm in result["arms"] if arm["points_lost"] <= AIM_POINTS_LOST]
    met = [
        arm["name"]
        for arm in kept
        if arm["images_per_second"]["median"] >= AIM_RATE and arm["latency_ms"]["p50"] <= AIM_P50_MS
    ]
    if met:
        return f"Aims ({aims}) met by: {', '.join(met)}."
    fastest = max(kept, key=lambda arm: arm["images_per_second"]["median"])
    quickest = min(kept, key=lambda arm: arm["latency_ms"]["p50"])
    return (
        f"Aims ({aims}) **not met** by any one arm: the most images/s come from {fastest['name']} "
        f"({fastest['images_per_second']['median']:,.0f}), the lowest p50 from {quickest['name']} "
        f"({quickest['latency_ms']['p50']:.2f} ms)."
    )
