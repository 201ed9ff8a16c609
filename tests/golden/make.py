"""The first losses of every fast recipe on fixed images, which tests/test_golden_losses.py compares with stored ones.

    python tests/golden/make.py [RECIPE ...] [defaults]

writes tests/golden/<recipe>.json anew: after a change of a recipe or of the mathematics that is meant, and only then.
``defaults`` writes the default of every field of the configuration.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch

from cifarlab.commands.train import train
from cifarlab.config import Config, ModelConfig
from cifarlab.config_yaml import config_to_yaml
from cifarlab.data import ImageSet, Splits
from cifarlab.data.loader import make_plan
from cifarlab.errors import StoppedError
from cifarlab.models import build_model
from cifarlab.models.compute import training_flops_per_image
from cifarlab.recipes import RECIPES, load_recipe
from cifarlab.training.loop import Hooks, StepReport

FOLDER = Path(__file__).resolve().parent
DEFAULTS = FOLDER / "defaults.yaml"
NUM_STEPS = 10
_STEPS_PER_EPOCH = 4  # so that ten steps see two changes of epoch or more
_BATCH_SIZE = 32
_NUM_EVALUATED = 40
_MOST_FLOPS = 1.2e11  # in ten steps: about two seconds of one thread


def golden_recipes() -> list[str]:
    """Return the recipes whose losses are kept: the fast ones and their yardstick."""
    return [name for name in RECIPES if name.startswith("fast") or name == "airbench94"]


def make_images(count: int) -> ImageSet:
    """Noise with a bright square whose place and colour tell the class: learnable, and the same for ever.

    Drawn from a formula, not from a generator, whose sequence a new version of torch might change.
    """
    index = torch.arange(count * 3 * 32 * 32, dtype=torch.int64)
    # Knuth's multiplicative hash; the high bits are well mixed
    noise = ((index + 1) * 2654435761 % 2**32) >> 25
    images = noise.view(count, 3, 32, 32)
    labels = torch.arange(count) % 10
    for i, label in enumerate(labels.tolist()):
        row, column = 6 * (label % 5), 15 * (label // 5)
        images[i, label % 3, row : row + 8, column : column + 8] += 100
    return ImageSet(images.to(torch.uint8), labels, tuple("abcdefghij"))


def small_config(name: str) -> Config:
    """Return a recipe cut down to ten steps of small batches on one CPU; wide networks are made narrower."""
    config = load_recipe(name)
    small = replace(
        config,
        data=replace(config.data, val_fraction=0.0),
        model=next(
            (model for model in _ever_narrower(config.model) if _flops(model) <= _MOST_FLOPS),
            config.model,
        ),
        train=replace(
            config.train,
            batch_size=_BATCH_SIZE,
            precision="fp32",
            device="cpu",
            compile=False,
            checkpoint_epochs=0,
            seed=0,
        ),
    )
    return replace(small, train=replace(small.train, epochs=NUM_STEPS / steps_per_epoch(small)))


def steps_per_epoch(config: Config) -> int:
    """Return the steps of an epoch: fewer where a recipe takes only some of the images."""
    return make_plan(config, _STEPS_PER_EPOCH * _BATCH_SIZE).steps_per_epoch


def _ever_narrower(model: ModelConfig) -> Iterator[ModelConfig]:
    for divisor in (1, 2, 4, 8):
        first, second, third = (max(8, width // divisor) for width in model.speednet.widths)
        yield replace(model, speednet=replace(model.speednet, widths=(first, second, third)))


def _flops(model: ModelConfig) -> int:
    network = build_model(model, num_classes=10, image_size=32)
    return NUM_STEPS * _BATCH_SIZE * training_flops_per_image(network, 32)


def first_losses(config: Config, steps: int = NUM_STEPS) -> tuple[list[float], list[float]]:
    """Train on the fixed images, on one thread.

    Returns:
        The losses of so many of the ten steps, and after every epoch the loss of the model as it is evaluated, which
        alone shows the running statistics of batch norm, a moving average and the like.
    """
    images = make_images(_STEPS_PER_EPOCH * config.train.batch_size)
    losses: list[float] = []
    evaluated: list[float] = []
    before = 0.0

    def note(report: StepReport) -> None:
        # a report tells the mean over its epoch so far
        nonlocal before
        done = (report.step - 1) % steps_per_epoch(config) + 1
        losses.append(report.loss * done - (before if done > 1 else 0.0))
        before = report.loss * done

    hooks = Hooks(
        on_step=note,
        on_epoch=lambda record: evaluated.append(record["val/loss"]),
        stop_signal=lambda: signal.SIGTERM * (len(losses) >= steps),
    )
    with _double_precision(), suppress(StoppedError):
        train(config, splits=Splits(images, make_images(_NUM_EVALUATED), None, "golden", ""), hooks=hooks)
    return losses, evaluated


@contextmanager
def _double_precision() -> Iterator[None]:
    """Compute everything in float64 on one thread.

    Processors round differently, and ten steps of Muon turn that into a thousandth of the loss, more than some changes
    of the mathematics do. In float64 what is left of it is below 1e-9.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)


def main() -> None:
    """Write the files of the recipes named, or of all."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CIFARLAB_RUNS"] = folder
        for name in sys.argv[1:] or golden_recipes():
            if name == "defaults":
                DEFAULTS.write_text(config_to_yaml(Config()), encoding="utf-8")
                continue
            config = small_config(name)
            losses, evaluated = first_losses(config)
            content = {
                "torch": torch.__version__,
                "widths": list(config.model.speednet.widths),
                "losses": losses,
                "evaluated": evaluated,
            }
            path = FOLDER / f"{name}.json"
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            print(f"{path.name}: {' '.join(f'{loss:.4f}' for loss in content['losses'])}")


if __name__ == "__main__":
    main()
