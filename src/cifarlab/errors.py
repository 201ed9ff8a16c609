"""Every exception a user can meet; the command line prints its one line and exits with its code.

CifarlabError                1  anything below
├── UsageError               2  the command or its configuration is wrong
│   └── ConfigError          2  an unknown field, a value out of range
├── DataError                3  data is missing or cannot be read
│   ├── DownloadError        3  no source could deliver the data
│   └── IntegrityError       3  the data is there, but it is not what it should be
├── MissingExtraError        3  an optional library is not installed
├── RunError                 1  a run folder is missing, unfinished or damaged
├── StorageError             1  the database of studies cannot be opened, or has been away for too long
├── TrainingError            1  training cannot go on
│   ├── NonFiniteLossError   1  the loss became NaN or infinite
│   └── PeerError            1  another rank of a run on several processes failed
├── GateError                4  a required figure was not reached
└── StoppedError           130  a signal ended the work after its state was saved (SIGTERM: 143)
"""

from __future__ import annotations

from pathlib import Path


class CifarlabError(Exception):
    """Base of all errors meant for the user; its message is one line that says what to do."""

    exit_code: int = 1


class UsageError(CifarlabError):
    """The command line cannot be followed as it was written."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration has an unknown field or a value out of range."""


class DataError(CifarlabError):
    """Data is missing or cannot be read."""

    exit_code = 3


class DownloadError(DataError):
    """No source could deliver the data."""


class IntegrityError(DataError):
    """A checksum or a shape shows that data is not what it claims to be."""


class MissingExtraError(CifarlabError):
    """An optional library is not installed."""

    exit_code = 3

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed; install it with: pip install 'cifarlab[{extra}]'")


class RunError(CifarlabError):
    """A run folder is missing, unfinished or damaged."""


class StorageError(CifarlabError):
    """The database of studies cannot be opened, or has been away for too long."""


class TrainingError(CifarlabError):
    """Training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class PeerError(TrainingError):
    """Another rank failed, so this one cannot go on; the cause stands in that rank's own message."""


class GateError(CifarlabError):
    """A figure the user required was not reached."""

    exit_code = 4


class StoppedError(CifarlabError):
    """A signal ended the work after its state was saved.

    Attributes:
        run: Folder of the run that was being trained; None if none was.
    """

    exit_code = 130

    def __init__(self, message: str, signal_number: int, run: Path | None = None) -> None:
        super().__init__(message)
        self.run = run
        self.exit_code = 128 + signal_number
