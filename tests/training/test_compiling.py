"""Whom compiling will keep waiting."""

import pytest
import torch

from cifarlab.config import Config, ConvnetConfig, ModelConfig, SpeednetConfig
from cifarlab.models import build_model
from cifarlab.models.loops import Loop
from cifarlab.training.checkpoint import Progress, TrainState
from cifarlab.training.compiling import will_compile_loops

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
