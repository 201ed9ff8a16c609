"""A split's answers as checked arrays, and what its images are called.

Shape suffixes: N images, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cifarlab.errors import DataError
from cifarlab.evaluation.section import Scored, Subject

_CALLED = {"test": "test image", "val": "validation image"}


def arrays_of(scored: Scored, where: str, num_classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return answers as arrays, after making sure that figures can be computed from them.

    Args:
        scored: Logits and labels.
        where: Name of the split, for messages.
        num_classes: K.

    Returns:
        Logits, float64, N x K, all finite; labels, int64, N, range 0..K-1. At least one image.

    Raises:
        DataError: If shapes do not fit, a logit is NaN or infinite, or a label is out of range; one line.
    """
    logits_NK = scored.logits_NK.detach().cpu().double().numpy()
    labels_N = scored.labels_N.detach().cpu().numpy().astype(np.int64)
    if logits_NK.ndim != 2 or logits_NK.shape != (len(labels_N), num_classes) or not len(labels_N):
        shape = " x ".join(map(str, logits_NK.shape))
        raise DataError(
            f"the answers on {where} are {shape} numbers for {len(labels_N):,} labels and {num_classes} classes; "
            "one row an image and one column a class are needed, of one image at least"
        )
    finite_N = np.isfinite(logits_NK).all(1)
    if not finite_N.all():
        raise DataError(
            f"{int((~finite_N).sum()):,} of the {len(labels_N):,} answers on {where} are NaN or infinite, the first "
            f"of image {int(finite_N.argmin())}; a model that gives such answers must be trained anew"
        )
    if not 0 <= labels_N.min() <= labels_N.max() < num_classes:
        raise DataError(
            f"the labels on {where} run from {labels_N.min()} to {labels_N.max()}, but {num_classes} classes are "
            f"0 to {num_classes - 1}"
        )
    return logits_NK, labels_N


def probabilities_of(scored: Scored, logits_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities by which answers are put in order: a file's own, whose ties are kept, or the softmax.

    Args:
        scored: Answers.
        logits_NK: Their logits from :func:`arrays_of`.

    Returns:
        float64, N x K; rows sum to 1, but for rounding.
    """
    from scipy.special import softmax

    own_NK = scored.probabilities_NK
    probabilities_NK: NDArray[np.float64] = softmax(logits_NK, axis=1) if own_NK is None else own_NK.numpy()
    return probabilities_NK


def confidences(logits_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the highest probability of every row of logits: float64, N."""
    from scipy.special import softmax

    highest_N: NDArray[np.float64] = softmax(logits_NK, axis=1).max(1)
    return highest_N


def no_better_than_chance(answers_N: NDArray[np.int64], labels_N: NDArray[np.int64], num_classes: int) -> bool:
    """Return whether answers fit the labels no better than if they were dealt out to the images at random.

    That is by less than three standard errors; answers that are all right are better in any case.
    """
    said_K, true_K = (np.bincount(one, minlength=num_classes) / len(labels_N) for one in (answers_N, labels_N))
    chance = float(said_K @ true_K)
    right = float((answers_N == labels_N).mean())
    return right < 1 and right <= chance + 3 * (max(chance * (1 - chance), 0) / len(labels_N)) ** 0.5


def judged_on_val(subject: Subject) -> bool:
    """Return whether what is fitted or chosen on val would be judged by the very images it was fitted on.

    Files of answers may hold the same ones twice over, so what they say is compared.
    """
    judged, val = subject.judged, subject.val
    if val is None or subject.split == "val" or val is judged:
        return val is not None
    same_labels = np.array_equal(judged.labels_N.numpy(), val.labels_N.numpy())
    return same_labels and np.array_equal(judged.logits_NK.cpu().numpy(), val.logits_NK.cpu().numpy())


def images_of(split: str, count: int) -> str:
    """Return "10,000 test images", "one validation image", "500 images"."""
    called = _CALLED.get(split, "image")
    return f"one {called}" if count == 1 else f"{count:,} {called}s"


def no_val(split: str) -> str:
    """Say that there are no validation images, and how to get some."""
    remedy = "give answers to them with --val-answers" if split == "given" else "train with data.val_fraction above 0"
    return f"there are no validation images ({remedy})"
