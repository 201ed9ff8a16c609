"""PGD and APGD: they stay in the ball, climb the loss, and on linear models find exactly what there is to be found."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from tests.evaluation.models import Linear
from torch import nn
from torch.nn import functional as F

from cifarlab.evaluation.attacking import Attacked, apgd, check_steps, pgd

Attack = Callable[..., Attacked]

SHAPE = (3, 6, 6)


def run_pgd(model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, radius: float, steps: int = 20) -> Attacked:
    generator = torch.Generator().manual_seed(0)
    return pgd(model, pixels, labels, radius=radius, steps=steps, step_size=radius / 4, generator=generator)


def run_apgd(model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, radius: float, steps: int = 20) -> Attacked:
    generator = torch.Generator().manual_seed(0)
    return apgd(model, pixels, labels, radius=radius, steps=steps, generator=generator)


BOTH = [run_pgd, run_apgd]


def random_pixels(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def linear(num_classes: int, seed: int = 0, scale: float = 0.3) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(num_classes, *SHAPE, generator=generator) * scale
    return Linear(weights, torch.zeros(num_classes)).eval()


def worst_margin(model: Linear, pixels: torch.Tensor, labels: torch.Tensor, radius: float) -> torch.Tensor:
    """The least by which the true class leads any other anywhere in the ball and in [0, 1]: exact, class by class."""
    margins = []
    low, high = (pixels - radius).clamp(0, 1), (pixels + radius).clamp(0, 1)
    for other in range(len(model.weights)):
        slope = model.weights[labels] - model.weights[other]
        worst = torch.where(slope > 0, low, high)
        margin = (slope * worst).sum((1, 2, 3)) + model.biases[labels] - model.biases[other]
        margins.append(torch.where(labels == other, torch.inf, margin))
    return torch.stack(margins).min(0).values.detach()


class Small(nn.Module):
    """A small convolutional network with fixed random weights."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.GELU(), nn.Conv2d(12, 24, 3), nn.GELU()
            )
            self.head = nn.Linear(24, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 8 * self.head(self.layers(images).amax((2, 3)))


@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("radius", [2 / 255, 8 / 255, 0.3])
def test_images_stay_in_the_ball_and_between_black_and_white(attack: Attack, radius: float) -> None:
    pixels = random_pixels(40)
    pixels[:10] = pixels[:10].round()  # many at the very ends
    found = attack(Small().eval(), pixels, torch.arange(40) % 4, radius)
    assert found.pixels_NCHW.shape == pixels.shape
    assert (found.pixels_NCHW - pixels).abs().max() <= radius + 1e-6
    assert found.pixels_NCHW.min() >= 0
    assert found.pixels_NCHW.max() <= 1


@pytest.mark.parametrize("attack", BOTH)
def test_the_loss_rises_and_what_is_reported_is_what_the_model_says(attack: Attack) -> None:
    model, pixels = Small().eval(), random_pixels(60)
    with torch.no_grad():
        labels = model(pixels).argmax(1)
        before = F.cross_entropy(model(pixels), labels, reduction="none")
        found = attack(model, pixels, labels, 0.05)
        logits = model(found.pixels_NCHW)
    after = F.cross_entropy(logits, labels, reduction="none")
    assert (after > before).all()
    torch.testing.assert_close(after, found.loss_N, rtol=1e-4, atol=1e-5)
    assert torch.equal(logits.argmax(1) != labels, found.fooled_N)


@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("radius", [0.005, 0.01, 0.03])
def test_of_two_linear_classes_all_are_fooled_that_can_be_and_no_others(attack: Attack, radius: float) -> None:
    model, pixels = linear(2), random_pixels(300)
    labels = model(pixels).argmax(1)
    margin = worst_margin(model, pixels, labels, radius)
    clear = margin.abs() > 1e-3
    assert 20 < int((margin < 0).sum()) < 280  # both kinds occur
    found = attack(model, pixels, labels, radius)
    assert torch.equal(found.fooled_N[clear], (margin < 0)[clear])


@pytest.mark.parametrize("attack", BOTH)
def test_a_model_that_is_very_sure_is_not_shielded_by_rounding(attack: Attack) -> None:
    """Answers do not change when all logits are a thousand times as large, and neither does what fools them."""
    plain, sure, pixels = linear(2), linear(2, scale=300), random_pixels(300)
    labels = plain(pixels).argmax(1)
    # so sure that fp32 rounds nearly all gradients of the cross-entropy to zero
    assert (F.cross_entropy(sure(pixels), labels, reduction="none") == 0).double().mean() > 0.9
    clear = worst_margin(plain, pixels, labels, 0.01).abs() > 1e-3
    found, expected = (attack(model, pixels, labels, 0.01).fooled_N[clear] for model in (sure, plain))
    assert 20 < int(expected.sum()) < 280
    assert torch.equal(found, expected)


@pytest.mark.parametrize("attack", BOTH)
def test_accuracy_is_zero_where_the_radius_is_worth_more_than_every_margin(attack: Attack) -> None:
    model, pixels = linear(2, scale=1), random_pixels(100)
    labels = model(pixels).argmax(1)
    assert (worst_margin(model, pixels, labels, 0.5) < -0.1).all()
    assert attack(model, pixels, labels, 0.5).fooled_N.all()


@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("radius", [0.01, 0.05])
def test_of_several_linear_classes_none_is_fooled_that_cannot_be(attack: Attack, radius: float) -> None:
    model, pixels = linear(5), random_pixels(300)
    labels = model(pixels).argmax(1)
    margin = worst_margin(model, pixels, labels, radius)
    found = attack(model, pixels, labels, radius)
    assert not (found.fooled_N & (margin > 1e-4)).any()
    # the cross-entropy of several classes is no straight line, and yet nearly all that can be fooled are
    assert found.fooled_N[margin < -0.1].double().mean() > 0.8


def test_apgd_is_at_least_as_good_as_pgd_on_average() -> None:
    """Losses of images that were not fooled, at equal steps; and on linear models neither can be better."""
    gains = []
    for seed in range(4):
        model, pixels = Small(seed).eval(), random_pixels(60, seed)
        with torch.no_grad():
            labels = model(pixels).argmax(1)
        plain, auto = (attack(model, pixels, labels, 0.01, 40) for attack in BOTH)
        both = ~plain.fooled_N & ~auto.fooled_N
        gains.append((auto.loss_N - plain.loss_N)[both].mean())
        assert auto.fooled_N.sum() >= plain.fooled_N.sum() - 1
    assert torch.stack(gains).mean() > -1e-3


def test_a_radius_that_is_larger_never_fools_fewer_linear_answers() -> None:
    model, pixels = linear(2), random_pixels(100)
    labels = model(pixels).argmax(1)
    counts = [int(run_apgd(model, pixels, labels, radius).fooled_N.sum()) for radius in (0.005, 0.01, 0.02, 0.05)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize("attack", BOTH)
def test_images_that_are_wrong_already_are_done_at_once(attack: Attack) -> None:
    model, pixels = Small().eval(), random_pixels(20)
    asked: list[int] = []
    model.register_forward_hook(lambda module, args, out: asked.append(len(args[0])))
    labels = (model(pixels).argmax(1) + 1) % 4
    asked.clear()
    assert attack(model, pixels, labels, 0.001).fooled_N.all()
    assert asked == [20]


@pytest.mark.parametrize("attack", BOTH)
def test_fooled_images_cost_nothing_more(attack: Attack) -> None:
    model, pixels = linear(2), random_pixels(200)
    labels = model(pixels).argmax(1)
    asked: list[int] = []
    model.register_forward_hook(lambda module, args, out: asked.append(len(args[0])))
    found = attack(model, pixels, labels, 0.03)
    assert asked[0] == 200
    assert asked == sorted(asked, reverse=True)
    assert len(asked) <= 21
    assert asked[-1] <= asked[0] - int(found.fooled_N.sum()) + 20


@pytest.mark.parametrize("attack", BOTH)
def test_the_same_seed_finds_the_same_and_nothing_is_changed(attack: Attack) -> None:
    model, pixels = Small().eval(), random_pixels(20)
    labels, before = torch.zeros(20, dtype=torch.int64), pixels.clone()
    weights = [each.clone() for each in model.state_dict().values()]
    first, second = (attack(model, pixels, labels, 0.02) for _ in range(2))
    assert torch.equal(first.pixels_NCHW, second.pixels_NCHW)
    assert torch.equal(pixels, before)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))
    assert all(each.grad is None for each in model.parameters())


def test_an_image_is_attacked_alike_whoever_is_fooled_beside_it() -> None:
    """With one random start for each: leaving out the fooled must not mix up who is who."""
    model, pixels = Small().eval(), random_pixels(30)
    with torch.no_grad():
        labels = model(pixels).argmax(1)
    for attack in (partial(run_pgd, radius=0.02), partial(run_apgd, radius=0.02)):
        together = attack(model, pixels, labels)
        others = labels.clone()
        others[1::2] = (labels[1::2] + 1) % 4  # these are wrong from the start and leave at once
        apart = attack(model, pixels, others)
        torch.testing.assert_close(apart.pixels_NCHW[::2], together.pixels_NCHW[::2], rtol=0, atol=1e-6)
        assert torch.equal(apart.fooled_N[::2], together.fooled_N[::2])


def test_checks_come_when_the_paper_has_them() -> None:
    assert check_steps(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert all(0 < step < 7 for step in check_steps(7))
    assert check_steps(1) == []
