"""ResNets: published layouts and parameter counts, and the forward pass against a second implementation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import ResnetConfig
from cifarlab.models.resnet import build_resnet


def count_parameters(config: ResnetConfig, num_classes: int = 10, image_size: int = 32) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_resnet(config, num_classes, image_size).parameters())


@pytest.mark.parametrize(
    ("variant", "count"), [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)]
)
def test_imagenet_parameter_counts(variant: str, count: int) -> None:
    assert count_parameters(ResnetConfig(variant=variant, stem="imagenet"), 1000, 224) == count


@pytest.mark.parametrize(
    ("variant", "factor", "count"),
    [
        ("resnet18", 1, 11_173_962),
        ("resnet20", 1, 272_474),  # 0.27 million in the paper; 269,722 with option A
        ("resnet56", 1, 855_770),  # 0.85 million; 853,018 with option A
        ("wrn28", 10, 36_479_194),  # 36.5 million, every weight, bias and norm counted, ten classes
        ("wrn16", 4, 2_748_890),
        ("wrn40", 2, 2_243_546),
        ("wrn28", 1, 369_498),
    ],
)
def test_cifar_parameter_counts(variant: str, factor: int, count: int) -> None:
    assert count_parameters(ResnetConfig(variant=variant, width_factor=factor)) == count


def torchvision_layout(depths: tuple[int, ...], bottleneck: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes in torchvision's resnet files, by their rule."""
    layout: dict[str, tuple[int, ...]] = {}

    def add_norm(name: str, width: int) -> None:
        layout.update({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})
        layout[f"{name}.num_batches_tracked"] = ()

    layout["conv1.weight"] = (64, 3, 7, 7)
    add_norm("bn1", 64)
    width_in = 64
    for stage, depth in enumerate(depths):
        inner = 64 * 2**stage
        outer = inner * (4 if bottleneck else 1)
        for index in range(depth):
            block = f"layer{stage + 1}.{index}"
            convs = [(inner, width_in, 1), (inner, inner, 3), (outer, inner, 1)]
            if not bottleneck:
                convs = [(inner, width_in, 3), (inner, inner, 3)]
            for number, (width, fan, kernel) in enumerate(convs, start=1):
                layout[f"{block}.conv{number}.weight"] = (width, fan, kernel, kernel)
                add_norm(f"{block}.bn{number}", width)
            if width_in != outer:
                layout[f"{block}.downsample.0.weight"] = (outer, width_in, 1, 1)
                add_norm(f"{block}.downsample.1", outer)
            width_in = outer
    layout["fc.weight"], layout["fc.bias"] = (1000, width_in), (1000,)
    return layout


@pytest.mark.parametrize(
    ("variant", "depths", "bottleneck"),
    [("resnet18", (2, 2, 2, 2), False), ("resnet34", (3, 4, 6, 3), False), ("resnet50", (3, 4, 6, 3), True)],
)
def test_names_and_shapes_are_those_of_torchvision(variant: str, depths: tuple[int, ...], bottleneck: bool) -> None:
    with torch.device("meta"):
        net = build_resnet(ResnetConfig(variant=variant, stem="imagenet"), 1000, 224)
    assert {name: tuple(t.shape) for name, t in net.state_dict().items()} == torchvision_layout(depths, bottleneck)


def norm(state: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def reference_resnet(state: dict[str, torch.Tensor], x: torch.Tensor, imagenet: bool) -> torch.Tensor:
    """ResNet in eval mode from its weights alone; strides by the rule of the paper, v1.5 for bottlenecks."""
    x = F.conv2d(x, state["conv1.weight"], stride=2 if imagenet else 1, padding=3 if imagenet else 1)
    x = norm(state, "bn1", x).clamp_min(0)
    if imagenet:
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)  # after the activation nothing is below the padding
    blocks = sorted(
        {tuple(name.split(".")[:2]) for name in state if name.startswith("layer")}, key=lambda b: (b[0], int(b[1]))
    )
    for layer, index in blocks:
        block = f"{layer}.{index}"
        stride = 2 if layer != "layer1" and index == "0" else 1
        bottleneck = f"{block}.conv3.weight" in state
        strides, paddings = ((1, stride, 1), (0, 1, 0)) if bottleneck else ((stride, 1), (1, 1))
        out = x
        for number, (step, padding) in enumerate(zip(strides, paddings, strict=True), start=1):
            out = norm(
                state, f"{block}.bn{number}", F.conv2d(out, state[f"{block}.conv{number}.weight"], None, step, padding)
            )
            out = out.clamp_min(0) if number < len(strides) else out
        if f"{block}.downsample.0.weight" in state:
            x = norm(state, f"{block}.downsample.1", F.conv2d(x, state[f"{block}.downsample.0.weight"], None, stride))
        x = (out + x).clamp_min(0)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def reference_wide(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Wide ResNet in eval mode from its weights alone."""
    x = F.conv2d(x, state["conv1.weight"], padding=1)
    for stage in (1, 2, 3):
        for index in range(2):
            block = f"layer{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            before = norm(state, f"{block}.bn1", x).clamp_min(0)
            out = F.conv2d(before, state[f"{block}.conv1.weight"], None, stride, 1)
            out = F.conv2d(norm(state, f"{block}.bn2", out).clamp_min(0), state[f"{block}.conv2.weight"], None, 1, 1)
            shortcut = f"{block}.shortcut.weight"
            x = out + (F.conv2d(before, state[shortcut], None, stride) if shortcut in state else x)
    return norm(state, "bn", x).clamp_min(0).mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def with_random_norms(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (
                (module.weight, 0.3),
                (module.bias, -0.3),
                (module.running_mean, -0.3),
                (module.running_var, 0.5),
            ):
                nn.init.uniform_(tensor, low, low + 0.6)
    return net.double().eval()


@pytest.mark.parametrize(
    ("variant", "stem"),
    [("resnet20", "cifar"), ("resnet20", "imagenet"), ("resnet18", "imagenet"), ("resnet50", "imagenet")],
)
def test_forward_agrees_with_a_second_implementation(variant: str, stem: str) -> None:
    torch.manual_seed(0)
    net = with_random_norms(build_resnet(ResnetConfig(variant=variant, stem=stem), 10, 32))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            net(x), reference_resnet(net.state_dict(), x, stem == "imagenet"), rtol=1e-8, atol=1e-10
        )


@pytest.mark.parametrize("factor", [1, 2])
def test_wide_forward_agrees_with_a_second_implementation(factor: int) -> None:
    torch.manual_seed(0)
    net = with_random_norms(build_resnet(ResnetConfig(variant="wrn16", width_factor=factor, dropout=0.3), 10, 32))
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), reference_wide(net.state_dict(), x), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("size", "kernel"), [(32, 3), (95, 3), (96, 7), (224, 7)])
def test_auto_stem_goes_by_image_size(size: int, kernel: int) -> None:
    with torch.device("meta"):
        net = build_resnet(ResnetConfig(), 10, size)
    assert net.conv1.kernel_size == (kernel, kernel)
    assert hasattr(net, "maxpool") == (kernel == 7)


def test_width_factor_multiplies_every_width() -> None:
    with torch.device("meta"):
        narrow = build_resnet(ResnetConfig(variant="resnet20"), 10, 32).state_dict()
        wide = build_resnet(ResnetConfig(variant="resnet20", width_factor=3), 10, 32).state_dict()
    assert narrow.keys() == wide.keys()
    assert all(wide[name].shape[0] == 3 * narrow[name].shape[0] for name in narrow if name.endswith("conv2.weight"))
    assert wide["fc.weight"].shape == (10, 192)


def test_dropout_stands_in_wide_blocks_and_before_the_classifier_elsewhere() -> None:
    wide = build_resnet(ResnetConfig(variant="wrn16", dropout=0.4), 10, 32)
    plain = build_resnet(ResnetConfig(variant="resnet20", dropout=0.4), 10, 32)
    assert [m.p for m in wide.modules() if isinstance(m, nn.Dropout)] == [0.4] * 6 + [0.0]
    assert [m.p for m in plain.modules() if isinstance(m, nn.Dropout)] == [0.4]
