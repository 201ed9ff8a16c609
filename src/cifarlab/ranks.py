"""Which of several processes this one is, as torchrun tells it; without torch, so that the command line can ask."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cifarlab.errors import NonFiniteLossError, PeerError, StoppedError, UsageError

_ENDS_ALL_ALIKE = (UsageError, NonFiniteLossError, StoppedError)


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train one run together.

    Attributes:
        rank: 0..size-1; rank 0 writes and speaks for all.
        size: Number of processes on all machines.
        local_rank: 0..local_size-1, this process among those of its machine.
        local_size: Number of processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0


def read_ranks(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Read the variables torchrun sets for every process it starts; without them this process is alone.

    Raises:
        UsageError: If some of them are missing or senseless.
    """
    if "LOCAL_RANK" not in environment:
        if environment.get("WORLD_SIZE", "1") != "1":
            raise UsageError(
                f"WORLD_SIZE is {environment['WORLD_SIZE']}, but torchrun did not start this process; "
                "start with torchrun, or unset WORLD_SIZE"
            )
        return Ranks()
    try:
        size, local_size = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        ranks = Ranks(int(environment["RANK"]), size, int(environment["LOCAL_RANK"]), local_size)
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"LOCAL_RANK is set, but not the rest of torchrun's variables ({error}); start with torchrun, or unset it"
        ) from error
    if not (0 <= ranks.rank < size and 0 <= ranks.local_rank < local_size <= size):
        raise UsageError(f"torchrun's variables contradict each other: {ranks}")
    return ranks


def several() -> bool:
    """Return whether torchrun started more than one process."""
    return "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE") != "1"


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Silence what this process prints, unless it is the first of its machine; errors are raised to the caller."""
    if not several() or os.environ["LOCAL_RANK"] == "0":
        yield
        return
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def attribute(error: Exception, message: str) -> str:
    """Return the message of an error with the rank it happened on; '' where another rank says the same."""
    if not several():
        return message
    if os.environ["LOCAL_RANK"] != "0" and isinstance(error, (*_ENDS_ALL_ALIKE, PeerError)):
        return ""
    return message if isinstance(error, _ENDS_ALL_ALIKE) else f"rank {os.environ.get('RANK', '?')}: {message}"


def end_at_once(error: Exception, code: int) -> None:
    """End this process with a code and without clean-up, where it is one of several and failed by itself.

    Cleaning up waits for what this rank and the others still owe each other, up to their timeouts; gone, it is noticed
    at once.
    """
    if several() and not isinstance(error, _ENDS_ALL_ALIKE):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
