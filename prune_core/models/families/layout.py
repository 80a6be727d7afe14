"""What has to be known of a family of encoders: where it keeps its weight matrices, norms and head, and how it attends.

Knows nothing of replaying them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

PROJECTIONS = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
# Parts that share one input, in the order in which a forward pass reaches them.
GROUPS = (("query", "key", "value"), ("attention_output",), ("ffn_in",), ("ffn_out",))


class Scores(NamedTuple):
    """What softmax(q·kᵀ·scale + bias) attends by: queries and keys as they are multiplied, and what is added before the softmax."""

    query: Tensor  # (sentences, heads, tokens, head width)
    key: Tensor
    scale: float
    bias: (
        Tensor | None
    )  # anything that (sentences, heads, tokens, tokens) broadcasts from; False or -inf where nothing is seen


def plain(block: Any, query: Tensor, key: Tensor, mask: Tensor | None) -> Scores:
    """Vaswani et al. 2017; `mask` is True where there is a token, (sentences, 1, 1 or tokens, tokens)."""
    return Scores(query, key, query.shape[-1] ** -0.5, bias=mask)


def add_bias(bias: Tensor, mask: Tensor | None) -> Tensor:
    """A bias that hides what the mask hides."""
    return bias if mask is None else bias.masked_fill(~mask, float("-inf"))


def attend(scores: Scores, value: Tensor) -> Tensor:
    """(sentences, heads, tokens, head width)."""
    bias = scores.bias
    if bias is not None and bias.dtype == torch.bool and torch.compiler.is_exporting():
        # as ONNX a mask of booleans becomes two more passes over all scores, against rows without a key, of which there are none
        bias = scores.query.new_zeros(bias.shape).masked_fill(
            ~bias, torch.finfo(scores.query.dtype).min
        )
    return F.scaled_dot_product_attention(
        scores.query, scores.key, value, attn_mask=bias, scale=scores.scale
    )


def sentence_head(model: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """A classifier that looks for [CLS] itself, as RoBERTa's and its descendants' do."""
    return model.classifier(hidden)


def behind_padding(config: Any) -> int:
    """Most tokens where positions are counted from behind the padding index, as in RoBERTa."""
    return int(config.max_position_embeddings - (config.pad_token_id or 0) - 1)


def read_by(path: str) -> Callable[[Any, Tensor], Tensor]:
    """A Linear that reads every token."""
    return lambda model, hidden: attrgetter(path)(model)(hidden)


@dataclass(frozen=True)
class Layout:
    """Where one family keeps its parts; paths are attribute paths, from the task model or from a block."""

    base: str
    blocks: str  # of a list of blocks, or of groups of blocks that `within` finds in them
    parts: tuple[
        str, ...
    ]  # in the order of PARTS; a fused matrix is named once for each part that it holds
    norms: tuple[
        str, str
    ]  # behind attention and feed-forward part, or before them where `pre_norm`
    activation: str
    heads: str  # config key of the number of heads
    head: Callable[[Any, Tensor, Tensor], Tensor] = (
        sentence_head  # hidden states (sentences, tokens, width), mask -> logits
    )
    head_linears: tuple[str, ...] = ("classifier.dense", "classifier.out_proj")
    token_types: bool = True  # whether its forward takes token_type_ids
    of_tokens: Callable[[Any, Tensor], Tensor] = read_by(
        "classifier"
    )  # a token classifier's logits
    token_linears: tuple[str, ...] = ("classifier",)
    of_ends: Callable[[Any, Tensor], Tensor] = read_by("qa_outputs")  # a span model's
    span_linears: tuple[str, ...] = ("qa_outputs",)
    reads_all: Callable[[Any], bool] = lambda config: (
        False
    )  # whether the sentence head reads more than the first token
    pre_norm: bool = False
    gated: bool = False  # two rows of the first feed-forward matrix a neuron: the lower half of them gates the upper
    scores: Callable[[Any, Tensor, Tensor, Tensor | None], Scores] = plain
    context: Callable[[Any, int], Any] = lambda model, index: (
        None
    )  # what `scores` needs of the model: (model, block) -> block.context
    more_rows: tuple[
        str, ...
    ] = ()  # further Linears of a block whose rows belong to its heads, where there are any
    also_read: Callable[[Any], Tensor | None] = lambda block: (
        None
    )  # rows that query and key read besides hidden states, once a sentence
    final_norm: str = ""  # behind the last block
    within: str = ""
    passes: Callable[[Any], int] = lambda config: 1  # how often in a row each block is passed
    narrow: str = ""  # a Linear between embeddings and blocks
    longest: Callable[[Any], int] = lambda config: int(
        config.max_position_embeddings
    )  # most tokens of a text
    refuses: Callable[[Any], str] = lambda config: ""  # what of a config is not supported
