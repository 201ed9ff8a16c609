import math

import pytest
import torch

from cifarlab.config import ScheduleConfig
from cifarlab.training.schedule import schedule_factor

STEPS = 200


def factors(**fields):
    config = ScheduleConfig(**fields)
    return [schedule_factor(config, step / STEPS) for step in range(STEPS)]


def reference(scheduler, optimizer):
    values = []
    for _ in range(STEPS):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_cosine_equals_torch():
    o = optimizer()
    expected = reference(torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS), o)
    assert factors(name="cosine") == pytest.approx(expected, abs=1e-9)


def test_step_equals_torch():
    o = optimizer()
    expected = reference(torch.optim.lr_scheduler.MultiStepLR(o, [50, 150], gamma=0.3), o)
    assert factors(name="step", step_at=(0.25, 0.75), decay=0.3) == pytest.approx(expected)


def test_linear_reaches_zero_just_after_the_last_step():
    assert factors(name="linear") == pytest.approx([1 - step / STEPS for step in range(STEPS)])


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "step", "plateau"])
def test_warmup_rises_linearly_to_the_peak(name):
    values = factors(name=name, warmup=0.1, step_at=(0.9,))
    assert values[:20] == pytest.approx([step / 20 for step in range(20)])
    assert values[20] == pytest.approx(1)
    assert max(values) == pytest.approx(1)


def test_one_cycle_rises_and_falls():
    values = factors(name="one_cycle", warmup=0.25)
    assert values[0] == pytest.approx(1 / 25)
    assert values[50] == pytest.approx(1)
    assert values == sorted(values[:51]) + sorted(values[51:], reverse=True)
    assert values[-1] < 0.001


def test_all_factors_are_finite_and_in_range():
    for name in ("constant", "linear", "cosine", "one_cycle", "step", "plateau"):
        assert all(0 <= value <= 1 and math.isfinite(value) for value in factors(name=name))
