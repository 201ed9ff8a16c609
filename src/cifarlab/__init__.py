"""cifarlab trains, proves and ships a small-image classifier in-house.

The public names below are loaded when first used, so that ``import cifarlab`` costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifarlab.commands.evaluate import evaluate
    from cifarlab.commands.predict import predict
    from cifarlab.commands.report import report
    from cifarlab.commands.train import train
    from cifarlab.config import Config
    from cifarlab.data import ImageSet
    from cifarlab.inference import Classifier
    from cifarlab.recipes import load_recipe
    from cifarlab.run import Run

# torch reads this at its first allocation: large tensors in pages of 2 MiB where the kernel has them, which are mapped
# and found faster than 512 small ones each
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "Config",
    "ImageSet",
    "Run",
    "__version__",
    "evaluate",
    "load_recipe",
    "predict",
    "report",
    "train",
]

_MODULES = {
    "Classifier": "inference",
    "Config": "config",
    "ImageSet": "data",
    "Run": "run",
    "evaluate": "commands.evaluate",
    "load_recipe": "recipes",
    "predict": "commands.predict",
    "report": "commands.report",
    "train": "commands.train",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'cifarlab' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cifarlab.{_MODULES[name]}"), name)
