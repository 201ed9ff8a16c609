"""The terminal: results to stdout, progress and notices to stderr; no other module knows a terminal.

Bars appear on a terminal only; elsewhere training prints one line an epoch. NO_COLOR is honoured (by rich).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from cifarlab.phrases import duration


class _Output(Console):
    """A console whose reader, such as head, may go before the command has ended."""

    def on_broken_pipe(self) -> None:
        """Do without progress that nobody reads; where results have no reader, have the command end.

        Raises:
            BrokenPipeError: On stdout. Rich would exit with code 1, as if the command had failed.
        """
        if not self.stderr:
            raise BrokenPipeError
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def stderr_console() -> Console:
    """Return the console for progress and notices."""
    return _Output(stderr=True, highlight=False)


def notify(line: str) -> None:
    """Print a one-line notice to stderr."""
    stderr_console().print(Text(line), soft_wrap=True)


def print_error(message: str) -> None:
    """Print an error to stderr; its first line is marked."""
    stderr_console().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def print_line(line: str = "", style: str = "") -> None:
    """Print a line of a result to stdout."""
    _Output(highlight=False).print(Text(line, style=style), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value for machines to stdout, in ASCII: any terminal takes it, whatever a file or class is named."""
    text = json.dumps(value, indent=2, default=str, allow_nan=False)
    if sys.stdout is not None:  # a service may start us without one
        sys.stdout.write(text + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout; all columns but the first are right-aligned."""
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _Output(highlight=False).print(table)


def print_summary(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of sentences to stdout: names to the left, figures to the right, long sentences wrapped between."""
    table = Table(header_style="bold")
    for number, column in enumerate(columns):
        last = number == len(columns) - 1
        table.add_column(column, justify="right" if last else "left", no_wrap=last or number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _Output(highlight=False).print(table)


def print_facts(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and what is known of them to stdout, long texts wrapped beside their names."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text in rows:
        grid.add_row(Text(f"  {name}"), Text(text, overflow="fold"))
    print_line(title, style="bold")
    _Output(highlight=False).print(grid)
    print_line()


def format_bytes(count: float | None) -> str:
    """Return a size as people say it: 512 MB, 23.5 GB; 'unknown' for None."""
    if count is None:
        return "unknown"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def format_roughly(seconds: float) -> str:
    """Return an estimated duration with no more digits than it deserves: about 25 s, about 4 min, about 2 h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {5 * round(seconds / 5)} s" if seconds >= 20 else f"about {max(1, round(seconds))} s"


class TransferDisplay:
    """Progress of downloads and other counted work: a bar on a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        console = stderr_console()
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> TransferDisplay:
        """Show the display."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the display."""
        self._progress.stop()

    def update(self, name: str, done_bytes: int, total_bytes: int | None) -> None:
        """Show how much of ``name`` has arrived."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total_bytes)
        self._progress.update(self._tasks[name], completed=done_bytes, total=total_bytes)
        if total_bytes is not None and done_bytes >= total_bytes:
            self._progress.remove_task(self._tasks.pop(name))

    def notify(self, line: str) -> None:
        """Print a notice above the bars."""
        self._progress.console.print(Text(line), soft_wrap=True)


class TrainingDisplay:
    """Progress of a training run: a live bar on a terminal, and one line per finished epoch everywhere."""

    def __init__(self) -> None:
        self._console = stderr_console()
        columns = (
            TextColumn("epoch {task.fields[epoch]}/{task.fields[num_epochs]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.1%}"),
            TextColumn("{task.fields[images_per_second]:,.0f} images/s"),
            TextColumn("{task.fields[left]} left"),
        )
        self._progress = Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._task: TaskID | None = None
        self._num_epochs = 0
        self._last_drawn = 0.0

    def __enter__(self) -> TrainingDisplay:
        """Show the display."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar; the lines of the epochs stay."""
        self._progress.stop()

    def on_step(self, report: Any) -> None:
        """Move the bar, at most ten times a second, so that drawing costs nothing.

        Args:
            report: A cifarlab.training.loop.StepReport, which this module, standing above it, does not import.
        """
        self._num_epochs = report.num_epochs
        now = time.monotonic()
        if self._progress.disable or (now - self._last_drawn < 0.1 and report.step < report.num_steps):
            return
        self._last_drawn = now
        fields: dict[str, Any] = {
            "epoch": report.epoch,
            "num_epochs": report.num_epochs,
            "loss": report.loss,
            "accuracy": report.accuracy,
            "images_per_second": report.images_per_second,
            "left": duration(report.seconds_left),
        }
        if self._task is None:
            self._task = self._progress.add_task("train", total=report.num_steps, **fields)
        self._progress.update(self._task, completed=report.step, **fields)

    def on_epoch(self, record: dict[str, float]) -> None:
        """Print the line of a finished epoch."""
        parts = [f"epoch {record['epoch']:.0f}/{self._num_epochs}"]
        for split in ("train", "val"):
            if f"{split}/loss" in record:
                parts.append(f"{split} loss {record[f'{split}/loss']:.3f} accuracy {record[f'{split}/accuracy']:.2%}")
        parts.append(f"{record['images_per_second']:,.0f} images/s")
        parts.append(duration(record["seconds"]))
        self._console.print(Text("  ".join(parts)), soft_wrap=True)

    def notify(self, line: str) -> None:
        """Print a notice above the bar."""
        self._console.print(Text(line), soft_wrap=True)


class StudyDisplay:
    """Progress of a study: a live bar over all its trials on a terminal, and one line per finished trial everywhere.

    What it is told are objects of cifarlab.commands.study and cifarlab.training.loop, which this module, standing above
    them, does not import.
    """

    def __init__(self) -> None:
        self._console = stderr_console()
        columns = (
            TextColumn("{task.fields[done]}/{task.total} trials"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]}{task.fields[now]}"),
        )
        self._progress = Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._task: TaskID | None = None
        self._done = 0
        self._last_drawn = 0.0

    def __enter__(self) -> StudyDisplay:
        """Show the display."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar; the lines of the trials stay."""
        self._progress.stop()

    def begin(self, step: Any) -> None:
        """Show which trial begins, and where the study stands."""
        counts = step.counts
        self._done = counts.complete + counts.failed
        left = "" if step.seconds_left != step.seconds_left else f"{format_roughly(step.seconds_left)} left  "
        fields: dict[str, Any] = {
            "done": self._done,
            "left": left,
            "now": f"{step.trial.arm}, seed {step.trial.seed}",
        }
        if self._task is None:
            self._task = self._progress.add_task("study", total=counts.total, **fields)
        self._progress.update(self._task, completed=self._done, **fields)

    def on_step(self, report: Any) -> None:
        """Move the bar within a trial, at most ten times a second."""
        now = time.monotonic()
        if self._task is None or now - self._last_drawn < 0.1:
            return
        self._last_drawn = now
        self._progress.update(self._task, completed=self._done + report.step / report.num_steps)

    def end(self, step: Any) -> None:
        """Print the line of a trial that ended."""
        trial, counts = step.trial, step.counts
        self._done = counts.complete + counts.failed
        if trial.error:
            outcome = f"failed: {trial.error}"
        else:
            views = "val/accuracy_tta" in trial.figures
            accuracy = trial.figures["val/accuracy_tta" if views else "val/accuracy"]
            outcome = f"val accuracy {accuracy:.2%}{' with views' if views else ''} in {duration(trial.seconds)}"
        left = f"; {format_roughly(step.seconds_left)} left" if counts.open and step.seconds_left > 0 else ""
        if self._task is not None:
            self._progress.update(self._task, completed=self._done, done=self._done)
        self.notify(f"{self._done}/{counts.total}  {trial.arm}, seed {trial.seed}  {outcome}{left}")

    def notify(self, line: str) -> None:
        """Print a notice above the bar."""
        self._console.print(Text(line), soft_wrap=True)
