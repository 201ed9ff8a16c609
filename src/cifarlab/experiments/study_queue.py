"""Study queue: the trials of a study as work that several processes share; every trial is done once.

The record is Optuna's: one trial for every arm and seed, waiting, running, complete or failed. Who works on a trial is
said by its lease (leases.py). Whoever holds the lease reads the trial again, works, asks once more whether the lease is
still its own, and only then writes what came of it. A worker that was halted for so long that another took its trial
over finds the lease lost, and writes nothing.

One gap is left on purpose: a worker halted between that last question and its entry. Whoever takes over then finds the
run finished and enters the same figures of the same folder, so that it does not matter who is first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from cifarlab.config_yaml import changed_fields
from cifarlab.errors import UsageError
from cifarlab.experiments.fields import with_values
from cifarlab.experiments.leases import Claim, Lease, Leases, Watch, alone, claim
from cifarlab.experiments.storage import create_or_join, holds, load_if_any, patiently
from cifarlab.experiments.study import (
    SPEC_KEY,
    StudySpec,
    current_trials,
    decide_precision,
    headline,
    planned_trials,
    spec_from_dict,
    spec_to_dict,
    trial_config,
)

if TYPE_CHECKING:
    import optuna

    from cifarlab.config import Config

Result = TypeVar("Result")


@dataclass
class Queue:
    """The trials of one study, as one worker sees them.

    Attributes:
        spec: What the study does.
        study: Its record.
        storage: Where the record is.
        leases: Who works on what.
        watch: What this worker has seen of the others.
        notify: Takes one line when the database is away.
    """

    spec: StudySpec
    study: optuna.Study
    storage: optuna.storages.BaseStorage
    leases: Leases
    watch: Watch = field(default_factory=Watch)
    notify: Callable[[str], None] = lambda line: None
    _ids: dict[int, int] = field(default_factory=dict)
    _in_hand: set[str] = field(default_factory=set)

    def trial_id(self, number: int) -> int:
        """Return the id in the storage of a trial of this study."""
        if number not in self._ids:
            study_id = self.storage.get_study_id_from_name(self.spec.name)
            self._ids[number] = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        return self._ids[number]

    def patiently(self, call: Callable[[], Result]) -> Result:
        """Make a call to the database, and wait for it while it is away."""
        return patiently(call, notify=self.notify)


@dataclass(frozen=True)
class Work:
    """A trial that this worker holds.

    Attributes:
        arm: Label of its arm.
        seed: Training seed.
        config: What to train.
        number: Number of its Optuna trial.
        trial_id: Its id in the storage.
        claim: The lease, and how it came to this worker.
        run: Folder where it was begun, as it was recorded; '' if it never was.
    """

    arm: str
    seed: int
    config: Config
    number: int
    trial_id: int
    claim: Claim
    run: str


@dataclass(frozen=True)
class Counts:
    """How many trials of a study stand where, and who works.

    Attributes:
        waiting, running, complete, failed: Numbers of trials; those whose worker died count as waiting.
        workers: Descriptions of the other workers that hold a trial.
    """

    waiting: int
    running: int
    complete: int
    failed: int
    workers: tuple[str, ...]

    @property
    def total(self) -> int:
        """All trials."""
        return self.waiting + self.running + self.complete + self.failed

    @property
    def open(self) -> int:
        """Trials still to be done or being done."""
        return self.waiting + self.running


def open_queue(
    spec: StudySpec,
    storage: optuna.storages.BaseStorage,
    leases: Leases,
    *,
    watch: Watch | None = None,
    must_exist: bool = False,
    retry_failed: bool = False,
    notify: Callable[[str], None] = lambda line: None,
    stop_signal: Callable[[], int] = lambda: 0,
) -> Queue:
    """Create a study with all its trials, or join it; whichever worker is faster creates it, the others join.

    A study of more seeds than its record holds is extended; one of fewer seeds is worked on as recorded.

    Args:
        spec: What the study does.
        storage: Where its record is.
        leases: The same database's leases.
        watch: How this worker tells that others have abandoned their work.
        must_exist: Join only.
        retry_failed: Have failed trials done again.
        notify: Takes one-line notices.
        stop_signal: Number of the signal that asks to stop; 0 for none.

    Raises:
        UsageError: If there is another study of that name, or none to join.
        StoppedError: If a stop was requested while another worker sets the study up.
        StorageError: If the database stays away.
    """
    watch = watch or Watch()

    def set_up() -> Queue:
        with alone(leases, watch, f"setup/{spec.name}", stop_signal):
            study = _joined(spec, storage, must_exist, notify)
            queue = Queue(_agree(spec, study), study, storage, leases, watch, notify)
            _add_missing(queue, retry_failed)
            return queue

    return patiently(set_up, notify=notify)


def _joined(
    spec: StudySpec, storage: optuna.storages.BaseStorage, must_exist: bool, notify: Callable[[str], None]
) -> optuna.Study:
    """Return the record of a study, which is created where there is none."""
    if not holds(load_if_any(spec.name, storage), SPEC_KEY):
        if must_exist:
            raise UsageError(f"there is no study {spec.name!r} to join; start it without --join")
        precision = decide_precision(spec.base, notify)
        spec = replace(spec, base=with_values(spec.base, {"train.precision": precision}))
    return create_or_join(spec.name, storage, attributes={SPEC_KEY: spec_to_dict(spec)})


def _agree(spec: StudySpec, study: optuna.Study) -> StudySpec:
    """Return the specification all workers of a study follow, and record the seeds it gains."""
    stored = spec_from_dict(study.user_attrs[SPEC_KEY])
    agreed = agree(spec, stored)
    if agreed.seeds > stored.seeds:
        study.set_user_attr(SPEC_KEY, spec_to_dict(agreed))
    return agreed


def agree(spec: StudySpec, stored: StudySpec) -> StudySpec:
    """Return the specification that a wanted and a recorded study share; it may gain seeds, nothing else may change.

    Raises:
        UsageError: If they are different studies.
    """
    agreed = replace(stored, seeds=max(stored.seeds, spec.seeds))
    if spec.base.train.precision == "auto":  # whoever set the study up decided
        spec = replace(spec, base=with_values(spec.base, {"train.precision": stored.base.train.precision}))
    if replace(spec, seeds=agreed.seeds, question=agreed.question) != agreed:
        fields = list(changed_fields(spec.base, stored.base))
        other = f"another {fields[0]}" if fields else "other arms"
        raise UsageError(
            f"there is a study {spec.name!r} with {other} already; choose another --name, "
            f"or work on it as it is with: cifarlab study --join --name {spec.name}"
        )
    return agreed


def _add_missing(queue: Queue, retry_failed: bool) -> None:
    """Add the trials the record lacks, in the order in which they are to be done, and failed ones once more."""
    import optuna

    present = current_trials(queue.study)
    labels = [arm.label for arm in queue.spec.arms]
    for arm, seed in planned_trials(queue.spec):
        old = present.get((arm.label, seed))
        if old is not None and not (retry_failed and old.state.name == "FAIL"):
            continue
        attributes: dict[str, Any] = {"arm": arm.label, "seed": seed, "attempt": 1}
        if old is not None:
            attributes["attempt"] = old.user_attrs["attempt"] + 1
            attributes |= {"run": old.user_attrs["run"]} if "run" in old.user_attrs else {}
        queue.study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.WAITING,
                params={"arm": arm.label, "seed": seed},
                distributions={
                    "arm": optuna.distributions.CategoricalDistribution(labels),
                    "seed": optuna.distributions.IntDistribution(seed, seed),
                },
                user_attrs=attributes,
            )
        )


def take(queue: Queue) -> Work | None:
    """Take the first trial that nobody works on, or whose worker has abandoned it.

    Returns:
        The work; None if there is none at this moment.
    """
    return queue.patiently(lambda: _take(queue))


def _take(queue: Queue) -> Work | None:
    held = queue.leases.held()
    open_trials = [trial for trial in current_trials(queue.study).values() if not trial.state.is_finished()]
    for trial in sorted(open_trials, key=lambda one: one.number):
        trial_id = queue.trial_id(trial.number)
        key = lease_key(trial_id)
        claimed = None if key in queue._in_hand else claim(queue.leases, queue.watch, key, held)
        if claimed is None:
            continue
        fresh = queue.storage.get_trial(trial_id)  # another may have finished it since it was listed
        if fresh.state.is_finished():
            queue.leases.release(key)
            continue
        if fresh.state.name == "WAITING":
            _set_state(queue, trial_id, "RUNNING")
        label, seed = fresh.user_attrs["arm"], fresh.user_attrs["seed"]
        arm = next(arm for arm in queue.spec.arms if arm.label == label)
        config = trial_config(queue.spec, arm, seed)
        queue._in_hand.add(key)
        return Work(label, seed, config, trial.number, trial_id, claimed, fresh.user_attrs.get("run", ""))
    return None


def lease_key(trial_id: int) -> str:
    """Return the key of a trial's lease."""
    return f"trial/{trial_id}"


def let_go(queue: Queue, work: Work) -> None:
    """Forget a trial that this worker does not do any more, however it ended: it may be taken again."""
    queue._in_hand.discard(work.claim.key)


def note_run(queue: Queue, work: Work, run: str) -> None:
    """Record where a trial's run is, so that whoever takes it over finds it."""
    queue.patiently(lambda: queue.storage.set_trial_user_attr(work.trial_id, "run", run))


def finish(queue: Queue, work: Work, run: str, figures: dict[str, Any]) -> bool:
    """Record a trial as complete.

    Args:
        queue: The study.
        work: The trial.
        run: Its run's folder.
        figures: What its result.json holds.

    Returns:
        Whether it was this worker's to record.
    """
    attributes, values = {"run": run, "figures": figures}, [headline(figures)]
    return queue.patiently(lambda: _close(queue, work, attributes, "COMPLETE", values))


def fail(queue: Queue, work: Work, message: str) -> bool:
    """Record a trial as failed; return whether it was this worker's to record."""
    return queue.patiently(lambda: _close(queue, work, {"error": message}, "FAIL", None))


def _close(queue: Queue, work: Work, attributes: dict[str, Any], state: str, values: list[float] | None) -> bool:
    from optuna.exceptions import UpdateFinishedTrialError

    let_go(queue, work)
    if not queue.leases.beat(work.claim.key):
        # lost to another worker; or given back by this call, whose answer the database broke off
        fresh = queue.storage.get_trial(work.trial_id)
        mine = all(fresh.user_attrs.get(key) == attributes[key] for key in attributes.keys() & {"run", "error"})
        return fresh.state.name == state and mine
    try:
        for key, value in attributes.items():
            queue.storage.set_trial_user_attr(work.trial_id, key, value)
        _set_state(queue, work.trial_id, state, values)
    except UpdateFinishedTrialError:  # by this call, which the database broke off, or by another in the gap named above
        pass
    queue.leases.release(work.claim.key)
    return True


def give_back(queue: Queue, work: Work) -> None:
    """Give a trial back to the queue; whoever takes it goes on where it was stopped."""

    def back() -> None:
        let_go(queue, work)
        if queue.leases.beat(work.claim.key):
            _set_state(queue, work.trial_id, "WAITING")
            queue.leases.release(work.claim.key)

    queue.patiently(back)


def _set_state(queue: Queue, trial_id: int, state: str, values: list[float] | None = None) -> None:
    from optuna.trial import TrialState

    queue.storage.set_trial_state_values(trial_id, TrialState[state], values)


def count(queue: Queue) -> Counts:
    """Count the trials of a study and its workers."""
    return queue.patiently(lambda: _count(queue))


def _count(queue: Queue) -> Counts:
    held = queue.leases.held()
    states = {"waiting": 0, "running": 0, "complete": 0, "failed": 0}
    workers = []
    trials = current_trials(queue.study)
    for trial in trials.values():
        lease = held.get(lease_key(queue.trial_id(trial.number))) if not trial.state.is_finished() else None
        if lease is not None and queue.watch.judge(lease) == "alive":
            states["running"] += 1
            workers += [] if queue.leases.is_mine(lease) else [_describe(lease)]
        elif trial.state.is_finished():
            states["complete" if trial.state.name == "COMPLETE" else "failed"] += 1
        else:
            states["waiting"] += 1
    return Counts(**states, workers=tuple(workers))


def _describe(lease: Lease) -> str:
    return f"{lease.worker.host} (process {lease.worker.pid})"
