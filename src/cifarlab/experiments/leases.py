"""Leases: which worker holds which piece of work, so that several processes and machines share one queue.

Optuna's ``set_trial_state_values`` reads a trial's state and then writes it. PostgreSQL locks the row between the two,
SQLite does not: two processes can take the same waiting trial (optuna/optuna issues 4002 and 4621). So a claim is a row
in a table of our own beside Optuna's, and each change of hands is ONE statement that the database carries out whole:

* to take: INSERT, which the primary key refuses while somebody holds the lease;
* to beat, to give back: UPDATE or DELETE … WHERE the owner still is this worker;
* to take over: UPDATE … WHERE owner and number of beats still are those that were judged abandoned.

Its result, not an earlier reading, says who holds the lease. No clocks are compared across machines: a lease is silent
when its beats have not changed for a while on the clock of the worker that watches.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from cifarlab.errors import MissingExtraError, StoppedError

if TYPE_CHECKING:
    import sqlalchemy

BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""A lease without a beat for so long is silent; its work may be taken over."""

_LONGEST_LOOK_SECONDS = 10.0
"""Whoever waits for others looks at their leases more often than that, on a busy machine too."""

_PROC = Path("/proc")


@dataclass(frozen=True)
class Worker:
    """A process that works, described so that others on its machine can tell whether it still lives.

    Attributes:
        host: Name of its machine, for people.
        boot: Identity of the machine's present boot; '' where it cannot be told (not Linux).
        namespace: Process namespace, which tells containers of one machine apart.
        pid: Process id in that namespace.
        start: When the process started, in clock ticks since boot: process ids are used again.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    start: str


def this_worker() -> Worker:
    """Describe this process."""
    state, start = _process(os.getpid())
    boot, namespace = _this_boot() if state else ("", "")
    return Worker(socket.gethostname(), boot, namespace, os.getpid(), start)


def is_dead(worker: Worker) -> bool:
    """Return whether a worker certainly is no more; False where this process cannot know, as on another machine."""
    if not worker.boot or (worker.boot, worker.namespace) != _this_boot():
        return False
    state, start = _process(worker.pid)
    if not state:  # ended, or hidden from this user
        return not _exists(worker.pid)
    return state in ("Z", "X") or start != worker.start


def _this_boot() -> tuple[str, str]:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return boot, str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return "", ""


def _process(pid: int) -> tuple[str, str]:
    """Return state letter and start time of a process as Linux tells them; '' and '' where there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return fields[0], fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _now() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True)
class Lease:
    """A lease as it was read.

    Attributes:
        key: What is held.
        owner: Who holds it: an id of one worker's life.
        beats: Signs of life so far.
        worker: That worker, described.
    """

    key: str
    owner: str
    beats: int
    worker: Worker


class Leases:
    """The table of leases in one database, as one worker uses it; safe to share among its threads."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        import sqlalchemy as sql

        self._engine, self._sql = engine, sql
        self._owner = uuid.uuid4().hex
        self._worker = json.dumps(asdict(this_worker()))
        self._table = sql.Table(
            "cifarlab_leases",
            sql.MetaData(),
            sql.Column("key", sql.String(255), primary_key=True),
            sql.Column("owner", sql.String(32), nullable=False),
            sql.Column("beats", sql.BigInteger, nullable=False),
            sql.Column("worker", sql.Text, nullable=False),
        )

    def create_table(self) -> None:
        """Create the table where it is missing; two processes at once may see this fail once, and try again."""
        self._table.create(self._engine, checkfirst=True)

    def acquire(self, key: str) -> bool:
        """Take a lease that nobody holds; return whether it is this worker's now."""
        row = {"key": key, "owner": self._owner, "beats": 0, "worker": self._worker}
        try:
            with self._engine.begin() as connection:
                connection.execute(self._table.insert().values(row))
        except self._sql.exc.IntegrityError:
            return False
        return True

    def take_over(self, lease: Lease) -> bool:
        """Take a lease from the worker that held it; False if it beat since, or another was faster."""
        where = (self._column("owner") == lease.owner) & (self._column("beats") == lease.beats)
        values = {"owner": self._owner, "beats": lease.beats + 1, "worker": self._worker}
        return self._changed(self._table.update().where(self._column("key") == lease.key, where).values(values))

    def beat(self, key: str) -> bool:
        """Give a sign of life; return whether this worker still holds the lease."""
        return self._changed(self._mine(self._table.update(), key).values(beats=self._column("beats") + 1))

    def release(self, key: str) -> bool:
        """Give a lease back; return whether it still was this worker's."""
        return self._changed(self._mine(self._table.delete(), key))

    def held(self) -> dict[str, Lease]:
        """Return all leases that anybody holds, by their keys."""
        with self._engine.connect() as connection:
            rows = connection.execute(self._table.select()).all()
        return {row.key: Lease(row.key, row.owner, row.beats, Worker(**json.loads(row.worker))) for row in rows}

    def is_mine(self, lease: Lease) -> bool:
        """Return whether this worker held the lease when it was read."""
        return lease.owner == self._owner

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def _column(self, name: str) -> sqlalchemy.Column[str | int]:
        return self._table.c[name]

    def _mine(self, statement: sqlalchemy.Update | sqlalchemy.Delete, key: str) -> sqlalchemy.Update:
        return statement.where(self._column("key") == key, self._column("owner") == self._owner)  # type: ignore[return-value]

    def _changed(self, statement: sqlalchemy.Update | sqlalchemy.Delete) -> bool:
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount == 1


@dataclass
class Watch:
    """What one worker has seen of the others' leases, and for how long they have been silent.

    Attributes:
        patience_seconds: A lease whose beats have not changed for so long is silent.
    """

    patience_seconds: float = PATIENCE_SECONDS
    _seen: dict[str, tuple[str, int, float, float]] = field(default_factory=dict)
    """By key: owner, beats, when these were seen first, and when last."""

    def judge(self, lease: Lease) -> Literal["alive", "silent", "dead"]:
        """Judge a lease: its worker is certainly dead, has been silent for too long, or has to be taken for alive.

        Who has not looked for long, perhaps because he was halted himself or his machine slept, counts anew: the other
        may have been halted with him.
        """
        if is_dead(lease.worker):
            return "dead"
        now = _now()
        owner, beats, since, looked = self._seen.get(lease.key, ("", -1, 0.0, 0.0))
        halted = now - looked > max(self.patience_seconds / 2, _LONGEST_LOOK_SECONDS)
        if (owner, beats) != (lease.owner, lease.beats) or halted:
            since = now
        self._seen[lease.key] = (lease.owner, lease.beats, since, now)
        return "silent" if now - since > self.patience_seconds else "alive"


@dataclass(frozen=True)
class Claim:
    """A piece of work that this worker holds.

    Attributes:
        key: What is held.
        previous: How it came: 'nobody' held it; its worker was 'dead'; or 'silent', so that it may still be at work.
    """

    key: str
    previous: Literal["nobody", "silent", "dead"]


def claim(leases: Leases, watch: Watch, key: str, held: dict[str, Lease]) -> Claim | None:
    """Take a lease if nobody holds it or if its worker has abandoned it.

    Args:
        leases: The table.
        watch: What this worker has seen of the others.
        key: What to take.
        held: The leases as ``leases.held()`` gave them a moment ago.

    Returns:
        The claim; None if another worker has it.
    """
    lease = held.get(key)
    if lease is None:
        return Claim(key, "nobody") if leases.acquire(key) else None
    if leases.is_mine(lease):  # from a call that the database broke off; only one that was taken over has beats
        return Claim(key, "silent" if lease.beats else "nobody")
    judged = watch.judge(lease)
    if judged == "alive" or not leases.take_over(lease):
        return None
    return Claim(key, judged)


@contextmanager
def alone(leases: Leases, watch: Watch, key: str, stop_signal: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Hold a lease for a moment, and wait for it as long as another worker has it.

    Raises:
        StoppedError: If a stop was requested meanwhile.
    """
    while claim(leases, watch, key, leases.held()) is None:
        if number := stop_signal():
            raise StoppedError("stopped while waiting for another worker; the same command goes on", number)
        time.sleep(random.uniform(0.02, 0.1))  # noqa: S311 two processes out of step
    try:
        yield
    finally:
        leases.release(key)


class Heartbeat:
    """Signs of life for one lease, given by a thread as long as the ``with`` block runs.

    Attributes:
        lost: Whether another worker has taken the lease over.
    """

    def __init__(self, leases: Leases, key: str, *, beat_seconds: float = BEAT_SECONDS) -> None:
        self.lost = False
        self._beat: Callable[[], bool] = lambda: leases.beat(key)
        self._seconds = beat_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        while not self._ended.wait(self._seconds):
            try:
                self.lost = self.lost or not self._beat()
            except SQLAlchemyError:  # the database is away; whether the lease was lost shows when it is back
                continue
            if self.lost:
                return


def require_tune() -> None:
    """Raise MissingExtraError unless Optuna, and with it SQLAlchemy, is installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("optuna", "tune") from error
