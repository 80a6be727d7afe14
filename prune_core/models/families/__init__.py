"""The families of encoders by their model type; a new one is a file here and a line below."""

from __future__ import annotations

from typing import Any

from .bert import BERT
from .distilbert import DISTILBERT
from .electra import ELECTRA
from .layout import GROUPS, PARTS, Layout
from .roberta import ROBERTA

__all__ = ["FAMILIES", "GROUPS", "PARTS", "Layout", "layout"]

FAMILIES = {"bert": BERT, "roberta": ROBERTA, "electra": ELECTRA, "distilbert": DISTILBERT}


def layout(model: Any) -> Layout:
    """The layout of a loaded model."""
    return FAMILIES[model.config.model_type]
