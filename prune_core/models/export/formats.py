"""Deployment formats: write a model's files and run them in its place, all on the CPU."""

import contextlib
import copy
import io
import logging
import math
import os
import platform
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
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
OPERATIONS = ["MatMul", "Gemm", "Gather"]  # that read a weight matrix
CALIBRATION_EXAMPLES = 256  # maximum number of examples that determine the ranges of inputs


class DeployedModel(nn.Module):
    """An exported file with the interface of the model it was written from.

    It has the model's config, and outputs by name; inference on the CPU only, no gradients.
    """

    def __init__(
        self, files: Sequence[Path], model: Any, tokenizer: Any, run: Callable[[Batch], Outputs]
    ):
        super().__init__()
        self.files, self.config = files, model.config
        wrapper = OnnxWrapper(model, tokenizer)
        self.inputs, self.outputs = wrapper.inputs, wrapper.outputs
        self._run = run
        # for device_of, which reads a model's parameters
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)

    def forward(self, input_ids: Tensor, **others: Tensor) -> SimpleNamespace:
        """Outputs for a batch; missing token types are 0, a missing mask is 1."""
        inputs = {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
            "token_type_ids": torch.zeros_like(input_ids),
            **others,
        }
        arrays = self._run({name: inputs[name] for name in self.inputs})
        outputs = zip(self.outputs, arrays, strict=True)
        return SimpleNamespace(**{name: torch.from_numpy(array) for name, array in outputs})

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files)


@dataclass(frozen=True)
class ExportSource:
    """What every format is written from."""

    model: Any  # on the CPU
    tokenizer: Any
    folder: Path  # existing folder for all files
    calibration: Sequence[Batch]  # one example each, so that no range is determined by padding

    @cached_property
    def onnx(self) -> Path:
        """The model in fp32, written on first use."""
        file = self.folder / "fp32.onnx"
        to_onnx(self.model, self.tokenizer, file)
        return file

    @cached_property
    def openvino(self) -> Any:
        """The model converted by OpenVINO's own PyTorch frontend.

        Converted from ONNX, attention would remain a sequence of single operations.
        """
        wrapper = OnnxWrapper(self.model, self.tokenizer)
        sample = next(sample_batches(self.model, wrapper.inputs))
        with warnings.catch_warnings():
            # the tracer warns about values that it assumes constant; outputs are compared below
            warnings.simplefilter("ignore")
            converted = openvino_runtime().convert_model(
                wrapper, example_input=tuple(sample.values())
            )
        for port, name in zip(converted.inputs, wrapper.inputs, strict=True):
            port.get_tensor().set_names({name})
        largest_difference(
            self.model, self.tokenizer, _compiled(converted), name="The OpenVINO model"
        )
        return converted

    def session(self, file: Path) -> DeployedModel:
        """Run one of the files with ONNX Runtime."""
        return DeployedModel([file], self.model, self.tokenizer, run=onnx_runtime(file))


def onnx_session(file: Path | bytes) -> Any:
    """Open an ONNX file, or its content, with ONNX Runtime and as many threads as torch."""
    require("onnxruntime", "onnx")
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    # otherwise idle sessions keep the cores busy
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # a layer norm fused with the preceding sum takes five times as long as both separately
    # (ONNX Runtime 1.31, 8 x 64 tokens)
    return InferenceSession(
        file if isinstance(file, bytes) else str(file),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )


def onnx_runtime(file: Path | bytes) -> Callable[[Batch], Outputs]:
    """Function that runs an ONNX file, or its content; see `onnx_session`."""
    session = onnx_session(file)
    return lambda batch: session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})


def to_int8(file: Path, out: Path) -> None:
    """Quantize an ONNX model dynamically.

    Embeddings and the weights of matrix products are int8 with one scale per column; inputs are
    quantized at run time.
    """
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
    """Quantize an ONNX model statically.

    As `to_int8`, but with one fixed range per input, the widest over the calibration examples.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        batches = (
            {name: tensor.numpy() for name, tensor in batch.items()} for batch in calibration
        )

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    with _prepared(file) as model:
        weights = {tensor.name for tensor in model.graph.initializer}
        without_weights = [
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
                nodes_to_exclude=without_weights,
                # outputs are added to in fp32
                extra_options={"OpTypesToExcludeOutputQuantization": OPERATIONS},
            )
        except AssertionError as error:  # raised by ONNX Runtime if a range is NaN or infinite
            raise PruneError(
                f"The activations of the model have no range that int8 can represent ({error}): "
                "check whether its hidden states are finite, or leave out the static int8 format."
            ) from None


def _overflows() -> bool:
    """Whether this processor accumulates products of 8 bits in 16, as x86 without VNNI does.

    Weights are then reduced to 7 bits, as ONNX Runtime recommends.
    """
    cpuinfo = Path("/proc/cpuinfo")
    has_vnni = cpuinfo.is_file() and "vnni" in cpuinfo.read_text()
    return platform.machine().lower() in ("x86_64", "amd64") and not has_vnni


@contextlib.contextmanager
def _prepared(file: Path) -> Any:
    """Load an ONNX model for the quantizer.

    Suppresses the quantizer's advice to pre-process the model, which changes nothing here.
    """
    require("onnxruntime", "onnx")
    import onnx

    model = onnx.load(str(file))
    # the exporter's shapes contradict those inferred by the quantizer
    del model.graph.value_info[:]

    def is_relevant(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    logging.getLogger().addFilter(is_relevant)
    try:
        yield model
    finally:
        logging.getLogger().removeFilter(is_relevant)


def _int8(source: ExportSource) -> DeployedModel:
    to_int8(source.onnx, out := source.folder / "int8.onnx")
    return source.session(out)


def _static(source: ExportSource) -> DeployedModel:
    to_static_int8(source.onnx, out := source.folder / "static.onnx", source.calibration)
    return source.session(out)


def _bf16(source: ExportSource) -> DeployedModel:
    wrapper = OnnxWrapper(copy.deepcopy(source.model).bfloat16(), source.tokenizer)
    save(wrapper.model, source.tokenizer, source.folder / "bf16")
    return DeployedModel(
        [*(source.folder / "bf16").rglob("*.safetensors")],
        source.model,
        source.tokenizer,
        run=wrapper.outputs_for,
    )


def _openvino_int8(source: ExportSource) -> DeployedModel:
    """Quantize statically with NNCF, with or without its smoothing of outliers.

    Smoothing moves outliers from inputs into weights, which helps some models and hurts others
    (after K-prune, most): the variant with outputs closer to the model's on the calibration
    examples is used.
    """
    require("nncf", "openvino")
    openvino_runtime()
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
    )

    nncf.set_log_level(logging.ERROR)
    inputs = [
        {name: tensor.numpy() for name, tensor in batch.items()} for batch in source.calibration
    ]
    wrapper = OnnxWrapper(source.model, source.tokenizer)
    candidates = []
    for alpha in (0.95, -1):  # NNCF's default, and no smoothing
        smooth = AdvancedQuantizationParameters(
            smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=alpha)
        )
        with contextlib.redirect_stdout(io.StringIO()):  # progress bars
            quantized = nncf.quantize(
                source.openvino.clone(),
                nncf.Dataset(inputs),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(inputs),
                advanced_parameters=smooth,
            )
        run = _compiled(quantized)
        errors = [
            float(np.square(actual - expected).mean())
            for batch in source.calibration
            for actual, expected in zip(run(batch), wrapper.outputs_for(batch), strict=True)
        ]
        candidates.append((sum(errors), quantized))
    return _in_openvino(source, min(candidates, key=lambda item: item[0])[1], "openvino-int8")


def _in_openvino(source: ExportSource, model: Any, name: str) -> DeployedModel:
    openvino_runtime().save_model(
        model, file := source.folder / f"{name}.xml", compress_to_fp16=False
    )
    return DeployedModel(
        [file, file.with_suffix(".bin")],
        source.model,
        source.tokenizer,
        run=_compiled(openvino_runtime().Core().read_model(file)),
    )


def openvino_function(model: Any) -> Callable[[Mapping[str, np.ndarray]], Outputs]:
    """Function that runs an OpenVINO model on arrays, with as many threads as torch."""
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino_runtime().Core().compile_model(model, "CPU", options).create_infer_request()

    def run(arrays: Mapping[str, np.ndarray]) -> Outputs:
        outputs = request.infer(dict(arrays))
        return [np.array(outputs[index]) for index in range(len(outputs))]

    return run


def _compiled(model: Any) -> Callable[[Batch], Outputs]:
    run = openvino_function(model)
    return lambda batch: run({name: tensor.numpy() for name, tensor in batch.items()})


def openvino_runtime() -> Any:
    """Import OpenVINO without telemetry: the package with which it and NNCF report usage is
    blocked.
    """
    require("openvino", "openvino")
    os.environ.setdefault("NNCF_CI", "1")
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))  # its import fails
    import openvino

    return openvino


# relative to the largest output of an example; fp32 has 1e-4; int8 errors are measured, not refused
TOLERANCES = {BF16: 0.1, INT8: math.inf, STATIC: math.inf, OPENVINO_INT8: math.inf}
FORMATS: dict[str, Callable[[ExportSource], DeployedModel]] = {
    ONNX: lambda source: source.session(source.onnx),
    INT8: _int8,
    STATIC: _static,
    OPENVINO: lambda source: _in_openvino(source, source.openvino, "openvino"),
    OPENVINO_INT8: _openvino_int8,
    BF16: _bf16,
}
