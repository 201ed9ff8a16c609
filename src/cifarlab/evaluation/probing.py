"""What the sections on robustness share: a subset of the images, the model's plain answers, means with intervals.

Shape suffixes: N images, M chosen images, K classes, F figures, B resamples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.evaluation.arrays import images_of
from cifarlab.evaluation.intervals import NUM_RESAMPLES, bootstrap_figure, percentile_ends
from cifarlab.evaluation.section import Subject
from cifarlab.inference import predict_logits
from cifarlab.seeding import derive_generator, derive_seed

if TYPE_CHECKING:
    from cifarlab.data.imageset import ImageSet
    from cifarlab.inference import Classifier

NO_MODEL = "the model and its images are needed, and only answers are at hand; evaluate the run"
PLAIN = "The model saw each image once, without test-time views, before and after, in fp32."

_BATCH = 256


def model_and_images(subject: Subject) -> tuple[Classifier, ImageSet] | None:
    """Return the model and the split's images; None where only answers are at hand."""
    images = subject.judged.images
    return None if subject.classifier is None or images is None or not len(images) else (subject.classifier, images)


def stratified(labels_N: torch.Tensor, count: int, seed: int, purpose: str) -> torch.Tensor:
    """Choose images at random, of each class as large a share as of all.

    Args:
        labels_N: int64, N.
        count: How many; 0, or more than there are, chooses all.
        seed: Of the choice.
        purpose: What they are chosen for; two purposes give two choices.

    Returns:
        Positions in ascending order: int64, M.
    """
    num = len(labels_N)
    if count == 0 or count >= num:
        return torch.arange(num)
    sizes_K = torch.bincount(labels_N).double()
    quotas_K = sizes_K * count / num
    shares_K = quotas_K.floor()
    # what is left goes to the largest remainders, of equal ones to the first class
    order_K = torch.argsort(quotas_K - shares_K, descending=True, stable=True)
    shares_K[order_K[: count - int(shares_K.sum())]] += 1
    generator = derive_generator(seed, purpose)
    chosen = []
    for label, share in enumerate(shares_K.int().tolist()):
        members = (labels_N == label).nonzero().flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:share]])
    return torch.cat(chosen).sort().values


def measured_on(split: str, chosen: int, total: int) -> tuple[str, ...]:
    """Return the note that only some images of a split were taken; nothing where all were."""
    return (f"Measured on {chosen:,} of {images_of(split, total)}, the same for all.",) if chosen < total else ()


def plain_answers(classifier: Classifier, images_NCHW: torch.Tensor) -> NDArray[np.int64]:
    """Return the class of the largest logit of every image (uint8, N x C x H x W), seen once: int64, N."""
    logits_NK, _ = predict_logits(classifier.model, images_NCHW, batch_size=_BATCH, device=classifier.device)
    return np.asarray(logits_NK.argmax(1).numpy(), np.int64)


def bootstrap_means(values_NF: NDArray[np.float64], seed: int, purpose: str) -> list[dict[str, Any]]:
    """Return the means of figures of every image, with percentile intervals over images drawn anew.

    All figures of an image are drawn together, so it does not matter how they depend on each other.

    Args:
        values_NF: F figures of each image.
        seed: Of the draws.
        purpose: What is drawn.

    Returns:
        F figures as :func:`cifarlab.evaluation.intervals.bootstrap_figure` gives them; no interval where resamples do
        not differ.
    """
    generator = np.random.default_rng(derive_seed(seed, purpose))
    num = len(values_NF)
    means_BF = np.empty((NUM_RESAMPLES, values_NF.shape[1]))
    for resample in range(NUM_RESAMPLES):
        drawn_N = np.bincount(generator.integers(0, num, num), minlength=num)
        means_BF[resample] = drawn_N @ values_NF / num
    return [
        bootstrap_figure(float(mean), percentile_ends(means_B))
        for mean, means_B in zip(values_NF.mean(0), means_BF.T, strict=True)
    ]
