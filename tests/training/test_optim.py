import pytest
import torch
from torch import nn

from cifarlab.config import OptimizerConfig
from cifarlab.training import optim
from cifarlab.training.optim import Muon, NesterovSGD, build_optimizers, orthogonalize, set_learning_rate


class SmallNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.frozen = nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.head = nn.Linear(8, 2)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 72), (2, 72, 8)])
def test_orthogonalize_keeps_singular_vectors_and_flattens_values(shape, dtype, rounding):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrices.to(dtype), steps=5).float()
    for matrix, out in zip(matrices, result, strict=True):
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        values = torch.diagonal(u.T @ out @ v.T)
        large = s > 0.1 * s.max()
        assert ((values[large] > 0.6) & (values[large] < 1.3)).all()
        # what is not on the diagonal of the same singular bases is rounding
        assert (u.T @ out @ v.T - torch.diag(values)).abs().max() < rounding


def test_muon_step_is_the_formula_one_tensor_at_a_time():
    torch.manual_seed(0)
    filters = [nn.Parameter(torch.randn(8, 4, 3, 3)) for _ in range(3)] + [nn.Parameter(torch.randn(6, 8, 3, 3))]
    expected = [parameter.detach().clone() for parameter in filters]
    buffers = [torch.zeros_like(parameter) for parameter in filters]
    optimizer = Muon(filters, lr=0.2, momentum=0.6)
    for _ in range(3):
        for index, parameter in enumerate(filters):
            parameter.grad = torch.randn_like(parameter)
            buffers[index] = 0.6 * buffers[index] + parameter.grad
            update = orthogonalize((parameter.grad + 0.6 * buffers[index]).flatten(1)[None])[0].float()
            normalised = expected[index] * len(expected[index]) ** 0.5 / expected[index].norm()
            expected[index] = normalised - 0.2 * update.view(parameter.shape)
        optimizer.step()
    for parameter, wanted in zip(filters, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_every_trainable_parameter_is_in_exactly_one_group(name):
    net = SmallNet()
    optimizers = build_optimizers(net, OptimizerConfig(name=name))
    members = [p for o in optimizers for g in o.param_groups for p in g["params"]]
    trainable = [p for p in net.parameters() if p.requires_grad]
    assert sorted(map(id, members)) == sorted(map(id, trainable))


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_norms_and_biases_are_not_decayed(name):
    net = SmallNet()
    for optimizer in build_optimizers(net, OptimizerConfig(name=name, weight_decay=0.1)):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    assert group["weight_decay"] == 0
                elif not isinstance(optimizer, Muon):
                    assert group["weight_decay"] == 0.1


def test_muon_takes_the_filters_only():
    net = SmallNet()
    muon, sgd = build_optimizers(net, OptimizerConfig(name="muon", lr=0.3, head_lr=0.5, bias_lr=0.7))
    assert {id(p) for p in muon.param_groups[0]["params"]} == {id(net.conv1.weight), id(net.conv2.weight)}
    assert [group["lr"] for group in sgd.param_groups] == [0.5, 0.7]


def test_learning_rate_is_a_factor_of_each_peak():
    optimizers = build_optimizers(SmallNet(), OptimizerConfig(name="muon", lr=0.3, head_lr=0.5, bias_lr=0.7))
    set_learning_rate(optimizers, 0.5)
    set_learning_rate(optimizers, 0.1)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    assert rates == pytest.approx([0.03, 0.05, 0.07])


@pytest.mark.parametrize("widths", [(8, 6), (600, 520)])
def test_filters_of_other_shapes_and_memory_orders_change_no_step(widths):
    """Batching with zeros, and taking a filter's entries as they lie in memory, leave the step what it was."""
    torch.manual_seed(0)
    shapes = [(widths[0], 4, 3, 3), (widths[1], widths[0], 3, 3), (widths[1], widths[1], 1, 1)]
    together, alone = ([nn.Parameter(torch.randn(shape) / 9) for shape in shapes] for _ in range(2))
    for one, other in zip(together, alone, strict=True):
        other.data.copy_(one.data)
        one.data = one.data.contiguous(memory_format=torch.channels_last)
        other.grad = torch.randn_like(other)
        one.grad = other.grad.contiguous(memory_format=torch.channels_last)
    Muon(together, lr=0.2, momentum=0.6).step()
    for parameter in alone:
        Muon([parameter], lr=0.2, momentum=0.6).step()
    for one, other in zip(together, alone, strict=True):
        step = other.detach() / other.detach().norm() - one.detach() / one.detach().norm()
        assert step.abs().max() < 1e-4 * one.detach().abs().max()
        assert not torch.equal(one, torch.zeros_like(one))


def test_muon_has_a_momentum_of_its_own():
    muon, sgd = build_optimizers(SmallNet(), OptimizerConfig(name="muon", momentum=0.6, sgd_momentum=0.85))
    assert muon.param_groups[0]["momentum"] == 0.6
    assert {group["momentum"] for group in sgd.param_groups} == {0.85}
    assert isinstance(sgd, NesterovSGD)


def test_nesterov_sgd_is_that_of_torch():
    def trained(make):
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 3), (5,))]
        optimizer = make(
            [
                {"params": parameters[:1], "lr": 0.1, "weight_decay": 0.01},
                {"params": parameters[1:], "lr": 0.5, "weight_decay": 0.0},
            ]
        )
        for _ in range(5):
            optimizer.zero_grad()
            sum(parameter.square().sum() + parameter.sum() for parameter in parameters).backward()
            optimizer.step()
        return parameters

    ours = trained(lambda groups: NesterovSGD(groups, lr=0.1, momentum=0.7))
    theirs = trained(lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.7, nesterov=True))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_muon_orthogonalises_in_the_precision_of_the_training(precision, monkeypatch):
    """Bf16 is emulated, and tens of times slower, where a processor lacks it; there training takes fp32."""
    seen = []
    monkeypatch.setattr(optim, "orthogonalize", lambda matrices: seen.append(matrices.dtype) or orthogonalize(matrices))
    net = SmallNet()
    muon = build_optimizers(net, OptimizerConfig(name="muon"), precision)[0]
    net.conv1.weight.grad = torch.randn_like(net.conv1.weight)
    muon.step()
    assert seen == [torch.float32 if precision == "fp32" else torch.bfloat16]
    assert net.conv1.weight.dtype == torch.float32
