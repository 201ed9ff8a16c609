"""Whether images, network and settings go together, asked before anything is written."""

from __future__ import annotations

import re

import torch

from cifarlab.config import Config
from cifarlab.data.imageset import ImageSet
from cifarlab.data.loader import make_plan
from cifarlab.errors import ConfigError
from cifarlab.models import ImageClassifier, build_model
from cifarlab.models.convnet import Convnet


def require_suitable(config: Config, train: ImageSet) -> None:
    """Check that shifts stay within the images, and that the model takes every size and batch it is to be trained at.

    Raises:
        ConfigError: If not.
    """
    smallest_side = min(train.images_NCHW.shape[2:])
    if config.augment.translate >= smallest_side:
        raise ConfigError(
            f"augment.translate must be less than the images' {smallest_side} pixels, not {config.augment.translate}"
        )
    # a trial model draws weights, and a trial batch dropout; not on the meta device, where drawing loads the compiler
    with torch.random.fork_rng(devices=[]):
        require_low_resolutions(config, train.num_classes)
        if make_plan(config, len(train)).batch_size == 1:
            sizes = {config.data.image_size, *(size for _, size in config.train.low_resolution)}
            smallest = min(sizes)  # whose maps are the smallest
            _require_batch_of_one(build_model(config.model, train.num_classes, smallest), smallest)


def require_low_resolutions(config: Config, num_classes: int) -> None:
    """Check that the model can be trained at every size of train.low_resolution.

    Raises:
        ConfigError: If not.
    """
    for _, size in config.train.low_resolution:
        _require_low_resolution(config, num_classes, size)


def _require_low_resolution(config: Config, num_classes: int, size: int) -> None:
    try:
        network = build_model(config.model, num_classes, size).network
    except ConfigError as error:
        cause = re.split("[:;] ", str(error))[0]  # what follows is advice on data.image_size
        raise ConfigError(f"{cause}; take larger sizes than {size} in train.low_resolution") from error
    if isinstance(network, Convnet) and not network.average and size != config.data.image_size:
        raise ConfigError(
            f"train.low_resolution needs a network that takes {size} as well as {config.data.image_size} pixels; "
            "set model.convnet.head to average, or leave low_resolution out"
        )


def _require_batch_of_one(model: ImageClassifier, size: int) -> None:
    """Check that batch norm has more than one value a channel in a batch of one image."""
    try:
        with torch.no_grad():
            model.network(torch.zeros(1, 3, size, size))
    except ValueError as error:  # torch's, whose name for it is 'more than 1 value per channel'
        raise ConfigError(
            f"one image of {size} pixels a step leaves batch norm a single value to take statistics of; "
            "set train.batch_size to 2 or more"
        ) from error
