"""What several commands of the command line share: parsing, fetching with progress shown, stopping by a signal."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tyro

from cifarlab import console
from cifarlab.config import DataConfig

if TYPE_CHECKING:
    from cifarlab.training.loop import Hooks


def parse(arguments: Any, command: str, argv: Sequence[str], default: Any = None) -> Any:
    """Parse ``argv`` into a dataclass; tyro prints help and usage errors and exits with 0 or 2."""
    keywords = {} if default is None else {"default": default}
    return tyro.cli(arguments, prog=f"cifarlab {command}", args=list(argv), **keywords)


def fetch_first(data: DataConfig) -> None:
    """Bring a public data set with its progress shown, before a command that would otherwise wait in silence."""
    if data.folder or data.csv:
        return
    from cifarlab.data import load_source

    with console.TransferDisplay() as display:
        load_source(data, progress=display.update, notify=display.notify)


@contextmanager
def stoppable(on_step: Callable[[Any], None], on_epoch: Callable[[Any], None]) -> Iterator[Hooks]:
    """Turn SIGINT and SIGTERM into a stop after the current step; a second SIGINT ends at once."""
    from cifarlab.training.loop import Hooks

    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        console.notify("stopping after this step and saving; interrupt again to end at once")

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield Hooks(on_step=on_step, on_epoch=on_epoch, stop_signal=lambda: received[0] if received else 0)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
