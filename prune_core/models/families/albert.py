"""ALBERT (Lan et al. 2020): BERT's block, passed repeatedly; weights pruned once are pruned in
every pass.
"""

from typing import Any

from torch import Tensor

from .layout import Layout


def _head(model: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    return model.classifier(
        model.dropout(model.albert.pooler_activation(model.albert.pooler(hidden[:, 0])))
    )


def _refuses(config: Any) -> str:
    if config.inner_group_num != 1:
        return (
            f"passes {config.inner_group_num} blocks in turn (inner_group_num); only one block per "
            "group is supported"
        )
    if config.num_hidden_layers % config.num_hidden_groups:
        return (
            f"has {config.num_hidden_layers} passes for {config.num_hidden_groups} blocks; only "
            "the "
            "same number of passes for each block is supported"
        )
    return ""


ALBERT = Layout(
    base="albert",
    blocks="albert.encoder.albert_layer_groups",
    within="albert_layers",
    passes=lambda config: config.num_hidden_layers // config.num_hidden_groups,
    groups=(
        {"query": "attention.query", "key": "attention.key", "value": "attention.value"},
        {"attention_output": "attention.dense"},
        {"ffn_in": "ffn"},
        {"ffn_out": "ffn_output"},
    ),
    norms=("attention.LayerNorm", "full_layer_layer_norm"),
    activation="activation",
    heads="num_attention_heads",
    head=_head,
    head_linears=("albert.pooler", "classifier"),
    embedding_projection="encoder.embedding_hidden_mapping_in",
    unsupported=_refuses,
)
