"""BERT (Devlin et al. 2019), with the block that most other families share: post-norm, learned
positions.
"""

from typing import Any

from .layout import Layout

BLOCK: dict[str, Any] = {
    "groups": (
        {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
        },
        {"attention_output": "attention.output.dense"},
        {"ffn_in": "intermediate.dense"},
        {"ffn_out": "output.dense"},
    ),
    "norms": ("attention.output.LayerNorm", "output.LayerNorm"),
    "activation": "intermediate.intermediate_act_fn",
    "heads": "num_attention_heads",
}

BERT = Layout(
    base="bert",
    blocks="bert.encoder.layer",
    head=lambda model, hidden, mask: model.classifier(model.dropout(model.bert.pooler(hidden))),
    head_linears=("bert.pooler.dense", "classifier"),
    **BLOCK,
)
