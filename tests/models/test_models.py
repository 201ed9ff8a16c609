"""What every network family promises, over a spread of settings."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F

from cifarlab.config import ConvnetConfig, MixconvConfig, ModelConfig, ResnetConfig, SpeednetConfig
from cifarlab.errors import ConfigError
from cifarlab.models import MODELS, ImageClassifier, build_model, fit_to_images
from cifarlab.models.resnet import Bottleneck

CASES: dict[str, ModelConfig] = {
    "speednet": ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(16, 24, 24))),
    "speednet-3": ModelConfig(
        name="speednet", speednet=SpeednetConfig(widths=(24, 16, 8), convs=3, activation="silu", logit_scale=0.5)
    ),
    "convnet": ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((2, 8), (1, 16)), dropout=0.2, hidden=(12,))),
    "convnet-conv-pool-conv": ModelConfig(
        name="convnet", convnet=ConvnetConfig(stages=((1, 8), (1, 8)), norm="none", pool_last=False, hidden=())
    ),
    "convnet-sigmoid": ModelConfig(
        name="convnet", convnet=ConvnetConfig(stages=((3, 8), (3, 8)), activation="sigmoid", dropout=0.1)
    ),
    "convnet-group": ModelConfig(
        name="convnet",
        convnet=ConvnetConfig(stages=((1, 16), (2, 12)), norm="group", pool="stride", head="average", activation="elu"),
    ),
    "convnet-layer": ModelConfig(
        name="convnet", convnet=ConvnetConfig(stages=((1, 6),), norm="layer", pool="average", activation="tanh")
    ),
    "mixconv": ModelConfig(
        name="mixconv", mixconv=MixconvConfig(widths=(8, 12), branches=3, hidden=(10,), dropout=0.1)
    ),
    "mixconv-raw": ModelConfig(
        name="mixconv",
        mixconv=MixconvConfig(widths=(8, 8), mixing="raw", residual=True, norm="none", pool="stride", hidden=()),
    ),
    "mixconv-sigmoid": ModelConfig(
        name="mixconv",
        mixconv=MixconvConfig(widths=(8, 12, 12), mixing="sigmoid", residual=True, norm="group", pool="none"),
    ),
    "convnet-valid": ModelConfig(
        name="convnet",
        convnet=ConvnetConfig(
            stages=((1, 8), (1, 10), (2, 12)),
            norm="none",
            padding=0,
            pool_after=(2, 3),
            hidden=(9, 8),
            head_dropout=0.3,
        ),
    ),
    "mixconv-norm": ModelConfig(
        name="mixconv",
        mixconv=MixconvConfig(
            widths=(8, 12), mixing="sigmoid", mix_after="norm", block_dropout=0.1, pool_last=True, hidden=()
        ),
    ),
    "mixconv-activation": ModelConfig(
        name="mixconv", mixconv=MixconvConfig(widths=(8, 8), mix_after="activation", norm="none", pool="stride")
    ),
    "mixconv-pool": ModelConfig(
        name="mixconv",
        mixconv=MixconvConfig(widths=(8, 12), mix_after="pool", norm="group", activation="leaky_relu", pool_last=True),
    ),
    "resnet20": ModelConfig(name="resnet", resnet=ResnetConfig(variant="resnet20", dropout=0.1)),
    "resnet18": ModelConfig(name="resnet", resnet=ResnetConfig(variant="resnet18", stem="imagenet")),
    "resnet50": ModelConfig(name="resnet", resnet=ResnetConfig(variant="resnet50", stem="imagenet")),
    "wrn16": ModelConfig(name="resnet", resnet=ResnetConfig(variant="wrn16", width_factor=2, dropout=0.1)),
}


def make_images(count: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    """Random uint8 images, each with its own colour and coarse pattern."""
    generator = torch.Generator().manual_seed(seed)
    coarse = F.interpolate(torch.rand(count, 3, 4, 4, generator=generator), (size, size), mode="bilinear")
    return ((coarse + 0.3 * torch.rand(count, 3, size, size, generator=generator)) / 1.3 * 255).to(torch.uint8)


def make_model(case: str, num_classes: int = 10, image_size: int = 32, seed: int = 0) -> ImageClassifier:
    """A fresh model, fitted, with batch-norm statistics of real activations as after training."""
    torch.manual_seed(seed)
    model = build_model(CASES[case], num_classes, image_size)
    for module in model.modules():
        if isinstance(module, Bottleneck):
            # fifty layers of random filters amplify rounding errors a thousandfold; trained ones do not
            nn.init.constant_(module.bn3.weight, 0.2)
    images = make_images(16, image_size)
    fit_to_images(model, images)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest) -> ImageClassifier:
    """One model of each kind, in eval mode; tests that change it take a copy of their own."""
    return make_model(request.param)


def test_every_family_is_covered() -> None:
    assert {config.name for config in CASES.values()} == set(MODELS)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("image_size", "num_classes"), [(32, 2), (48, 100), (33, 10)])
def test_logits_have_the_shape_asked_for(case: str, image_size: int, num_classes: int) -> None:
    network = MODELS[CASES[case].name](getattr(CASES[case], CASES[case].name), num_classes, image_size).train()
    logits = network(torch.randn(2, 3, image_size, image_size))
    assert logits.shape == (2, num_classes)
    assert logits.dtype == torch.float32
    assert F.cross_entropy(logits, torch.tensor([0, 1])).isfinite()


@pytest.mark.parametrize("case", CASES)
def test_every_trainable_parameter_gets_a_gradient(case: str) -> None:
    # double precision, so that a gradient that is zero in truth does not pass as rounding noise
    torch.manual_seed(0)
    model = build_model(CASES[case], 10, 32).double().train()
    images = make_images(4).double() / 255
    loss = F.cross_entropy(model.network((images - 0.5) * 4), torch.arange(4))
    loss.backward()
    assert loss.isfinite()
    trainable = 0
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        trainable += 1
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-9, name
    assert trainable > 0


def test_saved_and_loaded_model_gives_equal_logits(model: ImageClassifier, request: pytest.FixtureRequest) -> None:
    images = make_images(4)
    other = make_model(request.node.callspec.params["model"], seed=1)
    with torch.no_grad():
        assert not torch.equal(other(images), model(images))
        other.load_state_dict(safetensors.torch.load(safetensors.torch.save(model.state_dict())), strict=True)
        assert torch.equal(other(images), model(images))


def test_logits_do_not_depend_on_the_rest_of_the_batch(model: ImageClassifier) -> None:
    images = make_images(6)
    with torch.no_grad():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
    assert alone.shape == (6, 10)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    assert together.std(0).max() > 1e-3  # different images do differ


def test_uint8_and_unit_interval_images_give_equal_logits(model: ImageClassifier) -> None:
    images = make_images(4)
    with torch.no_grad():
        assert torch.equal(model(images), model(images.float() / 255))


def test_images_of_another_size_are_brought_to_the_models(model: ImageClassifier) -> None:
    with torch.no_grad():
        assert model(make_images(2, 40)).shape == (2, 10)


def test_channels_last_gives_the_same_logits(model: ImageClassifier) -> None:
    images = make_images(4)
    with torch.no_grad():
        plain = model(images)
        model.to(memory_format=torch.channels_last)
        last = model(images.contiguous(memory_format=torch.channels_last))
        model.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(last, plain, atol=1e-4, rtol=1e-4)


def test_bf16_autocast_stays_near_fp32(model: ImageClassifier) -> None:
    images = make_images(4)
    with torch.no_grad():
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(images).float()
    assert rough.isfinite().all()
    assert (rough - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("case", [case for case in CASES if case != "resnet50"])  # the code of resnet18, much slower
def test_seed_decides_the_initial_weights(case: str) -> None:
    def initial(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build_model(CASES[case], 10, 32).state_dict()

    first, again, other = initial(3), initial(3), initial(4)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    "case",
    ["speednet", "convnet-group", "mixconv", "mixconv-raw", "mixconv-sigmoid", "mixconv-pool", "resnet20", "wrn16"],
)
def test_networks_with_global_pooling_take_other_sizes(case: str) -> None:
    model = make_model(case)
    model.preprocess.image_size = 24
    with torch.no_grad():
        small = model(make_images(2))
    assert small.shape == (2, 10)
    assert small.isfinite().all()


def test_flattening_head_refuses_another_size_in_one_line() -> None:
    model = make_model("convnet")
    model.preprocess.image_size = 24
    with pytest.raises(ConfigError, match=r"built for images of 32 pixels, not 24.*head to average"):
        model(make_images(2))


def test_fit_to_images_sets_statistics_and_whitening() -> None:
    torch.manual_seed(0)
    model = build_model(CASES["speednet"], 10, 32)
    before = model.network.whiten.weight.clone()
    images = make_images(64)
    fit_to_images(model, images)
    normalised = model.preprocess(images)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    assert not torch.equal(model.network.whiten.weight, before)


@pytest.mark.parametrize("count", [1, 999, 1000, 1999, 2999, 3000])
def test_fit_to_images_looks_at_all_of_them_where_they_lie_class_by_class(count: int) -> None:
    brightness = torch.linspace(0, 255, count).to(torch.uint8)
    images = brightness[:, None, None, None].expand(count, 3, 8, 8)
    model = build_model(ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 4),), hidden=())), 2, 8)
    fit_to_images(model, images)
    expected = images.float().mean() / 255
    torch.testing.assert_close(model.preprocess.mean.flatten(), expected.expand(3), atol=0.002, rtol=0)
