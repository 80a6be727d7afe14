"""MPNet (Song et al. 2020): BERT's block under other names, a learned bias for relative positions that all blocks share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .layout import Layout, Scores, add_bias


def _scores(block: Any, query: Tensor, key: Tensor, mask: Tensor | None) -> Scores:
    """Scaled products, and a bias a head by how far apart two tokens are (in buckets, as T5's)."""
    bias = block.context.compute_position_bias(
        query.new_empty(1, query.shape[-2], 1)
    )  # (1, heads of the full shape, tokens, tokens)
    return Scores(
        query,
        key,
        query.shape[-1] ** -0.5,
        bias=add_bias(bias[:, block.head_numbers].to(query.dtype), mask),
    )


MPNET = Layout(
    base="mpnet",
    blocks="mpnet.encoder.layer",
    parts=(
        "attention.attn.q",
        "attention.attn.k",
        "attention.attn.v",
        "attention.attn.o",
        "intermediate.dense",
        "output.dense",
    ),
    norms=("attention.LayerNorm", "output.LayerNorm"),
    activation="intermediate.intermediate_act_fn",
    heads="num_attention_heads",
    token_types=False,
    scores=_scores,
    context=lambda model, index: model.mpnet.encoder,
    longest=lambda config: (
        config.max_position_embeddings - 2
    ),  # its padding index is 1, whatever the config says
)
