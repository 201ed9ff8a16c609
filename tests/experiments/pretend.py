"""Pretended training: ordinary run folders with invented figures, so that a search takes no time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import make_images

from cifarlab.commands import train as train_module
from cifarlab.config import Config, ConvnetConfig, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from cifarlab.data import SourceData
from cifarlab.data.splits import make_splits
from cifarlab.experiments import search_page, search_work
from cifarlab.experiments.search import SearchSpec, open_search
from cifarlab.experiments.search_queue import SearchQueue
from cifarlab.experiments.search_record import SearchRecord
from cifarlab.experiments.search_work import SearchWorker
from cifarlab.experiments.space import parse_space
from cifarlab.experiments.storage import open_leases, open_storage
from cifarlab.run import Run

CONFIG = Config(
    recipe="tiny",
    data=DataConfig(image_size=16),
    model=ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 4),), hidden=())),
    optimizer=OptimizerConfig(lr=0.02),
    train=TrainConfig(epochs=4, batch_size=27, precision="fp32", device="cpu"),
)


def spec(*dimensions: str, name: str = "hunt", config: Config = CONFIG, **settings: Any) -> SearchSpec:
    """Return a search around the small recipe."""
    texts = dimensions or ("optimizer.lr=log:0.001:1", "model.dropout=0:0.5")
    return SearchSpec(name=name, recipe=config, space=parse_space(texts, config), **settings)


def opened(search: SearchSpec | None = None, storage: str | None = None, **settings: Any) -> SearchQueue:
    """Return one worker's view of a search."""
    study, found = open_search("hunt", open_storage(storage), search or spec())
    return SearchQueue(study, found, open_leases(storage), **settings)


def bump(config: Config) -> float:
    """Accuracy with a peak at a learning rate of 0.1; dropout costs a little."""
    return 0.9 - 0.05 * abs(math.log10(config.optimizer.lr / 0.1)) - 0.01 * config.model.convnet.dropout


@dataclass
class Pretender:
    """Stands for cifarlab.commands.train.train, and remembers what it was asked to train.

    Attributes:
        accuracy: Final accuracy of a configuration.
        views: What test-time views add; None for none.
        pause_seconds: How long an epoch takes.
        after: Is called after the run is finished, before train returns.
        trained: Configurations whose training began.
    """

    accuracy: Callable[[Config], float] = bump
    views: float | None = None
    pause_seconds: float = 0.0
    after: Callable[[Run], None] = lambda run: None
    trained: list[Config] = field(default_factory=list)

    def __call__(self, config, *, name, splits, hooks, notify):
        assert splits.test is None
        self.trained.append(config)
        run = Run.create(config, name=name)
        run.write_json("environment.json", {"num_val": len(splits.val), "num_test": 0, "worker": os.getpid()})
        final, epochs = self.accuracy(config), max(1, math.ceil(config.train.epochs))
        for epoch in range(1, epochs + 1):
            time.sleep(self.pause_seconds)
            hooks.on_epoch({"epoch": epoch, "val/accuracy": final * epoch / epochs, "val/loss": 1.0})
        figures = {"val/accuracy": final, "train_clock_seconds": 1.0, "wall_clock_seconds": 1.0}
        if self.views is not None:
            figures["val/accuracy_tta"] = final + self.views
        run.write_json("result.json", figures)
        self.after(run)
        return run


def search_in_child(
    search: SearchSpec, trials: int, runs: Path, storage: str | None, pause_seconds: float, ready: Any
) -> None:
    """Do trials of a search; for processes that share one, or are killed."""
    if ready is not None:
        ready.wait()
    os.environ["CIFARLAB_RUNS"] = str(runs)
    source = SourceData(train=make_images(120, seed=1), val=None, test=None, origin="tiny")
    search_work.load_splits = lambda data: make_splits(source, data)
    study, found = open_search(search.name, open_storage(storage), search)
    queue = SearchQueue(study, found, open_leases(storage))
    SearchWorker(queue, Pretender(pause_seconds=pause_seconds)).work(trials)


def serve_images(monkeypatch, source: SourceData) -> None:
    """Let searches find these images whatever data they ask for."""
    monkeypatch.setattr(search_work, "load_splits", lambda data: make_splits(source, data))


def draw_nothing(monkeypatch) -> Callable[[], None]:
    """Leave out all figures, which take longer than all trials; the function returned has those of searches drawn."""
    drawn = search_page.search_figures
    monkeypatch.setattr(search_page, "search_figures", lambda record: {})
    monkeypatch.setattr(train_module, "_draw_curves", lambda records, run: None)
    return lambda: monkeypatch.setattr(search_page, "search_figures", drawn)


def values(record: SearchRecord) -> list[dict[str, Any]]:
    """Return what a search tried."""
    return [trial.values for trial in record.trials]
