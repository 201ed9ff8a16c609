"""The whitened speed-run network.

References:
    K. Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498; KellerJordan/cifar10-airbench
    (airbench94_muon.py). D. Page, "How to train your ResNet" (2018-2019), davidcpage/cifar10-fast, for whitening.

Shape suffixes: N images, C channels, H height, W width, K classes, D patch values.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import SpeednetConfig
from cifarlab.errors import ConfigError
from cifarlab.models import fused
from cifarlab.models.convolution import Conv3x3
from cifarlab.models.layers import ACTIVATIONS

_WHITEN_EPS = 5e-4


def _batch_norm(width: int, momentum: float) -> nn.BatchNorm2d:
    """Batch norm with a bias but no learned scale: the convolution before it already sets the scale."""
    norm = nn.BatchNorm2d(width, eps=1e-12, momentum=momentum)
    norm.weight.requires_grad_(False)
    return norm


def _dirac_conv(width_in: int, width_out: int) -> Conv3x3:
    """3x3 convolution whose first filters pass their input through unchanged."""
    conv = Conv3x3(width_in, width_out)
    nn.init.dirac_(conv.weight[:width_in])
    return conv


class Whitening(nn.Conv2d):
    """Convolution whose filters are fixed and whose bias is trained, or not from some step on.

    Attributes:
        learns: Whether the bias is trained.
    """

    def __init__(self, config: SpeednetConfig) -> None:
        super().__init__(3, config.whiten_channels, config.whiten_kernel, stride=config.whiten_stride)
        self.weight.requires_grad_(False)
        self.bias = nn.Parameter(torch.zeros(config.whiten_channels))
        self.learns = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve N x 3 x H x W, as nn.Conv2d does."""
        bias = self.bias
        if bias is not None and not self.learns:
            bias = bias.detach()  # what torch.compile of torch 2.10 tells apart: not requires_grad
        y: torch.Tensor = self._conv_forward(x, self.weight, bias)
        return y


class Group(nn.Module):
    """Convolution and 2x2 max pooling, then none, one, or a residual pair of convolutions, each with batch norm.

    Attributes:
        fused: Whether to train with the compiled loops of :mod:`cifarlab.models.fused` where they are right.
    """

    def __init__(self, width_in: int, width_out: int, config: SpeednetConfig, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        self.conv1 = _dirac_conv(width_in, width_out)
        self.norm1 = _batch_norm(width_out, config.bn_momentum)
        self.convs = config.convs
        if config.convs >= 2:
            self.conv2 = _dirac_conv(width_out, width_out)
            self.norm2 = _batch_norm(width_out, config.bn_momentum)
        if config.convs == 3:
            self.conv3 = _dirac_conv(width_out, width_out)
            self.norm3 = _batch_norm(width_out, config.bn_momentum)
        self.kind, self.activation = config.activation, ACTIVATIONS[config.activation]()
        self.fused = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Halve the image, N x C_in x H x W to N x C_out x H/2 x W/2, or keep its size where nothing is pooled."""
        x = self.conv1(x)
        if self.pool:
            x = fused.max_pool(x) if self._can_fuse(x, self.norm1) else F.max_pool2d(x, 2)
        x = shortcut = self._norm_activate(x, self.norm1)
        if self.convs >= 2:
            x = self._norm_activate(self.conv2(x), self.norm2)
        if self.convs == 3:
            x = self._norm_activate(self.conv3(x), self.norm3, shortcut)
        return x

    def _can_fuse(self, x: torch.Tensor, norm: nn.BatchNorm2d) -> bool:
        return self.fused and self.kind in fused.ACTIVATIONS and fused.can_fuse(x, norm)

    def _norm_activate(
        self, x: torch.Tensor, norm: nn.BatchNorm2d, shortcut: torch.Tensor | None = None
    ) -> torch.Tensor:
        if self._can_fuse(x, norm):
            return fused.norm_activate(x, norm, self.kind, shortcut_NCHW=shortcut)
        x = norm(x)
        y: torch.Tensor = self.activation(x if shortcut is None else x + shortcut)
        return y


class Speednet(nn.Module):
    """Frozen patch-whitening convolution, three groups, global max pooling, linear head with scaled logits."""

    def __init__(self, config: SpeednetConfig, num_classes: int) -> None:
        super().__init__()
        self.whiten = Whitening(config)
        self.kind, self.activation = config.activation, ACTIVATIONS[config.activation]()
        widths = (config.whiten_channels, *config.widths)
        first_pools = config.whiten_stride == 1
        self.groups = nn.Sequential(
            *(Group(i, o, config, pool=n > 0 or first_pools) for n, (i, o) in enumerate(pairwise(widths)))
        )
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        # unit variance at the logits for unit-variance features, whatever the width
        nn.init.normal_(self.head.weight, std=widths[-1] ** -0.5)
        self.logit_scale = config.logit_scale

    def fuse(self, on: bool) -> None:
        """Train with compiled loops, or without them again; what is computed is the same up to rounding."""
        for group in self.groups:
            assert isinstance(group, Group)
            group.fused = on

    @property
    def has_loops(self) -> bool:
        """Whether there are compiled loops for the activation."""
        return self.kind in fused.ACTIVATIONS

    def train_whitening(self, on: bool) -> None:
        """Train the bias of the first layer from here on, or leave it as it is."""
        assert self.whiten.bias is not None
        self.whiten.bias.requires_grad_(on)
        self.whiten.learns = on

    def fit_whitening(self, images_NCHW: torch.Tensor) -> None:
        """Set the first layer to whitening filters and their negatives.

        The filters are the eigenvectors of the patch covariance, strongest first, scaled to unit output variance.

        Args:
            images_NCHW: Normalised images, float, N x 3 x H x W; some thousands.
        """
        kernel, half = self.whiten.kernel_size[0], self.whiten.out_channels // 2
        patches_ND = F.unfold(images_NCHW, kernel, stride=2).transpose(1, 2).flatten(0, 1).double()
        covariance_DD = patches_ND.T @ patches_ND / len(patches_ND)
        eigenvalues_D, eigenvectors_DD = torch.linalg.eigh(covariance_DD)
        filters_DD = (eigenvectors_DD / torch.sqrt(eigenvalues_D + _WHITEN_EPS)).T.flip(0)
        filters = filters_DD[:half].reshape(-1, *self.whiten.weight.shape[1:]).to(self.whiten.weight)
        self.whiten.weight.data.copy_(torch.cat([filters, -filters]))

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Return logits, N x K, for normalised images, N x 3 x H x W; H and W are at least 9 by default."""
        x = self.groups(self.activation(self.whiten(images_NCHW)))
        return torch.as_tensor(self.head(x.amax((2, 3))) * self.logit_scale)


def build_speednet(config: SpeednetConfig, num_classes: int, image_size: int) -> Speednet:
    """Build the network; its whitening layer is to be set with :meth:`Speednet.fit_whitening`."""
    poolings = 3 if config.whiten_stride == 1 else 2
    smallest = (2**poolings - 1) * config.whiten_stride + config.whiten_kernel
    if image_size < smallest:
        raise ConfigError(f"speednet needs images of at least {smallest} pixels, not {image_size}; set data.image_size")
    return Speednet(config, num_classes)
