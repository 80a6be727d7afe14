"""Export a pruned checkpoint: compact, as ONNX, or both.

Every export is compared with the model it was made from.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import PruneError, require
from ...plugins import Batch
from ..checkpoints.loading import load, save
from ..compact import compact_model, is_compactable, removed_units
from ..replay import max_tokens, task_type_of

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SHAPES = ((2, 12), (1, 5), (3, 33), (8, 64))  # (examples, tokens): the first is traced
# relative to max(1, largest logit): fp32 kernels round differently, a wrong export differs in the
# first digits
TOLERANCE = 1e-4
ONNX = "model.onnx"

# logits (examples, labels), start and end logits (examples, tokens) each, or embeddings
Outputs = list[np.ndarray]


def write_compact(model: Any, tokenizer: Any, folder: Path) -> str:
    """Write the compact version of a model to `folder`; return a note on the comparison."""
    if not is_compactable(model):
        raise PruneError(
            "This checkpoint has no dead heads or neurons to remove: use a structured method, or "
            "omit --shrink."
        )
    save(compact_model(model), tokenizer, folder)
    small, _ = load(str(folder))
    largest = largest_difference(
        model, tokenizer, OnnxWrapper(small, tokenizer).outputs_for, name=str(folder)
    )
    return f"Removed {removed_units(model)}; the largest difference of a logit is {largest:.1e}."


def write_onnx(folder: Path) -> str:
    """Write model.onnx next to the checkpoint in `folder`; return a note on the comparison."""
    largest = to_onnx(*load(str(folder)), folder / ONNX)
    return f"{ONNX} returns the same logits; the largest difference is {largest:.1e}."


def to_onnx(model: nn.Module, tokenizer: Any, file: Path) -> float:
    """Export a model on the CPU to ONNX; return the largest difference of the logits.

    Inputs int64 (batch, length) of any size that the model accepts: input_ids, attention_mask and,
    if the tokenizer returns them, token_type_ids. Outputs fp32: logits (batch, labels),
    start_logits and end_logits (batch, length), or embeddings (batch, width).
    """
    require("onnxruntime", "onnx")
    require("onnxscript", "onnx")
    from onnxruntime import InferenceSession

    wrapper = OnnxWrapper(model, tokenizer)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=max_tokens(model))}
    # the exporter warns that torchvision is missing, which is not needed here
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own code
        torch.onnx.export(
            wrapper,
            tuple(next(sample_batches(model, wrapper.inputs)).values()),
            str(file),
            input_names=wrapper.inputs,
            output_names=wrapper.outputs,
            dynamic_shapes=(tuple(sizes for _ in wrapper.inputs),),
            external_data=False,
            verbose=False,
        )
    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])

    return largest_difference(
        model,
        tokenizer,
        lambda batch: session.run(None, {name: tensor.numpy() for name, tensor in batch.items()}),
        name=str(file),
    )


class OnnxWrapper(nn.Module):
    """A model as a function of tensors, without the argument names and options of its family."""

    def __init__(self, model: nn.Module, tokenizer: Any):
        super().__init__()
        self.model = model
        self.inputs = [name for name in INPUTS if name in tokenizer.model_input_names]
        self.outputs = list(task_type_of(model).output_names)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of `outputs`."""
        outputs = self.model(**dict(zip(self.inputs, tensors, strict=True)))
        return tuple(getattr(outputs, name) for name in self.outputs)

    @torch.no_grad()
    def outputs_for(self, batch: Batch) -> Outputs:
        """Outputs for a batch, in fp32."""
        return [tensor.float().numpy() for tensor in self(*(batch[name] for name in self.inputs))]


def sample_batches(model: Any, inputs: list[str]) -> Iterator[Batch]:
    """Random tokens in several shapes; every second example is padded to half its length."""
    generator = torch.Generator().manual_seed(0)
    for examples, tokens in SHAPES:
        size = (examples, min(tokens, max_tokens(model)))
        mask = torch.ones(size, dtype=torch.long)
        mask[1::2, size[1] // 2 :] = 0
        ids = torch.randint(5, model.config.vocab_size, size, generator=generator)
        batch = {
            "input_ids": ids.where(mask.bool(), torch.tensor(model.config.pad_token_id or 0)),
            "attention_mask": mask,
        }
        if "token_type_ids" in inputs:
            batch["token_type_ids"] = torch.randint(
                0, max(1, model.config.type_vocab_size), size, generator=generator
            )
        yield batch


def largest_difference(
    model: nn.Module, tokenizer: Any, other: Callable[[Batch], Outputs], name: str
) -> float:
    """Largest difference between a model's outputs and another runtime's; PruneError above
    TOLERANCE.
    """
    wrapper, largest, scale = OnnxWrapper(model, tokenizer), 0.0, 1.0
    for batch in sample_batches(model, wrapper.inputs):
        for expected, actual in zip(wrapper.outputs_for(batch), other(batch), strict=True):
            if task_type_of(model).outputs_per_token:  # ignore padding
                real = batch["attention_mask"].numpy().astype(bool)
                expected, actual = expected[real], actual[real]
            largest = max(largest, float(np.abs(expected - actual).max()))
            scale = max(scale, float(np.abs(expected).max()))
    if not largest <= TOLERANCE * scale:  # also True for NaN
        raise PruneError(
            f"{name} does not return the model's outputs (a logit differs by {largest:.2g}); "
            "do not use it, and report this."
        )
    return largest
