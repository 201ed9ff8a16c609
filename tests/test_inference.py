"""Test-time views against a naive computation, and a run opened for prediction."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import Config, DataConfig, EvaluateConfig, ModelConfig, SpeednetConfig
from cifarlab.errors import RunError, UsageError
from cifarlab.inference import Classifier, load_model, model_metadata, predict_logits
from cifarlab.models import ImageClassifier, build_model
from cifarlab.run import Run

CPU = torch.device("cpu")
NAMES = ("red", "green", "blue")


class Net(nn.Module):
    """A network that sees where a pixel is, behaves differently in training, and counts the images it was shown."""

    def __init__(self, size: int = 12) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(4, 3 * size * size, generator=generator))
        self.dropout = nn.Dropout(0.5)
        self.images_seen = 0

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        self.images_seen += len(images_NCHW)
        pixels = images_NCHW.float() / 255 - 0.5
        return F.linear(self.dropout(pixels.flatten(1)), self.weight)


def some_images(count: int, size: int = 12, seed: int = 0) -> torch.Tensor:
    shape = (count, 3, size, size)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def naive(net: nn.Module, images: torch.Tensor, views: str) -> torch.Tensor:
    """View-averaged logits, image by image, with torch's own reflection padding."""

    def mirrored_mean(image: torch.Tensor) -> torch.Tensor:
        return (net(image) + net(image.flip(-1))) / 2

    rows = []
    for image in images[:, None].float():
        answer = mirrored_mean(image)
        if views == "flip_translate":
            padded, size = F.pad(image, (1, 1, 1, 1), mode="reflect"), image.shape[-1]
            corners = [padded[..., :size, :size], padded[..., 2:, 2:]]
            answer = answer / 2 + sum(mirrored_mean(corner) for corner in corners) / 4
        rows.append(answer)
    return torch.cat(rows).detach()


@pytest.mark.parametrize("views", ["flip", "flip_translate"])
@pytest.mark.parametrize("batch_size", [1, 4, 500])
def test_views_equal_a_naive_computation(views: str, batch_size: int) -> None:
    net, images = Net().eval(), some_images(9)
    plain, averaged = predict_logits(net, images, views=views, batch_size=batch_size, device=CPU)
    assert averaged is not None
    torch.testing.assert_close(plain, net(images).detach())
    torch.testing.assert_close(averaged, naive(net, images, views))
    assert not torch.allclose(plain, averaged)


def test_no_views_give_plain_logits_only() -> None:
    net, images = Net(), some_images(3)
    plain, averaged = predict_logits(net, images, device=CPU)
    assert averaged is None
    assert plain.dtype == torch.float32
    assert plain.shape == (3, 4)


def test_flip_does_not_tell_an_image_from_its_mirror_image() -> None:
    net, images = Net(), some_images(7)
    _, one = predict_logits(net, images, views="flip", device=CPU)
    _, other = predict_logits(net, images.flip(-1), views="flip", device=CPU)
    torch.testing.assert_close(one, other)
    plain, _ = predict_logits(net, images, device=CPU)
    plain_mirrored, _ = predict_logits(net, images.flip(-1), device=CPU)
    assert not torch.allclose(plain, plain_mirrored)


@pytest.mark.parametrize("views", ["flip", "flip_translate"])
def test_images_below_the_margin_get_the_views_and_no_others(views: str) -> None:
    net, images = Net(), some_images(40)
    plain, full = predict_logits(net, images, views=views, device=CPU)
    top = plain.softmax(1).sort(1, descending=True).values
    difference = top[:, 0] - top[:, 1]
    margin = difference.median().item()
    _, partial = predict_logits(net, images, views=views, views_margin=margin, device=CPU)
    assert full is not None
    assert partial is not None
    chosen = {i for i in range(40) if difference[i] <= margin}
    assert 0 < len(chosen) < 40
    for i in range(40):
        torch.testing.assert_close(partial[i], (full if i in chosen else plain)[i])
    assert chosen == {i for i in range(40) if not torch.equal(partial[i], plain[i])}


def test_views_of_an_image_do_not_depend_on_the_images_asked_with_it() -> None:
    net, images = Net(), some_images(30)
    _, together = predict_logits(net, images, views="flip_translate", views_margin=0.1, device=CPU)
    alone = [
        predict_logits(net, images[i : i + 1], views="flip_translate", views_margin=0.1, device=CPU)[1]
        for i in range(30)
    ]
    assert together is not None
    torch.testing.assert_close(torch.cat([one for one in alone if one is not None]), together, atol=1e-5, rtol=1e-5)


def test_no_view_is_computed_twice_and_none_in_vain() -> None:
    for margin in (1.0, 0.1, 0.0):
        net, images = Net(), some_images(20)
        plain, _ = predict_logits(net, images, device=CPU)
        top = plain.softmax(1).sort(1, descending=True).values
        chosen = int((top[:, 0] - top[:, 1] <= margin).sum())
        net.images_seen = 0
        predict_logits(net, images, views="flip_translate", views_margin=margin, batch_size=6, device=CPU)
        assert net.images_seen == 20 + 5 * chosen


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_left_as_it_was(training: bool) -> None:
    net, images = Net().train(training), some_images(5)
    first, _ = predict_logits(net, images, device=CPU)
    second, _ = predict_logits(net, images, device=CPU)
    assert net.training is training
    assert net.dropout.training is training
    assert torch.equal(first, second)  # no dropout


def test_the_mode_comes_back_after_a_failure() -> None:
    net = Net().train()
    with pytest.raises(RuntimeError):
        predict_logits(net, some_images(2, size=5), device=CPU)
    assert net.training


def test_a_temperature_can_be_fitted_on_the_logits() -> None:
    net, images = Net(), some_images(5)
    for logits in predict_logits(net, images, views="flip", device=CPU):
        assert logits is not None
        temperature = torch.ones(1, requires_grad=True)
        F.cross_entropy(logits / temperature, torch.zeros(5, dtype=torch.int64)).backward()
        assert temperature.grad is not None
    assert net.weight.grad is None


def test_bf16_is_near_fp32() -> None:
    net, images = Net(), some_images(8)
    exact, _ = predict_logits(net, images, device=CPU)
    rounded, _ = predict_logits(net, images, precision="bf16", device=CPU)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.2, rtol=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_what_the_cpu_gives() -> None:
    net, images = Net(), some_images(30)
    expected = predict_logits(net, images, views="flip_translate", views_margin=0.1, device=CPU)
    cuda = torch.device("cuda")
    found = predict_logits(net.to(cuda), images.to(cuda), views="flip_translate", views_margin=0.1, device=cuda)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def tiny_config(**evaluate: object) -> Config:
    model = ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 8, 8)), init="runs/before")
    return Config(data=DataConfig(image_size=16), model=model, evaluate=EvaluateConfig(**evaluate))  # type: ignore[arg-type]


def tiny_model(config: Config) -> ImageClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(config.model, len(NAMES), config.data.image_size).eval()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = tiny_config(views="flip_translate", views_margin=0.5)
    run = Run.create(config, name="tiny", root=tmp_path)
    run.save_model(tiny_model(config).state_dict(), model_metadata(config, NAMES))
    run.write_json("result.json", {"format": 1})
    return run


def test_a_saved_model_comes_back_the_same(run: Run) -> None:
    original, images = tiny_model(run.config), some_images(4, size=16)
    model, class_names = load_model(run)
    assert class_names == NAMES
    assert not model.training
    assert model.preprocess.image_size == 16
    assert torch.equal(model(images), original(images))


def test_metadata_is_plain_and_names_no_other_run(run: Run) -> None:
    _, metadata = run.load_model()
    assert metadata["format"] == 1
    assert metadata["class_names"] == list(NAMES)
    assert metadata["image_size"] == 16
    assert metadata["model"]["name"] == "speednet"
    assert metadata["model"]["init"] == ""


def test_opening_a_run_leaves_the_random_numbers_alone(run: Run) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    Classifier.load(run, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_classifier_answers_with_the_views_of_the_run(run: Run) -> None:
    classifier = Classifier.load(run, device="cpu")
    images = some_images(6, size=16)
    expected = naive(tiny_model(run.config), images.float() / 255, "flip_translate")
    torch.testing.assert_close(classifier.logits(images), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(classifier.probabilities(images), expected.softmax(1), atol=1e-5, rtol=1e-4)
    assert (classifier.class_names, classifier.image_size, classifier.resize) == (NAMES, 16, "squash")
    assert classifier.run is run


def test_an_answer_does_not_depend_on_the_images_asked_with_it(run: Run) -> None:
    classifier, images = Classifier.load(run, device="cpu"), some_images(8, size=16)
    alone = torch.cat([classifier.logits(image[None]) for image in images])
    torch.testing.assert_close(classifier.logits(images), alone, atol=1e-5, rtol=1e-4)


def test_a_run_can_be_named_by_its_folder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent)
    assert Classifier.load(run.path, device="cpu").class_names == NAMES
    assert Classifier.load("tiny", device="cpu").class_names == NAMES
    with pytest.raises(RunError, match="not a run folder"):
        Classifier.load("absent")


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    run = Run.create(tiny_config(), name="tiny", root=tmp_path)
    with pytest.raises(RunError, match="--resume"):
        Classifier.load(run)


def test_weights_that_do_not_fit_their_description_are_refused(run: Run) -> None:
    tensors, metadata = run.load_model()
    del tensors["network.head.weight"]
    run.save_model(tensors, metadata)
    with pytest.raises(RunError, match=r"model\.safetensors does not fit .*head\.weight"):
        load_model(run)


def test_weights_that_the_last_step_spoilt_are_refused(run: Run) -> None:
    """The loss, which training watches, is taken before the last step."""
    tensors, metadata = run.load_model()
    tensors["network.head.weight"][0, 0] = math.nan
    run.save_model(tensors, metadata)
    with pytest.raises(RunError, match=r"not all finite; train anew with a lower --optimizer\.lr"):
        load_model(run)


@pytest.mark.parametrize(
    "damage", [{"model": {"name": "oracle"}}, {"class_names": None}, {"image_size": "wide"}, {"image_size": math.inf}]
)
def test_metadata_that_describes_no_model_is_refused(run: Run, damage: dict[str, object]) -> None:
    tensors, metadata = run.load_model()
    run.save_model(tensors, metadata | damage)
    with pytest.raises(RunError, match=r"model\.safetensors does not describe its model"):
        load_model(run)


def test_an_absent_device_is_a_mistake_of_the_user(run: Run) -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(UsageError, match="mps"):
        Classifier.load(run, device="mps")
