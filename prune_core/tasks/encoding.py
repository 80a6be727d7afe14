"""Encode the examples of any task type as batches, with their labels."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..data.examples import Examples
from ..data.tokens import Features, batches_by_length, check_finite
from ..plugins import Batch, Report
from . import TASK_TYPES


def encode(tokenizer: Any, examples: Examples, max_length: int) -> Features:
    """Tokenize examples.

    Texts are truncated at `max_length`; a context is split into windows that overlap by a third of
    it. PruneError if question answering gets a tokenizer without offsets.
    """
    limit = min(max_length, tokenizer.model_max_length)
    return TASK_TYPES[examples.kind].encode(tokenizer, examples, limit)


def token_targets(features: Features, examples: Examples) -> Tensor:
    """Return the label tensor with one row per row of `features`; see `TaskType.targets`."""
    assert examples.labels is not None, "the caller checks for labels"
    labels = [examples.labels[example] for example in features.example_index]
    return TASK_TYPES[examples.kind].targets(features, labels)


def batches(
    tokenizer: Any,
    examples: Examples,
    batch_size: int,
    max_length: int,
    device: torch.device,
    labelled: bool = False,
) -> Iterator[tuple[Batch, list[int]]]:
    """Yield (batch, indices of its examples), sorted by length.

    With `labelled`, the batch has "labels" too (see token_targets).
    """
    features = encode(tokenizer, examples, max_length)
    labels = token_targets(features, examples).to(device) if labelled else None
    for batch, rows in batches_by_length(tokenizer, features, batch_size, device=device):
        if labels is not None:
            batch["labels"] = (
                labels[rows]
                if features.words is None
                else labels[rows][:, : batch["input_ids"].shape[1]]
            )
        yield batch, [features.example_index[row] for row in rows]


def outputs_by_length(
    model: Any, tokenizer: Any, features: Features, batch_size: int, report: Report, noun: str = ""
) -> Iterator[tuple[Any, Batch, list[int]]]:
    """Yield (output of the model, batch, its rows), sorted by length, without gradients.

    `report` is called with the fraction of finished rows; `noun`: what they are, if not examples.
    """
    done, device = 0, next(model.parameters()).device
    for batch, rows in batches_by_length(tokenizer, features, batch_size, device=device):
        with torch.no_grad():
            output = model(**batch)
        yield output, batch, rows
        done += len(rows)
        report(done / len(features), f"predicted {done} of {len(features)} {noun}".rstrip())


def embeddings(
    model: Any, tokenizer: Any, features: Features, batch_size: int, report: Report, noun: str = ""
) -> Tensor:
    """Return the embeddings of a sentence-embedding model: (rows, dimensions) fp32 on the CPU.

    PruneError if any is NaN or infinite.
    """
    order: list[int] = []
    parts: list[Tensor] = []
    for output, _, rows in outputs_by_length(
        model, tokenizer, features, batch_size, report=report, noun=noun
    ):
        parts.append(output.embeddings.float().cpu())
        order += rows
    vectors = torch.empty(len(order), parts[0].shape[-1])
    vectors[order] = torch.cat(parts)
    check_finite(vectors.numpy(), len(set(features.example_index)))
    return vectors
