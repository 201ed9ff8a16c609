"""Inference: from images to logits, with test-time views, and Classifier, a Run opened for prediction.

Shape suffixes: N images, M selected images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from cifarlab.config import Config, ModelConfig
from cifarlab.config_yaml import config_from_dict, config_to_dict
from cifarlab.device import autocast, choose_device, keep_freed_memory
from cifarlab.errors import ConfigError, RunError
from cifarlab.models import ImageClassifier, build_model
from cifarlab.run import Run

Views = Literal["none", "flip", "flip_translate"]

_PLAIN_PART: dict[Views, int] = {
    "flip": 2,
    "flip_translate": 4,
}  # the image as it is has one half, one quarter of the weight


def predict_logits(
    model: nn.Module,
    images_NCHW: torch.Tensor,
    *,
    views: Views = "none",
    views_margin: float = 1.0,
    batch_size: int = 200,
    precision: str = "fp32",
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute logits, plain and averaged over test-time views.

    'flip' averages the logits of an image and of its mirror image. 'flip_translate' gives one half of the weight to
    that average and one half to the same average over the image shifted by a pixel to the lower right and to the
    upper left, borders reflected: six views.

    Args:
        model: Images in, logits out; on ``device``. Its train or eval mode is left as it was.
        images_NCHW: uint8, N x 3 x H x W, N at least 1, on any device.
        views: Which views to average.
        views_margin: In [0, 1]: only images whose two highest plain probabilities differ by at most this get the extra
            views, the others keep their plain logits. A rule for each image alone: no answer depends on its batch.
        batch_size: Images per forward pass.
        precision: 'fp32', 'bf16' or 'fp16', of convolutions and products.
        device: Where to compute.

    Returns:
        Plain logits, and view-averaged logits (None for views 'none'): float32, N x K, on the CPU.

    References:
        KellerJordan/cifar10-airbench, airbench94_muon.py (the views); hiverge cifar10-speedrun (views for
        uncertain images only; a share of the batch there, a margin here).
    """
    if device.type == "cpu":
        keep_freed_memory()
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast(device, precision):
            plain_NK = _in_batches(model, images_NCHW, batch_size, device)
            averaged_NK = None if views == "none" else plain_NK.clone()
            chosen_M = uncertain(plain_NK, views_margin).nonzero().flatten()
            if averaged_NK is not None and len(chosen_M):
                images_MCHW = images_NCHW[chosen_M.to(images_NCHW.device)]
                extra_MK = _in_batches(partial(_extra_views, model, views), images_MCHW, batch_size, device)
                averaged_NK[chosen_M] = plain_NK[chosen_M] / _PLAIN_PART[views] + extra_MK
    finally:
        model.train(training)
    # clones made outside of inference mode are ordinary tensors: a temperature can be fitted on them with autograd
    return plain_NK.cpu().clone(), None if averaged_NK is None else averaged_NK.cpu().clone()


def _in_batches(
    function: Callable[[torch.Tensor], torch.Tensor], images_NCHW: torch.Tensor, batch_size: int, device: torch.device
) -> torch.Tensor:
    """Return logits, float32, N x K, on ``device``; nothing waits for the device in between."""
    batches = (images_NCHW[start : start + batch_size] for start in range(0, len(images_NCHW), batch_size))
    return torch.cat([function(batch.to(device, non_blocking=True)).float() for batch in batches])


def uncertain(logits_NK: torch.Tensor, margin: float) -> torch.Tensor:
    """Return which rows (bool, N) have their two highest probabilities no further apart than ``margin``."""
    top_N2 = logits_NK.softmax(1).topk(2, dim=1).values
    return top_N2[:, 0] - top_N2[:, 1] <= margin


def _extra_views(model: nn.Module, views: Views, images_NCHW: torch.Tensor) -> torch.Tensor:
    """Return the part of the averaged logits that does not come from the images as they are."""
    mirrored_NK = model(images_NCHW.flip(-1)).float()
    if views == "flip":
        return torch.as_tensor(mirrored_NK / 2)
    shifted_NK = torch.stack([model(view).float() for view in _shifted_views(images_NCHW)]).mean(0)
    return torch.as_tensor(mirrored_NK / 4 + shifted_NK / 2)


def _shifted_views(images_NCHW: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the images shifted by (+1, +1) and by (-1, -1) pixels, borders reflected, each also mirrored."""
    for shift in (1, -1):
        shifted = images_NCHW
        for dim in (-2, -1):
            last = images_NCHW.shape[dim] - 1
            source = torch.arange(last + 1, device=images_NCHW.device) - shift
            # reflection without repeating the border: -1 reads 1, last + 1 reads last - 1
            shifted = shifted.index_select(dim, last - (last - source.abs()).abs())
        yield shifted
        yield shifted.flip(-1)


def model_metadata(config: Config, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return what model.safetensors must say, beside the weights, so that the model can be built from it alone.

    Args:
        config: The run's configuration; what its model was initialised from is left out, for it changes no shape.
        class_names: K names in label order.
    """
    architecture = dataclasses.replace(config.model, init="")
    return {
        "model": config_to_dict(architecture),
        "class_names": list(class_names),
        "image_size": config.data.image_size,
    }


def load_model(run: Run) -> tuple[ImageClassifier, tuple[str, ...]]:
    """Build the model of a run with its weights, on the CPU, in eval mode.

    Args:
        run: A run that has its model.safetensors.

    Returns:
        The model and the class names in label order.

    Raises:
        RunError: If the model is missing or damaged, or was not written by this package, or has weights such as NaN.
    """
    tensors, metadata = run.load_model()
    config, class_names, image_size = _read_metadata(run, metadata)
    try:
        # building draws initial weights, all of which are replaced: the caller's random numbers must not move
        with torch.random.fork_rng(devices=[]):
            model = build_model(config, len(class_names), image_size)
        model.load_state_dict(tensors)
    except (ConfigError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{run.path / 'model.safetensors'} does not fit its own description: {reason}") from error
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise RunError(f"the weights of {run.path} are not all finite; train anew with a lower --optimizer.lr")
    return model.eval(), class_names


def _read_metadata(run: Run, metadata: dict[str, Any]) -> tuple[ModelConfig, tuple[str, ...], int]:
    try:
        config = config_from_dict({"model": metadata["model"]}).model
        class_names = tuple(str(name) for name in metadata["class_names"])
        image_size = int(metadata["image_size"])
    except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
        path = run.path / "model.safetensors"
        raise RunError(f"{path} does not describe its model ({error}); it was not written by cifarlab train") from error
    return config, class_names, image_size


class Classifier:
    """A Run opened for prediction.

    It computes in fp32 and decides on test-time views image by image, so an answer depends neither on the images asked
    with it nor on the machine's fast formats.

    Attributes:
        run: The run.
        model: The run's model, in eval mode, on ``device``.
        device: Where it computes.
        class_names: K names in label order.
        image_size: Height and width in pixels to which images are to be brought.
        resize: How an image that is not square is to be made so: 'squash', 'crop' or 'letterbox'.
        views, views_margin: The run's test-time views, and how uncertain an image must be to get them.
        batch_size: Images per forward pass.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        model, self.class_names = load_model(run)
        config = run.config
        self.run = run
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        self.image_size = model.preprocess.image_size
        self.resize = config.data.resize
        self.views: Views = config.evaluate.views
        self.views_margin = config.evaluate.views_margin
        self.batch_size = config.evaluate.batch_size

    @classmethod
    def load(cls, run: Run | Path | str, device: str = "auto") -> Classifier:
        """Open a run, its folder, or the name of a folder below the runs folder.

        Args:
            run: Which run.
            device: 'auto', 'cpu', 'cuda' or 'mps'.

        Raises:
            RunError: If there is no such run, or it has no model yet.
            UsageError: If this machine does not have the device.
        """
        return cls(run if isinstance(run, Run) else Run.open(run), choose_device(device))

    def logits(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Return logits (float32, N x K, on the CPU) of images (uint8, N x 3 x H x W) with the run's views."""
        plain_NK, averaged_NK = predict_logits(
            self.model,
            images_NCHW,
            views=self.views,
            views_margin=self.views_margin,
            batch_size=self.batch_size,
            device=self.device,
        )
        return plain_NK if averaged_NK is None else averaged_NK

    def probabilities(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Return the softmax of :meth:`logits`: float32, N x K, on the CPU, rows summing to 1."""
        return self.logits(images_NCHW).softmax(1)
