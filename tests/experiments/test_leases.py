"""Leases: one owner at a time, whoever is killed, halted, or a moment late."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.experiments.workers import CONTEXT, acquire_all, await_that, start, starts_processes

from cifarlab.errors import StoppedError
from cifarlab.experiments import leases as lease_module
from cifarlab.experiments.leases import Heartbeat, Watch, Worker, alone, claim, is_dead, this_worker
from cifarlab.experiments.storage import open_leases

NUM_KEYS = 12
linux = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs Linux's /proc")


def race(url, num_workers):
    go, won = CONTEXT.Event(), CONTEXT.Queue()
    workers = [start(acquire_all, url, NUM_KEYS, go, won) for _ in range(num_workers)]
    go.set()
    shares = [won.get(timeout=100) for _ in workers]
    return workers, shares


def end(workers):
    for worker in workers:
        worker.kill()
        worker.join()


@starts_processes
def test_of_several_processes_one_gets_each_key(storage_url):
    workers, shares = race(storage_url, 3)
    end(workers)
    assert sorted(key for share in shares for key in share) == sorted(map(str, range(NUM_KEYS)))


@linux
@starts_processes
@pytest.mark.slow
def test_what_a_killed_process_held_is_taken_over_by_one_of_the_others(storage_url):
    first, [everything] = race(storage_url, 1)
    assert len(everything) == NUM_KEYS
    others, shares = race(storage_url, 2)
    end(others)
    assert shares == [[], []], "its worker is alive"
    end(first)
    heirs, shares = race(storage_url, 3)
    end(heirs)
    assert sorted(key for share in shares for key in share) == sorted(map(str, range(NUM_KEYS)))


def test_acquire_beat_and_release(sqlite):
    one, other = open_leases(sqlite), open_leases(sqlite)
    assert one.acquire("a")
    assert not other.acquire("a")
    assert not one.acquire("a")
    assert one.beat("a")
    assert not other.beat("a")
    assert not other.release("a")
    assert one.release("a")
    assert not one.beat("a")
    assert other.acquire("a")


def test_a_beat_after_the_judgement_keeps_the_lease(sqlite):
    one, other = open_leases(sqlite), open_leases(sqlite)
    one.acquire("a")
    seen = other.held()["a"]
    one.beat("a")
    assert not other.take_over(seen)
    assert one.beat("a")


def test_of_two_heirs_with_the_same_judgement_one_succeeds(sqlite):
    one, second, third = (open_leases(sqlite) for _ in range(3))
    one.acquire("a")
    seen = second.held()["a"]
    assert [second.take_over(seen), third.take_over(seen)] == [True, False]
    assert [leases.beat("a") for leases in (one, second, third)] == [False, True, False]


def test_a_lease_is_silent_when_its_beats_stand_still_for_long_enough(sqlite, monkeypatch):
    now = 0.0
    monkeypatch.setattr(lease_module, "_now", lambda: now)
    one, other = open_leases(sqlite), open_leases(sqlite)
    one.acquire("a")
    watch = Watch(patience_seconds=60)
    judged = []
    for now in (0.0, 30.0, 59.0, 61.0):  # noqa: B007 read by the clock
        judged.append(watch.judge(other.held()["a"]))
    assert judged == ["alive", "alive", "alive", "silent"]
    one.beat("a")
    for now in (62.0, 90.0, 120.0):  # noqa: B007 read by the clock
        assert claim(other, watch, "a", other.held()) is None
    now = 130.0
    assert claim(other, watch, "a", other.held()).previous == "silent"
    assert not one.beat("a")


@pytest.mark.parametrize(
    ("patience", "looks", "expected"),
    [
        # where a machine sleeps, all its workers do: each would find the others silent when it wakes
        pytest.param(60, (0.0, 3600.0, 3620.0, 3640.0, 3660.0, 3661.0), ["alive"] * 5 + ["silent"], id="halted"),
        pytest.param(1, (0.0, 0.9, 3.0), ["alive", "alive", "silent"], id="looks_seldom"),
    ],
)
def test_who_does_not_look_for_long_counts_anew(patience, looks, expected, sqlite, monkeypatch):
    now = 0.0
    monkeypatch.setattr(lease_module, "_now", lambda: now)
    one, other = open_leases(sqlite), open_leases(sqlite)
    one.acquire("a")
    watch, judged = Watch(patience_seconds=patience), []
    for now in looks:  # noqa: B007 read by the clock
        judged.append(watch.judge(other.held()["a"]))
    assert judged == expected


def test_what_this_worker_holds_already_is_its_own(sqlite):
    """As after a call that the database carried out, but whose answer it broke off."""
    one, other = open_leases(sqlite), open_leases(sqlite)
    one.acquire("a")
    assert claim(one, Watch(), "a", one.held()).previous == "nobody"
    assert claim(other, Watch(), "a", other.held()) is None
    assert other.take_over(other.held()["a"])
    assert claim(other, Watch(), "a", other.held()).previous == "silent", "whoever held it may still be at work"


def test_one_worker_at_a_time_and_who_waits_can_be_stopped(sqlite):
    one, other = open_leases(sqlite), open_leases(sqlite)
    with alone(one, Watch(), "a"), pytest.raises(StoppedError) as caught, alone(other, Watch(), "a", lambda: 15):
        pytest.fail("both are alone")
    assert caught.value.exit_code == 143
    with alone(other, Watch(), "a"):
        assert [lease.key for lease in one.held().values()] == ["a"]
    assert one.held() == {}


@linux
def test_a_process_is_dead_when_it_ended_even_if_nobody_asked_for_its_status():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stat = lease_module._process(process.pid)
    worker = dataclasses.replace(this_worker(), pid=process.pid, start=stat[1])
    assert not is_dead(worker)
    process.send_signal(signal.SIGSTOP)
    assert not is_dead(worker), "halted is not dead"
    process.kill()
    await_that(lambda: is_dead(worker))  # a zombie as yet
    process.wait()
    assert is_dead(worker)


@linux
def test_another_process_of_the_same_number_is_not_the_worker():
    me = this_worker()
    assert not is_dead(me)
    assert is_dead(dataclasses.replace(me, start="1"))


def test_nothing_is_known_of_other_machines():
    gone = Worker(host="elsewhere", boot="other", namespace="pid:[1]", pid=2**22, start="1")
    assert not is_dead(gone)
    assert not is_dead(dataclasses.replace(gone, boot="", namespace=""))


def test_the_heartbeat_beats_and_notices_a_loss(sqlite):
    one, other = open_leases(sqlite), open_leases(sqlite)
    one.acquire("a")
    with Heartbeat(one, "a", beat_seconds=0.02) as heart:
        await_that(lambda: other.held()["a"].beats >= 3)
        assert not heart.lost
        await_that(lambda: other.take_over(other.held()["a"]))
        await_that(lambda: heart.lost)
