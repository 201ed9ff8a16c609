"""The storage: where it is, what is said when it cannot be opened, and that workers wait while it is away."""

import os
import sys
import time

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError
from tests.experiments.workers import die_while_creating, start, starts_processes

from cifarlab.errors import MissingExtraError, UsageError
from cifarlab.experiments import storage as storage_module
from cifarlab.experiments.storage import (
    StorageError,
    create_or_join,
    load_if_any,
    open_leases,
    open_storage,
    patiently,
    shown_url,
    storage_url,
)
from cifarlab.run import runs_root


@pytest.fixture(autouse=True)
def _copied_database():
    """Here databases are made, not copied."""


def test_the_default_is_a_file_in_the_runs_folder(tmp_path, monkeypatch):
    assert storage_url() == f"sqlite:///{runs_root() / 'experiments.db'}"
    monkeypatch.chdir(tmp_path)
    assert storage_url("a.db") == f"sqlite:///{tmp_path}/a.db"
    assert storage_url("postgres://u@h/x") == storage_url("postgresql://u@h/x") == "postgresql+psycopg://u@h/x"
    assert storage_url("mysql://u@h/x") == "mysql://u@h/x"


def test_a_folder_s_name_may_hold_braces_and_blanks(tmp_path):
    """Optuna fills a template in braces into its URL."""
    path = tmp_path / "{SCHEMA_VERSION} a b {0}" / "x.db"
    create_or_join("s", open_storage(str(path)), attributes={})
    assert path.is_file()
    assert open_leases(str(path)).acquire("k")


@starts_processes
def test_a_process_killed_while_it_creates_the_database_leaves_none(tmp_path):
    """Tables without the unique index of the studies' names would let every worker create a study of its own."""
    path = tmp_path / "x.db"
    for _ in range(2):
        killed = start(die_while_creating, path)
        killed.join()
        assert killed.exitcode == 9
    left = list(tmp_path.iterdir())
    assert len([file for file in left if file.suffix == ".tmp"]) == 2, "each has a file of its own"
    assert not path.exists()
    storage = open_storage(str(path))
    optuna.create_study(storage=storage, study_name="s")
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(storage=open_storage(str(path)), study_name="s")
    assert set(tmp_path.iterdir()) == {path, *left}, "another process may be writing them"
    for file in left:
        os.utime(file, (time.time() - 4000,) * 2)
    open_storage(str(path))
    assert list(tmp_path.iterdir()) == [path]


def test_whoever_opens_it_first_the_database_is_whole(tmp_path):
    path = tmp_path / "x.db"
    assert open_leases(str(path)).acquire("k")
    optuna.create_study(storage=open_storage(str(path)), study_name="s")
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(storage=open_storage(str(path)), study_name="s")


def test_waits_for_a_server_have_an_end(monkeypatch):
    options = storage_module._engine_options(
        "postgresql+psycopg://u@h/x?options=-c%20search_path%3Da&connect_timeout=3"
    )
    assert options["connect_args"] == {
        "tcp_user_timeout": 60_000,
        "options": "-c lock_timeout=60s -c idle_in_transaction_session_timeout=60s -c search_path=a",
    }
    assert storage_module._engine_options("postgresql://h/x")["connect_args"]["connect_timeout"] == 10


@pytest.mark.slow
def test_a_worker_halted_within_a_transaction_keeps_others_out_for_a_while_only(postgres_url, monkeypatch):
    monkeypatch.setattr(storage_module, "_LOCK_SECONDS", 2)
    halted, other = open_leases(postgres_url), open_leases(postgres_url)
    assert other.acquire("a")
    mine = sqlalchemy.text("UPDATE cifarlab_leases SET beats = 99")
    with halted._engine.connect() as connection:
        connection.execute(mine)  # holds the row, and is halted
        start, notes = time.monotonic(), []
        assert patiently(lambda: other.beat("a"), notify=notes.append)
        assert 1 < time.monotonic() - start < 20
        with pytest.raises(sqlalchemy.exc.DBAPIError):
            connection.execute(mine)  # its transaction is gone
    assert patiently(lambda: halted.held()["a"].beats) == 1


def test_a_transaction_that_the_server_ended_is_tried_again(monkeypatch):
    psycopg = pytest.importorskip("psycopg", reason="PostgreSQL needs the extra 'postgres'")
    monkeypatch.setattr(storage_module.time, "sleep", lambda seconds: None)
    gone = psycopg.errors.IdleInTransactionSessionTimeout("terminating connection")
    error = sqlalchemy.exc.DBAPIError.instance("s", {}, gone, psycopg.Error)
    outcomes = [error, 7]

    def call():
        if isinstance(outcome := outcomes.pop(0), Exception):
            raise outcome
        return outcome

    assert patiently(call) == 7


def test_a_password_is_never_shown():
    assert shown_url("postgresql+psycopg://u:secret@h/x") == "postgresql+psycopg://u:***@h/x"
    assert "secret" not in shown_url("u:secret@h x://y")


def test_what_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no database" * 100)
    with pytest.raises(StorageError, match=r"cannot open the storage .*: file is not a database") as caught:
        open_storage(str(tmp_path / "file"))
    assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="cannot create"):
        open_storage(str(tmp_path / "file" / "x.db"))
    with pytest.raises(UsageError, match="is no storage"):
        open_storage("nosuch://x")


def test_a_missing_driver_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cifarlab\[postgres\]'"):
        open_storage("postgresql://u@127.0.0.1:1/x")


def test_attributes_that_are_there_stay(sqlite):
    storage = open_storage(sqlite)
    assert load_if_any("s", storage) is None
    create_or_join("s", storage, attributes={"a": 1})
    assert create_or_join("s", open_storage(sqlite), attributes={"a": 2, "b": 3}).user_attrs == {"a": 1, "b": 3}
    assert load_if_any("s", storage).user_attrs == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    "error", [sqlalchemy.exc.OperationalError("s", {}, Exception("gone")), StorageInternalError("gone")]
)
def test_a_database_that_is_away_is_tried_again(error, monkeypatch):
    monkeypatch.setattr(storage_module.time, "sleep", lambda seconds: None)
    outcomes, notes = [error, error, 7], []

    def call():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert patiently(call, notify=notes.append) == 7
    assert notes == ["the storage does not answer (gone); trying again"]


def test_a_database_that_stays_away_ends_the_work():
    def call():
        raise sqlalchemy.exc.OperationalError("s", {}, Exception("gone for good"))

    with pytest.raises(StorageError, match="the storage does not answer: gone for good"):
        patiently(call, seconds=0.1)


def test_other_errors_are_not_tried_again():
    calls = []

    def call():
        calls.append(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        patiently(call)
    assert len(calls) == 1
