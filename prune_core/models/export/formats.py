"""What a model ships as: the files of each form, and what answers from them in the model's place. All of it on the CPU.

Knows nothing of pruning or of measures.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import os
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import PruneError, require
from ...plugins import Batch
from ..checkpoints.loading import save
from .onnx import OnnxWrapper, Outputs, largest_difference, sample_batches, to_onnx

BF16, ONNX, INT8, STATIC = "PyTorch bf16", "ONNX fp32", "ONNX int8", "ONNX int8 static"
OPENVINO, OPENVINO_INT8 = "OpenVINO fp32", "OpenVINO int8"
OPERATIONS = ["MatMul", "Gemm", "Gather"]  # of the operations that read a weight matrix
CALIBRATED = 256  # sentences, at most, by which inputs get their ranges


class DeployedModel(nn.Module):
    """A file that some runtime answers from like the model that it was written from: its config, its outputs by name. For inference
    on the CPU only; nothing of it can be differentiated."""

    def __init__(
        self, files: Sequence[Path], model: Any, tokenizer: Any, run: Callable[[Batch], Outputs]
    ):
        super().__init__()
        self.files, self.config, own = files, model.config, OnnxWrapper(model, tokenizer)
        self.inputs, self.outputs = own.inputs, own.outputs
        self._run = run
        self.place = nn.Parameter(
            torch.zeros(0), requires_grad=False
        )  # says where it lives, as a model's weights do

    def forward(self, input_ids: Tensor, **others: Tensor) -> SimpleNamespace:
        """The outputs for a batch; token types that are not given are 0."""
        usual = {
            "attention_mask": torch.ones_like(input_ids),
            "token_type_ids": torch.zeros_like(input_ids),
        }
        given = {"input_ids": input_ids, **usual, **others}
        said = self._run({name: given[name] for name in self.inputs})
        return SimpleNamespace(
            **{name: torch.from_numpy(each) for name, each in zip(self.outputs, said, strict=True)}
        )

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files)


@dataclass(frozen=True)
class ExportSource:
    """What every form of a model is written from."""

    model: Any  # on the CPU
    tokenizer: Any
    folder: Path  # which exists, for all files
    calibration: Sequence[Batch]  # a sentence each, so that no range is one of padding

    @cached_property
    def onnx(self) -> Path:
        """The model in fp32, written once; forms are made from it."""
        file = self.folder / "fp32.onnx"
        to_onnx(self.model, self.tokenizer, file)
        return file

    @cached_property
    def openvino(self) -> Any:
        """The model for OpenVINO, by its own reading of PyTorch: through ONNX attention would stay in single operations."""
        own = OnnxWrapper(self.model, self.tokenizer)
        sample = next(sample_batches(self.model, own.inputs))
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of the tracer about values that it takes for constant; answers are compared below
            found = _runtime().convert_model(own, example_input=tuple(sample.values()))
        for place, name in zip(found.inputs, own.inputs, strict=True):
            place.get_tensor().set_names({name})
        largest_difference(self.model, self.tokenizer, _compiled(found), name="The OpenVINO model")
        return found

    def session(self, file: Path) -> DeployedModel:
        """ONNX Runtime on one of the files."""
        return DeployedModel([file], self.model, self.tokenizer, run=onnx_runtime(file))


def onnx_runtime(file: Path | bytes) -> Callable[[Batch], Outputs]:
    """What runs an ONNX file, or its content, with as many threads as torch has."""
    require("onnxruntime", "onnx")
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # else idle sessions keep the cores busy
    # fused with the sum before it, a layer norm takes five times as long as both apart (ONNX Runtime 1.31, 8 x 64 tokens)
    session = InferenceSession(
        file if isinstance(file, bytes) else str(file),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )
    return lambda batch: session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})


def to_int8(file: Path, out: Path) -> None:
    """Write the ONNX model with its embeddings and the weights of its matrix products in int8, a scale a column; inputs are rounded
    as they come (dynamic quantisation)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _prepared(file) as model:
        quantize_dynamic(
            model,
            str(out),
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=_overflows(),
        )


def to_static_int8(file: Path, out: Path, calibration: Sequence[Batch]) -> None:
    """The same with one range for every input, the widest seen on the calibration sentences (static quantisation)."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        left = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(
                ({name: tensor.numpy() for name, tensor in batch.items()} for batch in self.left),
                None,
            )

    with _prepared(file) as model:
        weights = {each.name for each in model.graph.initializer}
        inner = [
            node.name
            for node in model.graph.node
            if node.op_type == "MatMul" and not weights.intersection(node.input)
        ]
        try:
            quantize_static(
                model,
                str(out),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=_overflows(),
                op_types_to_quantize=OPERATIONS,
                nodes_to_exclude=inner,
                extra_options={
                    "OpTypesToExcludeOutputQuantization": OPERATIONS
                },  # what comes out is added to in fp32
            )
        except AssertionError as error:  # of its own, where a range is no number
            raise PruneError(
                f"What passes through the model has no range that int8 could hold ({error}): look whether its hidden states are numbers, "
                "or leave the static int8 form out."
            ) from None


def _overflows() -> bool:
    """Whether this processor adds products of 8 bits in 16, as x86 without VNNI does: weights then get 7, as ONNX Runtime advises."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    told = Path("/proc/cpuinfo")
    return not (told.is_file() and "vnni" in told.read_text())


@contextlib.contextmanager
def _prepared(file: Path) -> Any:
    """The model for ONNX Runtime's quantizer, which advises a preparation that changes nothing here."""
    require("onnxruntime", "onnx")
    import onnx

    model = onnx.load(str(file))
    del model.graph.value_info[
        :
    ]  # the exporter's notes on shapes contradict what the quantizer infers
    advice = lambda record: "pre-processing before quantization" not in record.getMessage()  # noqa: E731
    logging.getLogger().addFilter(advice)
    try:
        yield model
    finally:
        logging.getLogger().removeFilter(advice)


def _int8(source: ExportSource) -> DeployedModel:
    to_int8(source.onnx, out := source.folder / "int8.onnx")
    return source.session(out)


def _static(source: ExportSource) -> DeployedModel:
    to_static_int8(source.onnx, out := source.folder / "static.onnx", source.calibration)
    return source.session(out)


def _bf16(source: ExportSource) -> DeployedModel:
    own = OnnxWrapper(copy.deepcopy(source.model).bfloat16(), source.tokenizer)
    save(own.model, source.tokenizer, source.folder / "bf16")
    return DeployedModel(
        [*(source.folder / "bf16").glob("*.safetensors")],
        source.model,
        source.tokenizer,
        run=own.answers,
    )


def _openvino_int8(source: ExportSource) -> DeployedModel:
    """Static quantisation by NNCF. Its smoothing of outliers moves them from inputs into weights, which helps some models and hurts
    others (after K-prune, most): of both ways the one is taken whose answers to the calibration sentences are nearer."""
    require("nncf", "openvino")
    _runtime()
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
    )

    nncf.set_log_level(logging.ERROR)
    inputs = [
        {name: tensor.numpy() for name, tensor in batch.items()} for batch in source.calibration
    ]
    wanted = OnnxWrapper(source.model, source.tokenizer)
    ways = []
    for alpha in (0.95, -1):  # NNCF's own, and none
        smooth = AdvancedQuantizationParameters(
            smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=alpha)
        )
        with contextlib.redirect_stdout(io.StringIO()):  # progress bars
            made = nncf.quantize(
                source.openvino.clone(),
                nncf.Dataset(inputs),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(inputs),
                advanced_parameters=smooth,
            )
        run = _compiled(made)
        off = [
            float(np.square(one - two).mean())
            for batch in source.calibration
            for one, two in zip(run(batch), wanted.answers(batch), strict=True)
        ]
        ways.append((sum(off), made))
    return _in_openvino(source, min(ways, key=lambda way: way[0])[1], "openvino-int8")


def _in_openvino(source: ExportSource, model: Any, name: str) -> DeployedModel:
    _runtime().save_model(model, file := source.folder / f"{name}.xml", compress_to_fp16=False)
    return DeployedModel(
        [file, file.with_suffix(".bin")],
        source.model,
        source.tokenizer,
        run=_compiled(_runtime().Core().read_model(file)),
    )


def _compiled(model: Any) -> Callable[[Batch], Outputs]:
    told = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = _runtime().Core().compile_model(model, "CPU", told).create_infer_request()

    def run(batch: Batch) -> Outputs:
        said = request.infer({name: tensor.numpy() for name, tensor in batch.items()})
        return [said[place] for place in range(len(said))]

    return run


def _runtime() -> Any:
    """OpenVINO, without the package by which it and NNCF report their use to their makers; they are made to do without."""
    require("openvino", "openvino")
    os.environ.setdefault("NNCF_CI", "1")
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))  # an import of it fails
    import openvino

    return openvino


# relative to the largest output of an example; fp32 has 1e-4, and what int8 rounds away is measured, not refused
TOLERANCES = {BF16: 0.1, INT8: math.inf, STATIC: math.inf, OPENVINO_INT8: math.inf}
FORMATS: dict[str, Callable[[ExportSource], DeployedModel]] = {
    ONNX: lambda source: source.session(source.onnx),
    INT8: _int8,
    STATIC: _static,
    OPENVINO: lambda source: _in_openvino(source, source.openvino, "openvino"),
    OPENVINO_INT8: _openvino_int8,
    BF16: _bf16,
}
