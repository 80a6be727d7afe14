"""MPNet (Song et al. 2020): BERT's block under other names, with a relative position bias shared by
all blocks.
"""

from typing import Any

from torch import Tensor

from .layout import Layout, Scores, add_bias


def _scores(block: Any, query: Tensor, key: Tensor, mask: Tensor | None) -> Scores:
    """Scaled dot products with a bias per head and bucketed distance, as in T5."""
    # (1, heads of the full shape, tokens, tokens)
    bias = block.context.compute_position_bias(query.new_empty(1, query.shape[-2], 1))
    return Scores(
        query,
        key,
        block.head_width**-0.5,
        bias=add_bias(bias[:, block.head_numbers].to(query.dtype), mask),
    )


MPNET = Layout(
    base="mpnet",
    blocks="mpnet.encoder.layer",
    groups=(
        {"query": "attention.attn.q", "key": "attention.attn.k", "value": "attention.attn.v"},
        {"attention_output": "attention.attn.o"},
        {"ffn_in": "intermediate.dense"},
        {"ffn_out": "output.dense"},
    ),
    norms=("attention.LayerNorm", "output.LayerNorm"),
    activation="intermediate.intermediate_act_fn",
    heads="num_attention_heads",
    token_types=False,
    scores=_scores,
    context=lambda model, index: model.mpnet.encoder,
    # the padding index is always 1, whatever the config contains
    max_tokens=lambda config: config.max_position_embeddings - 2,
)
