"""One run on several processes: torchrun starts them, DistributedDataParallel averages their gradients.

What is equal to one process, up to the rounding of sums in another order: every rank draws the plan of the whole batch
and computes its own part of it; batch norm uses the statistics of the whole batch; losses, counts, validation and every
decision that follows from them are those of all ranks together. What is not equal: dropout, whose masks every rank
draws for its own images.

Rank 0 writes and speaks for all. Nothing is pickled between ranks.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cifarlab.errors import DataError, NonFiniteLossError, PeerError, StoppedError, UsageError
from cifarlab.inference import predict_logits
from cifarlab.ranks import Ranks, read_ranks

# A rank that dies is noticed at once, for its connections close and torchrun ends the others; these are for one that
# hangs.
_STEP_TIMEOUT = timedelta(minutes=10)
_WAIT_TIMEOUT = timedelta(minutes=60)  # for a download, or the last evaluation and its plots
_SECONDS_TO_BE_ENDED = 5.0
_BROKEN = re.compile("gloo|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)
_joins = itertools.count()


@dataclass(frozen=True)
class World(Ranks):
    """The processes that train one run, and what they do together; alone by default, where everything is free.

    Every method that communicates has to be called by all ranks in the same order.

    Attributes:
        control: Processor-side connections for what is not part of a step; None where this process is alone.
    """

    control: dist.ProcessGroup | None = None

    def rows(self, batch_size: int) -> slice:
        """Return which rows of a batch are this rank's.

        Raises:
            UsageError: If the batch cannot be divided evenly.
        """
        if batch_size % self.size:
            lower = batch_size // self.size * self.size
            near = f"{lower} or {lower + self.size}" if lower else f"{self.size}"
            raise UsageError(
                f"a batch of {batch_size} images cannot be divided evenly among {self.size} ranks; "
                f"set --train.batch-size to {near} (it is the size of the whole batch)"
            )
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def device(self, device: torch.device) -> torch.device:
        """Return this rank's own device of a kind.

        Raises:
            UsageError: If this machine has too few of them, or ranks cannot talk to each other from it.
        """
        if self.size == 1 or device.type == "cpu":
            return device
        if device.type != "cuda":
            raise UsageError(f"several ranks train on cuda or cpu, not on {device.type}; take --train.device cpu")
        if self.local_size > torch.cuda.device_count():
            raise UsageError(
                f"{self.local_size} ranks were started on a machine that shows {torch.cuda.device_count()} GPUs; "
                f"take --nproc-per-node {torch.cuda.device_count()}, or --train.device cpu"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add a tensor of the training device up over all ranks, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def weight(self, own: torch.Tensor) -> torch.Tensor | float:
        """Return the factor that turns a mean weighted by this rank's weights into its part of the mean of all.

        Args:
            own: Sum of the weights of this rank's images, a scalar.
        """
        return own * self.size / self.sum(own.clone()) if self.size > 1 else 1.0

    def totals(self, loss: torch.Tensor, correct: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean of the ranks' losses and the sum of their numbers of correct images (scalars)."""
        if self.size == 1:
            return loss, correct
        summed = self.sum(torch.stack([loss.double(), correct.double()]))
        return summed[0] / self.size, summed[1]

    def agree(self, number: int) -> int:
        """Return the largest of the numbers that the ranks bring; also makes every rank wait for all others."""
        if self.size == 1:
            return number
        tensor = torch.tensor(number)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.control)
        return int(tensor)

    def from_main(self, function: Callable[[], str]) -> str:
        """Call a function on rank 0 and return its text on every rank.

        Raises:
            PeerError: On the other ranks, if it failed on rank 0.
        """
        if self.size == 1:
            return function()
        content, length = b"", -1
        try:
            if self.is_main:
                content = function().encode()
                length = len(content)
        finally:
            length = int(self._broadcast(torch.tensor(length)))
        if length < 0:
            raise PeerError("rank 0 failed; its own message says why")
        text = torch.frombuffer(bytearray(content.ljust(length + 1)), dtype=torch.uint8)  # frombuffer refuses 0 bytes
        return bytes(self._broadcast(text).tolist()[:length]).decode()

    def from_main_figures(self, figures: list[float]) -> list[float]:
        """Return rank 0's figures on every rank, so that no rounding of another machine decides otherwise."""
        if self.size == 1:
            return figures
        return [float(figure) for figure in self._broadcast(torch.tensor(figures, dtype=torch.float64)).tolist()]

    def _broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        dist.broadcast(tensor, src=0, group=self.control)
        return tensor

    def require_same(self, text: str, what: str) -> None:
        """Compare a description with rank 0's.

        Raises:
            DataError: On the ranks where it differs.
            PeerError: On the others, if there are such ranks.
        """
        differs = self.from_main(lambda: text) != text
        if self.agree(int(differs)):
            if not differs:
                raise PeerError("another rank failed; its own message says why")
            raise DataError(f"this rank's {what} differ from those of rank 0; bring the same to every machine")

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """Do what follows on rank 0, then on the first rank of every other machine, then on the rest.

        So what has to be fetched is fetched once a machine, and found in the cache by the others.

        Raises:
            PeerError: If it failed on another rank.
        """
        if self.size == 1:
            yield
            return
        own_turn = 0 if self.is_main else 1 if self.local_rank == 0 else 2
        for turn in range(3):
            failed = 1
            try:
                if turn == own_turn:
                    yield
                failed = 0
            finally:
                failed = self.agree(failed)
            if failed:
                raise PeerError("another rank failed; its own message says why")


ALONE = World()


@contextlib.contextmanager
def joined(world: World | None = None, stop_signal: Callable[[], int] = lambda: 0) -> Iterator[World]:
    """Connect the processes torchrun started, for as long as the context lasts; nothing where this one is alone.

    Args:
        world: What to give back instead, where the caller has joined already.
        stop_signal: Number of the signal that has asked this process to stop; 0 for none.

    Raises:
        UsageError: If torchrun's variables are incomplete.
        PeerError: If the connection to another rank broke.
    """
    ranks = read_ranks() if world is None else world
    if world is not None or ranks.size == 1:
        yield world or ALONE
        return
    gpu = torch.cuda.is_available() and dist.is_nccl_available()
    # a prefix of its own, so that a script may train several runs one after the other
    store, *_ = next(dist.rendezvous("env://", timeout=_STEP_TIMEOUT))  # type: ignore[attr-defined]
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        store=dist.PrefixStore(f"cifarlab-{next(_joins)}", store),  # type: ignore[attr-defined]
        rank=ranks.rank,
        world_size=ranks.size,
        timeout=_STEP_TIMEOUT,
    )
    control = dist.new_group(backend="gloo", timeout=_WAIT_TIMEOUT)
    known = {field.name: getattr(ranks, field.name) for field in fields(Ranks)}
    all_ended_alike = broken = False
    try:
        yield World(**known, control=control)
        all_ended_alike = True
    except (UsageError, NonFiniteLossError, StoppedError):
        all_ended_alike = True
        raise
    except (RuntimeError, dist.DistError) as error:
        if not _is_broken_connection(error):
            raise
        broken = True
        _wait_to_be_ended(stop_signal)
        raise PeerError("the connection to another rank broke; torchrun names the rank that failed first") from error
    finally:
        # on GPUs, or where a rank is gone, it may wait for work that the others never do, until torchrun kills this one
        if all_ended_alike or not (gpu or broken):
            dist.destroy_process_group()


def _is_broken_connection(error: Exception) -> bool:
    """Tell a rank that is gone from a fault of our own; gloo reports both as RuntimeError."""
    return isinstance(error, dist.DistError) or _BROKEN.search(str(error)) is not None


def _wait_to_be_ended(stop_signal: Callable[[], int]) -> None:
    """Wait for torchrun to see the rank that failed first and to end this one, lest it blames this one."""
    if threading.current_thread() is not threading.main_thread():
        return
    asked: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    deadline = time.monotonic() + _SECONDS_TO_BE_ENDED
    while not asked and not stop_signal() and time.monotonic() < deadline:
        time.sleep(0.05)
    signal.signal(signal.SIGTERM, previous)


class Replica:
    """A model whose gradients are averaged over all ranks while they are computed.

    DistributedDataParallel wants to know at the start which parameters learn. Where that changes in the middle of a run
    (the whitening bias is frozen), the model is wrapped anew, which costs a moment and keeps no state.

    Args:
        model: The model, whose names and parameters stay as they are.
        compute: What to call instead of the model, such as its compiled form; it shares its parameters.
    """

    def __init__(self, model: nn.Module, compute: nn.Module) -> None:
        self._model, self._compute = model, compute
        self._learning: tuple[bool, ...] = ()
        self._wrapped: DistributedDataParallel | None = None

    def __call__(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Return logits of this rank's images."""
        learning = tuple(parameter.requires_grad for parameter in self._model.parameters())
        if self._wrapped is None or learning != self._learning:
            self._learning = learning
            self._wrapped = DistributedDataParallel(self._compute)  # also gives rank 0's weights to all
        logits_NK: torch.Tensor = self._wrapped(images_NCHW)
        return logits_NK


def shared_logits(
    world: World, model: nn.Module, images_NCHW: torch.Tensor, num_classes: int, **options: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Do as :func:`~cifarlab.inference.predict_logits`, every rank for its own part of the images.

    Args:
        world: The ranks; each gets N / size images, the first ones one more where that is no whole number.
        model: Images in, logits out.
        images_NCHW: uint8, N x 3 x H x W, the same on every rank.
        num_classes: K.
        options: Of predict_logits.

    Returns:
        Logits of all images on every rank, as predict_logits returns them.
    """
    if world.size == 1:
        return predict_logits(model, images_NCHW, **options)
    num = len(images_NCHW)
    own = torch.arange(num).tensor_split(world.size)[world.rank]
    has_views = options.get("views", "none") != "none"
    logits = torch.zeros(1 + has_views, num, num_classes)
    if len(own):
        begin, end = int(own[0]), int(own[-1]) + 1
        parts = predict_logits(model, images_NCHW[begin:end], **options)
        for index, part in enumerate(part for part in parts if part is not None):
            logits[index, begin:end] = part
    dist.all_reduce(logits, group=world.control)  # all other rows are zero, so the sum is exact
    return logits[0], logits[1] if has_views else None
