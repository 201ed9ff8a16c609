"""Whom compiling will keep waiting, and that it is over before the clock runs."""

from __future__ import annotations

import functools

import pytest
import torch
from tests.conftest import make_images

from cifarlab.config import Config, ConvnetConfig, DataConfig, ModelConfig, SpeednetConfig, TrainConfig
from cifarlab.data.loader import BatchLoader
from cifarlab.models import build_model
from cifarlab.models.loops import Loop
from cifarlab.training.checkpoint import Progress, TrainState
from cifarlab.training.compiling import compiled, warm_up, will_compile_loops
from cifarlab.training.phases import Phase, enter_phase, phase_at, phases

SMALL = {
    "speednet": ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 8, 8))),
    "without loops": ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 8, 8), activation="elu")),
    "convnet": ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 4),), hidden=())),
}


def state_of(name, precision="bf16"):
    model = build_model(SMALL[name], 10, Config().data.image_size)
    return TrainState(model, [], None, None, {}, Progress(precision=precision))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_only_a_speednet_on_a_cpu_waits_and_only_where_nothing_is_kept(monkeypatch, precision):
    kept = set()
    monkeypatch.setattr(Loop, "is_kept", lambda self, dtype: dtype in kept)
    assert will_compile_loops(state_of("speednet", precision), torch.device("cpu"), 1)
    assert not will_compile_loops(state_of("speednet", precision), torch.device("cuda"), 1)
    assert not will_compile_loops(state_of("convnet", precision), torch.device("cpu"), 1)
    assert not will_compile_loops(state_of("without loops", precision), torch.device("cpu"), 1)
    assert not will_compile_loops(state_of("speednet", precision), torch.device("cpu"), 2)
    kept.add({"bf16": torch.bfloat16, "fp32": torch.float32}[precision])
    assert not will_compile_loops(state_of("speednet", precision), torch.device("cpu"), 1)


def phased_config(**train) -> Config:
    settings = {"low_resolution": ((0.25, 12), (0.75, 14)), "freeze_whitening": 3.0, "epochs": 6.0, "batch_size": 8}
    return Config(
        data=DataConfig(image_size=16, val_fraction=0.0),
        model=SMALL["speednet"],
        train=TrainConfig(**settings | {"compile": True} | train),
    )


def test_phases_follow_size_and_freezing():
    config = phased_config()
    loader = BatchLoader(make_images(16, seed=0), config, torch.device("cpu"))  # 12 steps
    first, grown, frozen, last = Phase(12, True), Phase(14, True), Phase(14, False), Phase(16, False)
    assert [phase_at(config, loader.plan, step) for step in range(12)] == [first] * 3 + [grown] * 3 + [frozen] * 3 + [
        last
    ] * 3
    assert phases(config, loader.plan) == [first, grown, frozen, last]


def test_a_phase_is_what_the_model_is_set_to():
    model = state_of("speednet").model
    for phase in (Phase(12, False), Phase(14, True)):
        enter_phase(model, phase)
        assert model.preprocess.image_size == phase.image_size
        assert model.network.whiten.bias.requires_grad == phase.whitening_trained
    others = state_of("convnet").model
    enter_phase(others, Phase(12, False))
    assert others.preprocess.image_size == 12
    assert all(parameter.requires_grad for parameter in others.parameters())


def test_on_a_gpu_nothing_is_left_to_compile_once_the_clock_runs(monkeypatch):
    """Several recipes in one process, as in a benchmark; they share torch's count of compiled forms."""
    compilations, to_come = [], set()

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    gpu = torch.device("cuda")  # on which only waiting has to be imagined; images and weights lie in main memory
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    for sizes in (((0.4, 12),), ((0.3, 13), (0.6, 14)), ((0.3, 11), (0.6, 15))):
        for batch_size in (8, 4):
            config = phased_config(low_resolution=sizes, batch_size=batch_size)
            state = state_of("speednet", "fp32")
            loader = BatchLoader(make_images(16, seed=0), config, torch.device("cpu"))
            forward = compiled(config, state.model, gpu)
            before = {name: value.clone() for name, value in state.model.state_dict().items()}
            to_come.update((phase, batch_size) for phase in phases(config, loader.plan))
            warm_up(config, state, forward, loader, gpu)
            assert len(compilations) == len(to_come)
            assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())
            assert state.model.network.whiten.bias.requires_grad
            assert all(parameter.grad is None for parameter in state.model.parameters())
            for step in range(loader.plan.num_steps):
                enter_phase(state.model, phase_at(config, loader.plan, step))
                forward(loader.batch(step)[0]).sum().backward()
            assert len(compilations) == len(to_come)
    assert len(to_come) > 16


def test_a_network_compiled_with_a_frozen_bias_trains_it_later():
    """As where a benchmark's next recipe freezes later; torch 2.10 has no guard on what is trained."""
    config = phased_config()
    model = state_of("speednet").model
    forward = torch.compile(model, backend="aot_eager", dynamic=False)
    images = BatchLoader(make_images(16, seed=0), config, torch.device("cpu")).batch(0)[0]
    bias = model.network.whiten.bias
    for trained in (False, True, False):
        enter_phase(model, Phase(12, trained))
        bias.grad = None
        forward(images).square().sum().backward()
        assert (bias.grad is not None) == trained
