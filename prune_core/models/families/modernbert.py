"""ModernBERT (Warner et al. 2024).

Pre-norm, one matrix for query, key and value, gated neurons, rotary positions, local attention in
two of three blocks, and no biases unless the config enables them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .layout import Layout, Scores


class LocalAttention(NamedTuple):
    """Positions that one block attends to."""

    theta: float  # of the rotary embedding
    window: int | None  # tokens on each side; None for all


def _local_attention(model: Any, index: int) -> LocalAttention:
    """Read a block's attention from the config, whose format differs in transformers 4 and 5."""
    config = model.config
    is_local = index % config.global_attn_every_n_layers != 0
    window = config.local_attention // 2 if is_local else None
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, dict) and "full_attention" in rope:
        kind = "sliding_attention" if is_local else "full_attention"
        return LocalAttention(rope[kind]["rope_theta"], window)
    if is_local and config.local_rope_theta is not None:
        return LocalAttention(config.local_rope_theta, window)
    return LocalAttention(config.global_rope_theta, window)


def _scores(block: Any, query: Tensor, key: Tensor, mask: Tensor | None) -> Scores:
    """Scores of rotated queries and keys (Su et al. 2021), masked outside of a local window."""
    width, tokens = query.shape[-1], query.shape[-2]
    places = torch.arange(tokens, device=query.device)
    steps = block.context.theta ** (
        -torch.arange(0, width, 2, device=query.device, dtype=torch.float32) / width
    )
    angles = (places[:, None].float() * steps).repeat(1, 2)
    cos, sin = angles.cos().to(query.dtype), angles.sin().to(query.dtype)
    query, key = (
        x * cos + torch.cat((-x[..., width // 2 :], x[..., : width // 2]), -1) * sin
        for x in (query, key)
    )
    if block.context.window is not None:
        near = (places[:, None] - places[None, :]).abs() <= block.context.window
        # a padding token may have only padding in its window: it attends to itself, else NaN
        itself = torch.eye(tokens, dtype=torch.bool, device=query.device)
        mask = near[None, None] if mask is None else (mask & near) | itself
    return Scores(query, key, width**-0.5, bias=mask)


def _head(model: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    pooled = hidden[:, 0]
    if model.config.classifier_pooling == "mean":
        real = mask[..., None].to(hidden.dtype)
        pooled = (hidden * real).sum(1) / real.sum(1)
    return model.classifier(model.drop(model.head(pooled)))


def _token_head(model: Any, hidden: Tensor) -> Tensor:
    return model.classifier(model.head(hidden))


_LINEARS = ("head.dense", "classifier")
MODERNBERT = Layout(
    base="model",
    blocks="model.layers",
    groups=(
        {"query": "attn.Wqkv", "key": "attn.Wqkv", "value": "attn.Wqkv"},
        {"attention_output": "attn.Wo"},
        {"ffn_in": "mlp.Wi"},
        {"ffn_out": "mlp.Wo"},
    ),
    norms=("attn_norm", "mlp_norm"),
    activation="mlp.act",
    heads="num_attention_heads",
    head=_head,
    head_linears=_LINEARS,
    token_head=_token_head,
    token_linears=_LINEARS,
    span_head=_token_head,
    span_linears=_LINEARS,
    head_reads_all_tokens=lambda config: config.classifier_pooling == "mean",
    token_types=False,
    pre_norm=True,
    fused_gate=True,
    scores=_scores,
    only_products=False,
    context=_local_attention,
    final_norm="final_norm",
)
