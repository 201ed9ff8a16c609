"""Training on a GPU does what training on a processor does, and its steps do not wait for one another.

The same tests run on the processor where they can, so that they themselves are known to work.
"""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
import torch
from tests.conftest import with_fields
from tests.golden.make import make_images, small_config

from cifarlab.commands.train import resume, train
from cifarlab.data import Splits
from cifarlab.errors import StoppedError
from cifarlab.recipes import load_recipe
from cifarlab.run import Run
from cifarlab.training import loop
from cifarlab.training.loop import Hooks

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
)
ON_BOTH = pytest.mark.parametrize("device", ["cpu", CUDA])
STEPS = 8

pytestmark = pytest.mark.usefixtures("without_curves")


def small(name, device, **changes):
    """A recipe made narrow, two epochs of four steps, with weights that are saved at their end."""
    config = small_config(name)
    return with_fields(config, train__device=device, train__epochs=2.0, train__checkpoint_epochs=1, **changes)


@pytest.fixture
def splits():
    return Splits(make_images(128), make_images(40), None, "golden", "")


def losses_of(run: Run) -> list[float]:
    return [record[name] for record in run.metrics() for name in ("train/loss", "val/loss")]


@ON_BOTH
@pytest.mark.parametrize("name", ["fast94", "airbench94"])
def test_fp32_ends_where_the_processor_ends(device, name, splits):
    expected = losses_of(train(small(name, "cpu"), splits=splits))
    found = losses_of(train(small(name, device), splits=splits, name="other"))
    assert found == pytest.approx(expected, rel=0.01)  # Muon turns roundings into thousandths within a few steps


@pytest.mark.slow  # on a processor without instructions for bf16; -m gpu runs it all the same
@ON_BOTH
@pytest.mark.parametrize("compiles", [False, True])
def test_bf16_learns_what_fp32_learns(device, compiles, splits):
    expected = losses_of(train(small("fast94", "cpu"), splits=splits))
    config = small("fast94", device, train__precision="bf16", train__compile=compiles)
    run = train(config, splits=splits, name="other")
    assert run.read_json("result.json")["precision"] == "bf16"
    assert losses_of(run) == pytest.approx(expected, rel=0.1)


@ON_BOTH
def test_a_stopped_run_goes_on(device, splits, monkeypatch):
    """After the last step of an epoch, where a GPU's losses are read."""
    monkeypatch.setattr("cifarlab.commands.train.load_splits", lambda config: splits)
    config = small("fast94", device)
    whole = losses_of(train(config))
    seen = []
    hooks = Hooks(on_step=lambda report: seen.append(report.step), stop_signal=lambda: signal.SIGTERM * (len(seen) > 3))
    with pytest.raises(StoppedError) as stop:
        train(config, hooks=hooks, name="stopped")
    assert losses_of(resume(Run.open(stop.value.run))) == pytest.approx(whole, rel=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["fast90", "fast94", "fast96", "best"])
def test_no_step_waits_for_the_gpu(name, splits, monkeypatch):
    """But the first, in which libraries are loaded, and those that read losses, which are not in these calls."""
    real, calls = loop._step, []

    def watched(fitting):
        calls.append(fitting.state.progress.step)
        torch.cuda.set_sync_debug_mode("error" if len(calls) > 1 else "default")
        try:
            real(fitting)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(loop, "_step", watched)
    train(replace(small("fast94", "cuda"), augment=load_recipe(name).augment), splits=splits)
    assert calls == list(range(STEPS))
