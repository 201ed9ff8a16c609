"""Export: a run's model as ONNX, in fp32 and quantised to int8, with its preprocessing inside.

The file takes uint8 images, N x 3 x S x S for any N, where S is the run's image size, and gives plain logits (float32,
N x K): no resizing and no test-time views. Its metadata, under the key ``cifarlab``, is that of model.safetensors.

Shape suffixes: N images, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cifarlab.errors import CifarlabError, DataError, MissingExtraError
from cifarlab.inference import load_model
from cifarlab.models import ImageClassifier
from cifarlab.run import Run, durable_file

if TYPE_CHECKING:
    import onnx
    import onnxruntime

INPUT, OUTPUT = "images", "logits"

_TOLERANCE = 1e-4  # of the largest logit: another order of summation in fp32 gives about 1e-6
# What int8 makes faster. All else stays fp32: linear layers cost little, and logits are not to be rounded.
_QUANTISED = ["Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Add"]
_CALIBRATION_BATCH = 100


def export_onnx(run: Run, path: Path, *, images_NCHW: torch.Tensor | None = None) -> float:
    """Write a run's model as an ONNX file and compare its answers with the model's.

    Args:
        run: A run that has its model.safetensors.
        path: The file to write.
        images_NCHW: Images to compare on, beside random ones: uint8, N x 3 x S x S.

    Returns:
        Largest difference between a logit of the file and one of the model.

    Raises:
        MissingExtraError: If onnx, onnxscript or onnxruntime is not installed.
        RunError: If the run has no model, or the file cannot be written.
        CifarlabError: If the file's answers are not the model's.
    """
    onnx, *_ = _require("onnx", "onnxscript", "onnxruntime")
    model, _ = load_model(run)
    proto = _convert(model)
    entry = proto.metadata_props.add()
    entry.key, entry.value = "cifarlab", json.dumps(run.load_model()[1], sort_keys=True)
    onnx.checker.check_model(proto, full_check=True)
    content = proto.SerializeToString(deterministic=True)
    size = model.preprocess.image_size
    random = torch.randint(256, (9, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    worst = max(_compare(model, content, images) for images in (random, images_NCHW) if images is not None)
    with durable_file(path) as temporary:
        temporary.write_bytes(content)
    return worst


def quantize_onnx(fp32_path: Path, int8_path: Path, images_NCHW: torch.Tensor) -> None:
    """Quantise convolutions, pooling, ReLU and sums of an exported model to int8, weights by channel.

    The first convolution stays fp32. It sees raw pixels and costs little, and with it quantised, speednet disagreed
    with fp32 on twice as many validation images. Weights have 7 bits, so that processors without VNNI instructions,
    whose 16-bit sums would saturate, give the same answers; on validation this cost nothing that could be told from
    chance (docs/log.md).

    Args:
        fp32_path: A file written by :func:`export_onnx`.
        int8_path: The file to write.
        images_NCHW: Training images, uint8, N x 3 x S x S, that show the ranges of activations; a few hundred.

    Raises:
        MissingExtraError: If onnx or onnxruntime is not installed.
        DataError: If there are no images.
        CifarlabError: If ``fp32_path`` cannot be read, or ``int8_path`` cannot be written.
    """
    onnx, quantization = _require("onnx", "onnxruntime.quantization")
    if not len(images_NCHW):
        raise DataError("no images to calibrate int8 on; give some hundred training images")
    try:
        model = onnx.load(fp32_path)
    except Exception as error:  # a missing file, or what protobuf raises for one that is not ONNX
        raise CifarlabError(f"cannot read {fp32_path} as ONNX ({error}); write it with export_onnx") from error
    first = [node.name for node in model.graph.node if node.op_type == "Conv"][:1]

    with durable_file(int8_path) as temporary, _quiet():
        quantization.quantize_static(
            model,
            temporary,
            _CalibrationImages(images_NCHW),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=_QUANTISED,
            nodes_to_exclude=first,
        )


class _CalibrationImages:
    """The images of calibration as onnxruntime asks for them: batch after batch, then None."""

    def __init__(self, images_NCHW: torch.Tensor) -> None:
        self.batches = iter(torch.split(images_NCHW, _CALIBRATION_BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the name of the model's input."""
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch.numpy()}


def open_onnx(model: Path | bytes, *, threads: int) -> onnxruntime.InferenceSession:
    """Open an exported model on the CPU with every graph optimisation.

    Args:
        model: The file, or its content.
        threads: Threads that share one call. With 1 a call runs in the thread that makes it, so one session can serve
            several threads at once.

    Raises:
        MissingExtraError: If onnxruntime is not installed.
    """
    (ort,) = _require("onnxruntime")
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    session: onnxruntime.InferenceSession = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session


def onnx_logits(session: onnxruntime.InferenceSession, images_NCHW: torch.Tensor) -> torch.Tensor:
    """Return logits (float32, N x K) of images (uint8, N x 3 x S x S)."""
    return torch.from_numpy(session.run([OUTPUT], {INPUT: images_NCHW.numpy()})[0])


def _require(*modules: str) -> list[Any]:
    """Import modules of the extra ``export``, or say how to install the first that is missing."""
    found = []
    for name in modules:
        try:
            found.append(importlib.import_module(name))
        except ModuleNotFoundError as error:
            raise MissingExtraError(name.partition(".")[0], "export") from error
    return found


def _convert(model: ImageClassifier) -> onnx.ModelProto:
    """Return the model as ONNX with a free batch size, without traces of the source files it was made from."""
    size = model.preprocess.image_size
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)  # a batch of one would be taken for a constant
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    graph = proto.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    return proto


def _compare(model: ImageClassifier, content: bytes, images_NCHW: torch.Tensor) -> float:
    """Return the largest difference of logits between file and model over batches of one, of two and of the rest."""
    session, worst = open_onnx(content, threads=torch.get_num_threads()), 0.0
    for part in filter(len, (images_NCHW[:1], images_NCHW[1:3], images_NCHW[3:])):
        with torch.inference_mode():
            expected_NK = model(part)
        difference = (onnx_logits(session, part) - expected_NK).abs().max().item()
        allowed = _TOLERANCE * max(1.0, expected_NK.abs().max().item())
        if not difference <= allowed:  # a NaN does not pass either
            raise CifarlabError(
                f"the exported model differs from the run's by {difference:.2g} in a logit, more than {allowed:.2g}; "
                "it was not written (another version of onnxscript or onnxruntime may help)"
            )
        worst = max(worst, difference)
    return worst


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence remarks of exporter and quantiser that a user can do nothing about, such as on absent torchvision."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "root")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
