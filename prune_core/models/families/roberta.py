"""RoBERTa (Liu et al. 2019), XLM-RoBERTa (Conneau et al. 2020) and CamemBERT (Martin et al. 2020): BERT's block, a classifier of
two layers, positions counted from behind the padding. They differ in vocabulary and training alone."""

from __future__ import annotations

from .bert import BLOCK
from .layout import Layout, behind_padding

ROBERTA = Layout(base="roberta", blocks="roberta.encoder.layer", longest=behind_padding, **BLOCK)
