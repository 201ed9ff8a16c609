"""The compiled loops against torch's own layers: same values, same gradients, same running statistics."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import SpeednetConfig
from cifarlab.models import fused
from cifarlab.models.layers import ACTIVATIONS
from cifarlab.models.loops import Loop
from cifarlab.models.speednet import Speednet
from cifarlab.training.batch_norm import global_batch_norm


@pytest.fixture(params=["eager", pytest.param("compiled", marks=pytest.mark.slow)], autouse=True)
def stance(request, monkeypatch):
    """Without the compiler, which takes seconds, and, in the slow tests, with it."""

    def run_eagerly(self, *tensors):
        assert all(tensor.is_contiguous() for tensor in tensors)  # compiled loops read memory as it lies
        return self._function(*tensors)

    if request.param == "eager":
        monkeypatch.setattr(Loop, "__call__", run_eagerly)


def values(*shape, seed=0):
    """Return values all different, in channels_last order, that want a gradient."""
    count = torch.Size(shape).numel()
    x = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).float().view(shape) / count * 6 - 3
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (15, 10), (7, 7)])
def test_pooling_and_its_gradient(size):
    ours, theirs = values(3, 5, *size), values(3, 5, *size)
    pooled, expected = fused.max_pool(ours), F.max_pool2d(theirs, 2)
    assert torch.equal(pooled, expected)
    weight = values(*expected.shape, seed=1).detach()
    (pooled * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_values_that_share_a_maximum_share_its_gradient():
    x = torch.ones(1, 1, 8, 8, requires_grad=True)
    fused.max_pool(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(1, 1, 8, 8))


def norms(width, shift=0.0):
    """Return two equal batch norms with a bias and frozen weights."""
    pair = [nn.BatchNorm2d(width, eps=1e-5, momentum=0.3) for _ in range(2)]
    for norm in pair:
        norm.weight.requires_grad_(False).copy_(torch.linspace(0.5, 2, width))
        norm.running_mean += shift
        with torch.no_grad():
            norm.bias.copy_(torch.linspace(-1, 1, width))
    return pair


@pytest.mark.parametrize("kind", fused.ACTIVATIONS)
def test_norm_and_activation_with_all_gradients(kind):
    ours, theirs = values(4, 6, 5, 7), values(4, 6, 5, 7)
    norm, reference = norms(6)
    y, expected = fused.norm_activate(ours, norm, kind), ACTIVATIONS[kind]()(reference(theirs))
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)
    weight = values(*expected.shape, seed=1).detach()
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(norm.bias.grad, reference.bias.grad, atol=1e-4, rtol=1e-4)
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), buffer, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", fused.ACTIVATIONS)
def test_a_shortcut_is_added_before_the_activation_and_has_its_gradient(kind):
    ours, theirs, way, other_way = (values(4, 6, 5, 7, seed=seed) for seed in (0, 0, 2, 2))
    norm, reference = norms(6)
    y = fused.norm_activate(ours, norm, kind, shortcut_NCHW=way)
    expected = ACTIVATIONS[kind]()(reference(theirs) + other_way)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)
    weight = values(*expected.shape, seed=1).detach()
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(way.grad, other_way.grad, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(norm.bias.grad, reference.bias.grad, atol=1e-4, rtol=1e-4)


def test_maps_in_bf16_are_only_rounded_to_it():
    ours, way = (values(4, 6, 5, 7, seed=seed).detach().bfloat16().requires_grad_() for seed in (0, 2))
    theirs, other_way = (x.detach().float().requires_grad_() for x in (ours, way))
    norm, reference = norms(6, shift=1.0)
    y = fused.norm_activate(ours, norm, "silu", shortcut_NCHW=way)
    expected = F.silu(reference(theirs) + other_way)
    weight = values(*expected.shape, seed=1).detach().bfloat16()
    (y * weight).sum().backward()
    (expected * weight.float()).sum().backward()
    for one, other in ((y, expected), (ours.grad, theirs.grad), (way.grad, other_way.grad)):
        assert one.dtype == torch.bfloat16
        assert (one.float() - other).norm() < 0.01 * other.norm()
    assert norm.bias.grad.dtype == torch.float32
    torch.testing.assert_close(norm.bias.grad, reference.bias.grad, atol=0.05, rtol=0.01)
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), buffer, atol=1e-5, rtol=1e-5)


def test_a_single_image_in_another_memory_order_is_copied():
    x, way = (values(1, 6, 5, 7, seed=seed).detach().contiguous() for seed in (0, 2))
    norm, reference = norms(6)
    y = fused.norm_activate(x, norm, "relu", shortcut_NCHW=way)
    torch.testing.assert_close(y, F.relu(reference(x) + way), atol=1e-5, rtol=1e-4)


def test_a_mean_far_from_zero_costs_no_digits():
    x = values(8, 3, 8, 8).detach() + 3000
    norm, reference = norms(3, shift=2990.0)
    torch.testing.assert_close(fused.norm_activate(x, norm, "relu"), F.relu(reference(x)), atol=2e-3, rtol=0)


def test_only_what_is_right_is_fused():
    x, norm = values(2, 4, 8, 8), nn.BatchNorm2d(4)
    assert fused.can_fuse(x, norm)
    with torch.no_grad():
        assert not fused.can_fuse(x, norm)
    with global_batch_norm(nn.Sequential(norm), enabled=True):
        assert not fused.can_fuse(x, norm)
    assert not fused.can_fuse(x, norm.eval())


@pytest.mark.parametrize(("activation", "convs"), [("gelu", 2), ("silu", 3), ("gelu", 1), ("tanh", 2)])
def test_a_fused_network_has_the_losses_and_gradients_of_one_that_is_not(activation, convs):
    def network(on):
        torch.manual_seed(0)
        built = Speednet(SpeednetConfig(widths=(8, 16, 16), activation=activation, convs=convs), 10)
        built.fuse(on)
        images, labels = torch.randn(16, 3, 20, 20), torch.arange(16) % 10
        F.cross_entropy(built(images), labels).backward()
        return built

    plain, compiled = network(False), network(True)
    others = dict(compiled.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(others[name].grad, parameter.grad, atol=1e-4, rtol=2e-3, msg=name)
    torch.testing.assert_close(dict(compiled.named_buffers()), dict(plain.named_buffers()), atol=1e-5, rtol=1e-4)
