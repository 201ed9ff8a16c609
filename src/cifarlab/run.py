"""Run: the one reader and writer of the run folder, the only interface after training.

docs/run-folder.md is the format's specification. Every file is written under a temporary name, flushed to disk and
renamed, so a reader sees the old file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from cifarlab.config import Config
from cifarlab.config_yaml import config_to_yaml, load_config
from cifarlab.errors import RunError

FORMAT_VERSION = 1
EVALUATION_FORMAT_VERSION = 2
"""Of evaluation.json; 1 had no sections and is read as well."""
_METADATA_KEY = "cifarlab"  # one key only: safetensors does not keep the order of several, and bytes must repeat
_CHECKPOINTS_KEPT = 2


def runs_root() -> Path:
    """Return the folder runs go to: CIFARLAB_RUNS, else ./runs."""
    return Path(os.environ.get("CIFARLAB_RUNS") or "runs")


@dataclass(frozen=True)
class Predictions:
    """What a model said about a split, in the split's order.

    Attributes:
        logits_NK: float32, N x K, from the images as they are.
        labels_N: int64, N.
        logits_tta_NK: float32, N x K, averaged over test-time views; None where the run uses none.
    """

    logits_NK: torch.Tensor
    labels_N: torch.Tensor
    logits_tta_NK: torch.Tensor | None = None


@contextlib.contextmanager
def durable_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it is flushed to disk and renamed to ``path``.

    Raises:
        RunError: If the disk is full or the folder cannot be written; ``path`` is then as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # such as a file where the folder should be: the error above says it all
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file durably (UTF-8); of a file's name that is no UTF-8, the bytes become escapes, those of JSON."""
    with durable_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    """Write a safetensors file durably; equal content gives equal bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors_bytes(plain, {_METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    with durable_file(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a safetensors file written by :func:`write_tensors`.

    Raises:
        RunError: If it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
            if not isinstance(metadata, dict) or not isinstance(metadata.get("format", 0), int):
                raise ValueError("its metadata is not what cifarlab writes")
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 not a dict
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing") from error
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


class Run:
    """A run folder, open for reading and writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, config: Config, *, name: str = "", root: Path | None = None) -> Run:
        """Make a new run folder; a second run of the same name is ``<name>-2``.

        Raises:
            RunError: If the folder cannot be written.
        """
        root = runs_root() if root is None else root
        name = name or config.recipe
        if not name or Path(name).name != name or name.startswith("."):
            raise RunError(f"a run's name must be one plain folder name, not {name!r}")
        path = root
        try:
            root.mkdir(parents=True, exist_ok=True)  # by itself: of a link to nowhere it says that it exists
            for number in range(1, 100_000):
                path = root / (name if number == 1 else f"{name}-{number}")
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    break
            else:
                raise RunError(f"{root / name} and its 99,999 successors exist; choose another name")
        except OSError as error:
            raise RunError(
                f"cannot create {path}: {error.strerror}; choose another folder with CIFARLAB_RUNS"
            ) from error
        write_text(path / "config.yaml", config_to_yaml(config))
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """Open an existing run folder; a bare name is looked for below the runs folder too.

        Raises:
            RunError: If there is no run at ``path``.
        """
        for candidate in (Path(path), runs_root() / path):
            if os.path.isfile(candidate / "config.yaml"):  # noqa: PTH113 Path.is_file raises for a name that is too long
                return cls(candidate)
        raise RunError(f"{path} is not a run folder (no config.yaml in it); runs are in {runs_root()}/")

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def quoted(self) -> str:
        """Path of the folder as one word of a command, to be typed as it is."""
        return shlex.quote(str(self.path))

    @property
    def config(self) -> Config:
        """The resolved configuration."""
        return load_config(self.path / "config.yaml")

    @property
    def finished(self) -> bool:
        """Whether training ended and its result is on disk."""
        return (self.path / "result.json").is_file()

    def require_finished(self) -> None:
        """Raise RunError with the way on unless the run is finished."""
        if not self.finished:
            raise RunError(f"{self.path} is not finished; continue it with: cifarlab train --resume {self.quoted}")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file durably; dataclasses become objects."""
        plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        write_text(self.path / name, json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Raises:
            RunError: If it is missing or damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(f"{self.path / name} is missing") from error
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / name} is damaged: {error}") from error

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """Write metrics.jsonl: one record an epoch, all of them, so that a resumed run leaves no line twice."""
        lines = (json.dumps(record, allow_nan=False) + "\n" for record in records)
        write_text(self.path / "metrics.jsonl", "".join(lines))

    def metrics(self) -> list[dict[str, Any]]:
        """Return the records of metrics.jsonl; none before the first epoch."""
        return _read_lines(self.path / "metrics.jsonl")

    def save_model(self, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
        """Write model.safetensors: weights, with what is needed to build the model again."""
        write_tensors(self.path / "model.safetensors", tensors, {"format": FORMAT_VERSION, **metadata})

    def load_model(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Read model.safetensors.

        Raises:
            RunError: If it is missing, damaged, or of a newer format.
        """
        if not (self.path / "model.safetensors").is_file():
            self.require_finished()
        tensors, metadata = read_tensors(self.path / "model.safetensors")
        if metadata.get("format", 0) > FORMAT_VERSION:
            raise RunError(f"{self.path} was written by a newer cifarlab; update this one")
        return tensors, metadata

    def save_checkpoint(self, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Write the full training state after ``step`` steps; an old one is removed only when this one is durable."""
        folder = self.path / "checkpoint"
        write_tensors(folder / f"step-{step:09d}.safetensors", tensors, {"format": FORMAT_VERSION, **state})
        for old in sorted(folder.glob("step-*.safetensors"))[:-_CHECKPOINTS_KEPT]:
            old.unlink(missing_ok=True)

    def checkpoint_steps(self) -> list[int]:
        """Return after how many steps the training states that are kept were saved."""
        return [int(path.stem.removeprefix("step-")) for path in (self.path / "checkpoint").glob("step-*.safetensors")]

    def load_checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return the newest readable training state; None if there is none.

        Raises:
            RunError: If checkpoints exist and none can be read.
        """
        newest_first = sorted((self.path / "checkpoint").glob("step-*.safetensors"), reverse=True)
        problem = None
        for path in newest_first:
            try:
                return read_tensors(path)
            except RunError as error:
                problem = error
        if problem is not None:
            raise RunError(f"no checkpoint of {self.path} can be read: {problem}")
        return None

    def save_predictions(self, split: str, predictions: Predictions) -> None:
        """Write predictions/<split>.safetensors."""
        tensors = {"logits": predictions.logits_NK.float(), "labels": predictions.labels_N}
        if predictions.logits_tta_NK is not None:
            tensors["logits_tta"] = predictions.logits_tta_NK.float()
        write_tensors(self.path / "predictions" / f"{split}.safetensors", tensors, {"split": split})

    def load_predictions(self, split: str) -> Predictions:
        """Read predictions/<split>.safetensors.

        Raises:
            RunError: If the split was not evaluated, or the file is damaged.
        """
        path = self.path / "predictions" / f"{split}.safetensors"
        again = f"make them with: cifarlab evaluate {self.quoted} --split {split}"
        if not path.is_file():
            raise RunError(f"{self.path} holds no predictions on {split}; {again}")
        tensors, _ = read_tensors(path)
        logits_NK, labels_N, logits_tta_NK = (tensors.get(name) for name in ("logits", "labels", "logits_tta"))
        if logits_NK is None or labels_N is None or logits_NK.ndim != 2 or labels_N.shape != logits_NK.shape[:1]:
            raise RunError(f"{path} is damaged: it holds no logits and labels of one number of images; {again}")
        return Predictions(logits_NK, labels_N, logits_tta_NK)

    def log_test_read(self, command: str, reason: str) -> None:
        """Add one line to test_reads.jsonl: every look at the test split is written down before it happens."""
        record = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "command": command, "reason": reason}
        path = self.path / "test_reads.jsonl"
        before = path.stat().st_size if path.is_file() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line would spoil the ones before and after it
                os.truncate(path, before)
            raise RunError(f"cannot record the reading of the test split in {self.path}: {error.strerror}") from error

    def test_reads(self) -> list[dict[str, Any]]:
        """Return the records of test_reads.jsonl, oldest first."""
        return _read_lines(self.path / "test_reads.jsonl")


def with_absolute_paths(config: Config) -> Config:
    """Return the same configuration by paths that hold from every folder in which somebody goes on with it.

    Raises:
        RunError: If the run whose weights it starts from is not there.
    """

    def absolute(path: str) -> str:
        return str(Path(path).resolve()) if path else ""

    data = dataclasses.replace(config.data, folder=absolute(config.data.folder), csv=absolute(config.data.csv))
    model = dataclasses.replace(config.model, init=absolute_run(config.model.init))
    return dataclasses.replace(config, data=data, model=model)


def absolute_run(name: str) -> str:
    """Return the absolute path of a run folder, or of that of its name below the runs folder; '' for none.

    Raises:
        RunError: If it is not there.
    """
    return str(Run.open(name).path.resolve()) if name else ""


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
