"""Fixtures shared by all tests: a tiny learnable image set, and small configurations."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import os

# two test processes share two cores, and so do the processes they start; numpy asks when it is first imported
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from cifarlab.config import Config, DataConfig, ModelConfig, SpeednetConfig, TrainConfig
from cifarlab.data import ImageSet, SourceData, Splits
from cifarlab.data.splits import make_splits

CLASS_NAMES = ("red", "green", "blue")


def make_images(count: int, seed: int, size: int = 16) -> ImageSet:
    """Noise whose class shows in the brightest channel: learnable in a few steps, not trivial in one."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 160, (count, 3, size, size), generator=generator)
    images[torch.arange(count), labels, 4:12, 4:12] += 80
    return ImageSet(images.to(torch.uint8), labels, CLASS_NAMES)


torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With --dist loadgroup the tests of a file run on one worker, which loads what they need and makes it once."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem.removeprefix("test_")))


def pytest_collection_finish():
    """What was imported stays: the garbage collector need not look through a million objects again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _runs_folders(tmp_path_factory):
    """Names of folders, none of which exists: to make one for every test takes longer than most tests."""
    root = tmp_path_factory.mktemp("private")
    return (root / str(number) / "runs" for number in itertools.count())


@pytest.fixture(autouse=True)
def _private_folders(_runs_folders, monkeypatch):
    """No test reads or writes the user's runs, data or cache unless it asks to."""
    monkeypatch.setenv("CIFARLAB_RUNS", str(next(_runs_folders)))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(autouse=True)
def _without_fsync(monkeypatch):
    """What is written need not survive the end of the machine, only that of a process."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def without_curves(monkeypatch):
    """Train without drawing the curves, which takes longer than the training of a tiny network."""
    from cifarlab.commands import train as train_module

    monkeypatch.setattr(train_module, "_draw_curves", lambda records, run: None)


@pytest.fixture
def source() -> SourceData:
    return SourceData(train=make_images(120, seed=1), val=None, test=make_images(60, seed=2), origin="tiny")


@pytest.fixture
def splits(source: SourceData) -> Splits:
    return make_splits(source, DataConfig(image_size=16))


@pytest.fixture
def config() -> Config:
    return Config(
        recipe="tiny",
        data=DataConfig(image_size=16),
        model=ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 8, 8))),
        train=TrainConfig(epochs=4, batch_size=27, precision="fp32", device="cpu"),
    )


def with_fields(config: Config, **fields: object) -> Config:
    """Return the config with fields such as ``train__epochs=2`` replaced."""
    for name, value in fields.items():
        section, _, field = name.partition("__")
        part = dataclasses.replace(getattr(config, section), **{field: value})
        config = dataclasses.replace(config, **{section: part})
    return config
