"""Why: Grad-CAM against its formula, features that give the logits, counts and neighbours against plain loops."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from tests.conftest import CLASS_NAMES, make_images
from torch import nn
from torch.nn import functional as F

from cifarlab.config import Config, ConvnetConfig, MixconvConfig, ModelConfig, ResnetConfig, SpeednetConfig
from cifarlab.data import ImageSet
from cifarlab.evaluation.attention import features, grad_cam, half_area, last_maps
from cifarlab.evaluation.options import Options
from cifarlab.evaluation.section import Scored, Subject
from cifarlab.evaluation.why import _neighbours_agree, why_section
from cifarlab.inference import Classifier, model_metadata
from cifarlab.models import build_model, fit_to_images
from cifarlab.run import Run
from cifarlab.stats import wilson_interval

SIZE = 32
FAMILIES = {
    "speednet": ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 8, 16))),
    "convnet": ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 8), (1, 16)), hidden=(12,))),
    "convnet of one stage": ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 8),), pool="stride")),
    "mixconv": ModelConfig(name="mixconv", mixconv=MixconvConfig(widths=(8, 12), branches=2, residual=True)),
    "mixconv of branches": ModelConfig(
        name="mixconv", mixconv=MixconvConfig(widths=(8, 12), branches=2, mix_after="norm")
    ),
    "resnet": ModelConfig(name="resnet", resnet=ResnetConfig(variant="resnet20")),
    "wide": ModelConfig(name="resnet", resnet=ResnetConfig(variant="wrn16", width_factor=1)),
}


def classifier_of(model_config, root, size=SIZE):
    config = dataclasses.replace(Config(), model=model_config, data=dataclasses.replace(Config().data, image_size=size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build_model(config.model, len(CLASS_NAMES), size)
    fit_to_images(model, make_images(40, 0, size).images_NCHW)
    run = Run.create(config, name="tiny", root=root)
    run.save_model(model.state_dict(), model_metadata(config, CLASS_NAMES))
    run.write_json("result.json", {"format": 1})
    return Classifier.load(run, "cpu")


@pytest.fixture(params=FAMILIES)
def classifier(request, tmp_path):
    return classifier_of(FAMILIES[request.param], tmp_path)


@pytest.fixture
def images():
    return make_images(24, 5, SIZE)


def test_the_maps_are_the_last_ones_that_tell_parts_of_a_picture_apart(classifier, images):
    network, inputs = classifier.model.network, classifier.model.preprocess(images.images_NCHW)
    layer, size = last_maps(network, inputs)
    kept = []
    hook = layer.register_forward_hook(lambda module, given, output: kept.append(output))
    with torch.no_grad():
        network(inputs)
    hook.remove()
    (maps,) = kept  # it runs once
    assert maps.shape[2:] == size
    assert min(size) >= 4
    assert max(size) < SIZE
    # what comes after it makes no finer maps
    assert layer is not network


def test_a_network_without_maps_is_our_mistake():
    with pytest.raises(ValueError, match="no feature maps"):
        last_maps(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.zeros(1, 3, 2, 2))


def test_coarse_maps_are_taken_where_there_are_no_others():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layer, size = last_maps(network, torch.zeros(1, 3, 7, 7))
    assert (layer, size) == (network[0], (3, 3))


def test_grad_cam_is_its_formula(classifier, images):
    """relu(sum over channels of (mean gradient) x activation), as in the paper, by autograd alone."""
    pytest.importorskip("captum")
    classes_N = torch.arange(24) % 3
    maps_NHW = grad_cam(classifier, images.images_NCHW, classes_N)
    network = classifier.model.network
    inputs = classifier.model.preprocess(images.images_NCHW)
    layer, _ = last_maps(network, inputs)
    kept = []
    hook = layer.register_forward_hook(lambda module, given, output: kept.append(output))
    logits_NK = network(inputs)
    hook.remove()
    (activations,) = kept
    (gradients,) = torch.autograd.grad(logits_NK.gather(1, classes_N[:, None]).sum(), activations)
    expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1, keepdim=True).relu()
    expected_NHW = F.interpolate(expected, (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0].detach()
    assert maps_NHW.shape == (24, SIZE, SIZE)
    torch.testing.assert_close(maps_NHW, expected_NHW, atol=1e-5, rtol=1e-4)
    assert float(maps_NHW.min()) >= 0
    assert float(maps_NHW.max()) > 0


def test_features_times_the_last_layer_are_the_logits(classifier, images):
    features_NF = features(classifier, images.images_NCHW)
    linear = [m for m in classifier.model.network.modules() if isinstance(m, nn.Linear)]
    last = next(module for module in reversed(linear) if module.out_features == 3)
    with torch.no_grad():
        logits_NK = last(features_NF) * getattr(classifier.model.network, "logit_scale", 1.0)
        expected_NK = classifier.model(images.images_NCHW)
    torch.testing.assert_close(logits_NK, expected_NK, atol=1e-4, rtol=1e-4)


def test_half_area_counts_the_brightest_pixels():
    maps = torch.zeros(5, 10, 10)
    maps[0] = 1.0  # even: half of the picture
    maps[1, 3, 4] = 7.0  # one pixel
    maps[2, :2] = 3.0  # twenty pixels alike: ten of them
    maps[3, 0, 0], maps[3, 1] = 10.0, 1.0  # one of ten against ten of one: the first alone holds half
    areas = half_area(maps)
    assert areas[:4].tolist() == [0.5, 0.01, 0.1, 0.01]
    assert math.isnan(areas[4])


def test_neighbours_agree_as_a_plain_loop_says():
    generator = np.random.default_rng(0)
    features_MF = generator.normal(size=(60, 5))
    labels_M = generator.integers(0, 3, 60)
    features_MF[np.arange(60), labels_M] += 2
    unit = features_MF / np.linalg.norm(features_MF, axis=1, keepdims=True)
    expected = []
    for i in range(60):
        others = sorted((j for j in range(60) if j != i), key=lambda j: -float(unit[i] @ unit[j]))[:10]
        expected.append(sum(labels_M[j] == labels_M[i] for j in others) > 5)
    assert _neighbours_agree(features_MF, labels_M).tolist() == expected
    assert 0 < sum(expected) < 60


def subject_of(classifier, images, logits_NK, split="val"):
    judged = Scored(logits_NK, images.labels_N, images)
    return Subject(split, images.class_names, judged, judged, classifier, None, Options())


@pytest.fixture
def small(tmp_path):
    return classifier_of(FAMILIES["speednet"], tmp_path)


def test_counts_of_sure_mistakes_and_confused_pairs(small):
    pytest.importorskip("captum")
    images = make_images(90, 3, SIZE)
    logits_NK = 6.0 * F.one_hot(images.labels_N, 3).float()
    wrong = {0: 1, 3: 1, 6: 1, 9: 2, 1: 0}  # image: answer; images 0, 3, 6 and 9 are of class 0, image 1 of class 1
    for image, said in wrong.items():
        logits_NK[image] = 6.0 * F.one_hot(torch.tensor(said), 3)
    logits_NK[9] /= 10  # unsure of it
    section = why_section(subject_of(small, images, logits_NK))
    sure = section.figures["sure_mistakes"]
    assert sure["value"] == 4 / 90
    assert sure["interval"] == list(wilson_interval(4, 90))
    first = section.figures["confused_pairs"][0]
    assert (first["label"], first["predicted"], first["value"]) == ("red", "green", 3 / 30)
    assert "Most often confused: red and green, 3 one way, 1 the other, 80 % of its 5 mistakes" in section.findings[0]
    assert [row[0] for row in section.tables["mistakes"].rows] == [0, 1, 3, 6, 9]
    assert set(section.plots) == set(section.captions) == {"mistakes", "confused_pairs", "features", "evidence"}
    evidence = section.figures["evidence"]
    assert evidence["half_area"]["right"]["images"] + evidence["without_evidence"]["right"] == 85
    assert 0 < evidence["half_area"]["right"]["value"] <= 0.5
    assert 0 <= section.figures["neighbours_agree"]["value"] <= 1
    assert section.skipped == ""


def test_equal_input_gives_equal_figures(small):
    pytest.importorskip("captum")
    images = make_images(60, 4, SIZE)
    logits_NK = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    first, second = (why_section(subject_of(small, images, logits_NK)).figures for _ in range(2))
    assert first == second


def test_without_mistakes_or_with_few_images_it_says_so(small):
    pytest.importorskip("captum")
    images = make_images(9, 4, SIZE)
    section = why_section(subject_of(small, images, 6.0 * F.one_hot(images.labels_N, 3).float()))
    assert any("No class was taken for another" in note for note in section.notes)
    assert any("images are too few for neighbours" in note for note in section.notes)
    assert "confused_pairs" not in section.plots


def test_without_captum_the_rest_is_shown_and_the_line_says_what_to_install(small, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    images = make_images(30, 4, SIZE)
    logits_NK = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    section = why_section(subject_of(small, images, logits_NK))
    assert any("pip install 'cifarlab[explain]'" in note for note in section.notes)
    assert "evidence" not in section.plots
    assert "features" in section.plots


def test_answers_alone_have_no_reasons():
    images = make_images(30, 4, SIZE)
    bare = Scored(torch.zeros(30, 3), images.labels_N)
    subject = Subject("given", images.class_names, bare, None, None, None, Options())
    assert "evaluate the run" in why_section(subject).skipped
    assert why_section(subject).findings == ()


def test_files_of_images_are_named(small):
    pytest.importorskip("captum")
    plain = make_images(30, 4, SIZE)
    images = ImageSet(plain.images_NCHW, plain.labels_N, CLASS_NAMES, tuple(f"{i}.png" for i in range(30)))
    section = why_section(subject_of(small, images, torch.zeros(30, 3)))
    table = section.tables["mistakes"]
    assert table.header[1] == "file"
    assert all(row[1] == f"{row[0]}.png" for row in table.rows)
    assert all(len(row) == len(table.header) == len(table.kinds) for row in table.rows)
