"""Storage: where studies and searches are recorded: an Optuna database, SQLite in a file or a PostgreSQL server.

Optuna's tables hold the record: one study, one trial per configuration and seed, with state, value and attributes. Who
works on which trial is held in a table beside them (leases.py).
"""

from __future__ import annotations

import contextlib
import glob
import os
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cifarlab.errors import MissingExtraError, StorageError, UsageError
from cifarlab.experiments.leases import Leases, require_tune

if TYPE_CHECKING:
    import optuna

FILE_NAME = "experiments.db"
_LOCK_SECONDS = 60  # how long a statement waits for another process to finish its own
_STALE_SECONDS = 3600.0
_CREATION_TRIES = 20
_AWAY_SECONDS = 300.0

Result = TypeVar("Result")


def storage_url(given: str | None = None) -> str:
    """Return the URL of a storage.

    Args:
        given: A URL such as ``postgresql://user@host/name``, a path of an SQLite file, or None for
            ``experiments.db`` in the runs folder.
    """
    if not given:
        from cifarlab.run import runs_root  # loads torch

        given = str(runs_root() / FILE_NAME)
    if "://" not in given:
        return f"sqlite:///{Path(given).expanduser().resolve()}"
    scheme, _, rest = given.partition("://")
    # SQLAlchemy's default driver differs between its versions; the extra brings this one
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else given


def shown_url(url: str) -> str:
    """Return a storage's URL without its password."""
    require_tune()
    import sqlalchemy

    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return "the given URL"


def open_storage(url: str | None = None) -> optuna.storages.RDBStorage:
    """Open the storage, which is created where there is none yet.

    Args:
        url: As for :func:`storage_url`.

    Raises:
        MissingExtraError: If Optuna or the database's driver is not installed.
        StorageError: If the database cannot be reached or written.
    """
    require_tune()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # who wants to follow a study sees our own lines
    full = storage_url(url)
    # Optuna fills a template in braces into the URL, which a path may hold for other reasons
    escaped = full.replace("{", "{{").replace("}", "}}")
    return _created(full, lambda: optuna.storages.RDBStorage(escaped, engine_kwargs=_engine_options(full)))


def open_leases(url: str | None = None) -> Leases:
    """Open the table of leases in a storage, as this worker uses it.

    Args:
        url: As for :func:`storage_url`.

    Raises:
        MissingExtraError, StorageError: As for :func:`open_storage`.
    """
    require_tune()
    import sqlalchemy

    full = storage_url(url)

    def create() -> Leases:
        leases = Leases(sqlalchemy.create_engine(full, **_engine_options(full)))
        leases.create_table()
        return leases

    return _created(full, create)


def _engine_options(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": _LOCK_SECONDS}}
    options: dict[str, Any] = {"pool_pre_ping": True}  # a server that was restarted is noticed before a statement fails
    if url.startswith("postgresql"):
        import sqlalchemy

        given = sqlalchemy.make_url(url).query
        # a worker that is halted within a transaction, or cut off, keeps the others out for so long and no longer
        limits = f"-c lock_timeout={_LOCK_SECONDS}s -c idle_in_transaction_session_timeout={_LOCK_SECONDS}s"
        ours = {"connect_timeout": 10, "tcp_user_timeout": 1000 * _LOCK_SECONDS}
        options["connect_args"] = {name: value for name, value in ours.items() if name not in given}
        options["connect_args"]["options"] = f"{limits} {given.get('options', '')}".strip()
    return options


def _created(url: str, create: Callable[[], Result]) -> Result:
    """Open a database that other processes may be creating at this moment, which makes either fail at some table.

    Tables are created where they are missing, so whoever tries again goes on where the others, or a killed one, were.
    """
    import sqlalchemy
    from optuna.exceptions import StorageInternalError

    for attempt in range(_CREATION_TRIES):
        try:
            _prepare_file(url)
            return create()
        except sqlalchemy.exc.ArgumentError as error:
            raise UsageError(
                f"{shown_url(url)} is no storage; give a file, or a URL such as postgresql://user@host/name"
            ) from error
        except ImportError as error:
            if url.startswith("postgresql"):
                raise MissingExtraError("psycopg", "postgres") from error
            raise UsageError(f"no driver for {shown_url(url)}: {_first_line(error)}") from error
        except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError, RuntimeError, AssertionError) as error:
            if attempt == _CREATION_TRIES - 1 or _is_hopeless(error):
                raise StorageError(f"cannot open the storage {shown_url(url)}: {_first_line(error)}") from error
            time.sleep(random.uniform(0.02, 0.2))  # noqa: S311 two processes out of step
    raise AssertionError("unreachable")


def _prepare_file(url: str) -> None:
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot create {path.parent}: {error.strerror}; choose another folder with CIFARLAB_RUNS"
            ) from error
        _remove_stale(path)
        if not path.exists():
            _create_file(path)


def _remove_stale(path: Path) -> None:
    """Remove what processes left that were killed while they created the database."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp*"):
        with contextlib.suppress(OSError):  # another process removes it too
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()


def _create_file(path: Path) -> None:
    """Create an SQLite database with all of Optuna's tables under another name, and only then give it its own.

    Optuna creates tables and then their indices, each of which SQLite makes durable at once. A process killed in
    between would leave a database without the index that keeps the names of studies unique, for good.
    """
    import optuna
    import sqlalchemy

    # process ids repeat, among machines and containers at once
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        url = f"sqlite:///{temporary}".replace("{", "{{").replace("}", "}}")
        optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": sqlalchemy.NullPool}).remove_session()
        try:
            os.link(temporary, path)
        except FileExistsError:  # another process was faster
            return
        except OSError:  # a file system without links
            if not path.exists():
                temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_hopeless(error: Exception) -> bool:
    text = str(error)
    signs = ("unable to open", "readonly", "not a database", "connection failed", "connection refused", "compatible")
    return any(sign in text.lower() for sign in signs)


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def create_or_join(
    name: str,
    storage: optuna.storages.BaseStorage,
    *,
    attributes: dict[str, Any],
) -> optuna.Study:
    """Create an Optuna study that looks for a high value, or join the one of that name, whichever process is faster.

    Args:
        name: The study's name.
        storage: From :func:`open_storage`.
        attributes: User attributes (JSON values) of the study. One that is there already stays as it is: the caller
            compares what the returned study holds with what it wants.
    """
    import optuna

    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    present = study.user_attrs
    for key, value in attributes.items():
        if key not in present:
            study.set_user_attr(key, value)
    return study


def load_if_any(name: str, storage: optuna.storages.BaseStorage) -> optuna.Study | None:
    """Return the Optuna study of a name; None if there is none."""
    import optuna

    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None


def holds(study: optuna.Study | None, key: str) -> bool:
    """Return whether a study has a user attribute: whether it is of the kind that the attribute specifies.

    Args:
        study: From :func:`load_if_any`.
        key: Name of the attribute.

    Raises:
        UsageError: If the study is of another kind. One without anything in it is of none as yet: its creator has not
            come further, or was killed.
    """
    if study is None or key in study.user_attrs:
        return study is not None
    if study.user_attrs or study.get_trials(deepcopy=False):
        raise UsageError(f"the storage holds something else by the name {study.study_name!r}; choose another --name")
    return False


def patiently(
    call: Callable[[], Result],
    *,
    notify: Callable[[str], None] = lambda line: None,
    seconds: float = _AWAY_SECONDS,
) -> Result:
    """Make a call to the database; while it is away, as a server that restarts, try again.

    Args:
        call: What to do; doing it twice must do no harm.
        notify: Takes one line when the waiting begins.
        seconds: For how long to try.

    Raises:
        StorageError: If the database stays away.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

    # a transaction that PostgreSQL ended, because this worker was halted within it, is an InternalError
    passing = (OperationalError, InterfaceError, InternalError, StorageInternalError)
    until = time.monotonic() + seconds
    told = False
    while True:
        try:
            return call()
        except passing as error:
            if time.monotonic() > until:
                raise StorageError(f"the storage does not answer: {_first_line(error)}") from error
            if not told:
                notify(f"the storage does not answer ({_first_line(error)}); trying again")
                told = True
            time.sleep(min(2.0, seconds / 10))
