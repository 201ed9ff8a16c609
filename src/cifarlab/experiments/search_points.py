"""Search points: which values of a search are one and the same training, how many there are, and which were tried.

Equal values on equal seeds give an equal result to its last digit, so nothing is learnt from training them again.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cifarlab.errors import ConfigError
from cifarlab.experiments.fields import idle_reason, with_values
from cifarlab.experiments.space import Dimension

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from cifarlab.experiments.search import SearchSpec

Key = tuple[Any, ...]
"""What two trials have in common that are the same training."""


class Points:
    """The points of a search's space, where those that differ in fields without effect only count as one.

    With model.name=convnet,resnet in the space a convnet's dropout has no effect in half of the trials.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self._spec = spec
        self._memo: dict[tuple[Any, ...], frozenset[str]] = {}

    @functools.cached_property
    def count(self) -> int | None:
        """How many points there are; None where a dimension has values between any two."""
        total = 0
        for chosen in self._choices():
            sizes = [one.size for one in self._rest if one.field in self._counting(chosen)]
            if None in sizes:
                return None
            total += math.prod(size for size in sizes if size)
        return total

    def key(self, stored: Mapping[str, Any]) -> Key:
        """Return what tells a trial's parameters from those of every other training."""
        counting = self._counting(tuple(stored[one.field] for one in self._deciding))
        return tuple(one.rank(stored[one.field]) if one.field in counting else None for one in self._spec.space)

    def each(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of every point once; of none where they are endless."""
        if self.count is None:
            return
        for chosen in self._choices():
            decided = {one.field: value for one, value in zip(self._deciding, chosen, strict=True)}
            axes = [range((one.size or 1) if one.field in self._counting(chosen) else 1) for one in self._rest]
            for ranks in itertools.product(*axes):
                yield decided | {one.field: one.at(rank) for one, rank in zip(self._rest, ranks, strict=True)}

    def tried(self, trials: Iterable[FrozenTrial]) -> list[Key]:
        """Return the points of all trials that were begun, however they ended or whoever has them."""
        begun = [
            # a worker that was killed in between may have left values that are prescribed and not yet entered
            trial.system_attrs.get("fixed_params", {}) | trial.params
            for trial in trials
            if trial.state.name != "WAITING"
        ]
        return [self.key(one) for one in begun if all(dimension.field in one for dimension in self._spec.space)]

    def most_trials(self, trials: Iterable[FrozenTrial]) -> float:
        """Return how many trials a search can have without training anything again; infinity where it is endless.

        What earlier versions of cifarlab trained again is not counted against it.
        """
        if self.count is None:
            return math.inf
        tried = self.tried(trials)
        return self.count + len(tried) - len(set(tried))

    @functools.cached_property
    def _deciding(self) -> tuple[Dimension, ...]:
        """The dimensions that decide which others have an effect; only names do."""

        def decides(one: Dimension) -> bool:
            named = all(isinstance(value, str) for value in one.choices)
            return named and len({self._with_effect({one.field: value}) for value in one.choices}) > 1

        return tuple(one for one in self._spec.space if decides(one))

    @functools.cached_property
    def _rest(self) -> tuple[Dimension, ...]:
        return tuple(one for one in self._spec.space if one not in self._deciding)

    def _choices(self) -> Iterator[tuple[Any, ...]]:
        return itertools.product(*(one.choices for one in self._deciding))

    def _counting(self, chosen: tuple[Any, ...]) -> frozenset[str]:
        """Return the fields that have an effect beside these values of the deciding ones."""
        if chosen not in self._memo:
            values = {one.field: value for one, value in zip(self._deciding, chosen, strict=True)}
            self._memo[chosen] = self._with_effect(values)
        return self._memo[chosen]

    def _with_effect(self, values: dict[str, Any]) -> frozenset[str]:
        space = self._spec.space
        try:
            config = with_values(self._spec.base, {one.field: one.corners[0] for one in space} | values)
        except ConfigError:  # three that do not go together; their trials fail
            return frozenset(one.field for one in space)
        return frozenset(one.field for one in space if not idle_reason(one.field, config))
