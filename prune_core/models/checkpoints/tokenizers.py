"""A checkpoint's tokenizer as the product uses it: padded on the right, cut at the model's positions, with its token types.

Knows nothing of weights.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..families import FAMILIES

HARMLESS = (
    "Asking-to-pad",
    "clean_up_tokenization_spaces",
    "will be removed",
    "deprecated",
)  # messages that change no token


def prepare_tokenizer(tokenizer: Any, config: Any) -> Any:
    """A copy of the tokenizer for a model of that configuration; the caller's own stays as it is.

    Padding is on the right, as with absolute positions padding on the left moves every token. Texts are cut at the model's
    positions. Token types are sent if the model tells at least two apart, and only then.
    """
    own = copy.deepcopy(tokenizer)
    own.padding_side = "right"
    own.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = (
        True  # padding comes after sorting by length
    )
    if limit := FAMILIES[config.model_type].longest(config):
        own.model_max_length = min(own.model_max_length, limit)
    own.model_input_names = [
        name
        for name in own.model_input_names
        if name != "token_type_ids" or takes_token_types(config)
    ]
    return own


def takes_token_types(config: Any) -> bool:
    """Whether a model of that configuration tells token types apart."""
    return FAMILIES[config.model_type].token_types and getattr(config, "type_vocab_size", 0) > 1


def accepted_inputs(model: Any, encoded: Any) -> dict[str, Any]:
    """Of a tokenizer's output what plain transformers can pass to the model."""
    known = inspect.signature(model.forward).parameters
    names = {
        "input_ids",
        "attention_mask",
        *(["token_type_ids"] if takes_token_types(model.config) else []),
    }
    return {name: value for name, value in encoded.items() if name in names and name in known}


@contextmanager
def captured_messages() -> Iterator[list[str]]:
    """What transformers' tokenizers warn of while they are loaded, such as "emoji is not installed": it may change tokens."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = " ".join(record.getMessage().split())
            if (
                "tokeniz" in record.name
                and not any(word in text for word in HARMLESS)
                and text not in found
            ):
                found.append(text)

    logger, handler = logging.getLogger("transformers"), Collector(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
