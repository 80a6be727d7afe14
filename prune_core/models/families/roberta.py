"""RoBERTa (Liu et al. 2019), XLM-RoBERTa (Conneau et al. 2020) and CamemBERT (Martin et al. 2020).

BERT's block, a two-layer classifier, positions counted from the padding index. They differ only in
vocabulary and training.
"""

from .bert import BLOCK
from .layout import Layout, behind_padding

ROBERTA = Layout(base="roberta", blocks="roberta.encoder.layer", max_tokens=behind_padding, **BLOCK)
