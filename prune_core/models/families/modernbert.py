"""ModernBERT (Warner et al. 2024): pre-norm, one matrix for query, key and value, gated neurons, rotary positions, windows of
attention in two blocks of three, and no biases unless the config says so."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .layout import Layout, Scores


class LocalAttention(NamedTuple):
    """How one block sees positions."""

    theta: float  # of the rotary embedding
    window: int | None  # tokens to each side; None for all


def _reach(model: Any, index: int) -> LocalAttention:
    """From the config, in which transformers 4 and 5 write it differently."""
    config = model.config
    local = index % config.global_attn_every_n_layers != 0
    window = config.local_attention // 2 if local else None
    written = getattr(config, "rope_parameters", None)
    if isinstance(written, dict) and "full_attention" in written:
        return LocalAttention(
            written["sliding_attention" if local else "full_attention"]["rope_theta"], window
        )
    own = config.local_rope_theta if local else None
    return LocalAttention(config.global_rope_theta if own is None else own, window)


def _scores(block: Any, query: Tensor, key: Tensor, mask: Tensor | None) -> Scores:
    """Rotated queries and keys (Su et al. 2021), and where the block sees a window only, what is within it."""
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
        # a row of padding may see none but padding: it sees itself, so that nothing becomes NaN
        mask = (
            near[None, None]
            if mask is None
            else (mask & near) | torch.eye(tokens, dtype=torch.bool, device=mask.device)
        )
    return Scores(query, key, width**-0.5, bias=mask)


def _head(model: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    pooled = hidden[:, 0]
    if model.config.classifier_pooling == "mean":
        real = mask[..., None].to(hidden.dtype)
        pooled = (hidden * real).sum(1) / real.sum(1)
    return model.classifier(model.drop(model.head(pooled)))


def _each(model: Any, hidden: Tensor) -> Tensor:
    return model.classifier(model.head(hidden))


_LINEARS = ("head.dense", "classifier")
MODERNBERT = Layout(
    base="model",
    blocks="model.layers",
    parts=("attn.Wqkv", "attn.Wqkv", "attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"),
    norms=("attn_norm", "mlp_norm"),
    activation="mlp.act",
    heads="num_attention_heads",
    head=_head,
    head_linears=_LINEARS,
    of_tokens=_each,
    token_linears=_LINEARS,
    of_ends=_each,
    span_linears=_LINEARS,
    reads_all=lambda config: config.classifier_pooling == "mean",
    token_types=False,
    pre_norm=True,
    gated=True,
    scores=_scores,
    context=_reach,
    final_norm="final_norm",
)
