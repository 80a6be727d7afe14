"""ELECTRA (Clark et al. 2020): BERT's block, a classifier of two layers, embeddings that may be narrower than the blocks."""

from __future__ import annotations

from .bert import BLOCK
from .layout import Layout

ELECTRA = Layout(
    base="electra",
    blocks="electra.encoder.layer",
    head=lambda model, hidden: model.classifier(hidden),
    head_linears=("classifier.dense", "classifier.out_proj"),
    **BLOCK,
)
