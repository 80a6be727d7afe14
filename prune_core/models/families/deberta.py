"""DeBERTa v2 and v3 (He et al. 2021): BERT's block with attention that also scores relative
positions.

If keys are shared (share_att_key), the query and key matrices are applied to position embeddings
too, not only to hidden states.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .layout import Layout, Scores, add_bias

_SELF = "attention.self"


def _scores(block: Any, query: Tensor, key: Tensor, mask: Tensor | None) -> Scores:
    """Sum of content-content, content-position and position-content scores.

    Each is divided by √(head width · number of these terms).
    """
    encoder, attention = block.context, block.module.attention.self
    if not encoder.relative_attention:
        return Scores(query, key, query.shape[-1] ** -0.5, bias=mask)
    kinds = [kind for kind in ("c2p", "p2c") if kind in attention.pos_att_type]
    scale = (query.shape[-1] * (1 + len(kinds))) ** -0.5
    span, tokens = attention.pos_ebd_size, query.shape[-2]
    # (tokens, tokens), query minus key
    positions = _buckets(
        tokens, attention.position_buckets, attention.max_relative_positions, device=query.device
    )
    rows = encoder.get_rel_embedding()[: 2 * span].to(query.dtype)
    bias = query.new_zeros(())
    if "c2p" in kinds:
        # (heads, 2 span, head width)
        keys = block.split(_project(block, "key", "pos_key_proj", rows=rows))
        place = (positions + span).clamp(0, 2 * span - 1).expand(*query.shape[:2], -1, -1)
        bias = bias + (query @ keys.transpose(-1, -2)).gather(-1, place)
    if "p2c" in kinds:
        queries = block.split(_project(block, "query", "pos_query_proj", rows=rows))
        place = (-positions + span).clamp(0, 2 * span - 1).expand(*key.shape[:2], -1, -1)
        bias = bias + (key @ queries.transpose(-1, -2)).gather(-1, place).transpose(-1, -2)
    return Scores(query, key, scale, bias=add_bias(bias * scale, mask) if kinds else mask)


def _project(block: Any, projection: str, position_projection: str, rows: Tensor) -> Tensor:
    """Project position embeddings, with the content's matrix if it is shared."""
    shared = block.module.attention.self.share_att_key
    linear = block.linears[projection] if shared else block.extra_linears[position_projection]
    # without calling the module, whose hooks expect hidden states
    return F.linear(rows, linear.weight, linear.bias)


def _buckets(tokens: int, buckets: int, most: int, device: torch.device) -> Tensor:
    """Relative positions: exact for near tokens, in logarithmic buckets for far ones.

    He et al. 2021, as released with v3. Returns (tokens, tokens), query minus key.
    """
    places = torch.arange(tokens, device=device)
    distance = places[:, None] - places[None, :]
    if buckets <= 0 or most <= 0:
        return distance
    middle = buckets // 2
    far = distance.abs().clamp_min(middle).float()
    fraction = torch.log(far / middle) / math.log((most - 1) / middle)
    bucket = torch.ceil(fraction * (middle - 1)) + middle
    return torch.where(distance.abs() <= middle, distance, (bucket * distance.sign()).long())


def _also_read(block: Any) -> Tensor | None:
    encoder, attention = block.context, block.module.attention.self
    if not (encoder.relative_attention and attention.share_att_key):
        return None
    return encoder.get_rel_embedding()[: 2 * attention.pos_ebd_size]


def _refuses(config: Any) -> str:
    if getattr(config, "conv_kernel_size", 0):
        return "has a convolution after its first block (conv_kernel_size), which is not supported"
    return ""


DEBERTA = Layout(
    base="deberta",
    blocks="deberta.encoder.layer",
    groups=(
        {
            "query": f"{_SELF}.query_proj",
            "key": f"{_SELF}.key_proj",
            "value": f"{_SELF}.value_proj",
        },
        {"attention_output": "attention.output.dense"},
        {"ffn_in": "intermediate.dense"},
        {"ffn_out": "output.dense"},
    ),
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    activation="intermediate.intermediate_act_fn",
    heads="num_attention_heads",
    head=lambda model, hidden, mask: model.classifier(model.dropout(model.pooler(hidden))),
    head_linears=("pooler.dense", "classifier"),
    scores=_scores,
    only_products=False,
    context=lambda model, index: model.deberta.encoder,
    extra_head_linears=(f"{_SELF}.pos_key_proj", f"{_SELF}.pos_query_proj"),
    extra_input_rows=_also_read,
    unsupported=_refuses,
)
