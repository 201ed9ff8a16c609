"""Fixtures of the tests of experiments: a small image folder, and a PostgreSQL server where one is installed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.experiments.pretend import Pretender, serve_images
from tests.experiments.workers import write_images

from cifarlab.experiments import storage as storage_module
from cifarlab.experiments.search import open_search
from cifarlab.experiments.search_queue import SearchQueue
from cifarlab.experiments.search_record import load_search
from cifarlab.experiments.search_work import SearchWorker
from cifarlab.training.loop import Hooks


def _lacks_user(name: str) -> bool:
    return subprocess.run(["id", name], capture_output=True, check=False).returncode != 0


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A database with all its tables, which take longer to make than most tests."""
    path = tmp_path_factory.mktemp("database") / "experiments.db"
    storage_module.open_leases(str(path)).close()
    return path


@pytest.fixture(autouse=True)
def _copied_database(request, monkeypatch) -> None:
    """New databases are copies of one."""
    create = storage_module._create_file

    def copy(path: Path) -> None:
        if path.parent.name.startswith("database"):
            create(path)
        else:
            shutil.copyfile(request.getfixturevalue("empty_database"), path)

    monkeypatch.setattr(storage_module, "_create_file", copy)


@pytest.fixture(autouse=True)
def _careless_databases(monkeypatch) -> None:
    """What is written to them need not survive the end of the machine either."""
    options = storage_module._engine_options

    def careless(url: str) -> dict[str, Any]:
        found = options(url)
        if url.startswith("sqlite"):
            found["connect_args"]["factory"] = _CarelessConnection
        return found

    monkeypatch.setattr(storage_module, "_engine_options", careless)


class _CarelessConnection(sqlite3.Connection):
    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.execute("PRAGMA synchronous = OFF")
        self.execute("PRAGMA journal_mode = MEMORY")


@pytest.fixture
def sqlite(tmp_path, empty_database) -> str:
    shutil.copyfile(empty_database, tmp_path / "experiments.db")
    return f"sqlite:///{tmp_path}/experiments.db"


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server: the folder of its socket, and what restarts it, breaking off what is going on."""

    folder: Path
    restart: Callable[[], None]

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self.folder}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a private server that listens on a socket in a folder of its own."""
    pytest.importorskip("psycopg", reason="PostgreSQL needs the extra 'postgres'")
    found = shutil.which("pg_ctl") or next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))), None)
    if found is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    programs = Path(found).resolve().parent
    user: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # not tmp_path: a socket's path may have 107 bytes only
    if os.getuid() == 0:  # which PostgreSQL refuses to run as
        if shutil.which("runuser") is None or _lacks_user("postgres"):
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres to run it as")
        user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")

    def program(name: str, *args: str) -> None:
        command = [*user, str(programs / name), *args]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, done.stderr

    try:
        program("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "postgres")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        control = ("pg_ctl", "-D", str(folder / "data"), "-l", str(folder / "log"), "-w", "-m", "immediate")
        program(*control, "-o", options, "start")
        yield Postgres(folder, lambda: program(*control, "restart"))
        program(*control, "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres, request) -> str:
    """A database of the test's own."""
    import psycopg

    name = f"test{abs(hash(request.node.nodeid))}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.url(name)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def storage_url(request) -> str:
    """Either database; a server takes some seconds to start, so its tests count as slow."""
    return request.getfixturevalue("sqlite" if request.param == "sqlite" else "postgres_url")


@pytest.fixture
def work(monkeypatch, source):
    """Do trials of a search as one worker, and return the record."""
    serve_images(monkeypatch, source)

    def do(search, trials, train=None, hooks=None, notify=lambda line: None, storage=None):
        study, found = open_search(search.name, storage_module.open_storage(storage), search)
        leases = storage_module.open_leases(storage)
        SearchWorker(SearchQueue(study, found, leases), train or Pretender(), hooks or Hooks(), notify).work(trials)
        leases.close()
        return load_search(study, found)

    return do
