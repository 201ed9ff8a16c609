"""Export to ONNX: the file's answers are the model's, int8 agrees with fp32, and failures say what to do."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from cifarlab import export
from cifarlab.commands.train import train
from cifarlab.config import Config, ConvnetConfig, DataConfig, MixconvConfig, ModelConfig, ResnetConfig, SpeednetConfig
from cifarlab.data import Splits
from cifarlab.errors import CifarlabError, DataError, MissingExtraError, RunError
from cifarlab.export import export_onnx, onnx_logits, open_onnx, quantize_onnx
from cifarlab.inference import load_model, model_metadata
from cifarlab.models import build_model, fit_to_images
from cifarlab.run import Run
from tests.conftest import make_images

pytestmark = pytest.mark.xdist_group("onnx")  # one worker loads the exporter

NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Sixty made-up images: uint8, 60 x 3 x 32 x 32."""
    return make_images(60, seed=5, size=32).images_NCHW


def make_run(root: Path, model: ModelConfig, images: torch.Tensor) -> Run:
    """A finished run with an untrained model whose batch norms have seen the images."""
    config = Config(data=DataConfig(image_size=images.shape[-1]), model=model)
    run = Run.create(config, name="tiny", root=root)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_model(model, len(NAMES), config.data.image_size)
        fit_to_images(network, images)
        network.train()(images)
    run.save_model(network.state_dict(), model_metadata(config, NAMES))
    run.write_json("result.json", {"format": 1})
    return run


SPEEDNET = ModelConfig(name="speednet", speednet=SpeednetConfig(widths=(8, 16, 16)))
FAMILIES = [
    dataclasses.replace(SPEEDNET, speednet=SpeednetConfig(widths=(8, 8, 8), convs=3, activation="silu")),
    ModelConfig(name="convnet", convnet=ConvnetConfig(stages=((1, 8), (1, 8)), hidden=(8,), norm="group")),
    ModelConfig(name="mixconv", mixconv=MixconvConfig(widths=(8, 8), branches=2, hidden=())),
    ModelConfig(name="resnet", resnet=ResnetConfig(variant="resnet20")),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, images: torch.Tensor) -> tuple[Run, Path]:
    """A run of speednet and its ONNX file."""
    root = tmp_path_factory.mktemp("exported")
    run, path = make_run(root, SPEEDNET, images), root / "fp32.onnx"
    export_onnx(run, path, images_NCHW=images[:5])
    return run, path


def logits_of(path: Path, images: torch.Tensor) -> torch.Tensor:
    return onnx_logits(open_onnx(path, threads=1), images)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Difference as a share of what tells images apart."""
    return ((found - expected).norm() / (expected - expected.mean(0)).norm()).item()


@pytest.mark.parametrize("count", [1, 7, 60])
def test_the_file_gives_the_logits_of_the_model_for_any_batch(exported, images, count):
    run, path = exported
    with torch.inference_mode():
        expected = load_model(run)[0](images[:count])
    found = logits_of(path, images[:count])
    assert found.dtype == torch.float32
    assert expected.std() > 0.01  # else equality would say little
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)
def test_every_family_can_be_exported_and_quantised(tmp_path, images, model):
    small = images[:, :, ::2, ::2].contiguous()
    run = make_run(tmp_path, model, small)
    assert export_onnx(run, tmp_path / "fp32.onnx", images_NCHW=small) < 1e-4
    with torch.inference_mode():
        expected = load_model(run)[0](small)
    torch.testing.assert_close(logits_of(tmp_path / "fp32.onnx", small[:7]), expected[:7], atol=1e-4, rtol=1e-4)
    quantize_onnx(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", small)
    # an untrained network of 20 layers on images that are mostly noise shows 0.25; one that computes something else, 1
    assert 0 < relative_error(logits_of(tmp_path / "int8.onnx", small), expected) < 0.4


def test_the_file_describes_itself_and_not_the_machine_it_was_made_on(exported):
    run, path = exported
    model = onnx.load(path)
    described = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(described["cifarlab"]) == run.load_model()[1]
    assert json.loads(described["cifarlab"])["class_names"] == list(NAMES)
    (given,), (result,) = model.graph.input, model.graph.output
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim] == [0, 3, 32, 32]  # 0: free
    assert (given.name, result.name) == (export.INPUT, export.OUTPUT)
    content = path.read_bytes()
    for place in (str(Path(torch.__file__).parent), str(Path(export.__file__).parent), "speednet.py"):
        assert place.encode() not in content


def test_exporting_twice_gives_equal_bytes(exported, tmp_path):
    run, path = exported
    export_onnx(run, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


def test_int8_decides_as_fp32_does_on_a_trained_model(config: Config, splits: Splits, tmp_path):
    run = train(config, name="tiny", splits=splits)
    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    export_onnx(run, fp32)
    quantize_onnx(fp32, int8, splits.train.images_NCHW)
    unseen = make_images(300, seed=9)
    expected, found = logits_of(fp32, unseen.images_NCHW), logits_of(int8, unseen.images_NCHW)
    assert (expected.argmax(1) == unseen.labels_N).float().mean() > 0.6  # a third by chance
    assert 0 < relative_error(found, expected) < 0.15
    assert (found.argmax(1) == expected.argmax(1)).float().mean() >= 0.97


def test_all_convolutions_but_the_first_are_int8_with_a_scale_for_every_channel(exported, images, tmp_path):
    quantize_onnx(exported[1], tmp_path / "int8.onnx", images)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}
    first, *others = [node for node in graph.node if node.op_type == "Conv"]
    assert tensors[first.input[1]].dtype == np.float32
    original = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(exported[1]).graph.initializer}
    assert len(others) == 6
    for conv in others:
        assert maker[conv.input[0]].op_type == "DequantizeLinear"
        weight, scale, _ = (tensors[name] for name in maker[conv.input[1]].input)
        exact = original[maker[conv.input[1]].input[0].removesuffix("_quantized")]
        assert weight.dtype == np.int8
        assert np.abs(weight).max() <= 64  # seven bits: two products of 8 bits do not overflow 16
        assert scale.shape == (len(weight),)
        assert np.abs(weight * scale[:, None, None, None] - exact).max() <= 0.501 * scale.max()


def test_one_session_serves_several_threads_at_once(exported, images):
    from concurrent.futures import ThreadPoolExecutor
    from functools import partial

    session = open_onnx(exported[1], threads=1)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(partial(onnx_logits, session), images.split(7)))
    torch.testing.assert_close(torch.cat(parts), onnx_logits(session, images), atol=1e-5, rtol=1e-4)


def test_a_run_without_a_model_says_how_to_go_on(tmp_path):
    run = Run.create(Config(), name="unfinished", root=tmp_path)
    with pytest.raises(RunError, match="cifarlab train --resume"):
        export_onnx(run, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named_with_the_line_that_installs_it(exported, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    line = f"{library} is not installed; install it with: pip install 'cifarlab[export]'"
    with pytest.raises(MissingExtraError) as caught:
        export_onnx(exported[0], tmp_path / "model.onnx")
    assert (str(caught.value), caught.value.exit_code) == (line, 3)
    if library == "onnxruntime":
        with pytest.raises(MissingExtraError, match="cifarlab\\[export\\]"):
            open_onnx(exported[1], threads=1)


def test_a_file_that_answers_differently_is_not_written(exported, tmp_path, monkeypatch):
    def wrong(session: object, images: torch.Tensor) -> torch.Tensor:
        return onnx_logits(session, images) + torch.tensor([0.0, 0.01, 0.0])  # type: ignore[arg-type]

    monkeypatch.setattr(export, "onnx_logits", wrong)
    with pytest.raises(CifarlabError, match=r"differs from the run's by 0\.01"):
        export_onnx(exported[0], tmp_path / "model.onnx")
    assert list(tmp_path.glob("*.onnx")) == []


def test_what_cannot_be_quantised_is_refused(exported, images, tmp_path):
    with pytest.raises(DataError, match="no images"):
        quantize_onnx(exported[1], tmp_path / "int8.onnx", images[:0])
    (tmp_path / "text.onnx").write_text("not a model")
    for path in (tmp_path / "absent.onnx", tmp_path / "text.onnx"):
        with pytest.raises(CifarlabError, match=f"cannot read .*{path.name} as ONNX"):
            quantize_onnx(path, tmp_path / "int8.onnx", images)
    assert not (tmp_path / "int8.onnx").exists()


def test_export_leaves_logging_as_it_was(exported, images, tmp_path, caplog):
    levels = [logging.getLogger(name).level for name in ("root", "torch.onnx")]
    quantize_onnx(exported[1], tmp_path / "int8.onnx", images)
    assert [logging.getLogger(name).level for name in ("root", "torch.onnx")] == levels
    assert not caplog.records
