"""The phases of a run: the size of its images, and whether the bias of speednet's first layer is still trained."""

from __future__ import annotations

from dataclasses import dataclass

from cifarlab.config import Config
from cifarlab.data.loader import Plan
from cifarlab.models import ImageClassifier
from cifarlab.models.speednet import Speednet
from cifarlab.training.schedule import training_size


@dataclass(frozen=True)
class Phase:
    """What stays as it is over many steps; a compiled model is compiled anew for every phase."""

    image_size: int
    """Height and width of the images, in pixels."""
    whitening_trained: bool
    """Whether the bias of speednet's first layer is trained."""


def phase_at(config: Config, plan: Plan, step: int) -> Phase:
    """Return the phase of a step."""
    return Phase(
        image_size=training_size(config, step / plan.num_steps),
        whitening_trained=step / plan.steps_per_epoch < config.train.freeze_whitening,
    )


def phases(config: Config, plan: Plan) -> list[Phase]:
    """Return the phases of a run, in the order in which they come."""
    return list(dict.fromkeys(phase_at(config, plan, step) for step in range(plan.num_steps)))


def enter_phase(model: ImageClassifier, phase: Phase) -> None:
    """Set the model to a phase; models other than speednet have no bias to freeze."""
    model.preprocess.image_size = phase.image_size
    if isinstance(model.network, Speednet):
        model.network.train_whitening(phase.whitening_trained)
