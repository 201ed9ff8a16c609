"""PGD and APGD: they stay in the ball, climb the loss, and on linear models find exactly what there is to be found."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from tests.evaluation.models import Linear
from torch import nn
from torch.nn import functional as F

from cifarlab.config import ModelConfig
from cifarlab.evaluation.attacking import Attacked, _ask, _Climb, _Record, apgd, check_steps, pgd
from cifarlab.inference import predict_logits
from cifarlab.models import MODELS, build_model

Attack = Callable[..., Attacked]

SHAPE = (3, 6, 6)


def random_offsets(pixels: torch.Tensor) -> torch.Tensor:
    return torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0)).to(pixels) * 2 - 1


def run_pgd(model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, radius: float, steps: int = 20) -> Attacked:
    offsets = random_offsets(pixels)
    return pgd(model, pixels, labels, radius=radius, steps=steps, step_size=radius / 4, offsets_NCHW=offsets)


def run_apgd(model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, radius: float, steps: int = 20) -> Attacked:
    return apgd(model, pixels, labels, radius=radius, steps=steps, offsets_NCHW=random_offsets(pixels))


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


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("side", [32, 40], ids=["as it is", "resized"])
def test_every_family_has_the_gradient_its_answers_say_and_is_left_as_it_was(family: str, side: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(ModelConfig(name=family), 10, 32).eval()
        for parameter in model.parameters():  # some begin at zero, where nothing has a gradient
            parameter.data += 0.02 * torch.randn_like(parameter)
    images = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels = predict_logits(model, images, device=torch.device("cpu"))[0].argmax(1)  # in inference mode, as before
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    pixels, step = images / 255, 1e-3
    odds, _, gradient = _ask(model, pixels, labels, last=False)
    direction = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    ahead, behind = (_ask(model, pixels + sign * step * direction, labels, last=True)[0] for sign in (1, -1))
    slope = (gradient * direction).sum((1, 2, 3))
    assert (slope > 0).all()
    torch.testing.assert_close((ahead - behind) / (2 * step), slope, rtol=0.1, atol=1e-3)
    torch.testing.assert_close(F.softplus(odds), F.cross_entropy(model(images), labels, reduction="none").detach())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert wanted == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


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


def plain_apgd(
    model: nn.Module, original: torch.Tensor, label: int, start: torch.Tensor, radius: float, steps: int
) -> tuple[torch.Tensor, bool]:
    """Algorithm 1 of the paper for one image, line by line, on the cross-entropy; ends where the model errs."""

    def ask(x: torch.Tensor) -> tuple[float, torch.Tensor, bool]:
        x = x.detach().requires_grad_()
        logits = model(x[None])[0]
        loss = F.cross_entropy(logits, torch.tensor(label))
        return float(loss.detach()), torch.autograd.grad(loss, x)[0], int(logits.argmax()) != label

    def project(x: torch.Tensor) -> torch.Tensor:
        return x.clamp(original - radius, original + radius).clamp(0, 1)

    shares = [0.0, 0.22]  # of all steps at which the length of a step is looked at
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    checks = [0, *(round(math.ceil(share * steps - 1e-9)) for share in shares[1:])]
    points, losses, gradients = [start], [], []
    loss, gradient, wrong = ask(start)
    losses.append(loss)
    gradients.append(gradient)
    best, best_loss, best_gradient = start, loss, gradient
    length, lengths, best_losses, rises = 2 * radius, {0: 2 * radius}, {0: loss}, []
    for k in range(1, steps + 1):
        if wrong:
            return points[-1], True
        z = project(points[-1] + length * gradients[-1].sign())
        x = z if k == 1 else project(points[-1] + 0.75 * (z - points[-1]) + 0.25 * (points[-1] - points[-2]))
        loss, gradient, wrong = ask(x)
        rises.append(loss > losses[-1])
        if loss > best_loss:
            best, best_loss, best_gradient = x, loss, gradient
        if k in checks and not wrong:
            last = checks[checks.index(k) - 1]
            earlier = checks[max(0, checks.index(k) - 2)]  # whether the last check changed the length
            unchanged = last == 0 or lengths[last] == lengths[earlier]
            too_few = sum(rises[last:k]) < 0.75 * (k - last)
            if too_few or (unchanged and best_losses[last] == best_loss):
                length, x, loss, gradient = length / 2, best, best_loss, best_gradient
            lengths[k], best_losses[k] = length, best_loss
        points, losses, gradients = [*points, x], [*losses, loss], [*gradients, gradient]
    return (points[-1], True) if wrong else (best, False)


@pytest.mark.parametrize("radius", [0.004, 0.02])
def test_apgd_against_the_paper_image_by_image(radius: float) -> None:
    model, pixels = Small(1).double().eval(), random_pixels(40, 7).double()
    labels = model(pixels).argmax(1)
    starts = pixels + radius * random_offsets(pixels)
    expected = [
        plain_apgd(model, *one, radius, 30) for one in zip(pixels, labels.tolist(), starts.clamp(0, 1), strict=True)
    ]
    found = run_apgd(model, pixels, labels, radius, 30)
    assert found.fooled_N.tolist() == [fooled for _, fooled in expected]
    alike = torch.stack(
        [(got - points).abs().max() < 1e-6 for got, (points, _) in zip(found.pixels_NCHW, expected, strict=True)]
    )
    # rounding decides now and then whether a loss has risen or which way a pixel goes
    assert alike.double().mean() >= 0.9


def climb(rises: list[int], best_before: list[float], halved: list[bool]) -> _Climb:
    count = len(rises)
    place = torch.zeros(count, 1, 1, 1)
    step = torch.ones(count, 1, 1, 1)
    odds = torch.zeros(count)
    now, before = torch.tensor(rises), torch.tensor(best_before)
    return _Climb(torch.arange(count), place, place, odds, place.clone(), step, now, before, torch.tensor(halved))


def test_steps_are_halved_for_either_reason_of_the_paper() -> None:
    record = _Record.begin(torch.full((4, 1, 1, 1), 7.0))
    record.odds[:] = 1.0
    # enough rises and a gain; too few; nothing gained since the last check; the same, but halved there already
    state = climb([4, 2, 4, 4], [0.5, 0.5, 1.0, 1.0], [False, False, False, True])
    state.check(record, 4)
    assert state.step.flatten().tolist() == [1, 0.5, 0.5, 1]
    assert state.halved.tolist() == [False, True, True, False]
    assert state.pixels.flatten().tolist() == [0, 7, 7, 0]
    assert state.odds.tolist() == [0, 1, 1, 0]
    assert state.best_before.tolist() == [1] * 4
    state.rises[:] = 4
    state.check(record, 4)  # nothing was gained by anybody; who was halved just now is spared
    assert state.step.flatten().tolist() == [0.5, 0.5, 0.5, 0.5]


def test_an_error_is_kept_before_any_larger_loss() -> None:
    record = _Record.begin(torch.zeros(2, 1, 1, 1))
    everybody, place = torch.arange(2), torch.ones(2, 1, 1, 1)
    record.note(everybody, place, torch.tensor([3.0, 3.0]), torch.tensor([False, False]), place)
    record.note(everybody, 2 * place, torch.tensor([2.0, 2.0]), torch.tensor([True, False]), place)
    found = record.result()
    assert found.fooled_N.tolist() == [True, False]
    assert found.pixels_NCHW.flatten().tolist() == [2, 1]


def test_checks_come_when_the_paper_has_them() -> None:
    assert check_steps(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert all(0 < step < 7 for step in check_steps(7))
    assert check_steps(1) == []
