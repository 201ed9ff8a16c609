"""Answers of others, and the files they come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from tests.evaluation.answers import random_answers

from cifarlab.evaluation.foreign import read_answers_file
from cifarlab.evaluation.section import Scored

LOGITS, LABELS = random_answers(300, 10)
SOFTMAX = softmax(LOGITS, axis=1)


def load(path: Path, labels: Path | str = "") -> tuple[Scored, tuple[str, ...] | None]:
    found = read_answers_file(path, labels)
    return found.scored, found.class_names


def save_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def with_one(values: np.ndarray, value: float) -> np.ndarray:
    changed = values.copy()
    changed[7, 3] = value
    return changed
