"""Measured rates: the arithmetic against hand-made clocks, the work against autograd and the FLOP counter."""

import itertools

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cifarlab import arithmetic
from cifarlab.arithmetic import (
    CONVOLUTIONS,
    DTYPES,
    MAX_RELATIVE_ERROR,
    Convolution,
    Rate,
    combined_rate,
    convolution_error,
    copy_bandwidth,
    measure_convolutions,
    measure_pointwise,
)

CPU = torch.device("cpu")
TINY = Convolution(3, 4, 5, batch_size=2)


def ticking(seconds):
    """Return a clock on which each piece of work takes the next of the given seconds."""
    readings = itertools.accumulate(itertools.chain.from_iterable((0.0, step) for step in itertools.cycle(seconds)))
    return lambda: next(readings)


def test_operations_are_those_of_the_flop_counter():
    assert TINY.flops == 2 * 9 * 2 * 25 * 12
    assert [c.flops for c in CONVOLUTIONS] == [6_642_432_000, 16_588_800_000, 14_450_688_000, 2_654_208_000]
    x, w = torch.rand(2, 3, 5, 5), torch.rand(4, 3, 3, 3, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        F.conv2d(x, w, padding=1).sum().backward()
    assert counter.get_total_flops() == 2 * TINY.flops  # forward and the gradient of the filters


def test_rates_are_operations_over_seconds():
    rates = measure_convolutions(["fp32", "bf16"], convolutions=[TINY], clock=ticking([0.5]))
    assert [(rate.precision, rate.convolution) for rate in rates] == [("fp32", TINY), ("bf16", TINY)]
    for rate in rates:
        assert rate.figures == pytest.approx([TINY.flops / 0.5 / 1e9] * 3)


def test_each_pass_has_its_own_time():
    (rate,) = measure_convolutions(["fp32"], convolutions=[TINY], clock=ticking([1, 2, 4]))  # one repeat is enough
    assert rate.forward == pytest.approx(TINY.flops / 1e9)
    assert rate.input_gradient == pytest.approx(TINY.flops / 2e9)
    assert rate.weight_gradient == pytest.approx(TINY.flops / 4e9)


def test_the_median_of_seven_repeats_counts():
    seconds = [0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.1]
    (rate,) = measure_convolutions(["fp32"], convolutions=[TINY], clock=ticking(seconds))
    assert rate.figures == pytest.approx([TINY.flops / 0.004 / 1e9] * 3)


def test_slow_work_is_not_repeated_for_long():
    calls = 0

    def work():
        nonlocal calls
        calls += 1

    arithmetic._median_seconds(work, CPU, ticking([0.1]))
    assert calls == 1 + 2  # one that is not counted, then until 0.15 s have passed


def test_combined_rate_is_all_operations_over_all_time():
    small, large = Convolution(1, 1, 1, batch_size=1), Convolution(1, 1, 1, batch_size=3)
    rates = [
        Rate(small, "fp32", 1.0, 2.0, 4.0),
        Rate(large, "fp32", 8.0, 8.0, 8.0),
        Rate(large, "bf16", 1e9, 1e9, 1e9),
    ]
    seconds = small.flops * (1 + 1 / 2 + 1 / 4) + large.flops * 3 / 8
    assert combined_rate(rates, "fp32") == pytest.approx(3 * (small.flops + large.flops) / seconds)
    assert combined_rate(rates[1:2], "fp32") == pytest.approx(8.0)
    assert combined_rate(rates, "fp16") is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_timed_are_the_convolution_and_its_gradients(precision):
    generator = torch.Generator().manual_seed(0)  # as the measurement draws its tensors
    x = torch.randn(4, 3, 5, 5, generator=generator).to(DTYPES[precision]).requires_grad_()
    w = torch.randn(6, 3, 3, 3, generator=generator).to(DTYPES[precision]).requires_grad_()
    g = torch.randn(4, 6, 5, 5, generator=generator).to(DTYPES[precision])
    y = F.conv2d(x, w, padding=1)
    expected = (y, *torch.autograd.grad(y, (x, w), g))
    forward, input_gradient, weight_gradient = arithmetic._passes(
        Convolution(3, 6, 5, batch_size=4), DTYPES[precision], CPU
    )
    computed = (forward(), input_gradient()[0], weight_gradient())
    computed = (*computed[:2], computed[2] if precision == "bf16" else computed[2][1])
    for part, right in zip(computed, expected, strict=True):
        torch.testing.assert_close(part, right, rtol=0.02, atol=0.05)


def test_pointwise_counts_what_both_convolutions_of_a_group_put_out(monkeypatch):
    monkeypatch.setattr(arithmetic, "_GROUP", Convolution(2, 4, 7, batch_size=3))
    values = 3 * 4 * (7 * 7 + 3 * 3)
    assert measure_pointwise("fp32", clock=ticking([0.25])) == pytest.approx(values / 0.25)


def test_a_copy_reads_and_writes():
    assert copy_bandwidth(10_000_000, ticking([0.2])) == pytest.approx(0.1)


def test_measuring_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    measure_convolutions(["fp32"], convolutions=[TINY], clock=ticking([1]))
    convolution_error(CPU, "fp32")
    assert torch.equal(before, torch.random.get_rng_state())


def test_convolutions_are_right_here():
    assert 0 < convolution_error(CPU, "fp32") < 1e-5
    assert 1e-4 < convolution_error(CPU, "bf16") < MAX_RELATIVE_ERROR


def wrong_only(where):
    real = F.conv2d

    def conv2d(x, w, *args, **keywords):
        y = real(x, w, *args, **keywords)
        return where(y, w)

    return conv2d


@pytest.mark.parametrize(
    "where",
    [
        lambda y, w: y / 4 if w.shape[-1] == 2 else y,  # the upstream bug: a 2x2 kernel that sees one pixel of four
        lambda y, w: y + 0.1 * y.detach(),  # outputs wrong, gradients right
        lambda y, w: y.detach() + 1.1 * (y - y.detach()),  # gradients wrong, outputs right
        lambda y, w: y * float("nan"),
    ],
    ids=["2x2 only", "outputs only", "gradients only", "nan"],
)
def test_a_wrong_convolution_is_noticed(monkeypatch, where):
    monkeypatch.setattr(arithmetic.F, "conv2d", wrong_only(where))
    assert not convolution_error(CPU, "fp32") <= MAX_RELATIVE_ERROR
