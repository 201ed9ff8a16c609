"""Torchrun's variables, and who speaks."""

import os
import sys

import pytest

from cifarlab import ranks
from cifarlab.cli import main
from cifarlab.errors import DataError, NonFiniteLossError, PeerError, StoppedError, UsageError
from cifarlab.ranks import Ranks, attribute, end_at_once, one_voice, read_ranks

SECOND_MACHINE = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def torchrun(monkeypatch):
    for name, value in SECOND_MACHINE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_torchruns_variables_are_read():
    assert read_ranks(SECOND_MACHINE) == Ranks(rank=3, size=4, local_rank=1, local_size=2)
    assert read_ranks({}) == Ranks()
    assert read_ranks({}).is_main
    assert not read_ranks(SECOND_MACHINE).is_main


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": None}, "not the rest of torchrun's variables"),
        ({"WORLD_SIZE": "many"}, "not the rest of torchrun's variables"),
        ({"RANK": "4"}, "contradict each other"),
        ({"LOCAL_RANK": "2"}, "contradict each other"),
        ({"LOCAL_RANK": None}, "torchrun did not start this process"),
    ],
)
def test_half_set_variables_are_refused(change, message):
    environment = {name: value for name, value in (SECOND_MACHINE | change).items() if value is not None}
    with pytest.raises(UsageError, match=message):
        read_ranks(environment)


def test_only_the_first_rank_of_a_machine_prints(torchrun, capsys):
    with one_voice():
        sys.stdout.write("quiet")
        sys.stderr.write("quiet")
    torchrun.setenv("LOCAL_RANK", "0")
    with one_voice():
        sys.stdout.write("loud")
    assert capsys.readouterr() == ("loud", "")


def test_an_error_that_all_ranks_have_is_said_once_a_machine_and_others_name_their_rank(torchrun):
    alike = [UsageError("a"), NonFiniteLossError("a"), StoppedError("a", 15)]
    assert [attribute(error, "a") for error in [*alike, PeerError("a")]] == [""] * 4
    assert attribute(DataError("a"), "a") == "rank 3: a"
    assert attribute(ValueError("a"), "a") == "rank 3: a"
    torchrun.setenv("LOCAL_RANK", "0")
    assert [attribute(error, "a") for error in alike] == ["a"] * 3
    assert attribute(PeerError("a"), "a") == "rank 3: a"


def test_a_single_process_has_no_rank_to_name(monkeypatch):
    assert attribute(ValueError("a"), "a") == "a"
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert not ranks.several()
    assert attribute(ValueError("a"), "a") == "a"


def test_torchrun_is_refused_for_other_commands(torchrun, capsys):
    torchrun.setenv("LOCAL_RANK", "0")
    assert main(["evaluate", "x"]) == 2
    assert "torchrun is for train; start cifarlab evaluate without it" in capsys.readouterr().err


def test_a_rank_that_failed_by_itself_ends_at_once_with_its_code(torchrun):
    ended = []
    torchrun.setattr(os, "_exit", ended.append)
    for error in (UsageError("a"), NonFiniteLossError("a"), StoppedError("a", 15)):
        end_at_once(error, 1)
    assert ended == []
    end_at_once(ValueError("a"), 1)
    end_at_once(PeerError("a"), 1)
    end_at_once(DataError("a"), 3)
    assert ended == [1, 1, 3]


def test_a_process_that_is_alone_is_left_to_clean_up(monkeypatch):
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("ended"))
    end_at_once(ValueError("a"), 1)
