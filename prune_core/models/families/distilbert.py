"""DistilBERT (Sanh et al. 2019): BERT's block with other names, without token types or a pooler."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from .layout import Layout


def _head(model: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """Logits (examples, labels) from the hidden states (examples, tokens, width) of [CLS]."""
    return model.classifier(model.dropout(F.relu(model.pre_classifier(hidden[:, 0]))))


DISTILBERT = Layout(
    base="distilbert",
    blocks="distilbert.transformer.layer",
    groups=(
        {"query": "attention.q_lin", "key": "attention.k_lin", "value": "attention.v_lin"},
        {"attention_output": "attention.out_lin"},
        {"ffn_in": "ffn.lin1"},
        {"ffn_out": "ffn.lin2"},
    ),
    norms=("sa_layer_norm", "output_layer_norm"),
    activation="ffn.activation",
    heads="n_heads",
    head=_head,
    head_linears=("pre_classifier", "classifier"),
    token_types=False,
)
