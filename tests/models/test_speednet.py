"""Speednet: whitening, pass-through initialisation, shape."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cifarlab.config import SpeednetConfig
from cifarlab.errors import ConfigError
from cifarlab.models.speednet import Speednet, build_speednet


def natural_images(count: int = 200, size: int = 16) -> torch.Tensor:
    """Smooth correlated images of zero mean and unit variance."""
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.randn(count, 3, 6, 6, generator=generator), (size, size), mode="bilinear")
    images = images + 0.5 * images.mean(1, keepdim=True) + 0.1 * torch.randn(images.shape, generator=generator)
    return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)


@pytest.fixture(scope="module")
def fitted() -> Speednet:
    torch.manual_seed(0)
    net = build_speednet(SpeednetConfig(widths=(32, 40, 48)), 10, 16)
    net.fit_whitening(natural_images())
    return net


def test_whitened_patches_have_unit_covariance(fitted: Speednet) -> None:
    outputs = F.conv2d(natural_images(), fitted.whiten.weight[:12], stride=2)  # the patches it was fitted on
    values = outputs.transpose(0, 1).flatten(1).double()
    covariance = values @ values.T / values.shape[1]
    # eigenvalue / (eigenvalue + 5e-4), and no eigenvalue here is below the noise's 0.01
    torch.testing.assert_close(covariance, torch.eye(12, dtype=torch.float64), atol=0.05, rtol=0)
    assert covariance.diagonal().max() < 1 + 1e-5


def test_raw_patches_are_far_from_white() -> None:
    values = F.unfold(natural_images(), 2, stride=2).transpose(0, 1).flatten(1)
    assert (values @ values.T / values.shape[1] - torch.eye(12)).abs().max() > 0.5


def test_second_half_of_the_filters_is_the_negative(fitted: Speednet) -> None:
    weight = fitted.whiten.weight
    assert weight.shape == (24, 3, 2, 2)
    assert torch.equal(weight[12:], -weight[:12])


def test_filters_are_ordered_by_falling_variance(fitted: Speednet) -> None:
    # a filter is a unit eigenvector over the root of its eigenvalue, so its norm falls with the variance it sees
    norms = fitted.whiten.weight[:12].flatten(1).norm(dim=1)
    assert (norms.diff() >= -1e-5).all()


def test_flat_images_do_not_blow_up_the_filters() -> None:
    net = build_speednet(SpeednetConfig(widths=(8, 8, 8)), 2, 16)
    net.fit_whitening(torch.ones(10, 3, 16, 16))
    assert net.whiten.weight.isfinite().all()
    assert net.whiten.weight.abs().max() <= 5e-4**-0.5 * 1.001


@pytest.mark.parametrize("convs", [2, 3])
@pytest.mark.parametrize("widths", [(24, 32, 40), (64, 32, 16)])
def test_first_filters_of_every_convolution_pass_their_input(convs: int, widths: tuple[int, int, int]) -> None:
    net = build_speednet(SpeednetConfig(widths=widths, convs=convs), 10, 32)
    for group in net.groups:
        for index in range(1, convs + 1):
            conv = getattr(group, f"conv{index}")
            x = torch.randn(2, conv.in_channels, 7, 7)
            passed = min(conv.in_channels, conv.out_channels)
            torch.testing.assert_close(conv(x)[:, :passed], x[:, :passed], atol=1e-6, rtol=0)
            assert conv.bias is None


def test_widths_and_parameter_count_are_the_published_ones() -> None:
    with torch.device("meta"):
        net = build_speednet(SpeednetConfig(), 10, 32)
    shapes = [(g.conv1.in_channels, g.conv1.out_channels, g.conv2.out_channels) for g in net.groups]
    assert shapes == [(24, 64, 64), (64, 256, 256), (256, 256, 256)]
    assert not hasattr(net.groups[0], "conv3")
    scales = sum(norm.weight.numel() for g in net.groups for norm in (g.norm1, g.norm2))
    assert sum(p.numel() for p in net.parameters()) - scales == 1_971_640  # 1.97 million; batch norm has no scale


def test_only_whitening_filters_and_norm_scales_are_frozen() -> None:
    net = build_speednet(SpeednetConfig(convs=3), 10, 32)
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert frozen == {"whiten.weight"} | {f"groups.{g}.norm{n}.weight" for g in range(3) for n in (1, 2, 3)}
    assert all(torch.equal(p, torch.ones_like(p)) for n, p in net.named_parameters() if "norm" in n and "weight" in n)


def test_forward_agrees_with_the_written_description() -> None:
    torch.manual_seed(0)
    net = build_speednet(SpeednetConfig(widths=(8, 12, 16), convs=3, logit_scale=0.25), 5, 33).double().eval()
    state = net.state_dict()

    def conv_norm(x: torch.Tensor, group: int, index: int, pool: bool = False) -> torch.Tensor:
        x = F.conv2d(x, state[f"groups.{group}.conv{index}.weight"], padding=1)
        x = F.max_pool2d(x, 2) if pool else x
        return x / (1 + 1e-12) ** 0.5 + state[f"groups.{group}.norm{index}.bias"].view(1, -1, 1, 1)

    images = torch.randn(2, 3, 33, 33, dtype=torch.float64)
    x = F.gelu(F.conv2d(images, state["whiten.weight"], state["whiten.bias"]))
    for group in range(3):
        x = F.gelu(conv_norm(x, group, 1, pool=True))
        x = F.gelu(conv_norm(F.gelu(conv_norm(x, group, 2)), group, 3) + x)
    torch.testing.assert_close(net(images), x.flatten(2).max(2).values @ state["head.weight"].T * 0.25)


@pytest.mark.parametrize("size", [9, 10, 16, 31, 47, 64])
def test_any_size_from_nine_pixels(size: int) -> None:
    assert build_speednet(SpeednetConfig(widths=(8, 8, 8)), 3, size)(torch.randn(2, 3, size, size)).shape == (2, 3)


def test_smaller_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 9 pixels, not 8"):
        build_speednet(SpeednetConfig(), 10, 8)


def test_strided_whitening_halves_the_image_in_place_of_the_first_pooling() -> None:
    config = SpeednetConfig(widths=(8, 8, 8), whiten_kernel=4, whiten_stride=2, whiten_channels=48)
    net = build_speednet(config, 10, 32)
    assert net.whiten.weight.shape == (48, 3, 4, 4)
    x = net.whiten(torch.zeros(2, 3, 32, 32))
    sizes = []
    for group in net.groups:
        x = group(x)
        sizes.append(x.shape[-1])
    assert sizes == [15, 7, 3]


def test_fewer_whitening_channels_keep_the_strongest_components() -> None:
    full = build_speednet(SpeednetConfig(widths=(8, 8, 8)), 2, 16)
    some = build_speednet(SpeednetConfig(widths=(8, 8, 8), whiten_channels=8), 2, 16)
    full.fit_whitening(natural_images())
    some.fit_whitening(natural_images())
    torch.testing.assert_close(some.whiten.weight[:4], full.whiten.weight[:4])
    torch.testing.assert_close(some.whiten.weight[4:], -full.whiten.weight[:4])


@pytest.mark.parametrize("channels", [7, 0, 26])
def test_impossible_numbers_of_whitening_channels_are_refused(channels: int) -> None:
    with pytest.raises(ConfigError, match="whiten_channels"):
        SpeednetConfig(whiten_channels=channels)


def test_the_number_of_convolutions_in_a_group_is_what_was_asked() -> None:
    for convs in (1, 2, 3):
        net = build_speednet(SpeednetConfig(widths=(8, 12, 16), convs=convs), 10, 16)
        assert sum(module.kernel_size == (3, 3) for module in net.modules() if isinstance(module, torch.nn.Conv2d)) == (
            3 * convs
        )


@pytest.mark.parametrize(("kernel", "stride", "smallest"), [(2, 1, 9), (3, 1, 10), (4, 2, 10), (3, 2, 9)])
def test_the_smallest_image_is_the_one_that_leaves_a_pixel_to_pool(kernel: int, stride: int, smallest: int) -> None:
    config = SpeednetConfig(widths=(8, 8, 8), whiten_kernel=kernel, whiten_stride=stride)  # type: ignore[arg-type]
    net = build_speednet(config, 10, smallest)
    assert net(torch.randn(2, 3, smallest, smallest)).shape == (2, 10)
    with pytest.raises(ConfigError, match=f"at least {smallest} pixels"):
        build_speednet(config, 10, smallest - 1)
    with pytest.raises(RuntimeError):
        net(torch.randn(2, 3, smallest - 1, smallest - 1))
