"""ELECTRA (Clark et al. 2020).

BERT's block, a two-layer classifier, embeddings that may be narrower than the blocks.
"""

from .bert import BLOCK
from .layout import Layout

ELECTRA = Layout(
    base="electra",
    blocks="electra.encoder.layer",
    embedding_projection="embeddings_project",
    **BLOCK,
)
