"""A pruned checkpoint for use elsewhere: cut, as ONNX, or both. Every export is compared with the model it came from.

Knows nothing of jobs or the store.
"""

from __future__ import annotations

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
from ..compact import compact_model, dead_units
from ..replay import max_tokens, task_type_of

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SHAPES = (
    (2, 12),
    (1, 5),
    (3, 33),
    (8, 64),
)  # (sentences, tokens): the sample that is traced, and others to compare
TOLERANCE = 1e-4  # of the largest logit, or of 1: fp32 kernels round differently, a wrong export differs in the first digits
ONNX = "model.onnx"

Outputs = list[
    np.ndarray
]  # logits (sentences, labels), or of starts and of ends (sentences, tokens)


def write_compact(source: Path, folder: Path) -> str:
    """Cut the checkpoint in `source` and save it in `folder`; a sentence with the largest difference of their logits."""
    model, tokenizer = load(str(source))
    heads, neurons = dead_units(model)
    if not heads + neurons:
        raise PruneError(
            "This checkpoint has no dead heads or neurons to cut: use a structured method, or leave --shrink out."
        )
    save(compact_model(model), tokenizer, folder)
    small, _ = load(str(folder))
    largest = largest_difference(
        model, tokenizer, OnnxWrapper(small, tokenizer).answers, name=str(folder)
    )
    return f"Cut {heads} heads and {neurons} neurons; the largest difference of a logit is {largest:.1e}."


def write_onnx(folder: Path) -> str:
    """Write model.onnx beside the checkpoint in `folder`; a sentence with the largest difference of their logits."""
    largest = to_onnx(*load(str(folder)), folder / ONNX)
    return f"{ONNX} gives the same logits; the largest difference is {largest:.1e}."


def to_onnx(model: nn.Module, tokenizer: Any, file: Path) -> float:
    """Write a model on the CPU as ONNX; the largest difference of their logits.

    Inputs int64 (batch, length) of any size that the model takes: input_ids, attention_mask and, where the tokenizer
    gives them, token_type_ids. Outputs fp32: logits (batch, labels), or start_logits and end_logits (batch, length).
    """
    require("onnxruntime", "onnx")
    require("onnxscript", "onnx")
    from onnxruntime import InferenceSession

    deployed = OnnxWrapper(model, tokenizer)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=max_tokens(model))}
    sample = next(sample_batches(model, deployed.inputs))
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # the exporter misses torchvision, of which nothing is needed here
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own parts
        torch.onnx.export(
            deployed,
            tuple(sample.values()),
            str(file),
            input_names=deployed.inputs,
            output_names=deployed.outputs,
            dynamic_shapes=(tuple(sizes for _ in deployed.inputs),),
            external_data=False,
            verbose=False,
        )
    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    run = lambda batch: session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})  # noqa: E731
    return largest_difference(model, tokenizer, run, name=str(file))


class OnnxWrapper(nn.Module):
    """A model from tensors to tensors, without the names and the options of its family."""

    def __init__(self, model: nn.Module, tokenizer: Any):
        super().__init__()
        self.model = model
        self.inputs = [name for name in INPUTS if name in tokenizer.model_input_names]
        self.outputs = (
            ["start_logits", "end_logits"] if task_type_of(model) == "span" else ["logits"]
        )

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs in their order."""
        said = self.model(**dict(zip(self.inputs, tensors, strict=True)))
        return tuple(said[name] for name in self.outputs)

    @torch.no_grad()
    def answers(self, batch: Batch) -> Outputs:
        """The outputs for a batch, in fp32."""
        return [tensor.float().numpy() for tensor in self(*(batch[name] for name in self.inputs))]


def sample_batches(model: Any, inputs: list[str]) -> Iterator[Batch]:
    """Arbitrary tokens at several shapes, every second sentence padded to half."""
    dice = torch.Generator().manual_seed(0)
    for sentences, tokens in SHAPES:
        size = (sentences, min(tokens, max_tokens(model)))
        mask = torch.ones(size, dtype=torch.long)
        mask[1::2, size[1] // 2 :] = 0
        ids = torch.randint(5, model.config.vocab_size, size, generator=dice)
        batch = {
            "input_ids": ids.where(mask.bool(), torch.tensor(model.config.pad_token_id or 0)),
            "attention_mask": mask,
        }
        if "token_type_ids" in inputs:
            batch["token_type_ids"] = torch.randint(
                0, max(1, model.config.type_vocab_size), size, generator=dice
            )
        yield batch


def largest_difference(
    model: nn.Module, tokenizer: Any, other: Callable[[Batch], Outputs], name: str
) -> float:
    """Between the model's and the other's answers; an error where that is more than rounding."""
    deployed, largest, scale = OnnxWrapper(model, tokenizer), 0.0, 1.0
    for batch in sample_batches(model, deployed.inputs):
        for expected, found in zip(deployed.answers(batch), other(batch), strict=True):
            if task_type_of(model) in (
                "span",
                "token",
            ):  # which answer for every token; of padding nobody asks
                real = batch["attention_mask"].numpy().astype(bool)
                expected, found = expected[real], found[real]
            largest = max(largest, float(np.abs(expected - found).max()))
            scale = max(scale, float(np.abs(expected).max()))
    if not largest <= TOLERANCE * scale:  # which NaN is not either
        raise PruneError(
            f"{name} does not give the model's answers (a logit differs by {largest:.2g}); do not use it, and report this."
        )
    return largest
