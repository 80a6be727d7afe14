"""DeBERTa v2 and v3 (He et al. 2021): BERT's block with attention that also scores content against relative positions.

Where keys are shared (share_att_key), query and key matrices read the position embeddings too, not hidden states alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .layout import Layout, Scores, add_bias

_SELF = "attention.self"


def _scores(block: Any, query: Tensor, key: Tensor, mask: Tensor | None) -> Scores:
    """Content to content, content to position and position to content, each over √(head width · how many of them)."""
    encoder, own = block.context, block.module.attention.self
    if not encoder.relative_attention:
        return Scores(query, key, query.shape[-1] ** -0.5, bias=mask)
    kinds = [kind for kind in ("c2p", "p2c") if kind in own.pos_att_type]
    scale = (query.shape[-1] * (1 + len(kinds))) ** -0.5
    span, tokens = own.pos_ebd_size, query.shape[-2]
    positions = _buckets(
        tokens, own.position_buckets, own.max_relative_positions, device=query.device
    )  # (tokens, tokens), query minus key
    rows = encoder.get_rel_embedding()[: 2 * span].to(query.dtype)
    bias = query.new_zeros(())
    if "c2p" in kinds:
        keys = block.split(
            _project(block, "key", "pos_key_proj", rows=rows)
        )  # (heads, 2 span, head width)
        place = (positions + span).clamp(0, 2 * span - 1).expand(*query.shape[:2], -1, -1)
        bias = bias + (query @ keys.transpose(-1, -2)).gather(-1, place)
    if "p2c" in kinds:
        queries = block.split(_project(block, "query", "pos_query_proj", rows=rows))
        place = (-positions + span).clamp(0, 2 * span - 1).expand(*key.shape[:2], -1, -1)
        bias = bias + (key @ queries.transpose(-1, -2)).gather(-1, place).transpose(-1, -2)
    return Scores(query, key, scale, bias=add_bias(bias * scale, mask) if kinds else mask)


def _project(block: Any, part: str, own: str, rows: Tensor) -> Tensor:
    """Position embeddings by the block's own matrix where it shares it with the content."""
    shared = block.module.attention.self.share_att_key
    linear = block.linears[part] if shared else block.more[own]
    return F.linear(
        rows, linear.weight, linear.bias
    )  # not by a call, which hooks would take for one on hidden states


def _buckets(tokens: int, buckets: int, most: int, device: torch.device) -> Tensor:
    """Relative positions, near ones each by itself and far ones in logarithmic buckets (He et al. 2021, as published with v3)."""
    places = torch.arange(tokens, device=device)
    apart = places[:, None] - places[None, :]
    if buckets <= 0 or most <= 0:
        return apart
    middle = buckets // 2
    far = apart.abs().clamp_min(middle).float()
    logs = (
        torch.ceil(torch.log(far / middle) / math.log((most - 1) / middle) * (middle - 1)) + middle
    )
    return torch.where(apart.abs() <= middle, apart, (logs * apart.sign()).long())


def _also_read(block: Any) -> Tensor | None:
    encoder, own = block.context, block.module.attention.self
    return (
        encoder.get_rel_embedding()[: 2 * own.pos_ebd_size]
        if encoder.relative_attention and own.share_att_key
        else None
    )


def _refuses(config: Any) -> str:
    return (
        "has a convolution behind its first block (conv_kernel_size), which is not supported"
        if getattr(config, "conv_kernel_size", 0)
        else ""
    )


DEBERTA = Layout(
    base="deberta",
    blocks="deberta.encoder.layer",
    parts=(
        f"{_SELF}.query_proj",
        f"{_SELF}.key_proj",
        f"{_SELF}.value_proj",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ),
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    activation="intermediate.intermediate_act_fn",
    heads="num_attention_heads",
    head=lambda model, hidden, mask: model.classifier(model.dropout(model.pooler(hidden))),
    head_linears=("pooler.dense", "classifier"),
    scores=_scores,
    context=lambda model, index: model.deberta.encoder,
    more_rows=(f"{_SELF}.pos_key_proj", f"{_SELF}.pos_query_proj"),
    also_read=_also_read,
    refuses=_refuses,
)
