"""Predict examples: probabilities, scores or answer spans, in batches sorted by length on the
model's device.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.examples import Examples
from ...data.tokens import check_finite
from ...plugins import Report, no_report
from ...tasks import TASK_TYPES, Predictions
from ...tasks.encoding import batches
from ..devices import device_of


def predict(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int = 32,
    max_length: int = 128,
    report: Report = no_report,
) -> Predictions:
    """Predict examples of any task type; stored predictions are returned unchanged."""
    if stored := getattr(model, "stored_predictions", None):
        return stored(examples)
    task_type = TASK_TYPES[examples.kind]
    if task_type.predict is not None:
        return task_type.predict(
            model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
        )
    values = outputs(
        model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
    )
    return task_type.decode(values, examples, model.config)


def probabilities(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int = 32,
    max_length: int = 128,
    report: Report = no_report,
) -> np.ndarray:
    """Softmax probabilities of a classifier in the order of the examples: (examples, labels)."""
    return outputs(
        model, tokenizer, examples, batch_size=batch_size, max_length=max_length, report=report
    )


@torch.no_grad()
def outputs(
    model: Any, tokenizer: Any, examples: Examples, batch_size: int, max_length: int, report: Report
) -> np.ndarray:
    """Probabilities per label (examples, labels), or scores (examples, 1).

    `report` is called with the fraction of finished examples.
    """
    activation = TASK_TYPES[examples.kind].activation
    assert activation is not None, "there is an output per label"
    values: list[Tensor] = []
    order: list[int] = []
    for batch, indices in batches(
        tokenizer, examples, batch_size, max_length=max_length, device=device_of(model)
    ):
        values.append(activation(model(**batch).logits.float()))
        order += indices
        report(len(order) / len(examples), f"predicted {len(order)} of {len(examples)}")
    result = np.zeros((len(examples), model.config.num_labels), dtype=np.float32)
    if values:
        # transferred once: on a GPU, batches need not wait for each other
        result[order] = torch.cat(values).cpu().numpy()
    check_finite(result, len(examples))
    return result
