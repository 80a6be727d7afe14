"""Prepare a checkpoint's tokenizer: right padding, truncation at the model's positions, token
types.
"""

import copy
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..families import FAMILIES

# in messages without an effect on tokens
HARMLESS = ("Asking-to-pad", "clean_up_tokenization_spaces", "will be removed", "deprecated")


def prepare_tokenizer(tokenizer: Any, config: Any) -> Any:
    """Copy a tokenizer and adapt it to a model's configuration.

    Padding is on the right: with absolute positions, padding on the left would shift every token.
    Texts are truncated at the model's positions. Token types are passed only if the model
    distinguishes at least two.
    """
    prepared = copy.deepcopy(tokenizer)
    prepared.padding_side = "right"
    # no warning: padding comes after sorting by length
    prepared.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True
    if limit := FAMILIES[config.model_type].max_tokens(config):
        prepared.model_max_length = min(prepared.model_max_length, limit)
    prepared.model_input_names = [
        name
        for name in prepared.model_input_names
        if name != "token_type_ids" or takes_token_types(config)
    ]
    return prepared


def takes_token_types(config: Any) -> bool:
    """Whether a model with this configuration distinguishes token types."""
    return FAMILIES[config.model_type].token_types and getattr(config, "type_vocab_size", 0) > 1


def accepted_inputs(model: Any, encoded: Any) -> dict[str, Any]:
    """Select the tokenizer outputs that plain transformers can pass to the model."""
    known = inspect.signature(model.forward).parameters
    types = {"token_type_ids"} if takes_token_types(model.config) else set()
    names = {"input_ids", "attention_mask"} | types
    return {name: value for name, value in encoded.items() if name in names & known.keys()}


@contextmanager
def captured_messages() -> Iterator[list[str]]:
    """Collect warnings of transformers' tokenizers, such as "emoji is not installed".

    Such a condition may change tokens.
    """
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = " ".join(record.getMessage().split())
            if (
                "tokeniz" in record.name
                and not any(word in text for word in HARMLESS)
                and text not in messages
            ):
                messages.append(text)

    logger, handler = logging.getLogger("transformers"), Collector(logging.WARNING)
    level = logger.level
    logger.setLevel(min(level, logging.WARNING))  # also where the user has silenced transformers
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
