"""Study: compare configurations over seeds. Every trial is an ordinary run; several processes may share a study."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cifarlab.commands.evaluate import evaluate
from cifarlab.commands.train import resume, train
from cifarlab.config import Config, DataConfig
from cifarlab.data import Splits, load_splits
from cifarlab.errors import CifarlabError, RunError, StoppedError
from cifarlab.experiments import study_queue
from cifarlab.experiments.arms import check_spec
from cifarlab.experiments.evidence import test_accuracies
from cifarlab.experiments.leases import BEAT_SECONDS, PATIENCE_SECONDS, Heartbeat, Leases, Watch, claim
from cifarlab.experiments.storage import open_leases, open_storage, patiently
from cifarlab.experiments.study import StudyRecord, StudySpec, StudyTrial, finished_run, load_study, run_name
from cifarlab.experiments.study_queue import Counts, Queue, Work, open_queue
from cifarlab.experiments.trials import Trainer, drop_checkpoints, ended_by, is_of_the_machine, run_trial
from cifarlab.run import Run, runs_root
from cifarlab.training.loop import Hooks

if TYPE_CHECKING:
    import optuna

_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Step:
    """What a progress display shows when a trial begins or ends.

    Attributes:
        trial: The trial.
        counts: Where all trials of the study stand.
        seconds_left: Estimate for the rest of the study with the workers of this moment; NaN before the first trial.
    """

    trial: StudyTrial
    counts: Counts
    seconds_left: float


def study(
    spec: StudySpec,
    *,
    storage: str | None = None,
    join: bool = False,
    retry_failed: bool = False,
    hooks: Hooks | None = None,
    notify: Callable[[str], None] = lambda line: None,
    on_begin: Callable[[Step], None] = lambda step: None,
    on_end: Callable[[Step], None] = lambda step: None,
    patience_seconds: float = PATIENCE_SECONDS,
    beat_seconds: float = BEAT_SECONDS,
) -> StudyRecord:
    """Work on a study until none of its trials is left; create it where it does not exist.

    Args:
        spec: What to compare.
        storage: Where the study is recorded: a URL or a file; ``experiments.db`` in the runs folder if None.
        join: Refuse to create the study.
        retry_failed: Have failed trials done again.
        hooks: Progress of the trial in work, and stop request.
        notify: Takes one-line notices.
        on_begin: Is called when a trial begins.
        on_end: Is called when a trial ends, complete or failed.
        patience_seconds: A worker without a sign of life for so long loses its trial to another.
        beat_seconds: Between two signs of life.

    Returns:
        The study with all its trials; those that failed have their message.

    Raises:
        UsageError: If a trial could not be trained as configured, or the name is taken by another study.
        CifarlabError: If this machine cannot go on; its trial went back to the queue.
        StoppedError: If a stop was requested; the trial in work was saved and went back to the queue.
    """
    check_spec(spec)
    notify, hooks, watch = _each_once(notify), hooks or Hooks(), Watch(patience_seconds)
    with _opened(storage) as (trials, leases):
        queue = open_queue(
            spec,
            trials,
            leases,
            watch=watch,
            must_exist=join,
            retry_failed=retry_failed,
            notify=notify,
            stop_signal=hooks.stop_signal,
        )
        return _until_done(_Worker(queue, _trainer(), hooks, notify, on_begin, on_end, beat_seconds))


@contextmanager
def _opened(url: str | None) -> Iterator[tuple[optuna.storages.RDBStorage, Leases]]:
    storage, leases = open_storage(url), open_leases(url)
    try:
        yield storage, leases
    finally:
        leases.close()
        storage.remove_session()


@dataclass(frozen=True)
class _Worker:
    queue: Queue
    trainer: Trainer
    hooks: Hooks
    notify: Callable[[str], None]
    on_begin: Callable[[Step], None]
    on_end: Callable[[Step], None]
    beat_seconds: float


def _trainer() -> Trainer:
    """Return how runs are trained here; images that several trials share are read once."""
    loaded: dict[DataConfig, Splits] = {}

    def splits(config: Config) -> Splits:
        if config.data not in loaded:
            loaded.clear()  # the images of one configuration at a time
            loaded[config.data] = load_splits(config.data)
        return loaded[config.data]

    return Trainer(train=train, resume=resume, splits=splits)


def _until_done(worker: _Worker) -> StudyRecord:
    while _next(worker):
        pass
    return _record(worker.queue)


def _next(worker: _Worker) -> bool:
    """Do one trial, or wait a while for those of others; return False when the study has no open trial left."""
    if number := worker.hooks.stop_signal():
        raise _stopped(worker, number, saved=False)
    work = study_queue.take(worker.queue)
    if work is not None:
        _do(worker, work)
        return True
    counts = study_queue.count(worker.queue)
    if counts.running:
        worker.notify(f"waiting for trials in work elsewhere: {', '.join(counts.workers)}")
    if counts.open:
        time.sleep(_WAIT_SECONDS)
    return counts.open > 0


def _do(worker: _Worker, work: Work) -> None:
    """Train one trial and record what came of it."""
    label = f"{work.arm}, seed {work.seed}"
    if work.claim.previous != "nobody":
        cause = "ended" if work.claim.previous == "dead" else "fell silent"
        worker.notify(f"{label}: taken over from a worker that {cause}")
    worker.on_begin(_step(worker, work))
    try:
        with Heartbeat(worker.queue.leases, work.claim.key, beat_seconds=worker.beat_seconds) as heart:
            recorded = _train_and_record(worker, work, heart)
    finally:
        study_queue.let_go(worker.queue, work)
    if recorded:
        worker.on_end(_step(worker, work))
    else:
        worker.notify(f"{label}: this worker was silent for so long that another took it over, whose result counts")


def _train_and_record(worker: _Worker, work: Work, heart: Heartbeat) -> bool:
    """Train a trial and record its result or its failure; return whether that was this worker's to do."""
    try:
        return _train(worker, work, heart)
    except (StoppedError, KeyboardInterrupt) as stop:
        if not heart.lost:
            study_queue.give_back(worker.queue, work)
        if number := worker.hooks.stop_signal():
            saved = isinstance(stop, StoppedError) and not heart.lost
            raise _stopped(worker, number, saved=saved) from None
        if not heart.lost:
            raise
        return False
    except Exception as error:
        if is_of_the_machine(error):
            study_queue.give_back(worker.queue, work)
            raise ended_by(error) from error
        return study_queue.fail(worker.queue, work, _message(error))


def _train(worker: _Worker, work: Work, heart: Heartbeat) -> bool:
    """Train a trial to its end; return whether its result was this worker's to record."""
    queue, hooks = worker.queue, worker.hooks
    arm = next(arm for arm in queue.spec.arms if arm.label == work.arm)
    run = run_trial(
        work,
        run_name(queue.spec, arm, work.seed),
        worker.trainer,
        hooks=replace(hooks, stop_signal=lambda: hooks.stop_signal() or (signal.SIGTERM if heart.lost else 0)),
        notify=worker.notify,
        note=lambda path: study_queue.note_run(queue, work, str(path.resolve())),
    )
    if not study_queue.finish(queue, work, str(run.path.resolve()), run.read_json("result.json")):
        return False
    drop_checkpoints(run)
    return True


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, CifarlabError) else f"{type(error).__name__}: {error}".splitlines()[0]


def _stopped(worker: _Worker, number: int, *, saved: bool) -> StoppedError:
    counts = study_queue.count(worker.queue)
    trial = "the trial in work is saved; " if saved else ""
    return StoppedError(
        f"stopped with {counts.complete} of {counts.total} trials complete; {trial}the same command goes on", number
    )


def _step(worker: _Worker, work: Work) -> Step:
    record = _record(worker.queue)
    trial = next(one for one in record.trials if (one.arm, one.seed) == (work.arm, work.seed))
    counts = study_queue.count(worker.queue)
    return Step(trial, counts, seconds_left(record, num_workers=1 + len(counts.workers)))


def _record(queue: Queue) -> StudyRecord:
    return queue.patiently(lambda: load_study(queue.spec.name, queue.storage))


def seconds_left(record: StudyRecord, *, num_workers: int) -> float:
    """Estimate how long the open trials of a study will take.

    An open trial is expected to take as long as the finished ones of its arm took; as all did, where its arm has none.

    Returns:
        Seconds; NaN while no trial is finished.
    """
    seconds = {
        arm.label: [trial.seconds for trial in record.trials if trial.finished and trial.arm == arm.label]
        for arm in record.spec.arms
    }
    known = [one for values in seconds.values() for one in values]
    if not known:
        return math.nan
    overall = sum(known) / len(known)
    open_trials = [trial for trial in record.trials if trial.state in ("waiting", "running")]
    expected = (sum(seconds[t.arm]) / len(seconds[t.arm]) if seconds[t.arm] else overall for t in open_trials)
    return sum(expected) / num_workers


def _each_once(notify: Callable[[str], None]) -> Callable[[str], None]:
    """Return a notify that passes each line once: trials of one study have much the same to say."""
    said: set[str] = set()

    def once(line: str) -> None:
        if line not in said:
            said.add(line)
            notify(line)

    return once


def judge_on_test(
    record: StudyRecord,
    *,
    storage: str | None = None,
    stop_signal: Callable[[], int] = lambda: 0,
    notify: Callable[[str], None] = lambda line: None,
) -> None:
    """Read test once for every finished trial that was not judged on it yet; each reading is written to its run.

    Several workers share the runs among them; each comes back when all whose folders it can see are judged.

    Args:
        record: The study.
        storage: As for :func:`study`.
        stop_signal: Number of the signal that asks to stop; 0 for none.
        notify: Takes one line a run.

    Raises:
        StoppedError: If a stop was requested; what is evaluated stays.
        DataError, RunError, StorageError: If this machine cannot go on.
    """
    left, leases, watch = _judgeable(record, notify), open_leases(storage), Watch()
    try:
        while left := [trial for trial in left if not test_accuracies(Run(trial.run))]:
            taken = 0
            for trial in left:
                if number := stop_signal():
                    raise StoppedError("stopped while reading test; the same command goes on", number)
                taken += _judge(record.spec.name, trial, leases, watch, notify)
            if not taken:  # other workers are at them
                time.sleep(_WAIT_SECONDS)
    finally:
        leases.close()


def _judgeable(record: StudyRecord, notify: Callable[[str], None]) -> list[StudyTrial]:
    """Return the finished trials whose folders this machine can see."""
    finished = [trial for trial in record.trials if trial.finished]
    here = [trial for trial in finished if _is_here(trial)]
    if missing := len(finished) - len(here):
        notify(f"{missing} of {len(finished)} run folders are not on this machine; --test there reads test for them")
    return here


def _is_here(trial: StudyTrial) -> bool:
    try:
        finished_run(trial)
    except RunError:
        return False
    return True


def _judge(name: str, trial: StudyTrial, leases: Leases, watch: Watch, notify: Callable[[str], None]) -> bool:
    """Read test for a trial unless another worker does; return whether this one did."""
    key = f"test/{name}/{trial.number}"
    if patiently(lambda: claim(leases, watch, key, leases.held()), notify=notify) is None:
        return False
    try:
        if test_accuracies(Run(trial.run)):  # another one did a moment ago
            return False
        with Heartbeat(leases, key):
            judged = evaluate(Run.open(trial.run), split="test", reason=f"study {name}")
    finally:
        patiently(lambda: leases.release(key), notify=notify)
    share = judged.accuracy_tta or judged.accuracy
    notify(f"{trial.arm}, seed {trial.seed}: test accuracy {share.value:.2%}")
    return True


def page_folder(name: str) -> Path:
    """Return the folder a study's page goes to unless another is named."""
    return runs_root() / "studies" / name
