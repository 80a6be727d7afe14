"""Encoder families by model type.

A new family needs a module in this folder and a line in FAMILIES.
"""

from typing import Any

from .albert import ALBERT
from .bert import BERT
from .deberta import DEBERTA
from .distilbert import DISTILBERT
from .electra import ELECTRA
from .layout import Layout, Scores, attend
from .modernbert import MODERNBERT
from .mpnet import MPNET
from .roberta import ROBERTA

__all__ = ["FAMILIES", "Layout", "Scores", "attend", "layout"]

FAMILIES = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "electra": ELECTRA,
    "distilbert": DISTILBERT,
    "mpnet": MPNET,
    "albert": ALBERT,
    "deberta-v2": DEBERTA,
    "modernbert": MODERNBERT,
}


def layout(model: Any) -> Layout:
    """Layout of a loaded model."""
    return FAMILIES[model.config.model_type]
