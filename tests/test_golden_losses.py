"""Ten steps of every fast recipe on fixed images: their losses must not change unseen.

The tolerance is far above rounding (float64: 1e-15 between AVX2, AVX-512 and no vector instructions) and far below
what a change of the mathematics does (momentum 0.05 higher: 1e-3). A new version of torch may draw other random
numbers; then, and after a change that is meant, python tests/golden/make.py writes the losses anew.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cifarlab.config import Config
from cifarlab.config_yaml import config_to_yaml
from tests.conftest import with_fields
from tests.golden.make import (
    DEFAULTS,
    FOLDER,
    NUM_STEPS,
    first_losses,
    golden_recipes,
    make_images,
    small_config,
    steps_per_epoch,
)

RELATIVE_TOLERANCE = 1e-6

pytestmark = pytest.mark.usefixtures("without_curves")


def stored(name):
    path = FOLDER / f"{name}.json"
    assert path.is_file(), f"no golden losses of {name}; once it is final: python tests/golden/make.py {name}"
    return json.loads(path.read_text())


def stored_losses(name):
    return stored(name)["losses"]


def equals(losses, stored):
    return losses == pytest.approx(stored, rel=RELATIVE_TOLERANCE)


def test_there_is_one_file_for_every_fast_recipe_and_no_other():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(golden_recipes())


@pytest.mark.parametrize("name", golden_recipes())
def test_the_first_losses_are_what_they_were(name):
    losses, evaluated = first_losses(small_config(name))
    assert equals(losses, stored_losses(name)), (
        f"the mathematics of {name} has changed; if that is meant: python tests/golden/make.py {name}"
    )
    assert equals(evaluated, stored(name)["evaluated"]), (
        f"{name} trains as before and is evaluated differently; if that is meant: python tests/golden/make.py {name}"
    )


def test_what_acts_only_in_evaluation_is_seen():
    config = small_config("fast70")
    changed = replace(config, model=replace(config.model, speednet=replace(config.model.speednet, bn_momentum=0.3)))
    losses, evaluated = first_losses(changed, steps=steps_per_epoch(config))
    assert equals(losses, stored_losses("fast70")[: len(losses)])
    assert not equals(evaluated, stored("fast70")["evaluated"][: len(evaluated)])


def test_defaults_are_those_that_results_were_measured_with():
    """Results and recipes name only what differs from the defaults, so that a new default changes what they mean."""
    assert config_to_yaml(Config()) == DEFAULTS.read_text(encoding="utf-8"), (
        "a default has changed, or a field is new; recipes and docs/results/*.json that lean on the old value have to "
        "name it or be measured anew; then: python tests/golden/make.py defaults"
    )


# two recipes show in the default run how small a change is seen; that it is in all of them, the slow tests
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("fast90", "airbench94") else pytest.param(name, marks=pytest.mark.slow)
        for name in golden_recipes()
    ],
)
def test_a_small_change_of_momentum_does_not_pass(name):
    config = small_config(name)
    changed = with_fields(config, optimizer__momentum=config.optimizer.momentum + 0.05)
    losses, _ = first_losses(changed, steps=5)
    stored = stored_losses(name)[:5]
    assert not equals(losses, stored)
    # not by a hair either: the tolerance leaves room on both sides
    apart = [abs(a / b - 1) for a, b in zip(losses, stored, strict=True)]
    assert max(apart) > 20 * RELATIVE_TOLERANCE
    assert apart[0] < RELATIVE_TOLERANCE  # before the first update there is nothing to differ


@pytest.mark.parametrize("name", golden_recipes())
def test_the_images_can_be_learned_from(name):
    losses = stored_losses(name)
    assert len(losses) == NUM_STEPS
    assert min(losses[-3:]) < losses[0]


def test_the_images_are_the_same_for_ever():
    images = make_images(20)
    assert images.images_NCHW.dtype.is_floating_point is False
    assert images.sha256() == "c5af2a6af63ea6d5026737d51cfe210fb7b8863f668df839b32ae2c88cb7254c"
    assert images.class_counts.tolist() == [2] * 10
