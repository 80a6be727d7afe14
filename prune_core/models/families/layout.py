"""What has to be known of a family of encoders: where it keeps its weight matrices, norms and head. Knows nothing of replaying them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

PARTS = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
# Parts that share one input, in the order in which a forward pass reaches them.
GROUPS = (("query", "key", "value"), ("attention_output",), ("ffn_in",), ("ffn_out",))


@dataclass(frozen=True)
class Layout:
    """Where one family keeps its parts; paths are attribute paths, from the task model or from a block."""

    base: str
    blocks: str
    parts: tuple[str, ...]  # in the order of PARTS
    norms: tuple[str, str]  # after attention, after the feed-forward part
    activation: str
    heads: str  # config key of the number of heads
    head: Callable[[Any, Tensor], Tensor]  # hidden states (sentences, tokens, width) -> logits
    head_linears: tuple[str, ...]
    token_types: bool = True  # whether it takes token_type_ids
