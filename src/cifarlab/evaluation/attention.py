"""What goes on inside a network: its last feature maps, where in the picture its evidence lies, its features.

References:
    R. R. Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
    arXiv 1610.02391; computed by captum (LayerGradCam).

Shape suffixes: N images, H height, W width, F features, h and w cells of a feature map.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.errors import MissingExtraError
from cifarlab.inference import Classifier

_FEWEST_CELLS = 4
"""A side: a coarser map hardly tells one part of a picture from another."""


def last_maps(network: nn.Module, images_NCHW: torch.Tensor) -> tuple[nn.Module, tuple[int, int]]:
    """Find the module that gives the network's last feature maps of at least 4 x 4 cells.

    Modules are taken in the order in which they finish; those that run more than once are passed over, for which of
    their outputs is meant would not be clear. Where all maps are coarser, the last ones are taken.

    Args:
        network: From normalised images to logits.
        images_NCHW: A batch it can take, float.

    Returns:
        The module, and height and width of its maps.

    Raises:
        ValueError: If no module gives feature maps.
    """
    finished: list[tuple[nn.Module, tuple[int, int]]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            finished.append((module, (output.shape[2], output.shape[3])))

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.inference_mode():
            network(images_NCHW)
    finally:
        for hook in hooks:
            hook.remove()
    times = [id(module) for module, _ in finished]
    once = [(module, size) for module, size in finished if times.count(id(module)) == 1]
    if not once:
        raise ValueError("this network has no feature maps")
    return next((one for one in reversed(once) if min(one[1]) >= _FEWEST_CELLS), once[-1])


def grad_cam(classifier: Classifier, images_NCHW: torch.Tensor, classes_N: torch.Tensor) -> torch.Tensor:
    """Return where in each picture the evidence for a class lies, by Grad-CAM on the last feature maps.

    Args:
        classifier: The model.
        images_NCHW: uint8.
        classes_N: int64, the class to explain for every image.

    Returns:
        float32, N x H x W, at least 0, not scaled; 0 everywhere where the maps hold nothing for the class. On the CPU.

    Raises:
        MissingExtraError: If captum is not installed.
    """
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise MissingExtraError("captum", "explain") from error
    network, preprocess = classifier.model.network, classifier.model.preprocess
    layer, _ = last_maps(network, preprocess(images_NCHW[:1].to(classifier.device)))
    explain = LayerGradCam(network, layer)
    maps = []
    for start in range(0, len(images_NCHW), classifier.batch_size):
        batch = slice(start, start + classifier.batch_size)
        inputs = preprocess(images_NCHW[batch].to(classifier.device))
        cells_N1hw = explain.attribute(inputs, target=classes_N[batch].to(classifier.device), relu_attributions=True)
        size = tuple(images_NCHW.shape[-2:])
        maps.append(F.interpolate(cells_N1hw.detach(), size, mode="bilinear", align_corners=False)[:, 0].cpu())
    return torch.cat(maps).clamp_min(0)


def half_area(maps_NHW: torch.Tensor) -> torch.Tensor:
    """Return the smallest share of each picture that holds half of its map's weight.

    Args:
        maps_NHW: At least 0.

    Returns:
        float64, N, in (0, 1]; near one half for an even map, NaN for one that is 0 everywhere.
    """
    flat_NP = maps_NHW.flatten(1).double().sort(1, descending=True).values
    weights_NP = flat_NP.cumsum(1)
    total_N = weights_NP[:, -1]
    # a little slack, so that rounding in the sums does not cost a pixel
    needed_N = (weights_NP < 0.5 * (1 - 1e-9) * total_N[:, None]).sum(1) + 1
    return torch.where(total_N > 0, needed_N.double() / flat_NP.shape[1], torch.nan)


def features(classifier: Classifier, images_NCHW: torch.Tensor) -> torch.Tensor:
    """Return what the network's last linear layer is given (float32, N x F, on the CPU) for uint8 images."""
    num_classes = len(classifier.class_names)
    linear = [m for m in classifier.model.network.modules() if isinstance(m, nn.Linear)]
    last = [module for module in linear if module.out_features == num_classes][-1]
    seen: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().float().cpu()))
    try:
        with torch.inference_mode():
            for start in range(0, len(images_NCHW), classifier.batch_size):
                classifier.model(images_NCHW[start : start + classifier.batch_size].to(classifier.device))
    finally:
        hook.remove()
    return torch.cat(seen).clone()
