"""Training batches: the whole set on the device, one augmented batch per step, each a function of seed and step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from cifarlab.config import Config
from cifarlab.data.augment import Part, augment_batch, looks_at_whole_batch, without_waiting
from cifarlab.data.imageset import ImageSet
from cifarlab.seeding import derive_generator


@dataclass(frozen=True)
class Plan:
    """How many steps of how many images a run has."""

    batch_size: int
    steps_per_epoch: int
    num_steps: int

    @property
    def num_epochs(self) -> int:
        """Epochs begun, the last of which may be a part."""
        return math.ceil(self.num_steps / self.steps_per_epoch)

    def epoch_end(self, step: int) -> int:
        """Return the step at which the epoch that contains ``step`` ends."""
        return min((step // self.steps_per_epoch + 1) * self.steps_per_epoch, self.num_steps)


def make_plan(config: Config, num_images: int) -> Plan:
    """Return the plan; incomplete batches are dropped, so that all batches have one shape."""
    batch_size = min(config.train.batch_size, num_images)
    steps_per_epoch = num_images // batch_size
    return Plan(batch_size, steps_per_epoch, max(1, round(config.train.epochs * steps_per_epoch)))


class BatchLoader:
    """Augmented batches of a training set.

    Args:
        train: The images; they are moved to the device once.
        config: Seed of the order, and augmentation.
        device: Where batches are made.
        rows: Which rows of every batch to make, where other processes make the others; all if None.
    """

    def __init__(self, train: ImageSet, config: Config, device: torch.device, rows: slice | None = None) -> None:
        self.plan = make_plan(config, len(train))
        self._rows = slice(0, self.plan.batch_size) if rows is None else rows
        self._images_NCHW, self._labels_N = train.images_NCHW.to(device), train.labels_N.to(device)
        self._num_classes = train.num_classes
        self._config, self._device = config, device
        self._epoch = -1
        self._order_N = self._flip_N = torch.empty(0)

    def _start_epoch(self, epoch: int) -> None:
        """Draw the order, and which images alternating flip mirrors: by coin in epoch 0, in turn afterwards."""
        seed, num = self._config.train.seed, len(self._labels_N)
        self._epoch = epoch
        order_N = torch.randperm(num, generator=derive_generator(seed, "order", epoch))
        self._order_N = without_waiting(order_N, self._device)
        coin_N = torch.rand(num, generator=derive_generator(seed, "flip")) < 0.5
        self._flip_N = without_waiting(coin_N ^ bool(epoch % 2), self._device)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the batch of a step, or this loader's rows of it: the same as if the whole were made and cut.

        Args:
            step: Which step of the run.

        Returns:
            Images (float32 in [0, 1], N x 3 x H x W), targets (labels, or N x K probabilities where images are mixed),
            and the labels (int64, N) of the unmixed images.
        """
        epoch, position = divmod(step, self.plan.steps_per_epoch)
        if epoch != self._epoch:
            self._start_epoch(epoch)
        size, augment = self.plan.batch_size, self._config.augment
        index_N = self._order_N[position * size : (position + 1) * size]
        cut_after = looks_at_whole_batch(augment)
        part = None if cut_after else Part(self._rows, size)
        index_N = index_N if cut_after else index_N[self._rows]
        labels_N = self._labels_N[index_N]
        flip_N = self._flip_N[index_N] if augment.flip == "alternating" else None
        generator = derive_generator(self._config.train.seed, "augment", step)
        images_NCHW, targets = augment_batch(
            self._images_NCHW.index_select(0, index_N), labels_N, flip_N, augment, self._num_classes, generator, part
        )
        if cut_after:
            images_NCHW, targets, labels_N = images_NCHW[self._rows], targets[self._rows], labels_N[self._rows]
        return images_NCHW, targets, labels_N
