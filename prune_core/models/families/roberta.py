"""RoBERTa (Liu et al. 2019): BERT's block, a classifier of two layers, positions counted from behind the padding."""

from __future__ import annotations

from .bert import BLOCK
from .layout import Layout

ROBERTA = Layout(
    base="roberta",
    blocks="roberta.encoder.layer",
    head=lambda model, hidden: model.classifier(hidden),
    head_linears=("classifier.dense", "classifier.out_proj"),
    **BLOCK,
)
