"""Sentences in, probabilities out, in length-sorted batches on the model's own device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .data import Examples, batches
from .encoders import device_of
from .plugins import Report, quiet


@torch.no_grad()
def probabilities(
    model: Any,
    tokenizer: Any,
    examples: Examples,
    batch_size: int = 32,
    max_length: int = 128,
    report: Report = quiet,
) -> np.ndarray:
    """(examples, labels) softmax probabilities in the examples' order; the report counts finished examples."""
    out = np.zeros((len(examples), model.config.num_labels), dtype=np.float32)
    done = 0
    for batch, indices in batches(tokenizer, examples, batch_size, max_length, device_of(model)):
        out[indices] = model(**batch).logits.float().softmax(-1).cpu().numpy()
        done += len(indices)
        report(done / len(examples), f"predicted {done} of {len(examples)}")
    return out
