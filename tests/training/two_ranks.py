"""What the ranks in test_distributed.py do; torchrun starts this file on every rank.

two_ranks.py together FOLDER [RUN]   all short jobs, one after the other; each rank writes FOLDER/rank<i>.json
two_ranks.py long FOLDER             a long run through the command line; each rank writes its process id to FOLDER
two_ranks.py raise FOLDER            the same, but rank 1 raises an exception after three steps
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import torch
from tests.conftest import make_images, with_fields
from torch import nn

from cifarlab import cli
from cifarlab.commands import train as train_module
from cifarlab.config import Config, ConvnetConfig, DataConfig, ModelConfig, SpeednetConfig, TrainConfig
from cifarlab.data import SourceData, Splits
from cifarlab.data.splits import make_splits
from cifarlab.errors import CifarlabError
from cifarlab.run import Run
from cifarlab.training import loop
from cifarlab.training.batch_norm import global_batch_norm
from cifarlab.training.distributed import World, joined, shared_logits
from cifarlab.training.loop import Hooks

MUON = {"optimizer__name": "muon", "optimizer__momentum": 0.6, "augment__translate": 2}
DRAWN = "muon"
"""The case whose curves are drawn; for the others that would take longer than training."""
CASES = {
    # model, fields
    "muon_ema": ("speednet", {**MUON, "train__ema": 0.9}),
    "muon": ("speednet", {**MUON, "evaluate__views": "flip_translate", "evaluate__views_margin": 0.3}),
    "sgd": ("convnet", {"augment__cutmix": 1.0, "augment__mixup": 0.4}),
    "weighted": ("convnet", {"train__class_weights": "balanced", "augment__crop_scale": 0.6}),
    "cutout": ("convnet", {"optimizer__name": "adamw", "optimizer__lr": 0.01, "augment__cutout": 5}),
    "decisions": (
        "convnet",
        {"train__keep": "best", "train__early_stopping": 2, "schedule__name": "plateau", "schedule__patience": 0},
    ),
}


def tiny_splits(seed: int = 1) -> Splits:
    """104 training images of classes unequal in number, and 13 validation images, which two ranks cannot halve."""
    images = make_images(150, seed)
    uneven = torch.cat([torch.arange(0, 150, 3), torch.arange(1, 150, 3), torch.arange(2, 53, 3)])
    source = SourceData(train=images.subset(uneven), val=None, test=make_images(30, seed=2), origin="tiny")
    splits = make_splits(source, DataConfig(image_size=16, val_fraction=0.11))
    assert splits.val is not None
    assert (len(splits.train), len(splits.val)) == (104, 13)
    return splits


def tiny_config(model: str = "convnet", **fields: object) -> Config:
    """Four epochs of four steps; the whitening bias is frozen after step 6."""
    config = Config(
        recipe="tiny",
        data=DataConfig(image_size=16),
        model=ModelConfig(
            name=model,
            speednet=SpeednetConfig(widths=(8, 8, 8)),
            convnet=ConvnetConfig(stages=((1, 8), (1, 8)), hidden=(8,)),
        ),
        train=TrainConfig(epochs=4, batch_size=26, precision="fp32", device="cpu", freeze_whitening=1.5),
    )
    return with_fields(config, **fields)


def undrawn() -> AbstractContextManager[object]:
    """Let runs end without their curves."""
    return mock.patch.multiple(train_module, _draw_curves=lambda records, run: None)


def train_case(case: str) -> list[float]:
    """Train a case in this process; return the mean loss of its epoch so far, after every step."""
    model, fields = CASES[case]
    losses: list[float] = []
    hooks = Hooks(on_step=lambda report: losses.append(report.loss))
    with nullcontext() if case == DRAWN else undrawn():
        train_module.train(tiny_config(model, **fields), splits=tiny_splits(), name=case, hooks=hooks)
    return losses


def ended_by(config: Config, splits: Splits | None = None, name: str = "", hooks: Hooks | None = None) -> list[str]:
    """Train to an error and return its kind and message."""
    try:
        train_module.train(config, splits=splits or tiny_splits(), name=name, hooks=hooks)
    except CifarlabError as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


def unfinished_loss(rank: int) -> list[str]:
    """Let the loss become NaN on rank 1 only."""
    usual, calls = loop.F.cross_entropy, []

    def poisoned(*args: torch.Tensor, **keywords: object) -> torch.Tensor:
        calls.append(1)
        return usual(*args, **keywords) * (float("nan") if rank == 1 and len(calls) == 6 else 1)

    loop.F.cross_entropy = poisoned
    try:
        return ended_by(tiny_config(), name="nan")
    finally:
        loop.F.cross_entropy = usual


def no_folder(rank: int) -> list[str]:
    """Let the run folder be impossible to create."""
    runs = os.environ["CIFARLAB_RUNS"]
    os.environ["CIFARLAB_RUNS"] = f"{__file__}/no"
    try:
        return ended_by(tiny_config())
    finally:
        os.environ["CIFARLAB_RUNS"] = runs


def stopped_by_rank_1(rank: int) -> list[str]:
    """Let rank 1 alone be asked to stop, after its fifth step."""
    polls: list[int] = []

    def stop_signal() -> int:
        polls.append(1)
        return 15 if rank == 1 and len(polls) >= 5 else 0

    return ended_by(tiny_config(), name="stopped", hooks=Hooks(stop_signal=stop_signal))


def dropout_seeds(rank: int) -> list[int]:
    """Return the seeds of torch's generator after every step."""
    seeds: list[int] = []
    hooks = Hooks(stop_signal=lambda: seeds.append(torch.initial_seed()) or 0)
    train_module.train(tiny_config(train__epochs=1), splits=tiny_splits(), name="seeds", hooks=hooks)
    return seeds


def batch_norm_errors(world: World) -> dict[str, float]:
    """Compare GlobalBatchNorm2d on two halves with nn.BatchNorm2d on the whole; return the largest differences."""
    torch.manual_seed(0)
    images = 100 + torch.randn(6, 4, 5, 3, dtype=torch.float64) * torch.tensor([0.1, 1, 5, 9]).view(1, 4, 1, 1)
    upstream = torch.randn_like(images)
    norms = [nn.BatchNorm2d(4, momentum=0.3, dtype=torch.float64) for _ in range(2)]
    for norm in norms:
        nn.init.constant_(norm.weight, 1.5)
        nn.init.constant_(norm.bias, -0.5)
    rows = world.rows(6)
    whole, part = images.clone().requires_grad_(), images[rows].clone().requires_grad_()
    differences: dict[str, list[torch.Tensor]] = {"output": [], "input gradient": [], "running": [], "parameters": []}
    with global_batch_norm(norms[1], enabled=True):
        assert type(norms[1]) is not nn.BatchNorm2d
        for _ in range(3):
            for norm in norms:
                norm.zero_grad()
            whole.grad = part.grad = None
            expected, output = norms[0](whole), norms[1](part)
            (expected * upstream).sum().backward()
            (output * upstream[rows]).sum().backward()
            differences["output"].append(output - expected[rows])
            differences["input gradient"].append(part.grad - whole.grad[rows])
            for one, other in zip(norms[0].parameters(), norms[1].parameters(), strict=True):
                differences["parameters"].append(world.sum(other.grad) - one.grad)
            for one, other in zip(norms[0].buffers(), norms[1].buffers(), strict=True):
                differences["running"].append((one - other).double())
        differences["evaluation"] = [norms[1].eval()(part) - norms[0].eval()(whole)[rows]]
    assert type(norms[1]) is nn.BatchNorm2d
    return {name: max(value.abs().max().item() for value in values) for name, values in differences.items()}


def communicate(world: World) -> dict[str, object]:
    """Use everything ranks say to each other."""
    seen: list[str] = []
    with world.in_turn():
        seen.append("first" if world.is_main else "second")
    images = make_images(1, seed=4).images_NCHW  # fewer than ranks
    model = Projection()
    logits, _ = shared_logits(world, model, images, 3, device=torch.device("cpu"))
    return {
        "agree": [world.agree(number) for number in (0, world.rank, 7 * world.rank)],
        "text": [world.from_main(lambda text=text: text) for text in ("", "Zürich/läuft", "x" * 5000)],
        "figures": world.from_main_figures([world.rank + 1 / 3, 2.0]),
        "turn": seen,
        "one image": (logits - model(images)).abs().max().item(),
        "batch norm": batch_norm_errors(world),
    }


class Projection(nn.Module):
    """Three sums over an image, the same on every rank."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        values = images_NCHW.float().flatten(1) / 255
        return values @ torch.linspace(-1, 1, 3 * values.shape[1]).view(-1, 3)


def together(folder: Path, stopped: str) -> None:
    """Do all short jobs and write down what this rank saw."""
    rank = int(os.environ["RANK"])
    seen: dict[str, object] = {case: train_case(case) for case in CASES}
    with joined() as world:
        seen["communicate"] = communicate(world)
    seen["nan"] = unfinished_loss(rank)
    seen["uneven"] = ended_by(tiny_config(train__batch_size=25), name="uneven")
    seen["no folder"] = no_folder(rank)
    seen["other images"] = ended_by(tiny_config(), tiny_splits(seed=1 + rank), name="other")
    seen["stopped"] = stopped_by_rank_1(rank)
    with undrawn():
        seen["seeds"] = dropout_seeds(rank)
        if stopped:
            train_module.resume(Run.open(stopped))
    (folder / f"rank{rank}.json").write_text(json.dumps(seen))


def long(folder: Path, fail: bool) -> int:
    """Train until something happens."""
    rank = os.environ["RANK"]
    splits, step = tiny_splits(), loop._step
    train_module.load_splits = lambda config: splits
    cli._fetch_first = lambda data: None

    def step_and_tell(fitting: loop.Fit) -> None:
        step(fitting)
        told = folder / f"pid{rank}"
        if not told.exists():  # whole at once: the test reads it as soon as it is there
            told.with_suffix(".part").write_text(str(os.getpid()))
            told.with_suffix(".part").rename(told)
        if fail and rank == "1" and fitting.state.progress.step == 2:
            raise ValueError("the dog ate it")

    loop._step = step_and_tell
    small = ["--model.convnet.stages", "1", "8", "--model.convnet.hidden", "8", "--data.image-size", "16"]
    length = ["--train.epochs", "100000", "--train.batch-size", "26", "--train.precision", "fp32"]
    return cli.main(["train", "convnet", *small, *length])


if __name__ == "__main__":
    torch.set_num_threads(1)
    job, where = sys.argv[1], Path(sys.argv[2])
    if job == "together":
        together(where, sys.argv[3] if len(sys.argv) > 3 else "")
    else:
        raise SystemExit(long(where, fail=job == "raise"))
