"""Search queue: who does which trial of a search, so that several processes share it and none is lost or done twice.

Trials are handed out one at a time, under a lease on the whole search, so that each has values that no other has. Each
is held by a lease of its own while it is worked on (leases.py). A trial that runs for Optuna and that nobody holds was
abandoned: whoever comes next takes the same trial with the same values, not a copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from cifarlab.experiments.leases import Claim, Leases, Watch, alone, claim
from cifarlab.experiments.search import SearchSpec
from cifarlab.experiments.search_points import Points
from cifarlab.experiments.search_sampler import build_sampler
from cifarlab.experiments.storage import patiently
from cifarlab.seeding import derive_generator

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

Result = TypeVar("Result")


@dataclass(frozen=True)
class Taken:
    """A trial that this worker holds.

    Attributes:
        trial: Optuna's trial, with all its values chosen.
        claim: How it came: new, or from a worker that was stopped, died or fell silent.
        values: Plain values by dotted field name.
        begun: Whether another worker had begun it.
    """

    trial: optuna.Trial
    claim: Claim
    values: dict[str, Any]
    begun: bool


@dataclass
class SearchQueue:
    """The trials of a search, as one worker sees them.

    Attributes:
        study: Its record.
        spec: What the search does.
        leases: Who works on what.
        watch: What this worker has seen of the others.
        notify: Takes one line when the database is away.
        stop_signal: Number of the signal that asks to stop; 0 for none.
        points: The points of its space.
    """

    study: optuna.Study
    spec: SearchSpec
    leases: Leases
    watch: Watch = field(default_factory=Watch)
    notify: Callable[[str], None] = lambda line: None
    stop_signal: Callable[[], int] = lambda: 0
    points: Points = field(init=False)

    def __post_init__(self) -> None:
        self.points = Points(self.spec)

    def patiently(self, call: Callable[[], Result]) -> Result:
        """Make a call to the database, and wait for it while it is away; doing it twice must do no harm."""
        return patiently(call, notify=self.notify)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials of the search by number, whoever does them."""
        return self.patiently(lambda: self.study.get_trials(deepcopy=False))

    def limited(self, total: int) -> int:
        """Return how many trials the search can have of those it is to have, for nothing is trained twice."""
        return int(min(total, self.points.most_trials(self.trials())))

    def take(self, total: int) -> Taken | None:
        """Take an abandoned trial, else a new one.

        Args:
            total: How many trials the search is to have, whoever does them.

        Returns:
            None if there is nothing to take at this moment: trials are finished or in the hands of other workers, or
            every point of the space is.

        Raises:
            StoppedError: If a stop was requested while another worker takes a trial.
            StorageError: If the database stays away.
        """
        return self.patiently(lambda: self._take(total))

    def _take(self, total: int) -> Taken | None:
        key = f"{self.spec.name}/queue"
        with alone(self.leases, self.watch, key, self.stop_signal):
            held = self.leases.held()
            trials = self.study.get_trials(deepcopy=False)
            for frozen in trials:
                if frozen.state.name == "RUNNING" and (claimed := self._claim(frozen.number, held)):
                    if not self.study.get_trials(deepcopy=False)[frozen.number].state.is_finished():
                        return self._attached(trials, frozen, claimed)
                    self.leases.release(claimed.key)  # a worker that had fallen silent finished it after all
            begun = [frozen for frozen in trials if frozen.state.name != "WAITING"]
            # another worker may have taken the queue over from this one, if it was halted since it came in
            if len(begun) >= min(total, self.points.most_trials(trials)) or not self.leases.beat(key):
                return None
            if len(begun) == len(trials):
                self._prescribe(trials)
            self._tell_sampler(trials)
            trial = self.study.ask()
            # a worker that dies here leaves a trial that runs and that nobody holds; one that is halted, a trial that
            # another has by now
            new = self._claim(trial.number, {})
            return None if new is None else self._chosen(trial, new, begun=False)

    def release(self, taken: Taken) -> None:
        """Give a trial back, finished or not."""
        self.patiently(lambda: self.leases.release(taken.claim.key))

    def _claim(self, number: int, held: dict[str, Any]) -> Claim | None:
        return claim(self.leases, self.watch, f"{self.spec.name}/t{number}", held)

    def _attached(self, trials: list[FrozenTrial], frozen: FrozenTrial, claimed: Claim) -> Taken:
        import optuna

        self._tell_sampler([one for one in trials if one.number != frozen.number])
        return self._chosen(optuna.trial.Trial(self.study, frozen._trial_id), claimed, begun=True)

    def _tell_sampler(self, others: list[FrozenTrial]) -> None:
        """Let the sampler know which points it is not to draw: those of the other trials."""
        self.study.sampler = build_sampler(self.spec, self.points, frozenset(self.points.tried(others)))

    def _chosen(self, trial: optuna.Trial, claimed: Claim, begun: bool) -> Taken:
        """Choose the values now: under the lease of the search, where every other worker's choice is known."""
        values = {dimension.field: dimension.suggest(trial) for dimension in self.spec.space}
        return Taken(trial, claimed, values, begun)

    def _prescribe(self, trials: list[FrozenTrial]) -> None:
        """Queue what the sampler is not asked for: the recipe itself as the first trial, or a point of the grid."""
        if self.spec.grid_size is None:
            if not trials and (parameters := self.spec.recipe_parameters):
                self.study.enqueue_trial(parameters, user_attrs={"recipe": True})
            return
        tried = set(self.points.tried(trials))
        if point := next((one for one in grid_points(self.spec) if self.points.key(one) not in tried), None):
            self.study.enqueue_trial(point)


def grid_points(spec: SearchSpec) -> Iterator[dict[str, Any]]:
    """Yield the parameters of every point of a grid, in a seeded order, so that a part of them is spread out."""
    import torch

    axes = {dimension.field: dimension.grid() for dimension in spec.space}
    generator = derive_generator(spec.recipe.train.seed, "grid")
    for position in torch.randperm(spec.grid_size or 1, generator=generator).tolist():
        point = {}
        for field_name, values in axes.items():
            position, index = divmod(position, len(values))  # noqa: PLW2901 of the rest of the axes
            point[field_name] = values[index]
        yield point
