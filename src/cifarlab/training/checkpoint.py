"""The complete state of a training run, to and from flat tensors and plain values, so that no pickle is needed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from cifarlab.errors import RunError

_TENSOR_KEY = "__tensor__"
_MISFIT = (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError)  # of values of another shape


@dataclass
class Progress:
    """Where a run stands, apart from tensors. Everything random is derived from the seed and ``step``."""

    step: int = 0
    """Optimiser steps done."""
    records: list[dict[str, Any]] = field(default_factory=list)
    """One record per finished epoch, as in metrics.jsonl."""
    loss_sum: float = 0.0
    """Sum of batch losses in the unfinished epoch."""
    correct: int = 0
    """Images classified correctly in the unfinished epoch."""
    epoch_seconds: float = 0.0
    """Train clock of the unfinished epoch."""
    clock_seconds: float = 0.0
    """Train clock since the start."""
    best_accuracy: float = -1.0
    """Highest val/accuracy so far."""
    best_epoch: int = 0
    """Epoch of ``best_accuracy``."""
    plateau_best: float = float("inf")
    """Lowest val/loss so far, for schedule plateau."""
    plateau_wait: int = 0
    """Epochs since ``plateau_best``."""
    plateau_factor: float = 1.0
    """Product of the drops of schedule plateau."""
    precision: str = "fp32"
    """Precision the run was started with; a resumed run keeps it."""


@dataclass
class TrainState:
    """Everything a training run consists of; what is not in here does not survive a resume."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    ema: nn.Module | None
    scaler: torch.amp.GradScaler | None
    best_weights: dict[str, torch.Tensor]
    progress: Progress


def pack_state(state: TrainState) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the state as flat tensors and plain values that JSON can hold."""
    tensors: dict[str, torch.Tensor] = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    if state.ema is not None:
        tensors.update({f"ema/{name}": value for name, value in state.ema.state_dict().items()})
    tensors.update({f"best/{name}": value for name, value in state.best_weights.items()})
    values: dict[str, Any] = {"progress": asdict(state.progress)}
    if values["progress"]["plateau_best"] == float("inf"):
        values["progress"]["plateau_best"] = None
    values["optimizers"] = [
        _flatten(optimizer.state_dict(), f"optimizer{number}", tensors)
        for number, optimizer in enumerate(state.optimizers)
    ]
    values["scaler"] = state.scaler.state_dict() if state.scaler is not None else None
    return tensors, values


def packed_precision(values: dict[str, Any]) -> str:
    """Return the precision of a packed state, without which no state can be built to put it into.

    Raises:
        RunError: If it tells none.
    """
    try:
        return {name: name for name in ("fp32", "bf16", "fp16")}[values["progress"]["precision"]]
    except _MISFIT as error:
        raise RunError(
            f"the checkpoint tells no precision ({error!r}); it was not written by cifarlab train"
        ) from error


def unpack_state(state: TrainState, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
    """Put a packed state into freshly built objects of the same configuration.

    Raises:
        RunError: If the checkpoint does not fit the configuration.
    """
    try:
        state.model.load_state_dict(_part(tensors, "model/"))
        if state.ema is not None:
            state.ema.load_state_dict(_part(tensors, "ema/"))
        for optimizer, packed in zip(state.optimizers, values["optimizers"], strict=True):
            optimizer.load_state_dict(_unflatten(packed, tensors))
            _lay_out_as_parameters(optimizer)
        if state.scaler is not None and values["scaler"] is not None:
            state.scaler.load_state_dict(values["scaler"])
        progress = dict(values["progress"])
        if progress["plateau_best"] is None:
            progress["plateau_best"] = float("inf")
        state.progress = Progress(**progress)
        state.best_weights = _part(tensors, "best/")
    except _MISFIT as error:
        raise RunError(
            f"the checkpoint does not fit its configuration: {' '.join(str(error).split())[:200]}"
        ) from error


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Put what an optimiser remembers of a parameter in that parameter's memory order, which files do not keep.

    Fused optimisers read both as they lie in memory, and would take one order for the other.
    """
    for parameter, remembered in optimizer.state.items():
        for name, value in remembered.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                remembered[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Move every tensor in a nest of dicts and lists to ``tensors`` and leave its name behind."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {_TENSOR_KEY: name}
    if isinstance(value, dict):
        # pairs, because JSON would turn the optimiser's integer keys into strings
        return {"pairs": [[key, _flatten(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_flatten(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
    return value


def _unflatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR_KEY in value:
            return tensors[value[_TENSOR_KEY]]
        return {key: _unflatten(item, tensors) for key, item in value["pairs"]}
    return [_unflatten(item, tensors) for item in value] if isinstance(value, list) else value
