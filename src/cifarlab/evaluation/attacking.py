"""Attacks: images changed on purpose, no pixel by more than a radius, so that a model errs.

Both attacks climb the cross-entropy of the true class by its gradient with respect to the pixels. An image at which the
model errs is done and costs nothing more.

What is computed is log(other / true), the logarithm of the odds against the true class. The cross-entropy is
log(1 + other / true): both rise at the same places, and their gradients have the same signs. But that of the
cross-entropy is rounded to zero where the model is sure, and an attack that stands still looks like a model that
resists; that of the odds is not.

Shape suffixes: N images, A images still under attack, C channels, H height, W width.

References:
    Madry, Makelov, Schmidt, Tsipras and Vladu (2018), "Towards deep learning models resistant to adversarial attacks",
    ICLR, arXiv 1706.06083: projected gradient descent (PGD).
    Croce and Hein (2020), "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML, arXiv 2003.01690: APGD, algorithm 1 and its rule for the step size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import nn
from torch.nn import functional as F

_MOMENTUM = 0.75  # alpha: share of the new direction; the rest goes on in the direction of the step before
_ENOUGH_RISES = 0.75  # rho: share of the steps that must raise the loss, or steps become half as long
_FIRST_CHECK, _SHRINKING, _SMALLEST_GAP = 0.22, 0.03, 0.06  # when that is looked at, in shares of all steps


@dataclass(frozen=True)
class Attacked:
    """What an attack found.

    Attributes:
        pixels_NCHW: float32 in [0, 1], within the radius of the originals: the image at which the model erred, where it
            did; else the one of the largest loss that was met.
        fooled_N: bool; whether the model errs there.
        loss_N: float32; cross-entropy there, in nats.
    """

    pixels_NCHW: torch.Tensor
    fooled_N: torch.Tensor
    loss_N: torch.Tensor


def _project(pixels: torch.Tensor, originals: torch.Tensor, radius: float) -> torch.Tensor:
    """Return the nearest images within the radius, with pixels in [0, 1]."""
    return torch.clamp(pixels, originals - radius, originals + radius).clamp(0, 1)


def _ask(
    model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, *, last: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the odds against the true class, whether the answer is wrong, and (zero at the last step) the gradient."""
    pixels = pixels.detach().requires_grad_(not last)
    with torch.set_grad_enabled(not last):
        logits = model(pixels).float()
        odds = _odds(logits, labels)
        # only the gradient at the pixels is computed, none at weights
        gradient = torch.zeros_like(pixels) if last else torch.autograd.grad(odds.sum(), pixels)[0]
    return odds.detach(), logits.detach().argmax(1) != labels, gradient


def _odds(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the odds against the true class: of the sum of all others' probabilities over its own."""
    labels_N1 = labels_N[:, None]
    others_NK = logits_NK.scatter(1, labels_N1, -math.inf)
    return others_NK.logsumexp(1) - logits_NK.gather(1, labels_N1)[:, 0]


@dataclass
class _Record:
    """The best image met so far, of all N, and the odds against the true class there."""

    pixels: torch.Tensor
    odds: torch.Tensor
    fooled: torch.Tensor
    gradient: torch.Tensor

    @classmethod
    def begin(cls, pixels_NCHW: torch.Tensor) -> _Record:
        num, device = len(pixels_NCHW), pixels_NCHW.device
        nothing = torch.full((num,), -math.inf, device=device)
        nobody = torch.zeros(num, dtype=torch.bool, device=device)
        return cls(pixels_NCHW.clone(), nothing, nobody, torch.zeros_like(pixels_NCHW))

    def note(
        self, who: torch.Tensor, pixels: torch.Tensor, odds: torch.Tensor, wrong: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        """Keep what is better than before: an error, or a larger loss."""
        better = wrong | (odds > self.odds[who])
        chosen = who[better]
        self.pixels[chosen], self.odds[chosen] = pixels[better].detach(), odds[better]
        self.gradient[chosen] = gradient[better]
        self.fooled[who[wrong]] = True

    def result(self) -> Attacked:
        return Attacked(self.pixels, self.fooled, F.softplus(self.odds))


def pgd(
    model: nn.Module,
    pixels_NCHW: torch.Tensor,
    labels_N: torch.Tensor,
    *,
    radius: float,
    steps: int,
    step_size: float,
    offsets_NCHW: torch.Tensor,
) -> Attacked:
    """Attack by projected gradient descent: steps of equal length along the gradient's sign, from a random start.

    Args:
        model: In eval mode; takes pixels in [0, 1], float32, and gives logits.
        pixels_NCHW: Originals, float32 in [0, 1].
        labels_N: True classes, int64.
        radius: How much a pixel may change, in units of [0, 1].
        steps: At most so many steps.
        step_size: Of each pixel, in units of [0, 1].
        offsets_NCHW: Where the attack starts, from the originals, in units of the radius, -1 to 1.

    Returns:
        What was found for each image.
    """
    record = _Record.begin(pixels_NCHW)
    who_A = torch.arange(len(pixels_NCHW), device=pixels_NCHW.device)
    pixels = _project(pixels_NCHW + radius * offsets_NCHW, pixels_NCHW, radius)
    for step in range(steps + 1):
        odds_A, wrong_A, gradient = _ask(model, pixels, labels_N[who_A], last=step == steps)
        record.note(who_A, pixels, odds_A, wrong_A, gradient)
        who_A, pixels, gradient = who_A[~wrong_A], pixels[~wrong_A], gradient[~wrong_A]
        if not len(who_A):
            break
        pixels = _project(pixels + step_size * gradient.sign(), pixels_NCHW[who_A], radius)
    return record.result()


def check_steps(steps: int) -> list[int]:
    """Return after which steps APGD looks whether its steps are too long: ever more often, as the paper has it."""
    before, now = 0.0, _FIRST_CHECK
    found: set[int] = set()
    while (step := math.ceil(round(now * steps, 6))) < steps:  # 57 is 57, not 57.00000000000001
        found.add(step)
        before, now = now, now + max(now - before - _SHRINKING, _SMALLEST_GAP)
    return sorted(found)


@dataclass
class _Climb:
    """The state of the images still under attack; every field has A entries.

    Attributes:
        who: Position among all N.
        pixels, before: Where each is, and was a step ago.
        odds, gradient: At ``pixels``.
        step: Length of the next step, A x 1 x 1 x 1.
        rises: Steps since the last check that raised the loss.
        best_before: Largest odds at the last check.
        halved: Whether the step was made shorter at the last check.
    """

    who: torch.Tensor
    pixels: torch.Tensor
    before: torch.Tensor
    odds: torch.Tensor
    gradient: torch.Tensor
    step: torch.Tensor
    rises: torch.Tensor
    best_before: torch.Tensor
    halved: torch.Tensor

    def keep(self, which: torch.Tensor) -> None:
        """Leave only some of the images."""
        if not which.all():
            for each in fields(self):
                setattr(self, each.name, getattr(self, each.name)[which])

    def check(self, record: _Record, gap: int) -> None:
        """Halve the step of images that do not get on, and take these back to the best place they were at.

        Args:
            record: The best places.
            gap: Steps since the last check.
        """
        best = record.odds[self.who]
        too_few = self.rises < _ENOUGH_RISES * gap
        stuck = ~self.halved & (best <= self.best_before)
        self.halved = too_few | stuck
        self.step[self.halved] /= 2
        back = self.who[self.halved]
        self.pixels[self.halved] = record.pixels[back]
        self.gradient[self.halved] = record.gradient[back]
        self.odds[self.halved] = record.odds[back]
        self.rises = torch.zeros_like(self.rises)
        self.best_before = best.clone()


def apgd(
    model: nn.Module,
    pixels_NCHW: torch.Tensor,
    labels_N: torch.Tensor,
    *,
    radius: float,
    steps: int,
    offsets_NCHW: torch.Tensor,
) -> Attacked:
    """Attack by APGD on the cross-entropy: with momentum, and steps that become shorter where an image does not get on.

    Args:
        model: In eval mode; takes pixels in [0, 1], float32, and gives logits.
        pixels_NCHW: Originals, float32 in [0, 1].
        labels_N: True classes, int64.
        radius: How much a pixel may change, in units of [0, 1].
        steps: At most so many steps.
        offsets_NCHW: Where the attack starts, from the originals, in units of the radius, -1 to 1.

    Returns:
        What was found for each image.
    """
    record = _Record.begin(pixels_NCHW)
    who = torch.arange(len(pixels_NCHW), device=pixels_NCHW.device)
    start = _project(pixels_NCHW + radius * offsets_NCHW, pixels_NCHW, radius)
    odds, wrong, gradient = _ask(model, start, labels_N, last=False)
    record.note(who, start, odds, wrong, gradient)
    length = torch.full((len(who), 1, 1, 1), 2 * radius, device=start.device)
    zeros = torch.zeros_like(who)
    state = _Climb(who, start, start, odds, gradient, length, zeros, odds.clone(), zeros.bool())
    state.keep(~wrong)
    checks, last_check = check_steps(steps), 0
    for step in range(1, steps + 1):
        if not len(state.who):
            break
        originals = pixels_NCHW[state.who]
        straight = _project(state.pixels + state.step * state.gradient.sign(), originals, radius)
        share = 1.0 if step == 1 else _MOMENTUM
        moved = state.pixels + share * (straight - state.pixels) + (1 - share) * (state.pixels - state.before)
        state.before, state.pixels = state.pixels, _project(moved, originals, radius)
        odds, wrong, gradient = _ask(model, state.pixels, labels_N[state.who], last=step == steps)
        record.note(state.who, state.pixels, odds, wrong, gradient)
        state.rises = state.rises + (odds > state.odds)
        state.odds, state.gradient = odds, gradient
        state.keep(~wrong)
        if step in checks:
            state.check(record, step - last_check)
            last_check = step
    return record.result()
