"""Answers to judge, for the tests of the sections that need no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifarlab.evaluation.section import Options, Scored, Subject

Answers = tuple[NDArray[np.float64], NDArray[np.int64]]


def random_answers(num_images: int, num_classes: int, seed: int = 0, skill: float = 2.0) -> Answers:
    """Logits that lean towards the label by ``skill``, and labels; float32 numbers, so that nothing rounds them."""
    generator = np.random.default_rng(seed)
    labels_N = generator.integers(num_classes, size=num_images)
    logits_NK = generator.normal(size=(num_images, num_classes))
    logits_NK[np.arange(num_images), labels_N] += skill
    return logits_NK.astype(np.float32).astype(np.float64), labels_N


def calibrated_answers(num_images: int, num_classes: int, seed: int = 0, scale: float = 2.0) -> Answers:
    """Logits, and labels drawn with the probabilities that these logits state."""
    generator = np.random.default_rng(seed)
    logits_NK = generator.normal(scale=scale, size=(num_images, num_classes)).astype(np.float32).astype(np.float64)
    gumbel_NK = generator.gumbel(size=logits_NK.shape)
    return logits_NK, (logits_NK + gumbel_NK).argmax(1)


def scored(answers: Answers) -> Scored:
    logits_NK, labels_N = answers
    return Scored(torch.from_numpy(np.asarray(logits_NK)).float(), torch.from_numpy(np.asarray(labels_N)))


def subject(answers: Answers, *, val: Answers | str | None = None, split: str = "test", **options: Any) -> Subject:
    """A subject without a model; ``val='same'`` judges val itself."""
    judged = scored(answers)
    names = tuple(f"class {chr(97 + k)}" if k < 26 else f"class {k}" for k in range(judged.logits_NK.shape[1]))
    held = judged if isinstance(val, str) else None if val is None else scored(val)
    return Subject(split, names, judged, held, None, None, Options(**options))
