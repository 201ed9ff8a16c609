"""Search work: what one worker does until a search has all its trials; every trial is one or more ordinary runs.

Nothing here can see the test split: it is dropped before the first trial, and trials are trained on what is left.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cifarlab.config import Config, DataConfig
from cifarlab.console import format_roughly
from cifarlab.data import Splits, load_splits
from cifarlab.data.loader import make_plan
from cifarlab.errors import CifarlabError, ConfigError, StoppedError, TrainingError, UsageError
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.leases import Heartbeat
from cifarlab.experiments.search_queue import SearchQueue, Taken
from cifarlab.experiments.space import label
from cifarlab.experiments.study import find_run, headline
from cifarlab.experiments.trials import Train, ended_by, free_folder, is_of_the_machine
from cifarlab.run import Run
from cifarlab.training.loop import Hooks

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# what makes a trial fail and not the search: its values. What is wrong with the machine would meet every trial.
_TRIAL_ERRORS = (TrainingError, ConfigError, RuntimeError, ValueError, MemoryError)
_HOPELESS = 5
_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class SearchStep:
    """What a progress display shows when a trial begins.

    Attributes:
        number: The trial's number.
        done: How many trials of the search are finished.
        total: How many it is to have.
        seconds_left: Estimate for the rest, with the workers of this moment; NaN before the first trial.
    """

    number: int
    done: int
    total: int
    seconds_left: float


class LostError(CifarlabError):
    """Another worker has taken this worker's trial over."""


@dataclass
class ValImages:
    """The images of trials: train and val, never test."""

    _data: DataConfig | None = None
    _splits: Splits | None = None

    def get(self, data: DataConfig) -> Splits:
        """Return the splits without test; they are loaded anew only where the settings differ from the last ones.

        Raises:
            DataError: If the images are missing, damaged or too few.
            UsageError: If there are none for validation.
        """
        if self._splits is None or data != self._data:
            self._data, self._splits = data, dataclasses.replace(load_splits(data), test=None)
        if self._splits.val is None or not len(self._splits.val):
            raise UsageError("a search needs images for validation; set data.val_fraction above 0")
        return self._splits


@dataclass
class SearchWorker:
    """One worker of a search.

    Attributes:
        queue: Where its trials come from.
        train: Trains a run.
        hooks: Progress of the run at hand and stop request.
        notify: Takes one-line notices.
        on_begin: Is called when a trial begins.
        images: What the runs are trained and judged on.
    """

    queue: SearchQueue
    train: Train
    hooks: Hooks = field(default_factory=Hooks)
    notify: Callable[[str], None] = lambda line: None
    on_begin: Callable[[SearchStep], None] = lambda step: None
    images: ValImages = field(default_factory=ValImages)

    def work(self, total: int, seconds: float = math.inf) -> None:
        """Do trials until the search has ``total`` of them or all there can be; begin none after so many seconds.

        Raises:
            StoppedError: If a stop was requested; the trial at hand is begun again by whoever continues.
            TrainingError: If the first trials all failed.
            StorageError: If the database stays away.
        """
        until, waiting, total = time.monotonic() + seconds, False, self._limited(total)
        while True:
            if number := self.hooks.stop_signal():
                raise self._stopped(number)
            if time.monotonic() >= until:
                self.notify("the time is up; no further trial is begun")
                return
            taken = self.queue.take(total)
            if taken is None:
                trials = self.queue.trials()
                running = sum(frozen.state.name == "RUNNING" for frozen in trials)
                if not running and _num_done(trials) >= total:
                    return
                if running and not waiting:
                    self.notify(f"waiting for {running} running trial{'s' * (running > 1)} of other workers")
                waiting = True
                time.sleep(_WAIT_SECONDS)
                continue
            waiting = False
            self.do(taken, total)
            self._require_hope()

    def _limited(self, total: int) -> int:
        limited = self.queue.limited(total)
        if limited < total:
            num_points = self.queue.points.count or 0
            self.notify(
                f"note: the space has {num_points:,} combinations of values and none is trained twice, so the search "
                f"has {limited:,} trials, not {total:,}"
            )
        return limited

    def do(self, taken: Taken, total: int) -> None:
        """Train a trial and tell Optuna how it ended: complete, pruned or failed."""
        import optuna

        number, trials = taken.trial.number, self.queue.trials()
        done = _num_done(trials)
        self.on_begin(SearchStep(number, done, total, seconds_left(trials, total, number)))
        self.notify(f"trial t{number} ({number + 1} of {total}): {values_text(taken.values)}")
        error = ""
        state, value = optuna.trial.TrialState.COMPLETE, None
        try:
            with Heartbeat(self.queue.leases, taken.claim.key) as beat:
                try:
                    value = self._train_seeds(taken, beat)
                except optuna.TrialPruned:
                    state = optuna.trial.TrialState.PRUNED
                except StoppedError as stopped:
                    raise self._stopped(stopped.exit_code - 128) from stopped
                except _TRIAL_ERRORS as problem:
                    if is_of_the_machine(problem):
                        raise ended_by(problem) from problem
                    state = optuna.trial.TrialState.FAIL
                    error = " ".join(str(problem).split()) or type(problem).__name__
            self._tell(taken, state, value, error)
        except LostError:
            self.notify(f"trial t{number} was taken over by another worker, for this one had been silent")
            return
        finally:
            self.queue.release(taken)
        self.notify(self._outcome(number, state.name, value, error, total))

    def _tell(self, taken: Taken, state: Any, value: float | None, error: str) -> None:
        if not self.queue.patiently(lambda: self.queue.leases.beat(taken.claim.key)):
            raise LostError("the lease was lost")
        if error:
            self._note(taken, "error", error)
        study, number = self.queue.study, taken.trial.number
        # by number: a second call, after an answer that was lost on its way, changes nothing
        self.queue.patiently(lambda: study.tell(number, value, state, skip_if_finished=True))

    def _train_seeds(self, taken: Taken, beat: Heartbeat) -> float:
        """Train the trial's runs and return their mean accuracy on val, with views where the recipe has them."""
        spec = self.queue.spec
        config = with_values(spec.base, taken.values)
        first, accuracies, figures = config.train.seed, [], []
        for position in range(spec.seeds_per_trial):
            seeded = with_values(config, {"train.seed": first + position})
            run = self._finished_or_trained(taken, seeded, position, beat)
            figures.append(run.read_json("result.json"))
            accuracies.append(headline(figures[-1]))
            self._note(taken, "figures", figures)
        return math.fsum(accuracies) / len(accuracies)

    def _finished_or_trained(self, taken: Taken, config: Config, position: int, beat: Heartbeat) -> Run:
        recorded: list[str] = list(self.queue.patiently(lambda: taken.trial.user_attrs).get("runs", []))
        if taken.begun and position < len(recorded):
            run = Run(find_run(recorded[position]))
            if run.finished and run.config == config:
                return run
            if taken.claim.previous != "silent":  # a silent worker may still be writing there
                _remove_unfinished(run, config)
        suffix = f"-s{config.train.seed}" if self.queue.spec.seeds_per_trial > 1 else ""
        folder = free_folder(f"{self.queue.spec.name}-t{taken.trial.number}{suffix}")
        # before it is made, so that whoever takes the trial over finds it
        self._note(taken, "runs", [*recorded[:position], str(folder.resolve())])
        hooks = dataclasses.replace(self.hooks, on_epoch=self._watcher(taken, config, position, beat))
        splits = self.images.get(config.data)
        return self.train(config, name=folder.name, splits=splits, hooks=hooks, notify=self.notify)

    def _watcher(
        self, taken: Taken, config: Config, position: int, beat: Heartbeat
    ) -> Callable[[dict[str, float]], None]:
        """Return the hook that reports every epoch of the first seed to Optuna and gives the trial up if it says so."""
        import optuna

        trial = taken.trial
        num_epochs = make_plan(config, len(self.images.get(config.data).train)).num_epochs

        def on_epoch(record: dict[str, float]) -> None:
            self.hooks.on_epoch(record)
            if beat.lost:
                raise LostError("the lease was lost")
            if position > 0:
                return
            epoch = int(record["epoch"])
            known = self.queue.trials()[trial.number].intermediate_values
            if epoch not in known:  # whoever had the trial before reported the same
                self.queue.patiently(lambda: trial.report(record["val/accuracy"], epoch))
            if epoch < num_epochs and self.queue.patiently(trial.should_prune):
                raise optuna.TrialPruned

        return on_epoch

    def _note(self, taken: Taken, name: str, value: Any) -> None:
        self.queue.patiently(lambda: taken.trial.set_user_attr(name, value))

    def _stopped(self, number: int) -> StoppedError:
        name = self.queue.spec.name
        return StoppedError(f"the search {name} was stopped; continue with the same command", number)

    def _require_hope(self) -> None:
        finished = [trial for trial in self.queue.trials() if trial.state.is_finished()]
        if len(finished) >= _HOPELESS and all(trial.state.name == "FAIL" for trial in finished):
            last = finished[-1].user_attrs.get("error", "unknown")
            raise TrainingError(f"the first {len(finished)} trials all failed; the last one: {last}")

    def _outcome(self, number: int, state: str, value: float | None, error: str, total: int) -> str:
        trials = self.queue.trials()
        complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
        ends = {
            "COMPLETE": f"val accuracy {value or 0:.2%}",
            "PRUNED": "given up, behind the others",
            "FAIL": f"failed: {error}",
        }
        parts = [f"trial t{number}: {ends[state]}"]
        if complete:
            best = max(complete, key=lambda trial: trial.value or 0.0)
            parts.append(f"best {best.value:.2%} (t{best.number})")
        if (left := total - _num_done(trials)) > 0:
            parts.append(f"{left} to go, {format_roughly(seconds_left(trials, total, number))}")
        return "; ".join(parts)


def seconds_left(trials: list[FrozenTrial], total: int, own: int) -> float:
    """Estimate the time of the open trials from all that are finished, whoever did them.

    Args:
        trials: The search's trials.
        total: How many it is to have.
        own: Number of the trial that the worker is or was at, which shares the rest with the workers of the others.

    Returns:
        Seconds; NaN while no trial is finished.
    """
    finished = [trial for trial in trials if trial.state.is_finished()]
    # between beginning and end may lie a night in which nobody went on, so runs that say how long they took are asked
    known = [_run_seconds(trial) for trial in finished if trial.state.name == "COMPLETE"]
    longest = max(known, default=math.inf)
    known += [
        min(trial.duration.total_seconds(), longest)
        for trial in finished
        if trial.state.name != "COMPLETE" and trial.duration
    ]
    if not known:
        return math.nan
    others = sum(trial.state.name == "RUNNING" and trial.number != own for trial in trials)
    return (total - len(finished)) * math.fsum(known) / len(known) / (others + 1)


def _run_seconds(trial: FrozenTrial) -> float:
    runs = trial.user_attrs.get("figures", [])
    return math.fsum(max(one["wall_clock_seconds"], one["train_clock_seconds"]) for one in runs)


def _num_done(trials: list[FrozenTrial]) -> int:
    return sum(trial.state.is_finished() for trial in trials)


def values_text(values: dict[str, Any]) -> str:
    """Return values in one line, as flags would set them."""
    short = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name}={label(value)}" for name, value in short.items())


def _remove_unfinished(run: Run, config: Config) -> None:
    """Remove what a stopped or killed worker left of a run: it begins again under the same name."""
    if not run.path.is_dir() or run.finished:
        return
    half_made = all(file.name.startswith(".") for file in run.path.iterdir())
    if half_made or run.config == config:
        shutil.rmtree(run.path, ignore_errors=True)
