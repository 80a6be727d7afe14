"""What a model ships as: an ONNX file, its weights in int8, and the session that answers in the model's place.

Knows nothing of pruning or of measures.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import require
from .export import Deployed


class Session(nn.Module):
    """An ONNX file in ONNX Runtime on the CPU, which answers like the model that it was written from: its config, its outputs by
    name. For inference only; nothing of it can be differentiated."""

    def __init__(self, file: Path, model: Any, tokenizer: Any):
        super().__init__()
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # as many as the model that it is compared with
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else idle sessions keep the cores busy
        self.file, self.config, own = file, model.config, Deployed(model, tokenizer)
        self.inputs, self.outputs = own.inputs, own.outputs
        self._session = InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)  # says where it lives, as a model's weights do

    def forward(self, input_ids: Tensor, **others: Tensor) -> SimpleNamespace:
        """The outputs for a batch; token types that are not given are 0."""
        usual = {"attention_mask": torch.ones_like(input_ids), "token_type_ids": torch.zeros_like(input_ids)}
        given = {"input_ids": input_ids, **usual, **others}
        said = self._session.run(None, {name: given[name].numpy() for name in self.inputs})
        return SimpleNamespace(**{name: torch.from_numpy(each) for name, each in zip(self.outputs, said, strict=True)})


def to_int8(file: Path, out: Path, exclude: Sequence[str] = ()) -> None:
    """Write the ONNX model with its embeddings and the weights of its matrix products in int8, a scale a column; inputs are rounded
    as they come (dynamic quantisation). The nodes named in `exclude` stay in fp32."""
    require("onnxruntime", "onnx")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(file))
    del model.graph.value_info[:]  # the exporter's notes on shapes contradict what the quantizer infers
    logging.getLogger().addFilter(_advice)  # about a preparation that changes nothing here
    try:
        quantize_dynamic(model, str(out), per_channel=True, weight_type=QuantType.QInt8, nodes_to_exclude=list(exclude))
    finally:
        logging.getLogger().removeFilter(_advice)


def _advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()
