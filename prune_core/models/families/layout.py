"""Layout of an encoder family: paths of its weight matrices, norms and head, and its attention
scores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Scores(NamedTuple):
    """Arguments of softmax(q·kᵀ·scale + bias): transformed queries and keys, scale and bias."""

    query: Tensor  # (examples, heads, tokens, head width)
    key: Tensor
    scale: float
    # broadcasts to (examples, heads, tokens, tokens); False or -inf where a key is masked
    bias: Tensor | None


def plain(block: Any, query: Tensor, key: Tensor, mask: Tensor | None) -> Scores:
    """Scaled dot products (Vaswani et al. 2017).

    `mask` is True for real tokens, (examples, 1, 1 or tokens, tokens).
    """
    return Scores(query, key, block.head_width**-0.5, bias=mask)


def add_bias(bias: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a mask to a bias: masked entries become -inf."""
    return bias if mask is None else bias.masked_fill(~mask, float("-inf"))


def attend(scores: Scores, value: Tensor) -> Tensor:
    """Attention output: (examples, heads, tokens, head width)."""
    bias = scores.bias
    if bias is not None and bias.dtype == torch.bool and torch.compiler.is_exporting():
        # in ONNX, a bool mask becomes two more passes over all scores, to handle rows without a
        # key, which do not occur
        lowest = torch.finfo(scores.query.dtype).min
        bias = scores.query.new_zeros(bias.shape).masked_fill(~bias, lowest)
    return F.scaled_dot_product_attention(
        scores.query, scores.key, value, attn_mask=bias, scale=scores.scale
    )


def sentence_head(model: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """Head whose classifier selects [CLS] itself, as in RoBERTa and its descendants."""
    return model.classifier(hidden)


def behind_padding(config: Any) -> int:
    """Maximum number of tokens if positions are counted from the padding index, as in RoBERTa."""
    return int(config.max_position_embeddings - (config.pad_token_id or 0) - 1)


def read_by(path: str) -> Callable[[Any, Tensor], Tensor]:
    """Token-wise head: a Linear at `path`."""
    return lambda model, hidden: attrgetter(path)(model)(hidden)


@dataclass(frozen=True)
class Layout:
    """Attribute paths and functions of one family; paths start at the task model or at a block."""

    base: str
    blocks: str  # list of blocks, or of groups of blocks with the list at `within`
    # Linears of a block by name, with their paths, in the order of the forward pass. Those of a
    # group share an input: query, key and value (a fused matrix is repeated); attention_output; one
    # FFN matrix, or the activated one and the one it is multiplied with; ffn_out.
    groups: tuple[Mapping[str, str], ...]
    norms: tuple[str, str]  # after attention and feed-forward part, with `pre_norm` before them
    activation: str
    heads: str  # config key of the number of heads
    # (model, hidden states (examples, tokens, width), mask) -> logits
    head: Callable[[Any, Tensor, Tensor], Tensor] = sentence_head
    head_linears: tuple[str, ...] = ("classifier.dense", "classifier.out_proj")
    token_types: bool = True  # whether the forward method accepts token_type_ids
    # logits of token classification
    token_head: Callable[[Any, Tensor], Tensor] = read_by("classifier")
    token_linears: tuple[str, ...] = ("classifier",)
    # start and end logits
    span_head: Callable[[Any, Tensor], Tensor] = read_by("qa_outputs")
    span_linears: tuple[str, ...] = ("qa_outputs",)
    # config -> whether the sentence head reads more than the first token
    head_reads_all_tokens: Callable[[Any], bool] = lambda config: False
    pre_norm: bool = False
    # neurons have two rows of a single first FFN matrix: the lower half are gates
    fused_gate: bool = False
    scores: Callable[[Any, Tensor, Tensor, Tensor | None], Scores] = plain
    # whether queries and keys matter only through their products: no rotation by position, no
    # products with projected positions
    only_products: bool = True
    # (model, block index) -> block.context, the model's state that `scores` needs
    context: Callable[[Any, int], Any] = lambda model, index: None
    extra_head_linears: tuple[
        str, ...
    ] = ()  # further Linears of a block whose rows belong to heads
    # block -> rows that query and key are applied to besides hidden states, once per example
    extra_input_rows: Callable[[Any], Tensor | None] = lambda block: None
    final_norm: str = ""  # after the last block
    within: str = ""
    passes: Callable[[Any], int] = lambda config: 1  # consecutive passes of each block
    embedding_projection: str = ""  # Linear between embeddings and blocks
    # config -> maximum number of tokens
    max_tokens: Callable[[Any], int] = lambda config: int(config.max_position_embeddings)
    unsupported: Callable[[Any], str] = lambda config: ""  # config -> what is not supported, or ""
