"""Storage: where studies and searches are recorded: an Optuna database, SQLite in a file or a PostgreSQL server.

Optuna's tables hold the record: one study, one trial per configuration and seed, with state, value and attributes. Who
works on which trial is held in a table beside them (leases.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cifarlab.errors import CifarlabError, MissingExtraError, UsageError
from cifarlab.experiments.leases import Leases, require_tune

if TYPE_CHECKING:
    import optuna

FILE_NAME = "experiments.db"
_LOCK_SECONDS = 60  # how long a statement waits for another process to finish its own
_CREATION_TRIES = 20
_AWAY_SECONDS = 300.0

Result = TypeVar("Result")


class StorageError(CifarlabError):
    """The database of studies cannot be opened, or has been away for too long."""


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
    return {"pool_pre_ping": True}  # a server that was restarted is noticed before a statement fails


def _created(url: str, create: Callable[[], Result]) -> Result:
    """Open a database that other processes may be creating at this moment, which makes either fail at some table.

    Tables are created where they are missing, so whoever tries again goes on where the others, or a killed one, were.
    """
    import sqlalchemy
    from optuna.exceptions import StorageInternalError

    _prepare_file(url)
    for attempt in range(_CREATION_TRIES):
        try:
            return create()
        except sqlalchemy.exc.ArgumentError as error:
            raise UsageError(
                f"{shown_url(url)} is no storage; give a file, or a URL such as postgresql://user@host/name"
            ) from error
        except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
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
    direction: Literal["maximize", "minimize"] = "maximize",
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    """Create an Optuna study, or join the one of that name, whichever process is faster.

    Args:
        name: The study's name.
        storage: From :func:`open_storage`.
        attributes: User attributes (JSON values) of the study. One that is there already stays as it is: the caller
            compares what the returned study holds with what it wants.
        direction: Whether a higher value is better.
        sampler: Optuna's sampler, for searches.
        pruner: Optuna's pruner, for searches.
    """
    import optuna

    study = optuna.create_study(
        storage=storage, study_name=name, direction=direction, sampler=sampler, pruner=pruner, load_if_exists=True
    )
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
    import sqlalchemy
    from optuna.exceptions import StorageInternalError

    until = time.monotonic() + seconds
    told = False
    while True:
        try:
            return call()
        except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, StorageInternalError) as error:
            if time.monotonic() > until:
                raise StorageError(f"the storage does not answer: {_first_line(error)}") from error
            if not told:
                notify(f"the storage does not answer ({_first_line(error)}); trying again")
                told = True
            time.sleep(min(2.0, seconds / 10))
