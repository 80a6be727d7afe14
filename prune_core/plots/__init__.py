"""Charts: pure functions from rows to plotly figures."""

from ..analysis.compared_models import DENSE, ComparedModel, ordered
from .ablation import option_contributions
from .attack import against_budget, probability_bars, success
from .attack_steps import AXES, attack_steps
from .certified import certified_accuracy
from .chart_data import to_table
from .cost import cost_savings
from .curves import against_sparsity, scatter
from .deploy import limit_usage, search_front
from .detection import CURVES, confusion_matrices, detection_curves
from .drift import SIMILARITIES, Similarity, by_block, embedding_shifts, prediction_changed
from .layers import (
    by_depth,
    errors_of_layer,
    heat_maps,
    local_and_inherited_error,
    projection_titles,
)
from .lesson import averaging_errors, matrix
from .lineage import lineage
from .noise import noise_by_strength, noise_failures, robustness_by_text
from .papers import published_comparison
from .retrieval import INDEX_CELLS, INDEX_VECTORS, index_cells, index_vectors
from .robustness import slices, transfer
from .saliency import attention_maps
from .soup import soup_path
from .units import kept_units
from .vocabulary import vocabulary_sizes
from .whatif import contributions, predicted_vs_measured

__all__ = [
    "AXES",
    "CURVES",
    "DENSE",
    "INDEX_CELLS",
    "INDEX_VECTORS",
    "SIMILARITIES",
    "ComparedModel",
    "Similarity",
    "against_budget",
    "against_sparsity",
    "limit_usage",
    "attack_steps",
    "attention_maps",
    "confusion_matrices",
    "detection_curves",
    "averaging_errors",
    "certified_accuracy",
    "published_comparison",
    "by_block",
    "by_depth",
    "contributions",
    "to_table",
    "heat_maps",
    "index_cells",
    "index_vectors",
    "kept_units",
    "lineage",
    "matrix",
    "noise_by_strength",
    "noise_failures",
    "embedding_shifts",
    "ordered",
    "local_and_inherited_error",
    "option_contributions",
    "errors_of_layer",
    "predicted_vs_measured",
    "prediction_changed",
    "projection_titles",
    "probability_bars",
    "cost_savings",
    "scatter",
    "search_front",
    "soup_path",
    "robustness_by_text",
    "slices",
    "success",
    "transfer",
    "vocabulary_sizes",
]
