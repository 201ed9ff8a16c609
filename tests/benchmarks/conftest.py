"""The benchmark of time to accuracy as modules."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).resolve().parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    """The program's modules, found as python finds them when it runs the program."""
    sys.path.insert(0, str(FOLDER))
    try:
        names = ("time_to_accuracy", "figures", "arms")
        return SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(FOLDER))
