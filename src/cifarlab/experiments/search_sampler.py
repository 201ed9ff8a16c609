"""Search sampler: how the values of a trial are chosen: by Optuna's samplers, seeded by its number, and never twice."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from cifarlab.experiments.search_points import Key, Points
from cifarlab.experiments.space import Dimension

if TYPE_CHECKING:
    import optuna

    from cifarlab.experiments.search import SearchSpec

_OWN_DRAWS = 10  # of the sampler itself
_DRAWS = 100  # and at random after them


def build_sampler(
    spec: SearchSpec, points: Points | None = None, tried: Collection[Key] = ()
) -> optuna.samplers.BaseSampler:
    """Return Optuna's sampler, seeded anew for every trial by its number.

    A sampler seeded once per process would draw its first points again whenever a search is continued, and two
    workers would draw the same ones.

    Args:
        spec: What the search does.
        points: The points of its space.
        tried: Those that other trials have; they are not drawn again while there are others.
    """
    import optuna

    drawer, known = _Drawer(spec), points or Points(spec)

    class WholePoints(optuna.samplers.BaseSampler):
        """Chooses all values of a trial at once, before the first of them is entered."""

        def reseed_rng(self) -> None:
            """Do nothing: draws depend on the trial's number."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:  # noqa: ARG002
            return drawer.distributions

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:  # noqa: ARG002
            # a worker that was killed in between entered some of the values: the draw that has them is the one it made
            entered, mixed = trial.params, []
            for attempt in range(_DRAWS):
                point = drawer.draw(study, trial, attempt)
                if not tried or (entered.items() <= point.items() and known.key(point) not in tried):
                    return point
                mixed.append(point | entered)
            others = itertools.chain(mixed if entered else (), known.each())
            return next((one for one in others if known.key(one | entered) not in tried), mixed[0])

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return drawer.alone(study, trial, 0, param_name, param_distribution)

    return WholePoints()


class _Drawer:
    """Draws points with samplers that are made for one trial each."""

    def __init__(self, spec: SearchSpec) -> None:
        self._spec = spec
        self.distributions = {one.field: _distribution(one) for one in spec.space}

    def draw(self, study: Any, trial: Any, attempt: int) -> dict[str, Any]:
        """Return the parameters of a trial; each attempt has its own."""
        sampler = self._sampler(trial.number, attempt)
        point = dict(sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial)))
        for name, distribution in self.distributions.items():
            if name not in point:
                point[name] = self.alone(study, trial, attempt, name, distribution)
        return point

    def alone(self, study: Any, trial: Any, attempt: int, name: str, distribution: Any) -> Any:
        """Return one parameter, drawn by itself."""
        return self._sampler(trial.number, attempt, name).sample_independent(study, trial, name, distribution)

    def _sampler(self, number: int, attempt: int, parameter: str = "") -> optuna.samplers.BaseSampler:
        import optuna

        from cifarlab.seeding import derive_seed  # loads torch

        position = (number, attempt) if attempt else (number,)
        seed = derive_seed(self._spec.recipe.train.seed, f"search {parameter}".strip(), *position) % 2**32
        if self._spec.sampler != "tpe" or attempt >= _OWN_DRAWS:
            return optuna.samplers.RandomSampler(seed=seed)
        # the best of many candidates is the same one again; a single one comes from where the good trials lie
        num_candidates = 1 if attempt else 24
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # both are, before version 5
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=True, n_ei_candidates=num_candidates
            )


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    """Return what :meth:`Dimension.suggest` asks a trial for."""
    from optuna import distributions

    if dimension.kind == "list":
        return distributions.CategoricalDistribution([dimension.at(rank) for rank in range(len(dimension.choices))])
    low, high = dimension.corners
    if dimension.kind == "int":
        return distributions.IntDistribution(low, high, log=dimension.log, step=int(dimension.step or 1))
    return distributions.FloatDistribution(low, high, log=dimension.log, step=dimension.step)
