"""CrossEncoders of sentence-transformers: classifiers of pairs with an activation after the head.

Its name is in config.json, as `sentence_transformers` (versions 4 and 5) or as
`sbert_ce_default_activation_function` (before), or in a separate file (version 6). In memory and
in saved checkpoints it is in config.json, from where every version reads it.
"""

from __future__ import annotations

from typing import Any

from ...tasks.regression import ACTIVATIONS, SIGMOID, activation_path, set_activation
from .. import embedding

MODEL_TYPE = "CrossEncoder"  # in config_sentence_transformers.json


def configure(config: Any, source: str, checkpoint: str) -> list[str]:
    """Record the activation of a CrossEncoder with one output in its configuration; return notes.

    PruneError if its settings cannot be read.
    """
    if config.num_labels != 1:
        return []
    settings = embedding.read_json(source, embedding.SETTINGS, checkpoint)
    if settings.get("model_type") == MODEL_TYPE:
        set_activation(config, settings.get("activation_fn") or SIGMOID)
    if not (path := activation_path(config)):
        return []
    name = path.rpartition(".")[2]
    if name not in ACTIVATIONS:
        return [
            f"CrossEncoder with the activation {path}, which is not applied: scores are logits."
        ]
    return [f"CrossEncoder of sentence-transformers: scores are shown after its {name}."]
