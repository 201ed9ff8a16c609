"""Randomness as a function of position: every draw comes from a seed derived from (seed, purpose, position).

Nothing has to be carried along between two draws, so a run that resumes at step 1000 draws what it would have drawn.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, purpose: str, *position: int) -> int:
    """Return a 63-bit seed that depends on all arguments and on nothing else."""
    text = "/".join([str(seed), purpose, *map(str, position)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_generator(seed: int, purpose: str, *position: int) -> torch.Generator:
    """Return a CPU generator seeded by :func:`derive_seed`; draws are the same whatever the device of the run."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *position))
